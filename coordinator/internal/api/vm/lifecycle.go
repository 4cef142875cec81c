package vm

import (
	"reflect"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Deadlines of the jobs of this package.
const (
	stopDeadline    = 30 * time.Minute
	destroyDeadline = time.Hour
)

// args is the state of a job of this package.
type args struct {
	Start bool `json:",omitempty"`
	// Password is the epoch of the password that the result tells; 0 tells none.
	Password uint64 `json:",omitempty"`
	Epoch    uint64 `json:",omitempty"` // compute.RebootArgs
	// Expunged keeps the answer of a VM whose row is gone when the job ends.
	Expunged *Answer `json:",omitempty"`
}

func (h handlers) deployStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var a args
	if err := j.Args(&a); err != nil {
		return job.Outcome{}, err
	}
	if !a.Start {
		return job.Done(), nil
	}
	return h.Area.StartStep(tx, j)
}

// result is the VM as it is when the job ends, with its password where the job made one.
func (h handlers) result(r store.Reader, c *api.ResultContext, j *cloud.Job) (any, error) {
	var a args
	if err := (&job.State{Job: j}).Args(&a); err != nil {
		return nil, err
	}
	vm, err := get(r, j.InstanceID)
	if err != nil {
		if a.Expunged != nil {
			return *a.Expunged, nil
		}
		return nil, err
	}
	out := View(r, vm, Viewer{Admin: c.IsRoot(r, j)})
	if a.Password != 0 && a.Password == vm.PasswordEpoch {
		if out.Password, err = c.Seal.Open(vm.Password); err != nil {
			return nil, err
		}
	}
	return out, nil
}

type startParams struct {
	ID     cloud.ID `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	HostID cloud.ID `api:"hostid" ref:"host" role:"admin" doc:"host it must start on"`
}

func (h handlers) start() api.Command {
	return api.Command{
		Name: "startVirtualMachine", Doc: "Starts a stopped VM.", Roles: api.Everyone, Event: "VM.START",
		Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *startParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(vm.ID, "starting VM "+vm.DisplayName)
			a := args{Start: true}
			// A password that waits for the guest is told to its owner and to who had it made, and to no other admin.
			if vm.PasswordEpoch > vm.PasswordTaken && (vm.AccountID == c.Account.ID || vm.PasswordBy == c.Account.ID) {
				a.Password = vm.PasswordEpoch
			}
			return jobOf(vm, startDeadline, a), h.Area.Start(tx, vm, p.HostID)
		}),
		Step: h.Area.StartStep, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

func jobOf(vm *cloud.VM, deadline time.Duration, a args) *api.Start {
	return &api.Start{InstanceID: vm.ID, Deadline: deadline, Args: a, Owner: api.Owner{Account: vm.AccountID, Domain: vm.DomainID}}
}

type stopParams struct {
	ID     cloud.ID `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	Forced bool     `api:"forced" doc:"stop it without asking the guest"`
}

func (h handlers) stop() api.Command {
	return api.Command{
		Name: "stopVirtualMachine", Doc: "Stops a VM: its guest is asked to shut down, and after a minute it is powered off.",
		Roles: api.Everyone, Event: "VM.STOP", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *stopParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(vm.ID, "stopping VM "+vm.DisplayName)
			return jobOf(vm, stopDeadline, args{}), h.Area.Stop(tx, vm, p.Forced)
		}),
		Step: h.Area.StopStep, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

type rebootParams struct {
	ID cloud.ID `api:"id,required" ref:"virtualmachine" doc:"the VM"`
}

func (h handlers) reboot() api.Command {
	return api.Command{
		Name: "rebootVirtualMachine", Doc: "Reboots a running VM.", Roles: api.Everyone, Event: "VM.REBOOT",
		Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *rebootParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(vm.ID, "rebooting VM "+vm.DisplayName)
			if err := h.Area.Reboot(tx, vm); err != nil {
				return nil, err
			}
			return jobOf(vm, stopDeadline, args{Epoch: vm.BootEpoch}), nil
		}),
		Step: h.Area.RebootStep, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

type destroyParams struct {
	ID      cloud.ID `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	Expunge bool     `api:"expunge" since:"4.4" doc:"free its disks and addresses at once"`
}

func (h handlers) destroy() api.Command {
	return api.Command{
		Name: "destroyVirtualMachine", Doc: "Destroys a VM; its disks and addresses are freed after expunge.delay.",
		Roles: api.Everyone, Event: "VM.DESTROY", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *destroyParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			if p.Expunge && !c.IsAdmin() && !compute.UsersMayExpunge(tx) {
				return nil, cloud.Errorf(cloud.Denied, "Parameter expunge can be passed by an admin only")
			}
			c.Describe(vm.ID, "destroying VM "+vm.DisplayName)
			last := View(tx, vm, Viewer{Admin: c.IsRoot()})
			last.State = cloud.VMExpunging.String()
			return jobOf(vm, destroyDeadline, args{Expunged: &last}), h.Area.Destroy(tx, vm, p.Expunge)
		}),
		Step: h.Area.DestroyStep, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}
