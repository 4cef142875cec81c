package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// A network that was taken from a host counts as gone there when the host has settled a spec without it; or has accepted
// one for leaveWithin, when something else keeps it from settling; or has not spoken of the network for absentFor, when
// an add and its removal fell into one rendering and there never was a spec to accept.
const (
	leaveWithin = 10 * time.Second
	absentFor   = 30 * time.Second
)

// Fold writes what a host's observation means for networks: routers that run or fail, networks implemented, rules and
// addresses that hold, networks that are gone, passwords that were taken. An observation without news writes nothing.
//
// A service's generation is the commit its spec was rendered from (hostplan). Whatever was changed in a commit up to the
// applied generation is therefore in place, for every change bumps the network's epoch in the same commit.
func (a *Area) Fold(tx *store.Tx, host cloud.ID, obs *hostspec.HostObservation) error {
	seen := map[cloud.ID]bool{} // networks and system VMs
	var errs []error
	for _, o := range obs.GetNetworks() {
		id, err := cloud.ParseID(o.GetId())
		if err != nil {
			continue // an agent of another version, or one that lies: nothing of ours
		}
		seen[id] = true
		n, ok := tables.Networks.Get(tx, id)
		if !ok {
			continue
		}
		errs = append(errs, foldPasswords(tx, n, host, o.GetServices().GetPasswordsTaken()))
		for _, of := range slices.Collect(tables.Routers.IDs(tx, "network", store.K(n.ID))) {
			// What is read about the one may put the other in its place.
			if rt, ok := tables.Routers.Get(tx, of); ok && rt.HostID == host && rt.Placement == cloud.OnHost && carried(n) {
				errs = append(errs, a.foldRouter(tx, n, rt, o, obs.GetSettledGeneration()))
			}
		}
	}
	for _, o := range obs.GetSystemVms() {
		id, err := cloud.ParseID(o.GetVm().GetId())
		if err != nil {
			continue
		}
		seen[id] = true
		rt, ok := tables.Routers.Get(tx, id)
		if !ok || rt.HostID != host || o.GetVm().GetLeftover() {
			continue // the agent removes it, as it is in no spec
		}
		n, ok := tables.Networks.Get(tx, rt.NetworkID)
		if !ok {
			continue
		}
		errs = append(errs, foldPasswords(tx, n, host, o.GetServices().GetPasswordsTaken()), a.foldSystemVM(tx, n, rt, o, obs.GetSettledGeneration()))
	}
	for rt := range tables.Routers.By(tx, "host", store.K(host)) {
		if !rt.Standby {
			errs = append(errs, a.foldAbsent(tx, rt, seen[rt.NetworkID] || seen[rt.ID], obs))
		}
	}
	return errors.Join(errs...)
}

// foldRouter reads what the host of a router that is a namespace says about a network it carries. settled is the host's
// settled generation.
func (a *Area) foldRouter(tx *store.Tx, n *cloud.Network, rt *cloud.Router, o *hostspec.NetworkObservation, settled uint64) error {
	s := o.GetServices()
	applied := s.GetAppliedGeneration()
	if v := s.GetVersion(); v != "" {
		rt.Version = bounded(v)
	}
	rt.Error, rt.Checks = trouble(o), examine(tx.Now(), rt.Checks, o.GetError(), s, rt.State == cloud.VMRunning)
	if rt.Retiring {
		return a.foldRetiring(tx, n, rt, max(o.GetLinksGeneration(), settled))
	}
	// The namespace of before answers until the new one is in charge.
	current := o.GetIncarnation() >= n.Incarnation
	if applied >= n.PendingIndex && rt.Error == "" && current {
		if rt.Standby {
			return a.handOver(tx, n, rt)
		}
		if rt.State == cloud.VMStopping {
			return a.stopped(tx, n, rt)
		}
		return a.confirm(tx, n, rt, applied)
	}
	if err := tables.Routers.Put(tx, rt); err != nil || rt.Standby {
		return err
	}
	return a.settleRows(tx, n, applied)
}

// maxTrouble bounds what an agent's sentence costs in a row, in bytes.
const maxTrouble = 500

