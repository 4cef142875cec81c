package networkoffering

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/offering"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type serviceProvider struct {
	Service  string `api:"service" doc:"the service"`
	Provider string `api:"provider" doc:"its provider"`
}

type serviceCapability struct {
	Service string `api:"service" doc:"the service"`
	Name    string `api:"capabilitytype" doc:"the capability"`
	Value   string `api:"capabilityvalue" doc:"its value"`
}

type createParams struct {
	Name              string              `api:"name,required" doc:"name of the offering, unique in the cloud"`
	DisplayText       string              `api:"displaytext,required" len:"4096" doc:"description of the offering"`
	GuestIPType       string              `api:"guestiptype,required" doc:"Isolated"`
	TrafficType       string              `api:"traffictype,required" doc:"Guest"`
	SupportedServices []string            `api:"supportedservices,required" doc:"services of its networks, see listSupportedNetworkServices"`
	Providers         []serviceProvider   `api:"serviceproviderlist,objects" doc:"provider of each service; VirtualRouter when absent"`
	Capabilities      []serviceCapability `api:"servicecapabilitylist,objects" doc:"capabilities of services"`
	Availability      string              `api:"availability" doc:"Optional (the default) or Required"`
	ConserveMode      *bool               `api:"conservemode" doc:"a public address may serve several purposes; true when absent"`
	Persistent        bool                `api:"ispersistent" doc:"networks run without VMs as well"`
	NetworkRate       uint32              `api:"networkrate" doc:"Mbit/s"`
	ServiceOfferingID cloud.ID            `api:"serviceofferingid" ref:"serviceoffering" doc:"size of its router when that is a system VM"`
	SpecifyIPRanges   bool                `api:"specifyipranges" doc:"networks are made with a range of the caller's choice; not with SourceNat"`
	SpecifyVLAN       bool                `api:"specifyvlan" doc:"networks are made with a VLAN or VNI of the caller's choice"`
	Tags              string              `api:"tags" len:"4096" doc:"tags that choose the physical network, separated by commas"`
	EgressPolicy      *bool               `api:"egressdefaultpolicy" since:"4.2" doc:"true (the default): guests may reach everything unless a rule denies it"`
	Enable            bool                `api:"enable" since:"4.16" doc:"enable it at once"`
	MaxConnections    uint32              `api:"maxconnections" since:"4.2" doc:"connections of the load balancer"`
	Details           map[string]string   `api:"details,map" since:"4.2" doc:"details to keep with it"`
	ForVPC            bool                `api:"forvpc" since:"4.16" doc:"for tiers of VPCs, which this version does not have"`
	InternetProtocol  string              `api:"internetprotocol" since:"4.17" enum:"IPv4" doc:"IPv4"`
	NetworkMode       string              `api:"networkmode" since:"4.20" enum:"NATTED" doc:"NATTED, which needs SourceNat"`
	DomainID          []cloud.ID          `api:"domainid" ref:"domain" since:"4.13" doc:"domains that may use it; all when absent"`
	ZoneID            []cloud.ID          `api:"zoneid" ref:"zone" since:"4.13" doc:"zones it may be used in; all when absent"`
}

func (h handlers) create() api.Command {
	return api.Command{
		Name: "createNetworkOffering", Doc: "Makes a kind of network that accounts can have, disabled.", Roles: api.AdminOnly,
		Event: "NETWORK.OFFERING.CREATE", Entity: "NetworkOffering", Object: "networkoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (Answer, error) {
			q := network.OfferingRequest{
				Name: p.Name, DisplayText: p.DisplayText, TrafficType: p.TrafficType, GuestType: p.GuestIPType, Availability: p.Availability,
				Services: p.SupportedServices, Providers: map[string][]string{}, Capabilities: map[string]map[string]string{},
				SpecifyVLAN: p.SpecifyVLAN, SpecifyIPRanges: p.SpecifyIPRanges, ConserveMode: p.ConserveMode == nil || *p.ConserveMode,
				Persistent: p.Persistent, EgressAllow: p.EgressPolicy == nil || *p.EgressPolicy, Enable: p.Enable, NetworkRate: p.NetworkRate,
				MaxConnections: p.MaxConnections, Tags: network.SplitTags(p.Tags), ServiceOfferingID: p.ServiceOfferingID,
				DomainIDs: p.DomainID, ZoneIDs: p.ZoneID, Details: p.Details, ForVPC: p.ForVPC, NATed: p.NetworkMode != "",
			}
			for _, s := range p.Providers {
				q.Providers[s.Service] = append(q.Providers[s.Service], s.Provider)
			}
			for _, s := range p.Capabilities {
				if q.Capabilities[s.Service] == nil {
					q.Capabilities[s.Service] = map[string]string{}
				}
				q.Capabilities[s.Service][s.Name] = s.Value
			}
			o, err := h.Area.CreateOffering(tx, q)
			if err != nil {
				return Answer{}, err
			}
			c.Describe(o.ID, "Network offering "+o.Name)
			return view(tx, o), nil
		}),
	}
}

