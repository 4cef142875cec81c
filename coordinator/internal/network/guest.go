package network

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// GuestRequest is a new guest network as it was asked for. References are resolved and checked by the caller.
type GuestRequest struct {
	Name, DisplayText string
	Zone              *cloud.Zone
	Offering          *cloud.NetworkOffering
	Owner             *cloud.Account
	// Root says that the caller is a root administrator, Admin that it is an administrator of some kind.
	Root, Admin bool
	Physical    *cloud.PhysicalNetwork // nil: chosen by traffic type and tags
	Gateway     netip.Addr
	Netmask     string
	Start, End  netip.Addr
	VLAN        string
	Domain      string
	ACLType     string
	DNS1, DNS2  netip.Addr
	SourceNATIP netip.Addr
}

// CreateGuest writes a guest network. Nothing runs for it before its first VM starts, unless its offering is
// persistent.
func (a *Area) CreateGuest(tx *store.Tx, q GuestRequest) (*cloud.Network, error) {
	if err := checkOffering(q); err != nil {
		return nil, err
	}
	if q.Zone.AllocationState == cloud.AllocationDisabled && !q.Root {
		return nil, cloud.Errorf(cloud.Denied, "Cannot perform this operation since zone %s is currently disabled", q.Zone.Name)
	}
	physical, err := guestPhysical(tx, q)
	if err != nil {
		return nil, err
	}
	if err := checkProviders(tx, physical, q.Offering); err != nil {
		return nil, err
	}
	n := &cloud.Network{
		ID: tx.NewID(), Name: q.Name, DisplayText: q.DisplayText, AccountID: q.Owner.ID, DomainID: q.Owner.DomainID,
		ZoneID: q.Zone.ID, OfferingID: q.Offering.ID, PhysicalNetworkID: physical.ID, GuestType: q.Offering.GuestType,
		Isolation: Isolation(physical), Persistent: q.Offering.Persistent, ACLType: "Account", Created: tx.Now(),
		StateSince: tx.Now(), DNS1: q.DNS1, DNS2: q.DNS2,
	}
	if err := setAddresses(tx, n, q); err != nil {
		return nil, err
	}
	if n.NetworkDomain, err = networkDomain(tx, q); err != nil {
		return nil, err
	}
	if n.Number, err = next(tx, "network.number"); err != nil {
		return nil, err
	}
	n.MTU = uint32(vlanMTU.Int(tx))
	if n.Isolation == VXLAN {
		n.MTU = uint32(vxlanMTU.Int(tx))
	}
	n.GatewayMAC, n.ServiceMAC = newMAC(tx), newMAC(tx)
	if err := setSegment(tx, n, physical, q); err != nil {
		return nil, err
	}
	if err := a.Counts.Count(tx, n.AccountID, cloud.ResourceNetwork, 1); err != nil {
		return nil, err
	}
	if err := tables.Networks.Put(tx, n); err != nil {
		if taken(err) {
			return nil, cloud.Errorf(cloud.Invalid, "%s %d is in use on physical network %s", n.Isolation, n.Segment, physical.Name)
		}
		return nil, err
	}
	if q.SourceNATIP.IsValid() {
		if _, err := a.Associate(tx, n, q.SourceNATIP); err != nil {
			return nil, err
		}
	}
	if n.Persistent {
		if err := a.implement(tx, n, cloud.ID{}); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func checkOffering(q GuestRequest) error {
	o := q.Offering
	switch {
	case o.System || !o.Removed.IsZero():
		return cloud.Errorf(cloud.Invalid, "Unable to find network offering by specified id")
	case Lacks(o) != "":
		return cloud.Errorf(cloud.Invalid, "Can't use network offering %s: this version has no %s", o.Name, Lacks(o))
	case o.State != cloud.OfferingEnabled:
		return cloud.Errorf(cloud.Invalid, "Can't use network offering %s: its state is not Enabled", o.Name)
	case len(o.ZoneIDs) > 0 && !slices.Contains(o.ZoneIDs, q.Zone.ID):
		return cloud.Errorf(cloud.Invalid, "Network offering %s is not available in zone %s", o.Name, q.Zone.Name)
	case q.ACLType != "" && !strings.EqualFold(q.ACLType, "Account"):
		return cloud.Errorf(cloud.Invalid, "Invalid acltype %q: a network of type Isolated has Account", q.ACLType)
	case q.VLAN != "" && !q.Admin:
		return cloud.Errorf(cloud.Denied, "Regular user is not allowed to specify vlan")
	case q.VLAN != "" && !o.SpecifyVLAN:
		return cloud.Errorf(cloud.Invalid, "Can't specify vlan: network offering %s does not take one (specifyvlan)", o.Name)
	case o.SpecifyIPRanges && (!q.Gateway.IsValid() || !q.Start.IsValid() || !q.End.IsValid()):
		return cloud.Errorf(cloud.Invalid, "Parameters gateway, netmask, startip and endip are needed: network offering %s wants them (specifyipranges)", o.Name)
	case q.VLAN == "" && o.SpecifyVLAN:
		return cloud.Errorf(cloud.Invalid, "Parameter vlan is needed: network offering %s wants it (specifyvlan)", o.Name)
	}
	return nil
}

// guestPhysical gives the physical network that is to carry the network.
func guestPhysical(r store.Reader, q GuestRequest) (*cloud.PhysicalNetwork, error) {
	p := q.Physical
	if p == nil {
		found := physicalWith(r, q.Zone.ID, Guest)
		if len(q.Offering.Tags) > 0 {
			found = slices.DeleteFunc(found, func(p *cloud.PhysicalNetwork) bool {
				return !slices.ContainsFunc(q.Offering.Tags, func(t string) bool { return slices.Contains(p.Tags, t) })
			})
		}
		switch len(found) {
		case 0:
			return nil, cloud.Errorf(cloud.Invalid, "No physical network of zone %s carries Guest traffic and has the tags of network offering %s", q.Zone.Name, q.Offering.Name)
		case 1:
			p = found[0]
		default:
			return nil, cloud.Errorf(cloud.Invalid, "More than one physical network of zone %s carries Guest traffic: give physicalnetworkid, or tags in the network offering", q.Zone.Name)
		}
	}
	if p.ZoneID != q.Zone.ID {
		return nil, cloud.Errorf(cloud.Invalid, "Physical network %s is not in zone %s", p.Name, q.Zone.Name)
	}
	if _, ok := tables.TrafficTypes.First(r, "physical_network", store.K(p.ID, Guest)); !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Physical network %s does not carry Guest traffic", p.Name)
	}
	if !p.Enabled {
		return nil, cloud.Errorf(cloud.Invalid, "Physical network %s is not enabled", p.Name)
	}
	return p, nil
}

// defaultCIDR is used where neither the call nor the zone names one.
var defaultCIDR = netip.MustParsePrefix("10.1.1.0/24")

// setAddresses chooses CIDR, gateway, service address and the range for guests. A network needs room for its gateway,
// its service address and one guest.
func setAddresses(r store.Reader, n *cloud.Network, q GuestRequest) error {
	switch {
	case q.Gateway.IsValid() != (q.Netmask != ""):
		return cloud.Errorf(cloud.Invalid, "Parameters gateway and netmask go together")
	case q.Start.IsValid() && !q.Gateway.IsValid():
		return cloud.Errorf(cloud.Invalid, "gateway and netmask should be defined when startip and endip are given")
	case q.End.IsValid() && !q.Start.IsValid():
		return cloud.Errorf(cloud.Invalid, "Parameter endip needs startip")
	case q.Gateway.IsValid():
		p, err := subnet(q.Gateway, q.Netmask)
		if err != nil {
			return err
		}
		if limit := int(cidrLimit.Int(r)); !q.Root && p.Bits() < limit {
			return cloud.Errorf(cloud.Invalid, "Cidr size can't be less than %d", limit)
		}
		n.CIDR, n.Gateway = p, q.Gateway
	default:
		n.CIDR = defaultCIDR
		if q.Zone.GuestCIDR.IsValid() {
			n.CIDR = q.Zone.GuestCIDR.Masked()
		}
		n.Gateway, _ = alloc.Usable(n.CIDR)
	}
	n.StartIP, n.EndIP = alloc.Usable(n.CIDR)
	if q.Start.IsValid() {
		end := q.End
		if !end.IsValid() {
			end = q.Start
		}
		if err := rangeIn(n.CIDR, q.Start, end); err != nil {
			return err
		}
		n.StartIP, n.EndIP = q.Start, end
	}
	if err := setServiceIP(n); err != nil {
		return err
	}
	for v := range tables.VLANRanges.By(r, "zone", store.K(n.ZoneID)) {
		if RangePrefix(v).Overlaps(n.CIDR) {
			return cloud.Errorf(cloud.Invalid, "The guest network %s overlaps with the public subnet %s of the zone", n.CIDR, RangePrefix(v))
		}
	}
	return nil
}

// setServiceIP takes the last address of the guests' range that is not the gateway; it is never given to a guest.
func setServiceIP(n *cloud.Network) error {
	last := n.EndIP
	if last == n.Gateway {
		last = last.Prev()
	}
	n.ServiceIP = last
	room := alloc.Number(n.EndIP) - alloc.Number(n.StartIP) + 1
	for _, a := range []netip.Addr{n.Gateway, n.ServiceIP} {
		if n.StartIP.Compare(a) <= 0 && a.Compare(n.EndIP) <= 0 {
			room--
		}
	}
	if room < 1 || n.CIDR.Bits() > 29 {
		return cloud.Errorf(cloud.Invalid, "The guest network %s with addresses %s-%s has no room for a gateway, a service address and a guest",
			n.CIDR, n.StartIP, n.EndIP)
	}
	return nil
}

// setSegment takes the VLAN or VNI that was asked for.
func setSegment(r store.Reader, n *cloud.Network, p *cloud.PhysicalNetwork, q GuestRequest) error {
	if q.VLAN == "" {
		return nil
	}
	text := strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(q.VLAN), "vlan://"), "vxlan://")
	most := uint64(4094)
	if n.Isolation == VXLAN {
		most = 1<<24 - 1
	}
	tag, err := strconv.ParseUint(text, 10, 32)
	if err != nil || tag < 1 || tag > most {
		return cloud.Errorf(cloud.Invalid, "Invalid vlan %q: a number from 1 to %d is accepted on physical network %s", q.VLAN, most, p.Name)
	}
	if set, _ := Segments(p); set.Contains(uint32(tag)) {
		return cloud.Errorf(cloud.Invalid, "The vlan %d is in the range %s that physical network %s gives to networks by itself", tag, set, p.Name)
	}
	n.Segment = uint32(tag)
	return nil
}

