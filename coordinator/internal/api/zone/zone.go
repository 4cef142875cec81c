// Package zone holds the commands of zones.
package zone

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command { return []api.Command{create(), list(), metrics(), update(), remove()} }

// Entities lists what this package's rows are called in parameters. A zone dedicated to a domain can be used by that
// domain and those below it.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "zone",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			z, ok := tables.Zones.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Domain: z.DomainID}, true
		},
		Usable: func(c *api.Call, id cloud.ID) bool {
			z, ok := tables.Zones.Get(c.Read, id)
			return ok && visible(c, z)
		},
	}}
}

// visible tells whether the caller may see and use a zone: root admins all, others those that are enabled and not
// dedicated to somebody else's domain.
func visible(c *api.Call, z *cloud.Zone) bool {
	if c.IsRoot() {
		return true
	}
	if z.AllocationState != cloud.AllocationEnabled {
		return false
	}
	if z.DomainID.IsZero() {
		return true
	}
	for id := c.Account.DomainID; !id.IsZero(); {
		if id == z.DomainID {
			return true
		}
		d, ok := tables.Domains.Get(c.Read, id)
		if !ok {
			return false
		}
		id = d.ParentID
	}
	return c.IsAdmin() && c.InDomain(z.DomainID)
}

// name is what an event tells of a zone.
func name(z *cloud.Zone) (cloud.ID, string) { return z.ID, "zone " + z.Name }

// Answer is a zone as clients see it.
type Answer struct {
	ID                    cloud.ID          `json:"id" doc:"the zone"`
	Name                  string            `json:"name" doc:"its name"`
	DNS1                  netip.Addr        `json:"dns1,omitempty" doc:"first DNS server for guests"`
	DNS2                  netip.Addr        `json:"dns2,omitempty" doc:"second DNS server for guests"`
	IP6DNS1               netip.Addr        `json:"ip6dns1,omitempty" doc:"first IPv6 DNS server for guests"`
	IP6DNS2               netip.Addr        `json:"ip6dns2,omitempty" doc:"second IPv6 DNS server for guests"`
	InternalDNS1          netip.Addr        `json:"internaldns1,omitempty" doc:"first DNS server of the infrastructure"`
	InternalDNS2          netip.Addr        `json:"internaldns2,omitempty" doc:"second DNS server of the infrastructure"`
	GuestCIDR             netip.Prefix      `json:"guestcidraddress,omitempty" doc:"addresses guest networks are cut from"`
	Domain                string            `json:"domain,omitempty" doc:"DNS domain of guest networks"`
	DomainID              cloud.ID          `json:"domainid,omitempty" doc:"domain it is dedicated to"`
	DomainName            string            `json:"domainname,omitempty" doc:"name of that domain"`
	NetworkType           string            `json:"networktype" doc:"Advanced or Basic"`
	Type                  string            `json:"type" doc:"Core: a data centre, not an edge site"`
	SecurityGroupsEnabled bool              `json:"securitygroupsenabled" doc:"whether security groups are used"`
	AllocationState       string            `json:"allocationstate" doc:"whether new things are placed in it: Enabled or Disabled"`
	ZoneToken             string            `json:"zonetoken,omitempty" doc:"a unique text of the zone"`
	DHCPProvider          string            `json:"dhcpprovider" doc:"who gives guests their addresses"`
	LocalStorageEnabled   bool              `json:"localstorageenabled" doc:"whether disks may lie on hosts' own storage"`
	ResourceDetails       map[string]string `json:"resourcedetails,omitempty" doc:"further details"`
	Capacity              []capacity.View   `json:"capacity,omitempty" doc:"how much of it is used"`
	api.Remarked          `of:"zone"`
}

func view(c *api.Call, z *cloud.Zone) Answer {
	a := Answer{
		ID: z.ID, Name: z.Name, DNS1: z.DNS1, DNS2: z.DNS2,
		IP6DNS1: z.IP6DNS1, IP6DNS2: z.IP6DNS2, Domain: z.NetworkDomain, DomainID: z.DomainID, NetworkType: z.Type.String(),
		Type: "Core", SecurityGroupsEnabled: z.SecurityGroups, AllocationState: z.AllocationState.String(), ZoneToken: z.Token,
		DHCPProvider: "VirtualRouter", LocalStorageEnabled: z.LocalStorage,
	}
	if d, ok := tables.Domains.Get(c.Read, z.DomainID); ok {
		a.DomainName = d.Name
	}
	if c.IsRoot() { // how the provider's own network is laid out is not the tenants' business
		a.InternalDNS1, a.InternalDNS2, a.GuestCIDR, a.ResourceDetails = z.InternalDNS1, z.InternalDNS2, z.GuestCIDR, z.Details
	}
	return a
}

