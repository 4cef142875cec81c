// Package address holds the commands of public addresses. What they do is in package network.
package address

import (
	"cmp"
	"iter"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct{ Area *network.Area }

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	h := handlers{d}
	return []api.Command{h.list(), h.associate(), h.disassociate()}
}

// Entities lists what this package's rows are called in parameters. A free address is nothing that anybody may refer to.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "ipaddress",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			ip, ok := tables.PublicIPs.Get(r, id)
			if !ok || ip.State == cloud.IPFree {
				return api.Owner{}, false
			}
			return owner(ip), true
		},
	}}
}

func owner(ip *cloud.PublicIP) api.Owner {
	return api.Owner{Account: ip.AccountID, Domain: ip.DomainID}
}

type handlers struct{ Deps }

// Answer is a public address as clients see it.
type Answer struct {
	ID          cloud.ID   `json:"id" doc:"the address's row"`
	IPAddress   netip.Addr `json:"ipaddress" doc:"the address"`
	Allocated   api.Time   `json:"allocated,omitempty" doc:"since when it is in use"`
	ZoneID      cloud.ID   `json:"zoneid" doc:"its zone"`
	ZoneName    string     `json:"zonename" doc:"name of the zone"`
	IsSourceNAT bool       `json:"issourcenat" doc:"its network's guests appear under it"`
	Account     string     `json:"account,omitempty" doc:"account that has it"`
	api.InProject
	DomainID              cloud.ID  `json:"domainid,omitempty" doc:"domain of that account"`
	Domain                string    `json:"domain,omitempty" doc:"name of that domain"`
	DomainPath            string    `json:"domainpath,omitempty" doc:"path of that domain"`
	ForVirtualNetwork     bool      `json:"forvirtualnetwork" doc:"true"`
	VLANID                cloud.ID  `json:"vlanid,omitempty" doc:"its range (root admins)"`
	VLANName              string    `json:"vlanname,omitempty" doc:"VLAN of its range (root admins)"`
	IsStaticNAT           bool      `json:"isstaticnat" doc:"all of it leads to one VM"`
	IsSystem              bool      `json:"issystem" doc:"the system has it"`
	VMID                  cloud.ID  `json:"virtualmachineid,omitempty" doc:"that VM"`
	VMName                string    `json:"virtualmachinename,omitempty" doc:"name of that VM"`
	VMDisplayName         string    `json:"virtualmachinedisplayname,omitempty" doc:"display name of that VM"`
	AssociatedNetworkID   cloud.ID  `json:"associatednetworkid,omitempty" doc:"guest network that has it"`
	AssociatedNetworkName string    `json:"associatednetworkname,omitempty" doc:"name of that network"`
	NetworkID             cloud.ID  `json:"networkid" doc:"the public network"`
	State                 string    `json:"state" doc:"Free, Allocating, Allocated or Releasing"`
	PhysicalNetworkID     cloud.ID  `json:"physicalnetworkid" doc:"physical network that carries it"`
	HasRules              bool      `json:"hasrules" doc:"ports of it are forwarded"`
	IsPortable            bool      `json:"isportable" doc:"false"`
	ForDisplay            bool      `json:"fordisplay" doc:"true"`
	Tags                  []api.Tag `json:"tags" doc:"tags"`
	api.Remarked          `of:"ipaddress"`
}

// view makes the answer; root shows what only root admins see.
func view(r store.Reader, ip *cloud.PublicIP, root bool) Answer {
	a := Answer{
		ID: ip.ID, IPAddress: ip.Address, Allocated: api.Time(ip.Allocated), ZoneID: ip.ZoneID, IsSourceNAT: ip.SourceNAT,
		ForVirtualNetwork: true, IsStaticNAT: ip.StaticNAT, IsSystem: ip.System, NetworkID: network.PublicNetworkID(ip.ZoneID),
		State: ip.State.String(), PhysicalNetworkID: ip.PhysicalNetworkID, DomainID: ip.DomainID, ForDisplay: true, Tags: api.TagsOf(r, ip.ID),
	}
	for range tables.PortForwardingRules.IDs(r, "ip", store.K(ip.ID)) {
		a.HasRules = true
		break
	}
	if z, ok := tables.Zones.Get(r, ip.ZoneID); ok {
		a.ZoneName = z.Name
	}
	a.Account, a.InProject = api.OwnerNames(r, ip.AccountID)
	if d, ok := tables.Domains.Get(r, ip.DomainID); ok {
		a.Domain, a.DomainPath = d.Name, d.Path
	}
	if v, ok := tables.VLANRanges.Get(r, ip.RangeID); ok && root {
		a.VLANID, a.VLANName = v.ID, network.VLANURI(v)
	}
	if n, ok := tables.Networks.Get(r, ip.NetworkID); ok {
		a.AssociatedNetworkID, a.AssociatedNetworkName = n.ID, n.Name
	}
	if vm, ok := tables.VMs.Get(r, ip.VMID); ok {
		a.VMID, a.VMName, a.VMDisplayName = vm.ID, vm.Name, vm.DisplayName
	}
	return a
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	AllocatedOnly       *bool      `api:"allocatedonly" doc:"true (the default): only addresses in use"`
	AssociatedNetworkID cloud.ID   `api:"associatednetworkid" ref:"network" doc:"addresses of this guest network"`
	ForVirtualNetwork   *bool      `api:"forvirtualnetwork" doc:"true: public addresses, all of them"`
	ID                  cloud.ID   `api:"id" doc:"this address only"`
	IPAddress           netip.Addr `api:"ipaddress" doc:"this address only"`
	IsSourceNAT         *bool      `api:"issourcenat" doc:"source NAT addresses, or the others"`
	IsStaticNAT         *bool      `api:"isstaticnat" doc:"addresses that lead to one VM, or the others"`
	PhysicalNetworkID   cloud.ID   `api:"physicalnetworkid" ref:"physicalnetwork" doc:"addresses on this physical network"`
	State               string     `api:"state" since:"4.16" doc:"addresses in this state; Free implies allocatedonly=false"`
	VLANID              cloud.ID   `api:"vlanid" ref:"vlaniprange" doc:"addresses of this range"`
	VPCID               string     `api:"vpcid" type:"uuid" doc:"addresses of this VPC"`
	ZoneID              cloud.ID   `api:"zoneid" ref:"zone,use" doc:"addresses of this zone"`
}

