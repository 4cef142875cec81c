package compute

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Fold takes one host's observation into the rows of its VMs and volumes. Rows are written only where something
// changed; figures that change all the time are not kept in rows.
func (a *Area) Fold(tx *store.Tx, host cloud.ID, o *hostspec.HostObservation) error {
	for _, v := range o.GetVolumes() {
		if err := a.foldVolume(tx, host, v); err != nil {
			return err
		}
	}
	for _, obs := range o.GetVms() {
		id, err := cloud.ParseID(obs.GetId())
		if err != nil {
			continue
		}
		vm, ok := tables.VMs.Get(tx, id)
		if !ok || vm.HostID != host {
			continue // a leftover, which the agent removes as it is in no spec
		}
		if err := a.foldVM(tx, vm, obs); err != nil {
			return fmt.Errorf("fold VM %s: %w", vm.ID, err)
		}
	}
	return nil
}

func (a *Area) foldVM(tx *store.Tx, vm *cloud.VM, o *hostspec.VirtualMachineObservation) error {
	switch vm.State {
	case cloud.VMStarting:
		return a.foldStarting(tx, vm, o)
	case cloud.VMStopping:
		if o.GetState() == hostspec.VmState_VM_STATE_STOPPED {
			return a.stopped(tx, vm)
		}
		return nil
	case cloud.VMRunning:
		return a.foldRunning(tx, vm, o)
	}
	return nil
}

func (a *Area) foldStarting(tx *store.Tx, vm *cloud.VM, o *hostspec.VirtualMachineObservation) error {
	state := o.GetState()
	if vm.Evicting {
		if state != hostspec.VmState_VM_STATE_STOPPED {
			return nil
		}
		vm.Avoid = append(vm.Avoid, vm.HostID)
		vm.Evicting = false
		if err := a.unplace(tx, vm); err != nil {
			return err
		}
		if err := a.renewUnmade(tx, vm); err != nil {
			return err
		}
		return tables.VMs.Put(tx, vm)
	}
	switch {
	case state == hostspec.VmState_VM_STATE_RUNNING && o.GetStartEpoch() >= vm.StartEpoch:
		vm.State, vm.Deployed, vm.Error, vm.Avoid = cloud.VMRunning, true, "", nil
		vm.ObservedStart, vm.VNCPort = o.GetStartEpoch(), o.GetVncPort()
		vm.ObservedBoot = max(vm.ObservedBoot, o.GetBootEpoch())
		return tables.VMs.Put(tx, vm)
	case state == hostspec.VmState_VM_STATE_FAILED && (o.GetStartEpoch() == 0 || o.GetStartEpoch() >= vm.StartEpoch):
		vm.Evicting, vm.Error = true, o.GetError()
		return tables.VMs.Put(tx, vm)
	}
	return nil
}

func (a *Area) foldRunning(tx *store.Tx, vm *cloud.VM, o *hostspec.VirtualMachineObservation) error {
	switch o.GetState() {
	case hostspec.VmState_VM_STATE_RUNNING:
		if o.GetBootEpoch() <= vm.ObservedBoot && o.GetVncPort() == vm.VNCPort {
			return nil
		}
		vm.ObservedBoot, vm.VNCPort = max(vm.ObservedBoot, o.GetBootEpoch()), o.GetVncPort()
		return tables.VMs.Put(tx, vm)
	case hostspec.VmState_VM_STATE_STOPPED:
		if o.GetStartEpoch() < vm.ObservedStart {
			return nil
		}
		text, level := "the guest shut itself down", cloud.EventInfo
		if o.GetStopCause() == hostspec.StopCause_STOP_CAUSE_CRASHED {
			text, level = "its domain died by itself", cloud.EventWarn
		}
		if err := a.stopped(tx, vm); err != nil {
			return err
		}
		err := a.Event(tx, &cloud.Event{
			Type: "VM.STOP", Level: level, State: cloud.EventCompleted, AccountID: vm.AccountID, DomainID: vm.DomainID,
			ResourceID: vm.ID, Description: fmt.Sprintf("VM %s (%s) stopped: %s", vm.DisplayName, vm.InstanceName, text),
		})
		if err != nil || !vm.HA || o.GetStopCause() != hostspec.StopCause_STOP_CAUSE_CRASHED {
			return err
		}
		return submitHA(tx, vm, text)
	}
	return nil
}

// stopped takes a VM off its host, as the host has reported it stopped.
func (a *Area) stopped(tx *store.Tx, vm *cloud.VM) error {
	if err := a.unplace(tx, vm); err != nil {
		return err
	}
	vm.State, vm.ForcedStop, vm.WantedHostID, vm.Evicting, vm.VNCPort = cloud.VMStopped, false, cloud.ID{}, false, 0
	if !vm.Destroyed.IsZero() {
		return a.giveUp(tx, vm)
	}
	return a.rest(tx, vm)
}

// allocatedStep is how far a volume's allocated size may drift before its row is written again: figures that change with
// every write of a guest must not become log entries.
const allocatedStep = 64 << 20

// told tells whether a host is told of a volume, and so believed about it: the host it lives on, or, on a shared pool,
// the one that runs its VM or tidies the pool up.
func told(r store.Reader, v *cloud.Volume, host cloud.ID) bool {
	if !v.HostID.IsZero() {
		return v.HostID == host
	}
	if vm, ok := tables.VMs.Get(r, v.VMID); ok && vm.HostID == host {
		return true
	}
	pool, ok := tables.StoragePools.Get(r, v.PoolID)
	return ok && steward(r, pool) == host
}

func (a *Area) foldVolume(tx *store.Tx, host cloud.ID, o *hostspec.ObjectObservation) error {
	id, parseErr := cloud.ParseID(o.GetId())
	v, ok := tables.Volumes.Get(tx, id)
	if parseErr != nil || !ok || !told(tx, v, host) {
		return nil
	}
	switch {
	case v.State == cloud.VolumeExpunging && o.GetGone():
		return a.DropVolume(tx, v)
	case v.State == cloud.VolumeCreating && o.GetReady():
		v.State, v.AllocatedBytes = cloud.VolumeReady, o.GetBytes()
		return tables.Volumes.Put(tx, v)
	case v.State == cloud.VolumeReady && (o.GetBytes() > v.AllocatedBytes+allocatedStep || o.GetBytes()+allocatedStep < v.AllocatedBytes):
		v.AllocatedBytes = o.GetBytes()
		return tables.Volumes.Put(tx, v)
	}
	return nil
}
