package compute

import (
	"errors"
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// StartStep drives a VM in Starting until it runs and its networks are up. When no host is left to try, the job fails
// and the VM is left Stopped, or in Error when it had never run.
func (a *Area) StartStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	return a.startStep(tx, j, false)
}

// startStep is StartStep; emergency: the VM lost its host.
func (a *Area) startStep(tx *store.Tx, j *job.State, emergency bool) (job.Outcome, error) {
	vm, ok := tables.VMs.Get(tx, j.InstanceID())
	if !ok {
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s was removed while it was being started", j.InstanceID())), nil
	}
	switch vm.State {
	case cloud.VMRunning:
		return a.awaitNetworks(tx, vm, j.Expired)
	case cloud.VMStarting:
	default:
		text := fmt.Sprintf("Unable to start VM %s: it is %s", vm.ID, vm.State)
		if vm.Error != "" {
			text += ": " + vm.Error
		}
		return job.Fail(&cloud.Error{Code: cloud.Unavailable, Text: text}), nil
	}
	if j.Expired {
		return a.expireStart(tx, vm)
	}
	if !vm.HostID.IsZero() {
		return job.Wait(), nil // for the host to report it running, or to give it up after a failed start
	}
	err := a.place(tx, vm, emergency)
	if err == nil {
		err = a.Net.Prepare(tx, vm)
	}
	if err == nil {
		return job.Wait(), tables.VMs.Put(tx, vm)
	}
	var refusal *cloud.Error
	if !errors.As(err, &refusal) || refusal.Code == cloud.Internal {
		return job.Outcome{}, fmt.Errorf("start VM %s: %w", vm.ID, err)
	}
	return job.Fail(refusal), a.failStart(tx, vm, refusal.Text)
}

// awaitNetworks finishes the start of a VM that runs.
func (a *Area) awaitNetworks(tx *store.Tx, vm *cloud.VM, expired bool) (job.Outcome, error) {
	ready, on, err := a.Net.Ready(tx, vm)
	switch {
	case err != nil:
		return job.Fail(err), nil
	case ready:
		return job.Done(), nil
	case expired:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s runs, but its networks did not become ready in time", vm.ID)), nil
	}
	return job.WaitOn(on...), nil
}

// expireStart gives up a start that takes too long. A VM that may be on a host is stopped there first.
func (a *Area) expireStart(tx *store.Tx, vm *cloud.VM) (job.Outcome, error) {
	if vm.HostID.IsZero() {
		why := "no host was found in time"
		return job.Fail(cloud.Errorf(cloud.NoCapacity, "Unable to start VM %s: %s", vm.ID, why)), a.failStart(tx, vm, why)
	}
	name := vm.HostID.String()
	if h, ok := tables.Hosts.Get(tx, vm.HostID); ok {
		name = fmt.Sprintf("%s, which is %s", h.Name, h.Status)
	}
	vm.State, vm.ForcedStop = cloud.VMStopping, true
	vm.Error = fmt.Sprintf("host %s did not report it running in time", name)
	return job.Fail(cloud.Errorf(cloud.Unavailable, "Unable to start VM %s: %s", vm.ID, vm.Error)), tables.VMs.Put(tx, vm)
}

// failStart ends a start for which no host is left: what place has written in this transaction is taken back.
func (a *Area) failStart(tx *store.Tx, vm *cloud.VM, why string) error {
	if !vm.HostID.IsZero() {
		if err := a.unplace(tx, vm); err != nil {
			return err
		}
		if err := a.renewUnmade(tx, vm); err != nil {
			return err
		}
	}
	vm.Error, vm.Avoid, vm.WantedHostID = why, nil, cloud.ID{}
	if vm.Deployed {
		return a.rest(tx, vm)
	}
	vm.State = cloud.VMError
	if err := a.count(tx, vm, false); err != nil {
		return err
	}
	return tables.VMs.Put(tx, vm)
}

// renewUnmade replaces volumes that a failed start has placed but that were never reported ready: the old row stays as
// a tombstone for what may lie on that host, a fresh row takes its place with the VM.
func (a *Area) renewUnmade(tx *store.Tx, vm *cloud.VM) error {
	for _, v := range VolumesOf(tx, vm.ID) {
		if v.State != cloud.VolumeCreating {
			continue
		}
		if err := a.renewVolume(tx, v); err != nil {
			return err
		}
	}
	return nil
}

// renewVolume puts an empty volume in the place of v, whose row stays as a tombstone until its file is gone.
func (a *Area) renewVolume(tx *store.Tx, v *cloud.Volume) error {
	fresh := *v
	fresh.ID, fresh.State, fresh.PoolID, fresh.HostID, fresh.AllocatedBytes = tx.NewID(), cloud.VolumeAllocated, cloud.ID{}, cloud.ID{}, 0
	v.VMID = cloud.ID{}
	if _, err := a.removeVolume(tx, v); err != nil {
		return err
	}
	return tables.Volumes.Put(tx, &fresh)
}

// StopStep waits until a VM that was asked to stop has stopped.
func (a *Area) StopStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	vm, ok := tables.VMs.Get(tx, j.InstanceID())
	if !ok {
		return job.Done(), nil
	}
	switch vm.State {
	case cloud.VMStopping:
		if j.Expired {
			return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s is still Stopping: its host has not reported it stopped", vm.ID)), nil
		}
		return job.Wait(), nil
	case cloud.VMRunning, cloud.VMStarting:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s was started again while it was being stopped", vm.ID)), nil
	}
	return job.Done(), nil
}

// RebootArgs is the state of a reboot's job.
type RebootArgs struct {
	Epoch uint64
}

// RebootStep waits until the host has reported the VM running in its new boot.
func (a *Area) RebootStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var args RebootArgs
	if err := j.Args(&args); err != nil {
		return job.Outcome{}, err
	}
	vm, ok := tables.VMs.Get(tx, j.InstanceID())
	switch {
	case !ok || vm.State != cloud.VMRunning:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s stopped while it was being rebooted", j.InstanceID())), nil
	case vm.ObservedBoot >= args.Epoch:
		return job.Done(), nil
	case j.Expired:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s: its host has not reported the reboot in time", vm.ID)), nil
	}
	return job.Wait(), nil
}

// DestroyStep drives a VM that is to be destroyed to Destroyed, or, with expunge, until it is gone.
func (a *Area) DestroyStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	vm, ok := tables.VMs.Get(tx, j.InstanceID())
	if !ok || vm.State == cloud.VMDestroyed {
		return job.Done(), nil
	}
	switch vm.State {
	case cloud.VMExpunging, cloud.VMStopping:
		if j.Expired {
			return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s is still %s: its host has not reported", vm.ID, vm.State)), nil
		}
		return job.Wait(), nil
	}
	return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s became %s while it was being destroyed", vm.ID, vm.State)), nil
}
