package network_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// set changes a setting.
func (w *world) set(name, value string) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error { return settings.New(network.Settings()).Set(tx, name, value) })
}

// image registers a system-VM image that is ready.
func (w *world) image(n byte) cloud.ID {
	w.t.Helper()
	t := &cloud.Template{
		ID: id(9, n), Name: "SystemVM Template (KVM)", Format: cloud.FormatSystemVM, Type: cloud.TemplateSystem, State: cloud.TemplateReady,
		SHA256: fmt.Sprintf("%064d", n), SizeBytes: 40 << 20, FileBytes: 30 << 20, Version: fmt.Sprintf("1.%d", n),
	}
	w.clock.advance(time.Second)
	w.do(func(tx *store.Tx) error { t.Created = tx.Now(); return tables.Templates.Put(tx, t) })
	return t.ID
}

// newVMWorld is a world whose routers are system VMs.
func newVMWorld(t testing.TB, hosts int) *world {
	w := newWorld(t, hosts)
	w.do(func(tx *store.Tx) error {
		err := errors.Join(
			tables.Pods.Put(tx, &cloud.Pod{ID: id(5, 1), ZoneID: w.zone.ID, Name: "pod", AllocationState: cloud.AllocationEnabled}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: id(7, 1), ZoneID: w.zone.ID, PodID: id(5, 1), Name: "c", AllocationState: cloud.AllocationEnabled}))
		for i, h := range w.hosts {
			err = errors.Join(err, tables.Hosts.Edit(tx, h, func(h *cloud.Host) error {
				h.ClusterID, h.CPUs, h.CPUMHz, h.MemoryMiB = id(7, 1), 4, 2000, 512
				return nil
			}), tables.StoragePools.Put(tx, &cloud.StoragePool{
				ID: id(8, byte(i+1)), Name: fmt.Sprintf("p%d", i+1), ZoneID: w.zone.ID, ClusterID: id(7, 1), HostID: h, State: cloud.PoolUp,
				CapacityBytes: 1 << 40, Kind: cloud.PoolFilesystem,
			}))
		}
		return err
	})
	w.set("router.placement", "vm")
	w.image(1)
	return w
}

// running makes a network with a VM on a host and a router that runs.
func (w *world) running(host int) (*cloud.Network, *cloud.VM) {
	w.t.Helper()
	n := w.guest("net")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[host]); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
	w.settle()
	return w.network(n.ID), vm
}

// tryStep runs a step as the engine does; it may be over or not.
func (w *world) tryStep(instance cloud.ID, expired bool, f func(*store.Tx, *job.State) (job.Outcome, error)) (over bool, why string) {
	w.t.Helper()
	var out job.Outcome
	w.do(func(tx *store.Tx) (err error) {
		out, err = f(tx, &job.State{Job: &cloud.Job{InstanceID: instance}, Expired: expired})
		return err
	})
	over, err := out.Final()
	if err != nil {
		why = err.Error()
	}
	return over, why
}

func (w *world) restart(n cloud.ID) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error { return w.area.Restart(tx, w.network(n), true) })
}

func (w *world) standby(n cloud.ID) *cloud.Router {
	w.t.Helper()
	rt, ok := tables.Routers.First(w.read(), "network", store.K(n, true))
	if !ok {
		w.t.Fatal("no router is on standby")
	}
	return rt
}

