package network

import (
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// SourceNATOf gives the source NAT address of a network.
func SourceNATOf(r store.Reader, network cloud.ID) (*cloud.PublicIP, bool) {
	for ip := range tables.PublicIPs.By(r, "network", store.K(network)) {
		if ip.SourceNAT {
			return ip, true
		}
	}
	return nil, false
}

// Associate gives a free public address to a network: the wanted one, or the lowest of the first range that has one.
// The first address of a network with source NAT becomes its source NAT address.
//
// Errors: cloud.NoCapacity, cloud.LimitExceeded, cloud.Invalid.
func (a *Area) Associate(tx *store.Tx, n *cloud.Network, want netip.Addr) (*cloud.PublicIP, error) {
	if n.State == cloud.NetworkDestroy {
		return nil, cloud.Errorf(cloud.Invalid, "Network %s is being deleted", n.Name)
	}
	o, ok := tables.NetworkOfferings.Get(tx, n.OfferingID)
	if !ok || !routed(o) {
		return nil, cloud.Errorf(cloud.Invalid, "Network %s has no router that could hold a public address", n.Name)
	}
	_, has := SourceNATOf(tx, n.ID)
	ip, err := a.takeIP(tx, n, Offers(o, SourceNat) && !has, want)
	if err != nil {
		return nil, err
	}
	return ip, touch(tx, n)
}

// takeIP writes the address; the caller bumps the network's epoch.
func (a *Area) takeIP(tx *store.Tx, n *cloud.Network, sourceNAT bool, want netip.Addr) (*cloud.PublicIP, error) {
	ip, err := freeIP(tx, n, want)
	if err != nil {
		return nil, err
	}
	ip.State = cloud.IPAllocated
	if carried(n) && !unrouted(tx, n) {
		ip.State = cloud.IPAllocating
	}
	ip.AccountID, ip.DomainID, ip.NetworkID = n.AccountID, n.DomainID, n.ID
	ip.SourceNAT, ip.Allocated = sourceNAT, tx.Now()
	if err := a.Counts.Count(tx, n.AccountID, cloud.ResourcePublicIP, 1); err != nil {
		return nil, err
	}
	return ip, tables.PublicIPs.Put(tx, ip)
}

// freeIP chooses. All addresses of a router are on its one public leg, so those of a network are of one VLAN.
func freeIP(r store.Reader, n *cloud.Network, want netip.Addr) (*cloud.PublicIP, error) {
	vlan := ""
	if nat, ok := SourceNATOf(r, n.ID); ok {
		if v, ok := tables.VLANRanges.Get(r, nat.RangeID); ok {
			vlan = v.VLAN
		}
	}
	var fit []*cloud.VLANRange
	for _, v := range rangesFor(r, n.ZoneID, n.AccountID) {
		if vlan == "" || v.VLAN == vlan {
			fit = append(fit, v)
		}
	}
	for _, v := range fit {
		if want.IsValid() {
			if ip, ok := tables.PublicIPs.First(r, "free_range", store.K(v.ID, want)); ok {
				return ip, nil
			}
			continue
		}
		if ip, ok := tables.PublicIPs.First(r, "free_range", store.K(v.ID)); ok {
			return ip, nil
		}
	}
	zone := n.ZoneID.String()
	if z, ok := tables.Zones.Get(r, n.ZoneID); ok {
		zone = z.Name
	}
	switch {
	case want.IsValid():
		return nil, cloud.Errorf(cloud.NoCapacity, "Public address %s is not free for network %s in zone %s", want, n.Name, zone)
	case len(fit) == 0 && vlan != "":
		return nil, cloud.Errorf(cloud.NoCapacity, "Insufficient public addresses: zone %s has no range of VLAN %s, in which network %s has its source NAT address", zone, vlan, n.Name)
	case len(fit) == 0:
		return nil, cloud.Errorf(cloud.NoCapacity, "Insufficient public addresses: zone %s has no public range for this account", zone)
	}
	return nil, cloud.Errorf(cloud.NoCapacity, "Insufficient public addresses: none is free in zone %s", zone)
}

// Disassociate gives a public address back, with the rules on it.
func (a *Area) Disassociate(tx *store.Tx, ip *cloud.PublicIP) error {
	switch {
	case ip.State == cloud.IPFree || ip.System:
		return cloud.Errorf(cloud.Invalid, "Public address %s is not associated with an account", ip.Address)
	case ip.SourceNAT:
		return cloud.Errorf(cloud.Invalid, "Public address %s is used for source nat purposes and can not be disassociated; it goes with its network", ip.Address)
	}
	n, ok := tables.Networks.Get(tx, ip.NetworkID)
	if !ok {
		return a.freePublicIP(tx, ip)
	}
	for f := range tables.FirewallRules.By(tx, "ip", store.K(ip.ID)) {
		if err := revokeFirewall(tx, f); err != nil {
			return err
		}
	}
	for f := range tables.PortForwardingRules.By(tx, "ip", store.K(ip.ID)) {
		if err := revokeForwarding(tx, f); err != nil {
			return err
		}
	}
	ip.State, ip.StaticNAT, ip.VMID = cloud.IPReleasing, false, cloud.ID{}
	if err := tables.PublicIPs.Put(tx, ip); err != nil {
		return err
	}
	return a.changed(tx, n)
}

// freePublicIP makes an address free again.
func (a *Area) freePublicIP(tx *store.Tx, ip *cloud.PublicIP) error {
	if err := a.Counts.Count(tx, ip.AccountID, cloud.ResourcePublicIP, -1); err != nil {
		return err
	}
	if err := tables.DropAttached(tx, ip.ID); err != nil {
		return err
	}
	return tables.PublicIPs.Put(tx, &cloud.PublicIP{
		ID: ip.ID, Address: ip.Address, RangeID: ip.RangeID, ZoneID: ip.ZoneID, PhysicalNetworkID: ip.PhysicalNetworkID,
		Unknown: ip.Unknown,
	})
}
