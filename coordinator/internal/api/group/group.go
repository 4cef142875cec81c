// Package group holds the commands of instance groups and affinity groups. What they do is in package compute.
package group

import (
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{
		create(), update(), remove(), list(),
		createAffinity(), deleteAffinity(), listAffinity(), listAffinityTypes(),
	}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{
		{Name: "instancegroup", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			g, ok := tables.InstanceGroups.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: g.AccountID, Domain: g.DomainID}, true
		}},
		{Name: "affinitygroup", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			g, ok := tables.AffinityGroups.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: g.AccountID, Domain: g.DomainID}, true
		}},
	}
}

// Answer is an instance group as clients see it.
type Answer struct {
	ID      cloud.ID `json:"id" doc:"the group"`
	Name    string   `json:"name" doc:"its name"`
	Created api.Time `json:"created" doc:"when it was made"`
	Account string   `json:"account,omitempty" doc:"owning account"`
	api.InProject
	DomainID   cloud.ID `json:"domainid" doc:"domain of the owner"`
	Domain     string   `json:"domain" doc:"name of that domain"`
	DomainPath string   `json:"domainpath" doc:"path of that domain"`
}

func view(r store.Reader, g *cloud.InstanceGroup) Answer {
	a := Answer{ID: g.ID, Name: g.Name, Created: api.Time(g.Created), DomainID: g.DomainID}
	a.Account, a.InProject = api.OwnerNames(r, g.AccountID)
	if d, ok := tables.Domains.Get(r, g.DomainID); ok {
		a.Domain, a.DomainPath = d.Name, d.Path
	}
	return a
}

type createParams struct {
	Name      string   `api:"name,required" doc:"name of the group, one of a kind in its account"`
	Account   string   `api:"account" doc:"account it belongs to; needs domainid"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID cloud.ID `api:"projectid" doc:"project it belongs to"`
}

func create() api.Command {
	return api.Command{
		Name: "createInstanceGroup", Doc: "Makes a name under which VMs are gathered.", Roles: api.Everyone,
		Entity: "InstanceGroup", Object: "instancegroup",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (Answer, error) {
			account, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
			if err != nil {
				return Answer{}, err
			}
			g, err := compute.CreateInstanceGroup(tx, account, p.Name)
			if err != nil {
				return Answer{}, err
			}
			return view(tx, g), nil
		}),
	}
}

type updateParams struct {
	ID   cloud.ID `api:"id,required" ref:"instancegroup" doc:"the group"`
	Name string   `api:"name" doc:"its new name"`
}

func update() api.Command {
	return api.Command{
		Name: "updateInstanceGroup", Doc: "Gives an instance group another name.", Roles: api.Everyone,
		Entity: "InstanceGroup", Object: "instancegroup",
		Run: api.Change(func(_ *api.Call, tx *store.Tx, p *updateParams) (Answer, error) {
			g, ok := tables.InstanceGroups.Get(tx, p.ID)
			if !ok {
				return Answer{}, api.NoEntity("id", p.ID)
			}
			if p.Name != "" && p.Name != g.Name {
				if err := compute.RenameInstanceGroup(tx, g, p.Name); err != nil {
					return Answer{}, err
				}
			}
			return view(tx, g), nil
		}),
	}
}

type removeParams struct {
	ID cloud.ID `api:"id,required" ref:"instancegroup" doc:"the group"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteInstanceGroup", Doc: "Removes an instance group; its VMs stay.", Roles: api.Everyone, Entity: "InstanceGroup",
		Run: api.Delete(func(_ *api.Call, tx *store.Tx, p *removeParams) error { return compute.DeleteInstanceGroup(tx, p.ID) }),
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	ID   cloud.ID `api:"id" doc:"this group only"`
	Name string   `api:"name" doc:"the group of this name"`
}

func list() api.Command {
	return api.Command{
		Name: "listInstanceGroups", Doc: "Lists instance groups.", Roles: api.Everyone, Object: "instancegroup",
		Run: api.List(api.Lister[listParams, cloud.InstanceGroup, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.InstanceGroup], error) {
				all := tables.InstanceGroups.All(c.Read)
				if account, ok := c.Scope.Account(); ok {
					all = tables.InstanceGroups.By(c.Read, "account", store.K(account))
				}
				return func(yield func(*cloud.InstanceGroup) bool) {
					for g := range all {
						if (p.ID.IsZero() || g.ID == p.ID) && (p.Name == "" || g.Name == p.Name) && !yield(g) {
							return
						}
					}
				}, nil
			},
			Owner: func(_ *api.Call, g *cloud.InstanceGroup) api.Owner {
				return api.Owner{Account: g.AccountID, Domain: g.DomainID}
			},
			Keyword: func(g *cloud.InstanceGroup) string { return g.Name },
			View:    func(c *api.Call, g *cloud.InstanceGroup) Answer { return view(c.Read, g) },
		}),
	}
}
