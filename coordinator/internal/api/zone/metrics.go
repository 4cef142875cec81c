package zone

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// MetricsAnswer is a zone with what its hosts have and use together.
type MetricsAnswer struct {
	Answer
	State    string `json:"state" doc:"the allocation state"`
	Clusters string `json:"clusters" doc:"how many clusters take VMs, out of all"`
	capacity.Metrics
}

func metricsOf(c *api.Call, z *cloud.Zone, a Answer) MetricsAnswer {
	s := capacity.Within(c, "zone", z.ID)
	enabled, all := 0, 0
	for k := range tables.Clusters.By(c.Read, "zone", store.K(z.ID)) {
		all++
		if k.Managed && k.AllocationState == cloud.AllocationEnabled {
			enabled++
		}
	}
	return MetricsAnswer{Answer: a, State: a.AllocationState, Clusters: capacity.OutOf(enabled, all), Metrics: s.Metrics(c, cloud.ID{})}
}
