package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Jobs keeps cloud.Job rows.
var Jobs = store.Define(store.Def[cloud.Job]{
	Name: "job",
	ID:   func(r *cloud.Job) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Job]{
		{Name: "pending", Key: func(r *cloud.Job) store.Key {
			if r.Status != cloud.JobPending {
				return nil
			}
			return store.K(r.Created, r.ID)
		}},
		{Name: "instance", Key: func(r *cloud.Job) store.Key { return store.K(r.InstanceID, r.Created) }},
		{Name: "account", Key: func(r *cloud.Job) store.Key { return store.K(r.AccountID, r.Created) }},
		{Name: "owner", Key: func(r *cloud.Job) store.Key { return store.K(r.AccountID) }},
		{Name: "domain", Key: func(r *cloud.Job) store.Key { return store.K(r.DomainID) }},
		{Name: "completed", Key: func(r *cloud.Job) store.Key {
			if r.Completed.IsZero() {
				return nil
			}
			return store.K(r.Completed)
		}},
	},
})

// Events keeps cloud.Event rows.
var Events = store.Define(store.Def[cloud.Event]{
	Name: "event",
	ID:   func(r *cloud.Event) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Event]{
		{Name: "account", Key: func(r *cloud.Event) store.Key { return store.K(r.AccountID, r.Archived, r.Created) }},
		{Name: "domain", Key: func(r *cloud.Event) store.Key { return store.K(r.DomainID, r.Archived, r.Created) }},
		{Name: "created", Key: func(r *cloud.Event) store.Key { return store.K(r.Archived, r.Created) }},
		{Name: "resource", Key: func(r *cloud.Event) store.Key {
			if r.ResourceID.IsZero() {
				return nil
			}
			return store.K(r.ResourceID, r.Created)
		}},
	},
})

// Alerts keeps cloud.Alert rows.
var Alerts = store.Define(store.Def[cloud.Alert]{
	Name: "alert",
	ID:   func(r *cloud.Alert) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Alert]{
		{Name: "created", Key: func(r *cloud.Alert) store.Key { return store.K(r.Created) }},
		{Name: "condition", Unique: true, Key: func(r *cloud.Alert) store.Key {
			if r.Condition == "" || !r.Resolved.IsZero() {
				return nil
			}
			return store.K(r.Condition)
		}},
		{Name: "unmailed", Key: func(r *cloud.Alert) store.Key {
			if !r.Mailed.IsZero() {
				return nil
			}
			return store.K(r.Created)
		}},
	},
})
