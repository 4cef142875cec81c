package storagepool

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// MetricsAnswer is a pool with its sizes in a larger unit, and whether it runs full.
type MetricsAnswer struct {
	Answer
	UsedGB           string `json:"disksizeusedgb" doc:"what is used of it, in GiB"`
	TotalGB          string `json:"disksizetotalgb" doc:"its size in GiB, and how many times it may be allocated"`
	AllocatedGB      string `json:"disksizeallocatedgb" doc:"what its volumes may grow to, in GiB"`
	UnallocatedGB    string `json:"disksizeunallocatedgb" doc:"what may still be allocated, over-provisioning included, in GiB"`
	Usage            bool   `json:"storageusagethreshold" doc:"whether enough is used for an alert"`
	UsageDisable     bool   `json:"storageusagedisablethreshold" doc:"whether so much is used that it takes no further volume"`
	Allocated        bool   `json:"storageallocatedthreshold" doc:"whether enough is allocated for an alert"`
	AllocatedDisable bool   `json:"storageallocateddisablethreshold" doc:"whether so much is allocated that it takes no further volume"`
}

func metricsOf(c *api.Call, p *cloud.StoragePool, a Answer) MetricsAnswer {
	can := uint64(float64(p.CapacityBytes) * c.Settings.Float("storage.overprovisioning.factor", p.ID))
	m := MetricsAnswer{
		Answer: a, UsedGB: capacity.GiB(p.UsedBytes), AllocatedGB: capacity.GiB(p.AllocatedBytes),
		TotalGB: capacity.GiB(p.CapacityBytes) + " (x" + a.OverProvisionFactor + ")", UnallocatedGB: capacity.GiB(can - min(can, p.AllocatedBytes)),
	}
	above := func(part, all uint64, setting string, scopes ...cloud.ID) bool {
		return all > 0 && float64(part)/float64(all) > c.Settings.Float(setting, scopes...)
	}
	notify := "cluster.storage.allocated.capacity.notificationthreshold"
	if !p.HostID.IsZero() {
		notify = "cluster.localStorage.capacity.notificationthreshold"
	}
	m.Usage = above(p.UsedBytes, p.CapacityBytes, "cluster.storage.capacity.notificationthreshold", p.ClusterID)
	m.UsageDisable = above(p.UsedBytes, p.CapacityBytes, "pool.storage.capacity.disablethreshold", p.ID, p.ZoneID)
	m.Allocated = above(p.AllocatedBytes, can, notify, p.ClusterID)
	m.AllocatedDisable = above(p.AllocatedBytes, can, "pool.storage.allocated.capacity.disablethreshold", p.ID, p.ZoneID)
	return m
}