type listParams struct {
	api.ListParams
	Availability      string   `api:"availability" doc:"Optional or Required"`
	DisplayText       string   `api:"displaytext" len:"4096" doc:"offerings of this description"`
	ForVPC            *bool    `api:"forvpc" doc:"offerings for tiers of VPCs, or not"`
	GuestIPType       string   `api:"guestiptype" doc:"Isolated, Shared or L2"`
	ID                cloud.ID `api:"id" doc:"this offering only"`
	IsDefault         *bool    `api:"isdefault" doc:"those that every cloud has, or the others"`
	IsTagged          *bool    `api:"istagged" doc:"offerings with tags, or without"`
	Name              string   `api:"name" doc:"the offering of this name"`
	NetworkID         cloud.ID `api:"networkid" ref:"network" doc:"offerings that this network could have instead"`
	SourceNAT         *bool    `api:"sourcenatsupported" doc:"offerings with source NAT, or without"`
	SpecifyIPRanges   *bool    `api:"specifyipranges" doc:"offerings whose networks have ranges of their own, or not"`
	SpecifyVLAN       *bool    `api:"specifyvlan" doc:"offerings that take a VLAN, or not"`
	State             string   `api:"state" doc:"Enabled or Disabled"`
	SupportedServices []string `api:"supportedservices" doc:"offerings with all of these services"`
	Tags              string   `api:"tags" len:"4096" doc:"offerings with these tags"`
	TrafficType       string   `api:"traffictype" doc:"Guest"`
	DomainID          cloud.ID `api:"domainid" ref:"domain" since:"4.13" doc:"offerings restricted to this domain"`
	ZoneID            cloud.ID `api:"zoneid" ref:"zone" doc:"offerings that can be used in this zone"`
}

func (h handlers) list() api.Command {
	return api.Command{
		Name: "listNetworkOfferings", Doc: "Lists the kinds of networks that accounts can have.", Roles: api.Everyone, Object: "networkoffering",
		Run: api.List(api.Lister[listParams, cloud.NetworkOffering, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.NetworkOffering], error) {
				present := ""
				if n, ok := tables.Networks.Get(c.Read, p.NetworkID); ok {
					if o, ok := tables.NetworkOfferings.Get(c.Read, n.OfferingID); ok {
						present = o.GuestType.String()
					}
				}
				return func(yield func(*cloud.NetworkOffering) bool) {
					for o := range tables.NetworkOfferings.By(c.Read, "name", nil) {
						if p.keeps(o) && (present == "" || o.GuestType.String() == present) && !yield(o) {
							return
						}
					}
				}, nil
			},
			Visible: visible,
			Keyword: func(o *cloud.NetworkOffering) string { return o.Name + "\n" + o.DisplayText },
			Less: func(a, b *cloud.NetworkOffering) int {
				return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
			},
			SortKey: func(o *cloud.NetworkOffering) int32 { return o.SortKey },
			View:    func(c *api.Call, o *cloud.NetworkOffering) Answer { return view(c.Read, o) },
		}),
	}
}

// keeps tells whether an offering passes the filters.
func (p *listParams) keeps(o *cloud.NetworkOffering) bool {
	is := func(want *bool, has bool) bool { return want == nil || *want == has }
	text := func(want, has string) bool { return want == "" || strings.EqualFold(want, has) }
	return !o.System && o.Removed.IsZero() && (p.ID.IsZero() || o.ID == p.ID) && (p.Name == "" || o.Name == p.Name) &&
		(p.DisplayText == "" || o.DisplayText == p.DisplayText) &&
		text(p.Availability, o.Availability) && text(p.GuestIPType, o.GuestType.String()) && text(p.State, o.State.String()) &&
		text(p.TrafficType, o.TrafficType) && is(p.ForVPC, o.ForVPC) && is(p.IsDefault, o.Default) && is(p.IsTagged, len(o.Tags) > 0) &&
		is(p.SourceNAT, network.Offers(o, network.SourceNat)) && is(p.SpecifyIPRanges, o.SpecifyIPRanges) && is(p.SpecifyVLAN, o.SpecifyVLAN) &&
		(p.DomainID.IsZero() || slices.Contains(o.DomainIDs, p.DomainID)) &&
		(p.ZoneID.IsZero() || len(o.ZoneIDs) == 0 || slices.Contains(o.ZoneIDs, p.ZoneID)) &&
		(p.Tags == "" || slices.Equal(o.Tags, network.SplitTags(p.Tags))) && offersAll(o, p.SupportedServices)
}

