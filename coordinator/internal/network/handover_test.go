package network_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// slowAgent is a host whose agent does one thing at a time: what it has accepted, what it has made true and what the
// coordinators have heard of it are three things.
type slowAgent struct {
	w    *world
	host cloud.ID
	// What it has accepted, and in its ledger.
	generation uint64
	networks   []*hostspec.Network
	vms        []*hostspec.SystemVM
	// What is true: networks with services, and whether the router's legs are in a bridge; system VMs, and whether they
	// are plugged in.
	legs, taps         map[string]bool
	linksAt, domainsAt uint64
	unplugged          map[string]uint64
	// The newest news, until it is heard.
	news *hostspec.HostObservation
	off  bool
}

func newSlowAgent(w *world, host cloud.ID) *slowAgent {
	return &slowAgent{w: w, host: host, legs: map[string]bool{}, taps: map[string]bool{}, unplugged: map[string]uint64{}}
}

// accept reads the spec as it is now.
func (a *slowAgent) accept() {
	if a.off {
		return
	}
	a.generation, a.networks, a.vms = a.w.read().Index(), a.w.render(a.host), a.w.renderSystem(a.host).GetSystemVms()
}

func routerLegs(legs []*hostspec.Leg) bool {
	return slices.ContainsFunc(legs, func(l *hostspec.Leg) bool { return l.GetName() == "gw0" })
}

// link makes links and namespaces as accepted.
func (a *slowAgent) link() {
	if a.off {
		return
	}
	clear(a.legs)
	for _, n := range a.networks {
		a.legs[n.GetId()] = routerLegs(n.GetLegs())
	}
	a.linksAt = a.generation
}

// compute looks at domains and makes them as accepted.
func (a *slowAgent) compute() {
	if a.off {
		return
	}
	before := a.taps
	a.taps = map[string]bool{}
	for _, vm := range a.vms {
		id := vm.GetId()
		if vm.GetStandby() && !before[id] {
			a.unplugged[id] = a.generation
		}
		if vm.GetPower() == hostspec.PowerState_POWER_STATE_RUNNING {
			a.taps[id] = !vm.GetStandby()
		}
	}
	a.domainsAt = a.generation
}

// look writes down what an observation of it says now.
func (a *slowAgent) look() {
	if a.off {
		return
	}
	o := &hostspec.HostObservation{HostId: a.host.String(), AcceptedGeneration: a.generation}
	if a.linksAt == a.generation && a.domainsAt == a.generation {
		o.SettledGeneration = a.generation
	}
	for _, n := range a.networks {
		s := &hostspec.NetworkObservation{Id: n.GetId(), Incarnation: n.GetIncarnation()}
		if _, made := a.legs[n.GetId()]; made {
			s.LinksGeneration = a.linksAt
			s.Services = &netspec.Observation{NetworkId: n.GetId(), AppliedGeneration: a.linksAt}
		}
		o.Networks = append(o.Networks, s)
	}
	for _, vm := range a.vms {
		s := &hostspec.SystemVMObservation{Vm: &hostspec.VirtualMachineObservation{Id: vm.GetId(), StartEpoch: vm.GetStartEpoch(), BootEpoch: vm.GetBootEpoch()}}
		plugged, runs := a.taps[vm.GetId()]
		switch {
		case runs:
			s.Vm.State, s.Connected, s.UnpluggedGeneration = hostspec.VmState_VM_STATE_RUNNING, plugged, a.unplugged[vm.GetId()]
			s.Services = &netspec.Observation{AppliedGeneration: a.domainsAt}
		case vm.GetPower() == hostspec.PowerState_POWER_STATE_STOPPED && a.domainsAt == a.generation:
			s.Vm.State, s.Vm.StopCause = hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_WANTED
		default:
			s.Vm.State = hostspec.VmState_VM_STATE_PENDING
		}
		o.SystemVms = append(o.SystemVms, s)
	}
	a.news = o
}

// tell has the coordinators hear the news.
func (a *slowAgent) tell() {
	if a.news != nil && !a.off {
		a.w.fold(a.host, a.news)
		a.news = nil
	}
}

