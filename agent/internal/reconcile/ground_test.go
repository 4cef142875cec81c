package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// ground is a host below the reconciler: what is there, whatever becomes of the agent. It blames whoever does something
// before its time, by the number of the rule in DESIGN.md.
type ground struct {
	t     *testing.T
	files *ledger.Memory

	mu       sync.Mutex
	opened   map[string]bool // pools, by id, of this agent's life
	images   map[string]bool
	volumes  map[string]bool // by path
	networks map[string]*hostspec.Network
	services map[string]bool
	domains  map[string]*grounded
	spec     *desired.State
	runs     int32
	// silent services never answer; listErr keeps domains from being looked at; fails and hangs are by what is done: "create ID".
	silent  bool
	listErr error
	fails   map[string]error
	hangs   map[string]bool
	tries   map[string]int
	acts    int // whatever changed something
	blamed  []string
	changed chan struct{}

	loop *Loop
	stop func()
}

type grounded struct {
	machine domain.Machine
	active  bool
	run     int32
}

func newGround(t *testing.T) *ground {
	g := &ground{
		t: t, files: &ledger.Memory{}, images: map[string]bool{}, volumes: map[string]bool{}, networks: map[string]*hostspec.Network{},
		services: map[string]bool{}, domains: map[string]*grounded{}, fails: map[string]error{}, hangs: map[string]bool{}, tries: map[string]int{},
		changed: make(chan struct{}, 1),
	}
	t.Cleanup(func() {
		g.kill()
		for _, b := range g.blamed {
			t.Error(b)
		}
	})
	return g
}

// start is the agent's start; kill ends it wherever it is.
func (g *ground) start() {
	g.load()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func(l *Loop) { defer close(done); l.Run(ctx) }(g.loop)
	g.stop = func() { cancel(); <-done }
}

// load makes an agent whose passes only a test runs.
func (g *ground) load() {
	facts := func(name string) *ledger.Facts[ledger.VMFacts] {
		f, _, err := ledger.OpenFacts[ledger.VMFacts](g.files, name)
		if err != nil {
			g.t.Fatal(err)
		}
		return f
	}
	log := slog.New(slog.DiscardHandler)
	applier := func(name string) *domain.Applier {
		return domain.New(domain.Options{Hypervisor: groundHypervisor{g}, Facts: facts(name), HostBoot: "boot", Log: log})
	}
	g.opened = map[string]bool{}
	g.loop = New(Config{
		Pools: groundPools{g}, Images: groundImages{g}, Volumes: groundVolumes{g}, Fabric: groundFabric{g}, Services: groundServices{g},
		Domains: applier("vms"), Systems: applier("systemvms"), Hypervisor: groundHypervisor{g},
		ChannelPath: func(id string) string { return id }, Log: log, Slow: 20 * time.Millisecond,
		Changed: func() { offer(g.changed) },
	})
}

// passes runs each lane's pass so many times, and waits for the tasks they began.
func (g *ground) passes(n int) {
	for range n {
		g.loop.passStorage(g.t.Context())
		g.loop.passNetwork(g.t.Context())
		g.loop.passCompute(g.t.Context())
		g.loop.tasks.storage.wait()
		g.loop.tasks.compute.wait()
	}
}

func (g *ground) kill() {
	if g.stop != nil {
		g.stop()
		g.stop = nil
	}
}

func (g *ground) set(s *desired.State) {
	g.mu.Lock()
	g.spec = s
	g.mu.Unlock()
	g.loop.Set(s)
}

func (g *ground) blame(rule int, format string, args ...any) {
	text := fmt.Sprintf("rule %d: ", rule) + fmt.Sprintf(format, args...)
	if !slices.Contains(g.blamed, text) {
		g.blamed = append(g.blamed, text)
	}
}

// await waits for a condition of the ground.
func (g *ground) await(what string, f func() string) {
	g.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		g.mu.Lock()
		why := f()
		g.mu.Unlock()
		if why == "" {
			return
		}
		select {
		case <-deadline.C:
			g.t.Fatalf("wait for %s: %s\nblamed: %v", what, why, g.blamed)
		case <-tick.C:
		case <-g.changed:
		}
	}
}

