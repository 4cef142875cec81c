package network

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Untagged is the VLAN of a range without a tag.
const Untagged = "untagged"

// maxRange bounds a range: each of its addresses becomes a row of one commit.
const maxRange = 1 << 16

// RangeRequest is a new range of public addresses as it was asked for.
type RangeRequest struct {
	Zone     *cloud.Zone
	Physical *cloud.PhysicalNetwork // nil: the one that carries public traffic
	VLAN     string
	Gateway  netip.Addr
	Netmask  string
	Start    netip.Addr
	End      netip.Addr // invalid: Start
	// Owner has the range for itself; nil is everybody.
	Owner        *cloud.Account
	ForSystemVMs bool
}

// TagOf is the 802.1Q tag of a range's VLAN, 0 for none.
func TagOf(vlan string) uint32 {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(vlan), "vlan://"), 10, 12)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// parseVLAN reads the vlan parameter of a range; the empty text is untagged.
func parseVLAN(s string) (string, error) {
	t := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "vlan://")
	if t == "" || t == Untagged {
		return Untagged, nil
	}
	n, err := strconv.ParseUint(t, 10, 16)
	if err != nil || n < 1 || n > 4094 {
		return "", cloud.Errorf(cloud.Invalid, "Invalid vlan %q: it is %s or a number from 1 to 4094", s, Untagged)
	}
	return strconv.FormatUint(n, 10), nil
}

// subnet reads gateway and netmask.
func subnet(gateway netip.Addr, netmask string) (netip.Prefix, error) {
	bits, ok := alloc.MaskBits(netmask)
	if !ok || bits < 8 || bits > 30 {
		return netip.Prefix{}, cloud.Errorf(cloud.Invalid, "Invalid netmask %q: from 255.0.0.0 to 255.255.255.252 is accepted", netmask)
	}
	if !gateway.Is4() {
		return netip.Prefix{}, cloud.Errorf(cloud.Invalid, "Invalid gateway %s: it must be an IPv4 address", gateway)
	}
	p := netip.PrefixFrom(gateway, bits).Masked()
	if first, last := alloc.Usable(p); gateway.Less(first) || last.Less(gateway) {
		return netip.Prefix{}, cloud.Errorf(cloud.Invalid, "Invalid gateway %s: it is the first or last address of %s", gateway, p)
	}
	if a := p.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified() {
		return netip.Prefix{}, cloud.Errorf(cloud.Invalid, "Invalid gateway %s: %s is reserved for another use", gateway, p)
	}
	return p, nil
}

// rangeIn checks that start to end lies in p.
func rangeIn(p netip.Prefix, start, end netip.Addr) error {
	first, last := alloc.Usable(p)
	if !start.Is4() || !end.Is4() || end.Less(start) || start.Less(first) || last.Less(end) {
		return cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: startip and endip must rise and lie between %s and %s", start, end, first, last)
	}
	return nil
}

// CreateRange writes a range of public addresses, one row each.
func (a *Area) CreateRange(tx *store.Tx, q RangeRequest) (*cloud.VLANRange, error) {
	if q.Physical == nil {
		p, ok := PublicPhysical(tx, q.Zone.ID)
		if !ok {
			return nil, cloud.Errorf(cloud.Invalid, "No physical network of zone %s carries Public traffic; add the traffic type first", q.Zone.Name)
		}
		q.Physical = p
	}
	if q.Physical.ZoneID != q.Zone.ID {
		return nil, cloud.Errorf(cloud.Invalid, "Physical network %s is not in zone %s", q.Physical.Name, q.Zone.Name)
	}
	if _, ok := tables.TrafficTypes.First(tx, "physical_network", store.K(q.Physical.ID, Public)); !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Physical network %s does not carry Public traffic", q.Physical.Name)
	}
	vlan, err := parseVLAN(q.VLAN)
	if err != nil {
		return nil, err
	}
	if !q.End.IsValid() {
		q.End = q.Start
	}
	p, err := subnet(q.Gateway, q.Netmask)
	if err != nil {
		return nil, err
	}
	if err := rangeIn(p, q.Start, q.End); err != nil {
		return nil, err
	}
	if q.Start.Compare(q.Gateway) <= 0 && q.Gateway.Compare(q.End) <= 0 {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: it contains its gateway %s", q.Start, q.End, q.Gateway)
	}
	if n := alloc.Number(q.End) - alloc.Number(q.Start) + 1; n > maxRange {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: it has %d addresses, at most %d are accepted", q.Start, q.End, n, maxRange)
	}
	v := &cloud.VLANRange{
		ID: tx.NewID(), ZoneID: q.Zone.ID, PhysicalNetworkID: q.Physical.ID, VLAN: vlan, Gateway: q.Gateway, Netmask: q.Netmask,
		Start: q.Start, End: q.End, ForVirtualNetwork: true, Created: tx.Now(), ForSystemVMs: q.ForSystemVMs,
	}
	if q.Owner != nil {
		v.AccountID, v.DomainID = q.Owner.ID, q.Owner.DomainID
	}
	if err := checkRange(tx, v, p, q.Physical); err != nil {
		return nil, err
	}
	if err := tables.VLANRanges.Put(tx, v); err != nil {
		return nil, err
	}
	return v, putAddresses(tx, v)
}

