package network

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// mayHave tells whether an account may use what is dedicated to an account, or else to a domain; zero both is everybody's.
func mayHave(r store.Reader, account, ownerAccount, ownerDomain cloud.ID) bool {
	var domain cloud.ID
	if a, ok := tables.Accounts.Get(r, account); ok {
		domain = a.DomainID
	}
	return infra.MayHave(r, account, domain, ownerAccount, ownerDomain)
}

// DedicateRange gives a public range to one account, or without one to a domain. Addresses that others have are in the
// way.
func (a *Area) DedicateRange(tx *store.Tx, v *cloud.VLANRange, domain cloud.ID, account *cloud.Account) error {
	if !v.AccountID.IsZero() || !v.DomainID.IsZero() {
		return cloud.Errorf(cloud.Invalid, "The public range %s-%s has already been dedicated", v.Start, v.End)
	}
	v.DomainID = domain
	if account != nil {
		v.AccountID, v.DomainID = account.ID, account.DomainID
	}
	for ip := range tables.PublicIPs.By(tx, "range", store.K(v.ID)) {
		if ip.State != cloud.IPFree && !mayHave(tx, ip.AccountID, v.AccountID, v.DomainID) {
			return cloud.Errorf(cloud.InUse, "The public range %s-%s cannot be dedicated: another account has %s", v.Start, v.End, ip.Address)
		}
	}
	return tables.VLANRanges.Put(tx, v)
}

// ReleaseRange gives a dedicated public range back to everybody. Who has addresses of it keeps them.
func (a *Area) ReleaseRange(tx *store.Tx, v *cloud.VLANRange) error {
	if v.AccountID.IsZero() && v.DomainID.IsZero() {
		return cloud.Errorf(cloud.Invalid, "The public range %s-%s is not dedicated", v.Start, v.End)
	}
	v.AccountID, v.DomainID = cloud.ID{}, cloud.ID{}
	return tables.VLANRanges.Put(tx, v)
}

// DedicateSegments gives VLAN ids or VNIs of a physical network to one account, or without one to a domain.
func (a *Area) DedicateSegments(tx *store.Tx, p *cloud.PhysicalNetwork, text string, domain cloud.ID, account *cloud.Account) (*cloud.GuestVLANRange, error) {
	all, err := Segments(p)
	if err != nil {
		return nil, err
	}
	set, err := alloc.ParseRanges(text, 1, 1<<24-1)
	if err != nil || len(set) != 1 || strings.Contains(text, ",") {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %.100q of vlanrange: one range is expected, as 100-110", text)
	}
	lo, hi := set[0].Lo, set[0].Hi
	inside := false
	for _, r := range all {
		inside = inside || r.Lo <= lo && hi <= r.Hi
	}
	if !inside {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find guest vlan by range %s on physical network %s, which has %s", set, p.Name, all)
	}
	g := &cloud.GuestVLANRange{ID: tx.NewID(), PhysicalNetworkID: p.ID, Start: lo, End: hi, DomainID: domain, Created: tx.Now()}
	if account != nil {
		g.AccountID, g.DomainID = account.ID, account.DomainID
	}
	for o := range tables.GuestVLANRanges.By(tx, "physical_network", store.K(p.ID)) {
		if lo <= o.End && o.Start <= hi {
			return nil, cloud.Errorf(cloud.Invalid, "Vlan range %s overlaps with %d-%d, which has been dedicated", set, o.Start, o.End)
		}
	}
	for n := range tables.Networks.By(tx, "segment", store.K(p.ID)) {
		if lo <= n.Segment && n.Segment <= hi && !mayHave(tx, n.AccountID, g.AccountID, g.DomainID) {
			return nil, cloud.Errorf(cloud.InUse, "Vlan range %s cannot be dedicated: network %s of another account has %d", set, n.Name, n.Segment)
		}
	}
	return g, tables.GuestVLANRanges.Put(tx, g)
}

// segmentsFor are the numbers of a physical network that a network of an account may get: those dedicated to it, in
// the order they are to be tried, then what is dedicated to nobody.
func segmentsFor(r store.Reader, p *cloud.PhysicalNetwork, account cloud.ID) ([]alloc.Ranges, error) {
	all, err := Segments(p)
	if err != nil {
		return nil, err
	}
	var own, others alloc.Ranges
	for g := range tables.GuestVLANRanges.By(r, "physical_network", store.K(p.ID)) {
		x := alloc.Range{Lo: g.Start, Hi: g.End}
		if mayHave(r, account, g.AccountID, g.DomainID) {
			own = append(own, x)
		}
		others = append(others, x)
	}
	return []alloc.Ranges{own, all.Without(others)}, nil
}

// UpdateTraffic changes the labels of a traffic type; nil keeps what is there.
func (a *Area) UpdateTraffic(tx *store.Tx, t *cloud.TrafficType, kvm, xen, vmware *string) error {
	if kvm != nil {
		if *kvm != "" && !linkName(*kvm) {
			return cloud.Errorf(cloud.Invalid, "Invalid kvmnetworklabel %q: the name of a bridge or device has 1 to 15 letters, digits and .-_", *kvm)
		}
		t.KVMLabel = *kvm
	}
	if xen != nil {
		t.XenLabel = *xen
	}
	if vmware != nil {
		t.VMwareLabel = *vmware
	}
	return tables.TrafficTypes.Put(tx, t)
}

