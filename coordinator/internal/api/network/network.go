package network

import (
	"cmp"
	"iter"
	"net/netip"
	"reflect"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type createParams struct {
	Name              string     `api:"name,required" doc:"name of the network"`
	DisplayText       string     `api:"displaytext" doc:"description of the network; its name when absent"`
	OfferingID        cloud.ID   `api:"networkofferingid,required" ref:"networkoffering,use" doc:"what kind of network"`
	ZoneID            cloud.ID   `api:"zoneid,required" ref:"zone,use" doc:"its zone"`
	Account           string     `api:"account" doc:"account that will own it; with domainid"`
	DomainID          cloud.ID   `api:"domainid" ref:"domain,use" doc:"domain of that account"`
	ProjectID         cloud.ID   `api:"projectid" doc:"project that will own it"`
	ACLType           string     `api:"acltype" doc:"Account"`
	Gateway           netip.Addr `api:"gateway" doc:"its gateway; with netmask. The zone's guest subnet when absent"`
	Netmask           string     `api:"netmask" doc:"its netmask"`
	StartIP           netip.Addr `api:"startip" doc:"first address for VMs; the whole subnet when absent"`
	EndIP             netip.Addr `api:"endip" doc:"last address; the last one of the range serves DHCP, DNS and metadata"`
	VLAN              string     `api:"vlan" doc:"VLAN id or VNI, where the offering wants one (admins)"`
	NetworkDomain     string     `api:"networkdomain" doc:"its DNS domain"`
	PhysicalNetworkID cloud.ID   `api:"physicalnetworkid" ref:"physicalnetwork" role:"admin" doc:"physical network that carries it"`
	SubdomainAccess   *bool      `api:"subdomainaccess" doc:"for Shared networks of a domain"`
	DNS1              netip.Addr `api:"dns1" since:"4.18" doc:"resolver that names are forwarded to; the zone's when absent"`
	DNS2              netip.Addr `api:"dns2" since:"4.18" doc:"the second one"`
	SourceNATIP       netip.Addr `api:"sourcenatipaddress" since:"4.19" doc:"its source NAT address, a free public one"`
}

func (h handlers) create() api.Command {
	return api.Command{
		Name: "createNetwork", Doc: "Makes a guest network; it runs from the start of its first VM.", Roles: api.Everyone,
		Event: "NETWORK.CREATE", Entity: "Network", Object: "network",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (Answer, error) {
			if p.SubdomainAccess != nil {
				return Answer{}, cloud.Errorf(cloud.Invalid, "Parameter subdomainaccess can be specified only with acltype=Domain")
			}
			q := area.GuestRequest{
				Name: p.Name, DisplayText: p.DisplayText, Root: c.IsRoot(), Admin: c.IsAdmin(), Gateway: p.Gateway, Netmask: p.Netmask,
				Start: p.StartIP, End: p.EndIP, VLAN: p.VLAN, Domain: p.NetworkDomain, ACLType: p.ACLType, DNS1: p.DNS1, DNS2: p.DNS2,
				SourceNATIP: p.SourceNATIP,
			}
			if q.DisplayText == "" {
				q.DisplayText = p.Name
			}
			var ok bool
			if q.Zone, ok = tables.Zones.Get(tx, p.ZoneID); !ok {
				return Answer{}, api.NoEntity("zoneid", p.ZoneID)
			}
			if q.Offering, ok = tables.NetworkOfferings.Get(tx, p.OfferingID); !ok {
				return Answer{}, api.NoEntity("networkofferingid", p.OfferingID)
			}
			if !p.PhysicalNetworkID.IsZero() {
				if q.Physical, ok = tables.PhysicalNetworks.Get(tx, p.PhysicalNetworkID); !ok {
					return Answer{}, api.NoEntity("physicalnetworkid", p.PhysicalNetworkID)
				}
			}
			var err error
			if q.Owner, err = c.OwnerFor(p.Account, p.DomainID, p.ProjectID); err != nil {
				return Answer{}, err
			}
			n, err := h.Area.CreateGuest(tx, q)
			if err != nil {
				return Answer{}, err
			}
			c.Describe(n.ID, "Network "+n.Name)
			c.EventOwner(api.Owner{Account: n.AccountID, Domain: n.DomainID})
			return view(tx, n, c.IsRoot()), nil
		}),
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	ID                cloud.ID `api:"id" doc:"this network only"`
	Name              string   `api:"name" since:"4.13" doc:"networks of this name"`
	ACLType           string   `api:"acltype" doc:"Account or Domain"`
	CanUseForDeploy   *bool    `api:"canusefordeploy" doc:"networks that VMs can be deployed on, or not"`
	ForVPC            *bool    `api:"forvpc" doc:"tiers of VPCs, or other networks"`
	IsSystem          *bool    `api:"issystem" doc:"true: networks of the system, which are not shown"`
	OfferingID        cloud.ID `api:"networkofferingid" since:"4.13" doc:"networks of this offering"`
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid" ref:"physicalnetwork" doc:"networks on this physical network"`
	RestartRequired   *bool    `api:"restartrequired" doc:"networks whose router has to be restarted, or not"`
	SpecifyIPRanges   *bool    `api:"specifyipranges" doc:"networks with ranges of their own, or without"`
	SupportedServices []string `api:"supportedservices" doc:"networks with all of these services"`
	TrafficType       string   `api:"traffictype" doc:"Guest"`
	Type              string   `api:"type" doc:"Isolated, Shared or L2"`
	VPCID             string   `api:"vpcid" type:"uuid" doc:"tiers of this VPC"`
	VLAN              string   `api:"vlan" role:"admin" since:"4.18" doc:"the network of this VLAN or VNI"`
	ZoneID            cloud.ID `api:"zoneid" ref:"zone,use" doc:"networks of this zone"`
}

func (h handlers) list() api.Command {
	return api.Command{
		Name: "listNetworks", Doc: "Lists guest networks.", Roles: api.Everyone, Object: "network",
		Run: api.List(api.Lister[listParams, cloud.Network, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Network], error) {
				if p.none() {
					return nil, nil
				}
				return filter(p.candidates(c), func(n *cloud.Network) bool { return p.keeps(c.Read, n) }), nil
			},
			Ranked: func(c *api.Call, p *listParams) (api.Ranked[cloud.Network], bool) {
				if !api.Unfiltered(*p) {
					return api.Ranked[cloud.Network]{}, false
				}
				return api.Order[cloud.Network]{Table: tables.Networks, All: "created", Own: "account-created", Domain: "domain-created"}.Rank(c)
			},
			Table: tables.Networks,
			Kept:  func(c *api.Call, _ *listParams) (uint8, bool) { return api.RootShape(c), true },
			Owner: func(_ *api.Call, n *cloud.Network) api.Owner {
				return api.Owner{Account: n.AccountID, Domain: n.DomainID}
			},
			Keyword: func(n *cloud.Network) string { return n.Name + "\n" + n.DisplayText },
			Less: func(a, b *cloud.Network) int {
				return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Number, b.Number))
			},
			View: func(c *api.Call, n *cloud.Network) Answer { return view(c.Read, n, c.IsRoot()) },
		}),
	}
}

