package network_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// leaving is the maintenance of the pool of a host.
type leaving struct {
	*world
	pool  cloud.ID
	tried []cloud.ID
}

// setPool puts the pool of the n-th host into a state.
func (w *world) setPool(n int, s cloud.PoolState) *leaving {
	w.t.Helper()
	pool := id(8, byte(n+1))
	w.do(func(tx *store.Tx) error {
		return tables.StoragePools.Edit(tx, pool, func(p *cloud.StoragePool) error { p.State = s; return nil })
	})
	return &leaving{world: w, pool: pool}
}

// leave is a step of the maintenance.
func (l *leaving) leave() (left storage.Occupants) {
	l.t.Helper()
	l.do(func(tx *store.Tx) (err error) {
		p, _ := tables.StoragePools.Get(tx, l.pool)
		left, l.tried, err = l.area.LeavePool(tx, p, l.tried)
		return err
	})
	return left
}

// back ends the maintenance.
func (l *leaving) back() (started, waitFor []cloud.ID, trouble []string) {
	l.t.Helper()
	l.do(func(tx *store.Tx) (err error) {
		p, _ := tables.StoragePools.Get(tx, l.pool)
		started, waitFor, trouble, err = l.area.ReturnToPool(tx, p)
		return err
	})
	return started, waitFor, trouble
}

// told tells whether an event has a text.
func (w *world) told(text string) bool { return strings.Contains(strings.Join(w.events, "\n"), text) }

func TestRouterLeavesPool(t *testing.T) {
	w := newVMWorld(t, 2)
	n, _ := w.running(0)
	old := w.router(n.ID)
	l := w.setPool(0, cloud.PoolPrepareForMaintenance)
	left := l.leave()
	if left.Count != 1 || left.Silent != 0 || left.Why[0] != "router r-1-VM is Running, and its host h1, which is Up, has not reported it gone" {
		t.Fatalf("left: %+v", left)
	}
	fresh := w.standby(n.ID)
	if fresh.PoolID != id(8, 2) || left.On[0] != old.ID || left.On[2] != fresh.ID {
		t.Errorf("its successor: %+v, awaited: %v", fresh, left.On)
	}
	if left = l.leave(); left.Count != 1 || w.standby(n.ID).ID != fresh.ID {
		t.Errorf("a second step: %+v", left)
	}
	for range 3 {
		w.settle()
	}
	if left = l.leave(); left.Count != 0 {
		t.Errorf("left: %+v", left)
	}
	if rt := w.router(n.ID); rt.ID != fresh.ID || rt.State != cloud.VMRunning || !rt.StoppedFor.IsZero() {
		t.Errorf("the router: %+v", rt)
	}
	w.setPool(0, cloud.PoolUp)
	if started, waitFor, trouble := l.back(); len(started)+len(waitFor)+len(trouble) != 0 {
		t.Errorf("after maintenance: %v %v %v", started, waitFor, trouble)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

// stopped is a router that no other pool takes.
func stopped(t *testing.T) (*leaving, *cloud.Network, *cloud.VM) {
	t.Helper()
	w := newVMWorld(t, 2)
	n, vm := w.running(0)
	w.setPool(1, cloud.PoolDown)
	l := w.setPool(0, cloud.PoolPrepareForMaintenance)
	if left := l.leave(); left.Count != 1 || !strings.HasPrefix(left.Why[0], "router r-1-VM is Stopping") {
		t.Fatalf("left: %+v", left)
	}
	if !w.told("ROUTER.STOP Stopping router r-1-VM of network net: its storage pool p1 goes into maintenance, and no other one takes it: No host can take") {
		t.Errorf("events: %q", w.events)
	}
	if _, waitFor, _ := l.back(); len(waitFor) != 1 {
		t.Errorf("a router that is still stopping is not waited for: %v", waitFor)
	}
	w.settle()
	if left, rt := l.leave(), w.router(n.ID); left.Count != 0 || rt.State != cloud.VMStopped || rt.StoppedFor != l.pool {
		t.Fatalf("left: %+v, router: %+v", left, rt)
	}
	w.setPool(0, cloud.PoolUp)
	return l, n, vm
}

func TestRouterWithoutAnotherPoolIsStopped(t *testing.T) {
	t.Run("and returns", func(t *testing.T) {
		w, n, _ := stopped(t)
		started, waitFor, trouble := w.back()
		if len(started) != 1 || len(waitFor)+len(trouble) != 0 {
			t.Fatalf("%v %v %v", started, waitFor, trouble)
		}
		if over, why := network.Returned(w.read(), started[0]); over || !strings.HasPrefix(why, "The start of router r-1-VM was not confirmed in time by router r-1-VM of network net on host h1") {
			t.Errorf("%v %q", over, why)
		}
		w.settle()
		if over, why := network.Returned(w.read(), started[0]); !over || why != "" {
			t.Errorf("%v %q", over, why)
		}
		if rt := w.router(n.ID); rt.State != cloud.VMRunning || !rt.StoppedFor.IsZero() {
			t.Errorf("%+v", rt)
		}
	})
	nothing := func(t *testing.T, w *leaving, n *cloud.Network, state cloud.RouterState) {
		t.Helper()
		if started, waitFor, trouble := w.back(); len(started)+len(waitFor)+len(trouble) != 0 {
			t.Errorf("%v %v %v", started, waitFor, trouble)
		}
		if rt := w.router(n.ID); rt.State != state || !rt.StoppedFor.IsZero() {
			t.Errorf("%+v", rt)
		}
	}
	t.Run("an administrator stops it", func(t *testing.T) {
		w, n, _ := stopped(t)
		w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), false) })
		nothing(t, w, n, cloud.VMStopped)
	})
	t.Run("an administrator starts it", func(t *testing.T) {
		w, n, _ := stopped(t)
		w.do(func(tx *store.Tx) error { return w.area.StartRouter(tx, w.router(n.ID)) })
		if rt := w.router(n.ID); !rt.StoppedFor.IsZero() {
			t.Errorf("%+v", rt)
		}
		nothing(t, w, n, cloud.VMStarting)
	})
	t.Run("its network ends", func(t *testing.T) {
		w, n, vm := stopped(t)
		w.stop(vm)
		w.clock.advance(24 * time.Hour)
		w.tend()
		w.settle()
		w.tend()
		w.expect(n.ID, "Allocated segment=0 router=Stopped on nowhere")
		nothing(t, w, n, cloud.VMStopped)
	})
	t.Run("there is no room for it", func(t *testing.T) {
		w, n, _ := stopped(t)
		w.setHost(w.hosts[0], func(h *cloud.Host) { h.MemoryMiB = 100 })
		started, _, trouble := w.back()
		if len(started) != 0 || len(trouble) != 1 || !strings.HasPrefix(trouble[0], "router r-1-VM: No host can take the router of network net") {
			t.Errorf("%v %q", started, trouble)
		}
		if rt := w.router(n.ID); rt.State != cloud.VMStopped || !rt.StoppedFor.IsZero() {
			t.Errorf("%+v", rt)
		}
	})
}