// plugged lists what is plugged in as a router of a network.
func (a *slowAgent) plugged() (list []string) {
	for id, on := range a.legs {
		if on {
			list = append(list, "namespace of "+id+" on "+a.host.String())
		}
	}
	for id, on := range a.taps {
		if on {
			list = append(list, "system VM "+id+" on "+a.host.String())
		}
	}
	return list
}

// all does everything once, in order.
func (a *slowAgent) all() {
	for _, f := range []func(){a.accept, a.link, a.compute, a.look, a.tell} {
		f()
	}
}

// site is a network with a router, seen by slow agents.
type site struct {
	*world
	n      cloud.ID
	agents []*slowAgent
}

func newSite(t testing.TB, placement string, hosts int) *site {
	w := newVMWorld(t, hosts)
	w.set("router.placement", placement)
	s := &site{world: w}
	n := w.guest("net")
	s.n = n.ID
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.hosts {
		s.agents = append(s.agents, newSlowAgent(w, h))
	}
	s.quiesce(3)
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	return s
}

func (s *site) quiesce(rounds int) {
	for range rounds {
		for _, a := range s.agents {
			a.all()
		}
	}
}

func (s *site) plugged() (list []string) {
	for _, a := range s.agents {
		list = append(list, a.plugged()...)
	}
	return list
}

// status is what is rendered of routers, and what is true of them: "h1 vm standby, h2 host; plugged in h1".
func (s *site) status() string {
	var list []string
	for i, h := range s.hosts {
		for _, n := range s.render(h) {
			switch {
			case routerLegs(n.GetLegs()):
				list = append(list, fmt.Sprintf("h%d host", i+1))
			case routerLegs(n.GetStandbyLegs()):
				list = append(list, fmt.Sprintf("h%d host standby", i+1))
			}
		}
		for _, vm := range s.renderSystem(h).GetSystemVms() {
			text := fmt.Sprintf("h%d vm", i+1)
			if vm.GetStandby() {
				text += " standby"
			}
			list = append(list, text)
		}
	}
	text := strings.Join(list, ", ") + "; plugged in"
	for i, a := range s.agents {
		if len(a.plugged()) > 0 {
			text += fmt.Sprintf(" h%d", i+1)
		}
	}
	return text
}

// A router that goes to another host, or into another placement, is plugged in after the old one's host has said that it
// is unplugged under the spec that says so. The successor is ready before; the old one is dropped after.
func TestHandOverIsFenced(t *testing.T) {
	for _, from := range []string{"host", "vm"} {
		for _, to := range []string{"host", "vm"} {
			t.Run(from+" to "+to, func(t *testing.T) {
				s := newSite(t, from, 2)
				old, ip := s.router(s.n), s.source(s.n).Address
				h1, h2 := s.agents[0], s.agents[1]
				s.setHost(s.hosts[0], func(h *cloud.Host) { h.ResourceState = cloud.HostMaintenance })
				s.set("router.placement", to)
				s.restart(s.n)
				step := func(what, want string, do ...func()) {
					t.Helper()
					for _, f := range do {
						f()
					}
					if got := s.status(); got != want {
						t.Fatalf("%s: %s\nwant %s", what, got, want)
					}
				}
				begun := fmt.Sprintf("h1 %s, h2 %s standby; plugged in h1", from, to)
				retiring := fmt.Sprintf("h1 %s standby, h2 %s standby; plugged in", from, to)
				step("begun", begun)
				step("the old one knows", begun, h1.all)
				step("the successor boots", begun, h2.accept, h2.link, h2.compute)
				step("it is ready", retiring+" h1", h2.look, h2.tell)
				step("an observation from before", retiring+" h1", h1.look, h1.tell)
				step("accepted, but not done", retiring+" h1", h1.accept, h1.look, h1.tell)
				step("the successor says again that it is ready", retiring+" h1", h2.all)
				step("done, but not told", retiring, h1.link, h1.compute, h1.compute)
				step("the successor waits", retiring, h2.all)
				step("told", fmt.Sprintf("h2 %s; plugged in", to), h1.look, h1.tell)
				if over, why := s.tryStep(s.n, false, s.area.RestartStep); over {
					t.Fatalf("over before it is plugged in: %s", why)
				}
				step("plugged in", fmt.Sprintf("h2 %s; plugged in h2", to), h2.all, h2.all)
				h1.all()
				rt := s.router(s.n)
				if over, why := s.tryStep(s.n, false, s.area.RestartStep); !over || why != "" || rt.State != cloud.VMRunning || rt.ID == old.ID ||
					rt.PublicMAC != old.PublicMAC || s.source(s.n).Address != ip || tables.Routers.Len(s.read()) != 1 {
					t.Fatalf("in the end: %v %q %+v", over, why, rt)
				}
				s.expect(s.n, "Implemented segment=5000 router=Running on h2")
			})
		}
	}
}

