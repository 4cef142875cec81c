package simtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// rounds is how many times TestKilledAnywhere kills; WISP_ROUNDS asks for another number.
func rounds(t *testing.T) int {
	s := os.Getenv("WISP_ROUNDS")
	if s == "" {
		return 6
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("WISP_ROUNDS: %v", err)
	}
	return n
}

// TestKilledAnywhere kills the coordinator at random moments of deployments and removals. After each restart every job
// that was acknowledged ends, and when all VMs are removed nothing of them is left: no domain, volume, address or count.
func TestKilledAnywhere(t *testing.T) {
	w := NewProcesses(t, 1)
	s := w.NewSite(2, agenttest.Options{Heartbeat: 500 * time.Millisecond, Latency: agenttest.Latency{
		Start: 40 * time.Millisecond, Stop: 40 * time.Millisecond, Volume: 20 * time.Millisecond, Network: 20 * time.Millisecond,
	}})
	s.Ready()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds(t) {
		var jobs []string
		for i := range 4 {
			if _, job, err := s.Deploy(fmt.Sprintf("r%dvm%d", round, i)); err == nil {
				jobs = append(jobs, job)
			}
		}
		s.killAfter(time.Duration(rnd.IntN(400)) * time.Millisecond)
		for _, job := range jobs {
			if _, err := w.Job(job, 60*time.Second); err != nil {
				t.Errorf("round %d: a deployment that was acknowledged: %v", round, err)
			}
		}
		s.checkOnce(t, len(jobs))
		removals := s.removeAll()
		s.killAfter(time.Duration(rnd.IntN(400)) * time.Millisecond)
		for _, job := range removals {
			if _, err := w.Job(job, 60*time.Second); err != nil {
				t.Errorf("round %d: a removal that was acknowledged: %v", round, err)
			}
		}
		for _, job := range s.removeAll() { // those that were not acknowledged
			if _, err := w.Job(job, 60*time.Second); err != nil {
				t.Errorf("round %d: removal: %v", round, err)
			}
		}
		s.checkNothing(t, round)
	}
}

// killAfter kills the coordinator after a while and starts it again.
func (s *Site) killAfter(d time.Duration) {
	s.w.t.Helper()
	<-time.After(d)
	s.w.KillNode(0)
	s.w.StartNode(0)
	s.w.Until("the coordinator is back", 60*time.Second, func() error { return s.w.ready(0) })
}

// removeAll begins the removal of every VM.
func (s *Site) removeAll() (jobs []string) {
	s.w.t.Helper()
	for _, vm := range s.w.Must("listVirtualMachines", "listall", "true").List("virtualmachine") {
		if o, err := s.w.Call("destroyVirtualMachine", "id", vm.Text("id"), "expunge", "true"); err == nil {
			jobs = append(jobs, o.Text("jobid"))
		}
	}
	return jobs
}

// checkNothing waits until nothing of any VM is left.
func (s *Site) checkNothing(t *testing.T, round int) {
	t.Helper()
	s.w.Until(fmt.Sprintf("nothing left in round %d", round), 60*time.Second, func() error {
		for i, h := range s.Hosts {
			if got := h.Defined(); len(got) != 0 {
				return fmt.Errorf("host %d has domains %v", i, got)
			}
		}
		for _, l := range []struct{ command, object string }{{"listVirtualMachines", "virtualmachine"}, {"listVolumes", "volume"}} {
			if got := s.w.Must(l.command, "listall", "true").List(l.object); len(got) != 0 {
				return fmt.Errorf("%s: %v", l.command, got)
			}
		}
		for _, c := range s.w.Must("listCapacity", "zoneid", s.Zone).List("capacity") {
			used, _ := c["capacityused"].(float64)
			if kind := c["name"]; used != 0 && (kind == "MEMORY" || kind == "CPU" || kind == "LOCAL_STORAGE") {
				return fmt.Errorf("%v of %v is counted as used", used, kind)
			}
		}
		for _, l := range s.w.Must("listAccounts", "name", "admin", "listall", "true").List("account") {
			for _, count := range []string{"vmtotal", "volumetotal", "cputotal", "memorytotal", "primarystoragetotal"} {
				if n, _ := l[count].(float64); n != 0 {
					return fmt.Errorf("%s of account %s is %v", count, l.Text("name"), n)
				}
			}
		}
		return nil
	})
}
