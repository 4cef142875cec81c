package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Regions keeps cloud.Region rows.
var Regions = store.Define(store.Def[cloud.Region]{
	Name: "region",
	ID:   func(r *cloud.Region) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Region]{
		{Name: "number", Unique: true, Key: func(r *cloud.Region) store.Key { return store.K(r.Number) }},
		{Name: "name", Unique: true, Key: func(r *cloud.Region) store.Key { return store.K(r.Name) }},
	},
})

// StorageRanges keeps cloud.StorageRange rows.
var StorageRanges = store.Define(store.Def[cloud.StorageRange]{
	Name: "storage_range",
	ID:   func(r *cloud.StorageRange) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.StorageRange]{
		{Name: "zone", Key: func(r *cloud.StorageRange) store.Key { return store.K(r.ZoneID, r.Start) }},
		{Name: "pod", Key: func(r *cloud.StorageRange) store.Key { return store.K(r.PodID) }},
	},
})

// GuestVLANRanges keeps cloud.GuestVLANRange rows.
var GuestVLANRanges = store.Define(store.Def[cloud.GuestVLANRange]{
	Name: "guest_vlan_range",
	ID:   func(r *cloud.GuestVLANRange) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.GuestVLANRange]{
		{Name: "physical_network", Key: func(r *cloud.GuestVLANRange) store.Key { return store.K(r.PhysicalNetworkID, r.Start) }},
	},
})

// HypervisorCapabilities keeps cloud.HypervisorCapability rows.
var HypervisorCapabilities = store.Define(store.Def[cloud.HypervisorCapability]{
	Name: "hypervisor_capability",
	ID:   func(r *cloud.HypervisorCapability) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.HypervisorCapability]{
		{Name: "hypervisor", Unique: true, Key: func(r *cloud.HypervisorCapability) store.Key { return store.K(r.Hypervisor, r.Version) }},
	},
})
