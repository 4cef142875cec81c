package physical

import (
	"cmp"
	"fmt"
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// forWhom reads whom something is dedicated to: an account of a domain, a project, or the domain itself.
func forWhom(c *api.Call, account string, domain, project cloud.ID) (cloud.ID, *cloud.Account, error) {
	if account == "" && project.IsZero() {
		if domain.IsZero() {
			return domain, nil, cloud.Errorf(cloud.Invalid, "Parameter domainid is needed, with or without account, or projectid")
		}
		return domain, nil, nil
	}
	a, err := c.OwnerFor(account, domain, project)
	if err != nil {
		return domain, nil, err
	}
	return a.DomainID, a, nil
}

type dedicateRangeParams struct {
	ID        cloud.ID `api:"id,required" ref:"vlaniprange" doc:"the range"`
	DomainID  cloud.ID `api:"domainid,required" ref:"domain" doc:"domain that gets the range for itself"`
	Account   string   `api:"account" doc:"account of that domain that gets it instead"`
	ProjectID cloud.ID `api:"projectid" doc:"project that gets it instead"`
}

func (h handlers) dedicateRange() api.Command {
	return api.Command{
		Name: "dedicatePublicIpRange", Doc: "Gives a range of public addresses to one account or domain.", Since: "4.2", Roles: api.AdminOnly,
		Event: "VLAN.IP.RANGE.DEDICATE", Entity: "VlanIpRange", Object: "vlan",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *dedicateRangeParams) (RangeAnswer, error) {
			v, err := get(tx, tables.VLANRanges, p.ID)
			if err != nil {
				return RangeAnswer{}, err
			}
			domain, account, err := forWhom(c, p.Account, p.DomainID, p.ProjectID)
			if err != nil {
				return RangeAnswer{}, err
			}
			c.Describe(v.ID, "Public range "+v.Start.String()+"-"+v.End.String())
			if err := h.Area.DedicateRange(tx, v, domain, account); err != nil {
				return RangeAnswer{}, err
			}
			return viewRange(tx, v), nil
		}),
	}
}

type releaseRangeParams struct {
	ID cloud.ID `api:"id,required" ref:"vlaniprange" doc:"the range"`
}

func (h handlers) releaseRange() api.Command {
	return api.Command{
		Name: "releasePublicIpRange", Doc: "Gives a dedicated range of public addresses back to everybody.", Since: "4.2", Roles: api.AdminOnly,
		Event: "VLAN.IP.RANGE.RELEASE", Entity: "VlanIpRange",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *releaseRangeParams) error {
			v, err := get(tx, tables.VLANRanges, p.ID)
			if err != nil {
				return err
			}
			c.Describe(v.ID, "Public range "+v.Start.String()+"-"+v.End.String())
			return h.Area.ReleaseRange(tx, v)
		}),
	}
}

// GuestRangeAnswer is a dedicated range of segments as clients see it.
type GuestRangeAnswer struct {
	ID         cloud.ID `json:"id" doc:"the dedication"`
	Account    string   `json:"account,omitempty" doc:"account that has the range"`
	DomainID   cloud.ID `json:"domainid" doc:"its domain"`
	Domain     string   `json:"domain,omitempty" doc:"name of that domain"`
	GuestRange string   `json:"guestvlanrange" doc:"the VLAN ids or VNIs"`
}

func viewGuestRange(r store.Reader, g *cloud.GuestVLANRange) GuestRangeAnswer {
	v := GuestRangeAnswer{ID: g.ID, DomainID: g.DomainID, GuestRange: fmt.Sprintf("%d-%d", g.Start, g.End)}
	if a, ok := tables.Accounts.Get(r, g.AccountID); ok {
		v.Account = a.Name
	}
	if d, ok := tables.Domains.Get(r, g.DomainID); ok {
		v.Domain = d.Name
	}
	return v
}

type dedicateGuestParams struct {
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid,required" ref:"physicalnetwork" doc:"the physical network"`
	Range             string   `api:"vlanrange,required" doc:"VLAN ids or VNIs, as 100-110"`
	DomainID          cloud.ID `api:"domainid" ref:"domain" doc:"domain that gets them for itself"`
	Account           string   `api:"account" doc:"account of that domain that gets them instead"`
	ProjectID         cloud.ID `api:"projectid" doc:"project that gets them instead"`
}