func TestSystemVMIsRendered(t *testing.T) {
	w := newVMWorld(t, 2)
	n, vm := w.running(0)
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	rt := w.router(n.ID)
	if rt.ImageVersion != "v-0000" || rt.Version != "1.0" || !rt.Connected {
		t.Errorf("router: %+v", rt)
	}
	host := w.render(w.hosts[0])[0]
	if len(host.GetLegs()) != 1 || host.GetServices().GetForwarding() || host.GetServices().GetDhcp4() == nil ||
		host.GetServices().GetDns().GetForwarders() != nil || host.GetServices().GetDhcp4().GetDnsServers()[1] != "10.1.1.1" {
		t.Errorf("the host's own services are %v", host)
	}
	spec := w.renderSystem(w.hosts[0])
	got := spec.GetSystemVms()[0]
	services := got.Services
	vnc := got.VncPassword
	got.Services, got.VncPassword = nil, ""
	want := &hostspec.SystemVM{
		Id: rt.ID.String(), InstanceName: "r-1-VM", Power: hostspec.PowerState_POWER_STATE_RUNNING, StartEpoch: 1, Vcpus: 1, CpuMhz: 500,
		MemoryMib: 128, ImageSha256: fmt.Sprintf("%064d", 1), PoolId: id(8, 1).String(), StopGraceSeconds: 20,
		Nics: []*hostspec.SystemNic{
			{Id: network.RouterNIC(rt, "Guest").String(), Traffic: "guest", Mac: macOf(n.GatewayMAC), NetworkId: n.ID.String()},
			{Id: network.RouterNIC(rt, "Public").String(), Traffic: "public", Mac: macOf(rt.PublicMAC), Bridge: "pubbr0", Vlan: 50},
			{Id: network.RouterNIC(rt, "Control").String(), Traffic: "control", Mac: macOf(rt.ControlMAC)},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || len(vnc) != 8 {
		t.Errorf("system VM (console password %q): %s", vnc, diff)
	}
	wantImages := []*hostspec.Image{{
		Sha256: fmt.Sprintf("%064d", 1), Format: "systemvm", PoolId: id(8, 1).String(), SizeBytes: 30 << 20, VirtualSizeBytes: 40 << 20,
	}}
	if diff := cmp.Diff(wantImages, spec.GetImages(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	// What the system VM does is what the namespace of a router would do, less the service address, plus the control leg.
	w.set("router.placement", "host")
	other := w.guest("other")
	if err := w.start(w.vm(other), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range services.GetLinks() {
		names = append(names, l.GetName()+" "+strings.Join(l.GetAddresses(), ","))
	}
	wantNames := []string{"gw0 10.1.1.1/24", "pub0 " + w.source(n.ID).Address.String() + "/24", "ctl0 169.254.0.2/16"}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Error(diff)
	}
	if services.GetDhcp4() != nil || !services.GetForwarding() || services.GetFirewall().GetPublicLink() != "pub0" || services.GetNat() == nil ||
		len(services.GetMetadata().GetGuests()) != 1 || !cmp.Equal(services.GetDns().GetForwarders(), []string{"192.0.2.53"}) ||
		!cmp.Equal(services.GetMetadata().GetListen(), []string{"10.1.1.1", "169.254.169.254"}) ||
		!cmp.Equal(services.GetPassword().GetListen(), []string{"10.1.1.1"}) {
		t.Errorf("services: %v", services)
	}
	// A host with the system VM alone has the bridge and no services.
	w.do(func(tx *store.Tx) error { vm.HostID = w.hosts[1]; return tables.VMs.Put(tx, vm) })
	for _, m := range w.render(w.hosts[0]) {
		if m.GetId() == n.ID.String() && (m.Services != nil || len(m.Legs) > 0 || len(m.Peers) != 1) {
			t.Errorf("the bridge of the system VM alone: %v", m)
		}
	}
}

func macOf(m uint64) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m>>40&255, m>>32&255, m>>24&255, m>>16&255, m>>8&255, m&255)
}

// A VM's password may be taken from the gateway as well.
func TestPasswordTakenFromASystemVM(t *testing.T) {
	w := newVMWorld(t, 2)
	_, vm := w.running(1)
	o := w.observation(w.hosts[1])
	o.SystemVms[0].Services.PasswordsTaken = []*netspec.PasswordTaken{{Ip: "10.1.1.2", Epoch: 1}}
	w.fold(w.hosts[1], o)
	if row, _ := tables.VMs.Get(w.read(), vm.ID); row.PasswordTaken != 1 {
		t.Error("not noted")
	}
}

func TestWhySystemVMsCannotBe(t *testing.T) {
	w := newVMWorld(t, 2)
	n := w.guest("net")
	vm := w.vm(n)
	expect := func(want string) {
		t.Helper()
		err := w.start(vm, w.hosts[0])
		if cloud.CodeOf(err) != cloud.NoCapacity || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		w.expect(n.ID, "Allocated segment=0")
	}
	w.set("router.template.kvm", "other")
	expect(`The router of network net cannot be started as a system VM: no template named "other" is ready (register a system-VM image with registerTemplate and format=SYSTEMVM, or change router.template.kvm)`)
	w.set("router.template.kvm", "SystemVM Template (KVM)")
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.MemoryMiB = 100 })
	w.do(func(tx *store.Tx) error {
		return tables.StoragePools.Edit(tx, id(8, 2), func(p *cloud.StoragePool) error { p.State = cloud.PoolDown; return nil })
	})
	expect("No host can take the router of network net: host h1: 128 MiB memory are wanted and 100 of 100 MiB are free; " +
		"host h2: it has no storage pool that is up")
}