func offersAll(o *cloud.NetworkOffering, services []string) bool {
	for _, name := range services {
		if s, ok := network.ServiceByName(name); !ok || !network.Offers(o, s.Name) {
			return false
		}
	}
	return true
}

type updateParams struct {
	ID           cloud.ID `api:"id" ref:"networkoffering" doc:"the offering"`
	Name         string   `api:"name" doc:"new name"`
	DisplayText  string   `api:"displaytext" len:"4096" doc:"new description"`
	Availability string   `api:"availability" doc:"Optional or Required"`
	SortKey      *int32   `type:"integer" api:"sortkey" doc:"its place in lists: higher ones first, or lower ones with sortkey.algorithm"`
	State        string   `api:"state" doc:"Enabled or Disabled"`
	Tags         *string  `api:"tags" len:"4096" since:"4.13" doc:"new tags"`
	MaxConns     *uint32  `type:"integer" api:"maxconnections" since:"4.2" doc:"connections of the load balancer"`
	DomainID     *string  `api:"domainid" len:"4096" since:"4.13" doc:"domains that may use it, separated by commas; public for all"`
	ZoneID       *string  `api:"zoneid" len:"4096" since:"4.13" doc:"zones it can be used in, separated by commas; all for all"`
}

func (h handlers) update() api.Command {
	return api.Command{
		Name: "updateNetworkOffering", Doc: "Enables, disables or renames a network offering.", Roles: api.AdminOnly,
		Event: "NETWORK.OFFERING.EDIT", Entity: "NetworkOffering", Object: "networkoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (Answer, error) {
			o, ok := tables.NetworkOfferings.Get(tx, p.ID)
			if !ok {
				return Answer{}, cloud.Errorf(cloud.Invalid, "Unable to find network offering: give its id")
			}
			c.Describe(o.ID, "Network offering "+o.Name)
			if p.MaxConns != nil {
				o.MaxConnections = *p.MaxConns
			}
			if err := offering.Restrict(tx, p.DomainID, p.ZoneID, &o.DomainIDs, &o.ZoneIDs); err != nil {
				return Answer{}, err
			}
			err := h.Area.UpdateOffering(tx, o, network.OfferingChange{
				Name: p.Name, DisplayText: p.DisplayText, Availability: p.Availability, State: p.State, Tags: p.Tags, SortKey: p.SortKey,
			})
			return view(tx, o), err
		}),
	}
}

type deleteParams struct {
	ID cloud.ID `api:"id,required" ref:"networkoffering" doc:"the offering"`
}

func (h handlers) delete() api.Command {
	return api.Command{
		Name: "deleteNetworkOffering", Doc: "Takes an offering out of the choice; networks that have it keep it.", Roles: api.AdminOnly,
		Event: "NETWORK.OFFERING.DELETE", Entity: "NetworkOffering",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *deleteParams) error {
			o, ok := tables.NetworkOfferings.Get(tx, p.ID)
			if !ok {
				return api.NoEntity("id", p.ID)
			}
			c.Describe(o.ID, "Network offering "+o.Name)
			return h.Area.DeleteOffering(tx, o)
		}),
	}
}

type listServicesParams struct {
	api.ListParams
	Provider string `api:"provider" doc:"services of this provider"`
	Service  string `api:"service" doc:"this service only"`
}

func listServices() api.Command {
	return api.Command{
		Name: "listSupportedNetworkServices", Doc: "Lists the network services that offerings can have.", Roles: api.AdminOnly, Object: "networkservice",
		Run: api.List(api.Lister[listServicesParams, network.Service, ServiceAnswer]{
			Rows: func(_ *api.Call, p *listServicesParams) (iter.Seq[*network.Service], error) {
				return func(yield func(*network.Service) bool) {
					if p.Provider != "" && !strings.EqualFold(p.Provider, network.VirtualRouter) {
						return
					}
					for _, s := range network.Services {
						if (p.Service == "" || strings.EqualFold(p.Service, s.Name)) && !yield(&s) {
							return
						}
					}
				}, nil
			},
			Keyword: func(s *network.Service) string { return s.Name },
			View: func(_ *api.Call, s *network.Service) ServiceAnswer {
				return viewService(*s, []string{network.VirtualRouter})
			},
		}),
	}
}
