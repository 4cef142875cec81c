package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// ServiceOfferings keeps cloud.ServiceOffering rows.
var ServiceOfferings = store.Define(store.Def[cloud.ServiceOffering]{
	Name:    "service_offering",
	Deleted: DropAttached,
	ID:      func(r *cloud.ServiceOffering) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ServiceOffering]{
		{Name: "name", Key: func(r *cloud.ServiceOffering) store.Key {
			if !r.Removed.IsZero() {
				return nil
			}
			return store.K(r.Name)
		}},
	},
})

// DiskOfferings keeps cloud.DiskOffering rows.
var DiskOfferings = store.Define(store.Def[cloud.DiskOffering]{
	Name:    "disk_offering",
	Deleted: DropAttached,
	ID:      func(r *cloud.DiskOffering) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.DiskOffering]{
		{Name: "name", Key: func(r *cloud.DiskOffering) store.Key {
			if !r.Removed.IsZero() {
				return nil
			}
			return store.K(r.Name)
		}},
	},
})

// NetworkOfferings keeps cloud.NetworkOffering rows.
var NetworkOfferings = store.Define(store.Def[cloud.NetworkOffering]{
	Name:    "network_offering",
	Deleted: DropAttached,
	ID:      func(r *cloud.NetworkOffering) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.NetworkOffering]{
		{Name: "name", Unique: true, Key: func(r *cloud.NetworkOffering) store.Key {
			if !r.Removed.IsZero() {
				return nil
			}
			return store.K(r.Name)
		}},
	},
})

// Templates keeps cloud.Template rows.
var Templates = store.Define(store.Def[cloud.Template]{
	Name:    "template",
	Deleted: DropAttached,
	ID:      func(r *cloud.Template) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Template]{
		{Name: "account", Key: func(r *cloud.Template) store.Key { return store.K(r.AccountID, r.Name) }},
		{Name: "zone", Key: func(r *cloud.Template) store.Key { return store.K(r.ZoneID) }},
		{Name: "sha256", Key: func(r *cloud.Template) store.Key {
			if r.SHA256 == "" {
				return nil
			}
			return store.K(r.SHA256)
		}},
		{Name: "state", Key: func(r *cloud.Template) store.Key { return store.K(r.State) }},
		{Name: "userdata", Key: func(r *cloud.Template) store.Key {
			if r.UserDataID.IsZero() || r.State == cloud.TemplateRemoved {
				return nil
			}
			return store.K(r.UserDataID)
		}},
		{Name: "system", Key: func(r *cloud.Template) store.Key {
			if r.Format != cloud.FormatSystemVM || r.State != cloud.TemplateReady {
				return nil
			}
			return store.K(r.Name, r.Created)
		}},
	},
})
