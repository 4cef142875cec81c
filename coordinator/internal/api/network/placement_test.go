package network_test

import (
	"slices"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/cluster"
	"github.com/wispcloud/wisp/coordinator/internal/api/config"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagepool"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Where routers run can be said for one zone.
func TestPlacementOfAZone(t *testing.T) {
	g := settings.New(api.Settings(), identity.Settings(), area.Settings())
	c := apitest.New(t, apitest.Config{Commands: config.Commands(g), Entities: slices.Concat(zone.Entities(), cluster.Entities(), storagepool.Entities())})
	one, other := cloud.ID{1, 1}, cloud.ID{1, 2}
	c.Update(func(tx *store.Tx) error {
		if err := tables.Zones.Put(tx, &cloud.Zone{ID: one, Name: "one"}); err != nil {
			return err
		}
		return tables.Zones.Put(tx, &cloud.Zone{ID: other, Name: "other"})
	})
	expect := func(what string, zone cloud.ID, want string) {
		t.Helper()
		if got := g.View(c.Read()).String("router.placement", zone); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	c.Must("root", "updateConfiguration", "name", "router.placement", "value", "vm", "zoneid", one.String())
	expect("the zone", one, "vm")
	expect("another zone", other, "host")
	if a := c.Call("root", "updateConfiguration", "name", "router.placement", "value", "cloud", "zoneid", one.String()); a.Status != 431 {
		t.Errorf("a placement that there is not: %s", a.Raw)
	}
	c.Must("root", "resetConfiguration", "name", "router.placement", "zoneid", one.String())
	expect("the zone after the reset", one, "host")
}
