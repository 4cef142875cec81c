package compute

import (
	"fmt"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// HACommand is the name under which restarts of highly available VMs stand among the jobs.
const HACommand = "restartHAVirtualMachine"

// haFor is how long a restart is tried again.
const haFor = 24 * time.Hour

var restartRetry = settings.Define(settings.Def{
	Name: "restart.retry.interval", Category: "Advanced", Type: settings.Seconds, Default: "600", Min: 1, Max: 86400,
	Doc: "Seconds until a highly available VM that could not be started elsewhere is tried again.",
})

// HAKind is the kind of these jobs, for the job engine.
func (a *Area) HAKind() job.Kind {
	return job.Kind{Command: HACommand, Step: a.HAStep, Event: "VM.START", Doc: "Starts a highly available VM again."}
}

// submitHA starts the restart of a VM that does not run any more. It is nobody's call: the job is its account's.
func submitHA(tx *store.Tx, vm *cloud.VM, why string) error {
	event, err := job.WriteEvent(tx, cloud.Event{
		Type: "VM.START", State: cloud.EventScheduled, AccountID: vm.AccountID, DomainID: vm.DomainID, ResourceID: vm.ID,
		Description: fmt.Sprintf("Scheduled async job for restarting VM %s (%s): %s", vm.DisplayName, vm.InstanceName, why),
	})
	if err != nil {
		return err
	}
	return tables.Jobs.Put(tx, &cloud.Job{
		ID: tx.NewID(), Command: HACommand, AccountID: vm.AccountID, DomainID: vm.DomainID, InstanceType: "VirtualMachine", InstanceID: vm.ID,
		Created: tx.Now(), Deadline: tx.Now().Add(haFor), EventID: event,
	})
}

// HAStep starts a highly available VM wherever there is room, and tries again where there is none. Whoever destroys the
// VM or starts it otherwise ends it.
func (a *Area) HAStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
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
	case cloud.VMStopped:
		if j.Expired {
			return job.Fail(cloud.Errorf(cloud.NoCapacity, "VM %s could not be started again: %s", vm.ID, vm.Error)), nil
		}
		if err := mayRun(tx, vm.AccountID, vm.Name); err != nil {
			return job.Fail(err), alert.Resolve(tx, stranded(vm.ID))
		}
		if _, pool, ok := maintained(tx, vm.ID); ok {
			return job.WaitFor(restartRetry.Duration(tx), pool.ID), nil
		}
		if err := a.Start(tx, vm, cloud.ID{}); err != nil {
			return job.Outcome{}, err
		}
	case cloud.VMStarting, cloud.VMRunning:
	default:
		return job.Done(), nil
	}
	out, err := a.startStep(tx, j, true)
	if err != nil {
		return out, err
	}
	over, failure := out.Final()
	switch {
	case over && failure == nil:
		return out, alert.Resolve(tx, stranded(vm.ID))
	case over && !j.Expired:
		err := alert.Raise(tx, alert.Condition{
			Type: alert.UserVM, Key: stranded(vm.ID), ZoneID: vm.ZoneID, PodID: vm.PodID, Resource: vm.ID,
			Subject:     "VM " + vm.InstanceName + " cannot be started again",
			Description: fmt.Sprintf("The highly available VM %s (%s) lost its host and cannot be started on another one: %v", vm.DisplayName, vm.InstanceName, failure),
		})
		return job.WaitFor(restartRetry.Duration(tx)), err
	}
	return out, nil
}

// stranded is the condition that a highly available VM runs nowhere.
func stranded(vm cloud.ID) string { return "vm/" + vm.String() }

// HostDied frees what a host ran that is dead for sure: nothing of it is heard from, and an operator has said so. Highly
// available VMs start elsewhere, the others are stopped; one whose disk is on the host itself waits for it.
func (a *Area) HostDied(tx *store.Tx, host *cloud.Host) error {
	for vm := range tables.VMs.By(tx, "host", store.K(host.ID)) {
		if err := a.lost(tx, vm, host); err != nil {
			return fmt.Errorf("free VM %s of host %s: %w", vm.ID, host.ID, err)
		}
	}
	return nil
}

func (a *Area) lost(tx *store.Tx, vm *cloud.VM, host *cloud.Host) error {
	was := vm.State
	if was == cloud.VMStarting {
		// Its job goes on and chooses another host.
		vm.Avoid, vm.Evicting, vm.Error = append(vm.Avoid, host.ID), false, "its host "+host.Name+" died"
		if err := a.unplace(tx, vm); err != nil {
			return err
		}
		if err := a.renewUnmade(tx, vm); err != nil {
			return err
		}
		return tables.VMs.Put(tx, vm)
	}
	if err := a.stopped(tx, vm); err != nil {
		return err
	}
	if was != cloud.VMRunning {
		return nil
	}
	why := "its host " + host.Name + " died"
	err := a.Event(tx, &cloud.Event{
		Type: "VM.STOP", Level: cloud.EventWarn, State: cloud.EventCompleted, AccountID: vm.AccountID, DomainID: vm.DomainID,
		ResourceID: vm.ID, Description: fmt.Sprintf("VM %s (%s) stopped: %s", vm.DisplayName, vm.InstanceName, why),
	})
	if err != nil || !vm.HA {
		return err
	}
	return submitHA(tx, vm, why)
}

// Evacuate stops the VMs of a host that is prepared for maintenance; highly available ones start elsewhere. Others are in
// the way: they would be down for as long as the maintenance lasts, and that is their owner's to decide.
func (a *Area) Evacuate(tx *store.Tx, host *cloud.Host) error {
	for vm := range tables.VMs.By(tx, "host", store.K(host.ID)) {
		if why := rooted(tx, vm, host.ID); why != "" && vm.State != cloud.VMStopping {
			return cloud.Errorf(cloud.InUse, "Host %s cannot be prepared for maintenance: VM %s (%s) %s. Stop it first", host.Name, vm.DisplayName, vm.InstanceName, why)
		}
	}
	for vm := range tables.VMs.By(tx, "host", store.K(host.ID)) {
		if vm.State == cloud.VMStopping {
			continue
		}
		if err := a.Stop(tx, vm, false); err != nil {
			return err
		}
		if err := submitHA(tx, vm, "host "+host.Name+" goes into maintenance"); err != nil {
			return err
		}
	}
	return nil
}

// rooted says why a VM cannot leave a host for another one by a restart; "" if it can.
func rooted(r store.Reader, vm *cloud.VM, host cloud.ID) string {
	if !vm.HA {
		return "is not highly available, so nothing would start it again"
	}
	for _, v := range VolumesOf(r, vm.ID) {
		if v.HostID == host {
			return "has volume " + v.Name + " on the host's own storage"
		}
	}
	return ""
}
