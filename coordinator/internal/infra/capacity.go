package infra

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// CapacityType numbers what capacity figures speak of, as clients see it.
type CapacityType int

// Capacity types.
const (
	CapacityMemory         CapacityType = iota // bytes
	CapacityCPU                                // MHz
	CapacityStorage                            // bytes used on shared pools
	CapacityStorageAlloc                       // bytes allocated on shared pools
	CapacityPublicIP                           // addresses of virtual networks
	CapacityPrivateIP                          // addresses of pods
	CapacitySecondary                          // bytes
	CapacityVLAN                               // segments
	CapacityDirectPublicIP                     // addresses of shared networks
	CapacityLocalStorage                       // bytes allocated on hosts' own pools
)

// CapacityNames are what newer clients show.
var CapacityNames = [...]string{
	"MEMORY", "CPU", "STORAGE", "STORAGE_ALLOCATED", "VIRTUAL_NETWORK_PUBLIC_IP", "PRIVATE_IP", "SECONDARY_STORAGE", "VLAN",
	"DIRECT_ATTACHED_PUBLIC_IP", "LOCAL_STORAGE",
}

// Capacity is one figure of a zone, or of a pod or cluster in it.
type Capacity struct {
	Type                     CapacityType
	ZoneID, PodID, ClusterID cloud.ID
	Used, Total              uint64
}

// Percent of the total that is used.
func (c Capacity) Percent() float64 {
	if c.Total == 0 {
		return 0
	}
	return float64(c.Used) / float64(c.Total) * 100
}

// Factors say how many times hosts and pools may be allocated.
type Factors struct{ CPU, Memory, Storage float64 }

// Capacities gives the figures of a zone: of all of it, or of one pod or one cluster. The figures come from counters and
// rows that the transactions maintain, so there is nothing to recalculate.
func Capacities(r store.Reader, zone, pod, cluster cloud.ID, f Factors) []Capacity {
	s := sums{within: within{pod, cluster}, used: map[CapacityType]uint64{}, total: map[CapacityType]uint64{}}
	s.hosts(r, zone, f)
	s.pools(r, zone, f)
	whole := pod.IsZero() && cluster.IsZero()
	if whole {
		s.zone(r, zone)
	}
	if cluster.IsZero() {
		s.privateIPs(r, zone)
	}
	var out []Capacity
	for t, total := range s.total {
		out = append(out, Capacity{Type: t, ZoneID: zone, PodID: pod, ClusterID: cluster, Used: s.used[t], Total: total})
	}
	slices.SortFunc(out, func(a, b Capacity) int { return cmp.Compare(a.Type, b.Type) })
	return out
}

type within struct{ pod, cluster cloud.ID }

func (w within) has(pod, cluster cloud.ID) bool {
	return (w.pod.IsZero() || w.pod == pod) && (w.cluster.IsZero() || w.cluster == cluster)
}

type sums struct {
	within
	used, total map[CapacityType]uint64
}

func (s *sums) add(t CapacityType, used, total uint64) {
	s.used[t] += used
	s.total[t] += total
}

func (s *sums) hosts(r store.Reader, zone cloud.ID, f Factors) {
	s.add(CapacityMemory, 0, 0)
	s.add(CapacityCPU, 0, 0)
	factors := map[cloud.ID]Factors{}
	for h := range tables.Hosts.By(r, "zone", store.K(zone)) {
		if !s.has(h.PodID, h.ClusterID) || h.ResourceState == cloud.HostPending {
			continue
		}
		own, ok := factors[h.ClusterID]
		if !ok {
			own = FactorsOf(r, h.ClusterID, f)
			factors[h.ClusterID] = own
		}
		c := HostAllocated(r, h.ID)
		s.add(CapacityMemory, c.MemoryMiB<<20, uint64(float64(h.MemoryMiB)*own.Memory)<<20)
		s.add(CapacityCPU, c.CPUMHz, uint64(float64(h.CPUs)*float64(h.CPUMHz)*own.CPU))
	}
}

// HostAllocated is what VMs have of a host.
func HostAllocated(r store.Reader, id cloud.ID) cloud.HostCapacity {
	if c, ok := tables.HostCapacities.Get(r, id); ok {
		return *c
	}
	return cloud.HostCapacity{ID: id}
}