// networkDomain is the DNS domain of a network: as asked, else the account's, the domain's, the zone's, else the
// account's own below the suffix.
func networkDomain(r store.Reader, q GuestRequest) (string, error) {
	if q.Domain != "" {
		if !Offers(q.Offering, DNS) {
			return "", cloud.Errorf(cloud.Invalid, "Parameter networkdomain needs the service %s in the network offering", DNS)
		}
		if !domainName(q.Domain) {
			return "", badDomain(q.Domain)
		}
		return strings.ToLower(q.Domain), nil
	}
	if q.Owner.NetworkDomain != "" {
		return q.Owner.NetworkDomain, nil
	}
	for id := q.Owner.DomainID; !id.IsZero(); {
		d, ok := tables.Domains.Get(r, id)
		if !ok {
			break
		}
		if d.Network != "" {
			return d.Network, nil
		}
		id = d.ParentID
	}
	if q.Zone.NetworkDomain != "" {
		return q.Zone.NetworkDomain, nil
	}
	return "cs" + strconv.FormatUint(q.Owner.Number, 16) + domainSuffix.Text(r), nil
}

// domainName is RFC 1035's preferred syntax, leading digits allowed (RFC 1123).
func domainName(s string) bool {
	if len(s) > 190 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			letter, digit := c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9'
			if !letter && !digit && c != '-' {
				return false
			}
		}
	}
	return true
}

