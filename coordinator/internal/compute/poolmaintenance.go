package compute

import (
	"fmt"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// The maintenance of a storage pool stops the VMs that have a volume there, and starts those again when it is over.
// VM.StoppedFor is its memory: it is written when a VM is asked to stop, and whoever starts, stops or destroys the VM
// otherwise clears it, so that only what nobody has decided about since is started.

// ReturnCommand is the name under which starts after the maintenance of a pool stand among the jobs.
const ReturnCommand = "restartVirtualMachineAfterMaintenance"

// returnFor is how long such a start may take.
const returnFor = 30 * time.Minute

// poolBatch bounds the VMs that one transaction asks to stop or to start for a pool.
const poolBatch = 100

// usersOf lists the VMs that have a volume on a pool, each once, in the order of the volumes.
func usersOf(r store.Reader, pool cloud.ID) []*cloud.VM {
	var vms []*cloud.VM
	seen := map[cloud.ID]bool{}
	for v := range tables.Volumes.By(r, "pool", store.K(pool)) {
		if seen[v.VMID] {
			continue
		}
		seen[v.VMID] = true
		if vm, ok := tables.VMs.Get(r, v.VMID); ok {
			vms = append(vms, vm)
		}
	}
	return vms
}

// maintained gives a volume of a VM whose pool is in maintenance, and that pool.
func maintained(r store.Reader, vm cloud.ID) (*cloud.Volume, *cloud.StoragePool, bool) {
	for _, v := range VolumesOf(r, vm) {
		if p, ok := tables.StoragePools.Get(r, v.PoolID); ok && p.State.InMaintenance() {
			return v, p, true
		}
	}
	return nil, nil, false
}

// named is what a VM is called to people.
func named(vm *cloud.VM) string { return fmt.Sprintf("%s (%s)", vm.DisplayName, vm.InstanceName) }

// LeavePool asks the VMs that use a pool which is prepared for maintenance to stop, and tells which of them have not. It
// may be called again and again.
func (a *Area) LeavePool(tx *store.Tx, pool *cloud.StoragePool) (storage.Occupants, error) {
	var left storage.Occupants
	asked := 0
	for _, vm := range usersOf(tx, pool.ID) {
		if vm.State == cloud.VMRunning || vm.State == cloud.VMStarting {
			if asked == poolBatch {
				left.More = true
				break
			}
			asked++
			if err := a.stopFor(tx, vm, pool); err != nil {
				return left, fmt.Errorf("stop VM %s for pool %s: %w", vm.ID, pool.ID, err)
			}
		}
		if vm.HostID.IsZero() {
			continue
		}
		why, silent := fmt.Sprintf("virtual machine %s is %s", named(vm), vm.State), false
		if h, ok := tables.Hosts.Get(tx, vm.HostID); ok {
			why += fmt.Sprintf(", and its host %s, which is %s, has not reported it stopped", h.Name, h.Status)
			silent = h.Status == cloud.HostAlert
		}
		left.Add(why, silent, vm.ID)
	}
	return left, nil
}

// stopFor has a VM stopped as stopVirtualMachine does, and remembers for which pool.
func (a *Area) stopFor(tx *store.Tx, vm *cloud.VM, pool *cloud.StoragePool) error {
	if err := a.Stop(tx, vm, false); err != nil {
		return err
	}
	vm.StoppedFor = pool.ID
	if err := tables.VMs.Put(tx, vm); err != nil {
		return err
	}
	return a.Event(tx, &cloud.Event{
		Type: "VM.STOP", Level: cloud.EventWarn, State: cloud.EventStarted, AccountID: vm.AccountID, DomainID: vm.DomainID, ResourceID: vm.ID,
		Description: fmt.Sprintf("Stopping VM %s: its primary storage %s goes into maintenance", named(vm), pool.Name),
	})
}

// Return is a VM that comes back after the maintenance of a pool, and the job that starts it.
type Return struct{ VM, Job cloud.ID }

// returnArgs is the state of such a job.
type returnArgs struct{ Pool cloud.ID }

// BeginReturns begins to start the VMs that the maintenance of a pool has stopped, but for those of begun, and not all in
// one transaction: more says that it is to be called again. One that needs another pool which is in maintenance stays
// stopped until that is over; stay says so of each.
func (a *Area) BeginReturns(tx *store.Tx, pool *cloud.StoragePool, begun []Return) (fresh []Return, stay []string, more bool, err error) {
	for _, vm := range usersOf(tx, pool.ID) {
		if vm.StoppedFor != pool.ID || slices.ContainsFunc(begun, func(r Return) bool { return r.VM == vm.ID }) {
			continue
		}
		if len(fresh)+len(stay) == poolBatch {
			return fresh, stay, true, nil
		}
		if v, other, ok := maintained(tx, vm.ID); ok {
			vm.StoppedFor = other.ID
			if err := tables.VMs.Put(tx, vm); err != nil {
				return nil, nil, false, err
			}
			stay = append(stay, fmt.Sprintf("%s has volume %s on primary storage %s, which is %s; it starts when that maintenance is cancelled", named(vm), v.Name, other.Name, other.State))
			continue
		}
		id, err := submitReturn(tx, vm, pool)
		if err != nil {
			return nil, nil, false, err
		}
		fresh = append(fresh, Return{vm.ID, id})
	}
	return fresh, stay, false, nil
}

// submitReturn writes the job that starts a VM again. It is nobody's call: the job is its account's.
func submitReturn(tx *store.Tx, vm *cloud.VM, pool *cloud.StoragePool) (cloud.ID, error) {
	event, err := job.WriteEvent(tx, cloud.Event{
		Type: "VM.START", State: cloud.EventScheduled, AccountID: vm.AccountID, DomainID: vm.DomainID, ResourceID: vm.ID,
		Description: fmt.Sprintf("Scheduled async job for starting VM %s again: the maintenance of primary storage %s is over", named(vm), pool.Name),
	})
	if err != nil {
		return cloud.ID{}, err
	}
	s := job.State{Job: &cloud.Job{
		ID: tx.NewID(), Command: ReturnCommand, AccountID: vm.AccountID, DomainID: vm.DomainID, InstanceType: "VirtualMachine", InstanceID: vm.ID,
		Created: tx.Now(), Deadline: tx.Now().Add(returnFor), EventID: event,
	}}
	if err := s.SetArgs(returnArgs{pool.ID}); err != nil {
		return cloud.ID{}, err
	}
	return s.Job.ID, tables.Jobs.Put(tx, s.Job)
}

// ReturnKind is the kind of these jobs, for the job engine.
func (a *Area) ReturnKind() job.Kind {
	return job.Kind{Command: ReturnCommand, Step: a.ReturnStep, Event: "VM.START", Doc: "Starts a VM again after the maintenance of its primary storage."}
}

// ReturnStep starts a VM that the maintenance of a pool has stopped, or is still stopping. A refusal fails the job and
// undoes what it wrote.
func (a *Area) ReturnStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var args returnArgs
	if err := j.Args(&args); err != nil {
		return job.Outcome{}, err
	}
	vm, ok := tables.VMs.Get(tx, j.InstanceID())
	switch {
	case !ok:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The VM was removed meanwhile")), nil
	case vm.State == cloud.VMStarting || vm.State == cloud.VMRunning:
		return a.StartStep(tx, j)
	case vm.StoppedFor != args.Pool:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s was stopped or removed by somebody else meanwhile", named(vm))), nil
	case vm.State == cloud.VMStopped:
		if err := a.Start(tx, vm, cloud.ID{}); err != nil {
			return job.Outcome{}, err
		}
		return a.StartStep(tx, j)
	case j.Expired:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "VM %s is still %s: its host has not reported it stopped", named(vm), vm.State)), nil
	}
	return job.Wait(), nil
}

// Returned tells whether the start of a VM has ended, and why it failed; "" where the VM runs. One that failed is
// forgotten: no later maintenance starts it.
func (a *Area) Returned(tx *store.Tx, pool cloud.ID, one Return) (over bool, trouble string, err error) {
	vm, exists := tables.VMs.Get(tx, one.VM)
	if exists && vm.State == cloud.VMRunning {
		return true, "", nil
	}
	j, ok := tables.Jobs.Get(tx, one.Job)
	if ok && j.Status == cloud.JobPending {
		return false, "", nil
	}
	name, why := one.VM.String(), "its job is gone"
	if ok {
		why = j.Error
	}
	if exists {
		name = named(vm)
		if vm.StoppedFor == pool {
			vm.StoppedFor = cloud.ID{}
			err = tables.VMs.Put(tx, vm)
		}
	}
	if ok && j.Status == cloud.JobSucceeded {
		return true, "", err // it ran, and has gone its ways since
	}
	return true, name + ": " + why, err
}
