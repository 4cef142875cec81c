package host

import (
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Tag is a tag of a host as clients see it.
type Tag struct {
	ID     cloud.ID `json:"id" doc:"names this tag of this host"`
	HostID uint64   `json:"hostid" doc:"number of the host"`
	Name   string   `json:"name" doc:"the tag"`
}

func listTags() api.Command {
	return api.Command{
		Name: "listHostTags", Doc: "Lists the tags that hosts have.", Since: "4.9", Roles: api.AdminOnly, Object: "hosttag",
		Run: api.List(api.Lister[api.ListParams, Tag, Tag]{
			Rows: func(c *api.Call, _ *api.ListParams) (iter.Seq[*Tag], error) {
				var tags []*Tag
				for h := range tables.Hosts.By(c.Read, "number", nil) {
					for _, t := range h.Tags {
						tags = append(tags, &Tag{cloud.NameID("host_tag", h.ID.String()+"/"+t), h.Number, t})
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
