package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/packaging/api"
)

// TestCoordinatorKilledDuringDeploys kills the only coordinator at random moments of deploys and starts it again. Every
// acknowledged deploy must end, addresses must be given once, and after destroying everything nothing may be left.
func TestCoordinatorKilledDuringDeploys(t *testing.T) {
	n := newNode(t, "c1")
	n.start(t)
	n.awaitReady(t)
	c := newCloud(t, n, 2, agenttest.Latency{Start: 60 * time.Millisecond, Volume: 30 * time.Millisecond, Network: 20 * time.Millisecond})
	const rounds = 12
	seed := rand.Uint64()
	t.Logf("moments of the kills are drawn from seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	jobs := map[string]string{} // by VM name
	for i := range rounds {
		name := fmt.Sprintf("vm-%d", i)
		kill := time.Duration(random.IntN(250)) * time.Millisecond
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			timer := time.NewTimer(kill)
			<-timer.C
			n.kill()
		}()
		var answer struct {
			ID    string `json:"id"`
			JobID string `json:"jobid"`
		}
		err := c.admin.Call(t.Context(), "deployVirtualMachine", c.deployParams(name), &answer)
		<-killed
		if err == nil {
			jobs[name] = answer.JobID
		}
		n.start(t)
		n.awaitReady(t)
	}
	t.Logf("%d of %d deploys were acknowledged before the kill", len(jobs), rounds)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, job := range jobs {
		if _, err := c.admin.Wait(ctx, "deployVirtualMachine", job); err != nil {
			t.Errorf("the acknowledged deploy of %s: %v", name, err)
		}
	}
	await(t, 30*time.Second, "every VM to run", func(ctx context.Context) error {
		vms, err := c.vms(ctx)
		if err != nil {
			return err
		}
		have, ips := map[string]bool{}, map[string]string{}
		for _, v := range vms {
			if v.State != "Running" {
				return fmt.Errorf("VM %s is %s", v.Name, v.State)
			}
			if len(v.NICs) != 1 || v.NICs[0].IP == "" {
				return fmt.Errorf("VM %s has the NICs %+v", v.Name, v.NICs)
			}
			if other, twice := ips[v.NICs[0].IP]; twice {
				return fmt.Errorf("%s and %s have the address %s", v.Name, other, v.NICs[0].IP)
			}
			ips[v.NICs[0].IP], have[v.Name] = v.Name, true
		}
		for name := range jobs {
			if !have[name] {
				return fmt.Errorf("the acknowledged VM %s is lost", name)
			}
		}
		return nil
	})
	running := 0
	for _, h := range c.hosts {
		running += len(h.Running())
	}
	vms, err := c.vms(ctx)
	if err != nil || running != len(vms) {
		t.Errorf("%d domains run for %d VMs (%v)", running, len(vms), err)
	}
	for _, v := range vms {
		if err := c.admin.Do(ctx, "destroyVirtualMachine", api.Params{"id": v.ID, "expunge": "true"}, nil); err != nil {
			t.Errorf("destroy %s: %v", v.Name, err)
		}
	}
	await(t, 30*time.Second, "nothing to be left", c.empty)
}

// TestHostPowerCycle switches a host off and on: its VMs come back from its ledger while no coordinator runs.
func TestHostPowerCycle(t *testing.T) {
	n := newNode(t, "c1")
	n.start(t)
	n.awaitReady(t)
	c := newCloud(t, n, 1, agenttest.Latency{})
	if err := c.admin.Do(t.Context(), "deployVirtualMachine", c.deployParams("v1"), nil); err != nil {
		t.Fatal(err)
	}
	n.kill()
	c.hosts[0].PowerOff()
	if got := c.hosts[0].Running(); len(got) > 0 {
		t.Fatalf("a host without power runs %v", got)
	}
	if err := c.hosts[0].Start(); err != nil {
		t.Fatal(err)
	}
	await(t, 20*time.Second, "the VM to run again with no coordinator", func(context.Context) error {
		if len(c.hosts[0].Running()) != 1 {
			return errors.New("it does not run")
		}
		return nil
	})
	n.start(t)
	n.awaitReady(t)
	await(t, 20*time.Second, "the cloud to know", func(ctx context.Context) error {
		vms, err := c.vms(ctx)
		if err == nil && (len(vms) != 1 || vms[0].State != "Running") {
			err = fmt.Errorf("it says %+v", vms)
		}
		return err
	})
}
