package network_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// routerStep runs a step of a job about a router as the engine does.
func (w *world) routerStep(rt *cloud.Router, size cloud.ID, f func(*store.Tx, *job.State) (job.Outcome, error)) (over bool, why string) {
	w.t.Helper()
	args := network.ArgsOf(rt)
	args.OfferingID = size
	var out job.Outcome
	w.do(func(tx *store.Tx) error {
		s := &job.State{Job: &cloud.Job{InstanceID: rt.ID}}
		err := s.SetArgs(args)
		if err == nil {
			out, err = f(tx, s)
		}
		return err
	})
	over, err := out.Final()
	if err != nil {
		why = err.Error()
	}
	return over, why
}

func (w *world) capacity(host int) (mhz, mib uint64) {
	w.t.Helper()
	c, _ := tables.HostCapacities.Get(w.read(), w.hosts[host])
	if c == nil {
		return 0, 0
	}
	return c.CPUMHz, c.MemoryMiB
}

// A system VM moves to a named host, and to any other: ready there before it takes over, with its addresses.
func TestMoveRouter(t *testing.T) {
	w := newVMWorld(t, 3)
	n, _ := w.running(0)
	old := w.router(n.ID)
	move := func(host cloud.ID) error {
		return w.update(func(tx *store.Tx) error { return w.area.MoveRouter(tx, w.router(n.ID), host) })
	}
	if err := move(old.HostID); cloud.CodeOf(err) != cloud.Invalid || !strings.Contains(err.Error(), "runs on the host") {
		t.Errorf("to its own host: %v", err)
	}
	if err := move(id(99, 9)); cloud.CodeOf(err) != cloud.Invalid {
		t.Errorf("to a host that is not in the zone: %v", err)
	}
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.MemoryMiB = 100 })
	if err := move(w.hosts[1]); cloud.CodeOf(err) != cloud.NoCapacity ||
		!strings.Contains(err.Error(), "host h2: 128 MiB memory are wanted and 100 of 100 MiB are free; host h3: another host was asked for") {
		t.Errorf("to a full host: %v", err)
	}
	if err := move(w.hosts[2]); err != nil {
		t.Fatal(err)
	}
	fresh := w.standby(n.ID)
	if fresh.HostID != w.hosts[2] || fresh.PublicMAC != old.PublicMAC || w.router(n.ID).ID != old.ID {
		t.Fatalf("standby: %+v", fresh)
	}
	if err := move(w.hosts[1]); cloud.CodeOf(err) != cloud.InUse {
		t.Errorf("a second move meanwhile: %v", err)
	}
	if over, _ := w.routerStep(old, cloud.ID{}, w.area.MoveRouterStep); over {
		t.Error("over before the successor is ready")
	}
	for range 3 {
		w.settle()
	}
	if over, why := w.routerStep(old, cloud.ID{}, w.area.MoveRouterStep); !over || why != "" {
		t.Fatalf("job: %v %q", over, why)
	}
	w.expect(n.ID, "Implemented segment=5000 router=Running on h3")
	if now := w.router(n.ID); now.ID != fresh.ID || tables.Routers.Len(w.read()) != 1 {
		t.Errorf("after the move: %+v", now)
	}
	if mhz, mib := w.capacity(0); mhz != 0 || mib != 0 {
		t.Errorf("the old host still counts %d MHz and %d MiB", mhz, mib)
	}
	if mhz, mib := w.capacity(2); mhz != 500 || mib != 128 {
		t.Errorf("the new host counts %d MHz and %d MiB", mhz, mib)
	}
	// Any other: h2 is full, so it is h1.
	if err := move(cloud.ID{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.settle()
	}
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	// There is no other.
	w.setHost(w.hosts[2], func(h *cloud.Host) { h.ResourceState = cloud.HostMaintenance })
	if err := move(cloud.ID{}); cloud.CodeOf(err) != cloud.NoCapacity || !strings.Contains(err.Error(), "host h1: it is to leave this host") {
		t.Errorf("nowhere to go: %v", err)
	}
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

// The host that a system VM moves to is lost: the job says so, the router of before goes on.
func TestMoveThatFails(t *testing.T) {
	w := newVMWorld(t, 2)
	n, _ := w.running(0)
	old := w.router(n.ID)
	w.do(func(tx *store.Tx) error { return w.area.MoveRouter(tx, w.router(n.ID), w.hosts[1]) })
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.Status = cloud.HostDown })
	w.tend()
	over, why := w.routerStep(old, cloud.ID{}, w.area.MoveRouterStep)
	if want := "The migration of the router failed, and the router of before goes on: router r-2-VM on host h2, which is Down, did not become ready: its host is gone"; !over || why != want {
		t.Errorf("job: %v %q", over, why)
	}
	w.observe(w.hosts[0])
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

