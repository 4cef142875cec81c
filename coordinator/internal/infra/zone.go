package infra

import (
	"maps"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ZoneValues are what createZone and updateZone may say; nil keeps what is there. Texts are as the caller wrote them.
type ZoneValues struct {
	Name, DNS1, DNS2, IP6DNS1, IP6DNS2, InternalDNS1, InternalDNS2 *string
	GuestCIDR, NetworkDomain, AllocationState                      *string
	LocalStorage, SecurityGroups                                   *bool
	Details                                                        map[string]string
	// Public takes away the zone's dedication to a domain.
	Public bool
}

// CreateZone makes a zone. Its type is "Advanced" or "Basic"; domain, if not zero, is whom it is dedicated to.
func CreateZone(tx *store.Tx, networkType string, domain cloud.ID, v ZoneValues) (*cloud.Zone, error) {
	z := &cloud.Zone{ID: tx.NewID(), Created: tx.Now()}
	switch {
	case strings.EqualFold(networkType, "Advanced"):
	case strings.EqualFold(networkType, "Basic"):
		z.Type, z.SecurityGroups = cloud.BasicZone, true
		if v.GuestCIDR != nil && *v.GuestCIDR != "" {
			return nil, cloud.Errorf(cloud.Invalid, "guestCidrAddress parameter is not supported for Basic zone")
		}
	default:
		return nil, cloud.Errorf(cloud.Invalid, "Invalid zone type; only Advanced and Basic values are supported")
	}
	z.Token = tx.NewID().String()
	if err := setZone(z, v); err != nil {
		return nil, err
	}
	if z.Type == cloud.BasicZone {
		z.SecurityGroups = true
	}
	if err := putZone(tx, z); err != nil || domain.IsZero() {
		return z, err
	}
	d, err := Dedicate(tx, cloud.ZonePlace, z.ID, domain, nil)
	if err != nil {
		return nil, err
	}
	z.DomainID = d.DomainID
	return z, nil
}

// UpdateZone changes a zone.
func UpdateZone(tx *store.Tx, id cloud.ID, v ZoneValues) (*cloud.Zone, error) {
	z, ok := tables.Zones.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "zone", ID: id}
	}
	wasOff := z.AllocationState == cloud.AllocationDisabled
	if err := setZone(z, v); err != nil {
		return nil, err
	}
	if wasOff && z.AllocationState == cloud.AllocationEnabled {
		if err := checkZoneComplete(tx, z); err != nil {
			return nil, err
		}
	}
	if v.Public {
		if err := releaseRemoved(tx, id); err != nil {
			return nil, err
		}
		z.DomainID = cloud.ID{}
	}
	if v.LocalStorage != nil && *v.LocalStorage {
		if err := localPoolsOf(tx, z); err != nil {
			return nil, err
		}
	}
	return z, putZone(tx, z)
}

func putZone(tx *store.Tx, z *cloud.Zone) error {
	err := tables.Zones.Put(tx, z)
	return wrap("put", "zone", z.ID, taken(err, "A zone with that name already exists. Please specify a unique zone name."))
}

// checkZoneComplete says why a zone cannot be enabled yet.
func checkZoneComplete(r store.Reader, z *cloud.Zone) error {
	carried := map[string]bool{}
	for n := range tables.PhysicalNetworks.By(r, "zone", store.K(z.ID)) {
		for t := range tables.TrafficTypes.By(r, "physical_network", store.K(n.ID)) {
			carried[t.Type] = true
		}
	}
	needed := []string{"Management"}
	if z.Type == cloud.AdvancedZone {
		needed = []string{"Public", "Management"}
	}
	for _, t := range needed {
		if !carried[t] {
			return cloud.Errorf(cloud.Invalid, "Cannot enable this Zone since: Unable to find a physical network which carries traffic type %s in zone %s", t, z.Name)
		}
	}
	return nil
}

