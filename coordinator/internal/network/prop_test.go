package network_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Whatever is asked in whatever order, with hosts that answer late, die and come back: what is allocated is counted,
// nothing is allocated twice, and when all is given back nothing is left.
func TestWhatIsAllocatedIsReleased(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newVMWorld(t, 2)
		m := &machine{w: w, images: 1}
		rt.Repeat(map[string]func(*rapid.T){
			"network":      m.network,
			"delete":       m.deleteNetwork,
			"deploy":       m.deploy,
			"start":        m.start,
			"stop":         m.stop,
			"expunge":      m.expunge,
			"associate":    m.associate,
			"disassociate": m.disassociate,
			"open":         m.open,
			"forward":      m.forward,
			"close":        m.close,
			"restart":      m.restart,
			"router":       m.router,
			"placement":    m.placement,
			"observe":      func(rt *rapid.T) { w.observe(rapid.SampledFrom(w.hosts).Draw(rt, "host")) },
			"host":         m.host,
			"time": func(rt *rapid.T) {
				w.clock.advance(time.Duration(rapid.IntRange(1, 700).Draw(rt, "seconds")) * time.Second)
				w.tend()
			},
			"": func(rt *rapid.T) {
				if err := w.check(); err != nil {
					rt.Fatal(err)
				}
			},
		})
		m.end(rt)
	})
}

// machine draws operations on a world.
type machine struct {
	w      *world
	images byte
}

// allowed has an operation succeed or be refused in an orderly way.
func (m *machine) allowed(rt *rapid.T, f func(tx *store.Tx) error) {
	err := m.w.update(f)
	var refusal *cloud.Error
	if err != nil && (!errors.As(err, &refusal) || refusal.Code == cloud.Internal) {
		rt.Fatalf("not a refusal: %v", err)
	}
}

// pick draws a row, or skips the operation where there is none.
func pick[R any](rt *rapid.T, r store.Reader, t *store.Table[R]) *R {
	var all []*R
	for row := range t.All(r) {
		all = append(all, row)
	}
	if len(all) == 0 {
		rt.Skip("none")
	}
	return rapid.SampledFrom(all).Draw(rt, t.Name())
}

func (m *machine) network(rt *rapid.T) {
	m.allowed(rt, func(tx *store.Tx) error {
		_, err := m.w.area.CreateGuest(tx, m.w.request("n"))
		return err
	})
}

func (m *machine) deleteNetwork(rt *rapid.T) {
	n := pick(rt, m.w.read(), tables.Networks)
	m.allowed(rt, func(tx *store.Tx) error { return m.w.area.Delete(tx, n) })
}

func (m *machine) deploy(rt *rapid.T) {
	n := pick(rt, m.w.read(), tables.Networks)
	m.allowed(rt, func(tx *store.Tx) error { _, err := m.w.putVM(tx, n); return err })
}

func (m *machine) start(rt *rapid.T) {
	vm := pick(rt, m.w.read(), tables.VMs)
	if !vm.HostID.IsZero() {
		return
	}
	vm.HostID = rapid.SampledFrom(m.w.hosts).Draw(rt, "host")
	m.allowed(rt, func(tx *store.Tx) error {
		vm.State = cloud.VMRunning
		if err := m.w.area.Prepare(tx, vm); err != nil {
			return err
		}
		return tables.VMs.Put(tx, vm)
	})
}

func (m *machine) stop(rt *rapid.T) {
	if vm := pick(rt, m.w.read(), tables.VMs); !vm.HostID.IsZero() {
		m.w.stop(vm)
	}
}

func (m *machine) expunge(rt *rapid.T) {
	if vm := pick(rt, m.w.read(), tables.VMs); vm.HostID.IsZero() {
		m.w.expunge(vm)
	}
}

func (m *machine) associate(rt *rapid.T) {
	n := pick(rt, m.w.read(), tables.Networks)
	m.allowed(rt, func(tx *store.Tx) error { _, err := m.w.area.Associate(tx, n, netip.Addr{}); return err })
}

func (m *machine) disassociate(rt *rapid.T) {
	ip := pick(rt, m.w.read(), tables.PublicIPs)
	m.allowed(rt, func(tx *store.Tx) error { return m.w.area.Disassociate(tx, ip) })
}

func (m *machine) open(rt *rapid.T) {
	ip := pick(rt, m.w.read(), tables.PublicIPs)
	port := rapid.IntRange(1, 4).Draw(rt, "port")
	m.allowed(rt, func(tx *store.Tx) error {
		_, err := m.w.area.OpenFirewall(tx, ip, network.FirewallRequest{Protocol: "tcp", Start: &port})
		return err
	})
}

