package storage

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// PoolValues are what updateStoragePool may say; nil keeps what is there.
type PoolValues struct {
	Name    string
	Tags    []string
	SetTags bool
	Details map[string]string
}

// UpdatePool changes a pool.
func UpdatePool(tx *store.Tx, id cloud.ID, v PoolValues) (*cloud.StoragePool, error) {
	p, ok := tables.StoragePools.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "storage_pool", ID: id}
	}
	if v.Name != "" {
		p.Name = v.Name
	}
	if v.SetTags {
		p.Tags = slices.DeleteFunc(slices.Clone(v.Tags), func(t string) bool { return t == "" })
	}
	if v.Details != nil {
		p.Details = v.Details
	}
	return p, wrap("update", "pool", id, tables.StoragePools.Put(tx, p))
}

// BeginMaintenance takes a pool out of use. Running VMs with disks on it are in the way: a share that goes away under a
// guest damages its file systems, and nothing moves disks yet.
func BeginMaintenance(tx *store.Tx, id cloud.ID) (*cloud.StoragePool, error) {
	p, ok := tables.StoragePools.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "storage_pool", ID: id}
	}
	if p.State != cloud.PoolUp && p.State != cloud.PoolDown {
		return nil, cloud.Errorf(cloud.Invalid, "Primary storage with id %s is not ready for maintenance; it is %s", id, p.State)
	}
	for v := range tables.Volumes.By(tx, "pool", store.K(id)) {
		vm, ok := tables.VMs.Get(tx, v.VMID)
		if ok && !vm.HostID.IsZero() {
			return nil, cloud.Errorf(cloud.InUse, "Primary storage %s cannot be taken into maintenance: virtual machine %s (%s) is %s and has volume %s on it. Stop it first",
				p.Name, vm.DisplayName, vm.InstanceName, vm.State, v.Name)
		}
	}
	p.State = cloud.PoolMaintenance
	return p, wrap("begin maintenance of", "pool", id, tables.StoragePools.Put(tx, p))
}

// EndMaintenance takes a pool into use again, once a host reports it.
func EndMaintenance(tx *store.Tx, id cloud.ID) (*cloud.StoragePool, error) {
	p, ok := tables.StoragePools.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "storage_pool", ID: id}
	}
	if p.State != cloud.PoolMaintenance {
		return nil, cloud.Errorf(cloud.Invalid, "Primary storage with id %s is not in maintenance; it is %s", id, p.State)
	}
	p.State = cloud.PoolUp
	return p, wrap("end maintenance of", "pool", id, tables.StoragePools.Put(tx, p))
}

// UpdateImageStore renames an image store, or says whether anything new is put there; nil and "" keep what is there.
func UpdateImageStore(tx *store.Tx, id cloud.ID, name string, readOnly *bool) (*cloud.ImageStore, error) {
	s, ok := tables.ImageStores.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "image_store", ID: id}
	}
	if name != "" {
		s.Name = name
	}
	if readOnly != nil {
		s.ReadOnly = *readOnly
	}
	return s, wrap("update", "image store", id, tables.ImageStores.Put(tx, s))
}
