package group

import (
	"iter"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// AffinityAnswer is an affinity group as clients see it.
type AffinityAnswer struct {
	ID          cloud.ID `json:"id" doc:"the group"`
	Name        string   `json:"name" doc:"its name"`
	Description string   `json:"description" doc:"its description"`
	Type        string   `json:"type" doc:"its rule"`
	api.OwnedBy
	VMs []cloud.ID `json:"virtualmachineIds" doc:"the VMs in it"`
}

func affinityOwner(g *cloud.AffinityGroup) api.Owner {
	return api.Owner{Account: g.AccountID, Domain: g.DomainID}
}

// affinityEntity is that of affinity groups: those of what is dedicated to a domain can be used in it and below.
func affinityEntity() api.Entity {
	e := api.OwnedEntity("affinitygroup", tables.AffinityGroups, affinityOwner)
	e.Usable = mayUse
	return e
}

func mayUse(c *api.Call, id cloud.ID) bool {
	g, ok := tables.AffinityGroups.Get(c.Read, id)
	return ok && compute.MayJoin(c.Read, c.Account.ID, c.Account.DomainID, g)
}

func viewAffinity(r store.Reader, g *cloud.AffinityGroup) AffinityAnswer {
	a := AffinityAnswer{
		ID: g.ID, Name: g.Name, Description: g.Description, Type: g.Type.String(), OwnedBy: api.NameOwner(r, affinityOwner(g)), VMs: []cloud.ID{},
	}
	for m := range tables.AffinityMembers.By(r, "group", store.K(g.ID)) {
		a.VMs = append(a.VMs, m.VMID)
	}
	return a
}

// atOnce bounds jobs whose call has done it all.
const atOnce = time.Minute

func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

type createAffinityParams struct {
	Name        string `api:"name,required" doc:"name of the group, one of a kind in its account"`
	Type        string `api:"type" doc:"its rule, one of listAffinityGroupTypes; host anti-affinity when absent"`
	Description string `api:"description" len:"4096" doc:"its description"`
	api.OwnerParams
}

func createAffinity() api.Command {
	return api.ShowRow(tables.AffinityGroups, viewAffinity, api.Command{
		Name: "createAffinityGroup", Doc: "Makes a group of VMs that are to share a host, or that are to be kept apart.", Since: "4.2",
		Roles: api.Everyone, Event: "AG.CREATE", Entity: "AffinityGroup", Object: "affinitygroup",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *createAffinityParams) (*api.Start, error) {
			account, err := p.Owner(c)
			if err != nil {
				return nil, err
			}
			kind := p.Type
			if kind == "" {
				kind = cloud.HostAntiAffinity.String()
			}
			g, err := compute.CreateAffinityGroup(tx, account, p.Name, p.Description, kind)
			if err != nil {
				return nil, err
			}
			c.Describe(g.ID, "affinity group "+g.Name)
			return &api.Start{InstanceID: g.ID, Deadline: atOnce, Owner: affinityOwner(g)}, nil
		}),
		Step: done,
	})
}

