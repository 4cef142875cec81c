package account

import (
	"reflect"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// find gives the account that a call is about, by id or by name and domain, when the caller may manage it. Unlike
// Call.OwnerFor it finds accounts that are disabled, too.
func find(c *api.Call, id cloud.ID, name string, domain cloud.ID) (*cloud.Account, error) {
	if id.IsZero() {
		if name == "" || domain.IsZero() {
			return nil, cloud.Errorf(cloud.Invalid, "Either id, or account and domainid together must be specified")
		}
		a, ok := tables.Accounts.First(c.Read, "name", store.K(domain, strings.ToLower(name)))
		if !ok || a.System || a.Type == cloud.ProjectAccount || !c.May(api.Owner{Account: a.ID, Domain: a.DomainID}) {
			return nil, cloud.Errorf(cloud.Invalid, "Unable to find account %s in the specified domain", name)
		}
		id = a.ID
	}
	a, ok := tables.Accounts.Get(c.Read, id)
	if !ok || a.System || a.Type == cloud.ProjectAccount {
		return nil, api.NoEntity("id", id)
	}
	return a, c.MayManage(a)
}

// other is find for what nobody may do to its own account.
func other(c *api.Call, id cloud.ID, name string, domain cloud.ID, verb string) (*cloud.Account, error) {
	a, err := find(c, id, name, domain)
	if err == nil && a.ID == c.Account.ID {
		err = cloud.Errorf(cloud.Denied, "Account %s cannot %s itself", a.Name, verb)
	}
	return a, err
}

type updateParams struct {
	ID            cloud.ID          `api:"id" ref:"account" doc:"the account; or account and domainid"`
	Account       string            `api:"account" doc:"its name until now"`
	DomainID      cloud.ID          `api:"domainid" ref:"domain,use" doc:"its domain"`
	NewName       string            `api:"newname" doc:"its new name"`
	NetworkDomain *string           `api:"networkdomain" doc:"new DNS domain of its guest networks; empty for none"`
	RoleID        cloud.ID          `api:"roleid" ref:"role" since:"4.9.0" doc:"its new role"`
	Details       map[string]string `api:"accountdetails,map" doc:"further facts about it, instead of those it has"`
}

func update() api.Command {
	return api.Command{
		Name: "updateAccount", Doc: "Changes an account's name, role, network domain or details.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "ACCOUNT.UPDATE", Entity: "Account", Object: "account",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (View, error) {
			a, err := find(c, p.ID, p.Account, p.DomainID)
			if err != nil {
				return View{}, err
			}
			c.Describe(a.ID, "updating Account. Account Name: "+a.Name)
			if p.NewName != "" {
				a.Name = p.NewName
			}
			if p.NetworkDomain != nil {
				a.NetworkDomain = *p.NetworkDomain
			}
			if len(p.Details) > 0 {
				a.Details = p.Details
			}
			if err := p.setRole(c, a); err != nil {
				return View{}, err
			}
			if err := identity.PutAccount(tx, a); err != nil {
				return View{}, err
			}
			return NewView(c, a), nil
		}),
	}
}

func (p *updateParams) setRole(c *api.Call, a *cloud.Account) error {
	if p.RoleID.IsZero() || p.RoleID == identity.RoleOf(c.Read, a).ID {
		return nil
	}
	r, ok := identity.Role(c.Read, p.RoleID)
	if !ok {
		return api.NoEntity("roleid", p.RoleID)
	}
	if a.ID == c.Account.ID || identity.IsDefault(a) {
		return cloud.Errorf(cloud.Denied, "The role of account %s cannot be changed: it is your own, or the first administrator's", a.Name)
	}
	if err := c.MayGrant(r); err != nil {
		return err
	}
	return identity.SetRole(c.Read, a, r)
}

type nameParams struct {
	ID       cloud.ID `api:"id" ref:"account" doc:"the account; or account and domainid"`
	Account  string   `api:"account" doc:"its name"`
	DomainID cloud.ID `api:"domainid" ref:"domain,use" doc:"its domain"`
}

func enable() api.Command {
	return api.Command{
		Name: "enableAccount", Doc: "Lets a disabled or locked account's users in again; its virtual machines stay as they are.",
		Roles: api.Admins, Event: "ACCOUNT.ENABLE", Entity: "Account", Object: "account",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *nameParams) (View, error) {
			a, err := find(c, p.ID, p.Account, p.DomainID)
			if err != nil {
				return View{}, err
			}
			c.Describe(a.ID, "enabling Account. Account Name: "+a.Name)
			if err := identity.SetAccountState(tx, a, cloud.Enabled); err != nil {
				return View{}, err
			}
			return NewView(c, a), nil
		}),
	}
}

type lockParams struct {
	Account  string   `api:"account,required" doc:"its name"`
	DomainID cloud.ID `api:"domainid,required" ref:"domain,use" doc:"its domain"`
}

