package cluster

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// MetricsAnswer is a cluster with what its hosts have and use together.
type MetricsAnswer struct {
	Answer
	State string `json:"state" doc:"the allocation state, or Unmanaged"`
	Hosts string `json:"hosts" doc:"how many hosts are up, out of all"`
	capacity.Metrics
}

func metricsOf(c *api.Call, k *cloud.Cluster, a Answer) MetricsAnswer {
	s := capacity.Within(c, "cluster", k.ID)
	m := MetricsAnswer{Answer: a, State: a.AllocationState, Hosts: capacity.OutOf(s.Up, s.Hosts), Metrics: s.Metrics(c, k.ID)}
	if !k.Managed {
		m.State = a.ManagedState
	}
	return m
}