func setZone(z *cloud.Zone, v ZoneValues) error {
	if v.Name != nil {
		if *v.Name == "" {
			return cloud.Errorf(cloud.Invalid, "A zone needs a name")
		}
		z.Name = *v.Name
	}
	addresses := []struct {
		text *string
		to   *netip.Addr
		is4  bool
		say  string
	}{
		{v.DNS1, &z.DNS1, true, "Please enter a valid IP address for DNS1"},
		{v.DNS2, &z.DNS2, true, "Please enter a valid IP address for DNS2"},
		{v.InternalDNS1, &z.InternalDNS1, true, "Please enter a valid IP address for internal DNS1"},
		{v.InternalDNS2, &z.InternalDNS2, true, "Please enter a valid IP address for internal DNS2"},
		{v.IP6DNS1, &z.IP6DNS1, false, "Please enter a valid IPv6 address for IP6 DNS1"},
		{v.IP6DNS2, &z.IP6DNS2, false, "Please enter a valid IPv6 address for IP6 DNS2"},
	}
	for _, a := range addresses {
		if a.text == nil {
			continue
		}
		if *a.text == "" {
			*a.to = netip.Addr{}
			continue
		}
		ip, err := netip.ParseAddr(*a.text)
		if err != nil || ip.Is4() != a.is4 || ip.Zone() != "" {
			return cloud.Errorf(cloud.Invalid, "%s", a.say)
		}
		*a.to = ip
	}
	if v.GuestCIDR != nil && *v.GuestCIDR != "" {
		p, err := netip.ParsePrefix(*v.GuestCIDR)
		if err != nil || !private(p) {
			return cloud.Errorf(cloud.Invalid, "Please enter a valid guest cidr")
		}
		z.GuestCIDR = p
	}
	if v.NetworkDomain != nil {
		if *v.NetworkDomain != "" && !ValidNetworkDomain(*v.NetworkDomain) {
			return cloud.Errorf(cloud.Invalid, "%s", badNetworkDomain)
		}
		z.NetworkDomain = *v.NetworkDomain
	}
	if v.AllocationState != nil {
		s, err := allocationState(*v.AllocationState, z.AllocationState)
		if err != nil {
			return err
		}
		z.AllocationState = s
	}
	if v.LocalStorage != nil {
		z.LocalStorage = *v.LocalStorage
	}
	if v.SecurityGroups != nil {
		z.SecurityGroups = *v.SecurityGroups
	}
	if len(v.Details) > 0 {
		if z.Details == nil {
			z.Details = map[string]string{}
		}
		maps.Copy(z.Details, v.Details)
	}
	return nil
}

const badNetworkDomain = "Invalid network domain. Total length shouldn't exceed 190 chars. Each domain label must be between 1 and 63 " +
	"characters long, can contain ASCII letters 'a' through 'z', the digits '0' through '9', and the hyphen ('-'); can't start or end with \"-\""

// ValidNetworkDomain tells whether a DNS domain may be used for guest networks.
func ValidNetworkDomain(s string) bool {
	if len(s) > 190 || s == "" {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// private tells whether a prefix is an IPv4 network within RFC 1918 space.
func private(p netip.Prefix) bool {
	if !p.Addr().Is4() {
		return false
	}
	for _, s := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
		space := netip.MustParsePrefix(s)
		if space.Contains(p.Addr()) && p.Bits() >= space.Bits() {
			return true
		}
	}
	return false
}

// DeleteZone removes an empty zone.
func DeleteZone(tx *store.Tx, id cloud.ID) error {
	allocated := false
	for ip := range tables.PublicIPs.By(tx, "address", store.K(id)) {
		if ip.State != cloud.IPFree {
			allocated = true
			break
		}
	}
	reasons := []struct {
		holds bool
		say   string
	}{
		{first(tables.Hosts, tx, "zone", store.K(id)), "there are servers running in this zone"},
		{first(tables.Pods, tx, "zone", store.K(id)), "there are pods in this zone"},
		{allocated, "there are public IP addresses allocated for this zone"},
		{first(tables.VMs, tx, "zone", store.K(id)), "there are virtual machines running in this zone"},
		{first(tables.Volumes, tx, "zone", store.K(id)), "there are storage volumes for this zone"},
		{first(tables.PhysicalNetworks, tx, "zone", store.K(id)), "there are physical networks in this zone"},
		{first(tables.Networks, tx, "zone", store.K(id)), "there are networks in this zone"},
		{first(tables.StoragePools, tx, "zone", store.K(id)), "there are storage pools in this zone"},
	}
	for _, r := range reasons {
		if r.holds {
			return cloud.Errorf(cloud.InUse, "The zone is not deletable because %s", r.say)
		}
	}
	for s := range tables.ImageStores.By(tx, "zone", store.K(id)) {
		if err := tables.ImageStores.Delete(tx, s.ID); err != nil {
			return wrap("delete image store of", "zone", id, err)
		}
	}
	if err := releaseRemoved(tx, id); err != nil {
		return err
	}
	return wrap("delete", "zone", id, tables.Zones.Delete(tx, id))
}