type createParams struct {
	Name            string   `api:"name,required" doc:"name of the zone, one of a kind"`
	NetworkType     string   `api:"networktype,required" doc:"Advanced or Basic"`
	DNS1            *string  `api:"dns1,required" doc:"first DNS server for guests"`
	DNS2            *string  `api:"dns2" doc:"second DNS server for guests"`
	InternalDNS1    *string  `api:"internaldns1,required" doc:"first DNS server of the infrastructure"`
	InternalDNS2    *string  `api:"internaldns2" doc:"second DNS server of the infrastructure"`
	IP6DNS1         *string  `api:"ip6dns1" doc:"first IPv6 DNS server for guests"`
	IP6DNS2         *string  `api:"ip6dns2" doc:"second IPv6 DNS server for guests"`
	GuestCIDR       *string  `api:"guestcidraddress" doc:"addresses guest networks are cut from"`
	Domain          *string  `api:"domain" doc:"DNS domain of guest networks"`
	DomainID        cloud.ID `api:"domainid" ref:"domain" doc:"dedicates the zone to this domain"`
	AllocationState *string  `api:"allocationstate" doc:"Enabled or Disabled (the default)"`
	LocalStorage    *bool    `api:"localstorageenabled" doc:"whether disks may lie on hosts' own storage"`
	SecurityGroups  *bool    `api:"securitygroupenabled" doc:"whether security groups are used"`
}

func create() api.Command {
	return api.Command{
		Name: "createZone", Doc: "Makes a zone.", Roles: api.AdminOnly, Event: "ZONE.CREATE", Entity: "Zone", Object: "zone",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *createParams) (*cloud.Zone, error) {
			return infra.CreateZone(tx, p.NetworkType, p.DomainID, infra.ZoneValues{
				Name: &p.Name, DNS1: p.DNS1, DNS2: p.DNS2, IP6DNS1: p.IP6DNS1, IP6DNS2: p.IP6DNS2, InternalDNS1: p.InternalDNS1,
				InternalDNS2: p.InternalDNS2, GuestCIDR: p.GuestCIDR, NetworkDomain: p.Domain, AllocationState: p.AllocationState,
				LocalStorage: p.LocalStorage, SecurityGroups: p.SecurityGroups,
			})
		}),
	}
}

type updateParams struct {
	ID              cloud.ID          `api:"id,required" ref:"zone" doc:"the zone"`
	Name            *string           `api:"name" doc:"new name"`
	DNS1            *string           `api:"dns1" doc:"first DNS server for guests"`
	DNS2            *string           `api:"dns2" doc:"second DNS server for guests"`
	InternalDNS1    *string           `api:"internaldns1" doc:"first DNS server of the infrastructure"`
	InternalDNS2    *string           `api:"internaldns2" doc:"second DNS server of the infrastructure"`
	IP6DNS1         *string           `api:"ip6dns1" doc:"first IPv6 DNS server for guests"`
	IP6DNS2         *string           `api:"ip6dns2" doc:"second IPv6 DNS server for guests"`
	GuestCIDR       *string           `api:"guestcidraddress" doc:"addresses guest networks are cut from"`
	Domain          *string           `api:"domain" doc:"DNS domain of guest networks"`
	AllocationState *string           `api:"allocationstate" doc:"Enabled or Disabled"`
	LocalStorage    *bool             `api:"localstorageenabled" doc:"whether disks may lie on hosts' own storage"`
	Details         map[string]string `api:"details,map" doc:"further details: details[0].key and .value"`
	DHCPProvider    string            `api:"dhcpprovider" doc:"who gives guests their addresses; VirtualRouter"`
	DNSSearchOrder  []string          `api:"dnssearchorder" doc:"DNS domains that guests search"`
	IsPublic        bool              `api:"ispublic" doc:"ends the dedication to a domain"`
}

