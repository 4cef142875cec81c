package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// health is what is told of a network's router: each check, whether it is sick, and the alerts about routers.
func (w *world) health(n cloud.ID) string {
	w.t.Helper()
	rt := w.router(n)
	var all []string
	for _, c := range network.Checks(w.read(), rt) {
		text := c.Name + " " + c.Status.String()
		if c.Details != "" {
			text += " (" + c.Details + ")"
		}
		all = append(all, text)
	}
	text := strings.Join(all, ", ")
	if network.Sick(w.read(), rt) {
		text += "; sick"
	}
	open, over := 0, 0
	for a := range tables.Alerts.All(w.read()) {
		if a.Type != uint8(alert.Router) {
			continue
		}
		if over++; a.Resolved.IsZero() {
			open, over = open+1, over-1
			text += "; alert: " + a.Description
		}
	}
	return text + fmt.Sprintf("; %d open, %d over", open, over)
}

// services as a host reports them: each name, with "!text" where it does not work and "?" where it has not been tried.
func reported(names ...string) (list []*netspec.ServiceStatus) {
	for _, name := range names {
		name, text, broken := strings.Cut(name, "!")
		name, untried := strings.CutSuffix(name, "?")
		list = append(list, &netspec.ServiceStatus{Name: name, Ready: !broken && !untried, Error: text})
	}
	return list
}

// A router that runs and does not work is told by listRouters at once, and by one alert when agents did not mend it; when
// it works again the alert is over.
func TestHealthOfANamespace(t *testing.T) {
	w := newWorld(t, 2)
	n := w.guest("net")
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	say := func(hostError string, names ...string) {
		t.Helper()
		o := w.observation(w.hosts[0])
		o.Networks[0].Error, o.Networks[0].Services.Services = hostError, reported(names...)
		if names == nil {
			o.Networks[0].Services = nil
		}
		w.fold(w.hosts[0], o)
	}
	passed := func(d time.Duration) {
		w.clock.advance(d)
		w.tend()
	}
	host := func(s cloud.HostStatus) {
		w.do(func(tx *store.Tx) error {
			h, _ := tables.Hosts.Get(tx, w.hosts[0])
			h.Status = s
			return tables.Hosts.Put(tx, h)
		})
		w.tend()
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"its namespace is made", func() { say("") }, "host SUCCESS, services UNKNOWN (the network services are being started); 0 open, 0 over"},
		{"nothing was tried", func() { say("", "link?", "firewall?") }, "host SUCCESS, services SUCCESS, link UNKNOWN, firewall UNKNOWN; 0 open, 0 over"},
		{"it works", func() { say("", "link", "firewall") }, "host SUCCESS, services SUCCESS, link SUCCESS, firewall SUCCESS; 0 open, 0 over"},
		{
			"a service fails", func() { say("services: firewall: no table", "link", "firewall!no table"); passed(29 * time.Second) },
			"host SUCCESS, services SUCCESS, link SUCCESS, firewall FAILED (no table); sick; 0 open, 0 over",
		},
		{
			"with another text", func() { say("services: firewall: no xt_x", "link", "firewall!no xt_x"); passed(time.Second) },
			"host SUCCESS, services SUCCESS, link SUCCESS, firewall FAILED (no xt_x); sick; alert: firewall: no xt_x; 1 open, 0 over",
		},
		{
			"its host is silent", func() { host(cloud.HostAlert); passed(time.Hour) },
			"host UNKNOWN (host h1 is Alert), services UNKNOWN (host h1 is Alert), link UNKNOWN (host h1 is Alert), firewall UNKNOWN (host h1 is Alert); " +
				"alert: firewall: no xt_x; 1 open, 0 over",
		},
		{
			"it works again", func() { host(cloud.HostUp); say("", "link", "firewall"); passed(0) },
			"host SUCCESS, services SUCCESS, link SUCCESS, firewall SUCCESS; 0 open, 1 over",
		},
		{
			"its process does not start", func() { say("services: process ended at once"); passed(time.Minute) },
			"host FAILED (services: process ended at once), services FAILED (the network services do not answer), link UNKNOWN, firewall UNKNOWN; sick; " +
				"alert: host: services: process ended at once; 1 open, 1 over",
		},
		{"it is stopped", func() {
			w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), false) })
			w.observe(w.hosts[0])
			w.tend()
		}, "; 0 open, 2 over"},
	} {
		step.do()
		if diff := cmp.Diff(step.want, w.health(n.ID)); diff != "" {
			t.Fatalf("%s (-want +got)\n%s", step.name, diff)
		}
	}
	before := w.read().Index()
	w.tend()
	if w.read().Index() != before {
		t.Error("Tend writes though nothing has changed")
	}
}

// A system VM that boots is no failure until it takes too long; one whose services fell silent is.
func TestHealthOfASystemVM(t *testing.T) {
	s := newSite(t, "vm", 1)
	say := func(change func(o *hostspec.SystemVMObservation)) {
		o := s.observation(s.hosts[0])
		o.SystemVms[0].Services.Services = reported("link", "firewall")
		change(o.SystemVms[0])
		s.fold(s.hosts[0], o)
	}
	passed := func(d time.Duration) {
		s.clock.advance(d)
		s.tend()
	}
	silent := func(o *hostspec.SystemVMObservation) { o.Services = nil }
	well := "host SUCCESS, services SUCCESS, link SUCCESS, firewall SUCCESS"
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"it works", func() { say(func(*hostspec.SystemVMObservation) {}) }, well + "; 0 open, 0 over"},
		{
			"its channel is cut", func() { say(silent); passed(30 * time.Second) },
			"host SUCCESS, services FAILED (the network services do not answer), link UNKNOWN, firewall UNKNOWN; sick; " +
				"alert: services: the network services do not answer; 1 open, 0 over",
		},
		{"it died", func() {
			say(func(o *hostspec.SystemVMObservation) { o.Vm.State = hostspec.VmState_VM_STATE_STOPPED })
			say(func(o *hostspec.SystemVMObservation) { o.Vm.State, o.Services = hostspec.VmState_VM_STATE_PENDING, nil })
			s.tend()
		}, "host UNKNOWN (the machine does not run yet), services UNKNOWN (the network services are being started), link UNKNOWN, firewall UNKNOWN; " +
			"0 open, 1 over"},
		{
			"it boots", func() { say(silent); passed(4 * time.Minute) },
			"host SUCCESS, services UNKNOWN (the network services are being started), link UNKNOWN, firewall UNKNOWN; 0 open, 1 over",
		},
		{
			"for too long", func() { passed(2 * time.Minute) },
			"host SUCCESS, services UNKNOWN (the network services are being started), link UNKNOWN, firewall UNKNOWN; " +
				"alert: services: the network services are being started; 1 open, 1 over",
		},
		{"it works again", func() { say(func(*hostspec.SystemVMObservation) {}); s.tend() }, well + "; 0 open, 2 over"},
	} {
		step.do()
		if diff := cmp.Diff(step.want, s.health(s.n)); diff != "" {
			t.Fatalf("%s (-want +got)\n%s", step.name, diff)
		}
	}
}
