package agenttest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/agent/internal/hostlink/linktest"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

func newCoordinator(t *testing.T) (*linktest.Authority, *linktest.Coordinator) {
	t.Helper()
	a, err := linktest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	c, err := linktest.Start(a, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return a, c
}

func newHost(t *testing.T, o agenttest.Options) *agenttest.Host {
	t.Helper()
	h := agenttest.New(o)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Kill)
	return h
}

func await(t *testing.T, c *linktest.Coordinator, id, what string, ok func(*hostspec.HostObservation) bool) *hostspec.HostObservation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o, err := c.Wait(ctx, id, ok)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return o
}

// specOf makes a spec with VMs on one network.
func specOf(host string, vms int) *hostspec.HostSpec {
	pool, network, sum := uuid.NewString(), uuid.NewString(), fmt.Sprintf("%064x", 7)
	s := &hostspec.HostSpec{
		HostId: host, Generation: 1,
		Pools:  []*hostspec.StoragePool{{Id: pool, Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: "/srv/pool"}},
		Images: []*hostspec.Image{{Sha256: sum, SizeBytes: 10, Format: "qcow2", PoolId: pool, VirtualSizeBytes: 1 << 20}},
		Networks: []*hostspec.Network{{
			Id: network, Number: 1, Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: 77,
			Services: &netspec.NetSpec{NetworkId: network, Generation: 1, Dhcp4: &netspec.Dhcp4{}},
		}},
	}
	for i := range vms {
		volume, mac := uuid.NewString(), fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)
		s.Volumes = append(s.Volumes, &hostspec.Volume{
			Id: volume, PoolId: pool, SizeBytes: 1 << 20, ImageSha256: sum, ImageFormat: "qcow2",
		})
		vm := &hostspec.VirtualMachine{
			Id: uuid.NewString(), InstanceName: fmt.Sprintf("i-2-%d-VM", i), Power: hostspec.PowerState_POWER_STATE_RUNNING,
			StartEpoch: 1, BootEpoch: 1, Vcpus: 1, MemoryMib: 512, StopGraceSeconds: 1,
			Disks: []*hostspec.Disk{{VolumeId: volume}},
			Nics:  []*hostspec.Nic{{Id: uuid.NewString(), NetworkId: network, Mac: mac}},
		}
		s.Vms = append(s.Vms, vm)
		dhcp := s.Networks[0].Services.Dhcp4
		dhcp.Guests = append(dhcp.Guests, &netspec.Guest{Mac: mac, Ip: fmt.Sprintf("10.1.%d.%d", i>>8, i&255), VmId: vm.GetId()})
	}
	return s
}

func running(n int) func(*hostspec.HostObservation) bool {
	return func(o *hostspec.HostObservation) bool {
		up := 0
		for _, vm := range o.GetVms() {
			if vm.GetState() == hostspec.VmState_VM_STATE_RUNNING && !vm.GetLeftover() {
				up++
			}
		}
		return up == n
	}
}

func TestLife(t *testing.T) {
	_, c := newCoordinator(t)
	token, id := c.Token()
	latency := agenttest.Latency{Start: 5 * time.Millisecond, Stop: 5 * time.Millisecond, Network: time.Millisecond}
	h := newHost(t, agenttest.Options{Name: "h1", Token: token, Latency: latency})
	await(t, c, id, "join", func(o *hostspec.HostObservation) bool { return o.GetFacts().GetHostname() == "h1" })
	spec := specOf(id, 3)
	push := func() {
		spec.Generation++
		c.SetSpec(spec)
	}
	push()
	o := await(t, c, id, "start", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == spec.Generation })
	if !running(3)(o) {
		t.Fatalf("settled, but: %v", o)
	}
	await(t, c, id, "leases", func(o *hostspec.HostObservation) bool { return len(o.GetNetworks()[0].GetServices().GetLeases()) == 3 })
	vm := spec.Vms[0].GetId()
	state := func(s hostspec.VmState, cause hostspec.StopCause) func(*hostspec.HostObservation) bool {
		return func(o *hostspec.HostObservation) bool {
			i := slices.IndexFunc(o.GetVms(), func(v *hostspec.VirtualMachineObservation) bool { return v.GetId() == vm })
			return i >= 0 && o.GetVms()[i].GetState() == s && o.GetVms()[i].GetStopCause() == cause
		}
	}

	h.ShutdownGuest(vm)
	await(t, c, id, "guest shut down", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_GUEST))
	h.Kill()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, c, id, "still down", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_GUEST))
	spec.Vms[0].StartEpoch++
	push()
	await(t, c, id, "user starts it", running(3))

	h.Crash(vm)
	await(t, c, id, "crash", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_CRASHED))
	spec.Vms[0].Ha = true
	push()
	await(t, c, id, "HA starts it", running(3))

	h.PowerOff()
	if up := h.Running(); len(up) != 0 {
		t.Fatalf("running without power: %v", up)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, c, id, "power on", running(3))

	h.Deafen(vm, true)
	spec.Vms[0].Power = hostspec.PowerState_POWER_STATE_STOPPED
	push()
	await(t, c, id, "deaf guest stopped", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_WANTED))

	h.Fail(agenttest.OpStart, "", errors.New("no more room"))
	spec.Vms[0].Power, spec.Vms[0].StartEpoch = hostspec.PowerState_POWER_STATE_RUNNING, 9
	push()
	await(t, c, id, "failed start", state(hostspec.VmState_VM_STATE_FAILED, 0))
	h.Fail(agenttest.OpStart, "", nil)
	await(t, c, id, "healed start", running(3))

	spec.Vms, spec.Networks = nil, nil
	for _, v := range spec.Volumes {
		v.Removed = true
	}
	push()
	await(t, c, id, "removal", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == spec.Generation })
	if d, v, n := h.Defined(), h.Volumes(), h.Networks(); len(d)+len(v)+len(n) != 0 {
		t.Errorf("left over: domains %v, volumes %v, networks %v", d, v, n)
	}
}

