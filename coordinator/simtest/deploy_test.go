package simtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// TestFromNothingToRunning is the whole way: an empty cloud, hosts that join by token, a template, a VM that runs.
func TestFromNothingToRunning(t *testing.T) {
	w := New(t, 1)
	s := w.NewSite(2, agenttest.Options{Heartbeat: time.Second, FetchImages: true})
	s.Ready()
	vm, job, err := s.Deploy("hello")
	if err != nil {
		t.Fatal(err)
	}
	result, err := w.Job(job, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := result.Text("virtualmachine.state"); got != "Running" {
		t.Errorf("the VM is %s", got)
	}
	if on := s.Running()[vm]; len(on) != 1 || on[0] != result.Text("virtualmachine.hostname") {
		t.Errorf("the VM runs on %v, the API says %s", on, result.Text("virtualmachine.hostname"))
	}
	w.Must("stopVirtualMachine", "id", vm)
	if on := s.Running()[vm]; len(on) != 0 {
		t.Errorf("the stopped VM runs on %v", on)
	}
	w.Must("startVirtualMachine", "id", vm)
	w.Must("destroyVirtualMachine", "id", vm, "expunge", "true")
	w.Until("nothing is left", 30*time.Second, func() error {
		if n := len(s.Hosts[0].Defined()) + len(s.Hosts[1].Defined()); n != 0 {
			return fmt.Errorf("%d domains are defined", n)
		}
		return nil
	})
}
