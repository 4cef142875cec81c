package network

import (
	"errors"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Isolation methods.
const (
	VLAN  = "VLAN"
	VXLAN = "VXLAN"
)

// Traffic types of a physical network.
const (
	Public     = "Public"
	Guest      = "Guest"
	Management = "Management"
	Storage    = "Storage"
)

// TrafficTypes lists the kinds of traffic a physical network can carry.
var TrafficTypes = []string{Public, Guest, Management, Storage}

// PhysicalRequest is a new physical network as it was asked for.
type PhysicalRequest struct {
	Zone      *cloud.Zone
	Name      string
	VLANs     string
	Isolation []string
	Speed     string
	Broadcast string
	Domain    cloud.ID
	Tags      []string
}

// CreatePhysical writes a physical network, disabled, with its service providers, disabled too.
func (a *Area) CreatePhysical(tx *store.Tx, q PhysicalRequest) (*cloud.PhysicalNetwork, error) {
	if q.Zone.AllocationState == cloud.AllocationEnabled {
		return nil, cloud.Errorf(cloud.Denied, "Cannot create a physical network in zone %s while the zone is enabled", q.Zone.Name)
	}
	if len(q.Tags) > 1 {
		return nil, cloud.Errorf(cloud.Invalid, "Only one tag can be given to a physical network (parameter tags)")
	}
	methods, err := isolationMethods(q.Isolation)
	if err != nil {
		return nil, err
	}
	if q.Broadcast == "" {
		q.Broadcast = "ZONE"
	}
	if !strings.EqualFold(q.Broadcast, "ZONE") {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q of broadcastdomainrange: an advanced zone takes ZONE", q.Broadcast)
	}
	p := &cloud.PhysicalNetwork{
		ID: tx.NewID(), Name: q.Name, ZoneID: q.Zone.ID, IsolationMethods: methods, Speed: q.Speed, Tags: q.Tags,
		BroadcastRange: "ZONE", DomainID: q.Domain, Created: tx.Now(),
	}
	if p.VLANs, err = checkSegments(tx, p, q.VLANs); err != nil {
		return nil, err
	}
	if err := tables.PhysicalNetworks.Put(tx, p); err != nil {
		if taken(err) {
			return nil, cloud.Errorf(cloud.Invalid, "A physical network named %s already exists in zone %s", q.Name, q.Zone.Name)
		}
		return nil, err
	}
	return p, addProviders(tx, p)
}

// taken tells whether a unique index refused a row.
func taken(err error) bool {
	var c *store.Conflict
	return errors.As(err, &c)
}

func isolationMethods(asked []string) ([]string, error) {
	if len(asked) == 0 {
		return []string{VLAN}, nil
	}
	if len(asked) > 1 {
		return nil, cloud.Errorf(cloud.Invalid, "Only one isolation method can be given to a physical network (parameter isolationmethods)")
	}
	m := strings.ToUpper(strings.TrimSpace(asked[0]))
	if m != VLAN && m != VXLAN {
		return nil, cloud.Errorf(cloud.Invalid, "Isolation method %q is not supported; known are VLAN and VXLAN", asked[0])
	}
	return []string{m}, nil
}

// Isolation is the method that networks on p are kept apart by.
func Isolation(p *cloud.PhysicalNetwork) string {
	if len(p.IsolationMethods) == 0 {
		return VLAN
	}
	return p.IsolationMethods[0]
}

// Segments are the numbers p may give to guest networks.
func Segments(p *cloud.PhysicalNetwork) (alloc.Ranges, error) {
	least, most := uint32(1), uint32(4094) // IEEE 802.1Q: 0 and 4095 are reserved
	if Isolation(p) == VXLAN {
		most = 1<<24 - 1 // RFC 7348
	}
	return alloc.ParseRanges(p.VLANs, least, most)
}

// checkSegments reads the vlan parameter of p. VNIs must be unique among the physical networks of a zone, for they may
// share one underlay.
func checkSegments(r store.Reader, p *cloud.PhysicalNetwork, text string) (string, error) {
	probe := *p
	probe.VLANs = text
	set, err := Segments(&probe)
	if err != nil {
		return "", cloud.Errorf(cloud.Invalid, "Invalid vlan range: %w", err)
	}
	if Isolation(p) == VXLAN {
		for other := range tables.PhysicalNetworks.By(r, "zone", store.K(p.ZoneID)) {
			ranges, _ := Segments(other)
			if other.ID != p.ID && Isolation(other) == VXLAN && ranges.Overlaps(set) {
				return "", cloud.Errorf(cloud.Invalid, "The vlan range %s overlaps with %s of physical network %s", set, ranges, other.Name)
			}
		}
		return set.String(), nil
	}
	for v := range tables.VLANRanges.By(r, "physical_network", store.K(p.ID)) {
		if tag := TagOf(v.VLAN); tag != 0 && set.Contains(tag) {
			return "", cloud.Errorf(cloud.Invalid, "The vlan range %s contains VLAN %d, which is in use for public traffic", set, tag)
		}
	}
	return set.String(), nil
}

// PhysicalChange is what updatePhysicalNetwork may change; empty means no change.
type PhysicalChange struct {
	State string
	VLANs *string
	Speed string
	Tags  []string
}

// UpdatePhysical changes a physical network. A range may lose only numbers that no network has.
func (a *Area) UpdatePhysical(tx *store.Tx, p *cloud.PhysicalNetwork, c PhysicalChange) error {
	switch {
	case c.State == "":
	case strings.EqualFold(c.State, "Enabled"):
		p.Enabled = true
	case strings.EqualFold(c.State, "Disabled"):
		p.Enabled = false
	default:
		return cloud.Errorf(cloud.Invalid, "Invalid value %q of state: Enabled and Disabled are known", c.State)
	}
	if len(c.Tags) > 1 {
		return cloud.Errorf(cloud.Invalid, "Only one tag can be given to a physical network (parameter tags)")
	}
	if len(c.Tags) == 1 {
		p.Tags = c.Tags
	}
	if c.Speed != "" {
		p.Speed = c.Speed
	}
	if c.VLANs != nil {
		text, err := checkSegments(tx, p, *c.VLANs)
		if err != nil {
			return err
		}
		p.VLANs = text
		set, _ := Segments(p)
		for n := range tables.Networks.By(tx, "segment", store.K(p.ID)) {
			o, ok := tables.NetworkOfferings.Get(tx, n.OfferingID)
			chosen := ok && o.SpecifyVLAN
			if !chosen && !set.Contains(n.Segment) {
				return cloud.Errorf(cloud.InUse, "The vlan range cannot lose %d: network %s has it", n.Segment, n.Name)
			}
		}
	}
	return tables.PhysicalNetworks.Put(tx, p)
}

// DeletePhysical removes a physical network that no network and no public range uses, with its traffic types and
// providers.
func (a *Area) DeletePhysical(tx *store.Tx, p *cloud.PhysicalNetwork) error {
	if n, ok := tables.Networks.First(tx, "physical_network", store.K(p.ID)); ok {
		return cloud.Errorf(cloud.InUse, "Physical network %s cannot be deleted: network %s is on it", p.Name, n.Name)
	}
	if v, ok := tables.VLANRanges.First(tx, "physical_network", store.K(p.ID)); ok {
		return cloud.Errorf(cloud.InUse, "Physical network %s cannot be deleted: it has the public range %s-%s", p.Name, v.Start, v.End)
	}
	var errs []error
	for t := range tables.TrafficTypes.By(tx, "physical_network", store.K(p.ID)) {
		errs = append(errs, tables.TrafficTypes.Delete(tx, t.ID))
	}
	for s := range tables.ServiceProviders.By(tx, "physical_network", store.K(p.ID)) {
		for e := range tables.RouterElements.By(tx, "provider", store.K(s.ID)) {
			errs = append(errs, tables.RouterElements.Delete(tx, e.ID))
		}
		errs = append(errs, tables.ServiceProviders.Delete(tx, s.ID))
	}
	return errors.Join(append(errs, tables.PhysicalNetworks.Delete(tx, p.ID))...)
}

// AddTraffic writes a traffic type of a physical network. All but guest traffic has one physical network in a zone.
func (a *Area) AddTraffic(tx *store.Tx, p *cloud.PhysicalNetwork, t cloud.TrafficType) (*cloud.TrafficType, error) {
	i := slices.IndexFunc(TrafficTypes, func(k string) bool { return strings.EqualFold(k, t.Type) })
	if i < 0 {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q of traffictype: %s are known", t.Type, strings.Join(TrafficTypes, ", "))
	}
	t.ID, t.PhysicalNetworkID, t.Type = tx.NewID(), p.ID, TrafficTypes[i]
	if t.KVMLabel != "" && !linkName(t.KVMLabel) {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid kvmnetworklabel %q: the name of a bridge or device has 1 to 15 letters, digits and .-_", t.KVMLabel)
	}
	if t.Type != Guest {
		for other := range tables.PhysicalNetworks.By(tx, "zone", store.K(p.ZoneID)) {
			if _, ok := tables.TrafficTypes.First(tx, "physical_network", store.K(other.ID, t.Type)); ok && other.ID != p.ID {
				return nil, cloud.Errorf(cloud.Invalid, "Physical network %s of the zone already has traffic type %s", other.Name, t.Type)
			}
		}
	}
	if err := tables.TrafficTypes.Put(tx, &t); err != nil {
		if taken(err) {
			return nil, cloud.Errorf(cloud.Invalid, "This physical network already supports the traffic type: %s", t.Type)
		}
		return nil, err
	}
	return &t, nil
}

// linkName is what the kernel takes for a link's name (15 bytes) and what no tool takes for an option or a path.
func linkName(s string) bool {
	ok := len(s) >= 1 && len(s) <= 15 && s[0] != '-' && s[0] != '.'
	for i := range len(s) {
		c := s[i]
		ok = ok && (c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	return ok
}

// defaultBridge is the bridge that CloudStack's agents use where no label is given.
const defaultBridge = "cloudbr0"

// label is the bridge of a traffic type on the hosts, "" where the physical network does not carry it or names none.
func label(r store.Reader, physical cloud.ID, traffic string) string {
	t, ok := tables.TrafficTypes.First(r, "physical_network", store.K(physical, traffic))
	if !ok {
		return ""
	}
	return t.KVMLabel
}

// publicBridge is where the public leg of a router is plugged in: the public traffic's bridge, else the guest
// traffic's.
func publicBridge(r store.Reader, physical cloud.ID) string {
	for _, traffic := range []string{Public, Guest} {
		if l := label(r, physical, traffic); l != "" {
			return l
		}
	}
	return defaultBridge
}

// physicalWith gives the physical network of a zone that carries a traffic type.
func physicalWith(r store.Reader, zone cloud.ID, traffic string) []*cloud.PhysicalNetwork {
	var found []*cloud.PhysicalNetwork
	for p := range tables.PhysicalNetworks.By(r, "zone", store.K(zone)) {
		if _, ok := tables.TrafficTypes.First(r, "physical_network", store.K(p.ID, traffic)); ok {
			found = append(found, p)
		}
	}
	return found
}

// PublicPhysical gives the physical network that carries a zone's public traffic.
func PublicPhysical(r store.Reader, zone cloud.ID) (*cloud.PhysicalNetwork, bool) {
	found := physicalWith(r, zone, Public)
	if len(found) == 0 {
		return nil, false
	}
	return found[0], true
}
