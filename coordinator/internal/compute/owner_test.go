package compute_test

import (
	"context"
	"slices"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func (w *world) own(t testing.TB, s cloud.Lifecycle) {
	t.Helper()
	w.update(t, func(tx *store.Tx) error {
		return tables.Accounts.Edit(tx, w.dep.Account.ID, func(a *cloud.Account) error {
			a.State = s
			return nil
		})
	})
}

// try gives the error of one transaction.
func (w *world) try(vm cloud.ID, f func(tx *store.Tx, vm *cloud.VM) error) error {
	return w.r.Update(context.Background(), func(tx *store.Tx) error {
		v, _ := tables.VMs.Get(tx, vm)
		return f(tx, v)
	})
}

// Nothing of a disabled account is deployed, started, rebooted or restarted after the loss of its host; what a locked one
// has may start.
func TestVMsOfShutAccounts(t *testing.T) {
	for _, x := range []struct {
		name    string
		state   cloud.Lifecycle
		refused bool
	}{{"enabled", cloud.Enabled, false}, {"locked", cloud.Locked, false}, {"disabled", cloud.Disabled, true}} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.share(t, true)
			vm := w.running(t)
			judge := func(what string, err error) {
				t.Helper()
				if code := cloud.CodeOf(err); err != nil != x.refused || x.refused && code != cloud.Denied {
					t.Errorf("%s: %v", what, err)
				}
			}
			w.own(t, x.state)
			_, err := w.deploy(t)
			judge("deploy", err)
			judge("reboot", w.try(vm.ID, w.area.Reboot))
			// Its host dies.
			w.status(t, vm.HostID, cloud.HostAlert)
			if err := w.declare(vm.HostID); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(w.haJobs(), vm.ID) {
				t.Fatal("the VM is not to be started again")
			}
			out := w.step(t, vm.ID, w.area.HAStep, "")
			w.settle(t)
			want := cloud.VMRunning
			if x.refused {
				want = cloud.VMStopped
				if over, err := out.Final(); !over || cloud.CodeOf(err) != cloud.Denied {
					t.Errorf("the restart goes on: %v %v", over, err)
				}
			}
			if v := mustVM(t, w.r.DB().Current(), vm.ID); v.State != want {
				t.Errorf("after the loss of its host the VM is %s", v.State)
			}
			// By hand.
			w.update(t, func(tx *store.Tx) error {
				v, _ := tables.VMs.Get(tx, vm.ID)
				return w.area.Stop(tx, v, true)
			})
			w.settle(t)
			judge("start", w.try(vm.ID, func(tx *store.Tx, v *cloud.VM) error { return w.area.Start(tx, v, cloud.ID{}) }))
		})
	}
}