func lock() api.Command {
	return api.Command{
		Name: "lockAccount", Doc: "Locks an account's users out; its virtual machines run on, and an admin may start them.", Roles: api.Admins,
		Event: "ACCOUNT.LOCK", Entity: "Account", Object: "account",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *lockParams) (View, error) {
			a, err := other(c, cloud.ID{}, p.Account, p.DomainID, "lock")
			if err != nil {
				return View{}, err
			}
			c.Describe(a.ID, "locking Account. Account Name: "+a.Name)
			if err := identity.SetAccountState(tx, a, cloud.Locked); err != nil {
				return View{}, err
			}
			return NewView(c, a), nil
		}),
	}
}

type disableParams struct {
	nameParams
	Lock *bool `api:"lock,required" doc:"true: only lock it, and let its virtual machines run on"`
}

func (d Deps) disable() api.Command {
	return api.Command{
		Name: "disableAccount", Doc: "Locks an account's users out and stops its virtual machines.", Roles: api.Admins,
		Event: "ACCOUNT.DISABLE", Entity: "Account", Object: "account",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *disableParams) (*api.Start, error) {
			a, err := other(c, p.ID, p.Account, p.DomainID, "disable")
			if err != nil {
				return nil, err
			}
			state, text := cloud.Disabled, "disabling Account. Account Name: "
			if *p.Lock {
				state, text = cloud.Locked, "locking Account. Account Name: "
			}
			c.Describe(a.ID, text+a.Name)
			return &api.Start{InstanceID: a.ID}, identity.SetAccountState(tx, a, state)
		}),
		Step: d.stopVMs, Answer: reflect.TypeFor[View](), Result: result,
	}
}

// stopAtOnce bounds the virtual machines that one transaction asks to stop.
const stopAtOnce = 20

// stopVMs stops all virtual machines of a disabled account, and waits for them.
func (d Deps) stopVMs(tx *store.Tx, j *job.State) (job.Outcome, error) {
	a, ok := tables.Accounts.Get(tx, j.InstanceID())
	if !ok || a.State != cloud.Disabled {
		return job.Done(), nil
	}
	var wait []cloud.ID
	asked := 0
	for vm := range tables.VMs.By(tx, "account", store.K(a.ID)) {
		switch vm.State {
		case cloud.VMRunning, cloud.VMStarting:
			if asked == stopAtOnce {
				return job.Again(), nil
			}
			asked++
			if err := d.Stop(tx, vm, false); err != nil {
				return job.Outcome{}, err
			}
		case cloud.VMStopping, cloud.VMMigrating:
		default:
			continue
		}
		wait = append(wait, vm.ID)
	}
	switch {
	case asked > 0:
		return job.Again(), nil
	case len(wait) == 0:
		return job.Done(), nil
	case j.Expired:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "Account %s is disabled, but %d of its virtual machines have not stopped yet", a.Name, len(wait))), nil
	}
	return job.WaitOn(wait[:min(len(wait), waitForMost)]...), nil
}

// waitForMost bounds the rows a job waits for.
const waitForMost = 100

// result is the account as it is when the job ends.
func result(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	a, ok := tables.Accounts.Get(r, j.InstanceID)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Account %s was removed meanwhile", j.InstanceID)
	}
	return NewView(&api.Call{Read: r}, a), nil
}

type removeParams struct {
	ID cloud.ID `api:"id,required" ref:"account" doc:"the account"`
}

func (d Deps) remove() api.Command {
	return api.Command{
		Name: "deleteAccount", Doc: "Removes an account with all that it owns and its users.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "ACCOUNT.DELETE", Entity: "Account",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			a, err := other(c, p.ID, "", cloud.ID{}, "delete")
			if err != nil {
				return nil, err
			}
			if identity.IsDefault(a) {
				return nil, cloud.Errorf(cloud.Invalid, "Account %s is the first administrator's, and cannot be deleted", a.Name)
			}
			if err := identity.Refused(tx, d.Owned, a.ID); err != nil {
				return nil, err
			}
			c.Describe(a.ID, "deleting Account. Account Name: "+a.Name)
			return &api.Start{InstanceID: a.ID}, identity.BeginRemoval(tx, a)
		}),
		Step: func(tx *store.Tx, j *job.State) (job.Outcome, error) {
			p, err := identity.RemoveAccount(tx, d.Owned, j.InstanceID())
			return p.Outcome(), err
		},
	}
}

type markZoneParams struct {
	Account  string   `api:"account,required" doc:"name of the account"`
	DomainID cloud.ID `api:"domainid,required" ref:"domain" doc:"its domain"`
	ZoneID   cloud.ID `api:"zoneid,required" ref:"zone" doc:"the zone"`
}

func markZone() api.Command {
	return api.Command{
		Name: "markDefaultZoneForAccount", Doc: "Says which zone an account uses by default.", Roles: api.AdminOnly,
		Event: "ACCOUNT.MARK.DEFAULT.ZONE", Entity: "Account", Object: "account",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *markZoneParams) (*api.Start, error) {
			a, err := find(c, cloud.ID{}, p.Account, p.DomainID)
			if err != nil {
				return nil, err
			}
			c.Describe(a.ID, "marking a default zone for Account. Account Name: "+a.Name)
			a.DefaultZoneID = p.ZoneID
			return &api.Start{InstanceID: a.ID}, identity.PutAccount(tx, a)
		}),
		// The call has done it all.
		Step:   func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
		Answer: reflect.TypeFor[View](), Result: result,
	}
}
