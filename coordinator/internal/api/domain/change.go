package domain

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type createParams struct {
	Name          string   `api:"name,required" doc:"name of the new domain"`
	ParentID      cloud.ID `api:"parentdomainid" ref:"domain" doc:"the domain above it; ROOT where absent"`
	NetworkDomain string   `api:"networkdomain" doc:"DNS domain of its guest networks"`
	DomainID      string   `api:"domainid" doc:"the id it gets; chosen at random where absent"`
}

func create() api.Command {
	return api.Command{
		Name: "createDomain", Doc: "Makes a domain.", Roles: api.AdminOnly, Event: "DOMAIN.CREATE", Entity: "Domain", Object: "domain",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (View, error) {
			if p.ParentID.IsZero() {
				p.ParentID = identity.Root(tx).ID
			}
			id, err := user.NewID("domainid", p.DomainID, func(id cloud.ID) bool { return tables.Domains.Has(tx, id) })
			if err != nil {
				return View{}, err
			}
			d, err := identity.CreateDomainAs(tx, id, p.ParentID, p.Name, p.NetworkDomain)
			if err != nil {
				return View{}, err
			}
			c.Describe(d.ID, "creating Domain. Domain Name: "+d.Name)
			return NewView(tx, d), nil
		}),
	}
}

type updateParams struct {
	ID            cloud.ID `api:"id,required" ref:"domain" doc:"the domain"`
	Name          string   `api:"name" doc:"its new name"`
	NetworkDomain *string  `api:"networkdomain" doc:"new DNS domain of its guest networks; empty for none"`
}

func update() api.Command {
	return api.Command{
		Name: "updateDomain", Doc: "Renames a domain, or changes its network domain.", Roles: api.AdminOnly,
		Event: "DOMAIN.UPDATE", Entity: "Domain", Object: "domain",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (View, error) {
			d, err := active(tx, p.ID)
			if err != nil {
				return View{}, err
			}
			c.Describe(d.ID, "updating Domain. Domain Name: "+d.Name)
			name := &p.Name
			if p.Name == "" {
				name = nil
			}
			if err := identity.UpdateDomain(tx, d, name, p.NetworkDomain); err != nil {
				return View{}, err
			}
			return NewView(tx, d), nil
		}),
	}
}

// active is a domain that is not being removed.
func active(r store.Reader, id cloud.ID) (*cloud.Domain, error) {
	d, ok := tables.Domains.Get(r, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	if d.State == cloud.Inactive {
		return nil, cloud.Errorf(cloud.Invalid, "Domain %s is being removed", d.Name)
	}
	return d, nil
}

type removeParams struct {
	ID      cloud.ID `api:"id,required" ref:"domain" doc:"the domain"`
	Cleanup bool     `api:"cleanup" doc:"also removes the domains below, all accounts, and all that they own"`
}

func (d Deps) remove() api.Command {
	return api.Command{
		Name: "deleteDomain", Doc: "Removes a domain; with cleanup all that is in it, too.", Roles: api.AdminOnly,
		Event: "DOMAIN.DELETE", Entity: "Domain",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			x, ok := tables.Domains.Get(tx, p.ID)
			if !ok {
				return nil, api.NoEntity("id", p.ID)
			}
			c.Describe(x.ID, "deleting Domain. Domain Name: "+x.Name)
			switch {
			case x.ParentID.IsZero():
				return nil, cloud.Errorf(cloud.Denied, "The ROOT domain cannot be deleted")
			case !p.Cleanup && tables.Domains.Count(tx, "parent", store.K(x.ID))+tables.Accounts.Count(tx, "name", store.K(x.ID)) > 0:
				return nil, cloud.Errorf(cloud.InUse, "Failed to delete domain %s: please make sure all users and sub domains have been removed from the domain before deleting, or use cleanup=true", x.Name)
			}
			if err := d.refused(c, tx, x); err != nil {
				return nil, err
			}
			return &api.Start{InstanceID: x.ID}, identity.BeginDomainRemoval(tx, x)
		}),
		Step: func(tx *store.Tx, j *job.State) (job.Outcome, error) {
			p, err := identity.RemoveDomain(tx, d.Owned, d.OfDomains, j.InstanceID())
			return p.Outcome(), err
		},
	}
}

// refused tells why a domain, one below it or an account in them cannot go.
func (d Deps) refused(c *api.Call, tx *store.Tx, top *cloud.Domain) error {
	all := identity.Subtree(tx, top)
	going := map[cloud.ID]bool{}
	for _, x := range all {
		going[x.ID] = true
	}
	for _, x := range all {
		if err := identity.Refused(tx, d.OfDomains, x.ID); err != nil {
			return err
		}
		for a := range tables.Accounts.By(tx, "name", store.K(x.ID)) {
			if a.Type == cloud.ProjectAccount {
				continue // it goes with its project
			}
			if err := c.MayManage(a); err != nil {
				return err
			}
			for m := range tables.ProjectMembers.By(tx, "account", store.K(a.ID)) {
				p, ok := tables.Projects.Get(tx, m.ProjectID)
				if ok && m.Role == cloud.ProjectAdmin && m.UserID.IsZero() && !going[p.DomainID] {
					return cloud.Errorf(cloud.InUse, "Account %s manages project %s of another domain and can't be removed", a.Name, p.Name)
				}
			}
		}
	}
	return nil
}
