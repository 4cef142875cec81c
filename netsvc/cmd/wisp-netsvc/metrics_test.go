package main

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/wispcloud/wisp/netsvc/namespace"
	"github.com/wispcloud/wisp/proto/netspec"
)

// TestMetrics has Prometheus' own parser read what is served.
func TestMetrics(t *testing.T) {
	odd := "a\"b\\c\nd"
	services := []namespace.Service{
		{Name: "dhcp4", Counts: func() map[string]uint64 { return map[string]uint64{"ack": 3, odd: 1e15} }},
		{Name: "link", Repairs: func() uint64 { return 2 }},
	}
	p := &Program{services: services, namespace: namespace.New(namespace.Options{
		Services: services, Now: time.Now, Observe: func(*netspec.Observation) {},
	})}
	w := httptest.NewRecorder()
	p.metricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatalf("%v:\n%s", err, w.Body)
	}
	got := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for _, name := range []string{
		"process_start_time_seconds", "process_open_fds", "process_resident_memory_bytes", "go_goroutines", "process_cpu_seconds_total",
	} {
		if v, ok := got[name]; !ok || v < 0 {
			t.Errorf("%s is %v", name, v)
		}
		delete(got, name)
	}
	want := map[string]float64{
		"wisp_netsvc_events_total event=ack service=dhcp4":         3,
		"wisp_netsvc_events_total event=" + odd + " service=dhcp4": 1e15,
		"wisp_netsvc_service_ready service=dhcp4":                  0,
		"wisp_netsvc_service_ready service=link":                   0,
		"wisp_netsvc_repairs_total service=dhcp4":                  0,
		"wisp_netsvc_repairs_total service=link":                   2,
		"wisp_netsvc_applied_generation network=":                  0,
		"wisp_netsvc_leases":                                       0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", kind)
	}
}
