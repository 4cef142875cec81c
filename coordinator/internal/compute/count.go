package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A VM counts against its account's limits of VMs, processors and memory from its deployment until it is destroyed. One
// that failed to deploy does not, and with resource.count.running.vms.only only one does that is not stopped.
// VM.Uncounted says which are left out, so that a change of the setting leaves no count behind.

// count counts a VM, or with counted false no more. The caller writes the row. Errors: cloud.LimitExceeded.
func (a *Area) count(tx *store.Tx, vm *cloud.VM, counted bool) error {
	if vm.Uncounted == !counted {
		return nil
	}
	sign := int64(-1)
	if counted {
		sign = 1
	}
	for _, n := range []struct {
		t      cloud.ResourceType
		amount int64
	}{{cloud.ResourceVM, 1}, {cloud.ResourceCPU, int64(vm.CPUs)}, {cloud.ResourceMemory, int64(vm.MemoryMiB)}} {
		if err := a.Counts.Count(tx, vm.AccountID, n.t, sign*n.amount); err != nil {
			return err
		}
	}
	vm.Uncounted = !counted
	return nil
}

// countVolume counts a volume, or with sign -1 no more.
func (a *Area) countVolume(tx *store.Tx, v *cloud.Volume, sign int64) error {
	if err := a.Counts.Count(tx, v.AccountID, cloud.ResourceVolume, sign); err != nil {
		return err
	}
	return a.Counts.Count(tx, v.AccountID, cloud.ResourcePrimaryStorage, sign*gib(v.SizeBytes))
}

// countDown takes a VM that is given up, and its volumes, out of the counts.
func (a *Area) countDown(tx *store.Tx, vm *cloud.VM) error {
	if err := a.count(tx, vm, false); err != nil {
		return err
	}
	for v := range tables.Volumes.By(tx, "vm", store.K(vm.ID)) {
		if err := a.countVolume(tx, v, -1); err != nil {
			return err
		}
	}
	return nil
}
