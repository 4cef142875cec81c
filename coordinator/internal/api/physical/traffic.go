package physical

import (
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// TrafficAnswer is a traffic type as clients see it.
type TrafficAnswer struct {
	ID                 cloud.ID `json:"id" doc:"the traffic type"`
	TrafficType        string   `json:"traffictype" doc:"Public, Guest, Management or Storage"`
	PhysicalNetworkID  cloud.ID `json:"physicalnetworkid" doc:"the physical network that carries it"`
	KVMNetworkLabel    string   `json:"kvmnetworklabel,omitempty" doc:"bridge or device on KVM hosts"`
	XenNetworkLabel    string   `json:"xennetworklabel,omitempty" doc:"kept, not used"`
	VMwareNetworkLabel string   `json:"vmwarenetworklabel,omitempty" doc:"kept, not used"`
}

func viewTraffic(_ store.Reader, t *cloud.TrafficType) TrafficAnswer {
	return TrafficAnswer{
		ID: t.ID, TrafficType: t.Type, PhysicalNetworkID: t.PhysicalNetworkID, KVMNetworkLabel: t.KVMLabel,
		XenNetworkLabel: t.XenLabel, VMwareNetworkLabel: t.VMwareLabel,
	}
}

type addTrafficParams struct {
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid,required" ref:"physicalnetwork" doc:"the physical network"`
	TrafficType       string   `api:"traffictype,required" doc:"Public, Guest, Management or Storage"`
	KVMLabel          string   `api:"kvmnetworklabel" doc:"bridge on the hosts; for guest traffic with VXLAN the device of the underlay"`
	XenLabel          string   `api:"xennetworklabel" doc:"kept, not used"`
	VMwareLabel       string   `api:"vmwarenetworklabel" doc:"kept, not used"`
	VLAN              string   `api:"vlan" doc:"kept, not used on KVM"`
	IsolationMethod   string   `api:"isolationmethod" since:"4.2" doc:"kept, the physical network's own is used"`
}

func (h handlers) addTraffic() api.Command {
	return api.ShowRow(tables.TrafficTypes, viewTraffic, api.Command{
		Name: "addTrafficType", Doc: "Has a physical network carry a kind of traffic.", Roles: api.AdminOnly,
		Event: "TRAFFIC.TYPE.CREATE", Entity: "TrafficType", Object: "traffictype",
		Run: below(tables.PhysicalNetworks,
			func(p *addTrafficParams) cloud.ID { return p.PhysicalNetworkID },
			func(c *api.Call, tx *store.Tx, physical *cloud.PhysicalNetwork, p *addTrafficParams) (cloud.ID, error) {
				t, err := h.Area.AddTraffic(tx, physical, cloud.TrafficType{
					Type: p.TrafficType, KVMLabel: p.KVMLabel, XenLabel: p.XenLabel, VMwareLabel: p.VMwareLabel,
					IsolationMethod: p.IsolationMethod, VLAN: p.VLAN,
				})
				if err != nil {
					return cloud.ID{}, err
				}
				c.Describe(t.ID, t.Type+" traffic on physical network "+physical.Name)
				return t.ID, nil
			}),
		Step: network.Finished,
	})
}

type listTrafficParams struct {
	api.ListParams
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid,required" ref:"physicalnetwork" doc:"the physical network"`
}

func (h handlers) listTraffic() api.Command {
	return api.Command{
		Name: "listTrafficTypes", Doc: "Lists the kinds of traffic that a physical network carries.", Roles: api.AdminOnly, Object: "traffictype",
		Run: api.List(api.Lister[listTrafficParams, cloud.TrafficType, TrafficAnswer]{
			Rows: func(c *api.Call, p *listTrafficParams) (iter.Seq[*cloud.TrafficType], error) {
				return tables.TrafficTypes.By(c.Read, "physical_network", store.K(p.PhysicalNetworkID)), nil
			},
			Keyword: func(t *cloud.TrafficType) string { return t.Type },
			View:    func(c *api.Call, t *cloud.TrafficType) TrafficAnswer { return viewTraffic(c.Read, t) },
		}),
	}
}
