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
