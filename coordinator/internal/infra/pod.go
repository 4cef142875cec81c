package infra

import (
	"net"
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// PodValues are what createPod and updatePod may say; "" keeps what is there.
type PodValues struct {
	Name, Gateway, Netmask, StartIP, EndIP, AllocationState string
}

// CreatePod makes a pod in a zone. Without an end the range reaches to the end of the subnet.
func CreatePod(tx *store.Tx, zone cloud.ID, v PodValues) (*cloud.Pod, error) {
	p := &cloud.Pod{ID: tx.NewID(), ZoneID: zone, AllocationState: cloud.AllocationEnabled, Created: tx.Now()}
	if v.StartIP == "" {
		return nil, cloud.Errorf(cloud.Invalid, "Start ip is required parameter")
	}
	if err := setPod(tx, p, v); err != nil {
		return nil, err
	}
	return p, putPod(tx, p)
}

// UpdatePod changes a pod.
func UpdatePod(tx *store.Tx, id cloud.ID, v PodValues) (*cloud.Pod, error) {
	p, ok := tables.Pods.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "pod", ID: id}
	}
	if err := setPod(tx, p, v); err != nil {
		return nil, err
	}
	return p, putPod(tx, p)
}

func putPod(tx *store.Tx, p *cloud.Pod) error {
	err := taken(tables.Pods.Put(tx, p), "A pod with name: %s already exists in zone %s. Please specify a different pod name. ", p.Name, p.ZoneID)
	return wrap("put", "pod", p.ID, err)
}

func setPod(r store.Reader, p *cloud.Pod, v PodValues) error {
	if v.Name != "" {
		p.Name = v.Name
	}
	s, err := allocationState(v.AllocationState, p.AllocationState)
	if err != nil {
		return err
	}
	p.AllocationState = s
	if v.Netmask != "" {
		p.Netmask = v.Netmask
	}
	if v.Gateway != "" {
		if p.Gateway, err = netip.ParseAddr(v.Gateway); err != nil || !p.Gateway.Is4() {
			return cloud.Errorf(cloud.Invalid, "The gateway is not a valid IP address.")
		}
	}
	cidr, ok := PodCIDR(p)
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Please enter a valid CIDR for pod: %s", p.Name)
	}
	if v.StartIP != "" {
		if p.StartIP, err = netip.ParseAddr(v.StartIP); err != nil || !p.StartIP.Is4() {
			return cloud.Errorf(cloud.Invalid, "The start address of the IP range is not a valid IP address.")
		}
	}
	switch {
	case v.EndIP != "":
		if p.EndIP, err = netip.ParseAddr(v.EndIP); err != nil || !p.EndIP.Is4() {
			return cloud.Errorf(cloud.Invalid, "The end address of the IP range is not a valid IP address.")
		}
	case !p.EndIP.IsValid():
		p.EndIP = lastUsable(cidr)
	}
	return checkPod(r, p, cidr)
}

// checkPod refuses a range that does not fit its subnet or overlaps what is there.
func checkPod(r store.Reader, p *cloud.Pod, cidr netip.Prefix) error {
	switch {
	case !cidr.Contains(p.StartIP):
		return cloud.Errorf(cloud.Invalid, "The start address of the IP range is not in the CIDR subnet.")
	case !cidr.Contains(p.EndIP):
		return cloud.Errorf(cloud.Invalid, "The end address of the IP range is not in the CIDR subnet.")
	case p.EndIP.Less(p.StartIP):
		return cloud.Errorf(cloud.Invalid, "The start IP address must have a lower value than the end IP address.")
	case !p.Gateway.Less(p.StartIP) && !p.EndIP.Less(p.Gateway):
		return cloud.Errorf(cloud.Invalid, "The gateway shouldn't overlap start/end ip addresses")
	}
	for v := range tables.VLANRanges.By(r, "zone", store.K(p.ZoneID)) {
		if v.NetworkID.IsZero() && v.Start.Is4() && !p.EndIP.Less(v.Start) && !v.End.Less(p.StartIP) {
			return cloud.Errorf(cloud.Invalid, "The Start IP and endIP address range overlap with Public IP :%s", later(v.Start, p.StartIP))
		}
	}
	z, ok := tables.Zones.Get(r, p.ZoneID)
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Please specify a valid zone.")
	}
	if z.GuestCIDR.IsValid() && z.GuestCIDR.Overlaps(cidr) {
		return cloud.Errorf(cloud.Invalid, "The subnet of the pod you are adding conflicts with the subnet of the Guest IP Network. Please specify a different CIDR.")
	}
	for other := range tables.Pods.By(r, "zone", store.K(p.ZoneID)) {
		o, ok := PodCIDR(other)
		if ok && other.ID != p.ID && o.Overlaps(cidr) {
			return cloud.Errorf(cloud.Invalid, "The subnet of the pod you are adding conflicts with the subnet of pod %s in zone %s. Please specify a different CIDR.", other.Name, z.Name)
		}
	}
	return nil
}

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

// PodCIDR is the subnet of a pod's gateway and netmask.
func PodCIDR(p *cloud.Pod) (netip.Prefix, bool) {
	mask, err := netip.ParseAddr(p.Netmask)
	if err != nil || !mask.Is4() || !p.Gateway.Is4() {
		return netip.Prefix{}, false
	}
	ones, bits := net.IPMask(mask.AsSlice()).Size()
	if bits != 32 || ones == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(p.Gateway, ones).Masked(), true
}

// lastUsable is the address before the broadcast address of a subnet.
func lastUsable(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n |= ^uint32(0) >> p.Bits()
	if p.Bits() < 31 {
		n--
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// DeletePod removes an empty pod.
func DeletePod(tx *store.Tx, id cloud.ID) error {
	p, ok := tables.Pods.Get(tx, id)
	if !ok {
		return nil
	}
	for h := range tables.Hosts.By(tx, "zone", store.K(p.ZoneID)) {
		if h.PodID == id {
			return cloud.Errorf(cloud.InUse, "The pod cannot be deleted because there are servers running in this pod")
		}
	}
	if first(tables.Clusters, tx, "pod", store.K(id)) {
		return cloud.Errorf(cloud.InUse, "The pod cannot be deleted because there are clusters in this pod")
	}
	for v := range tables.VLANRanges.By(tx, "zone", store.K(p.ZoneID)) {
		if v.PodID == id {
			return cloud.Errorf(cloud.InUse, "The pod cannot be deleted because there are IP ranges in this pod")
		}
	}
	if err := releaseRemoved(tx, id); err != nil {
		return err
	}
	return wrap("delete", "pod", id, tables.Pods.Delete(tx, id))
}