// trouble is the first thing that does not work, as the host tells it; "" if all does.
func trouble(o *hostspec.NetworkObservation) string {
	if text := o.GetError(); text != "" {
		return bounded(text)
	}
	return troubleOf(o.GetServices())
}

func troubleOf(o *netspec.Observation) string {
	for _, s := range o.GetServices() {
		if !s.GetReady() && s.GetError() != "" {
			return bounded(fmt.Sprintf("%s: %s", s.GetName(), s.GetError()))
		}
	}
	return ""
}

// foldAbsent notices that a network, or its router, which was taken from the host is gone there.
func (a *Area) foldAbsent(tx *store.Tx, rt *cloud.Router, present bool, obs *hostspec.HostObservation) error {
	n, ok := tables.Networks.Get(tx, rt.NetworkID)
	leaving := ok && (n.State == cloud.NetworkShutdown || n.State == cloud.NetworkDestroy)
	stopping := ok && carried(n) && rt.State == cloud.VMStopping
	if present || !leaving && !stopping {
		return nil
	}
	age := tx.Now().Sub(n.StateSince)
	switch {
	case obs.GetSettledGeneration() >= n.PendingIndex:
	case obs.GetAcceptedGeneration() >= n.PendingIndex && age >= leaveWithin:
	case age >= absentFor:
	default:
		return nil
	}
	if stopping {
		return a.stopped(tx, n, rt)
	}
	return a.left(tx, n)
}

// settleRows makes final what a network's rules and addresses were to become in a commit up to applied.
func (a *Area) settleRows(tx *store.Tx, n *cloud.Network, applied uint64) error {
	for f := range tables.FirewallRules.By(tx, "pending", store.K(n.ID)) {
		if tables.FirewallRules.Version(tx, f.ID) > applied {
			continue
		}
		if err := settleFirewall(tx, f); err != nil {
			return err
		}
	}
	for p := range tables.PortForwardingRules.By(tx, "pending", store.K(n.ID)) {
		if tables.PortForwardingRules.Version(tx, p.ID) > applied {
			continue
		}
		if err := settleForwarding(tx, p); err != nil {
			return err
		}
	}
	for ip := range tables.PublicIPs.By(tx, "pending", store.K(n.ID)) {
		if tables.PublicIPs.Version(tx, ip.ID) > applied {
			continue
		}
		if ip.State == cloud.IPReleasing {
			if err := a.freePublicIP(tx, ip); err != nil {
				return err
			}
			continue
		}
		ip.State = cloud.IPAllocated
		if err := tables.PublicIPs.Put(tx, ip); err != nil {
			return err
		}
	}
	return nil
}

func settleFirewall(tx *store.Tx, f *cloud.FirewallRule) error {
	if f.State == cloud.RuleRevoke {
		return tables.FirewallRules.Delete(tx, f.ID)
	}
	f.State = cloud.RuleActive
	return tables.FirewallRules.Put(tx, f)
}

func settleForwarding(tx *store.Tx, p *cloud.PortForwardingRule) error {
	if p.State == cloud.RuleRevoke {
		return tables.PortForwardingRules.Delete(tx, p.ID)
	}
	p.State = cloud.RuleActive
	return tables.PortForwardingRules.Put(tx, p)
}

// foldPasswords notes which VMs took their password, so that it is handed out no more. A host is believed about its own
// guests, and the router's host about all of the network.
func foldPasswords(tx *store.Tx, n *cloud.Network, host cloud.ID, takenBy []*netspec.PasswordTaken) error {
	for _, t := range takenBy {
		ip, err := netip.ParseAddr(t.GetIp())
		if err != nil {
			continue
		}
		nic, ok := tables.NICs.First(tx, "address", store.K(n.ID, ip))
		if !ok {
			continue
		}
		vm, ok := tables.VMs.Get(tx, nic.VMID)
		if !ok || t.GetEpoch() > vm.PasswordEpoch || t.GetEpoch() <= vm.PasswordTaken {
			continue
		}
		if rt, routed := RouterOf(tx, n.ID); vm.HostID != host && (!routed || rt.HostID != host) {
			continue
		}
		vm.PasswordTaken = t.GetEpoch()
		if err := tables.VMs.Put(tx, vm); err != nil {
			return err
		}
	}
	return nil
}