// FactorsOf is f with a cluster's own factors over it.
func FactorsOf(r store.Reader, cluster cloud.ID, f Factors) Factors {
	if c, ok := tables.Clusters.Get(r, cluster); ok {
		if c.CPUOvercommit > 0 {
			f.CPU = c.CPUOvercommit
		}
		if c.MemOvercommit > 0 {
			f.Memory = c.MemOvercommit
		}
	}
	if CPUFactor.SetFor(r, cluster) {
		f.CPU = CPUFactor.Float(r, cluster)
	}
	if MemoryFactor.SetFor(r, cluster) {
		f.Memory = MemoryFactor.Float(r, cluster)
	}
	return f
}

func (s *sums) pools(r store.Reader, zone cloud.ID, f Factors) {
	s.add(CapacityStorage, 0, 0)
	s.add(CapacityStorageAlloc, 0, 0)
	s.add(CapacityLocalStorage, 0, 0)
	for p := range tables.StoragePools.By(r, "zone", store.K(zone)) {
		if p.State == cloud.PoolRemoved || p.State.InMaintenance() || !s.has(p.PodID, p.ClusterID) {
			continue
		}
		factor := f.Storage
		if StorageFactor.SetFor(r, p.ID) {
			factor = StorageFactor.Float(r, p.ID)
		}
		allocatable := uint64(float64(p.CapacityBytes) * factor)
		if !p.HostID.IsZero() {
			s.add(CapacityLocalStorage, p.AllocatedBytes, allocatable)
			continue
		}
		s.add(CapacityStorage, p.UsedBytes, p.CapacityBytes)
		s.add(CapacityStorageAlloc, p.AllocatedBytes, allocatable)
	}
}

func (s *sums) privateIPs(r store.Reader, zone cloud.ID) {
	s.add(CapacityPrivateIP, 0, 0)
	for p := range tables.Pods.By(r, "zone", store.K(zone)) {
		if s.has(p.ID, cloud.ID{}) {
			s.add(CapacityPrivateIP, 0, addresses(p.StartIP, p.EndIP))
		}
	}
}

// zone counts what belongs to no pod.
func (s *sums) zone(r store.Reader, zone cloud.ID) {
	all := uint64(tables.PublicIPs.Count(r, "address", store.K(zone)))
	free := uint64(tables.PublicIPs.Count(r, "free", store.K(zone)))
	s.add(CapacityPublicIP, all-min(free, all), all)
	s.add(CapacityDirectPublicIP, 0, 0)
	for v := range tables.VLANRanges.By(r, "zone", store.K(zone)) {
		if !v.NetworkID.IsZero() {
			total := addresses(v.Start, v.End)
			s.add(CapacityDirectPublicIP, min(total, uint64(tables.NICs.Count(r, "network", store.K(v.NetworkID)))), total)
		}
	}
	s.add(CapacitySecondary, 0, 0)
	for i := range tables.ImageStores.By(r, "zone", store.K(zone)) {
		s.add(CapacitySecondary, i.Used, i.Capacity)
	}
	s.add(CapacityVLAN, 0, 0)
	for n := range tables.PhysicalNetworks.By(r, "zone", store.K(zone)) {
		s.add(CapacityVLAN, uint64(tables.Networks.Count(r, "segment", store.K(n.ID))), segments(n.VLANs))
	}
}

// addresses is the size of a range, both ends included.
func addresses(start, end netip.Addr) uint64 {
	if !start.Is4() || !end.Is4() || end.Less(start) {
		return 0
	}
	a, b := start.As4(), end.As4()
	n := func(x [4]byte) uint64 { return uint64(x[0])<<24 | uint64(x[1])<<16 | uint64(x[2])<<8 | uint64(x[3]) }
	return n(b) - n(a) + 1
}

// segments is how many numbers "100-200,300" names.
func segments(text string) uint64 {
	var sum uint64
	for _, part := range strings.Split(text, ",") {
		lo, hi, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			hi = lo
		}
		a, err1 := strconv.ParseUint(lo, 10, 32)
		b, err2 := strconv.ParseUint(hi, 10, 32)
		if err1 == nil && err2 == nil && a <= b {
			sum += b - a + 1
		}
	}
	return sum
}
