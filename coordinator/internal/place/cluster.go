package place

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Cluster is what the hosts of a cluster have together, those that take no VMs included: what runs there counts too.
type Cluster struct {
	CPU    Share // MHz
	Memory Share // MiB
}

// Share is one resource of a cluster. VMs may be chosen a host there until Limit of Total is used: the rest is for VMs
// that come back to their host, and for those that lost theirs.
type Share struct {
	Total, Used uint64 // over-commitment included in Total
	Limit       float64
	Setting     string // the name of the limit, for who is refused
}

// Fleet is the hosts to choose from. A host whose cluster is not among the clusters has no limit but its own.
type Fleet struct {
	Hosts    []Host
	Clusters map[cloud.ID]*Cluster
}

// exempt tells whether a request may have what the thresholds of a cluster leave free: on the host that an administrator
// named and on the one where the VM was, so that what was stopped can start again; anywhere after a host was lost.
func (q *Request) exempt(host cloud.ID) bool {
	return q.Emergency || host == q.Host || host == q.Prefer
}

// full says which threshold of the cluster a VM would cross, "" if none.
func (c *Cluster) full(req *Request) string {
	if why := c.CPU.full(uint64(req.CPUs)*uint64(req.CPUMHz), "MHz CPU"); why != "" {
		return why
	}
	return c.Memory.full(uint64(req.MemoryMiB), "MiB memory")
}

func (s *Share) full(want uint64, what string) string {
	if most := s.most(); s.Used+want > most {
		return fmt.Sprintf("%d %s are wanted and %d of the %d are free that may be allocated of its cluster's %d (setting %s)",
			want, what, sub(most, s.Used), most, s.Total, s.Setting)
	}
	return ""
}

// most is how much of it VMs may be given. What is added is the error of a product like 0.29 * 100.
func (s *Share) most() uint64 { return uint64(float64(s.Total)*s.Limit + 1e-6) }