// TestFleet runs many agents in one process, loses the coordinator, and waits for all to be back.
func TestFleet(t *testing.T) {
	hosts := 200
	if testing.Short() {
		hosts = 20
	}
	a, c := newCoordinator(t)
	var group sync.WaitGroup
	ids := make([]string, hosts)
	for i := range hosts {
		var token string
		token, ids[i] = c.Token()
		h := agenttest.New(agenttest.Options{Name: fmt.Sprintf("h%d", i), Token: token})
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { group.Go(h.Kill) })
		c.SetSpec(specOf(ids[i], 2))
	}
	t.Cleanup(group.Wait)
	for _, id := range ids {
		await(t, c, id, "all run", running(2))
	}
	address := c.Address()
	c.Kill()
	c, err := linktest.Start(a, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	begin := time.Now()
	for _, id := range ids {
		await(t, c, id, "back", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == 1 })
	}
	t.Logf("%d agents back %.2f s after the coordinator's restart", hosts, time.Since(begin).Seconds())
}

// one looks for one VM.
func one(o *hostspec.HostObservation, id string) *hostspec.VirtualMachineObservation {
	for _, v := range o.GetVms() {
		if v.GetId() == id {
			return v
		}
	}
	return nil
}

func newLinked(t *testing.T) (*agenttest.Host, *linktest.Coordinator, string) {
	t.Helper()
	_, c := newCoordinator(t)
	token, id := c.Token()
	return newHost(t, agenttest.Options{Name: "h1", Token: token, Slow: 200 * time.Millisecond}), c, id
}

// TestIndependence breaks one object of each kind: what does not need it runs, what needs it says why.
func TestIndependence(t *testing.T) {
	tests := []struct {
		name string
		harm func(h *agenttest.Host, s *hostspec.HostSpec)
		// VMs that run all the same, and what is said of the first.
		running int
		state   hostspec.VmState
		says    string
	}{
		{"vm does not start", func(h *agenttest.Host, s *hostspec.HostSpec) {
			h.Fail(agenttest.OpStart, s.Vms[0].GetId(), errors.New("out of memory"))
		}, 4, hostspec.VmState_VM_STATE_FAILED, "out of memory"},
		{"volume is not made", func(h *agenttest.Host, s *hostspec.HostSpec) {
			h.Fail(agenttest.OpVolume, s.Volumes[0].GetId(), errors.New("no space left"))
		}, 4, hostspec.VmState_VM_STATE_FAILED, "no space left"},
		{
			"volume is nonsense", func(_ *agenttest.Host, s *hostspec.HostSpec) { s.Volumes[0].ImageFormat = "vmdk" },
			4, hostspec.VmState_VM_STATE_FAILED, "vmdk",
		},
		{
			"vm is nonsense", func(_ *agenttest.Host, s *hostspec.HostSpec) { s.Vms[0].Vcpus = 0 },
			4, hostspec.VmState_VM_STATE_FAILED, "0 vcpus",
		},
		{"network is not made", func(h *agenttest.Host, s *hostspec.HostSpec) {
			n := specOf(s.HostId, 0).Networks[0]
			n.Number = 2
			s.Networks = append(s.Networks, n)
			s.Vms[0].Nics[0].NetworkId = n.GetId()
			h.Fail(agenttest.OpNetwork, n.GetId(), errors.New("no such device"))
		}, 4, hostspec.VmState_VM_STATE_PENDING, "no such device"},
		{"image is not fetched", func(h *agenttest.Host, s *hostspec.HostSpec) {
			h.Fail(agenttest.OpImage, "", errors.New("connection reset"))
		}, 0, hostspec.VmState_VM_STATE_FAILED, "connection reset"},
		{"pool is not there", func(h *agenttest.Host, s *hostspec.HostSpec) {
			h.Fail(agenttest.OpPool, "", errors.New("stale file handle"))
		}, 0, hostspec.VmState_VM_STATE_FAILED, "stale file handle"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, c, id := newLinked(t)
			spec := specOf(id, 5)
			vm := spec.Vms[0].GetId()
			tt.harm(h, spec)
			c.SetSpec(spec)
			await(t, c, id, "others", running(tt.running))
			o := await(t, c, id, "reason", func(o *hostspec.HostObservation) bool {
				v := one(o, vm)
				return v.GetState() == tt.state && strings.Contains(v.GetError(), tt.says)
			})
			if o.GetSettledGeneration() != 0 {
				t.Errorf("settled at %d", o.GetSettledGeneration())
			}
			if got := len(h.Running()); got != tt.running {
				t.Errorf("%d run, want %d", got, tt.running)
			}
		})
	}
}

