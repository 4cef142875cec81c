package simtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// TestPoolMaintenanceWhileKilled takes the storage of a host into maintenance and back, again and again, and kills or halts
// the leader at random moments of it. VMs there stop and start again, but for one whose owner says otherwise; routers move
// away; what uses other storage notices nothing.
func TestPoolMaintenanceWhileKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three processes")
	}
	w := NewProcesses(t, 3)
	s := w.NewSite(2, agenttest.Options{Heartbeat: 500 * time.Millisecond, Latency: agenttest.Latency{
		Start: 60 * time.Millisecond, Stop: 60 * time.Millisecond, Volume: 20 * time.Millisecond, Network: 40 * time.Millisecond,
	}})
	s.systemImage()
	s.Ready()
	s.placeRouters("vm")
	nets := s.routedNetworks(2)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range 6 {
		_, job, err := s.Deploy(fmt.Sprintf("vm%d", i))
		if err != nil {
			t.Fatal(err)
		}
		s.done(t, job)
	}
	for round := range rounds(t) {
		host := fmt.Sprintf("sim%d", round%2+1)
		s.maintain(t, rnd, fmt.Sprintf("round %d on %s", round, host), host, nets)
	}
}

// maintain is one maintenance of the storage of a host.
func (s *Site) maintain(t *testing.T, rnd *rand.Rand, what, host string, nets []routed) {
	t.Helper()
	pool := s.w.Must("listStoragePools", "name", host+" Local Storage").Text("storagepool.id")
	var here []string
	for vm, on := range s.Running() {
		if slices.Equal(on, []string{host}) && s.w.Must("listVirtualMachines", "id", vm, "listall", "true").Text("virtualmachine.id") == vm {
			here = append(here, vm)
		}
	}
	if len(here) < 2 {
		t.Fatalf("%s: only %d VMs run there", what, len(here))
	}
	slices.Sort(here)
	state := func(pool string) string { return s.w.Must("listStoragePools", "id", pool).Text("storagepool.state") }

	job := s.mustBegin("enableStorageMaintenance", "id", pool)
	pending, back := s.troubleLeader(time.Duration(rnd.IntN(300))*time.Millisecond, rnd.IntN(2) == 0, map[string]string{"": job})
	s.done(t, job)
	back()
	t.Logf("%s: %d VMs; prepared, %d under way when the leader was hit", what, len(here), pending)
	if got := state(pool); got != "Maintenance" {
		t.Errorf("%s: the pool is %s", what, got)
	}
	s.w.Until(what+": nothing runs there", 30*time.Second, func() error {
		for vm, on := range s.Running() {
			if slices.Contains(on, host) {
				return fmt.Errorf("%s runs on %v", vm, on)
			}
		}
		return nil
	})
	owned, rest := here[0], here[1:]
	s.w.Must("stopVirtualMachine", "id", owned) // it is; now by its owner

	job = s.mustBegin("cancelStorageMaintenance", "id", pool)
	pending, back = s.troubleLeader(time.Duration(rnd.IntN(120))*time.Millisecond, rnd.IntN(2) == 0, map[string]string{"": job})
	result, err := s.w.Job(job, 120*time.Second)
	back()
	t.Logf("%s: cancelled, %d under way when the leader was hit", what, pending)
	if want := fmt.Sprintf("virtual machines started again: %d", len(rest)); err != nil || result.Text("storagepool.displaytext") != want || state(pool) != "Up" {
		t.Errorf("%s: %v, the answer says %q, want %q; the pool is %s", what, err, result.Text("storagepool.displaytext"), want, state(pool))
	}
	if got := s.w.Must("listVirtualMachines", "id", owned).Text("virtualmachine.state"); got != "Stopped" {
		t.Errorf("%s: the VM that its owner stopped is %s", what, got)
	}
	s.w.Must("startVirtualMachine", "id", owned)
	s.w.Until(what+": all runs once", 60*time.Second, func() error {
		on := s.Running()
		for _, vm := range here {
			if !slices.Equal(on[vm], []string{host}) {
				return fmt.Errorf("VM %s runs on %v", vm, on[vm])
			}
		}
		for _, n := range nets {
			rt := s.router(n.network)
			got := routed{n.network, rt.Text("publicmacaddress"), rt.Text("guestmacaddress"), rt.Text("publicip")}
			if got != n || rt.Text("state") != "Running" || !slices.Equal(on[rt.Text("id")], []string{rt.Text("hostname")}) {
				return fmt.Errorf("the router of %+v is %v, and its domain runs on %v", n, rt, on[rt.Text("id")])
			}
		}
		return nil
	})
}
