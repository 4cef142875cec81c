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

// Answer is a physical network as clients see it.
type Answer struct {
	ID                   cloud.ID `json:"id" doc:"the physical network"`
	Name                 string   `json:"name" doc:"its name"`
	BroadcastDomainRange string   `json:"broadcastdomainrange" doc:"ZONE"`
	ZoneID               cloud.ID `json:"zoneid" doc:"its zone"`
	ZoneName             string   `json:"zonename" doc:"name of the zone"`
	State                string   `json:"state" doc:"Enabled or Disabled"`
	VLAN                 string   `json:"vlan,omitempty" doc:"VLAN ids or VNIs that guest networks get"`
	DomainID             cloud.ID `json:"domainid,omitempty" doc:"domain it is for"`
	Tags                 string   `json:"tags,omitempty" doc:"tags that network offerings choose it by"`
	IsolationMethods     string   `json:"isolationmethods" doc:"VLAN or VXLAN"`
	NetworkSpeed         string   `json:"networkspeed,omitempty" doc:"speed, as the operator notes it"`
}

func view(r store.Reader, p *cloud.PhysicalNetwork) Answer {
	a := Answer{
		ID: p.ID, Name: p.Name, BroadcastDomainRange: p.BroadcastRange, ZoneID: p.ZoneID, State: state(p.Enabled), VLAN: p.VLANs,
		DomainID: p.DomainID, Tags: strings.Join(p.Tags, ","), IsolationMethods: network.Isolation(p), NetworkSpeed: p.Speed,
	}
	if z, ok := tables.Zones.Get(r, p.ZoneID); ok {
		a.ZoneName = z.Name
	}
	return a
}

type createParams struct {
	Name             string   `api:"name,required" doc:"name of the physical network"`
	ZoneID           cloud.ID `api:"zoneid,required" ref:"zone" doc:"the zone it is in, which must be disabled"`
	BroadcastRange   string   `api:"broadcastdomainrange" enum:"ZONE,POD" doc:"ZONE, the only one of an advanced zone"`
	DomainID         cloud.ID `api:"domainid" ref:"domain" doc:"domain it is for"`
	IsolationMethods []string `api:"isolationmethods" doc:"how guest networks are kept apart: VLAN (the default) or VXLAN"`
	NetworkSpeed     string   `api:"networkspeed" doc:"speed, as a note"`
	Tags             []string `api:"tags" doc:"a tag that network offerings choose it by"`
	VLAN             string   `api:"vlan" len:"4096" doc:"VLAN ids or VNIs for guest networks, as 100-200,300"`
}

func (h handlers) create() api.Command {
	return api.ShowRow(tables.PhysicalNetworks, view, api.Command{
		Name: "createPhysicalNetwork", Doc: "Makes a physical network of a zone, disabled, with its service providers.", Roles: api.AdminOnly,
		Event: "PHYSICAL.NETWORK.CREATE", Entity: "PhysicalNetwork", Object: "physicalnetwork",
		Run: below(tables.Zones,
			func(p *createParams) cloud.ID { return p.ZoneID },
			func(c *api.Call, tx *store.Tx, zone *cloud.Zone, p *createParams) (cloud.ID, error) {
				row, err := h.Area.CreatePhysical(tx, network.PhysicalRequest{
					Zone: zone, Name: p.Name, VLANs: p.VLAN, Isolation: p.IsolationMethods, Speed: p.NetworkSpeed,
					Broadcast: p.BroadcastRange, Domain: p.DomainID, Tags: p.Tags,
				})
				if err != nil {
					return cloud.ID{}, err
				}
				c.Describe(row.ID, "Physical network "+row.Name)
				return row.ID, nil
			}),
		Step: network.Finished,
	})
}

type listParams struct {
	api.ListParams
	ID     cloud.ID `api:"id" doc:"this physical network only"`
	Name   string   `api:"name" doc:"physical networks of this name"`
	ZoneID cloud.ID `api:"zoneid" ref:"zone" doc:"physical networks of this zone"`
}

func (h handlers) list() api.Command {
	return api.Command{
		Name: "listPhysicalNetworks", Doc: "Lists physical networks.", Roles: api.AdminOnly, Object: "physicalnetwork",
		Run: api.List(api.Lister[listParams, cloud.PhysicalNetwork, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.PhysicalNetwork], error) {
				rows := tables.PhysicalNetworks.By(c.Read, "zone", nil)
				if !p.ZoneID.IsZero() {
					rows = tables.PhysicalNetworks.By(c.Read, "zone", store.K(p.ZoneID))
				}
				return filter(rows, func(n *cloud.PhysicalNetwork) bool {
					return (p.ID.IsZero() || n.ID == p.ID) && (p.Name == "" || n.Name == p.Name)
				}), nil
			},
			Keyword: func(n *cloud.PhysicalNetwork) string { return n.Name },
			View:    func(c *api.Call, n *cloud.PhysicalNetwork) Answer { return view(c.Read, n) },
		}),
	}
}

// filter leaves out rows.
func filter[R any](rows iter.Seq[*R], keep func(*R) bool) iter.Seq[*R] {
	return func(yield func(*R) bool) {
		for row := range rows {
			if keep(row) && !yield(row) {
				return
			}
		}
	}
}

type updateParams struct {
	ID           cloud.ID `api:"id,required" ref:"physicalnetwork" doc:"the physical network"`
	NetworkSpeed string   `api:"networkspeed" doc:"speed, as a note"`
	State        string   `api:"state" doc:"Enabled or Disabled"`
	Tags         []string `api:"tags" doc:"a tag that network offerings choose it by"`
	VLAN         *string  `api:"vlan" len:"4096" doc:"VLAN ids or VNIs for guest networks; those in use must stay"`
}

func (h handlers) update() api.Command {
	return api.ShowRow(tables.PhysicalNetworks, view, api.Command{
		Name: "updatePhysicalNetwork", Doc: "Enables, disables or changes a physical network.", Roles: api.AdminOnly,
		Event: "PHYSICAL.NETWORK.UPDATE", Entity: "PhysicalNetwork", Object: "physicalnetwork",
		Run: onRow(tables.PhysicalNetworks,
			func(p *updateParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, row *cloud.PhysicalNetwork, p *updateParams) error {
				c.Describe(row.ID, "Physical network "+row.Name)
				change := network.PhysicalChange{State: p.State, VLANs: p.VLAN, Speed: p.NetworkSpeed, Tags: p.Tags}
				return h.Area.UpdatePhysical(tx, row, change)
			}),
		Step: network.Finished,
	})
}

type deleteParams struct {
	ID cloud.ID `api:"id,required" ref:"physicalnetwork" doc:"the physical network"`
}

func (h handlers) delete() api.Command {
	return api.Command{
		Name: "deletePhysicalNetwork", Doc: "Removes a physical network that nothing uses.", Roles: api.AdminOnly,
		Event: "PHYSICAL.NETWORK.DELETE", Entity: "PhysicalNetwork",
		Run: onRow(tables.PhysicalNetworks,
			func(p *deleteParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, row *cloud.PhysicalNetwork, _ *deleteParams) error {
				c.Describe(row.ID, "Physical network "+row.Name)
				return h.Area.DeletePhysical(tx, row)
			}),
		Step: network.Finished,
	}
}