// GuestsOf lists the VMs that have a NIC in a network, by name.
func GuestsOf(r store.Reader, network cloud.ID) []*cloud.VM {
	var list []*cloud.VM
	for nic := range tables.NICs.By(r, "network", store.K(network)) {
		if vm, ok := tables.VMs.Get(r, nic.VMID); ok {
			list = append(list, vm)
		}
	}
	slices.SortStableFunc(list, func(a, b *cloud.VM) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// UpdateGuest changes names of a network; empty means no change.
func (a *Area) UpdateGuest(tx *store.Tx, n *cloud.Network, name, text, domain string) error {
	if n.State == cloud.NetworkDestroy {
		return cloud.Errorf(cloud.Invalid, "Network %s is being deleted", n.Name)
	}
	if name != "" {
		n.Name = name
	}
	if text != "" {
		n.DisplayText = text
	}
	if domain == "" {
		return tables.Networks.Put(tx, n)
	}
	if err := serves(tx, n, DNS); err != nil {
		return err
	}
	if !domainName(domain) {
		return badDomain(domain)
	}
	n.NetworkDomain = strings.ToLower(domain)
	return touch(tx, n)
}

func badDomain(s string) error {
	return cloud.Errorf(cloud.Invalid, "Invalid network domain %q: it has at most 190 characters, in labels of 1 to 63 letters, digits and hyphens", s)
}
