package physical

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type updateTrafficParams struct {
	ID          cloud.ID `api:"id,required" ref:"traffictype" doc:"the traffic type"`
	KVMLabel    *string  `api:"kvmnetworklabel" doc:"bridge on the hosts; for guest traffic with VXLAN the device of the underlay"`
	XenLabel    *string  `api:"xennetworklabel" doc:"kept, not used"`
	VMwareLabel *string  `api:"vmwarenetworklabel" doc:"kept, not used"`
}

func (h handlers) updateTraffic() api.Command {
	return api.ShowRow(tables.TrafficTypes, viewTraffic, api.Command{
		Name: "updateTrafficType", Doc: "Changes the labels of a kind of traffic.", Roles: api.AdminOnly, Event: "TRAFFIC.TYPE.UPDATE",
		Entity: "TrafficType", Object: "traffictype",
		Run: onRow(tables.TrafficTypes,
			func(p *updateTrafficParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, t *cloud.TrafficType, p *updateTrafficParams) error {
				c.Describe(t.ID, t.Type+" traffic")
				return h.Area.UpdateTraffic(tx, t, p.KVMLabel, p.XenLabel, p.VMwareLabel)
			}),
		Step: network.Finished,
	})
}

type deleteTrafficParams struct {
	ID cloud.ID `api:"id,required" ref:"traffictype" doc:"the traffic type"`
}

func (h handlers) deleteTraffic() api.Command {
	return api.Command{
		Name: "deleteTrafficType", Doc: "Has a physical network carry a kind of traffic no more.", Roles: api.AdminOnly, Event: "TRAFFIC.TYPE.DELETE",
		Entity: "TrafficType",
		Run: onRow(tables.TrafficTypes,
			func(p *deleteTrafficParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, t *cloud.TrafficType, _ *deleteTrafficParams) error {
				c.Describe(t.ID, t.Type+" traffic")
				return h.Area.DeleteTraffic(tx, t)
			}),
		Step: network.Finished,
	}
}

// Implementor says what carries a kind of traffic.
type Implementor struct {
	TrafficType string `json:"traffictype" doc:"the kind of traffic"`
	Implementor string `json:"traffictypeimplementor" doc:"what carries it"`
}

// implementors are the parts of this program that carry traffic.
var implementors = []*Implementor{
	{network.Public, "PublicNetwork"},
	{network.Guest, "VlanGuestNetwork"},
	{network.Guest, "VxlanGuestNetwork"},
	{network.Management, "ManagementNetwork"},
	{network.Storage, "StorageNetwork"},
}

type implementorParams struct {
	api.ListParams
	TrafficType string `api:"traffictype" doc:"what carries this kind of traffic"`
}

func listImplementors() api.Command {
	return api.Command{
		Name: "listTrafficTypeImplementors", Doc: "Lists what carries each kind of traffic.", Roles: api.AdminOnly, Object: "traffictypeimplementorresponse",
		Run: api.List(api.Lister[implementorParams, Implementor, Implementor]{
			Rows: func(_ *api.Call, p *implementorParams) (iter.Seq[*Implementor], error) {
				return func(yield func(*Implementor) bool) {
					for _, x := range implementors {
						if (p.TrafficType == "" || strings.EqualFold(p.TrafficType, x.TrafficType)) && !yield(x) {
							return
						}
					}
				}, nil
			},
			View: func(_ *api.Call, x *Implementor) Implementor { return *x },
		}),
	}
}

// Method is a way to keep guest networks apart.
type Method struct {
	Name string `json:"name" doc:"its name"`
}

func listMethods() api.Command {
	return api.Command{
		Name: "listNetworkIsolationMethods", Doc: "Lists the ways in which guest networks are kept apart.", Since: "4.2", Roles: api.AdminOnly, Object: "isolationmethod",
		Run: api.List(api.Lister[api.ListParams, Method, Method]{
			Rows: func(*api.Call, *api.ListParams) (iter.Seq[*Method], error) {
				return func(yield func(*Method) bool) {
					_ = yield(&Method{network.VLAN}) && yield(&Method{network.VXLAN})
				}, nil
			},
			View: func(_ *api.Call, m *Method) Method { return *m },
		}),
	}
}

type addProviderParams struct {
	Name              string   `api:"name,required" doc:"VirtualRouter, VpcVirtualRouter or SecurityGroupProvider"`
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid,required" ref:"physicalnetwork" doc:"the physical network"`
	ServiceList       []string `api:"servicelist" doc:"services to enable; none of the providers lets them be chosen"`
}

func (h handlers) addProvider() api.Command {
	return api.ShowRow(tables.ServiceProviders, viewProvider, api.Command{
		Name: "addNetworkServiceProvider", Doc: "Adds a provider of network services, disabled, to a physical network.", Roles: api.AdminOnly,
		Event: "SERVICE.PROVIDER.CREATE", Entity: "PhysicalNetworkServiceProvider", Object: "networkserviceprovider",
		Run: below(tables.PhysicalNetworks,
			func(p *addProviderParams) cloud.ID { return p.PhysicalNetworkID },
			func(c *api.Call, tx *store.Tx, physical *cloud.PhysicalNetwork, p *addProviderParams) (cloud.ID, error) {
				s, err := h.Area.AddProvider(tx, physical, p.Name, p.ServiceList)
				if err != nil {
					return cloud.ID{}, err
				}
				c.Describe(s.ID, "Provider "+s.Name+" of physical network "+physical.Name)
				return s.ID, nil
			}),
		Step: network.Finished,
	})
}

type deleteProviderParams struct {
	ID cloud.ID `api:"id,required" ref:"serviceprovider" doc:"the provider"`
}

func (h handlers) deleteProvider() api.Command {
	return api.Command{
		Name: "deleteNetworkServiceProvider", Doc: "Removes a provider that no network uses.", Roles: api.AdminOnly,
		Event: "SERVICE.PROVIDER.DELETE", Entity: "PhysicalNetworkServiceProvider",
		Run: onRow(tables.ServiceProviders,
			func(p *deleteProviderParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, s *cloud.ServiceProvider, _ *deleteProviderParams) error {
				c.Describe(s.ID, "Provider "+s.Name)
				return h.Area.DeleteProvider(tx, s)
			}),
		Step: network.Finished,
	}
}

type createElementParams struct {
	NSPID        cloud.ID `api:"nspid,required" ref:"serviceprovider" doc:"the provider it is for"`
	ProviderType string   `api:"providertype" since:"4.2" doc:"accepted for newer tools: the provider says what it is"`
}

func (h handlers) createElement() api.Command {
	return api.ShowRow(tables.RouterElements, viewElement, api.Command{
		Name: "createVirtualRouterElement", Doc: "Gives a provider the virtual router element that it lacks.", Roles: api.Admins,
		Event: "SERVICE.PROVIDER.CREATE", Entity: "None", Object: "virtualrouterelement",
		Run: below(tables.ServiceProviders,
			func(p *createElementParams) cloud.ID { return p.NSPID },
			func(c *api.Call, tx *store.Tx, s *cloud.ServiceProvider, _ *createElementParams) (cloud.ID, error) {
				e, err := h.Area.CreateElement(tx, s)
				if err != nil {
					return cloud.ID{}, err
				}
				c.Describe(e.ID, "Virtual router element "+e.ID.String())
				return e.ID, nil
			}),
		Step: network.Finished,
	})
}
