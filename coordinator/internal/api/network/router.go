package network

import (
	"cmp"
	"iter"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RouterAnswer is a virtual router as clients see it.
type RouterAnswer struct {
	ID      cloud.ID `json:"id" doc:"the router"`
	Name    string   `json:"name" doc:"its name"`
	Account string   `json:"account,omitempty" doc:"owner of its network"`
	api.InProject
	DomainID          cloud.ID   `json:"domainid" doc:"domain of the owner"`
	Domain            string     `json:"domain" doc:"name of that domain"`
	ZoneID            cloud.ID   `json:"zoneid" doc:"its zone"`
	ZoneName          string     `json:"zonename" doc:"name of the zone"`
	PodID             cloud.ID   `json:"podid,omitempty" doc:"pod of its host"`
	HostID            cloud.ID   `json:"hostid,omitempty" doc:"host it runs on"`
	HostName          string     `json:"hostname,omitempty" doc:"name of that host"`
	State             string     `json:"state" doc:"Starting, Running, Stopping or Stopped"`
	HostControlState  string     `json:"hostcontrolstate,omitempty" doc:"Enabled, Disabled, Offline or Maintenance: its host"`
	Error             string     `json:"error,omitempty" doc:"what the host last said is wrong with it"`
	Created           api.Time   `json:"created" doc:"when it was made"`
	DNS1              netip.Addr `json:"dns1,omitempty" doc:"resolver it forwards to"`
	DNS2              netip.Addr `json:"dns2,omitempty" doc:"the second one"`
	NetworkDomain     string     `json:"networkdomain,omitempty" doc:"DNS domain of its network"`
	Gateway           netip.Addr `json:"gateway,omitempty" doc:"gateway on its public side"`
	PublicIP          netip.Addr `json:"publicip,omitempty" doc:"its source NAT address"`
	PublicMAC         string     `json:"publicmacaddress,omitempty" doc:"MAC address of its public side"`
	PublicNetmask     string     `json:"publicnetmask,omitempty" doc:"netmask of its public side"`
	PublicNetworkID   cloud.ID   `json:"publicnetworkid,omitempty" doc:"the public network"`
	GuestIPAddress    netip.Addr `json:"guestipaddress,omitempty" doc:"its address in the guest network"`
	GuestMACAddress   string     `json:"guestmacaddress,omitempty" doc:"MAC address in the guest network"`
	GuestNetmask      string     `json:"guestnetmask,omitempty" doc:"netmask of the guest network"`
	GuestNetworkID    cloud.ID   `json:"guestnetworkid" doc:"its network"`
	GuestNetworkName  string     `json:"guestnetworkname,omitempty" doc:"name of that network"`
	Hypervisor        string     `json:"hypervisor" doc:"KVM"`
	VPCID             string     `json:"vpcid" doc:"empty: no router of a VPC"`
	IsRedundantRouter bool       `json:"isredundantrouter" doc:"false"`
	RedundantState    string     `json:"redundantstate" doc:"UNKNOWN"`
	Role              string     `json:"role" doc:"VIRTUAL_ROUTER"`
	Version           string     `json:"version,omitempty" doc:"version of its image when it is a system VM, else of its network services"`
	RequiresUpgrade   bool       `json:"requiresupgrade" doc:"a system VM that runs from another image than the present one"`
	LinkLocalIP       netip.Addr `json:"linklocalip,omitempty" doc:"control address of a system VM, of its host only"`
	LinkLocalMAC      string     `json:"linklocalmacaddress,omitempty" doc:"MAC address of its control leg"`
	LinkLocalNetmask  string     `json:"linklocalnetmask,omitempty" doc:"netmask of control addresses"`
	LinkLocalNetwork  cloud.ID   `json:"linklocalnetworkid,omitempty" doc:"the control network"`
	TemplateID        cloud.ID   `json:"templateid,omitempty" doc:"image a system VM was booted from"`
	TemplateName      string     `json:"templatename,omitempty" doc:"name of that image"`
	TemplateVersion   string     `json:"templateversion,omitempty" doc:"version of that image as the running system VM tells it"`
	SoftwareVersion   string     `json:"softwareversion,omitempty" doc:"version of its network services"`
	OfferingID        cloud.ID   `json:"serviceofferingid,omitempty" doc:"size of a system VM"`
	OfferingName      string     `json:"serviceofferingname,omitempty" doc:"name of that size"`
	PodName           string     `json:"podname,omitempty" doc:"name of the pod"`
	HealthFailed      bool       `json:"healthchecksfailed" doc:"something of it does not work: one of its health checks failed"`
	// HealthChecks are told where they are asked for.
	HealthChecks []healthCheck `json:"healthcheckresults,omitempty" doc:"its health checks, with fetchhealthcheckresults=true"`
	NIC          []routerNIC   `json:"nic" doc:"its legs"`
	api.Remarked `of:"router"`
}

type routerNIC struct {
	ID          cloud.ID   `json:"id" doc:"the leg"`
	NetworkID   cloud.ID   `json:"networkid" doc:"network it is in"`
	Netmask     string     `json:"netmask" doc:"netmask"`
	Gateway     netip.Addr `json:"gateway,omitempty" doc:"gateway"`
	IPAddress   netip.Addr `json:"ipaddress" doc:"address"`
	MACAddress  string     `json:"macaddress" doc:"MAC address"`
	TrafficType string     `json:"traffictype" doc:"Guest, Public or Control"`
	IsDefault   bool       `json:"isdefault" doc:"true for the leg with the default route"`
}

func viewRouter(r store.Reader, rt *cloud.Router) RouterAnswer {
	a := RouterAnswer{
		ID: rt.ID, Name: rt.Name, DomainID: rt.DomainID, ZoneID: rt.ZoneID, PodID: rt.PodID, HostID: rt.HostID, State: rt.State.String(),
		Error: rt.Error, Created: api.Time(rt.Created), GuestNetworkID: rt.NetworkID, Hypervisor: "KVM",
		RedundantState: "UNKNOWN", Role: "VIRTUAL_ROUTER", Version: rt.Version, NIC: []routerNIC{},
	}
	a.Account, a.InProject = api.OwnerNames(r, rt.AccountID)
	if d, ok := tables.Domains.Get(r, rt.DomainID); ok {
		a.Domain = d.Name
	}
	if z, ok := tables.Zones.Get(r, rt.ZoneID); ok {
		a.ZoneName, a.DNS1, a.DNS2 = z.Name, z.DNS1, z.DNS2
	}
	if h, ok := tables.Hosts.Get(r, rt.HostID); ok {
		a.HostName, a.HostControlState = h.Name, h.ControlState()
	}
	if p, ok := tables.Pods.Get(r, rt.PodID); ok {
		a.PodName = p.Name
	}
	a.SoftwareVersion, a.HealthFailed = rt.Version, area.Sick(r, rt)
	a.legs(r, rt)
	if rt.Placement == cloud.InVM {
		a.systemVM(r, rt)
	}
	return a
}

// systemVM adds what only a router that is a system VM has.
func (a *RouterAnswer) systemVM(r store.Reader, rt *cloud.Router) {
	a.RequiresUpgrade, a.TemplateID, a.TemplateVersion = area.RequiresUpgrade(r, rt), rt.TemplateID, rt.ImageVersion
	if t, ok := tables.Templates.Get(r, rt.TemplateID); ok {
		a.TemplateName = t.Name
		if a.TemplateVersion == "" {
			a.TemplateVersion = t.Version
		}
	}
	if rt.ImageVersion != "" {
		a.Version = rt.ImageVersion
	}
	if o, ok := area.RouterOffering(r, rt); ok {
		a.OfferingID, a.OfferingName = o.ID, o.Name
	}
	if !rt.ControlIP.IsValid() {
		return
	}
	a.LinkLocalIP, a.LinkLocalMAC, a.LinkLocalNetmask = rt.ControlIP, alloc.FormatMAC(rt.ControlMAC), area.ControlNetmask()
	a.LinkLocalNetwork = area.ControlNetworkID(rt.ZoneID)
	a.NIC = append(a.NIC, routerNIC{
		ID: area.RouterNIC(rt, area.Control), NetworkID: a.LinkLocalNetwork, Netmask: a.LinkLocalNetmask, IPAddress: rt.ControlIP,
		MACAddress: a.LinkLocalMAC, TrafficType: area.Control,
	})
}

func (a *RouterAnswer) legs(r store.Reader, rt *cloud.Router) {
	if n, ok := tables.Networks.Get(r, rt.NetworkID); ok {
		a.NetworkDomain, a.GuestNetworkName = n.NetworkDomain, n.Name
		a.GuestIPAddress, a.GuestMACAddress = n.Gateway, alloc.FormatMAC(n.GatewayMAC)
		a.GuestNetmask = alloc.Netmask(n.CIDR.Bits())
		if n.DNS1.IsValid() {
			a.DNS1, a.DNS2 = n.DNS1, n.DNS2
		}
		a.NIC = append(a.NIC, routerNIC{
			ID: area.RouterNIC(rt, area.Guest), NetworkID: n.ID, Netmask: a.GuestNetmask, IPAddress: n.Gateway,
			MACAddress: a.GuestMACAddress, TrafficType: "Guest",
		})
	}
	ip, ok := area.SourceNATOf(r, rt.NetworkID)
	if !ok {
		return
	}
	v, ok := tables.VLANRanges.Get(r, ip.RangeID)
	if !ok || rt.PublicMAC == 0 { // of a router that is gone no more than its name is remembered
		return
	}
	a.PublicIP, a.PublicMAC, a.PublicNetmask, a.Gateway = ip.Address, alloc.FormatMAC(rt.PublicMAC), v.Netmask, v.Gateway
	a.PublicNetworkID = area.PublicNetworkID(rt.ZoneID)
	a.NIC = append(a.NIC, routerNIC{
		ID: area.RouterNIC(rt, area.Public), NetworkID: a.PublicNetworkID, Netmask: v.Netmask, Gateway: v.Gateway,
		IPAddress: ip.Address, MACAddress: a.PublicMAC, TrafficType: "Public", IsDefault: true,
	})
}

type listRoutersParams struct {
	api.ListParams
	api.OwnedParams
	ID        cloud.ID `api:"id" doc:"this router only"`
	Name      string   `api:"name" doc:"the router of this name"`
	ForVPC    *bool    `api:"forvpc" doc:"routers of VPCs, or of other networks"`
	HostID    cloud.ID `api:"hostid" ref:"host" doc:"routers on this host"`
	NetworkID cloud.ID `api:"networkid" ref:"network" doc:"the router of this network"`
	PodID     cloud.ID `api:"podid" ref:"pod" doc:"routers in this pod"`
	State     string   `api:"state" doc:"routers in this state"`
	Version   string   `api:"version" since:"4.5" doc:"routers of this version"`
	VPCID     string   `api:"vpcid" type:"uuid" doc:"the router of this VPC"`
	ZoneID    cloud.ID `api:"zoneid" ref:"zone" doc:"routers of this zone"`
	Failed    *bool    `api:"healthchecksfailed" since:"4.14" doc:"routers of which something does not work, or the others"`
	Checks    bool     `api:"fetchhealthcheckresults" since:"4.14" doc:"true: the health checks of each are told"`
}

func (h handlers) listRouters() api.Command {
	return api.Command{
		Name: "listRouters", Doc: "Lists virtual routers.", Roles: api.Admins, Object: "router",
		Run: api.List(api.Lister[listRoutersParams, cloud.Router, RouterAnswer]{
			Rows: func(c *api.Call, p *listRoutersParams) (iter.Seq[*cloud.Router], error) {
				if p.VPCID != "" || p.ForVPC != nil && *p.ForVPC {
					return nil, nil
				}
				rows := tables.Routers.All(c.Read)
				switch account, one := c.Scope.Account(); {
				case !p.NetworkID.IsZero():
					rows = tables.Routers.By(c.Read, "network", store.K(p.NetworkID))
				case !p.HostID.IsZero():
					rows = tables.Routers.By(c.Read, "host", store.K(p.HostID))
				case one:
					rows = tables.Routers.By(c.Read, "account", store.K(account))
				}
				return filter(rows, func(rt *cloud.Router) bool {
					return p.keeps(rt) && (p.Failed == nil || *p.Failed == area.Sick(c.Read, rt))
				}), nil
			},
			Owner: func(_ *api.Call, rt *cloud.Router) api.Owner {
				return api.Owner{Account: rt.AccountID, Domain: rt.DomainID}
			},
			Keyword: func(rt *cloud.Router) string { return rt.Name },
			Less:    func(a, b *cloud.Router) int { return cmp.Compare(a.Number, b.Number) },
			ViewFor: func(c *api.Call, p *listRoutersParams, rt *cloud.Router) RouterAnswer {
				a := viewRouter(c.Read, rt)
				if p.Checks {
					a.HealthChecks = viewChecks(c.Read, rt)
				}
				return a
			},
		}),
	}
}

func (p *listRoutersParams) keeps(rt *cloud.Router) bool {
	id := func(want, has cloud.ID) bool { return want.IsZero() || want == has }
	return id(p.ID, rt.ID) && id(p.HostID, rt.HostID) && id(p.NetworkID, rt.NetworkID) && id(p.PodID, rt.PodID) && id(p.ZoneID, rt.ZoneID) &&
		(p.Name == "" || p.Name == rt.Name) && (p.State == "" || strings.EqualFold(p.State, rt.State.String())) &&
		(p.Version == "" || p.Version == rt.Version || p.Version == rt.ImageVersion)
}
