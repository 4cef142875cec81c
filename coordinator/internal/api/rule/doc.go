// Package rule holds the commands of firewall rules, egress rules, port forwarding rules and static NAT. What they do is in package
// network.
package rule

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
		h.open(), h.updateIngress(), h.listIngress(), h.closeIngress(), h.openEgress(), h.updateEgress(), h.listEgress(), h.closeEgress(),
		h.forward(), h.updateForward(), h.listForwards(), h.unforward(),
		h.enableStatic(), h.disableStatic(), h.openStatic(), h.listStatic(), h.closeStatic(),
	}
}

// Entities lists what this package's rows are called in parameters. Ingress and egress rules are two kinds, so that the
// one's commands do not touch the other.
func Entities() []api.Entity {
	firewall := func(egress bool) func(store.Reader, cloud.ID) (api.Owner, bool) {
		return func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			f, ok := tables.FirewallRules.Get(r, id)
			if !ok || f.Egress != egress {
				return api.Owner{}, false
			}
			return api.Owner{Account: f.AccountID, Domain: f.DomainID}, true
		}
	}
	forwarding := func(static bool) func(store.Reader, cloud.ID) (api.Owner, bool) {
		return func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			p, ok := tables.PortForwardingRules.Get(r, id)
			if !ok || p.Static != static {
				return api.Owner{}, false
			}
			return api.Owner{Account: p.AccountID, Domain: p.DomainID}, true
		}
	}
	return []api.Entity{
		{Name: "firewallrule", Lookup: firewall(false)},
		{Name: "egressfirewallrule", Lookup: firewall(true)},
		{Name: "portforwardingrule", Lookup: forwarding(false)},
		{Name: "ipforwardingrule", Lookup: forwarding(true)},
	}
}

type handlers struct{ Deps }

// get reads a row whose id the framework has resolved.
func get[R any](r store.Reader, t *store.Table[R], parameter string, id cloud.ID) (*R, error) {
	row, ok := t.Get(r, id)
	if !ok {
		return nil, api.NoEntity(parameter, id)
	}
	return row, nil
}
