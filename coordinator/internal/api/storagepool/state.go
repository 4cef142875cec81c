package storagepool

import (
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type updateParams struct {
	ID      cloud.ID          `api:"id,required" ref:"storagepool" doc:"the pool"`
	Name    string            `api:"name" since:"4.14" doc:"new name"`
	Tags    []string          `api:"tags" doc:"tags that offerings ask for, instead of those it has"`
	Details map[string]string `api:"details,map" since:"4.19" doc:"further details, instead of those it has"`
}

func update() api.Command {
	return api.Command{
		Name: "updateStoragePool", Doc: "Changes a primary storage pool.", Roles: api.AdminOnly, Event: "STORAGE.POOL.UPDATE", Entity: "StoragePool",
		Object: "storagepool",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *updateParams) (*cloud.StoragePool, error) {
			return storage.UpdatePool(tx, p.ID, storage.PoolValues{Name: p.Name, Tags: p.Tags, SetTags: p.Tags != nil, Details: p.Details})
		}),
	}
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"storagepool" doc:"the pool"`
}

// Tag is a tag of pools as clients see it.
type Tag struct {
	ID   cloud.ID `json:"id" doc:"names this tag of this pool"`
	Name string   `json:"name" doc:"the tag"`
}

func listTags() api.Command {
	return api.Command{
		Name: "listStorageTags", Doc: "Lists the tags that primary storage pools have.", Since: "4.9", Roles: api.AdminOnly, Object: "storagetag",
		Run: api.List(api.Lister[api.ListParams, Tag, Tag]{
			Rows: func(c *api.Call, _ *api.ListParams) (iter.Seq[*Tag], error) {
				var tags []*Tag
				for p := range tables.StoragePools.By(c.Read, "name", nil) {
					for _, t := range p.Tags {
						tags = append(tags, &Tag{cloud.NameID("storage_tag", p.ID.String()+"/"+t), t})
					}
				}
				return slices.Values(tags), nil
			},
			Keyword: func(t *Tag) string { return t.Name },
			Less:    func(a, b *Tag) int { return strings.Compare(a.Name, b.Name) },
			View:    func(_ *api.Call, t *Tag) Tag { return *t },
		}),
	}
}
