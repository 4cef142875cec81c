package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RemoveVM begins to remove a VM for good, whatever it does, as its owner goes away. asked is false where that is under
// way already; the row goes when the last disk is gone.
func (a *Area) RemoveVM(tx *store.Tx, id cloud.ID) (asked bool, err error) {
	vm, ok := tables.VMs.Get(tx, id)
	switch {
	case !ok, vm.State == cloud.VMExpunging, vm.State == cloud.VMMigrating:
		return false, nil
	case vm.State == cloud.VMDestroyed:
		vm.Expunge = true
		return true, a.expunge(tx, vm)
	case vm.Expunge && !vm.Destroyed.IsZero():
		return false, nil // it is being stopped for that
	}
	return true, a.Destroy(tx, vm, true)
}

// RemoveVolume begins to remove a volume that is no VM's. asked is false where that is under way already, or comes with
// its VM.
func (a *Area) RemoveVolume(tx *store.Tx, id cloud.ID) (asked bool, err error) {
	v, ok := tables.Volumes.Get(tx, id)
	if !ok || v.State == cloud.VolumeExpunging || tables.VMs.Has(tx, v.VMID) {
		return false, nil
	}
	if v.State != cloud.VolumeDestroy {
		if err := a.Counts.Count(tx, v.AccountID, cloud.ResourceVolume, -1); err != nil {
			return false, err
		}
		if err := a.Counts.Count(tx, v.AccountID, cloud.ResourcePrimaryStorage, -gib(v.SizeBytes)); err != nil {
			return false, err
		}
	}
	_, err = a.removeVolume(tx, v)
	return true, err
}
