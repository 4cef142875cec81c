package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Annotations keeps cloud.Annotation rows.
var Annotations = store.Define(store.Def[cloud.Annotation]{
	Name: "annotation",
	ID:   func(r *cloud.Annotation) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Annotation]{
		{Name: "entity", Key: func(r *cloud.Annotation) store.Key { return store.K(r.EntityID, r.Created) }},
	},
})

// ResourceDetails keeps cloud.ResourceDetail rows.
var ResourceDetails = store.Define(store.Def[cloud.ResourceDetail]{
	Name: "resource_detail",
	ID:   func(r *cloud.ResourceDetail) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ResourceDetail]{
		{Name: "resource", Unique: true, Key: func(r *cloud.ResourceDetail) store.Key { return store.K(r.ResourceID, r.Key) }},
	},
})
