package infra

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// localPool gives a host its local primary storage.
func localPool(tx *store.Tx, h *cloud.Host) error {
	if first(tables.StoragePools, tx, "host", store.K(h.ID)) {
		return nil
	}
	return wrap("make local pool of", "host", h.ID, tables.StoragePools.Put(tx, &cloud.StoragePool{
		ID: tx.NewID(), Name: h.Name + " Local Storage", ZoneID: h.ZoneID, PodID: h.PodID, ClusterID: h.ClusterID, HostID: h.ID,
		Kind: cloud.PoolFilesystem, Path: LocalPoolPath, Source: h.IP.String(), State: cloud.PoolInitial, Scope: "HOST", Created: tx.Now(),
	}))
}

// localPoolsOf gives all hosts of a zone their local primary storage, when the zone is switched to it.
func localPoolsOf(tx *store.Tx, z *cloud.Zone) error {
	for h := range tables.Hosts.By(tx, "zone", store.K(z.ID)) {
		if err := localPool(tx, h); err != nil {
			return err
		}
	}
	return nil
}

// removeLocalPool removes the pool of a host that leaves. The files on the host's disk stay: nobody is there to ask.
func removeLocalPool(tx *store.Tx, h *cloud.Host, p *cloud.StoragePool, destroy bool, drop func(*store.Tx, *cloud.Volume) error) error {
	n := tables.Volumes.Count(tx, "pool", store.K(p.ID))
	if n > 0 && !destroy {
		return cloud.Errorf(cloud.InUse, "Host %s cannot be removed: %d volumes are on its local storage. Use forcedestroylocalstorage=true to lose them", h.Name, n)
	}
	for v := range tables.Volumes.By(tx, "pool", store.K(p.ID)) {
		if vm, ok := tables.VMs.Get(tx, v.VMID); ok && vm.State != cloud.VMDestroyed && vm.State != cloud.VMExpunging {
			return cloud.Errorf(cloud.InUse, "Host %s cannot be removed: volume %s of virtual machine %s is on its local storage. Destroy the virtual machine first", h.Name, v.Name, vm.Name)
		}
		if err := drop(tx, v); err != nil {
			return wrap("give up", "volume", v.ID, err)
		}
	}
	return wrap("remove", "pool", p.ID, tables.StoragePools.Delete(tx, p.ID))
}
