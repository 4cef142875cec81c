package network_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
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

// A router keeps off the host that is dedicated to another account, though its VM is there, and may be on its owner's.
func TestRoutersAndDedicatedHosts(t *testing.T) {
	for _, how := range []string{"host", "vm"} {
		for owner, want := range map[string]int{"alice": 0, "bob": 1} {
			w := newVMWorld(t, 2)
			w.set("router.placement", how)
			w.do(func(tx *store.Tx) error {
				a := w.account
				if owner != a.Name {
					a = &cloud.Account{ID: id(3, 9), Name: owner, DomainID: a.DomainID, Number: 99, Type: cloud.UserAccount}
					if err := tables.Accounts.Put(tx, a); err != nil {
						return err
					}
				}
				_, err := infra.Dedicate(tx, cloud.HostPlace, w.hosts[0], a.DomainID, a)
				return err
			})
			n, _ := w.running(0)
			if got := w.router(n.ID).HostID; got != w.hosts[want] {
				t.Errorf("%s, dedicated to %s: the router is on %s, want %s", how, owner, got, w.hosts[want])
			}
		}
	}
}
