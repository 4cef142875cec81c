// Package network is the area of networks: physical networks with their traffic types and providers, public ranges and
// addresses, network offerings, guest networks with their routers, NICs, and the rules of public addresses.
//
// Like every area it is functions over a transaction, job steps, a renderer and a fold. A guest network is never told
// to do something: its rows are rendered into the spec of every host that carries it (Area.Render), the host
// makes it true and reports, and Area.Fold writes what that means. DESIGN.md holds the topology, the life cycle and the
// invariants.
package network

import (
	"log/slog"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Sealer seals secrets that are kept, and opens those that become part of a host's spec.
type Sealer interface {
	Seal(secret string) cloud.Sealed
	Open(cloud.Sealed) (string, error)
}

// Sites places system VMs on hosts, by the rules and in the figures of all VMs.
type Sites interface {
	// Choose picks a host and pools. Errors: *place.NoCapacity.
	Choose(r store.Reader, req *place.Request) (place.Choice, error)
	// Take counts what a system VM has of a host, Free undoes it.
	Take(tx *store.Tx, host cloud.ID, cpuMHz, memoryMiB uint64) error
	Free(tx *store.Tx, host cloud.ID, cpuMHz, memoryMiB uint64) error
}

// Counter keeps resource counts and limits.
type Counter interface {
	// Count adds delta to the account's count. Errors: cloud.LimitExceeded.
	Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error
}

// Area is the network area, with what it needs of its neighbours.
type Area struct {
	Seal   Sealer
	Counts Counter
	Sites  Sites
	// Event writes an entry of the audit log that no call caused.
	Event func(tx *store.Tx, e *cloud.Event) error
	Log   *slog.Logger // of secrets that cannot be opened
}

// The settings this area honours.
var (
	domainSuffix = settings.Define(settings.Def{
		Name: "guest.domain.suffix", Category: "Network", Default: "cloud.internal",
		Doc: "DNS domain of guest networks whose account, domain and zone name none",
	})
	gcWait = settings.Define(settings.Def{
		Name: "network.gc.wait", Category: "Advanced", Type: settings.Seconds, Default: "600", Min: 0, Max: 86400 * 30,
		Doc: "seconds after its last VM stopped until a network gives back its router and segment",
	})
	cidrLimit = settings.Define(settings.Def{
		Name: "network.guest.cidr.limit", Category: "Network", Type: settings.Integer, Default: "22", Min: 8, Max: 29,
		Doc: "shortest prefix length of a guest network that others than root administrators may ask for",
	})
	vxlanMTU = settings.Define(settings.Def{
		Name: "network.vxlan.mtu", Category: "Network", Type: settings.Integer, Default: "1450", Min: 576, Max: 8950,
		Doc: "MTU inside new VXLAN networks: that of the underlay less 50 bytes of encapsulation",
	})
	vlanMTU = settings.Define(settings.Def{
		Name: "network.vlan.mtu", Category: "Network", Type: settings.Integer, Default: "1500", Min: 576, Max: 9000,
		Doc: "MTU inside new VLAN networks",
	})
	macPrefix = settings.Define(settings.Def{
		Name: "network.mac.prefix", Category: "Network", Type: settings.Integer, Default: "599", Min: 0, Max: 65535,
		Doc: "first 16 bits of MAC addresses, as a number (599 gives 02:57); another one for each cloud on the same wire",
	})
	leaseSeconds = settings.Define(settings.Def{
		Name: "network.dhcp.lease", Category: "Network", Type: settings.Seconds, Default: "86400", Min: 60, Max: 86400 * 365,
		Doc: "seconds a guest may keep its address before it asks again",
	})
	routerPlacement = settings.Define(settings.Def{
		Name: "router.placement", Category: "Network", Default: cloud.OnHost, Enum: []string{cloud.OnHost, cloud.InVM}, Scopes: settings.Zone,
		Doc: "where routers run: host (a namespace on a hypervisor host) or vm (a system VM), unless their network offering has the detail routerplacement",
	})
	routerTemplate = settings.Define(settings.Def{
		Name: "router.template.kvm", Category: "Network", Default: "SystemVM Template (KVM)",
		Doc: "name of the template (format SYSTEMVM) that routers which are system VMs boot from; of several, the newest one that is ready",
	})
	replaceWait = settings.Define(settings.Def{
		Name: "router.replace.wait", Category: "Network", Type: settings.Seconds, Default: "600", Min: 10, Max: 86400,
		Doc: "seconds that a router which is to replace another one may take to become ready; then the other one stays",
	})
	ruleLimit = settings.Define(settings.Def{
		Name: "network.rules.limit", Category: "Network", Type: settings.Integer, Default: "1000", Min: -1, Max: 1 << 40, Scopes: settings.Account,
		Doc: "most firewall rules, and most forwarding rules, of one public address, and most egress rules of one network, that an account may have; -1 is no limit",
	})
	confirmWait = settings.Define(settings.Def{
		Name: "network.confirm.wait", Category: "Network", Type: settings.Seconds, Default: "120", Min: 1, Max: 86400,
		Doc: "seconds a call waits for the router's host to confirm a change",
	})
)

// Settings lists the settings this area honours.
func Settings() []*settings.Def {
	return []*settings.Def{
		domainSuffix, gcWait, cidrLimit, vxlanMTU, vlanMTU, macPrefix, leaseSeconds, confirmWait, routerPlacement, routerTemplate,
		replaceWait, ruleLimit,
	}
}

// room refuses one more rule where there are so many: a router loads them all, and each new one is compared with all.
func room(r store.Reader, account cloud.ID, have int, what string) error {
	if most := ruleLimit.Int(r, account); most >= 0 && int64(have) >= most {
		return cloud.Errorf(cloud.LimitExceeded, "%s has %d rules, and may have %d (setting %s)", what, have, most, ruleLimit.Name)
	}
	return nil
}

// ConfirmWait is how long a job of this area may wait for a host.
func ConfirmWait(r store.Reader) time.Duration { return confirmWait.Duration(r) }

// ReplaceWait is how long a job may wait for a router that replaces another one: to be ready, for the other one to be
// unplugged, and to be confirmed.
func ReplaceWait(r store.Reader) time.Duration {
	return replaceWait.Duration(r) + 2*confirmWait.Duration(r)
}

// next hands out the next number of a sequence, from 1.
func next(tx *store.Tx, name string) (uint64, error) {
	s, ok := tables.Sequences.First(tx, "name", store.K(name))
	if !ok {
		s = &cloud.Sequence{ID: cloud.NameID("sequence", name), Name: name}
	}
	s.Last++
	return s.Last, tables.Sequences.Put(tx, s)
}