// none tells whether the filters ask for kinds of networks that do not exist.
func (p *listParams) none() bool {
	yes := func(b *bool) bool { return b != nil && *b }
	return yes(p.IsSystem) || yes(p.ForVPC) || p.VPCID != "" || p.TrafficType != "" && !strings.EqualFold(p.TrafficType, "Guest")
}

func (p *listParams) candidates(c *api.Call) iter.Seq[*cloud.Network] {
	if !p.ID.IsZero() {
		return func(yield func(*cloud.Network) bool) {
			if n, ok := tables.Networks.Get(c.Read, p.ID); ok {
				yield(n)
			}
		}
	}
	if account, ok := c.Scope.Account(); ok {
		return tables.Networks.By(c.Read, "account", store.K(account))
	}
	if !p.ZoneID.IsZero() {
		return tables.Networks.By(c.Read, "zone", store.K(p.ZoneID))
	}
	return tables.Networks.All(c.Read)
}

// keeps tells whether a network passes the filters.
func (p *listParams) keeps(r store.Reader, n *cloud.Network) bool {
	is := func(want *bool, has bool) bool { return want == nil || *want == has }
	text := func(want, has string) bool { return want == "" || strings.EqualFold(want, has) }
	id := func(want, has cloud.ID) bool { return want.IsZero() || want == has }
	if !id(p.ID, n.ID) || !id(p.ZoneID, n.ZoneID) || !id(p.OfferingID, n.OfferingID) || !id(p.PhysicalNetworkID, n.PhysicalNetworkID) ||
		p.Name != "" && n.Name != p.Name || !text(p.ACLType, n.ACLType) || !text(p.Type, n.GuestType.String()) ||
		!is(p.CanUseForDeploy, n.State != cloud.NetworkDestroy) || !is(p.RestartRequired, n.RestartNeeded) {
		return false
	}
	a := view(r, n, true)
	if p.VLAN != "" && a.VLAN != p.VLAN && a.BroadcastURI != p.VLAN || !is(p.SpecifyIPRanges, a.SpecifyIPRanges) {
		return false
	}
	o, ok := tables.NetworkOfferings.Get(r, n.OfferingID)
	for _, name := range p.SupportedServices {
		if s, known := area.ServiceByName(name); !known || !ok || !area.Offers(o, s.Name) {
			return false
		}
	}
	return true
}

