package agenttest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/agent/internal/hostlink/linktest"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

func newCoordinator(t *testing.T) (*linktest.Authority, *linktest.Coordinator) {
	t.Helper()
	a, err := linktest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	c, err := linktest.Start(a, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return a, c
}

func newHost(t *testing.T, o agenttest.Options) *agenttest.Host {
	t.Helper()
	h := agenttest.New(o)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Kill)
	return h
}

func await(t *testing.T, c *linktest.Coordinator, id, what string, ok func(*hostspec.HostObservation) bool) *hostspec.HostObservation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o, err := c.Wait(ctx, id, ok)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return o
}

// specOf makes a spec with VMs on one network.
func specOf(host string, vms int) *hostspec.HostSpec {
	pool, network, sum := uuid.NewString(), uuid.NewString(), fmt.Sprintf("%064x", 7)
	s := &hostspec.HostSpec{
		HostId: host, Generation: 1,
		Pools:  []*hostspec.StoragePool{{Id: pool, Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: "/srv/pool"}},
		Images: []*hostspec.Image{{Sha256: sum, SizeBytes: 10, Format: "qcow2", PoolId: pool, VirtualSizeBytes: 1 << 20}},
		Networks: []*hostspec.Network{{
			Id: network, Number: 1, Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: 77,
			Services: &netspec.NetSpec{NetworkId: network, Generation: 1, Dhcp4: &netspec.Dhcp4{}},
		}},
	}
	for i := range vms {
		volume, mac := uuid.NewString(), fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)
		s.Volumes = append(s.Volumes, &hostspec.Volume{
			Id: volume, PoolId: pool, SizeBytes: 1 << 20, ImageSha256: sum, ImageFormat: "qcow2",
		})
		vm := &hostspec.VirtualMachine{
			Id: uuid.NewString(), InstanceName: fmt.Sprintf("i-2-%d-VM", i), Power: hostspec.PowerState_POWER_STATE_RUNNING,
			StartEpoch: 1, BootEpoch: 1, Vcpus: 1, MemoryMib: 512, StopGraceSeconds: 1,
			Disks: []*hostspec.Disk{{VolumeId: volume}},
			Nics:  []*hostspec.Nic{{Id: uuid.NewString(), NetworkId: network, Mac: mac}},
		}
		s.Vms = append(s.Vms, vm)
		dhcp := s.Networks[0].Services.Dhcp4
		dhcp.Guests = append(dhcp.Guests, &netspec.Guest{Mac: mac, Ip: fmt.Sprintf("10.1.%d.%d", i>>8, i&255), VmId: vm.GetId()})
	}
	return s
}

func running(n int) func(*hostspec.HostObservation) bool {
	return func(o *hostspec.HostObservation) bool {
		up := 0
		for _, vm := range o.GetVms() {
			if vm.GetState() == hostspec.VmState_VM_STATE_RUNNING && !vm.GetLeftover() {
				up++
			}
		}
		return up == n
	}
}

func TestLife(t *testing.T) {
	_, c := newCoordinator(t)
	token, id := c.Token()
	latency := agenttest.Latency{Start: 5 * time.Millisecond, Stop: 5 * time.Millisecond, Network: time.Millisecond}
	h := newHost(t, agenttest.Options{Name: "h1", Token: token, Latency: latency})
	await(t, c, id, "join", func(o *hostspec.HostObservation) bool { return o.GetFacts().GetHostname() == "h1" })
	spec := specOf(id, 3)
	push := func() {
		spec.Generation++
		c.SetSpec(spec)
	}
	push()
	o := await(t, c, id, "start", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == spec.Generation })
	if !running(3)(o) {
		t.Fatalf("settled, but: %v", o)
	}
	await(t, c, id, "leases", func(o *hostspec.HostObservation) bool { return len(o.GetNetworks()[0].GetServices().GetLeases()) == 3 })
	vm := spec.Vms[0].GetId()
	state := func(s hostspec.VmState, cause hostspec.StopCause) func(*hostspec.HostObservation) bool {
		return func(o *hostspec.HostObservation) bool {
			i := slices.IndexFunc(o.GetVms(), func(v *hostspec.VirtualMachineObservation) bool { return v.GetId() == vm })
			return i >= 0 && o.GetVms()[i].GetState() == s && o.GetVms()[i].GetStopCause() == cause
		}
	}

	h.ShutdownGuest(vm)
	await(t, c, id, "guest shut down", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_GUEST))
	h.Kill()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, c, id, "still down", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_GUEST))
	spec.Vms[0].StartEpoch++
	push()
	await(t, c, id, "user starts it", running(3))

	h.Crash(vm)
	await(t, c, id, "crash", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_CRASHED))
	spec.Vms[0].Ha = true
	push()
	await(t, c, id, "HA starts it", running(3))

	h.PowerOff()
	if up := h.Running(); len(up) != 0 {
		t.Fatalf("running without power: %v", up)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, c, id, "power on", running(3))

	h.Deafen(vm, true)
	spec.Vms[0].Power = hostspec.PowerState_POWER_STATE_STOPPED
	push()
	await(t, c, id, "deaf guest stopped", state(hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_WANTED))

	h.Fail(agenttest.OpStart, "", errors.New("no more room"))
	spec.Vms[0].Power, spec.Vms[0].StartEpoch = hostspec.PowerState_POWER_STATE_RUNNING, 9
	push()
	o = await(t, c, id, "failed start", state(hostspec.VmState_VM_STATE_FAILED, 0))
	h.Fail(agenttest.OpStart, "", nil)
	await(t, c, id, "healed start", running(3))

	spec.Vms, spec.Networks = nil, nil
	for _, v := range spec.Volumes {
		v.Removed = true
	}
	push()
	await(t, c, id, "removal", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == spec.Generation })
	if d, v, n := h.Defined(), h.Volumes(), h.Networks(); len(d)+len(v)+len(n) != 0 {
		t.Errorf("left over: domains %v, volumes %v, networks %v", d, v, n)
	}
}

// TestFleet runs many agents in one process, loses the coordinator, and waits for all to be back.
func TestFleet(t *testing.T) {
	hosts := 200
	if testing.Short() {
		hosts = 20
	}
	a, c := newCoordinator(t)
	var group sync.WaitGroup
	ids := make([]string, hosts)
	for i := range hosts {
		var token string
		token, ids[i] = c.Token()
		h := agenttest.New(agenttest.Options{Name: fmt.Sprintf("h%d", i), Token: token})
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { group.Go(h.Kill) })
		c.SetSpec(specOf(ids[i], 2))
	}
	t.Cleanup(group.Wait)
	for _, id := range ids {
		await(t, c, id, "all run", running(2))
	}
	address := c.Address()
	c.Kill()
	c, err := linktest.Start(a, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	begin := time.Now()
	for _, id := range ids {
		await(t, c, id, "back", func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == 1 })
	}
	t.Logf("%d agents back %.2f s after the coordinator's restart", hosts, time.Since(begin).Seconds())
}