// The offering's word counts for more than the cloud's.
func TestPlacementByOffering(t *testing.T) {
	for _, c := range []struct{ setting, detail, want string }{
		{"host", "", "host"}, {"vm", "", "vm"}, {"host", "VM", "vm"}, {"vm", "host", "host"},
	} {
		w := newVMWorld(t, 1)
		w.set("router.placement", c.setting)
		w.do(func(tx *store.Tx) error {
			q := network.OfferingRequest{
				Name: "o", DisplayText: "o", TrafficType: "Guest", GuestType: "Isolated", Enable: true, Services: []string{"dhcp", "sourcenat"},
				Details: map[string]string{"RouterPlacement": "cloud"},
			}
			if _, err := w.area.CreateOffering(tx, q); cloud.CodeOf(err) != cloud.Invalid {
				t.Errorf("placement cloud: %v", err)
			}
			q.Details = map[string]string{"kept": "x"}
			if c.detail != "" {
				q.Details["RouterPlacement"] = c.detail
			}
			var err error
			w.offering, err = w.area.CreateOffering(tx, q)
			return err
		})
		n, _ := w.running(0)
		if got := w.router(n.ID).Placement; got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// make before break: the new one is ready before one commit puts it in charge.
func TestReplacementOfASystemVM(t *testing.T) {
	w := newVMWorld(t, 2)
	n, _ := w.running(0)
	old := w.router(n.ID)
	w.restart(n.ID)
	fresh := w.standby(n.ID)
	if fresh.HostID != old.HostID || fresh.PublicMAC != old.PublicMAC || fresh.Name != "r-2-VM" || fresh.ControlIP == old.ControlIP ||
		fresh.ControlMAC == old.ControlMAC {
		t.Errorf("standby: %+v", fresh)
	}
	vms := map[string]*hostspec.SystemVM{}
	for _, vm := range w.renderSystem(w.hosts[0]).GetSystemVms() {
		vms[vm.GetInstanceName()] = vm
	}
	if vms["r-1-VM"].GetStandby() || !vms["r-2-VM"].GetStandby() || vms["r-1-VM"].GetNics()[0].GetMac() != vms["r-2-VM"].GetNics()[0].GetMac() ||
		vms["r-1-VM"].GetNics()[1].GetMac() != vms["r-2-VM"].GetNics()[1].GetMac() {
		t.Fatalf("system VMs: %v", vms)
	}
	if err := w.update(func(tx *store.Tx) error { return w.area.Restart(tx, w.network(n.ID), true) }); cloud.CodeOf(err) != cloud.InUse {
		t.Errorf("a second restart: %v", err)
	}
	// The standby boots; the old one goes on, and its word about the restart counts for nothing.
	o := w.observation(w.hosts[0])
	for _, vm := range o.SystemVms {
		if vm.Vm.Id == fresh.ID.String() {
			vm.Services = nil
		}
	}
	w.fold(w.hosts[0], o)
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	if over, why := w.tryStep(n.ID, false, w.area.RestartStep); over {
		t.Fatalf("job over: %s", why)
	}
	w.observe(w.hosts[0])
	if rt := w.router(n.ID); rt.ID != fresh.ID || rt.State != cloud.VMStarting || tables.Routers.Len(w.read()) != 1 {
		t.Fatalf("after the standby was ready: %+v", rt)
	}
	if over, _ := w.tryStep(n.ID, false, w.area.RestartStep); over {
		t.Fatal("job over before the new one is connected")
	}
	o = w.observation(w.hosts[0])
	o.SystemVms[0].Connected = false
	w.fold(w.hosts[0], o)
	if over, _ := w.tryStep(n.ID, false, w.area.RestartStep); over {
		t.Fatal("job over before the new one is connected")
	}
	w.observe(w.hosts[0])
	if over, why := w.tryStep(n.ID, false, w.area.RestartStep); !over || why != "" {
		t.Fatalf("job: %v %s", over, why)
	}
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

func TestReplacementThatFails(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(w *world, fresh *cloud.Router)
		want string
	}{
		{
			"timeout", func(w *world, _ *cloud.Router) { w.clock.advance(10 * time.Minute) },
			"router r-2-VM on host h1, which is Up, did not become ready: nat: no iptables",
		},
		{"failed", func(w *world, fresh *cloud.Router) {
			w.foldVM(fresh, func(o *hostspec.SystemVMObservation) {
				o.Vm.State, o.Vm.Error = hostspec.VmState_VM_STATE_FAILED, "root.squashfs does not have its checksum"
			})
		}, "router r-2-VM on host h1, which is Up, did not become ready: root.squashfs does not have its checksum"},
		{"died", func(w *world, fresh *cloud.Router) {
			w.foldVM(fresh, func(o *hostspec.SystemVMObservation) {
				o.Vm.State, o.Vm.StopCause = hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_CRASHED
			})
		}, "router r-2-VM on host h1, which is Up, did not become ready: its domain died by itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newVMWorld(t, 1)
			n, _ := w.running(0)
			old := w.router(n.ID)
			w.restart(n.ID)
			fresh := w.standby(n.ID)
			w.foldVM(fresh, func(o *hostspec.SystemVMObservation) {
				o.Services.Services = []*netspec.ServiceStatus{{Name: "nat", Error: "no iptables"}}
			})
			c.f(w, fresh)
			over, why := w.tryStep(n.ID, false, w.area.RestartStep)
			if want := "The restart of the network failed, and the router of before goes on: " + c.want; !over || why != want {
				t.Errorf("got  %v %s\nwant %s", over, why, want)
			}
			if rt := w.router(n.ID); rt.ID != old.ID || tables.Routers.Len(w.read()) != 1 {
				t.Errorf("router: %+v", rt)
			}
			w.settle()
			w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
		})
	}
}

// foldVM has a router's host report all as it shall be but that router as f leaves it.
func (w *world) foldVM(rt *cloud.Router, f func(*hostspec.SystemVMObservation)) {
	w.t.Helper()
	o := w.observation(rt.HostID)
	for _, vm := range o.SystemVms {
		if vm.Vm.Id == rt.ID.String() {
			f(vm)
		}
	}
	w.fold(rt.HostID, o)
}

// A router goes from a host into a system VM and back when the cloud's word has changed.
func TestPlacementChangesOnRestart(t *testing.T) {
	w := newVMWorld(t, 1)
	w.set("router.placement", "host")
	n, _ := w.running(0)
	mac, ip := w.router(n.ID).PublicMAC, w.source(n.ID).Address
	w.set("router.placement", "vm")
	w.restart(n.ID)
	if legs := w.render(w.hosts[0])[0].GetLegs(); len(legs) != 3 {
		t.Errorf("the namespace is no router any more: %v", legs)
	}
	w.settle()
	if n := w.render(w.hosts[0])[0]; len(n.GetLegs()) != 1 || len(n.GetStandbyLegs()) != 2 || !w.renderSystem(w.hosts[0]).GetSystemVms()[0].GetStandby() {
		t.Errorf("the namespace is not unplugged, or the system VM not on standby still: %v", n)
	}
	w.settle()
	if n := w.render(w.hosts[0])[0]; len(n.GetLegs()) != 1 || len(n.GetStandbyLegs()) != 0 {
		t.Errorf("the namespace is a router still: %v", n)
	}
	w.settle()
	rt := w.router(n.ID)
	if over, why := w.tryStep(n.ID, false, w.area.RestartStep); !over || why != "" || rt.Placement != "vm" || rt.PublicMAC != mac {
		t.Fatalf("to vm: %v %s %+v", over, why, rt)
	}
	w.set("router.placement", "host")
	w.restart(n.ID)
	if vm := w.renderSystem(w.hosts[0]).GetSystemVms()[0]; vm.GetStandby() || len(w.render(w.hosts[0])[0].GetStandbyLegs()) != 2 {
		t.Errorf("the namespace is not on standby beside the system VM: %v", vm)
	}
	w.settle()
	if vm := w.renderSystem(w.hosts[0]).GetSystemVms()[0]; !vm.GetStandby() || len(w.render(w.hosts[0])[0].GetStandbyLegs()) != 2 {
		t.Errorf("the system VM is not disconnected: %v", vm)
	}
	if over, _ := w.tryStep(n.ID, false, w.area.RestartStep); over {
		t.Error("over before the host confirmed")
	}
	w.settle()
	w.settle()
	rt = w.router(n.ID)
	if over, why := w.tryStep(n.ID, false, w.area.RestartStep); !over || why != "" || rt.Placement != "host" || rt.PublicMAC != mac ||
		w.source(n.ID).Address != ip || len(w.renderSystem(w.hosts[0]).GetSystemVms()) != 0 {
		t.Fatalf("to host: %v %s %+v", over, why, rt)
	}
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

func TestImageUpgrade(t *testing.T) {
	w := newVMWorld(t, 1)
	n, _ := w.running(0)
	rt := w.router(n.ID)
	if network.RequiresUpgrade(w.read(), rt) {
		t.Error("upgrade required without another image")
	}
	image := w.image(2)
	if !network.RequiresUpgrade(w.read(), rt) {
		t.Error("no upgrade required though there is a newer image")
	}
	reboot := func() {
		t.Helper()
		w.do(func(tx *store.Tx) error { return w.area.RebootRouter(tx, w.router(n.ID), false) })
	}
	reboot()
	w.settle()
	w.settle()
	now := w.router(n.ID)
	if now.ID == rt.ID || now.TemplateID != image || network.RequiresUpgrade(w.read(), now) || now.State != cloud.VMRunning {
		t.Errorf("after the upgrade: %+v", now)
	}
	reboot()
	if same := w.router(n.ID); same.ID != now.ID || same.BootEpoch != 1 || same.State != cloud.VMStarting {
		t.Errorf("reboot: %+v", same)
	}
	w.foldVM(now, func(o *hostspec.SystemVMObservation) { o.Vm.BootEpoch = 0 }) // not yet
	w.expect(n.ID, "Implemented segment=5000 router=Starting on h1")
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

func TestSystemVMThatDies(t *testing.T) {
	w := newVMWorld(t, 2)
	n, _ := w.running(0)
	rt := w.router(n.ID)
	died := func() {
		t.Helper()
		w.foldVM(w.router(n.ID), func(o *hostspec.SystemVMObservation) {
			o.Vm.State, o.Vm.StopCause, o.Services = hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_CRASHED, nil
		})
	}
	w.clock.advance(time.Minute)
	died()
	if now := w.router(n.ID); now.StartEpoch != rt.StartEpoch+1 || now.State != cloud.VMStarting || now.ID != rt.ID {
		t.Errorf("after its death: %+v", now)
	}
	if diff := cmp.Diff([]string{"ROUTER.HA Router r-1-VM of network net is started again: its domain died by itself"}, w.events); diff != "" {
		t.Error(diff)
	}
	died() // again at once: not before a pause
	if now := w.router(n.ID); now.StartEpoch != rt.StartEpoch+1 {
		t.Error("started again without a pause")
	}
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	// It cannot be started on this host: it is kept off there before another one gets it.
	w.foldVM(w.router(n.ID), func(o *hostspec.SystemVMObservation) {
		o.Vm.State, o.Vm.Error = hostspec.VmState_VM_STATE_FAILED, "no kvm"
	})
	if vm := w.renderSystem(w.hosts[0]).GetSystemVms()[0]; vm.GetPower() != hostspec.PowerState_POWER_STATE_STOPPED {
		t.Fatalf("not kept off: %v", vm)
	}
	w.observe(w.hosts[0])
	w.expect(n.ID, "Implementing segment=5000 router=Starting on h2")
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
	// The channel is cut: the router goes on, and says so.
	w.foldVM(w.router(n.ID), func(o *hostspec.SystemVMObservation) { o.Services = nil })
	if now := w.router(n.ID); now.State != cloud.VMRunning || now.Error != "its network services do not answer" {
		t.Errorf("with the channel cut: %+v", now)
	}
	// Its host dies.
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.Status = cloud.HostDown })
	w.tend()
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	// Its host is removed.
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.Status = cloud.HostUp })
	w.do(func(tx *store.Tx) error {
		vm := &cloud.VM{}
		for row := range tables.VMs.All(tx) {
			vm = row
		}
		vm.HostID = w.hosts[1]
		return errors.Join(tables.VMs.Put(tx, vm), infra.RemoveHost(tx, w.hosts[0], true, true, func(*store.Tx, *cloud.Volume) error { return nil }))
	})
	w.tend()
	w.observe(w.hosts[1])
	w.hosts = w.hosts[1:]
	w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
	want := []string{
		"ROUTER.HA Router r-1-VM of network net is started again: its domain died by itself",
		"ROUTER.HA Router r-1-VM of network net is started on host h2: host h1 cannot run it (no kvm)",
		"ROUTER.HA Router r-1-VM of network net is started on host h1: host h2 is Down",
		"ROUTER.HA Router r-1-VM of network net is started on host h2: the one before was given up",
	}
	if diff := cmp.Diff(want, w.events); diff != "" {
		t.Error(diff)
	}
}