type deleteAffinityParams struct {
	ID        cloud.ID `api:"id" ref:"affinitygroup" doc:"the group; or its name"`
	Name      string   `api:"name" doc:"name of the group; or its id"`
	Account   string   `api:"account" doc:"account of the group of that name; needs domainid"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID cloud.ID `api:"projectid" doc:"project of the group of that name"`
}

func deleteAffinity() api.Command {
	return api.Command{
		Name: "deleteAffinityGroup", Doc: "Removes an affinity group, and releases what is dedicated to it; its VMs stay where they are.", Since: "4.2", Roles: api.Everyone,
		Event: "AG.DELETE", Entity: "AffinityGroup",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *deleteAffinityParams) (*api.Start, error) {
			account, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
			if err != nil {
				return nil, err
			}
			if p.ID.IsZero() == (p.Name == "") {
				return nil, cloud.Errorf(cloud.Invalid, "Either the affinity group Id or name must be specified to delete the group")
			}
			g, ok := tables.AffinityGroups.Get(tx, p.ID)
			if p.Name != "" {
				if g, ok = tables.AffinityGroups.First(tx, "account", store.K(account.ID, p.Name)); !ok {
					return nil, cloud.Errorf(cloud.Invalid, "Unable to find affinity group by name %s for account %s", p.Name, account.Name)
				}
			}
			if !ok {
				return nil, api.NoEntity("id", p.ID)
			}
			if g.Type == cloud.ExplicitDedication && !c.IsRoot() {
				return nil, cloud.Errorf(cloud.Denied, "Affinity group %s is that of dedicated places, which root admins release", g.Name)
			}
			c.Describe(g.ID, "affinity group "+g.Name)
			return &api.Start{InstanceID: g.ID, Deadline: atOnce, Owner: affinityOwner(g)}, compute.DeleteAffinityGroup(tx, g.ID)
		}),
		Step: done,
	}
}

type listAffinityParams struct {
	api.ListParams
	api.OwnedParams
	ID   cloud.ID `api:"id" doc:"this group only"`
	Name string   `api:"name" doc:"the group of this name"`
	Type string   `api:"type" doc:"groups with this rule"`
	VMID cloud.ID `api:"virtualmachineid" ref:"virtualmachine" doc:"groups that this VM is in"`
}

func listAffinity() api.Command {
	return api.Command{
		Name: "listAffinityGroups", Doc: "Lists affinity groups.", Since: "4.2", Roles: api.Everyone, Object: "affinitygroup",
		Run: api.List(api.Lister[listAffinityParams, cloud.AffinityGroup, AffinityAnswer]{
			Rows: func(c *api.Call, p *listAffinityParams) (iter.Seq[*cloud.AffinityGroup], error) {
				all := usableGroups(c)
				if !p.VMID.IsZero() {
					all = slices.Values(compute.AffinityOf(c.Read, p.VMID))
				}
				return api.Filter(all, func(g *cloud.AffinityGroup) bool {
					return (p.ID.IsZero() || g.ID == p.ID) && (p.Name == "" || g.Name == p.Name) && (p.Type == "" || g.Type.String() == p.Type)
				}), nil
			},
			Owner: func(_ *api.Call, g *cloud.AffinityGroup) api.Owner { return affinityOwner(g) },
			Visible: func(c *api.Call, g *cloud.AffinityGroup) bool {
				return g.AccountID.IsZero() && (mayUse(c, g.ID) || c.May(affinityOwner(g)))
			},
			Keyword: func(g *cloud.AffinityGroup) string { return g.Name + "\n" + g.Type.String() },
			View:    func(c *api.Call, g *cloud.AffinityGroup) AffinityAnswer { return viewAffinity(c.Read, g) },
		}),
	}
}

// usableGroups are the groups of a list: of one account, those that its VMs may be in.
func usableGroups(c *api.Call) iter.Seq[*cloud.AffinityGroup] {
	account, one := c.Scope.Account()
	owner, ok := tables.Accounts.Get(c.Read, account)
	if !one || !ok {
		return tables.AffinityGroups.All(c.Read)
	}
	return func(yield func(*cloud.AffinityGroup) bool) {
		for g := range tables.AffinityGroups.By(c.Read, "account", store.K(account)) {
			if !yield(g) {
				return
			}
		}
		for g := range compute.DomainGroups(c.Read, owner.DomainID) {
			if !yield(g) {
				return
			}
		}
	}
}

// TypeAnswer is a rule that affinity groups can have.
type TypeAnswer struct {
	Type string `json:"type" doc:"name of the rule"`
}

type listTypesParams struct{ api.ListParams }

func listAffinityTypes() api.Command {
	return api.Command{
		Name: "listAffinityGroupTypes", Doc: "Lists the rules that affinity groups can have.", Since: "4.2", Roles: api.Everyone,
		Object: "affinityGroupType",
		Run: api.List(api.Lister[listTypesParams, cloud.AffinityType, TypeAnswer]{
			Rows: func(*api.Call, *listTypesParams) (iter.Seq[*cloud.AffinityType], error) {
				return func(yield func(*cloud.AffinityType) bool) {
					for _, t := range cloud.AffinityTypes {
						if !yield(&t) {
							return
						}
					}
				}, nil
			},
			Keyword: func(t *cloud.AffinityType) string { return t.String() },
			View:    func(_ *api.Call, t *cloud.AffinityType) TypeAnswer { return TypeAnswer{Type: t.String()} },
		}),
	}
}