// The host of the old router does not answer: after network.confirm.wait the successor, which was never plugged in, is
// given up, and the job says why. Is the host declared dead meanwhile, the successor takes over at once.
func TestHandOverWithASilentHost(t *testing.T) {
	for _, end := range []string{"job", "tend", "dead"} {
		t.Run(end, func(t *testing.T) {
			s := newSite(t, "vm", 2)
			old := s.router(s.n)
			s.setHost(s.hosts[0], func(h *cloud.Host) { h.ResourceState = cloud.HostDisabled })
			s.restart(s.n)
			s.agents[1].all()
			s.setHost(s.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostAlert })
			s.clock.advance(119 * time.Second)
			s.tend()
			if over, why := s.tryStep(s.n, false, s.area.RestartStep); over {
				t.Fatalf("given up early: %s", why)
			}
			s.clock.advance(time.Second)
			switch end {
			case "dead":
				s.setHost(s.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostDown })
				*s.agents[0] = slowAgent{off: true}
				s.tend()
				s.agents[1].all()
				s.agents[1].all()
				if over, why := s.tryStep(s.n, false, s.area.RestartStep); !over || why != "" {
					t.Errorf("job: %v %s", over, why)
				}
				s.expect(s.n, "Implemented segment=5000 router=Running on h2")
				return
			case "tend":
				s.tend()
			}
			want := "The restart of the network failed, and the router of before goes on: host h1, which is Alert, has not confirmed that " +
				"router r-1-VM is unplugged there, and router r-2-VM must not be plugged in beside it"
			if over, why := s.tryStep(s.n, false, s.area.RestartStep); !over || why != want {
				t.Errorf("job: %v %s\nwant    %s", over, why, want)
			}
			if got := s.status(); got != "h1 vm; plugged in h1" || s.router(s.n).ID != old.ID || tables.Routers.Len(s.read()) != 1 {
				t.Errorf("afterwards: %s", got)
			}
			s.setHost(s.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostUp })
			s.quiesce(2)
			s.expect(s.n, "Implemented segment=5000 router=Running on h1")
		})
	}
}

// A successor that takes over because the old router's host died says so in an event, whether Tend notices the death or
// the successor gets ready after it; one that takes over in order does not.
func TestPromotionIsTold(t *testing.T) {
	const told = "ROUTER.HA Router r-2-VM of network net takes over from router r-1-VM: host h1 is Down"
	dies := func(s *site) {
		s.setHost(s.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostDown })
		*s.agents[0] = slowAgent{off: true}
	}
	for name, c := range map[string]struct {
		do   func(s *site)
		want []string
	}{
		"in order":                  {func(s *site) { s.quiesce(4) }, nil},
		"Tend notices":              {func(s *site) { dies(s); s.tend(); s.tend(); s.quiesce(3) }, []string{told}},
		"the successor gets ready":  {func(s *site) { dies(s); s.quiesce(3); s.tend() }, []string{told}},
		"dies with the one retired": {func(s *site) { s.agents[1].all(); dies(s); s.tend(); s.quiesce(3) }, []string{told}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "vm", 2)
			s.setHost(s.hosts[0], func(h *cloud.Host) { h.ResourceState = cloud.HostDisabled })
			s.restart(s.n)
			s.events = nil
			c.do(s)
			s.expect(s.n, "Implemented segment=5000 router=Running on h2")
			if diff := cmp.Diff(c.want, s.events); diff != "" {
				t.Errorf("events (-want +got)\n%s", diff)
			}
		})
	}
}

