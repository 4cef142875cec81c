package network

import (
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Offers tells whether an offering has a service.
func Offers(o *cloud.NetworkOffering, service string) bool {
	return slices.ContainsFunc(o.Services, func(s cloud.OfferedService) bool { return s.Name == service })
}

// routed tells whether networks of the offering have a router; else they are a wire with services on each host.
func routed(o *cloud.NetworkOffering) bool {
	return Offers(o, SourceNat) || Offers(o, Firewall) || Offers(o, PortForwarding)
}

// OfferingRequest is a new network offering as it was asked for.
type OfferingRequest struct {
	Name, DisplayText, TrafficType, GuestType, Availability string
	Services                                                []string
	// Providers by service; a service that is not named has the virtual router.
	Providers map[string][]string
	// Capabilities by service.
	Capabilities      map[string]map[string]string
	SpecifyVLAN       bool
	SpecifyIPRanges   bool
	ConserveMode      bool
	Persistent        bool
	EgressAllow       bool
	Enable            bool
	NetworkRate       uint32
	MaxConnections    uint32
	Tags              []string
	ServiceOfferingID cloud.ID
	DomainIDs         []cloud.ID
	ZoneIDs           []cloud.ID
	Details           map[string]string
	// ForVPC asks for an offering for tiers of VPCs, NATed for one that has source NAT.
	ForVPC, NATed bool
}

// CreateOffering writes a network offering, disabled unless asked otherwise. Only what this version does is accepted.
func (a *Area) CreateOffering(tx *store.Tx, q OfferingRequest) (*cloud.NetworkOffering, error) {
	if so, ok := tables.ServiceOfferings.Get(tx, q.ServiceOfferingID); ok && so.SystemVM != "domainrouter" {
		return nil, cloud.Errorf(cloud.Invalid, "Service offering %s cannot be used by virtual routers (parameter serviceofferingid)", so.Name)
	}
	if !strings.EqualFold(q.TrafficType, Guest) {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q of traffictype: network offerings are for Guest traffic", q.TrafficType)
	}
	if !strings.EqualFold(q.GuestType, cloud.Isolated.String()) {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q of guestiptype: this version has Isolated networks", q.GuestType)
	}
	if q.Availability == "" {
		q.Availability = "Optional"
	}
	i := slices.IndexFunc(availabilities, func(s string) bool { return strings.EqualFold(s, q.Availability) })
	if i < 0 {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q of availability: %s are known", q.Availability, strings.Join(availabilities, " and "))
	}
	services, err := offeredServices(q)
	if err != nil {
		return nil, err
	}
	nat := slices.ContainsFunc(services, func(s cloud.OfferedService) bool { return s.Name == SourceNat })
	switch {
	case q.ForVPC:
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value true of forvpc: this version has no VPCs")
	case q.NATed && !nat:
		return nil, cloud.Errorf(cloud.Invalid, "Parameter networkmode=NATTED needs the service %s in supportedservices", SourceNat)
	case q.SpecifyIPRanges && nat:
		return nil, cloud.Errorf(cloud.Invalid, "SpecifyIpRanges can be true only for Isolated networks with no %s service", SourceNat)
	}
	if q.Details, err = checkDetails(q.Details); err != nil {
		return nil, err
	}
	o := &cloud.NetworkOffering{
		ID: tx.NewID(), Name: q.Name, DisplayText: q.DisplayText, TrafficType: Guest, GuestType: cloud.Isolated,
		Availability: availabilities[i], Services: services, SpecifyVLAN: q.SpecifyVLAN, SpecifyIPRanges: q.SpecifyIPRanges, ConserveMode: q.ConserveMode,
		NetworkRate: q.NetworkRate, ServiceOfferingID: q.ServiceOfferingID, Tags: q.Tags, Persistent: q.Persistent,
		EgressAllow: q.EgressAllow, Created: tx.Now(), MaxConnections: q.MaxConnections, Details: q.Details,
		DomainIDs: q.DomainIDs, ZoneIDs: q.ZoneIDs,
	}
	if o.ServiceOfferingID.IsZero() {
		o.ServiceOfferingID = routerOfferingID()
	}
	if q.Enable {
		o.State = cloud.OfferingEnabled
	}
	return o, putOffering(tx, o)
}

var availabilities = []string{"Optional", "Required"}

func putOffering(tx *store.Tx, o *cloud.NetworkOffering) error {
	err := tables.NetworkOfferings.Put(tx, o)
	if taken(err) {
		return cloud.Errorf(cloud.Invalid, "A network offering named %s already exists", o.Name)
	}
	return err
}

// offeredServices checks services, providers and capabilities, and puts them into the order of Services.
func offeredServices(q OfferingRequest) ([]cloud.OfferedService, error) {
	wanted := map[string]cloud.OfferedService{}
	for _, name := range q.Services {
		s, ok := ServiceByName(name)
		if !ok {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid service %q: this version has %s", name, strings.Join(serviceNames(), ", "))
		}
		wanted[s.Name] = cloud.OfferedService{Name: s.Name, Providers: []string{VirtualRouter}}
	}
	for service, providers := range q.Providers {
		s, ok := ServiceByName(service)
		if _, offered := wanted[s.Name]; !ok || !offered {
			return nil, cloud.Errorf(cloud.Invalid, "Service %s is not enabled for the network offering, can't add a provider to it", service)
		}
		if len(providers) != 1 || !strings.EqualFold(providers[0], VirtualRouter) {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid service provider %s of service %s: this version has %s",
				strings.Join(providers, ","), s.Name, VirtualRouter)
		}
	}
	for service, capabilities := range q.Capabilities {
		if err := checkCapabilities(wanted, service, capabilities); err != nil {
			return nil, err
		}
	}
	for _, dependent := range []string{PortForwarding, Firewall} {
		if _, ok := wanted[dependent]; !ok {
			continue
		}
		if _, ok := wanted[SourceNat]; !ok {
			return nil, cloud.Errorf(cloud.Invalid, "Service %s needs service %s in the same network offering", dependent, SourceNat)
		}
	}
	// As in CloudStack: whoever forwards ports has the firewall that opens them.
	if _, ok := wanted[PortForwarding]; ok {
		wanted[Firewall] = cloud.OfferedService{Name: Firewall, Providers: []string{VirtualRouter}}
	}
	var out []cloud.OfferedService
	for _, name := range serviceNames() {
		if s, ok := wanted[name]; ok {
			s.Capabilities = q.Capabilities[name]
			out = append(out, s)
		}
	}
	return out, nil
}