// result is the network as it is when the job ends.
func (h handlers) result(r store.Reader, c *api.ResultContext, j *cloud.Job) (any, error) {
	n, err := get(r, j.InstanceID)
	if err != nil {
		return nil, err
	}
	return view(r, n, c.IsRoot(r, j)), nil
}

type updateParams struct {
	ID            cloud.ID `api:"id,required" ref:"network" doc:"the network"`
	Name          string   `api:"name" doc:"new name"`
	DisplayText   string   `api:"displaytext" doc:"new description"`
	NetworkDomain string   `api:"networkdomain" doc:"new DNS domain; guests learn it with their next lease"`
}

func (h handlers) update() api.Command {
	return api.Command{
		Name: "updateNetwork", Doc: "Renames a guest network or changes its DNS domain.", Roles: api.Everyone,
		Event: "NETWORK.UPDATE", Entity: "Network", Object: "network",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateParams) (*api.Start, error) {
			n, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(n.ID, "Network "+n.Name)
			return &api.Start{InstanceID: n.ID, Owner: api.Owner{Account: n.AccountID, Domain: n.DomainID}},
				h.Area.UpdateGuest(tx, n, p.Name, p.DisplayText, p.NetworkDomain)
		}),
		Step: area.Finished, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

type deleteParams struct {
	ID cloud.ID `api:"id,required" ref:"network" doc:"the network"`
}

func (h handlers) delete() api.Command {
	return api.Command{
		Name: "deleteNetwork", Doc: "Deletes a guest network without VMs, with its rules and public addresses.", Roles: api.Everyone,
		Event: "NETWORK.DELETE", Entity: "Network",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *deleteParams) (*api.Start, error) {
			n, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(n.ID, "Network "+n.Name)
			return &api.Start{
				InstanceID: n.ID, Deadline: area.ConfirmWait(tx), Owner: api.Owner{Account: n.AccountID, Domain: n.DomainID},
			}, h.Area.Delete(tx, n)
		}),
		Step: h.Area.DeleteStep,
	}
}

type restartParams struct {
	ID      cloud.ID `api:"id,required" ref:"network" doc:"the network"`
	Cleanup *bool    `api:"cleanup" doc:"true (the default): replace the router by a new one, which is ready before the old one goes"`
}

func (h handlers) restart() api.Command {
	return api.Command{
		Name: "restartNetwork", Doc: "Restarts the router of a guest network; VMs keep their addresses.", Roles: api.Everyone,
		Event: "NETWORK.RESTART", Entity: "Network",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *restartParams) (*api.Start, error) {
			n, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(n.ID, "Network "+n.Name)
			return &api.Start{
				InstanceID: n.ID, Deadline: area.ReplaceWait(tx), Owner: api.Owner{Account: n.AccountID, Domain: n.DomainID},
			}, h.Area.Restart(tx, n, p.Cleanup == nil || *p.Cleanup)
		}),
		Step: h.Area.RestartStep,
	}
}