// DeleteTraffic has a physical network carry a kind of traffic no more, unless something needs it.
func (a *Area) DeleteTraffic(tx *store.Tx, t *cloud.TrafficType) error {
	p, ok := tables.PhysicalNetworks.Get(tx, t.PhysicalNetworkID)
	if !ok {
		return tables.TrafficTypes.Delete(tx, t.ID)
	}
	switch t.Type {
	case Guest:
		if n, ok := tables.Networks.First(tx, "physical_network", store.K(p.ID)); ok {
			return cloud.Errorf(cloud.InUse, "The Traffic Type is not deletable because there are existing networks with this traffic type: %s", n.Name)
		}
	case Public:
		if v, ok := tables.VLANRanges.First(tx, "physical_network", store.K(p.ID)); ok {
			return cloud.Errorf(cloud.InUse, "The Traffic Type is not deletable because there are public ranges on the physical network: %s-%s", v.Start, v.End)
		}
	case Storage:
		if v, ok := tables.StorageRanges.First(tx, "zone", store.K(p.ZoneID)); ok {
			return cloud.Errorf(cloud.InUse, "The Traffic Type is not deletable because there are storage network ranges in the zone: %s-%s", v.Start, v.End)
		}
	}
	if z, ok := tables.Zones.Get(tx, p.ZoneID); ok && z.AllocationState == cloud.AllocationEnabled && (t.Type == Public || t.Type == Management) {
		return cloud.Errorf(cloud.InUse, "Zone %s is enabled and needs %s traffic", z.Name, t.Type)
	}
	return tables.TrafficTypes.Delete(tx, t.ID)
}

// providers are those that a physical network can have, with their services.
func providerServices(name string) (real string, services []string, element, ok bool) {
	for _, d := range []struct {
		name     string
		services []string
		element  bool
	}{{VirtualRouter, serviceNames(), true}, {"VpcVirtualRouter", nil, true}, {"SecurityGroupProvider", nil, false}} {
		if strings.EqualFold(d.name, name) {
			return d.name, d.services, d.element, true
		}
	}
	return "", nil, false, false
}

// AddProvider adds a provider, disabled, to a physical network that lacks it.
func (a *Area) AddProvider(tx *store.Tx, p *cloud.PhysicalNetwork, name string, services []string) (*cloud.ServiceProvider, error) {
	name, all, element, ok := providerServices(name)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid Network Service Provider %q: VirtualRouter, VpcVirtualRouter and SecurityGroupProvider are known", name)
	}
	if len(services) > 0 {
		return nil, cloud.Errorf(cloud.Invalid, "The services of provider %s cannot be chosen one by one (parameter servicelist)", name)
	}
	s := &cloud.ServiceProvider{ID: tx.NewID(), PhysicalNetworkID: p.ID, Name: name, Services: all}
	if err := tables.ServiceProviders.Put(tx, s); err != nil {
		if taken(err) {
			return nil, cloud.Errorf(cloud.Invalid, "The '%s' provider already exists on physical network : %s", name, p.ID)
		}
		return nil, err
	}
	if !element {
		return s, nil
	}
	return s, tables.RouterElements.Put(tx, &cloud.RouterElement{ID: tx.NewID(), ProviderID: s.ID})
}

// DeleteProvider removes a provider that no network of its physical network needs.
func (a *Area) DeleteProvider(tx *store.Tx, s *cloud.ServiceProvider) error {
	for n := range tables.Networks.By(tx, "physical_network", store.K(s.PhysicalNetworkID)) {
		o, ok := tables.NetworkOfferings.Get(tx, n.OfferingID)
		if !ok {
			continue
		}
		for _, x := range o.Services {
			for _, name := range x.Providers {
				if name == s.Name {
					return cloud.Errorf(cloud.InUse, "Provider %s is not deletable because network %s uses it for %s", s.Name, n.Name, x.Name)
				}
			}
		}
	}
	for e := range tables.RouterElements.By(tx, "provider", store.K(s.ID)) {
		if err := tables.RouterElements.Delete(tx, e.ID); err != nil {
			return err
		}
	}
	return tables.ServiceProviders.Delete(tx, s.ID)
}

// CreateElement gives a provider the router element that it lacks.
func (a *Area) CreateElement(tx *store.Tx, s *cloud.ServiceProvider) (*cloud.RouterElement, error) {
	if _, _, element, ok := providerServices(s.Name); !ok || !element {
		return nil, cloud.Errorf(cloud.Invalid, "Provider %s has no virtual router element", s.Name)
	}
	if e, there := tables.RouterElements.First(tx, "provider", store.K(s.ID)); there {
		return nil, cloud.Errorf(cloud.Invalid, "Provider %s already has the virtual router element %s", s.Name, e.ID)
	}
	e := &cloud.RouterElement{ID: tx.NewID(), ProviderID: s.ID}
	return e, tables.RouterElements.Put(tx, e)
}