// Whatever happens during a replacement: it is stopped, its hosts die, the successor's host dies.
func TestHandOverInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(s *site)
		want string
	}{
		"stopped": {func(s *site) {
			s.do(func(tx *store.Tx) error { return s.area.StopRouter(tx, s.router(s.n), false) })
		}, "Implemented segment=5000 router=Stopped on nowhere"},
		"the successor's host dies": {func(s *site) {
			s.setHost(s.hosts[1], func(h *cloud.Host) { h.Status = cloud.HostDown })
			*s.agents[1] = slowAgent{off: true}
			s.tend()
		}, "Implemented segment=5000 router=Running on h1"},
		"both die": {func(s *site) {
			for i := range 2 {
				s.setHost(s.hosts[i], func(h *cloud.Host) { h.Status = cloud.HostDown })
				*s.agents[i] = slowAgent{off: true}
			}
			s.tend()
		}, "Implemented segment=5000 router=Running on h3"},
	} {
		for _, retiring := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %v", name, retiring), func(t *testing.T) {
				s := newSite(t, "vm", 3)
				s.setHost(s.hosts[0], func(h *cloud.Host) { h.ResourceState = cloud.HostDisabled })
				s.setHost(s.hosts[2], func(h *cloud.Host) { h.ResourceState = cloud.HostDisabled })
				s.restart(s.n)
				if retiring {
					s.agents[1].all()
					s.agents[0].accept()
					s.agents[0].compute()
				}
				s.setHost(s.hosts[2], func(h *cloud.Host) { h.ResourceState = cloud.HostEnabled })
				c.do(s)
				s.quiesce(3)
				s.tend()
				s.tryStep(s.n, false, s.area.RestartStep)
				s.quiesce(3)
				s.expect(s.n, c.want)
				if got := len(s.plugged()); got > 1 || tables.Routers.Len(s.read()) != 1 {
					t.Errorf("plugged in: %v", s.plugged())
				}
			})
		}
	}
}

// At no step of any order of things are two routers of a network plugged in, and whatever was begun ends.
func TestNeverTwoPluggedIn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSite(t, rapid.SampledFrom([]string{"host", "vm"}).Draw(rt, "placement"), 3)
		mac, ip := s.router(s.n).PublicMAC, s.source(s.n).Address
		agent := func(rt *rapid.T) *slowAgent { return rapid.SampledFrom(s.agents).Draw(rt, "agent") }
		try := func(rt *rapid.T, f func(tx *store.Tx) error) { (&machine{w: s.world}).allowed(rt, f) }
		ops := map[string]func(*rapid.T){
			"agents": func(rt *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(rt, "steps") {
					a := agent(rt)
					rapid.SampledFrom([]func(){a.accept, a.link, a.compute, a.look, a.tell, a.all, func() { a.look(); a.tell() }}).Draw(rt, "step")()
					s.fenced(rt)
				}
			},
			"restart": func(rt *rapid.T) {
				s.set("router.placement", rapid.SampledFrom([]string{"host", "vm"}).Draw(rt, "placement"))
				if r, ok := network.RouterOf(s.read(), s.n); ok && !r.HostID.IsZero() && rapid.Bool().Draw(rt, "elsewhere") {
					s.setHost(r.HostID, func(h *cloud.Host) { h.ResourceState = cloud.HostDisabled })
				}
				try(rt, func(tx *store.Tx) error { return s.area.Restart(tx, s.network(s.n), true) })
			},
			"drain": func(rt *rapid.T) {
				s.setHost(agent(rt).host, func(h *cloud.Host) {
					h.ResourceState = rapid.SampledFrom([]cloud.ResourceState{cloud.HostEnabled, cloud.HostDisabled}).Draw(rt, "state")
				})
			},
			"time": func(rt *rapid.T) {
				s.clock.advance(time.Duration(rapid.IntRange(1, 200).Draw(rt, "seconds")) * time.Second)
				for _, a := range s.agents {
					a.look() // an agent that has a link tells the newest every ten seconds
				}
				s.tend()
			},
			"step": func(*rapid.T) { s.tryStep(s.n, false, s.area.RestartStep) },
			"stop": func(rt *rapid.T) {
				if r, ok := network.RouterOf(s.read(), s.n); ok {
					try(rt, func(tx *store.Tx) error {
						if r.State == cloud.VMStopped {
							return s.area.StartRouter(tx, r)
						}
						return s.area.StopRouter(tx, r, false)
					})
				}
			},
			"die": func(rt *rapid.T) { s.die(agent(rt)) },
			"":    func(rt *rapid.T) { s.fenced(rt) },
		}
		rt.Repeat(ops)
		for _, a := range s.agents {
			s.setHost(a.host, func(h *cloud.Host) { h.Status, h.ResourceState = cloud.HostUp, cloud.HostEnabled })
			a.off = false
		}
		if r := s.router(s.n); r.State == cloud.VMStopped {
			try(rt, func(tx *store.Tx) error { return s.area.StartRouter(tx, r) })
		}
		for range 20 {
			s.quiesce(1)
			s.tend()
			s.tryStep(s.n, false, s.area.RestartStep)
			s.clock.advance(5 * time.Second)
			s.fenced(rt)
		}
		r := s.router(s.n)
		if r.State == cloud.VMStopped || r.State == cloud.VMStopping {
			rt.Skip("stopped at the very end")
		}
		if len(s.plugged()) != 1 || tables.Routers.Len(s.read()) != 1 || r.State != cloud.VMRunning || r.PublicMAC != mac || s.source(s.n).Address != ip {
			rt.Fatalf("in the end: %s %+v", s.status(), r)
		}
	})
}

