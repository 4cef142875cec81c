package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Authorities keeps cloud.Authority rows.
var Authorities = store.Define(store.Def[cloud.Authority]{
	Name: "authority",
	ID:   func(r *cloud.Authority) cloud.ID { return r.ID },
})

// RevokedCertificates keeps cloud.RevokedCertificate rows.
var RevokedCertificates = store.Define(store.Def[cloud.RevokedCertificate]{
	Name: "revoked_certificate",
	ID:   func(r *cloud.RevokedCertificate) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.RevokedCertificate]{
		{Name: "host", Key: func(r *cloud.RevokedCertificate) store.Key { return store.K(r.HostID) }},
		{Name: "expires", Key: func(r *cloud.RevokedCertificate) store.Key { return store.K(r.Expires) }},
	},
})

// Coordinators keeps cloud.Coordinator rows.
var Coordinators = store.Define(store.Def[cloud.Coordinator]{
	Name: "coordinator",
	ID:   func(r *cloud.Coordinator) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Coordinator]{
		{Name: "node", Unique: true, Key: func(r *cloud.Coordinator) store.Key { return store.K(r.NodeID) }},
	},
})
