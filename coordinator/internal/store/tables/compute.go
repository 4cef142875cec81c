package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// VMs keeps cloud.VM rows.
var VMs = store.Define(store.Def[cloud.VM]{
	Name:    "vm",
	Deleted: DropAttached,
	ID:      func(r *cloud.VM) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.VM]{
		{Name: "account", Key: func(r *cloud.VM) store.Key { return store.K(r.AccountID, r.Name) }},
		{Name: "account-state", Key: func(r *cloud.VM) store.Key { return store.K(r.AccountID, r.State, r.Name) }},
		{Name: "owner", Key: func(r *cloud.VM) store.Key { return store.K(r.AccountID) }},
		{Name: "domain", Key: func(r *cloud.VM) store.Key { return store.K(r.DomainID) }},
		{Name: "zone", Key: func(r *cloud.VM) store.Key { return store.K(r.ZoneID) }},
		{Name: "host", Key: func(r *cloud.VM) store.Key {
			if r.HostID.IsZero() {
				return nil
			}
			return store.K(r.HostID)
		}},
		{Name: "state", Key: func(r *cloud.VM) store.Key { return store.K(r.State) }},
		// It is part of the instance name, which is unique thereby.
		{Name: "number", Unique: true, Key: func(r *cloud.VM) store.Key {
			if r.Number == 0 {
				return nil
			}
			return store.K(r.Number)
		}},
		{Name: "offering", Key: func(r *cloud.VM) store.Key { return store.K(r.OfferingID) }},
		{Name: "template", Key: func(r *cloud.VM) store.Key { return store.K(r.TemplateID) }},
		{Name: "group", Key: func(r *cloud.VM) store.Key {
			if r.GroupID.IsZero() {
				return nil
			}
			return store.K(r.GroupID)
		}},
		{Name: "userdata", Key: func(r *cloud.VM) store.Key {
			if r.UserDataID.IsZero() {
				return nil
			}
			return store.K(r.UserDataID)
		}},
	},
})

// Volumes keeps cloud.Volume rows.
var Volumes = store.Define(store.Def[cloud.Volume]{
	Name:    "volume",
	Deleted: DropAttached,
	ID:      func(r *cloud.Volume) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Volume]{
		{Name: "account", Key: func(r *cloud.Volume) store.Key { return store.K(r.AccountID, r.Name) }},
		{Name: "vm", Key: func(r *cloud.Volume) store.Key {
			if r.VMID.IsZero() {
				return nil
			}
			return store.K(r.VMID, r.DeviceID)
		}},
		{Name: "pool", Key: func(r *cloud.Volume) store.Key {
			if r.PoolID.IsZero() {
				return nil
			}
			return store.K(r.PoolID)
		}},
		{Name: "owner", Key: func(r *cloud.Volume) store.Key { return store.K(r.AccountID) }},
		{Name: "domain", Key: func(r *cloud.Volume) store.Key { return store.K(r.DomainID) }},
		{Name: "zone", Key: func(r *cloud.Volume) store.Key { return store.K(r.ZoneID) }},
		{Name: "state", Key: func(r *cloud.Volume) store.Key { return store.K(r.State) }},
		{Name: "sha256", Key: func(r *cloud.Volume) store.Key {
			if r.SHA256 == "" {
				return nil
			}
			return store.K(r.SHA256)
		}},
	},
})