// die has a host be switched off and declared dead, or come back.
func (s *site) die(a *slowAgent) {
	if a.off {
		s.setHost(a.host, func(h *cloud.Host) { h.Status = cloud.HostUp })
		a.off = false
		return
	}
	s.setHost(a.host, func(h *cloud.Host) { h.Status = cloud.HostDown })
	*a = *newSlowAgent(s.world, a.host)
	a.off = true
	s.tend()
}

// fenced fails where two routers are plugged in, or an invariant of the area is hurt.
func (s *site) fenced(rt *rapid.T) {
	if list := s.plugged(); len(list) > 1 {
		rt.Fatalf("plugged in at once: %v\n%s", list, s.status())
	}
	if err := s.check(); err != nil {
		rt.Fatal(err)
	}
}

// A host is to go into maintenance: its routers, in both placements, are ready elsewhere before they leave it.
func TestRoutersLeaveForMaintenance(t *testing.T) {
	for _, placement := range []string{"host", "vm"} {
		t.Run(placement, func(t *testing.T) {
			s := newSite(t, placement, 2)
			mac := s.router(s.n).PublicMAC
			state := func(host int, state cloud.ResourceState) {
				s.setHost(s.hosts[host], func(h *cloud.Host) { h.ResourceState = state })
			}
			state(0, cloud.HostPrepareForMaintenance)
			state(1, cloud.HostDisabled) // nobody can take it: it stays, and nothing is written again and again
			before := s.read().Index()
			s.tend()
			s.tend()
			if s.read().Index() != before || s.status() != "h1 "+placement+"; plugged in h1" {
				t.Fatalf("with nowhere to go: %s after %d commits", s.status(), s.read().Index()-before)
			}
			state(1, cloud.HostEnabled)
			s.tend()
			s.tend()
			if want := fmt.Sprintf("h1 %s, h2 %s standby; plugged in h1", placement, placement); s.status() != want {
				t.Fatalf("begun: %s, want %s", s.status(), want)
			}
			for range 3 {
				s.quiesce(1)
				s.tend()
				if list := s.plugged(); len(list) > 1 {
					t.Fatalf("plugged in at once: %v", list)
				}
			}
			s.expect(s.n, "Implemented segment=5000 router=Running on h2")
			if s.router(s.n).PublicMAC != mac || tables.Routers.Count(s.read(), "host", store.K(s.hosts[0])) != 0 {
				t.Errorf("afterwards: %s", s.status())
			}
		})
	}
}