func (h handlers) dedicateGuest() api.Command {
	return api.Command{
		Name: "dedicateGuestVlanRange", Doc: "Gives VLAN ids or VNIs for guest networks to one account or domain.", Since: "4.2", Roles: api.AdminOnly,
		Event: "GUESTVLANRANGE.DEDICATE", Entity: "GuestVlanRange", Object: "dedicatedguestvlanrange",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *dedicateGuestParams) (GuestRangeAnswer, error) {
			n, err := get(tx, tables.PhysicalNetworks, p.PhysicalNetworkID)
			if err != nil {
				return GuestRangeAnswer{}, err
			}
			domain, account, err := forWhom(c, p.Account, p.DomainID, p.ProjectID)
			if err != nil {
				return GuestRangeAnswer{}, err
			}
			g, err := h.Area.DedicateSegments(tx, n, p.Range, domain, account)
			if err != nil {
				return GuestRangeAnswer{}, err
			}
			c.Describe(g.ID, "Guest range "+p.Range+" of physical network "+n.Name)
			return viewGuestRange(tx, g), nil
		}),
	}
}

type releaseGuestParams struct {
	ID cloud.ID `api:"id,required" ref:"guestvlanrange" doc:"the dedication"`
}

func (h handlers) releaseGuest() api.Command {
	return api.Command{
		Name: "releaseDedicatedGuestVlanRange", Doc: "Gives dedicated VLAN ids or VNIs back to everybody.", Since: "4.2", Roles: api.AdminOnly,
		Event: "GUESTVLANRANGE.RELEASE", Entity: "GuestVlanRange",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *releaseGuestParams) (*api.Start, error) {
			c.Describe(p.ID, "Guest range "+p.ID.String())
			return &api.Start{InstanceID: p.ID}, tables.GuestVLANRanges.Delete(tx, p.ID)
		}),
		Step: network.Finished,
	}
}

type listGuestParams struct {
	api.ListParams
	ID                cloud.ID `api:"id" ref:"guestvlanrange" doc:"this dedication only"`
	Account           string   `api:"account" doc:"ranges of this account; with domainid"`
	DomainID          cloud.ID `api:"domainid" ref:"domain" doc:"ranges of this domain"`
	ProjectID         cloud.ID `api:"projectid" doc:"ranges of this project"`
	Range             string   `api:"guestvlanrange" doc:"this range"`
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid" ref:"physicalnetwork" doc:"ranges of this physical network"`
	ZoneID            cloud.ID `api:"zoneid" ref:"zone" doc:"ranges in this zone"`
}

func listGuest() api.Command {
	return api.Command{
		Name: "listDedicatedGuestVlanRanges", Doc: "Lists VLAN ids and VNIs that an account or domain has for itself.", Since: "4.2", Roles: api.AdminOnly,
		Object: "dedicatedguestvlanrange",
		Run: api.List(api.Lister[listGuestParams, cloud.GuestVLANRange, GuestRangeAnswer]{
			Rows: func(c *api.Call, p *listGuestParams) (iter.Seq[*cloud.GuestVLANRange], error) {
				var owner cloud.ID
				if p.Account != "" || !p.ProjectID.IsZero() {
					a, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
					if err != nil {
						return nil, err
					}
					owner = a.ID
				}
				return filter(tables.GuestVLANRanges.By(c.Read, "physical_network", nil), func(g *cloud.GuestVLANRange) bool {
					n, _ := tables.PhysicalNetworks.Get(c.Read, g.PhysicalNetworkID)
					return (p.ID.IsZero() || g.ID == p.ID) && (owner.IsZero() || g.AccountID == owner) && (p.DomainID.IsZero() || g.DomainID == p.DomainID) &&
						(p.Range == "" || p.Range == fmt.Sprintf("%d-%d", g.Start, g.End)) && (p.PhysicalNetworkID.IsZero() || g.PhysicalNetworkID == p.PhysicalNetworkID) &&
						(p.ZoneID.IsZero() || n != nil && n.ZoneID == p.ZoneID)
				}), nil
			},
			Less: func(a, b *cloud.GuestVLANRange) int { return cmp.Compare(a.Start, b.Start) },
			View: func(c *api.Call, g *cloud.GuestVLANRange) GuestRangeAnswer { return viewGuestRange(c.Read, g) },
		}),
	}
}
