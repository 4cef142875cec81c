package vm

import (
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// done is the step of jobs whose call has done it all.
func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

type resetKeyParams struct {
	ID        cloud.ID `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	KeyPair   string   `api:"keypair" doc:"name of an SSH key pair of the VM's owner"`
	KeyPairs  []string `api:"keypairs" since:"4.17" doc:"names of several"`
	Account   string   `api:"account" doc:"account of the key pair; needs domainid, and must be the VM's"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID cloud.ID `api:"projectid" doc:"project of the key pair; must be the VM's"`
}

func (h handlers) resetKey() api.Command {
	return api.Command{
		Name: "resetSSHKeyForVirtualMachine", Doc: "Gives a stopped VM another SSH key, which its guest takes at the next start, and a new password where it takes one.",
		Roles: api.Everyone, Event: "VM.RESETSSHKEY", Entity: "VirtualMachine", Object: "virtualmachine",
		Envelope: "resetSSHKeyforvirtualmachineresponse",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *resetKeyParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			owner, ok := tables.Accounts.Get(tx, vm.AccountID)
			if !ok {
				return nil, api.NoEntity("id", p.ID)
			}
			if p.Account != "" || !p.ProjectID.IsZero() {
				named, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
				if err != nil {
					return nil, err
				}
				if named.ID != owner.ID {
					return nil, cloud.Errorf(cloud.Invalid, "VM %s does not belong to account %s", vm.ID, named.Name)
				}
			}
			keys, err := keyPairs(tx, owner, p.KeyPair, p.KeyPairs)
			if err != nil {
				return nil, err
			}
			if len(keys) == 0 {
				return nil, cloud.Errorf(cloud.Invalid, "Unable to execute API command resetSSHKeyForVirtualMachine due to missing parameter keypair")
			}
			c.Describe(vm.ID, "resetting the SSH key of VM "+vm.DisplayName)
			if err := h.Area.ResetKey(tx, vm, keys, c.Account.ID); err != nil {
				return nil, err
			}
			a := args{}
			if vm.PasswordEnabled {
				a.Password = vm.PasswordEpoch
			}
			return jobOf(vm, stopDeadline, a), nil
		}),
		Step: done, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

type resetUserDataParams struct {
	ID        cloud.ID          `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	UserData  string            `api:"userdata" len:"1048576" doc:"new user-data, base64; neither this nor userdataid takes it away"`
	KeptID    cloud.ID          `api:"userdataid" ref:"userdata" doc:"kept user-data of the VM's owner instead"`
	Values    map[string]string `api:"userdatadetails,map" doc:"values of the variables of the user-data"`
	Account   string            `api:"account" doc:"account of the VM; needs domainid"`
	DomainID  cloud.ID          `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID cloud.ID          `api:"projectid" doc:"project of the VM"`
}

func (h handlers) resetUserData() api.Command {
	return api.Command{
		Name: "resetUserDataForVirtualMachine", Doc: "Gives a stopped VM other user-data, which its guest reads at the next start.",
		Since: "4.18", Roles: api.Everyone, Event: "VM.RESETUSERDATA", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *resetUserDataParams) (Answer, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return Answer{}, err
			}
			if p.Account != "" || !p.ProjectID.IsZero() {
				named, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
				if err != nil {
					return Answer{}, err
				}
				if named.ID != vm.AccountID {
					return Answer{}, cloud.Errorf(cloud.Invalid, "VM %s does not belong to account %s", vm.ID, named.Name)
				}
			}
			if vm.State != cloud.VMStopped {
				return Answer{}, cloud.Errorf(cloud.Invalid, "VM %s should be stopped to reset its userdata; it is %s", vm.ID, vm.State)
			}
			q, err := userData(tx, p.UserData, p.KeptID, p.Values)
			if err != nil {
				return Answer{}, err
			}
			if err := h.Area.SetUserData(tx, vm, q); err != nil {
				return Answer{}, err
			}
			c.Describe(vm.ID, "resetting the user-data of VM "+vm.DisplayName)
			return View(tx, vm, Viewer{Admin: c.IsRoot()}), tables.VMs.Put(tx, vm)
		}),
	}
}

type affinityParams struct {
	ID    cloud.ID   `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	IDs   []cloud.ID `api:"affinitygroupids" ref:"affinitygroup,use" doc:"the groups it is to be in; none takes it out of all"`
	Names []string   `api:"affinitygroupnames" doc:"the same by their names"`
}

func (h handlers) affinity() api.Command {
	return api.Command{
		Name: "updateVMAffinityGroup", Doc: "Puts a stopped VM into exactly these affinity groups, which its next start honours.",
		Since: "4.2", Roles: api.Everyone, Event: "VM.AFFINITY.GROUP.UPDATE", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *affinityParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			owner, ok := tables.Accounts.Get(tx, vm.AccountID)
			if !ok {
				return nil, api.NoEntity("id", p.ID)
			}
			if vm.State != cloud.VMStopped {
				return nil, cloud.Errorf(cloud.Invalid, "Unable update affinity groups of the virtual machine %s in state %s; make sure the virtual machine is stopped", vm.ID, vm.State)
			}
			groups, err := affinityGroups(tx, owner, p.IDs, p.Names)
			if err != nil {
				return nil, err
			}
			c.Describe(vm.ID, "changing the affinity groups of VM "+vm.DisplayName)
			return jobOf(vm, stopDeadline, args{}), compute.SetAffinity(tx, vm, groups)
		}),
		Step: done, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}
