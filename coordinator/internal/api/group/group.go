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
		api.OwnedEntity("instancegroup", tables.InstanceGroups, owner),
		affinityEntity(),
	}
}

func owner(g *cloud.InstanceGroup) api.Owner {
	return api.Owner{Account: g.AccountID, Domain: g.DomainID}
}

// Answer is an instance group as clients see it.
type Answer struct {
	ID      cloud.ID `json:"id" doc:"the group"`
	Name    string   `json:"name" doc:"its name"`
	Created api.Time `json:"created" doc:"when it was made"`
	api.OwnedBy
	api.Remarked `of:"instancegroup"`
}

func view(r store.Reader, g *cloud.InstanceGroup) Answer {
	return Answer{ID: g.ID, Name: g.Name, Created: api.Time(g.Created), OwnedBy: api.NameOwner(r, owner(g))}
}

type createParams struct {
	Name string `api:"name,required" doc:"name of the group, one of a kind in its account"`
	api.OwnerParams
}

func create() api.Command {
	return api.Command{
		Name: "createInstanceGroup", Doc: "Makes a name under which VMs are gathered.", Roles: api.Everyone,
		Entity: "InstanceGroup", Object: "instancegroup",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (Answer, error) {
			account, err := p.Owner(c)
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
				return api.Filter(api.OwnedRows(c, tables.InstanceGroups), func(g *cloud.InstanceGroup) bool {
					return (p.ID.IsZero() || g.ID == p.ID) && (p.Name == "" || g.Name == p.Name)
				}), nil
			},
			Owner:   func(_ *api.Call, g *cloud.InstanceGroup) api.Owner { return owner(g) },
			Keyword: func(g *cloud.InstanceGroup) string { return g.Name },
			View:    func(c *api.Call, g *cloud.InstanceGroup) Answer { return view(c.Read, g) },
		}),
	}
}