// checkCapabilities accepts a capability only with the value this version has anyway.
func checkCapabilities(wanted map[string]cloud.OfferedService, service string, capabilities map[string]string) error {
	s, ok := ServiceByName(service)
	if _, offered := wanted[s.Name]; !ok || !offered {
		return cloud.Errorf(cloud.Invalid, "Service %s is not enabled for the network offering, can't give it capabilities", service)
	}
	for name, value := range capabilities {
		i := slices.IndexFunc(s.Capabilities, func(c Capability) bool { return strings.EqualFold(c.Name, name) })
		if i < 0 || !strings.EqualFold(s.Capabilities[i].Value, value) {
			return cloud.Errorf(cloud.Invalid, "Capability %s of service %s cannot be %q", name, s.Name, value)
		}
	}
	return nil
}

// OfferingChange is what updateNetworkOffering may change; empty means no change.
type OfferingChange struct {
	Name, DisplayText, Availability, State string
	Tags                                   *string
	SortKey                                *int32
}

// UpdateOffering changes a network offering.
func (a *Area) UpdateOffering(tx *store.Tx, o *cloud.NetworkOffering, c OfferingChange) error {
	if c.Name != "" {
		o.Name = c.Name
	}
	if c.DisplayText != "" {
		o.DisplayText = c.DisplayText
	}
	if c.Availability != "" {
		i := slices.IndexFunc(availabilities, func(s string) bool { return strings.EqualFold(s, c.Availability) })
		if i < 0 {
			return cloud.Errorf(cloud.Invalid, "Invalid value %q of availability: %s are known", c.Availability, strings.Join(availabilities, " and "))
		}
		o.Availability = availabilities[i]
	}
	if c.Tags != nil {
		o.Tags = SplitTags(*c.Tags)
	}
	if c.SortKey != nil {
		o.SortKey = *c.SortKey
	}
	switch {
	case c.State == "":
	case strings.EqualFold(c.State, "Enabled"):
		if lacks := Lacks(o); lacks != "" {
			return cloud.Errorf(cloud.Invalid, "Network offering %s cannot be enabled: this version has no %s", o.Name, lacks)
		}
		o.State = cloud.OfferingEnabled
	case strings.EqualFold(c.State, "Disabled"):
		o.State, o.Held = cloud.OfferingDisabled, false
	default:
		return cloud.Errorf(cloud.Invalid, "Invalid value %q of state: Enabled and Disabled are known", c.State)
	}
	return putOffering(tx, o)
}

// SplitTags reads a comma-separated list of tags.
func SplitTags(s string) []string {
	var tags []string
	for t := range strings.SplitSeq(s, ",") {
		if t = strings.TrimSpace(t); t != "" {
			tags = append(tags, t)
		}
	}
	return tags
}

// DeleteOffering marks a network offering as removed: networks made of it keep what they have.
func (a *Area) DeleteOffering(tx *store.Tx, o *cloud.NetworkOffering) error {
	if o.Default {
		return cloud.Errorf(cloud.Invalid, "Default network offering can't be deleted")
	}
	o.Removed, o.State = tx.Now(), cloud.OfferingDisabled
	return tables.NetworkOfferings.Put(tx, o)
}