func (h handlers) list() api.Command {
	return api.Command{
		Name: "listPublicIpAddresses", Doc: "Lists public addresses.", Roles: api.Everyone, Object: "publicipaddress",
		Run: api.List(api.Lister[listParams, cloud.PublicIP, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.PublicIP], error) {
				if p.VPCID != "" || p.ForVirtualNetwork != nil && !*p.ForVirtualNetwork {
					return nil, nil
				}
				rows := p.candidates(c)
				return func(yield func(*cloud.PublicIP) bool) {
					for ip := range rows {
						if p.keeps(ip) && !yield(ip) {
							return
						}
					}
				}, nil
			},
			Ranked: func(c *api.Call, p *listParams) (api.Ranked[cloud.PublicIP], bool) {
				other := *p
				if other.AllocatedOnly = nil; p.free() || !api.Unfiltered(other) {
					return api.Ranked[cloud.PublicIP]{}, false
				}
				return api.Order[cloud.PublicIP]{
					Table: tables.PublicIPs, All: "allocated", Own: "account-allocated", Domain: "domain-allocated",
				}.Rank(c)
			},
			Table:   tables.PublicIPs,
			Kept:    func(c *api.Call, _ *listParams) (uint8, bool) { return api.RootShape(c), true },
			Owner:   func(_ *api.Call, ip *cloud.PublicIP) api.Owner { return owner(ip) },
			Visible: choosable,
			Keyword: func(ip *cloud.PublicIP) string { return ip.Address.String() },
			Less: func(a, b *cloud.PublicIP) int {
				return cmp.Or(b.Allocated.Compare(a.Allocated), a.Address.Compare(b.Address))
			},
			View: func(c *api.Call, ip *cloud.PublicIP) Answer { return view(c.Read, ip, c.IsRoot()) },
		}),
	}
}

// free tells whether the call asks for free addresses as well.
func (p *listParams) free() bool {
	return p.AllocatedOnly != nil && !*p.AllocatedOnly || strings.EqualFold(p.State, cloud.IPFree.String())
}

// choosable tells whether a free address may be shown: one of a range that the caller's account may have.
func choosable(c *api.Call, ip *cloud.PublicIP) bool {
	if ip.State != cloud.IPFree {
		return false
	}
	v, ok := tables.VLANRanges.Get(c.Read, ip.RangeID)
	return ok && !v.ForSystemVMs && (v.AccountID.IsZero() || v.AccountID == c.Account.ID) || c.IsRoot()
}

func (p *listParams) candidates(c *api.Call) iter.Seq[*cloud.PublicIP] {
	account, one := c.Scope.Account()
	switch {
	case !p.ID.IsZero():
		return func(yield func(*cloud.PublicIP) bool) {
			if ip, ok := tables.PublicIPs.Get(c.Read, p.ID); ok {
				yield(ip)
			}
		}
	case !p.AssociatedNetworkID.IsZero():
		return tables.PublicIPs.By(c.Read, "network", store.K(p.AssociatedNetworkID))
	case !p.free() && one:
		return tables.PublicIPs.By(c.Read, "account", store.K(account))
	case !p.free():
		return tables.PublicIPs.By(c.Read, "account", nil)
	case !p.VLANID.IsZero():
		return tables.PublicIPs.By(c.Read, "range", store.K(p.VLANID))
	case !p.ZoneID.IsZero():
		return tables.PublicIPs.By(c.Read, "address", store.K(p.ZoneID))
	}
	return tables.PublicIPs.By(c.Read, "address", nil)
}

// keeps tells whether an address passes the filters.
func (p *listParams) keeps(ip *cloud.PublicIP) bool {
	is := func(want *bool, has bool) bool { return want == nil || *want == has }
	id := func(want, has cloud.ID) bool { return want.IsZero() || want == has }
	return (ip.State != cloud.IPFree || p.free()) && id(p.ID, ip.ID) && id(p.AssociatedNetworkID, ip.NetworkID) &&
		id(p.PhysicalNetworkID, ip.PhysicalNetworkID) && id(p.VLANID, ip.RangeID) && id(p.ZoneID, ip.ZoneID) &&
		is(p.IsSourceNAT, ip.SourceNAT) && is(p.IsStaticNAT, ip.StaticNAT) && (!p.IPAddress.IsValid() || ip.Address == p.IPAddress) &&
		(p.State == "" || strings.EqualFold(p.State, ip.State.String()))
}