// A namespace is no machine that could be moved or have another size.
func TestMoveOfANamespace(t *testing.T) {
	w := newVMWorld(t, 2)
	w.set("router.placement", "host")
	n, _ := w.running(0)
	if err := w.update(func(tx *store.Tx) error { return w.area.MoveRouter(tx, w.router(n.ID), w.hosts[1]) }); cloud.CodeOf(err) != cloud.Unavailable {
		t.Errorf("move: %v", err)
	}
}

func TestScaleRouter(t *testing.T) {
	w := newVMWorld(t, 1)
	n, _ := w.running(0)
	sizes := map[string]*cloud.ServiceOffering{
		"big":  {ID: id(10, 1), Name: "big", CPUs: 2, CPUMHz: 100, MemoryMiB: 256, System: true, SystemVM: "domainrouter"},
		"user": {ID: id(10, 2), Name: "user", CPUs: 2, CPUMHz: 100, MemoryMiB: 256},
		"huge": {ID: id(10, 3), Name: "huge", CPUs: 1, CPUMHz: 100, MemoryMiB: 1 << 20, System: true, SystemVM: "domainrouter"},
		"tiny": {ID: id(10, 4), Name: "tiny", CPUs: 1, CPUMHz: 100, MemoryMiB: 128, System: true, SystemVM: "domainrouter"},
	}
	w.do(func(tx *store.Tx) error {
		for _, o := range sizes {
			if err := tables.ServiceOfferings.Put(tx, o); err != nil {
				return err
			}
		}
		return nil
	})
	scale := func(name string) error {
		return w.update(func(tx *store.Tx) error { return w.area.ScaleRouter(tx, w.router(n.ID), sizes[name]) })
	}
	if err := scale("user"); cloud.CodeOf(err) != cloud.Invalid {
		t.Errorf("an offering for users: %v", err)
	}
	if err := scale("huge"); cloud.CodeOf(err) != cloud.NoCapacity {
		t.Errorf("more than the host has: %v", err)
	}
	old := w.router(n.ID)
	if err := scale("big"); err != nil {
		t.Fatal(err)
	}
	if over, _ := w.routerStep(old, sizes["big"].ID, w.area.ScaleRouterStep); over {
		t.Error("over before there is a bigger one")
	}
	for range 3 {
		w.settle()
	}
	if over, why := w.routerStep(old, sizes["big"].ID, w.area.ScaleRouterStep); !over || why != "" {
		t.Fatalf("job: %v %q", over, why)
	}
	if vms := w.renderSystem(w.hosts[0]).GetSystemVms(); len(vms) != 1 || vms[0].GetMemoryMib() != 256 || vms[0].GetVcpus() != 2 {
		t.Errorf("system VMs: %v", vms)
	}
	// Stopped: at once.
	w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), false) })
	w.settle()
	rt := w.router(n.ID)
	if over, _ := w.routerStep(rt, sizes["tiny"].ID, w.area.ScaleRouterStep); !over {
		t.Error("a stopped router of another size is waited for")
	}
	if err := scale("tiny"); err != nil {
		t.Fatal(err)
	}
	if over, why := w.routerStep(rt, sizes["tiny"].ID, w.area.ScaleRouterStep); !over || why != "" || w.router(n.ID).OfferingID != sizes["tiny"].ID {
		t.Errorf("stopped: %v %q", over, why)
	}
}

func TestResizeRouter(t *testing.T) {
	w := newVMWorld(t, 1)
	n, _ := w.running(0)
	big := &cloud.ServiceOffering{ID: id(10, 1), Name: "big", CPUs: 2, CPUMHz: 100, MemoryMiB: 256, System: true, SystemVM: "domainrouter"}
	user := &cloud.ServiceOffering{ID: id(10, 2), Name: "user", CPUs: 2, CPUMHz: 100, MemoryMiB: 256}
	w.do(func(tx *store.Tx) error {
		return errors.Join(tables.ServiceOfferings.Put(tx, big), tables.ServiceOfferings.Put(tx, user))
	})
	resize := func(o *cloud.ServiceOffering) error {
		return w.update(func(tx *store.Tx) error { return w.area.ResizeRouter(tx, w.router(n.ID), o) })
	}
	for _, o := range []*cloud.ServiceOffering{big, user} { // it runs; the offering is not for routers
		if err := resize(o); cloud.CodeOf(err) != cloud.Invalid {
			t.Errorf("%s: %v", o.Name, err)
		}
	}
	w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), false) })
	w.settle()
	if err := resize(big); err != nil {
		t.Fatal(err)
	}
	w.do(func(tx *store.Tx) error { return w.area.StartRouter(tx, w.router(n.ID)) })
	w.settle()
	if vm := w.renderSystem(w.hosts[0]).GetSystemVms()[0]; vm.GetMemoryMib() != 256 || vm.GetVcpus() != 2 {
		t.Errorf("system VM: %v", vm)
	}
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}