// A successor that does not become ready is no reason to keep the pool in use.
func TestRouterWhoseReplacementFailsIsStopped(t *testing.T) {
	w := newVMWorld(t, 2)
	w.set("router.replace.wait", "60")
	n, _ := w.running(0)
	l := w.setPool(0, cloud.PoolPrepareForMaintenance)
	l.leave()
	w.clock.advance(61 * time.Second)
	w.tend()
	if left := l.leave(); left.Count != 1 || w.router(n.ID).State != cloud.VMStopping {
		t.Errorf("left: %+v, router: %+v", left, w.router(n.ID))
	}
	if !w.told("and no other one takes it: router r-2-VM on host h2, which is Up, did not become ready") {
		t.Errorf("events: %q", w.events)
	}
	w.settle()
	if left, rt := l.leave(), w.router(n.ID); left.Count != 0 || rt.StoppedFor != l.pool || rt.State != cloud.VMStopped {
		t.Errorf("left: %+v, router: %+v", left, rt)
	}
}

// A successor on the pool is given up, and the router that it was to replace goes on.
func TestSuccessorLeavesPool(t *testing.T) {
	w := newVMWorld(t, 2)
	n, _ := w.running(0)
	w.do(func(tx *store.Tx) error { return w.area.MoveRouter(tx, w.router(n.ID), w.hosts[1]) })
	s := w.standby(n.ID)
	l := w.setPool(1, cloud.PoolPrepareForMaintenance)
	if left := l.leave(); left.Count != 0 {
		t.Errorf("left: %+v", left)
	}
	if got, ok := tables.Routers.Get(w.read(), s.ID); !ok || got.State != cloud.VMError || got.Error != "router r-2-VM on host h2, which is Up, did not become ready: its storage pool p2 goes into maintenance" {
		t.Errorf("the successor: %+v", got)
	}
	if rt := w.router(n.ID); rt.State != cloud.VMRunning || rt.PoolID != id(8, 1) {
		t.Errorf("the router: %+v", rt)
	}
}

// A router on a host that is not heard from cannot be told to go.
func TestSilentRouterStaysOnPool(t *testing.T) {
	w := newVMWorld(t, 1)
	w.running(0)
	l := w.setPool(0, cloud.PoolPrepareForMaintenance)
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostAlert })
	if left := l.leave(); left.Count != 1 || left.Silent != 1 {
		t.Errorf("left: %+v", left)
	}
}
