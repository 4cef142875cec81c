package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Dedications keeps cloud.Dedication rows. A place is dedicated once.
var Dedications = store.Define(store.Def[cloud.Dedication]{
	Name: "dedication",
	ID:   func(r *cloud.Dedication) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Dedication]{
		{Name: "place", Unique: true, Key: func(r *cloud.Dedication) store.Key { return store.K(r.PlaceID) }},
		{Name: "zone", Key: func(r *cloud.Dedication) store.Key { return store.K(r.ZoneID) }},
		{Name: "group", Key: func(r *cloud.Dedication) store.Key { return store.K(r.GroupID) }},
	},
})
