package capacity

import (
	"iter"
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Thresholds tell whether more of something is allocated than settings say, over-provisioning included. What is really in use
// has no thresholds of its own.
type Thresholds struct {
	CPU           bool `json:"cpuallocatedthreshold" doc:"whether enough CPU is allocated for an alert"`
	CPUDisable    bool `json:"cpuallocateddisablethreshold" doc:"whether so much CPU is allocated that no further VM gets some"`
	Memory        bool `json:"memoryallocatedthreshold" doc:"whether enough memory is allocated for an alert"`
	MemoryDisable bool `json:"memoryallocateddisablethreshold" doc:"whether so much memory is allocated that no further VM gets some"`
}

// Metrics are what the hosts of a place have and use together.
type Metrics struct {
	CPUTotal        string `json:"cputotal" doc:"speed of all their CPUs, in GHz"`
	CPUUsed         string `json:"cpuused,omitempty" doc:"percentage of the CPU in use, of the hosts that were measured"`
	CPUAllocated    string `json:"cpuallocated,omitempty" doc:"percentage of the CPU that VMs were given"`
	MemoryTotal     string `json:"memorytotal" doc:"all their memory, in GiB"`
	MemoryUsed      string `json:"memoryused,omitempty" doc:"percentage of the memory in use, of the hosts that were measured"`
	MemoryAllocated string `json:"memoryallocated,omitempty" doc:"percentage of the memory that VMs were given"`
	Thresholds
}

// Sum is what hosts have, were asked for, and use: in MHz and MiB.
type Sum struct {
	Hosts, Up           int
	mhz, memory         float64 // all there is
	canMHz, canMemory   float64 // over-provisioning included
	givenMHz, givenMem  float64
	ofMHz, ofMemory     float64 // of hosts that were measured
	usedMHz, usedMemory float64
}

// Within sums up the hosts of a zone or a cluster, by the name of the index that they are found by, without those that belong
// to none yet.
func Within(c *api.Call, index string, place cloud.ID) *Sum {
	s := &Sum{}
	s.Add(c, tables.Hosts.By(c.Read, index, store.K(place)))
	return s
}

// Add adds the hosts of a place, without those that belong to none yet.
func (s *Sum) Add(c *api.Call, hosts iter.Seq[*cloud.Host]) {
	for h := range hosts {
		if h.ResourceState == cloud.HostPending {
			continue
		}
		s.Hosts++
		if h.Status == cloud.HostUp {
			s.Up++
		}
		f := infra.FactorsOf(c.Read, h.ClusterID, Factors(c))
		given := infra.HostAllocated(c.Read, h.ID)
		mhz, memory := float64(h.CPUs)*float64(h.CPUMHz), float64(h.MemoryMiB)
		s.mhz, s.memory = s.mhz+mhz, s.memory+memory
		s.canMHz, s.canMemory = s.canMHz+mhz*f.CPU, s.canMemory+memory*f.Memory
		s.givenMHz, s.givenMem = s.givenMHz+float64(given.CPUMHz), s.givenMem+float64(given.MemoryMiB)
		if u, ok := tables.HostUsages.Get(c.Read, h.ID); ok {
			s.ofMHz, s.ofMemory = s.ofMHz+mhz, s.ofMemory+memory
			s.usedMHz, s.usedMemory = s.usedMHz+mhz*u.CPUPercent/100, s.usedMemory+float64(u.MemoryUsedMiB)
		}
	}
}

// Metrics shows the sum; the thresholds are those of a cluster, or with a zero ID of every cluster without its own.
func (s *Sum) Metrics(c *api.Call, cluster cloud.ID) Metrics {
	return Metrics{
		CPUTotal: GHz(s.mhz), MemoryTotal: GiB(uint64(s.memory) << 20),
		CPUUsed: share(s.usedMHz, s.ofMHz), MemoryUsed: share(s.usedMemory, s.ofMemory),
		CPUAllocated: share(s.givenMHz, s.mhz), MemoryAllocated: share(s.givenMem, s.memory), Thresholds: s.Thresholds(c, cluster),
	}
}

// Thresholds compares what is allocated with a cluster's settings.
func (s *Sum) Thresholds(c *api.Call, cluster cloud.ID) Thresholds {
	above := func(part, all float64, setting string) bool {
		return all > 0 && part/all > c.Settings.Float(setting, cluster)
	}
	return Thresholds{
		CPU:           above(s.givenMHz, s.canMHz, "cluster.cpu.allocated.capacity.notificationthreshold"),
		CPUDisable:    above(s.givenMHz, s.canMHz, "cluster.cpu.allocated.capacity.disablethreshold"),
		Memory:        above(s.givenMem, s.canMemory, "cluster.memory.allocated.capacity.notificationthreshold"),
		MemoryDisable: above(s.givenMem, s.canMemory, "cluster.memory.allocated.capacity.disablethreshold"),
	}
}

func share(part, all float64) string {
	if all == 0 {
		return ""
	}
	return strconv.FormatFloat(part/all*100, 'f', 2, 64) + "%"
}

// GHz writes a number of MHz in GHz, with two decimals and the unit as CloudStack spells it.
func GHz(mhz float64) string { return strconv.FormatFloat(mhz/1000, 'f', 2, 64) + " Ghz" }

// OutOf writes how many of all there are.
func OutOf(some, all int) string { return strconv.Itoa(some) + " / " + strconv.Itoa(all) }
