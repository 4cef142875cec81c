package infra

import (
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// StorageRangeValues are what a range of the storage network may be told; "" and nil keep what is there.
type StorageRangeValues struct {
	Gateway, Netmask, Start, End string
	VLAN                         *int
}

// CreateStorageRange adds a range of the storage network to a pod.
func CreateStorageRange(tx *store.Tx, pod cloud.ID, v StorageRangeValues) (*cloud.StorageRange, error) {
	p, ok := tables.Pods.Get(tx, pod)
	if !ok {
		return nil, &store.NotFound{Table: "pod", ID: pod}
	}
	if !carriesStorage(tx, p.ZoneID) {
		return nil, cloud.Errorf(cloud.Invalid, "Cannot find storage network in zone of pod %s: no physical network carries Storage traffic", p.Name)
	}
	if v.End == "" {
		v.End = v.Start
	}
	r := &cloud.StorageRange{ID: tx.NewID(), ZoneID: p.ZoneID, PodID: pod, Created: tx.Now()}
	return r, setStorageRange(tx, r, v)
}

// UpdateStorageRange changes a range.
func UpdateStorageRange(tx *store.Tx, id cloud.ID, v StorageRangeValues) (*cloud.StorageRange, error) {
	r, ok := tables.StorageRanges.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "storage_range", ID: id}
	}
	return r, setStorageRange(tx, r, v)
}

func carriesStorage(r store.Reader, zone cloud.ID) bool {
	for n := range tables.PhysicalNetworks.By(r, "zone", store.K(zone)) {
		if _, ok := tables.TrafficTypes.First(r, "physical_network", store.K(n.ID, "Storage")); ok {
			return true
		}
	}
	return false
}

func setStorageRange(tx *store.Tx, r *cloud.StorageRange, v StorageRangeValues) error {
	for _, x := range []struct {
		name, text string
		to         *netip.Addr
	}{{"gateway", v.Gateway, &r.Gateway}, {"startip", v.Start, &r.Start}, {"endip", v.End, &r.End}} {
		if x.text == "" {
			continue
		}
		ip, err := netip.ParseAddr(x.text)
		if err != nil || !ip.Is4() {
			return cloud.Errorf(cloud.Invalid, "Invalid value %.50q of %s: an IPv4 address is expected", x.text, x.name)
		}
		*x.to = ip
	}
	if v.Netmask != "" {
		r.Netmask = v.Netmask
	}
	if v.VLAN != nil {
		if *v.VLAN < 0 || *v.VLAN > 4094 {
			return cloud.Errorf(cloud.Invalid, "Invalid value %d of vlan: from 1 to 4094, or 0 for untagged", *v.VLAN)
		}
		r.VLAN = uint16(*v.VLAN)
	}
	subnet, ok := PodCIDR(&cloud.Pod{Gateway: r.Gateway, Netmask: r.Netmask})
	switch {
	case !ok:
		return cloud.Errorf(cloud.Invalid, "Invalid gateway %s and netmask %.50q", r.Gateway, r.Netmask)
	case !subnet.Contains(r.Start) || !subnet.Contains(r.End) || r.End.Less(r.Start):
		return cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: startip and endip must rise and lie in %s", r.Start, r.End, subnet)
	case !r.Gateway.Less(r.Start) && !r.End.Less(r.Gateway):
		return cloud.Errorf(cloud.Invalid, "Invalid range %s-%s: it contains its gateway %s", r.Start, r.End, r.Gateway)
	}
	for o := range tables.StorageRanges.By(tx, "zone", store.K(r.ZoneID)) {
		if o.ID != r.ID && !r.End.Less(o.Start) && !o.End.Less(r.Start) {
			return cloud.Errorf(cloud.Invalid, "The range %s-%s overlaps with %s-%s", r.Start, r.End, o.Start, o.End)
		}
	}
	for p := range tables.Pods.By(tx, "zone", store.K(r.ZoneID)) {
		if !r.End.Less(p.StartIP) && !p.EndIP.Less(r.Start) {
			return cloud.Errorf(cloud.Invalid, "The range %s-%s overlaps with %s-%s of pod %s", r.Start, r.End, p.StartIP, p.EndIP, p.Name)
		}
	}
	return wrap("put", "storage range", r.ID, tables.StorageRanges.Put(tx, r))
}
