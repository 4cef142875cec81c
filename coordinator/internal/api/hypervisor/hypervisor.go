// Package hypervisor holds the commands of hypervisors and of what is expected of them.
package hypervisor

import (
	"iter"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Answer is a hypervisor as clients see it.
type Answer struct {
	Name string `json:"name" doc:"name of the hypervisor"`
}

type params struct {
	ZoneID cloud.ID `api:"zoneid" ref:"zone,use" doc:"hypervisors that this zone has a cluster of"`
}

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{listCapabilities(), updateCapability(), {
		Name: "listHypervisors", Doc: "Lists the hypervisors that VMs can run on.", Roles: api.Everyone, Object: "hypervisor",
		Run: api.List(api.Lister[params, Answer, Answer]{
			Rows: func(c *api.Call, p *params) (iter.Seq[*Answer], error) {
				if !p.ZoneID.IsZero() && tables.Clusters.Count(c.Read, "zone", store.K(p.ZoneID)) == 0 {
					return slices.Values([]*Answer(nil)), nil
				}
				return slices.Values([]*Answer{{Name: infra.Hypervisor}}), nil
			},
			View: func(_ *api.Call, a *Answer) Answer { return *a },
		}),
	}}
}
