package network_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// A zone's own word counts for more than the cloud's, and another zone's for nothing.
func TestPlacementByZone(t *testing.T) {
	for _, c := range []struct {
		cloud, zone, other, want string
	}{
		{"host", "vm", "", "vm"}, {"vm", "host", "", "host"}, {"host", "", "vm", "host"}, {"vm", "", "host", "vm"},
	} {
		w := newVMWorld(t, 1)
		w.set("router.placement", c.cloud)
		w.do(func(tx *store.Tx) (err error) {
			g := settings.New(network.Settings())
			if c.zone != "" {
				err = g.SetFor(tx, w.zone.ID, "router.placement", c.zone, nil)
			}
			if c.other != "" {
				err = g.SetFor(tx, id(1, 99), "router.placement", c.other, nil)
			}
			return err
		})
		n, _ := w.running(0)
		if got := w.router(n.ID).Placement; got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
