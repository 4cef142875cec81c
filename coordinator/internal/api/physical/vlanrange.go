package physical

import (
	"cmp"
	"iter"
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RangeAnswer is a range of addresses as clients see it.
type RangeAnswer struct {
	ID                cloud.ID `json:"id" doc:"the range"`
	ForVirtualNetwork bool     `json:"forvirtualnetwork" doc:"true for public addresses"`
	ZoneID            cloud.ID `json:"zoneid" doc:"its zone"`
	VLAN              string   `json:"vlan" doc:"its VLAN, as vlan://untagged or vlan://100"`
	Account           string   `json:"account,omitempty" doc:"account that has it for itself"`
	api.InProject
	DomainID          cloud.ID   `json:"domainid,omitempty" doc:"domain of that account"`
	Domain            string     `json:"domain,omitempty" doc:"name of that domain"`
	Gateway           netip.Addr `json:"gateway" doc:"router of the subnet"`
	Netmask           string     `json:"netmask" doc:"netmask of the subnet"`
	CIDR              string     `json:"cidr" doc:"the subnet"`
	StartIP           netip.Addr `json:"startip" doc:"first address"`
	EndIP             netip.Addr `json:"endip" doc:"last address"`
	NetworkID         cloud.ID   `json:"networkid" doc:"the public network of the zone"`
	PhysicalNetworkID cloud.ID   `json:"physicalnetworkid" doc:"physical network that carries it"`
	ForSystemVMs      bool       `json:"forsystemvms" doc:"true where system VMs have it for themselves"`
}

func viewRange(r store.Reader, v *cloud.VLANRange) RangeAnswer {
	a := RangeAnswer{
		ID: v.ID, ForVirtualNetwork: v.ForVirtualNetwork, ZoneID: v.ZoneID, VLAN: network.VLANURI(v), Gateway: v.Gateway, Netmask: v.Netmask,
		CIDR: network.RangePrefix(v).String(), StartIP: v.Start, EndIP: v.End, NetworkID: network.PublicNetworkID(v.ZoneID),
		PhysicalNetworkID: v.PhysicalNetworkID, ForSystemVMs: v.ForSystemVMs,
	}
	if o, ok := tables.Accounts.Get(r, v.AccountID); ok {
		a.DomainID = o.DomainID
		a.Account, a.InProject = api.OwnerNames(r, o.ID)
		if d, ok := tables.Domains.Get(r, o.DomainID); ok {
			a.Domain = d.Name
		}
	}
	return a
}

type createRangeParams struct {
	Account           string     `api:"account" doc:"account that gets the range for itself; with domainid"`
	DomainID          cloud.ID   `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID         cloud.ID   `api:"projectid" doc:"project that gets the range for itself"`
	StartIP           netip.Addr `api:"startip,required" doc:"first address"`
	EndIP             netip.Addr `api:"endip" doc:"last address; the first one when absent"`
	Gateway           netip.Addr `api:"gateway,required" doc:"router of the subnet"`
	Netmask           string     `api:"netmask,required" doc:"netmask of the subnet"`
	ForVirtualNetwork *bool      `api:"forvirtualnetwork" doc:"true (the default): public addresses"`
	ForSystemVMs      bool       `api:"forsystemvms" since:"4.11" doc:"keep the range for system VMs"`
	PhysicalNetworkID cloud.ID   `api:"physicalnetworkid" ref:"physicalnetwork" doc:"physical network that carries it; the one with Public traffic when absent"`
	VLAN              string     `api:"vlan" doc:"VLAN id, or untagged (the default)"`
	ZoneID            cloud.ID   `api:"zoneid" ref:"zone" doc:"its zone; that of the physical network when absent"`
}

func (h handlers) createRange() api.Command {
	return api.Command{
		Name: "createVlanIpRange", Doc: "Adds a range of public addresses to a zone.", Roles: api.AdminOnly,
		Event: "VLAN.IP.RANGE.CREATE", Entity: "VlanIpRange", Object: "vlan",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createRangeParams) (RangeAnswer, error) {
			q, err := h.rangeRequest(c, tx, p)
			if err != nil {
				return RangeAnswer{}, err
			}
			v, err := h.Area.CreateRange(tx, q)
			if err != nil {
				return RangeAnswer{}, err
			}
			c.Describe(v.ID, "Public range "+v.Start.String()+"-"+v.End.String())
			return viewRange(tx, v), nil
		}),
	}
}

func (h handlers) rangeRequest(c *api.Call, tx *store.Tx, p *createRangeParams) (network.RangeRequest, error) {
	q := network.RangeRequest{
		VLAN: p.VLAN, Gateway: p.Gateway, Netmask: p.Netmask, Start: p.StartIP, End: p.EndIP, ForSystemVMs: p.ForSystemVMs,
	}
	if p.ForVirtualNetwork != nil && !*p.ForVirtualNetwork {
		return q, cloud.Errorf(cloud.Invalid, "Parameter forvirtualnetwork must be true: ranges of Shared networks are not in this version")
	}
	var err error
	if !p.PhysicalNetworkID.IsZero() {
		if q.Physical, err = get(tx, tables.PhysicalNetworks, p.PhysicalNetworkID); err != nil {
			return q, err
		}
		if p.ZoneID.IsZero() {
			p.ZoneID = q.Physical.ZoneID
		}
	}
	if p.ZoneID.IsZero() {
		return q, cloud.Errorf(cloud.Invalid, "Parameter zoneid or physicalnetworkid is needed")
	}
	if q.Zone, err = get(tx, tables.Zones, p.ZoneID); err != nil {
		return q, err
	}
	if p.Account != "" || !p.ProjectID.IsZero() {
		q.Owner, err = c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
	}
	return q, err
}

type listRangesParams struct {
	api.ListParams
	Account           string   `api:"account" doc:"ranges that this account has for itself; with domainid"`
	DomainID          cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID         string   `api:"projectid" type:"uuid" doc:"ranges that this project has for itself"`
	ForVirtualNetwork *bool    `api:"forvirtualnetwork" doc:"true: public ranges"`
	ID                cloud.ID `api:"id" doc:"this range only"`
	NetworkID         cloud.ID `api:"networkid" doc:"ranges of this network"`
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid" ref:"physicalnetwork" doc:"ranges of this physical network"`
	PodID             cloud.ID `api:"podid" ref:"pod" doc:"ranges of this pod"`
	VLAN              string   `api:"vlan" doc:"ranges of this VLAN"`
	ZoneID            cloud.ID `api:"zoneid" ref:"zone" doc:"ranges of this zone"`
}

func (h handlers) listRanges() api.Command {
	return api.Command{
		Name: "listVlanIpRanges", Doc: "Lists ranges of public addresses.", Roles: api.AdminOnly, Object: "vlaniprange",
		Run: api.List(api.Lister[listRangesParams, cloud.VLANRange, RangeAnswer]{
			Rows: func(c *api.Call, p *listRangesParams) (iter.Seq[*cloud.VLANRange], error) {
				var owner cloud.ID
				if p.Account != "" {
					a, err := c.OwnerFor(p.Account, p.DomainID, cloud.ID{})
					if err != nil {
						return nil, err
					}
					owner = a.ID
				}
				if p.ProjectID != "" {
					project, err := c.Project("projectid", p.ProjectID)
					if err != nil {
						return nil, err
					}
					owner = project.AccountID
				}
				rows := tables.VLANRanges.By(c.Read, "zone", nil)
				if !p.ZoneID.IsZero() {
					rows = tables.VLANRanges.By(c.Read, "zone", store.K(p.ZoneID))
				}
				return filter(rows, func(v *cloud.VLANRange) bool {
					return (p.ID.IsZero() || v.ID == p.ID) && (owner.IsZero() || v.AccountID == owner) &&
						(p.Account != "" || p.DomainID.IsZero() || v.DomainID == p.DomainID) &&
						(p.ForVirtualNetwork == nil || v.ForVirtualNetwork == *p.ForVirtualNetwork) &&
						(p.NetworkID.IsZero() || network.PublicNetworkID(v.ZoneID) == p.NetworkID) &&
						(p.PhysicalNetworkID.IsZero() || v.PhysicalNetworkID == p.PhysicalNetworkID) &&
						(p.PodID.IsZero() || v.PodID == p.PodID) && (p.VLAN == "" || sameVLAN(v, p.VLAN))
				}), nil
			},
			Keyword: func(v *cloud.VLANRange) string { return v.VLAN },
			Less: func(a, b *cloud.VLANRange) int {
				return cmp.Or(a.Created.Compare(b.Created), a.Start.Compare(b.Start))
			},
			View: func(c *api.Call, v *cloud.VLANRange) RangeAnswer { return viewRange(c.Read, v) },
		}),
	}
}

func sameVLAN(v *cloud.VLANRange, text string) bool {
	return v.VLAN == text || network.VLANURI(v) == text
}

type updateRangeParams struct {
	ID           cloud.ID   `api:"id,required" ref:"vlaniprange" doc:"the range"`
	StartIP      netip.Addr `api:"startip" doc:"new first address"`
	EndIP        netip.Addr `api:"endip" doc:"new last address"`
	Gateway      netip.Addr `api:"gateway" doc:"new router of the subnet, while no address of the range is in use"`
	Netmask      string     `api:"netmask" doc:"new netmask of the subnet, while no address of the range is in use"`
	ForSystemVMs *bool      `api:"forsystemvms" doc:"whether system VMs have it for themselves; changes while no address of it is in use"`
}

func (h handlers) updateRange() api.Command {
	return api.Command{
		Name: "updateVlanIpRange", Doc: "Changes a range of public addresses; those in use stay in it.", Since: "4.16", Roles: api.AdminOnly,
		Event: "VLAN.IP.RANGE.UPDATE", Entity: "VlanIpRange", Object: "vlan",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateRangeParams) (RangeAnswer, error) {
			v, err := get(tx, tables.VLANRanges, p.ID)
			if err != nil {
				return RangeAnswer{}, err
			}
			err = h.Area.UpdateRange(tx, v, network.RangeChange{
				Start: p.StartIP, End: p.EndIP, Gateway: p.Gateway, Netmask: p.Netmask, ForSystemVMs: p.ForSystemVMs,
			})
			c.Describe(v.ID, "Public range "+v.Start.String()+"-"+v.End.String())
			return viewRange(tx, v), err
		}),
	}
}

type deleteRangeParams struct {
	ID cloud.ID `api:"id,required" ref:"vlaniprange" doc:"the range"`
}

func (h handlers) deleteRange() api.Command {
	return api.Command{
		Name: "deleteVlanIpRange", Doc: "Removes a range of public addresses none of which is in use.", Roles: api.AdminOnly,
		Event: "VLAN.IP.RANGE.DELETE", Entity: "VlanIpRange",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *deleteRangeParams) error {
			v, err := get(tx, tables.VLANRanges, p.ID)
			if err != nil {
				return err
			}
			c.Describe(v.ID, "Public range "+v.Start.String()+"-"+v.End.String())
			return h.Area.DeleteRange(tx, v)
		}),
	}
}
