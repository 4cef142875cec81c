package simtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// fleetSize is how many agents TestFleet runs; WISP_FLEET asks for another number.
func fleetSize(t *testing.T) int {
	s := os.Getenv("WISP_FLEET")
	if s == "" {
		return 60
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("WISP_FLEET: %v", err)
	}
	return n
}

// TestFleet lets many agents join at once, kills the coordinator, and waits for all to be back; it prints what that
// costs the coordinator. No host may be called lost for it.
func TestFleet(t *testing.T) {
	n := fleetSize(t)
	w := NewProcesses(t, 1)
	s := w.NewSite(0, agenttest.Options{})
	token := w.Must("createHostJoinToken", "uses", strconv.Itoa(n)).Text("hostjointoken.token")
	idle := w.memory(0)
	began := time.Now()
	var starting sync.WaitGroup
	for i := range n {
		starting.Go(func() {
			h := agenttest.New(agenttest.Options{Name: fmt.Sprintf("f%d", i), Token: token, Facts: &hostspec.HostFacts{
				Hostname: fmt.Sprintf("f%d", i), UnderlayIp: fmt.Sprintf("198.18.%d.%d", i/250, i%250+1), Cpus: 8, CpuMhz: 2000, MemoryMib: 32 << 10,
			}})
			if err := h.Start(); err != nil {
				t.Error(err)
			}
			t.Cleanup(h.PowerOff)
		})
	}
	starting.Wait()
	up := func(state, what string) func() error {
		return func() error {
			o := w.Must("listHosts", "resourcestate", state, "state", "Up", "details", "min", "page", "1", "pagesize", "1")
			if got, _ := o["count"].(float64); int(got) != n {
				return fmt.Errorf("%d of %d hosts %s", int(got), n, what)
			}
			return nil
		}
	}
	w.Until("all hosts to join", 5*time.Minute, up("Pending", "have joined"))
	joined := time.Since(began)
	for i := range n {
		w.Must("addHost", "zoneid", s.Zone, "podid", s.Pod, "clusterid", s.Cluster, "hypervisor", "KVM", "url", fmt.Sprintf("f%d", i))
	}
	w.Until("all hosts to be adopted", time.Minute, up("Enabled", "are up"))
	memory := w.memory(0)
	cpu, since := w.cpu(0), time.Now()
	w.Until("some heartbeats", time.Minute, func() error {
		if d := time.Since(since); d < 10*time.Second {
			return fmt.Errorf("%v", d)
		}
		return nil
	})
	used, over := w.cpu(0)-cpu, time.Since(since)

	w.KillNode(0)
	w.StartNode(0)
	began = time.Now()
	w.Until("the coordinator is back", time.Minute, func() error { return w.ready(0) })
	w.Until("all hosts to link again", time.Minute, func() error {
		linked := 0
		for _, h := range w.Must("listHosts", "resourcestate", "Enabled", "state", "Up", "details", "min", "pagesize", "-1").List("host") {
			at, err := time.Parse("2006-01-02T15:04:05-0700", h.Text("lastpinged"))
			if err == nil && !at.Before(began.Truncate(time.Second)) {
				linked++
			}
		}
		if linked != n {
			return fmt.Errorf("%d of %d", linked, n)
		}
		return nil
	})
	back := time.Since(began)
	o := w.Must("listHosts", "state", "Alert", "details", "min")
	if len(o) != 0 {
		t.Errorf("hosts were called lost: %v", o)
	}
	t.Logf("fleet of %d: joined in %.1f s (%.0f/s), %.0f kB of coordinator memory each, %.0f us CPU a heartbeat, all back %.1f s after a kill",
		n, joined.Seconds(), float64(n)/joined.Seconds(), float64(memory-idle)/1024/float64(n),
		float64(used.Microseconds())/(float64(n)*over.Seconds()/8), back.Seconds())
}

// memory is what a coordinator process has resident, in bytes.
func (w *World) memory(i int) int64 {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.nodes[i].pid))
	if err != nil {
		w.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// cpu is the processor time a coordinator process has used (proc(5), fields 14 and 15, in hundredths of a second).
func (w *World) cpu(i int) time.Duration {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.nodes[i].pid))
	if err != nil {
		w.t.Fatal(err)
	}
	rest := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	user, err1 := strconv.ParseInt(rest[11], 10, 64)
	system, err2 := strconv.ParseInt(rest[12], 10, 64)
	if err1 != nil || err2 != nil {
		w.t.Fatalf("read %q", b)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
