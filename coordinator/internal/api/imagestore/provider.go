package imagestore

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// ProviderAnswer is something that drives storage.
type ProviderAnswer struct {
	Name string `json:"name" doc:"what provider= of the commands that add storage takes"`
	Type string `json:"type" doc:"kind of storage: primary or image"`
}

// providers are the values that storage pools and image stores answer as their provider.
var providers = []ProviderAnswer{{"DefaultPrimary", "primary"}, {"file", "image"}}

type providerParams struct {
	api.ListParams
	Type string `api:"type,required" doc:"kind of storage: primary or image"`
}

// listProviders answers under dataStoreProvider, as servers do and Ansible and user interfaces read; the Go SDK looks
// for storageprovider and sees an empty list with every server.
func listProviders() api.Command {
	return api.Command{
		Name: "listStorageProviders", Doc: "Lists what drives storage.", Since: "4.2", Roles: api.AdminOnly, Object: "dataStoreProvider",
		Run: api.List(api.Lister[providerParams, ProviderAnswer, ProviderAnswer]{
			Rows: func(_ *api.Call, p *providerParams) (iter.Seq[*ProviderAnswer], error) {
				if !strings.EqualFold(p.Type, "primary") && !strings.EqualFold(p.Type, "image") {
					return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q in parameter type; accepted are primary and image", p.Type)
				}
				return func(yield func(*ProviderAnswer) bool) {
					for i := range providers {
						if strings.EqualFold(p.Type, providers[i].Type) && !yield(&providers[i]) {
							return
						}
					}
				}, nil
			},
			Keyword: func(a *ProviderAnswer) string { return a.Name },
			View:    func(_ *api.Call, a *ProviderAnswer) ProviderAnswer { return *a },
		}),
	}
}
