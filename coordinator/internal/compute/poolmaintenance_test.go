package compute_test

import (
	"fmt"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A pool with many VMs is left, and returned to, in transactions of a bounded size.
func TestManyVMsLeavePool(t *testing.T) {
	w := newWorld(t, 1)
	w.share(t, false)
	const many = 250
	pool := id(60)
	each := func(f func(vm *cloud.VM)) {
		w.update(t, func(tx *store.Tx) error {
			for i := range many {
				id := cloud.NameID("many", fmt.Sprint(i))
				vm, ok := tables.VMs.Get(tx, id)
				if !ok {
					vm = &cloud.VM{
						ID: id, Name: fmt.Sprint("vm", i), InstanceName: fmt.Sprintf("i-2-%d-VM", i), Number: uint64(1000 + i),
						AccountID: w.dep.Account.ID, DomainID: w.dep.Account.DomainID, ZoneID: w.dep.Zone.ID,
					}
					for n := range 2 { // VMs with two volumes there are met once
						put(t, tables.Volumes.Put(tx, &cloud.Volume{
							ID: cloud.NameID("many", fmt.Sprint(i, n)), VMID: id, DeviceID: uint32(n), PoolID: pool, State: cloud.VolumeReady, Name: fmt.Sprint("v", i, n),
						}))
					}
				}
				f(vm)
				put(t, tables.VMs.Put(tx, vm))
			}
			return nil
		})
	}
	count := func(s cloud.VMState) (n int) {
		return tables.VMs.Count(w.r.DB().Current(), "state", store.K(s))
	}
	each(func(vm *cloud.VM) { vm.State, vm.HostID = cloud.VMRunning, w.hosts[0].ID })
	for step, want := range []struct {
		stopping int
		more     bool
	}{{100, true}, {200, true}, {250, false}, {250, false}} {
		var left storage.Occupants
		w.update(t, func(tx *store.Tx) (err error) {
			p, _ := tables.StoragePools.Get(tx, pool)
			left, err = w.area.LeavePool(tx, p)
			return err
		})
		if count(cloud.VMStopping) != want.stopping || left.More != want.more || left.Count != want.stopping || len(left.On) != 100 || len(left.Why) != 5 {
			t.Errorf("step %d: %d VMs are stopping, left: %d, more: %v, %d to wait for, %d named", step, count(cloud.VMStopping), left.Count, left.More, len(left.On), len(left.Why))
		}
	}
	each(func(vm *cloud.VM) { vm.State, vm.HostID = cloud.VMStopped, cloud.ID{} })
	var begun []compute.Return
	for step, want := range []struct {
		begun int
		more  bool
	}{{100, true}, {200, true}, {250, false}, {250, false}} {
		more := false
		w.update(t, func(tx *store.Tx) error {
			p, _ := tables.StoragePools.Get(tx, pool)
			fresh, _, m, err := w.area.BeginReturns(tx, p, begun)
			begun, more = append(begun, fresh...), m
			return err
		})
		if jobs := tables.Jobs.Len(w.r.DB().Current()); len(begun) != want.begun || jobs != want.begun || more != want.more {
			t.Errorf("step %d: %d begun, %d jobs, more: %v", step, len(begun), jobs, more)
		}
	}
}
