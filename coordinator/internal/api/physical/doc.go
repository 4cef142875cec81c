// Package physical holds the commands of physical networks and what stands on them: traffic types, service providers,
// router elements and ranges of public addresses. What they do is in package network.
package physical

import (
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
	return []api.Command{
		h.create(), h.list(), h.update(), h.delete(), h.addTraffic(), h.listTraffic(),
		h.listProviders(), h.updateProvider(), h.listElements(), h.configureElement(),
		h.createRange(), h.listRanges(), h.updateRange(), h.deleteRange(), h.dedicateRange(), h.releaseRange(),
		h.updateTraffic(), h.deleteTraffic(), listImplementors(), listMethods(), h.addProvider(), h.deleteProvider(), h.createElement(),
		h.dedicateGuest(), h.releaseGuest(), listGuest(),
	}
}

// Entities lists what this package's rows are called in parameters. All of it is infrastructure: nobody owns it.
func Entities() []api.Entity {
	return []api.Entity{
		infrastructure("physicalnetwork", tables.PhysicalNetworks),
		infrastructure("traffictype", tables.TrafficTypes),
		infrastructure("serviceprovider", tables.ServiceProviders),
		infrastructure("virtualrouterelement", tables.RouterElements),
		infrastructure("vlaniprange", tables.VLANRanges),
		infrastructure("guestvlanrange", tables.GuestVLANRanges),
	}
}

func infrastructure[R any](name string, t *store.Table[R]) api.Entity {
	return api.Entity{Name: name, Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		return api.Owner{}, t.Has(r, id)
	}}
}

type handlers struct{ Deps }

// get reads a row whose id the framework has resolved.
func get[R any](r store.Reader, t *store.Table[R], id cloud.ID) (*R, error) {
	row, ok := t.Get(r, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	return row, nil
}

// state is how Enabled and Disabled things are shown.
func state(enabled bool) string {
	if enabled {
		return "Enabled"
	}
	return "Disabled"
}
