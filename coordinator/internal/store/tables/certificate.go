package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// CustomCertificates keeps cloud.CustomCertificate rows.
var CustomCertificates = store.Define(store.Def[cloud.CustomCertificate]{
	Name: "custom_certificate",
	ID:   func(r *cloud.CustomCertificate) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.CustomCertificate]{
		{Name: "suffix", Unique: true, Key: func(r *cloud.CustomCertificate) store.Key { return store.K(r.Suffix, r.Name) }},
	},
})
