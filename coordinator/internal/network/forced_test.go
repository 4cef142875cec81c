package network_test

import (
	"encoding/json"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Forced, a system VM has no grace, for that one stop or reboot only.
func TestForced(t *testing.T) {
	w := newVMWorld(t, 1)
	n, _ := w.running(0)
	grace := func(what string, want uint32) {
		t.Helper()
		if got := w.renderSystem(w.hosts[0]).GetSystemVms()[0].GetStopGraceSeconds(); got != want {
			t.Errorf("%s: a grace of %d s, want %d", what, got, want)
		}
	}
	reboot := func(forced bool) error {
		return w.update(func(tx *store.Tx) error { return w.area.RebootRouter(tx, w.router(n.ID), forced) })
	}
	stop := func(forced bool) {
		t.Helper()
		w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), forced) })
	}
	if err := reboot(false); err != nil {
		t.Fatal(err)
	}
	grace("rebooted", 20)
	if err := reboot(false); cloud.CodeOf(err) != cloud.Unavailable {
		t.Errorf("rebooted while it reboots: %v", err)
	}
	if err := reboot(true); err != nil { // the way out of a reboot that does not end
		t.Fatal(err)
	}
	grace("rebooted by force", 0)
	w.foldVM(w.router(n.ID), func(o *hostspec.SystemVMObservation) { o.Vm.BootEpoch-- })
	grace("not there yet", 0)
	w.settle()
	grace("there", 20)
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	stop(false)
	grace("stopped", 20)
	stop(true)
	grace("stopped by force", 0)
	stop(false)
	grace("still stopped by force", 0)
	w.settle()
	w.do(func(tx *store.Tx) error { return w.area.StartRouter(tx, w.router(n.ID)) })
	grace("started", 20)
}

// A namespace has no power to lose: forced, another one takes its place.
func TestForcedRebootOfANamespace(t *testing.T) {
	w := newWorld(t, 1)
	n, _ := w.running(0)
	for _, forced := range []bool{false, true} {
		before := w.network(n.ID)
		w.do(func(tx *store.Tx) error { return w.area.RebootRouter(tx, w.router(n.ID), forced) })
		after := w.network(n.ID)
		if renewed, restarted := after.Incarnation > before.Incarnation, after.Restarts > before.Restarts; renewed != forced || restarted == forced {
			t.Errorf("forced %t: renewed %t, restarted %t", forced, renewed, restarted)
		}
		if over, _ := w.tryStepOf(w.router(n.ID), w.area.RebootRouterStep); over {
			t.Errorf("forced %t: over before the host said so", forced)
		}
		w.settle()
		if over, why := w.tryStepOf(w.router(n.ID), w.area.RebootRouterStep); !over || why != "" {
			t.Errorf("forced %t: %v %s", forced, over, why)
		}
		w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	}
}

// tryStepOf is tryStep for a job about a router.
func (w *world) tryStepOf(rt *cloud.Router, f func(*store.Tx, *job.State) (job.Outcome, error)) (over bool, why string) {
	w.t.Helper()
	args, err := json.Marshal(network.ArgsOf(rt))
	if err != nil {
		w.t.Fatal(err)
	}
	var out job.Outcome
	w.do(func(tx *store.Tx) (err error) {
		out, err = f(tx, &job.State{Job: &cloud.Job{InstanceID: rt.ID, Args: string(args)}})
		return err
	})
	over, err = out.Final()
	if err != nil {
		why = err.Error()
	}
	return over, why
}