// TestLibvirtAway: while the daemon does not answer nothing is called stopped, and nothing is started twice after.
func TestLibvirtAway(t *testing.T) {
	h, c, id := newLinked(t)
	spec := specOf(id, 2)
	c.SetSpec(spec)
	await(t, c, id, "start", running(2))
	h.Fail(agenttest.OpLibvirt, "", errors.New("connection refused"))
	o := await(t, c, id, "told", func(o *hostspec.HostObservation) bool {
		return strings.Contains(one(o, spec.Vms[0].GetId()).GetError(), "connection refused")
	})
	if !running(2)(o) {
		t.Errorf("states while libvirt is away: %v", o.GetVms())
	}
	h.Fail(agenttest.OpLibvirt, "", nil)
	await(t, c, id, "well again", func(o *hostspec.HostObservation) bool {
		return running(2)(o) && one(o, spec.Vms[0].GetId()).GetError() == ""
	})
	for _, vm := range spec.Vms {
		if n := h.Starts(vm.GetId()); n != 1 {
			t.Errorf("vm %s was started %d times", vm.GetId(), n)
		}
	}
}

// TestProblemIsNoAbsence: a VM the agent cannot make sense of any more keeps running.
func TestProblemIsNoAbsence(t *testing.T) {
	h, c, id := newLinked(t)
	spec := specOf(id, 2)
	c.SetSpec(spec)
	await(t, c, id, "start", running(2))
	spec.Generation++
	spec.Vms[0].Vcpus = 0
	spec.Networks[0].Segment = 1 << 30
	c.SetSpec(spec)
	await(t, c, id, "accepted", func(o *hostspec.HostObservation) bool {
		return o.GetAcceptedGeneration() == spec.Generation && one(o, spec.Vms[0].GetId()).GetState() == hostspec.VmState_VM_STATE_FAILED
	})
	if n := len(h.Running()); n != 2 {
		t.Errorf("%d run, want 2", n)
	}
	if n := len(h.Networks()); n != 1 {
		t.Errorf("%d networks, want 1", n)
	}
}

// TestUnlisted: a volume that merely left the spec keeps its file.
func TestUnlisted(t *testing.T) {
	h, c, id := newLinked(t)
	spec := specOf(id, 1)
	c.SetSpec(spec)
	await(t, c, id, "start", running(1))
	spec.Generation++
	spec.Vms, spec.Volumes = nil, nil
	c.SetSpec(spec)
	await(t, c, id, "vm gone", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == spec.Generation })
	if got := h.Volumes(); len(got) != 1 {
		t.Errorf("volumes: %v", got)
	}
}

// TestImages streams an image through the link.
func TestImages(t *testing.T) {
	_, c := newCoordinator(t)
	token, id := c.Token()
	data := make([]byte, 1<<20)
	sum := c.AddImage(data)
	newHost(t, agenttest.Options{Name: "h1", Token: token, FetchImages: true})
	spec := specOf(id, 1)
	spec.Images[0].Sha256, spec.Images[0].SizeBytes = sum, uint64(len(data))
	spec.Volumes[0].ImageSha256 = sum
	c.SetSpec(spec)
	await(t, c, id, "start", running(1))
}