func (m *machine) forward(rt *rapid.T) {
	ip, vm := pick(rt, m.w.read(), tables.PublicIPs), pick(rt, m.w.read(), tables.VMs)
	port, open := rapid.IntRange(1, 4).Draw(rt, "port"), rapid.Bool().Draw(rt, "open")
	m.allowed(rt, func(tx *store.Tx) error {
		_, err := m.w.area.Forward(tx, ip, network.ForwardRequest{Protocol: "tcp", PublicStart: &port, PrivateStart: &port, VM: vm, Open: open})
		return err
	})
}

func (m *machine) close(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "firewall") {
		f := pick(rt, m.w.read(), tables.FirewallRules)
		m.allowed(rt, func(tx *store.Tx) error { return m.w.area.CloseFirewall(tx, f) })
		return
	}
	p := pick(rt, m.w.read(), tables.PortForwardingRules)
	m.allowed(rt, func(tx *store.Tx) error { return m.w.area.Unforward(tx, p) })
}

func (m *machine) restart(rt *rapid.T) {
	n := pick(rt, m.w.read(), tables.Networks)
	cleanup := rapid.Bool().Draw(rt, "cleanup")
	m.allowed(rt, func(tx *store.Tx) error { return m.w.area.Restart(tx, n, cleanup) })
}

// router does to a router what the API can.
func (m *machine) router(rt *rapid.T) {
	row := pick(rt, m.w.read(), tables.Routers)
	a := m.w.area
	do := rapid.SampledFrom([]func(*store.Tx, *cloud.Router) error{
		a.StartRouter, a.DestroyRouter,
		func(tx *store.Tx, r *cloud.Router) error { return a.RebootRouter(tx, r, false) },
		func(tx *store.Tx, r *cloud.Router) error { return a.RebootRouter(tx, r, true) },
		func(tx *store.Tx, r *cloud.Router) error { return a.StopRouter(tx, r, false) },
		func(tx *store.Tx, r *cloud.Router) error { return a.StopRouter(tx, r, true) },
		func(tx *store.Tx, r *cloud.Router) error { // the job of a restart, late
			_, err := a.RestartStep(tx, &job.State{Job: &cloud.Job{InstanceID: r.NetworkID}, Expired: true})
			return err
		},
	}).Draw(rt, "do")
	m.allowed(rt, func(tx *store.Tx) error { return do(tx, row) })
}

// placement changes where routers run from now on, or what they boot.
func (m *machine) placement(rt *rapid.T) {
	switch to := rapid.SampledFrom([]string{"host", "vm", "image"}).Draw(rt, "placement"); {
	case to != "image":
		m.w.set("router.placement", to)
	case m.images < 3:
		m.images++
		m.w.image(m.images)
	}
}

func (m *machine) host(rt *rapid.T) {
	status := rapid.SampledFrom([]cloud.HostStatus{cloud.HostUp, cloud.HostDisconnected, cloud.HostDown}).Draw(rt, "status")
	m.w.setHost(rapid.SampledFrom(m.w.hosts).Draw(rt, "host"), func(h *cloud.Host) { h.Status = status })
}

// end gives everything back and counts what is left.
func (m *machine) end(rt *rapid.T) {
	w := m.w
	for _, h := range w.hosts {
		w.setHost(h, func(h *cloud.Host) { h.Status = cloud.HostUp })
	}
	w.set("router.placement", "host")
	for vm := range tables.VMs.All(w.read()) {
		if !vm.HostID.IsZero() {
			w.stop(vm)
		}
		w.expunge(vm)
	}
	for n := range tables.Networks.All(w.read()) {
		w.do(func(tx *store.Tx) error { n, _ := tables.Networks.Get(tx, n.ID); return w.area.Delete(tx, n) })
	}
	w.clock.advance(time.Minute)
	w.settle()
	w.tend()
	r := w.read()
	left := map[string]int{
		"networks": tables.Networks.Len(r), "routers": tables.Routers.Len(r), "NICs": tables.NICs.Len(r),
		"firewall rules": tables.FirewallRules.Len(r), "forwarding rules": tables.PortForwardingRules.Len(r),
		"capacities": w.taken(),
		"addresses":  tables.PublicIPs.Len(r) - tables.PublicIPs.Count(r, "free", nil),
	}
	for what, n := range left {
		if n != 0 {
			rt.Errorf("%d %s are left", n, what)
		}
	}
	if err := w.check(); err != nil {
		rt.Error(err)
	}
}

// taken is how many VMs the hosts' counters speak of.
func (w *world) taken() (n int) {
	for c := range tables.HostCapacities.All(w.read()) {
		n += int(c.VMs)
		n += int(c.MemoryMiB)
	}
	return n
}