// try counts an attempt and says whether it fails. It hangs outside of the lock.
func (g *ground) try(ctx context.Context, what string) error {
	g.mu.Lock()
	g.tries[what]++
	hangs, err := g.hangs[what], g.fails[what]
	g.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// user is a domain that has a file open or a link in a bridge.
func (g *ground) user(file, bridge string) string {
	for id, d := range g.domains {
		for _, x := range d.machine.Disks {
			if x.Path == file {
				return id
			}
		}
		for _, n := range d.machine.Nics {
			if n.Bridge == bridge {
				return id
			}
		}
	}
	return ""
}

// text is all that is there.
func (g *ground) text() string {
	var all []string
	for x := range g.images {
		all = append(all, "image "+x)
	}
	for x := range g.volumes {
		all = append(all, "volume "+x)
	}
	for x := range g.networks {
		all = append(all, "network "+x)
	}
	for x := range g.services {
		all = append(all, "services "+x)
	}
	for id, d := range g.domains {
		all = append(all, fmt.Sprintf("domain %s %v", id, d.active))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

type groundPools struct{ g *ground }

func (p groundPools) Open(ctx context.Context, pool *hostspec.StoragePool) (disk.Capacity, error) {
	if err := p.g.try(ctx, "open "+pool.GetId()); err != nil {
		return disk.Capacity{}, err
	}
	<-time.After(2 * time.Millisecond) // so that others come too early if they do not wait
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.g.opened[pool.GetId()] = true
	return disk.Capacity{Bytes: 1 << 40}, nil
}

type groundImages struct{ g *ground }

func (i groundImages) Has(pool *hostspec.StoragePool, want *hostspec.Image) (bool, error) {
	i.g.mu.Lock()
	defer i.g.mu.Unlock()
	return i.g.images[image.Path(pool, want.GetSha256(), want.GetFormat())], nil
}

func (i groundImages) Fetch(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Image, _ func(uint64)) error {
	if err := i.g.try(ctx, "fetch "+want.GetSha256()); err != nil {
		return err
	}
	i.g.mu.Lock()
	defer i.g.mu.Unlock()
	if !i.g.opened[pool.GetId()] {
		i.g.blame(3, "an image is fetched into a pool that is not open")
	}
	i.g.images[image.Path(pool, want.GetSha256(), want.GetFormat())] = true
	i.g.acts++
	return nil
}

func (i groundImages) Sweep(*hostspec.StoragePool, map[string]bool) error { return nil }

func (i groundImages) Verify(*hostspec.StoragePool, string) (image.Set, error) {
	return image.Set{}, errors.New("there are no system VMs here")
}

type groundVolumes struct{ g *ground }

func (v groundVolumes) Observe(pool *hostspec.StoragePool, want *hostspec.Volume) (disk.State, error) {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	return disk.State{Present: v.g.volumes[disk.Path(pool, want.GetId())]}, nil
}

func (v groundVolumes) Create(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Volume, backing string) error {
	if err := v.g.try(ctx, "create "+want.GetId()); err != nil {
		return err
	}
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	if !v.g.opened[pool.GetId()] {
		v.g.blame(3, "a volume is made in a pool that is not open")
	}
	if want.GetImageSha256() != "" && !v.g.images[backing] {
		v.g.blame(3, "a volume is made before its image is there")
	}
	v.g.volumes[disk.Path(pool, want.GetId())] = true
	v.g.acts++
	return nil
}

func (v groundVolumes) Delete(pool *hostspec.StoragePool, id string) error {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	path := disk.Path(pool, id)
	if !v.g.volumes[path] {
		return nil
	}
	if user := v.g.user(path, ""); user != "" {
		v.g.blame(3, "a volume is deleted that a domain names")
	}
	delete(v.g.volumes, path)
	v.g.acts++
	return nil
}

type groundFabric struct{ g *ground }

func (f groundFabric) Apply(_ context.Context, want fabric.Want) (map[string]fabric.Result, error) {
	g := f.g
	<-time.After(2 * time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	results := map[string]fabric.Result{}
	for _, n := range want.Networks {
		if g.networks[n.GetId()] == nil {
			g.acts++
		}
		g.networks[n.GetId()] = n
		r := fabric.Result{Plugged: true, MTU: 1450}
		if n.GetServices() != nil {
			r.Serving = netrun.Instance(n.GetId(), 0)
			r.Instances = []string{r.Serving}
		}
		results[n.GetId()] = r
	}
	for id, n := range g.networks {
		if results[id].Plugged || want.Keep[id] || want.Unsure || want.Used[fabric.BridgeName(n)] {
			continue
		}
		if user := g.user("", fabric.BridgeName(n)); user != "" {
			g.blame(3, "a network is removed while a domain has a link in it")
		}
		if g.services[id] {
			g.blame(3, "a network is removed while its services run")
		}
		if g.listErr != nil {
			g.blame(4, "a network is removed before domains were looked at")
		}
		delete(g.networks, id)
		g.acts++
	}
	return results, nil
}

func (groundFabric) Switch(context.Context, []string, []fabric.Plug) error { return nil }

type groundServices struct{ g *ground }

func (s groundServices) Apply(want map[string]*netspec.NetSpec, keep map[string]bool) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	for id := range want {
		if s.g.networks[id] == nil {
			s.g.blame(3, "services are started without their network")
		}
		if !s.g.services[id] {
			s.g.acts++
		}
		s.g.services[id] = true
	}
	for id := range s.g.services {
		if want[id] == nil && !keep[id] {
			if n := s.g.networks[id]; n != nil && s.g.spec.Networks[id] == nil && s.g.user("", fabric.BridgeName(n)) != "" {
				s.g.blame(3, "services are ended while a domain has a link in their network")
			}
			l := s.g.loop
			time.AfterFunc(time.Millisecond, func() {
				s.g.mu.Lock()
				// Unless they are wanted again by now.
				if n := s.g.spec.Networks[id]; n.GetServices() == nil {
					delete(s.g.services, id)
					s.g.acts++
				}
				s.g.mu.Unlock()
				l.ServicesChanged()
			})
		}
	}
}

func (s groundServices) Status(id string) netrun.Status {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	up := s.g.services[id] && !s.g.silent
	return netrun.Status{Answering: up, Applied: up}
}

func (s groundServices) Present() map[string]bool {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	out := map[string]bool{}
	for id := range s.g.services {
		out[id] = true
	}
	return out
}

func (groundServices) Feed(map[string]netrun.Channel)  {}
func (groundServices) FeedStatus(string) netrun.Status { return netrun.Status{} }
func (groundServices) Forget(string) error             { return nil }

type groundHypervisor struct{ g *ground }

func (h groundHypervisor) List(context.Context) ([]domain.Seen, error) {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	var list []domain.Seen
	for id, d := range h.g.domains {
		s := domain.Seen{ID: id, Active: d.active, Run: -1}
		if d.active {
			s.Run, s.StartEpoch, s.BootEpoch = d.run, d.machine.VM.GetStartEpoch(), d.machine.VM.GetBootEpoch()
		}
		for _, x := range d.machine.Disks {
			s.Files = append(s.Files, x.Path)
		}
		for _, n := range d.machine.Nics {
			s.Taps, s.Bridges = append(s.Taps, n.Tap), append(s.Bridges, n.Bridge)
		}
		list = append(list, s)
	}
	return list, h.g.listErr
}

func (h groundHypervisor) Start(ctx context.Context, m domain.Machine) error {
	g := h.g
	if err := g.try(ctx, "start "+m.VM.GetId()); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range m.Disks {
		if !g.volumes[x.Path] {
			g.blame(3, "a domain is started without its volume")
		}
	}
	for _, nic := range m.VM.GetNics() {
		n := g.networks[nic.GetNetworkId()]
		switch {
		case n == nil:
			g.blame(3, "a domain is started without its bridge")
		case n.GetServices() != nil && !g.services[n.GetId()]:
			g.blame(3, "a domain is started without the services of its network")
		}
	}
	g.runs++
	g.domains[m.VM.GetId()] = &grounded{machine: m, active: true, run: g.runs}
	g.acts++
	return nil
}

func (h groundHypervisor) end(id string) {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	if d := h.g.domains[id]; d != nil && d.active {
		d.active = false
		h.g.acts++
	}
}

func (h groundHypervisor) Shutdown(_ context.Context, id string) error { h.end(id); return nil }
func (h groundHypervisor) Destroy(_ context.Context, id string) error  { h.end(id); return nil }
func (groundHypervisor) Resume(context.Context, string) error          { return nil }
func (groundHypervisor) Link(context.Context, string, []string, bool) error {
	return nil
}

func (h groundHypervisor) Remove(_ context.Context, id string) error {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	if d := h.g.domains[id]; d != nil {
		if d.active {
			h.g.blame(3, "a domain is removed while it runs")
		}
		delete(h.g.domains, id)
		h.g.acts++
	}
	return nil
}

func (groundHypervisor) Stats(context.Context) (map[string]domain.Usage, error) { return nil, nil }
