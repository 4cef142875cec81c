package host

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// MetricsAnswer is a host with what it has and uses in larger units. What details= did not ask for, and what it has not
// reported, is left out.
type MetricsAnswer struct {
	Answer
	Instances         string `json:"instances" doc:"how many VMs run on it, out of all that it has"`
	SystemInstances   string `json:"systeminstances" doc:"the same of routers"`
	CPUTotalGHz       string `json:"cputotalghz" doc:"speed of all its CPUs, in GHz"`
	CPUUsedGHz        string `json:"cpuusedghz,omitempty" doc:"how much of that is in use"`
	CPUAllocatedGHz   string `json:"cpuallocatedghz,omitempty" doc:"how much of that VMs were given"`
	MemoryTotalGB     string `json:"memorytotalgb,omitempty" doc:"memory in GiB"`
	MemoryUsedGB      string `json:"memoryusedgb,omitempty" doc:"memory in use, in GiB"`
	MemoryAllocatedGB string `json:"memoryallocatedgb,omitempty" doc:"memory that VMs were given, in GiB"`
	NetworkRead       string `json:"networkread,omitempty" doc:"received, in GiB"`
	NetworkWrite      string `json:"networkwrite,omitempty" doc:"sent, in GiB"`
	capacity.Thresholds
}

func metricsOf(c *api.Call, h *cloud.Host, a Answer) MetricsAnswer {
	var s capacity.Sum
	s.Add(c, func(yield func(*cloud.Host) bool) { yield(h) })
	mhz := float64(h.CPUs) * float64(h.CPUMHz)
	m := MetricsAnswer{Answer: a, CPUTotalGHz: capacity.GHz(mhz), Thresholds: s.Thresholds(c, h.ClusterID)}
	running, all := 0, 0
	for vm := range tables.VMs.By(c.Read, "host", store.K(h.ID)) {
		all++
		if vm.State == cloud.VMRunning {
			running++
		}
	}
	m.Instances = capacity.OutOf(running, all)
	running, all = 0, 0
	for r := range tables.Routers.By(c.Read, "host", store.K(h.ID)) {
		all++
		if r.State == cloud.VMRunning {
			running++
		}
	}
	m.SystemInstances = capacity.OutOf(running, all)
	gib := func(bytes *uint64) string {
		if bytes == nil {
			return ""
		}
		return capacity.GiB(*bytes)
	}
	m.MemoryTotalGB, m.MemoryUsedGB, m.MemoryAllocatedGB = gib(a.MemoryTotal), gib(a.MemoryUsed), gib(a.MemoryAllocated)
	if a.CPUAllocated != "" {
		m.CPUAllocatedGHz = capacity.GHz(float64(infra.HostAllocated(c.Read, h.ID).CPUMHz))
	}
	if u, ok := tables.HostUsages.Get(c.Read, h.ID); ok && a.CPUUsed != "" {
		m.CPUUsedGHz = capacity.GHz(mhz * u.CPUPercent / 100)
		m.NetworkRead, m.NetworkWrite = capacity.GiB(u.NetworkRxKiB<<10), capacity.GiB(u.NetworkTxKiB<<10)
	}
	return m
}