func update() api.Command {
	return api.Command{
		Name: "updateZone", Doc: "Changes a zone.", Roles: api.AdminOnly, Event: "ZONE.EDIT", Entity: "Zone", Object: "zone",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *updateParams) (*cloud.Zone, error) {
			if p.DHCPProvider != "" && !strings.EqualFold(p.DHCPProvider, "VirtualRouter") {
				return nil, cloud.Errorf(cloud.Invalid, "dhcpprovider %s is not supported; supported is VirtualRouter", p.DHCPProvider)
			}
			v := infra.ZoneValues{
				Name: p.Name, DNS1: p.DNS1, DNS2: p.DNS2, IP6DNS1: p.IP6DNS1, IP6DNS2: p.IP6DNS2, InternalDNS1: p.InternalDNS1,
				InternalDNS2: p.InternalDNS2, GuestCIDR: p.GuestCIDR, NetworkDomain: p.Domain, AllocationState: p.AllocationState,
				LocalStorage: p.LocalStorage, Details: p.Details, Public: p.IsPublic,
			}
			for _, d := range p.DNSSearchOrder {
				if !infra.ValidNetworkDomain(d) {
					return nil, cloud.Errorf(cloud.Invalid, "Invalid network domain suffix %s in dnssearchorder", d)
				}
			}
			if len(p.DNSSearchOrder) > 0 {
				if v.Details == nil {
					v.Details = map[string]string{}
				}
				v.Details["dns.search.order"] = strings.Join(p.DNSSearchOrder, ",")
			}
			return infra.UpdateZone(tx, p.ID, v)
		}),
	}
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"zone" doc:"the zone"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteZone", Doc: "Removes a zone that holds nothing any more.", Roles: api.AdminOnly, Event: "ZONE.DELETE", Entity: "Zone",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			c.Describe(p.ID, "zone "+p.ID.String())
			return infra.DeleteZone(tx, p.ID)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID             cloud.ID `api:"id" ref:"zone,use" doc:"this zone only"`
	Name           string   `api:"name" doc:"the zone of this name"`
	DomainID       cloud.ID `api:"domainid" ref:"domain,use" doc:"zones that this domain may use"`
	NetworkType    string   `api:"networktype" since:"4.3" doc:"zones of this type"`
	Available      *bool    `api:"available" doc:"false: only zones where the caller has VMs"`
	ShowCapacities bool     `api:"showcapacities" doc:"show how much is used"`
}

func list() api.Command {
	return api.Command{
		Name: "listZones", Doc: "Lists zones.", Roles: api.Everyone, Object: "zone",
		Run: api.List(lister()),
	}
}

func metrics() api.Command {
	return api.Command{
		Name: "listZonesMetrics", Doc: "Lists zones, with what their hosts have and use together.", Since: "4.9.3",
		Roles: api.AdminOnly, Object: "zone",
		Run: api.List(api.Extend(lister(), func(c *api.Call, _ *listParams, row *cloud.Zone, a Answer) MetricsAnswer {
			return metricsOf(c, row, a)
		})),
	}
}

// lister is the list of zones, however much it tells of them.
func lister() api.Lister[listParams, cloud.Zone, Answer] {
	return api.Lister[listParams, cloud.Zone, Answer]{
		Rows: rows, Visible: visible,
		Keyword: func(z *cloud.Zone) string { return z.Name },
		ViewFor: func(c *api.Call, p *listParams, z *cloud.Zone) Answer {
			a := view(c, z)
			if p.ShowCapacities && c.IsRoot() {
				a.Capacity = capacity.Of(c, z.ID, cloud.ID{}, cloud.ID{})
			}
			return a
		},
	}
}

func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.Zone], error) {
	var mine map[cloud.ID]bool
	if p.Available != nil && !*p.Available {
		mine = map[cloud.ID]bool{}
		for vm := range tables.VMs.By(c.Read, "account", store.K(c.Account.ID)) {
			mine[vm.ZoneID] = true
		}
	}
	return api.Filter(tables.Zones.By(c.Read, "name", nil), func(z *cloud.Zone) bool {
		return (p.ID.IsZero() || p.ID == z.ID) && (p.Name == "" || p.Name == z.Name) &&
			(p.NetworkType == "" || strings.EqualFold(p.NetworkType, z.Type.String())) &&
			(p.DomainID.IsZero() || z.DomainID.IsZero() || z.DomainID == p.DomainID) && (mine == nil || mine[z.ID])
	}), nil
}
