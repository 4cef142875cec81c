package network

import (
	"cmp"
	"errors"
	"fmt"
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

// checkBounds checks the addresses of a range in subnet p.
func checkBounds(p netip.Prefix, gateway, start, end netip.Addr) error {
	if err := rangeIn(p, start, end); err != nil {
		return err
	}
	if start.Compare(gateway) <= 0 && gateway.Compare(end) <= 0 {
		return cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: it contains its gateway %s", start, end, gateway)
	}
	if n := alloc.Number(end) - alloc.Number(start) + 1; n > maxRange {
		return cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: it has %d addresses, at most %d are accepted", start, end, n, maxRange)
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
	if err := checkBounds(p, q.Gateway, q.Start, q.End); err != nil {
		return nil, err
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
	return v, putAddresses(tx, v, nil)
}

// putAddresses writes a range's addresses but those it has.
func putAddresses(tx *store.Tx, v *cloud.VLANRange, has map[netip.Addr]bool) error {
	for n := alloc.Number(v.Start); n <= alloc.Number(v.End); n++ {
		if has[alloc.Address(n)] {
			continue
		}
		err := tables.PublicIPs.Put(tx, &cloud.PublicIP{
			ID: tx.NewID(), Address: alloc.Address(n), RangeID: v.ID, ZoneID: v.ZoneID, PhysicalNetworkID: v.PhysicalNetworkID,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRange compares a new or changed range with what else the zone has.
func checkRange(r store.Reader, v *cloud.VLANRange, p netip.Prefix, physical *cloud.PhysicalNetwork) error {
	for o := range tables.VLANRanges.By(r, "zone", store.K(v.ZoneID)) {
		if o.ID == v.ID {
			continue
		}
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

// RangeChange is what updateVlanIpRange may change; what is not valid, empty or nil stays.
type RangeChange struct {
	Start, End, Gateway netip.Addr
	Netmask             string
	ForSystemVMs        *bool
}

// UpdateRange changes the bounds of a range, its subnet, or who has it. An address that is in use stays in the range; and
// as long as one is, neither gateway nor netmask change, which routers have on their interfaces, nor who has the range.
func (a *Area) UpdateRange(tx *store.Tx, v *cloud.VLANRange, c RangeChange) error {
	physical, ok := tables.PhysicalNetworks.Get(tx, v.PhysicalNetworkID)
	if !ok {
		return fmt.Errorf("find physical network %s of range %s: there is no such row", v.PhysicalNetworkID, v.ID)
	}
	before := *v
	for _, x := range []struct{ row, want *netip.Addr }{{&v.Start, &c.Start}, {&v.End, &c.End}, {&v.Gateway, &c.Gateway}} {
		if x.want.IsValid() {
			*x.row = *x.want
		}
	}
	v.Netmask = cmp.Or(c.Netmask, v.Netmask)
	if c.ForSystemVMs != nil {
		v.ForSystemVMs = *c.ForSystemVMs
	}
	if v.ForSystemVMs && !v.DomainID.IsZero() {
		return cloud.Errorf(cloud.Invalid, "Parameter forsystemvms cannot be true: the range %s-%s is dedicated to an account or domain", v.Start, v.End)
	}
	p, err := subnet(v.Gateway, v.Netmask)
	if err != nil {
		return err
	}
	if err := checkBounds(p, v.Gateway, v.Start, v.End); err != nil {
		return err
	}
	if err := checkRange(tx, v, p, physical); err != nil {
		return err
	}
	bound := v.Gateway != before.Gateway || RangePrefix(v) != RangePrefix(&before) || v.ForSystemVMs != before.ForSystemVMs
	has := map[netip.Addr]bool{}
	var free []cloud.ID
	for ip := range tables.PublicIPs.By(tx, "range", store.K(v.ID)) {
		has[ip.Address] = true
		inside := v.Start.Compare(ip.Address) <= 0 && ip.Address.Compare(v.End) <= 0
		switch {
		case ip.State == cloud.IPFree && !inside:
			free = append(free, ip.ID)
		case ip.State != cloud.IPFree && !inside:
			return cloud.Errorf(cloud.InUse, "The range cannot become %s-%s: %s is in use", v.Start, v.End, ip.Address)
		case ip.State != cloud.IPFree && bound:
			return cloud.Errorf(cloud.InUse, "Gateway, netmask and forsystemvms of the range %s-%s cannot change: %s is in use",
				before.Start, before.End, ip.Address)
		}
	}
	for _, id := range free {
		if err := tables.PublicIPs.Delete(tx, id); err != nil {
			return err
		}
	}
	return errors.Join(tables.VLANRanges.Put(tx, v), putAddresses(tx, v, has))
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
