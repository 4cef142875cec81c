package reconcile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// machineWish is what is wanted of one of the VMs a and b, each with a volume and a network of its own, and a link in the
// network they share.
type machineWish struct {
	power   hostspec.PowerState // unspecified: no VM
	volume  string              // "", "kept" or "removed"
	network string              // "", "bare" or "served"
}

func on() machineWish {
	return machineWish{hostspec.PowerState_POWER_STATE_RUNNING, "kept", "served"}
}

func off() machineWish {
	return machineWish{hostspec.PowerState_POWER_STATE_STOPPED, "kept", "served"}
}

func uid(kind, n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%04d%08d", kind, n) }

const (
	ofPool = iota + 1
	ofVolume
	ofNetwork
	ofVM
	ofNIC
)

var imageSum = strings.Repeat("7", 64)

// want renders wishes as a spec, checked.
func want(t *testing.T, generation uint64, wishes ...machineWish) *desired.State {
	t.Helper()
	s := &hostspec.HostSpec{
		HostId: uid(9, 9), Generation: generation,
		Pools:  []*hostspec.StoragePool{{Id: uid(ofPool, 1), Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: "/srv/pool"}},
		Images: []*hostspec.Image{{Sha256: imageSum, SizeBytes: 10, Format: "qcow2", PoolId: uid(ofPool, 1), VirtualSizeBytes: 1 << 20}},
	}
	net := func(n int, served bool) {
		x := &hostspec.Network{Id: uid(ofNetwork, n), Number: uint32(n), Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: uint32(70 + n)}
		if served {
			x.Services = &netspec.NetSpec{NetworkId: x.Id, Generation: generation}
		}
		s.Networks = append(s.Networks, x)
	}
	shared := false
	for i, w := range wishes {
		n := i + 1
		if w.volume != "" {
			v := &hostspec.Volume{Id: uid(ofVolume, n), PoolId: uid(ofPool, 1), SizeBytes: 1 << 20, Removed: w.volume == "removed"}
			if n == 1 { // b's is blank
				v.ImageSha256, v.ImageFormat = imageSum, "qcow2"
			}
			s.Volumes = append(s.Volumes, v)
		}
		if w.network != "" {
			net(n, w.network == "served")
		}
		if w.power == hostspec.PowerState_POWER_STATE_UNSPECIFIED {
			continue
		}
		shared = true
		s.Vms = append(s.Vms, &hostspec.VirtualMachine{
			Id: uid(ofVM, n), InstanceName: fmt.Sprintf("i-2-%d-VM", n), Power: w.power, StartEpoch: generation, BootEpoch: 1, Vcpus: 1, MemoryMib: 64,
			StopGraceSeconds: 1, Disks: []*hostspec.Disk{{VolumeId: uid(ofVolume, n)}},
			Nics: []*hostspec.Nic{
				{Id: uid(ofNIC, n), NetworkId: uid(ofNetwork, n), Mac: fmt.Sprintf("02:00:00:00:00:%02d", n)},
				{Id: uid(ofNIC, 10+n), NetworkId: uid(ofNetwork, 3), Mac: fmt.Sprintf("02:00:00:00:01:%02d", n)},
			},
		})
	}
	if shared {
		net(3, true)
	}
	state := desired.Read(s)
	for key, err := range state.Problems {
		t.Fatalf("the test's own spec: %s: %v", key, err)
	}
	return state
}

// made is what stands when a spec is true. Volumes of no spec are left as they are.
func made(s *desired.State, before string) string {
	var all []string
	for _, i := range s.Images {
		all = append(all, "image "+image.Path(s.Pools[i.GetPoolId()], i.GetSha256(), i.GetFormat()))
	}
	for line := range strings.Lines(before) {
		line = strings.TrimSpace(line)
		path, ok := strings.CutPrefix(line, "volume ")
		spoken := slices.ContainsFunc([]int{1, 2}, func(n int) bool {
			return s.Volumes[uid(ofVolume, n)] != nil && strings.Contains(path, uid(ofVolume, n))
		})
		if ok && !spoken {
			all = append(all, line)
		}
	}
	for _, v := range s.Volumes {
		if !v.GetRemoved() {
			all = append(all, "volume "+disk.Path(s.Pools[v.GetPoolId()], v.GetId()))
		}
	}
	for id, n := range s.Networks {
		all = append(all, "network "+id)
		if n.GetServices() != nil {
			all = append(all, "services "+id)
		}
	}
	for id, v := range s.VMs {
		if v.GetPower() == hostspec.PowerState_POWER_STATE_RUNNING {
			all = append(all, "domain "+id+" true")
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// settled says whether the loop says that all is as wanted (rule 7); the ground must then be so.
func (g *ground) settled(s *desired.State) bool {
	shot := g.loop.Snapshot()
	if shot.Removing || shot.NetworkErr != nil || shot.ComputeErr != nil || shot.NetworkAt != s.Generation || shot.ComputeAt != s.Generation {
		return false
	}
	for id := range s.VMs {
		if !shot.VMs[id].Settled {
			return false
		}
	}
	for _, vm := range shot.VMs {
		if vm.Leftover {
			return false
		}
	}
	for id, v := range s.Volumes {
		if st := shot.Objects[desired.Key{Kind: desired.Volume, ID: id}]; !st.Ready && !v.GetRemoved() || !st.Gone && v.GetRemoved() {
			return false
		}
	}
	for id := range s.Images {
		if !shot.Objects[desired.Key{Kind: desired.Image, ID: id}].Ready {
			return false
		}
	}
	for id, n := range s.Networks {
		if shot.Networks[id].Err != nil || n.GetServices() != nil && !(groundServices{g}).Status(id).Applied {
			return false
		}
	}
	return true
}

// reach waits until the loop says that a spec is true, and looks whether it is.
func (g *ground) reach(s *desired.State, before string) {
	g.t.Helper()
	g.mu.Lock()
	spec := made(s, before)
	g.mu.Unlock()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !g.settled(s) {
		select {
		case <-deadline.C:
			g.t.Fatalf("not settled: there is\n%s\nand should be\n%s\n%+v", g.text(), spec, g.loop.Snapshot())
		case <-tick.C:
		}
	}
	g.mu.Lock()
	got := g.standing()
	g.mu.Unlock()
	if got != spec {
		g.t.Fatalf("rule 7: settled, and there is\n%s\nwhere there should be\n%s", got, spec)
	}
}

// standing is text without domains that do not run: whether they stay defined is not the reconciler's matter.
func (g *ground) standing() string {
	lines := slices.DeleteFunc(strings.Split(g.text(), "\n"), func(l string) bool { return strings.HasSuffix(l, " false") })
	return strings.Join(lines, "\n")
}

// walked are the states in their order: made, stopped, gone, its volume removed, others beside it.
func walked() [][]machineWish {
	gone, bare := machineWish{}, on()
	bare.network = "bare"
	return [][]machineWish{
		{gone, gone},
		{gone, bare},
		{gone, gone},
		{bare, bare},
		{on(), gone},
		{on(), on()},
		{off(), on()},
		{machineWish{volume: "kept"}, on()},
		{machineWish{volume: "removed"}, on()},
		{gone, off()},
		{machineWish{network: "bare"}, machineWish{volume: "removed", network: "bare"}},
		{machineWish{network: "served"}, on()},
		{gone, machineWish{volume: "removed"}},
	}
}

// Every rule of order holds on the way between any two states, in order, shuffled, and when the agent is killed anywhere
// on the way: the ground blames who comes too early.
func TestWalk(t *testing.T) {
	for _, way := range []string{"in order", "shuffled", "interrupted"} {
		t.Run(way, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			g := newGround(t)
			g.start()
			states := walked()
			rounds := 1
			if way != "in order" {
				rounds = 5
			}
			generation := uint64(0)
			for range rounds {
				if way != "in order" {
					random.Shuffle(len(states), func(i, j int) { states[i], states[j] = states[j], states[i] })
				}
				for _, wishes := range states {
					generation++
					s := want(t, generation, wishes...)
					g.mu.Lock()
					before, acts := g.text(), g.acts
					g.mu.Unlock()
					g.set(s)
					if way == "interrupted" {
						// Killed after so many acts, or when none comes any more; the next agent begins with the ledger's spec.
						stop := acts + random.IntN(6)
						g.await("a moment to kill", func() string {
							if g.acts >= stop {
								return ""
							}
							g.mu.Unlock()
							done := g.settled(s)
							g.mu.Lock()
							if done {
								return ""
							}
							return "nothing happens"
						})
						g.kill()
						g.start()
						g.loop.Set(s)
					}
					g.reach(s, before)
				}
			}
		})
	}
}

// Rule 1: nobody tells the loop of what is lost; its slow pass finds it.
func TestDriftIsFoundWithoutNews(t *testing.T) {
	g := newGround(t)
	g.start()
	s := want(t, 1, on())
	g.set(s)
	g.reach(s, "")
	for what, lose := range map[string]func(){
		"network":  func() { delete(g.networks, uid(ofNetwork, 1)) },
		"services": func() { delete(g.services, uid(ofNetwork, 1)) },
		"image":    func() { clear(g.images) },
	} {
		g.mu.Lock()
		lose()
		g.mu.Unlock()
		g.await("the lost "+what, func() string {
			if got := g.standing(); got != made(s, "") {
				return "there is\n" + got
			}
			return ""
		})
	}
}

// Rule 2: what hangs or fails holds up what needs it and nothing else; a problem is not an absence.
func TestObjectsStandAlone(t *testing.T) {
	g := newGround(t)
	g.hangs["create "+uid(ofVolume, 1)] = true
	g.start()
	g.set(want(t, 1, on(), on()))
	b := "domain " + uid(ofVM, 2) + " true"
	g.await("the VM that needs nothing of it", func() string {
		if !strings.Contains(g.text(), b) {
			return "there is\n" + g.text()
		}
		return ""
	})
	g.mu.Lock()
	if a := g.domains[uid(ofVM, 1)]; a != nil {
		t.Error("a VM was started whose volume hangs")
	}
	g.mu.Unlock()
	g.kill()
	// What cannot be read is left as it is.
	left := func(what string, key desired.Key, wishes ...machineWish) {
		t.Helper()
		s := want(t, 2, wishes...)
		s.Problems[key] = errors.New("nonsense")
		g.load()
		g.set(s)
		g.passes(4)
		if text := g.text(); !strings.Contains(text, b) || g.networks[uid(ofNetwork, 1)] == nil || !g.services[uid(ofNetwork, 1)] {
			t.Errorf("%s: a problem was taken for an absence; there is\n%s", what, text)
		}
	}
	left("a network", desired.Key{Kind: desired.Network, ID: uid(ofNetwork, 1)}, machineWish{}, on())
	left("a VM", desired.Key{Kind: desired.VM, ID: uid(ofVM, 2)}, machineWish{network: "served"}, machineWish{})
}

// Rule 4: before a spec, and before domains could be looked at, nothing goes.
func TestNothingGoesBeforeALook(t *testing.T) {
	g := newGround(t)
	g.start()
	first := want(t, 1, on(), machineWish{network: "bare"})
	g.set(first)
	g.reach(first, "")
	g.kill()
	all := g.text()
	same := func(when string) {
		t.Helper()
		if got := g.text(); got != all {
			t.Errorf("%s there is\n%s\nand was\n%s", when, got, all)
		}
	}
	g.load()
	g.passes(3)
	same("before a spec")
	g.listErr = errors.New("libvirt is down")
	second := want(t, 2, machineWish{volume: "removed"}, machineWish{})
	g.set(second)
	g.passes(3)
	same("before a look")
	g.listErr = nil
	g.start()
	g.set(second)
	g.reach(second, "")
}

// Rule 5: what may pass is told at once and called a failure after three tries; what only another spec mends at once. Both are
// tried on.
func TestWhenAFailureIsOne(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		final int // at which try
	}{
		"may pass":     {errors.New("busy"), 3},
		"another spec": {desired.Permanent(errors.New("no such machine type")), 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			id := uid(ofVM, 1)
			g.fails["start "+id] = c.err
			g.start()
			g.set(want(t, 1, on()))
			var failedAt int
			told := false
			g.await("the failure", func() string {
				tries := g.tries["start "+id]
				g.mu.Unlock()
				st := g.loop.Snapshot().VMs[id]
				g.mu.Lock()
				told = told || strings.Contains(st.Err, c.err.Error()) && (st.State == hostspec.VmState_VM_STATE_PENDING) == (tries < c.final)
				if st.State != hostspec.VmState_VM_STATE_FAILED {
					return fmt.Sprintf("%v %q after %d tries", st.State, st.Err, tries)
				}
				failedAt = tries
				return ""
			})
			if failedAt < c.final || failedAt > c.final+1 || !told {
				t.Errorf("called a failure after %d tries, want %d; told before: %v", failedAt, c.final, told)
			}
			g.mu.Lock()
			g.fails = map[string]error{}
			g.mu.Unlock()
			if name == "may pass" { // the other one is tried again after minutes
				g.reach(want(t, 1, on()), "")
			}
		})
	}
}

// Rule 6: a VM's first start waits for the services of its networks, but not for ever.
func TestFirstStartWaitsForServices(t *testing.T) {
	g := newGround(t)
	g.silent = true
	g.load()
	g.set(want(t, 1, on()))
	g.passes(5)
	if n := g.tries["start "+uid(ofVM, 1)]; n > 0 || len(g.services) != 2 || len(g.volumes) != 1 {
		t.Errorf("it was started %d times though nobody would answer it; there is\n%s", n, g.text())
	}
	b := g.loop.board
	b.mu.Lock()
	for id := range b.since {
		b.since[id] = time.Now().Add(-servicePatience - time.Second)
	}
	b.mu.Unlock()
	g.passes(2)
	if len(g.domains) != 1 {
		t.Errorf("it was not started when nobody answered for %s: %+v", servicePatience, g.loop.Snapshot().VMs)
	}
}