// The host of a standby dies: the job says so, the router in charge goes on.
func TestStandbyLosesItsHost(t *testing.T) {
	w := newVMWorld(t, 2)
	n, _ := w.running(0)
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.ResourceState = cloud.HostMaintenance })
	w.restart(n.ID)
	if s := w.standby(n.ID); s.HostID != w.hosts[1] {
		t.Fatalf("standby: %+v", s)
	}
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.Status = cloud.HostDown })
	w.tend()
	over, why := w.tryStep(n.ID, false, w.area.RestartStep)
	if !over || !strings.HasSuffix(why, "router r-2-VM on host h2, which is Down, did not become ready: its host is gone") {
		t.Errorf("job: %v %s", over, why)
	}
	w.observe(w.hosts[0])
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

func TestStopStartAndDestroyOfRouters(t *testing.T) {
	for _, placement := range []string{"host", "vm"} {
		for _, guests := range []bool{true, false} {
			t.Run(fmt.Sprint(placement, guests), func(t *testing.T) {
				w := newVMWorld(t, 2)
				w.set("router.placement", placement)
				n, vm := w.running(0)
				if !guests {
					w.do(func(tx *store.Tx) error { vm.HostID = w.hosts[1]; return tables.VMs.Put(tx, vm) })
				}
				rt := w.router(n.ID)
				w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), false) })
				w.expect(n.ID, "Implemented segment=5000 router=Stopping on h1")
				if over, _ := w.tryStep(rt.ID, false, w.area.StopRouterStep); over {
					t.Error("stopped before the host said so")
				}
				w.settle()
				w.expect(n.ID, "Implemented segment=5000 router=Stopped on nowhere")
				if over, why := w.tryStep(rt.ID, false, w.area.StopRouterStep); !over || why != "" {
					t.Errorf("stop: %v %s", over, why)
				}
				w.tend()
				w.expect(n.ID, "Implemented segment=5000 router=Stopped on nowhere")
				// What is asked meanwhile holds at once.
				w.do(func(tx *store.Tx) error { _, err := w.area.Associate(tx, w.network(n.ID), netip.Addr{}); return err })
				if tables.PublicIPs.Count(w.read(), "pending", nil) != 0 {
					t.Error("an address waits for a router that was stopped")
				}
				w.do(func(tx *store.Tx) error { return w.area.StartRouter(tx, w.router(n.ID)) })
				w.settle()
				if over, why := w.tryStep(rt.ID, false, w.area.StartRouterStep); !over || why != "" {
					t.Errorf("start: %v %s", over, why)
				}
				w.do(func(tx *store.Tx) error { return w.area.DestroyRouter(tx, w.router(n.ID)) })
				w.settle()
				if _, ok := network.RouterOf(w.read(), n.ID); ok || !w.network(n.ID).RestartNeeded {
					t.Error("not destroyed")
				}
				w.restart(n.ID)
				w.settle()
				if got := w.router(n.ID); got.State != cloud.VMRunning || got.ID == rt.ID || w.network(n.ID).RestartNeeded {
					t.Errorf("after the restart: %+v", got)
				}
				// Stopped, and a VM starts: then the router does as well.
				w.do(func(tx *store.Tx) error { return w.area.StopRouter(tx, w.router(n.ID), true) })
				w.settle()
				if err := w.start(w.vm(n), w.hosts[1]); err != nil {
					t.Fatal(err)
				}
				w.settle()
				if got := w.router(n.ID); got.State != cloud.VMRunning {
					t.Errorf("after the start of a VM: %+v", got)
				}
			})
		}
	}
}
