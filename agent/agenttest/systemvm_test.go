package agenttest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// withRouter adds a system VM on the spec's network.
func withRouter(s *hostspec.HostSpec) *hostspec.SystemVM {
	sum, pool, network := fmt.Sprintf("%064x", 9), s.Pools[0].GetId(), s.Networks[0].GetId()
	s.Images = append(s.Images, &hostspec.Image{Sha256: sum, SizeBytes: 10, Format: "systemvm", PoolId: pool})
	r := &hostspec.SystemVM{
		Id: uuid.NewString(), InstanceName: "r-7-VM", Power: hostspec.PowerState_POWER_STATE_RUNNING, StartEpoch: 1, BootEpoch: 1,
		Vcpus: 1, MemoryMib: 128, ImageSha256: sum, PoolId: pool, StopGraceSeconds: 1,
		Services: &netspec.NetSpec{NetworkId: network, Generation: 1},
		Nics: []*hostspec.SystemNic{
			{Id: uuid.NewString(), Traffic: "guest", Mac: "02:00:00:01:00:01", NetworkId: network},
			{Id: uuid.NewString(), Traffic: "public", Mac: "02:00:00:01:00:02", Bridge: "cloudbr1"},
			{Id: uuid.NewString(), Traffic: "control", Mac: "02:00:00:01:00:03"},
		},
	}
	s.SystemVms = append(s.SystemVms, r)
	return r
}

// TestSystemVM walks a router through its life: booted, killed, its image damaged, its channel cut, its agent killed, its
// host switched off, replaced by another, stopped and removed.
func TestSystemVM(t *testing.T) {
	_, c := newCoordinator(t)
	token, id := c.Token()
	h := newHost(t, agenttest.Options{Name: "h1", Token: token, SystemVersion: "4.22.1", Slow: time.Second})
	spec := specOf(id, 1)
	router := withRouter(spec)
	settle := func(what string) *hostspec.HostObservation {
		t.Helper()
		spec.Generation++
		c.SetSpec(proto.CloneOf(spec))
		return await(t, c, id, what, func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() == spec.Generation })
	}
	serves := func(o *hostspec.HostObservation) bool {
		if len(o.GetSystemVms()) == 0 {
			return false
		}
		s := o.GetSystemVms()[0]
		return s.GetVm().GetState() == hostspec.VmState_VM_STATE_RUNNING && s.GetServices().GetAppliedGeneration() == 1 && s.GetConnected()
	}
	o := settle("boot")
	if s := o.GetSystemVms()[0]; !serves(o) || s.GetImageVersion() != "4.22.1" || s.GetVm().GetStartEpoch() != 1 || len(o.GetVms()) != 1 {
		t.Fatalf("settled, but: %v", o)
	}
	again := func(what string) {
		t.Helper()
		starts := h.Starts(router.GetId())
		await(t, c, id, what, func(o *hostspec.HostObservation) bool { return serves(o) && h.Starts(router.GetId()) == starts })
	}
	h.Crash(router.GetId())
	await(t, c, id, "killed", func(o *hostspec.HostObservation) bool { return serves(o) && h.Starts(router.GetId()) == 2 })
	h.SpoilImage(router.GetImageSha256())
	h.ShutdownGuest(router.GetId())
	await(t, c, id, "its image damaged and itself gone", func(o *hostspec.HostObservation) bool { return serves(o) && h.Starts(router.GetId()) == 3 })
	h.Fail(agenttest.OpChannel, router.GetId(), fmt.Errorf("cut"))
	spec.RequestId = "cut" // any change makes the host look
	spec.Generation++
	c.SetSpec(proto.CloneOf(spec))
	await(t, c, id, "its channel cut", func(o *hostspec.HostObservation) bool {
		s := o.GetSystemVms()[0]
		return s.GetVm().GetError() == "services: cut" && s.GetServices() == nil
	})
	h.Fail(agenttest.OpChannel, router.GetId(), nil)
	settle("its channel mended")
	h.Kill()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	again("taken over by the next agent")
	if n := h.Starts(router.GetId()); n != 3 {
		t.Errorf("started %d times, want 3: an agent's end is not a router's", n)
	}
	h.PowerOff()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, c, id, "back after a power-off", func(o *hostspec.HostObservation) bool { return serves(o) && h.Starts(router.GetId()) == 4 })

	// A successor boots beside it, and takes over in one generation.
	next := withRouter(spec)
	spec.Images = spec.Images[:len(spec.Images)-1]
	next.InstanceName, next.Standby = "r-8-VM", true
	o = settle("standby")
	if at := o.GetNetworks()[0].GetLinksGeneration(); at != spec.Generation {
		t.Errorf("links are of generation %d, want %d", at, spec.Generation)
	}
	for _, vm := range o.GetSystemVms() {
		if at := vm.GetUnpluggedGeneration(); vm.GetVm().GetId() == next.GetId() && at != spec.Generation || vm.GetVm().GetId() == router.GetId() && at != 0 {
			t.Errorf("%s counts as unplugged from generation %d on", vm.GetVm().GetId(), at)
		}
	}
	if diff := cmp.Diff([]string{router.GetId()}, h.Carrying()); diff != "" {
		t.Errorf("connected beside a standby (-want +got):\n%s", diff)
	}
	next.Standby, spec.SystemVms = false, []*hostspec.SystemVM{next}
	o = settle("taken over")
	if diff := cmp.Diff([]string{next.GetId()}, h.Carrying()); diff != "" || len(o.GetSystemVms()) != 1 {
		t.Errorf("connected after the swap, of %d (-want +got):\n%s", len(o.GetSystemVms()), diff)
	}
	next.Power = hostspec.PowerState_POWER_STATE_STOPPED
	o = settle("stopped")
	if s := o.GetSystemVms()[0].GetVm().GetState(); s != hostspec.VmState_VM_STATE_STOPPED {
		t.Errorf("it is %s", s)
	}
	spec.SystemVms = nil
	settle("removed")
	await(t, c, id, "nothing left", func(*hostspec.HostObservation) bool { return len(h.Defined()) == 1 })
}