func putAddresses(tx *store.Tx, v *cloud.VLANRange) error {
	for n := alloc.Number(v.Start); n <= alloc.Number(v.End); n++ {
		err := tables.PublicIPs.Put(tx, &cloud.PublicIP{
			ID: tx.NewID(), Address: alloc.Address(n), RangeID: v.ID, ZoneID: v.ZoneID, PhysicalNetworkID: v.PhysicalNetworkID,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRange compares a new range with what the zone has.
func checkRange(r store.Reader, v *cloud.VLANRange, p netip.Prefix, physical *cloud.PhysicalNetwork) error {
	for o := range tables.VLANRanges.By(r, "zone", store.K(v.ZoneID)) {
		if v.Start.Compare(o.End) <= 0 && o.Start.Compare(v.End) <= 0 {
			return cloud.Errorf(cloud.Invalid, "The range %s-%s overlaps with the range %s-%s of VLAN %s", v.Start, v.End, o.Start, o.End, o.VLAN)
		}
		other := RangePrefix(o)
		if o.VLAN == v.VLAN && other == p && o.Gateway != v.Gateway {
			return cloud.Errorf(cloud.Invalid, "VLAN %s has gateway %s in subnet %s already", o.VLAN, o.Gateway, p)
		}
		if o.VLAN == v.VLAN && other != p && other.Overlaps(p) {
			return cloud.Errorf(cloud.Invalid, "Subnet %s overlaps with subnet %s of VLAN %s", p, other, o.VLAN)
		}
	}
	for pod := range tables.Pods.By(r, "zone", store.K(v.ZoneID)) {
		if pod.StartIP.IsValid() && pod.EndIP.IsValid() && v.Start.Compare(pod.EndIP) <= 0 && pod.StartIP.Compare(v.End) <= 0 {
			return cloud.Errorf(cloud.Invalid, "The range %s-%s overlaps with the range %s-%s of pod %s", v.Start, v.End, pod.StartIP, pod.EndIP, pod.Name)
		}
	}
	for n := range tables.Networks.By(r, "zone", store.K(v.ZoneID)) {
		if n.CIDR.IsValid() && n.CIDR.Overlaps(p) {
			return cloud.Errorf(cloud.Invalid, "Subnet %s overlaps with %s of guest network %s", p, n.CIDR, n.Name)
		}
	}
	if tag := TagOf(v.VLAN); tag != 0 && Isolation(physical) == VLAN {
		if set, _ := Segments(physical); set.Contains(tag) || tables.Networks.Count(r, "segment", store.K(physical.ID, tag)) > 0 {
			return cloud.Errorf(cloud.Invalid, "VLAN %d is for guest networks of physical network %s", tag, physical.Name)
		}
	}
	return nil
}

// RangePrefix is the subnet of a range.
func RangePrefix(v *cloud.VLANRange) netip.Prefix {
	bits, _ := alloc.MaskBits(v.Netmask)
	return netip.PrefixFrom(v.Gateway, bits).Masked()
}

// DeleteRange removes a range none of whose addresses is in use.
func (a *Area) DeleteRange(tx *store.Tx, v *cloud.VLANRange) error {
	var errs []error
	for ip := range tables.PublicIPs.By(tx, "range", store.K(v.ID)) {
		if ip.State != cloud.IPFree {
			return cloud.Errorf(cloud.InUse, "The range %s-%s cannot be deleted: %s is in use", v.Start, v.End, ip.Address)
		}
		errs = append(errs, tables.PublicIPs.Delete(tx, ip.ID))
	}
	return errors.Join(append(errs, tables.VLANRanges.Delete(tx, v.ID))...)
}

// rangesFor lists the ranges of a zone that an account may have addresses of, what is dedicated to it first, then the oldest.
func rangesFor(r store.Reader, zone, account cloud.ID) []*cloud.VLANRange {
	var list []*cloud.VLANRange
	for v := range tables.VLANRanges.By(r, "zone", store.K(zone)) {
		if v.ForVirtualNetwork && !v.ForSystemVMs && mayHave(r, account, v.AccountID, v.DomainID) {
			list = append(list, v)
		}
	}
	slices.SortStableFunc(list, func(a, b *cloud.VLANRange) int {
		if own := cmp.Compare(boolRank(a.DomainID.IsZero()), boolRank(b.DomainID.IsZero())); own != 0 {
			return own
		}
		return a.Created.Compare(b.Created)
	})
	return list
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// VLANURI is a range's VLAN as clients see it.
func VLANURI(v *cloud.VLANRange) string { return "vlan://" + v.VLAN }

// PublicNetworkID is the id under which the API shows a zone's public network. There is no such row: the network is the
// ranges and addresses of the zone.
func PublicNetworkID(zone cloud.ID) cloud.ID { return cloud.NameID("public_network", zone.String()) }
