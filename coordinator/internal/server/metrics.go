package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// metrics are what /metrics tells.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(r *replica.Replica, version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wisp_api_calls_total", Help: "API calls by command and HTTP status.",
		}, []string{"command", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wisp_api_call_seconds", Help: "How long API calls took, by command.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}, []string{"command"}),
	}
	read := r.DB().Current
	m.registry.MustRegister(
		m.calls, m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "wisp_build_info", Help: "1, with the version of the program.", ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "wisp_raft_leader", Help: "1 where this coordinator leads."}, func() float64 {
			if _, _, leads := r.Leader(); leads {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "wisp_state_index", Help: "Commits that the state contains."},
			func() float64 { return float64(read().Index()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "wisp_jobs_pending", Help: "Asynchronous jobs that have not ended."},
			func() float64 { return float64(tables.Jobs.Count(read(), "pending", nil)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "wisp_vms", Help: "Virtual machines."},
			func() float64 { return float64(tables.VMs.Len(read())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "wisp_hosts_up", Help: "Hosts that are heard from."}, func() float64 {
			n := 0
			for h := range tables.Hosts.All(read()) {
				if h.Status == cloud.HostUp {
					n++
				}
			}
			return float64(n)
		}),
	)
	return m
}

// done counts one API call. Commands come from the registry, so there are not more labels than commands.
func (m *metrics) done(command string, code int, took time.Duration) {
	if command == "" {
		command = "unknown"
	}
	m.calls.WithLabelValues(command, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(command).Observe(took.Seconds())
}
