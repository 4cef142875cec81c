package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/proto/netspec"
)

// metricsHandler serves /metrics and /healthz.
//
// The dozen metrics are written here in Prometheus' text format rather than by its client library. That library more than
// doubles what the start of this process costs beyond the runtime's, and there is one process per network, each of them on
// the way of a router that is started.
func (p *Program) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var e exposition
		p.writeMetrics(&e)
		writeProcess(&e)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(e.Bytes())
	})
	mux.HandleFunc("GET /healthz", p.healthz)
	return mux
}

// healthz is well when every service of the last spec is.
func (p *Program) healthz(w http.ResponseWriter, _ *http.Request) {
	var ill []string
	for _, s := range p.namespace.Observation().GetServices() {
		if !s.GetReady() {
			ill = append(ill, fmt.Sprintf("%s: %s", s.GetName(), s.GetError()))
		}
	}
	if len(ill) > 0 {
		http.Error(w, strings.Join(ill, "\n"), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// writeMetrics reads the services' own counters: they are kept by the services, not twice.
func (p *Program) writeMetrics(e *exposition) {
	e.family("wisp_netsvc_events_total", "counter", "What guests asked and how they were answered, since the process started.")
	for _, s := range p.services {
		if s.Counts == nil {
			continue
		}
		counts := s.Counts()
		for _, event := range slices.Sorted(maps.Keys(counts)) {
			e.value(float64(counts[event]), "event", event, "service", s.Name)
		}
	}
	o := p.namespace.Observation()
	perService := func(name, kind, help string, value func(*netspec.ServiceStatus) float64) {
		e.family(name, kind, help)
		for _, s := range o.GetServices() {
			e.value(value(s), "service", s.GetName())
		}
	}
	perService("wisp_netsvc_service_ready", "gauge", "1 when the service is as the spec wants it.",
		func(s *netspec.ServiceStatus) float64 {
			if s.GetReady() {
				return 1
			}
			return 0
		})
	perService("wisp_netsvc_repairs_total", "counter", "Drift repaired since the process started.",
		func(s *netspec.ServiceStatus) float64 { return float64(s.GetRepairs()) })
	e.family("wisp_netsvc_applied_generation", "gauge", "Last generation of the spec that was applied whole.")
	e.value(float64(o.GetAppliedGeneration()), "network", o.GetNetworkId())
	e.family("wisp_netsvc_leases", "gauge", "Guests that hold a DHCP lease.")
	e.value(float64(len(o.GetLeases())))
	e.family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
	e.value(float64(o.GetStartedUnixMs()) / 1000)
}

// writeProcess tells of the process what Prometheus' libraries tell, under the same names.
func writeProcess(e *exposition) {
	e.family("go_goroutines", "gauge", "Number of goroutines that currently exist.")
	e.value(float64(runtime.NumGoroutine()))
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		e.family("process_open_fds", "gauge", "Number of open file descriptors.")
		e.value(float64(len(fds)))
	}
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return
	}
	// The second field is the program's name in parentheses; utime, stime and rss are the 14th, 15th and 24th (proc(5)).
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(f[i], 64)
		return n
	}
	const tick = 10 * time.Millisecond // USER_HZ
	e.family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
	e.value((number(11) + number(12)) * tick.Seconds())
	e.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
	e.value(number(21) * float64(os.Getpagesize()))
}

// exposition is a text in Prometheus' format.
type exposition struct {
	bytes.Buffer
	name string
}

// family begins a metric.
func (e *exposition) family(name, kind, help string) {
	e.name = name
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// value adds one of the metric's values; labels are names and values in turn.
func (e *exposition) value(v float64, labels ...string) {
	e.WriteString(e.name)
	for i := 0; i+1 < len(labels); i += 2 {
		fmt.Fprintf(e, `%c%s="%s"`, "{,"[min(i, 1)], labels[i], labelEscape.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		e.WriteByte('}')
	}
	fmt.Fprintf(e, " %s\n", strconv.FormatFloat(v, 'g', -1, 64))
}

var labelEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
