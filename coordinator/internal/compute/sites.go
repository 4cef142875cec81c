package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Sites gives system VMs their place among the VMs: chosen by the same rules and counted in the same rows.
type Sites struct{}

// Choose picks a host and pools. The error is a *place.NoCapacity.
func (Sites) Choose(r store.Reader, req *place.Request) (place.Choice, error) {
	fleet := Candidates(r, req.Zone, cloud.ID{})
	if !req.Emergency {
		keepForHA(r, fleet, req.Host)
	}
	return place.Choose(fleet, req)
}

// Take counts what a system VM has of a host.
func (Sites) Take(tx *store.Tx, host cloud.ID, cpuMHz, memoryMiB uint64) error {
	return editCapacity(tx, host, func(c *cloud.HostCapacity) {
		c.CPUMHz += cpuMHz
		c.MemoryMiB += memoryMiB
		c.VMs++
	})
}

// Free undoes Take. The figures of a host that is gone went with it.
func (Sites) Free(tx *store.Tx, host cloud.ID, cpuMHz, memoryMiB uint64) error {
	if !tables.HostCapacities.Has(tx, host) {
		return nil
	}
	return editCapacity(tx, host, func(c *cloud.HostCapacity) {
		c.CPUMHz -= min(c.CPUMHz, cpuMHz)
		c.MemoryMiB -= min(c.MemoryMiB, memoryMiB)
		c.VMs -= min(c.VMs, 1)
	})
}
