// Package network holds the commands of guest networks and their routers. What they do is in the area network.
package network

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct{ Area *area.Area }

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	h := handlers{d}
	return []api.Command{
		h.create(), h.list(), h.update(), h.delete(), h.restart(), h.listRouters(), routerHealth(), h.startRouter(), h.stopRouter(), h.rebootRouter(),
		h.destroyRouter(), h.changeServiceForRouter(), h.upgradeRouterTemplate(), listSystemVMs(), h.startSystemVM(), h.stopSystemVM(),
		h.rebootSystemVM(), h.destroySystemVM(), h.changeServiceForSystemVM(), h.scaleSystemVM(), h.migrateSystemVM(),
	}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{
		{
			Name: "network",
			Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
				n, ok := tables.Networks.Get(r, id)
				if !ok {
					return api.Owner{}, false
				}
				return api.Owner{Account: n.AccountID, Domain: n.DomainID}, true
			},
		},
		{
			Name: "router",
			Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
				rt, ok := tables.Routers.Get(r, id)
				if !ok {
					return api.Owner{}, false
				}
				return api.Owner{Account: rt.AccountID, Domain: rt.DomainID}, true
			},
		},
		systemVM,
	}
}

// systemVM is the entity of routers that are system VMs: the only ones there are. They are the provider's.
var systemVM = api.Entity{
	Name: "systemvm",
	Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		rt, ok := tables.Routers.Get(r, id)
		return api.Owner{}, ok && rt.Placement == cloud.InVM
	},
}

type handlers struct{ Deps }

// get reads a network whose id the framework has resolved.
func get(r store.Reader, id cloud.ID) (*cloud.Network, error) {
	n, ok := tables.Networks.Get(r, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	return n, nil
}

// filter leaves out rows.
func filter[R any](rows func(func(*R) bool), keep func(*R) bool) func(func(*R) bool) {
	return func(yield func(*R) bool) {
		for row := range rows {
			if keep(row) && !yield(row) {
				return
			}
		}
	}
}
