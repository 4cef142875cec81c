package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler serves /metrics and /healthz.
func (p *Program) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{p},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
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

var (
	eventsDesc = prometheus.NewDesc("wisp_netsvc_events_total",
		"What guests asked and how they were answered, since the process started.", []string{"service", "event"}, nil)
	readyDesc = prometheus.NewDesc("wisp_netsvc_service_ready",
		"1 when the service is as the spec wants it.", []string{"service"}, nil)
	repairsDesc = prometheus.NewDesc("wisp_netsvc_repairs_total",
		"Drift repaired since the process started.", []string{"service"}, nil)
	generationDesc = prometheus.NewDesc("wisp_netsvc_applied_generation",
		"Last generation of the spec that was applied whole.", []string{"network"}, nil)
	leasesDesc = prometheus.NewDesc("wisp_netsvc_leases",
		"Guests that hold a DHCP lease.", nil, nil)
)

// collector reads the services' own counters when asked: they are kept by the services, not twice.
type collector struct{ p *Program }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{eventsDesc, readyDesc, repairsDesc, generationDesc, leasesDesc} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.p.services {
		if s.Counts == nil {
			continue
		}
		for event, n := range s.Counts() {
			ch <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(n), s.Name, event)
		}
	}
	o := c.p.namespace.Observation()
	for _, s := range o.GetServices() {
		ready := 0.0
		if s.GetReady() {
			ready = 1
		}
		ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, ready, s.GetName())
		ch <- prometheus.MustNewConstMetric(repairsDesc, prometheus.CounterValue, float64(s.GetRepairs()), s.GetName())
	}
	ch <- prometheus.MustNewConstMetric(generationDesc, prometheus.GaugeValue, float64(o.GetAppliedGeneration()), o.GetNetworkId())
	ch <- prometheus.MustNewConstMetric(leasesDesc, prometheus.GaugeValue, float64(len(o.GetLeases())))
}
