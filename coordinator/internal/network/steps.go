package network

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Finished is the step of calls whose first commit did everything.
func Finished(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

// unconfirmed is why a call failed whose change a host did not confirm in time.
func unconfirmed(r store.Reader, id cloud.ID, what string) error {
	n, ok := tables.Networks.Get(r, id)
	if !ok {
		return cloud.Errorf(cloud.Unavailable, "%s was not confirmed in time", what)
	}
	return cloud.Errorf(cloud.Unavailable, "%s was not confirmed in time by %s", what, WaitingFor(r, n))
}

// AssociateStep waits for the router to answer for an address. One that it does not is given back.
func (a *Area) AssociateStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	ip, ok := tables.PublicIPs.Get(tx, j.InstanceID())
	switch {
	case !ok || ip.State == cloud.IPFree || ip.State == cloud.IPReleasing:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The public address was released before it was in place")), nil
	case ip.State == cloud.IPAllocated:
		return job.Done(), nil
	case !j.Expired:
		return job.WaitOn(ip.NetworkID), nil
	}
	err := unconfirmed(tx, ip.NetworkID, "Public address "+ip.Address.String())
	if ip.SourceNAT { // goes with its network only
		return job.Fail(err), nil
	}
	return job.Fail(err), a.Disassociate(tx, ip)
}

// ReleaseStep waits for the router to give up an address. Until then nobody else gets it.
func (a *Area) ReleaseStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	ip, ok := tables.PublicIPs.Get(tx, j.InstanceID())
	switch {
	case !ok || ip.State != cloud.IPReleasing:
		return job.Done(), nil
	case j.Expired:
		return job.Fail(unconfirmed(tx, ip.NetworkID, "The release of public address "+ip.Address.String())), nil
	}
	return job.WaitOn(ip.NetworkID), nil
}

// OpenStep waits for a firewall rule to hold, else takes it back.
func (a *Area) OpenStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	f, ok := tables.FirewallRules.Get(tx, j.InstanceID())
	switch {
	case !ok || f.State == cloud.RuleRevoke:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The firewall rule was deleted before it was in place")), nil
	case f.State == cloud.RuleActive:
		return job.Done(), nil
	case !j.Expired:
		return job.Wait(), nil
	}
	return job.Fail(unconfirmed(tx, f.NetworkID, "The firewall rule")), a.CloseFirewall(tx, f)
}

// CloseStep waits for a firewall rule to be gone.
func (a *Area) CloseStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	f, ok := tables.FirewallRules.Get(tx, j.InstanceID())
	switch {
	case !ok:
		return job.Done(), nil
	case j.Expired:
		return job.Fail(unconfirmed(tx, f.NetworkID, "The removal of the firewall rule")), nil
	}
	return job.Wait(), nil
}

// ForwardStep waits for a forwarding rule, and the firewall rule opened with it, to hold; else takes both back.
func (a *Area) ForwardStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	p, ok := tables.PortForwardingRules.Get(tx, j.InstanceID())
	switch {
	case !ok || p.State == cloud.RuleRevoke:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The port forwarding rule was deleted before it was in place")), nil
	case p.State == cloud.RuleActive:
		return job.Done(), nil
	case !j.Expired:
		return job.Wait(), nil
	}
	return job.Fail(unconfirmed(tx, p.NetworkID, "The port forwarding rule")), a.Unforward(tx, p)
}

// UnforwardStep waits for a forwarding rule to be gone.
func (a *Area) UnforwardStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	p, ok := tables.PortForwardingRules.Get(tx, j.InstanceID())
	switch {
	case !ok:
		return job.Done(), nil
	case j.Expired:
		return job.Fail(unconfirmed(tx, p.NetworkID, "The removal of the port forwarding rule")), nil
	}
	return job.Wait(), nil
}

// DeleteStep waits for a network to be gone.
func (a *Area) DeleteStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	switch {
	case !tables.Networks.Has(tx, j.InstanceID()):
		return job.Done(), nil
	case j.Expired:
		return job.Fail(unconfirmed(tx, j.InstanceID(), "The removal of the network")), nil
	}
	return job.Wait(), nil
}

// DefaultNetworks lists the network that a VM is deployed on where none is named: the account's only isolated network of
// the zone with source NAT. More than one are a refusal, none an empty list.
func DefaultNetworks(r store.Reader, account *cloud.Account, zone *cloud.Zone) ([]*cloud.Network, error) {
	var list []*cloud.Network
	for n := range tables.Networks.By(r, "account", store.K(account.ID)) {
		o, ok := tables.NetworkOfferings.Get(r, n.OfferingID)
		if ok && n.ZoneID == zone.ID && n.State != cloud.NetworkDestroy && n.GuestType == cloud.Isolated && Offers(o, SourceNat) {
			list = append(list, n)
		}
	}
	if len(list) > 1 {
		return nil, cloud.Errorf(cloud.Invalid, "More than 1 default Isolated networks are found for account %s; please specify networkids", account.Name)
	}
	return slices.Clip(list), nil
}
