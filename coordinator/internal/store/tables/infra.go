package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Zones keeps cloud.Zone rows.
var Zones = store.Define(store.Def[cloud.Zone]{
	Name:    "zone",
	Deleted: DropAttached,
	ID:      func(r *cloud.Zone) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Zone]{
		{Name: "name", Unique: true, Key: func(r *cloud.Zone) store.Key { return store.K(r.Name) }},
		{Name: "token", Unique: true, Key: func(r *cloud.Zone) store.Key {
			if r.Token == "" {
				return nil
			}
			return store.K(r.Token)
		}},
	},
})

// Pods keeps cloud.Pod rows.
var Pods = store.Define(store.Def[cloud.Pod]{
	Name:    "pod",
	ID:      func(r *cloud.Pod) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.Pod]{
		{Name: "zone", Unique: true, Key: func(r *cloud.Pod) store.Key { return store.K(r.ZoneID, r.Name) }},
	},
})

// Clusters keeps cloud.Cluster rows.
var Clusters = store.Define(store.Def[cloud.Cluster]{
	Name:    "cluster",
	ID:      func(r *cloud.Cluster) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.Cluster]{
		{Name: "pod", Unique: true, Key: func(r *cloud.Cluster) store.Key { return store.K(r.PodID, r.Name) }},
		{Name: "zone", Key: func(r *cloud.Cluster) store.Key { return store.K(r.ZoneID) }},
	},
})

// Hosts keeps cloud.Host rows.
var Hosts = store.Define(store.Def[cloud.Host]{
	Name:    "host",
	ID:      func(r *cloud.Host) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.Host]{
		{Name: "name", Key: func(r *cloud.Host) store.Key { return store.K(r.Name) }},
		{Name: "cluster", Key: func(r *cloud.Host) store.Key {
			if r.ClusterID.IsZero() {
				return nil
			}
			return store.K(r.ClusterID)
		}},
		{Name: "zone", Key: func(r *cloud.Host) store.Key {
			if r.ZoneID.IsZero() {
				return nil
			}
			return store.K(r.ZoneID)
		}},
		{Name: "number", Unique: true, Key: func(r *cloud.Host) store.Key { return store.K(r.Number) }},
		{Name: "state", Key: func(r *cloud.Host) store.Key { return store.K(r.ResourceState) }},
		{Name: "key", Unique: true, Key: func(r *cloud.Host) store.Key {
			if len(r.KeyHash) == 0 {
				return nil
			}
			return store.K(r.KeyHash)
		}},
	},
})

// HostCapacities keeps cloud.HostCapacity rows.
var HostCapacities = store.Define(store.Def[cloud.HostCapacity]{
	Name: "host_capacity",
	ID:   func(r *cloud.HostCapacity) cloud.ID { return r.ID },
})

// HostUsages keeps cloud.HostUsage rows.
var HostUsages = store.Define(store.Def[cloud.HostUsage]{
	Name: "host_usage",
	ID:   func(r *cloud.HostUsage) cloud.ID { return r.ID },
})

// JoinTokens keeps cloud.JoinToken rows.
var JoinTokens = store.Define(store.Def[cloud.JoinToken]{
	Name: "join_token",
	ID:   func(r *cloud.JoinToken) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.JoinToken]{
		{Name: "created", Key: func(r *cloud.JoinToken) store.Key { return store.K(r.Created) }},
	},
})

// StoragePools keeps cloud.StoragePool rows.
var StoragePools = store.Define(store.Def[cloud.StoragePool]{
	Name:    "storage_pool",
	ID:      func(r *cloud.StoragePool) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.StoragePool]{
		{Name: "zone", Key: func(r *cloud.StoragePool) store.Key { return store.K(r.ZoneID) }},
		{Name: "cluster", Key: func(r *cloud.StoragePool) store.Key {
			if r.ClusterID.IsZero() {
				return nil
			}
			return store.K(r.ClusterID)
		}},
		{Name: "host", Key: func(r *cloud.StoragePool) store.Key {
			if r.HostID.IsZero() {
				return nil
			}
			return store.K(r.HostID)
		}},
		{Name: "name", Key: func(r *cloud.StoragePool) store.Key { return store.K(r.ZoneID, r.Name) }},
	},
})

// ImageStores keeps cloud.ImageStore rows.
var ImageStores = store.Define(store.Def[cloud.ImageStore]{
	Name:    "image_store",
	ID:      func(r *cloud.ImageStore) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.ImageStore]{
		{Name: "zone", Key: func(r *cloud.ImageStore) store.Key { return store.K(r.ZoneID) }},
		{Name: "name", Key: func(r *cloud.ImageStore) store.Key { return store.K(r.Name) }},
	},
})

// OSCategories keeps cloud.OSCategory rows.
var OSCategories = store.Define(store.Def[cloud.OSCategory]{
	Name: "os_category",
	ID:   func(r *cloud.OSCategory) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.OSCategory]{
		{Name: "name", Unique: true, Key: func(r *cloud.OSCategory) store.Key { return store.K(r.Name) }},
	},
})

// OSTypes keeps cloud.OSType rows.
var OSTypes = store.Define(store.Def[cloud.OSType]{
	Name: "os_type",
	ID:   func(r *cloud.OSType) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.OSType]{
		{Name: "category", Key: func(r *cloud.OSType) store.Key { return store.K(r.CategoryID, r.Description) }},
		{Name: "description", Key: func(r *cloud.OSType) store.Key { return store.K(r.Description) }},
	},
})
