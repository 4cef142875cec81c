package simtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// checkOnce checks that every VM that the API calls running runs on exactly the host it names, and no other.
func (s *Site) checkOnce(t *testing.T, want int) {
	t.Helper()
	s.w.Until(fmt.Sprintf("%d VMs, each running once", want), 60*time.Second, func() error {
		vms := s.w.Must("listVirtualMachines", "listall", "true", "pagesize", "500", "page", "1").List("virtualmachine")
		on := s.Running()
		n := 0
		for _, vm := range vms {
			id, state := vm.Text("id"), vm.Text("state")
			if state != "Running" {
				return fmt.Errorf("VM %s is %s", vm.Text("name"), state)
			}
			n++
			if !slices.Equal(on[id], []string{vm.Text("hostname")}) {
				return fmt.Errorf("VM %s runs on %v, the API says %s", vm.Text("name"), on[id], vm.Text("hostname"))
			}
		}
		if n != want || len(on) != want {
			return fmt.Errorf("the API has %d VMs, the hosts %d", n, len(on))
		}
		return nil
	})
}

// TestLeaderKilled kills the leader of three coordinator processes while VMs are being deployed. Every deployment that
// was acknowledged ends with a running VM.
func TestLeaderKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three processes")
	}
	w := NewProcesses(t, 3)
	s := w.NewSite(3, agenttest.Options{Heartbeat: time.Second, Latency: agenttest.Latency{Start: 100 * time.Millisecond}})
	s.Ready()
	const vms = 24
	var mu sync.Mutex
	jobs := map[string]string{} // acknowledged: job -> VM
	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		for i, acknowledged := 0, 0; acknowledged < vms && time.Since(began) < 60*time.Second; i++ {
			// An unacknowledged call may or may not have been carried out: its name is not used again.
			vm, job, err := s.Deploy(fmt.Sprintf("vm%d", i))
			if err != nil {
				<-time.After(50 * time.Millisecond)
				continue
			}
			acknowledged++
			mu.Lock()
			jobs[job] = vm
			mu.Unlock()
		}
	}()
	w.Until("some deployments", 30*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(jobs) < vms/3 {
			return fmt.Errorf("%d jobs", len(jobs))
		}
		return nil
	})
	leader := w.Leader()
	if leader < 0 {
		t.Fatal("nobody says that it leads")
	}
	w.KillNode(leader)
	killed := time.Now()
	<-done
	acknowledged := time.Since(killed)
	if len(jobs) < vms {
		t.Errorf("only %d of %d deployments were acknowledged", len(jobs), vms)
	}
	for job, vm := range jobs {
		result, err := w.Job(job, 90*time.Second)
		if err != nil || result.Text("virtualmachine.id") != vm || result.Text("virtualmachine.state") != "Running" {
			t.Errorf("deployment of VM %s: %v %v", vm, result.Text("virtualmachine.state"), err)
		}
	}
	t.Logf("after the leader was killed: %.1f s until the rest of %d deployments was acknowledged, %.1f s until they ran",
		acknowledged.Seconds(), vms, time.Since(killed).Seconds())
	all := len(w.Must("listVirtualMachines", "listall", "true").List("virtualmachine"))
	s.checkOnce(t, all)
	w.StartNode(leader)
	w.Until("the killed coordinator is back", 60*time.Second, func() error { return w.ready(leader) })
	s.checkOnce(t, all)
}

// TestCoordinatorGone takes the only coordinator away. Guests go on, also over a power cut of their host, and the
// coordinator that comes back finds everything as it left it.
func TestCoordinatorGone(t *testing.T) {
	w := NewProcesses(t, 1)
	s := w.NewSite(1, agenttest.Options{Heartbeat: time.Second})
	s.Ready()
	vm, job, err := s.Deploy("hello")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Job(job, time.Minute); err != nil {
		t.Fatal(err)
	}
	h := s.Hosts[0]
	generation, starts := h.Generation(), h.Starts(vm)
	w.KillNode(0)
	h.Kill()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if got := h.Running(); !slices.Equal(got, []string{vm}) || h.Starts(vm) != starts {
		t.Errorf("after the agent's restart %v runs, started %d times, before %d", got, h.Starts(vm), starts)
	}
	h.PowerOff()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	w.Until("the VM is back without any coordinator", 30*time.Second, func() error {
		if got := h.Running(); !slices.Equal(got, []string{vm}) {
			return fmt.Errorf("%v runs", got)
		}
		return nil
	})
	w.StartNode(0)
	w.Until("the coordinator is back", 60*time.Second, func() error { return w.ready(0) })
	w.Until("the host is up", 30*time.Second, func() error {
		if got := w.Must("listHosts", "name", "sim1").Text("host.state"); got != "Up" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	if h.Generation() < generation {
		t.Errorf("the host went back from generation %d to %d", generation, h.Generation())
	}
	s.checkOnce(t, 1)
	w.Must("stopVirtualMachine", "id", vm)
	if got := h.Running(); len(got) != 0 {
		t.Errorf("%v runs after it was stopped", got)
	}
}

// TestStaleAgent lets a host sleep through changes: what it is told when it wakes is the present, not the past.
func TestStaleAgent(t *testing.T) {
	w := New(t, 1)
	s := w.NewSite(2, agenttest.Options{Heartbeat: time.Second})
	s.Ready()
	var vms []string
	for i := range 4 {
		vm, job, err := s.Deploy(fmt.Sprintf("vm%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Job(job, time.Minute); err != nil {
			t.Fatal(err)
		}
		vms = append(vms, vm)
	}
	asleep := s.Hosts[0]
	before := asleep.Running()
	if len(before) == 0 {
		t.Fatal("the host that is to sleep runs nothing")
	}
	asleep.Kill()
	w.Until("the host is not heard from", 30*time.Second, func() error {
		if got := w.Must("listHosts", "name", "sim1").Text("host.state"); got == "Up" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	o, err := w.Call("stopVirtualMachine", "id", before[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := asleep.Running(); !slices.Equal(got, before) {
		t.Errorf("without its agent the host runs %v, before %v", got, before)
	}
	if err := asleep.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Job(o.Text("jobid"), time.Minute); err != nil {
		t.Errorf("stopping a VM on a host that slept: %v", err)
	}
	w.Must("startVirtualMachine", "id", before[0])
	s.checkOnce(t, len(vms))
}

// TestLeaderLeaves runs three coordinators in this process, where the race detector sees them, and stops the leader in
// order while hosts are linked to all of them.
func TestLeaderLeaves(t *testing.T) {
	w := New(t, 3)
	s := w.NewSite(3, agenttest.Options{Heartbeat: time.Second})
	s.Ready()
	deploy := func(prefix string, n int) {
		t.Helper()
		jobs := map[string]string{}
		for i := range n {
			name := fmt.Sprintf("%s%d", prefix, i)
			var job string
			w.Until("deployment of "+name, 30*time.Second, func() (err error) {
				_, job, err = s.Deploy(name)
				return err
			})
			jobs[name] = job
		}
		for name, job := range jobs {
			if _, err := w.Job(job, time.Minute); err != nil {
				t.Errorf("deployment of %s: %v", name, err)
			}
		}
	}
	deploy("before", 6)
	leader := -1
	w.Until("a leader", 10*time.Second, func() error {
		if leader = w.Leader(); leader < 0 {
			return fmt.Errorf("nobody says that it leads")
		}
		return nil
	})
	w.StopNode(leader)
	deploy("after", 6)
	s.checkOnce(t, 12)
	for _, h := range s.Hosts {
		if !h.Connected() {
			t.Errorf("host %s has no coordinator", h.ID())
		}
	}
}
