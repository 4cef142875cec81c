package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// counter counts as the real cloud does.
type counter struct{}

func (counter) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	return identity.Count(tx, account, t, delta)
}

// clock stands still but for what a test does.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a cloud of one advanced zone with a VXLAN physical network, a public range and hosts whose agents do what
// they are told when observe is called.
type world struct {
	t        testing.TB
	r        *replica.Replica
	area     *network.Area
	keeper   *seal.Keeper
	clock    *clock
	log      *bytes.Buffer
	zone     *cloud.Zone
	physical *cloud.PhysicalNetwork
	offering *cloud.NetworkOffering
	account  *cloud.Account
	hosts    []cloud.ID
	vms      uint64
	events   []string
}

func (w *world) event(_ *store.Tx, e *cloud.Event) error {
	w.events = append(w.events, e.Type+" "+e.Description)
	return nil
}

// id makes ids that are the same on every run.
func id(kind, n byte) cloud.ID { return cloud.ID{0: 0xaa, 13: kind, 15: n} }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func newWorld(t testing.TB, hosts int) *world {
	t.Helper()
	keeper, err := seal.New(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, keeper: keeper, clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, log: &bytes.Buffer{}}
	var ids uint64
	w.r = replicatest.NewWith(t, 1, func(c *replica.Config) {
		c.Now = w.clock.Now
		c.NewID = func() cloud.ID {
			ids++
			return cloud.ID{0: 0xbb, 6: 0x40, 8: 0x80, 13: byte(ids >> 16), 14: byte(ids >> 8), 15: byte(ids)}
		}
	}, tables.Schema()...).Nodes[0]
	w.area = &network.Area{Seal: keeper, Counts: counter{}, Sites: compute.Sites{}, Event: w.event, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	w.zone = &cloud.Zone{ID: id(1, 1), Name: "z1", DNS1: addr("192.0.2.53"), GuestCIDR: netip.MustParsePrefix("10.1.1.0/24")}
	domain := &cloud.Domain{ID: id(2, 1), Name: "ROOT", Path: "ROOT"}
	w.account = &cloud.Account{ID: id(3, 1), Name: "alice", DomainID: domain.ID, Number: 12, Type: cloud.UserAccount}
	w.do(func(tx *store.Tx) error {
		err := errors.Join(tables.Zones.Put(tx, w.zone), tables.Domains.Put(tx, domain), tables.Accounts.Put(tx, w.account), w.area.Bootstrap(tx))
		for i := range hosts {
			h := &cloud.Host{
				ID: id(4, byte(i+1)), Name: fmt.Sprintf("h%d", i+1), ZoneID: w.zone.ID, PodID: id(5, 1), Number: uint64(i + 1),
				IP: netip.AddrFrom4([4]byte{172, 16, 0, byte(i + 1)}), Status: cloud.HostUp, ResourceState: cloud.HostEnabled,
				Features: []string{"vlan", "vxlan"},
			}
			w.hosts = append(w.hosts, h.ID)
			err = errors.Join(err, tables.Hosts.Put(tx, h))
		}
		return err
	})
	w.do(func(tx *store.Tx) error {
		var err error
		w.physical, err = w.area.CreatePhysical(tx, network.PhysicalRequest{Zone: w.zone, Name: "pn", VLANs: "5000-5003", Isolation: []string{"vxlan"}})
		if err != nil {
			return err
		}
		state, on := "Enabled", func(e error) { err = errors.Join(err, e) }
		for traffic, bridge := range map[string]string{"Public": "pubbr0", "Guest": "eth0"} {
			_, e := w.area.AddTraffic(tx, w.physical, cloud.TrafficType{Type: traffic, KVMLabel: bridge})
			on(e)
		}
		p, _ := tables.ServiceProviders.First(tx, "physical_network", store.K(w.physical.ID, network.VirtualRouter))
		e, _ := tables.RouterElements.First(tx, "provider", store.K(p.ID))
		on(w.area.ConfigureElement(tx, e, true))
		on(w.area.UpdateProvider(tx, p, state, nil))
		on(w.area.UpdatePhysical(tx, w.physical, network.PhysicalChange{State: state}))
		w.zone.AllocationState = cloud.AllocationEnabled
		on(tables.Zones.Put(tx, w.zone))
		_, e2 := w.area.CreateRange(tx, network.RangeRequest{
			Zone: w.zone, VLAN: "50", Gateway: addr("198.51.100.1"), Netmask: "255.255.255.0", Start: addr("198.51.100.10"), End: addr("198.51.100.15"),
		})
		on(e2)
		w.offering, _ = tables.NetworkOfferings.First(tx, "name", store.K(network.DefaultOffering))
		return err
	})
	return w
}

func (w *world) update(f func(tx *store.Tx) error) error {
	return w.r.Update(context.Background(), f)
}

// do is update that must succeed.
func (w *world) do(f func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.update(f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read() store.Reader { return w.r.DB().Current() }

func (w *world) request(name string) network.GuestRequest {
	return network.GuestRequest{Name: name, DisplayText: name, Zone: w.zone, Offering: w.offering, Owner: w.account}
}

// guest creates a network.
func (w *world) guest(name string) *cloud.Network {
	w.t.Helper()
	var n *cloud.Network
	w.do(func(tx *store.Tx) (err error) {
		n, err = w.area.CreateGuest(tx, w.request(name))
		return err
	})
	return n
}

// vm writes a stopped VM with a NIC in each network.
func (w *world) vm(nets ...*cloud.Network) *cloud.VM {
	w.t.Helper()
	var vm *cloud.VM
	w.do(func(tx *store.Tx) (err error) {
		vm, err = w.putVM(tx, nets...)
		return err
	})
	return vm
}

func (w *world) putVM(tx *store.Tx, nets ...*cloud.Network) (*cloud.VM, error) {
	w.vms++
	vm := &cloud.VM{
		ID: id(6, byte(w.vms)), Name: fmt.Sprintf("vm%d", w.vms), AccountID: w.account.ID, DomainID: w.account.DomainID, ZoneID: w.zone.ID,
		InstanceName: fmt.Sprintf("i-12-%d-VM", w.vms), PublicKey: "ssh-ed25519 AAAA alice", UserData: w.keeper.Seal("#!/bin/sh\n"),
		Password: w.keeper.Seal("s3cret"), PasswordEpoch: 1,
	}
	if err := tables.VMs.Put(tx, vm); err != nil {
		return nil, err
	}
	for i, n := range nets {
		n, ok := tables.Networks.Get(tx, n.ID)
		if !ok {
			return nil, errors.New("no such network")
		}
		if _, err := w.area.AllocateNIC(tx, vm, n, network.NICRequest{Default: i == 0, DeviceID: uint32(i)}); err != nil {
			return nil, err
		}
	}
	return vm, nil
}

// start puts a VM on a host, as compute does.
func (w *world) start(vm *cloud.VM, host cloud.ID) error {
	return w.update(func(tx *store.Tx) error {
		vm.HostID, vm.State = host, cloud.VMRunning
		return errors.Join(w.area.Prepare(tx, vm), tables.VMs.Put(tx, vm))
	})
}

// stop takes a VM off its host.
func (w *world) stop(vm *cloud.VM) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error {
		err := w.area.Release(tx, vm)
		vm.HostID, vm.State = cloud.ID{}, cloud.VMStopped
		return errors.Join(err, tables.VMs.Put(tx, vm))
	})
}

// expunge removes a stopped VM.
func (w *world) expunge(vm *cloud.VM) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error { return errors.Join(w.area.FreeNICs(tx, vm), tables.VMs.Delete(tx, vm.ID)) })
}

// render is a host's networks, generations set as hostlink does.
func (w *world) render(host cloud.ID) []*hostspec.Network {
	w.t.Helper()
	r := w.r.DB().Current()
	var list []*hostspec.Network
	for _, id := range hostplan.Carried(r, host) {
		n, ok := tables.Networks.Get(r, id)
		if !ok {
			continue
		}
		if spec := w.area.Render(r, host, n); spec != nil {
			if spec.Services != nil {
				spec.Services.Generation = r.Index()
			}
			list = append(list, spec)
		}
	}
	return list
}

// observe has a host do all it is told and report so.
func (w *world) observe(host cloud.ID) {
	w.t.Helper()
	w.fold(host, w.observation(host))
}

func (w *world) observation(host cloud.ID) *hostspec.HostObservation {
	o := &hostspec.HostObservation{HostId: host.String(), AcceptedGeneration: w.read().Index(), SettledGeneration: w.read().Index()}
	for _, n := range w.render(host) {
		o.Networks = append(o.Networks, &hostspec.NetworkObservation{
			Id: n.GetId(), Ready: true, Incarnation: n.GetIncarnation(), LinksGeneration: w.read().Index(),
			Services: &netspec.Observation{
				NetworkId: n.GetId(), AppliedGeneration: n.GetServices().GetGeneration(), TriedGeneration: n.GetServices().GetGeneration(), Version: "1.0",
			},
		})
	}
	for _, vm := range w.renderSystem(host).GetSystemVms() {
		s := booted(vm)
		if vm.GetStandby() {
			s.UnpluggedGeneration = w.read().Index()
		}
		o.SystemVms = append(o.SystemVms, s)
	}
	return o
}

// renderSystem is a host's system VMs, generations set as hostlink does.
func (w *world) renderSystem(host cloud.ID) *hostspec.HostSpec {
	w.t.Helper()
	r := w.r.DB().Current()
	s := &hostspec.HostSpec{}
	h, ok := tables.Hosts.Get(r, host)
	if !ok {
		return s
	}
	if err := w.area.RenderSystem(r, h, s); err != nil {
		w.t.Fatal(err)
	}
	for _, vm := range s.SystemVms {
		vm.Services.Generation = r.Index()
	}
	return s
}

// booted is what an agent says of a system VM when it is as it shall be.
func booted(vm *hostspec.SystemVM) *hostspec.SystemVMObservation {
	o := &hostspec.SystemVMObservation{Vm: &hostspec.VirtualMachineObservation{
		Id: vm.GetId(), State: hostspec.VmState_VM_STATE_STOPPED, StopCause: hostspec.StopCause_STOP_CAUSE_WANTED,
		StartEpoch: vm.GetStartEpoch(), BootEpoch: vm.GetBootEpoch(),
	}}
	if vm.GetPower() == hostspec.PowerState_POWER_STATE_STOPPED {
		return o
	}
	o.Vm.State, o.Vm.StopCause, o.Vm.VncPort = hostspec.VmState_VM_STATE_RUNNING, hostspec.StopCause_STOP_CAUSE_UNSPECIFIED, 5900
	o.Connected, o.ImageVersion = !vm.GetStandby(), "v-"+vm.GetImageSha256()[:4]
	o.Services = &netspec.Observation{
		NetworkId: vm.GetServices().GetNetworkId(), AppliedGeneration: vm.GetServices().GetGeneration(), Version: "1.0",
	}
	return o
}

func (w *world) fold(host cloud.ID, o *hostspec.HostObservation) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error { return w.area.Fold(tx, host, o) })
}

// settle has all hosts observe.
func (w *world) settle() {
	w.t.Helper()
	for _, h := range w.hosts {
		w.observe(h)
	}
}

func (w *world) tend() {
	w.t.Helper()
	w.do(w.area.Tend)
}

func (w *world) network(id cloud.ID) *cloud.Network {
	w.t.Helper()
	n, ok := tables.Networks.Get(w.read(), id)
	if !ok {
		w.t.Fatalf("network %s is gone", id)
	}
	return n
}

func (w *world) router(n cloud.ID) *cloud.Router {
	w.t.Helper()
	rt, ok := network.RouterOf(w.read(), n)
	if !ok {
		w.t.Fatalf("network %s has no router", n)
	}
	return rt
}

func (w *world) source(n cloud.ID) *cloud.PublicIP {
	w.t.Helper()
	ip, ok := network.SourceNATOf(w.read(), n)
	if !ok {
		w.t.Fatalf("network %s has no source NAT address", n)
	}
	return ip
}

// count is what the account is charged for.
func (w *world) count(t cloud.ResourceType) int64 { return identity.Counted(w.read(), w.account.ID, t) }

// check recounts what rows are there and compares, and looks at every invariant of DESIGN.md.
func (w *world) check() error {
	r := w.read()
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	nets, ips := map[cloud.ID]int64{}, map[cloud.ID]int64{}
	for ip := range tables.PublicIPs.All(r) {
		if ip.AccountID.IsZero() != (ip.State == cloud.IPFree) || ip.State == cloud.IPFree && !ip.NetworkID.IsZero() {
			fail("address %s is %s with account %q and network %q", ip.Address, ip.State, ip.AccountID, ip.NetworkID)
		}
		if ip.State != cloud.IPFree {
			ips[ip.AccountID]++
		}
	}
	for n := range tables.Networks.All(r) {
		nets[n.AccountID]++
		rt, routed := network.RouterOf(r, n.ID)
		switch n.State {
		case cloud.NetworkAllocated:
			if n.Segment != 0 || routed && !rt.HostID.IsZero() {
				fail("network %s is Allocated and holds segment %d", n.Name, n.Segment)
			}
		case cloud.NetworkImplementing, cloud.NetworkImplemented:
			if n.Segment == 0 || !routed && !n.RestartNeeded {
				fail("network %s is %s without segment or router", n.Name, n.State)
			}
		}
		seen := map[netip.Addr]bool{n.Gateway: true, n.ServiceIP: true}
		for nic := range tables.NICs.By(r, "network", store.K(n.ID)) {
			if seen[nic.IP] || !n.CIDR.Contains(nic.IP) {
				fail("NIC has %s in %s", nic.IP, n.CIDR)
			}
			seen[nic.IP] = true
		}
	}
	used := map[cloud.ID]cloud.HostCapacity{}
	for rt := range tables.Routers.All(r) {
		if !tables.Networks.Has(r, rt.NetworkID) {
			fail("router %s outlives its network", rt.Name)
		}
		if rt.HostID.IsZero() != (rt.State == cloud.VMStopped || rt.State == cloud.VMError) && rt.State != cloud.VMStarting && rt.State != cloud.VMStopping {
			fail("router %s is %s with host %q", rt.Name, rt.State, rt.HostID)
		}
		if rt.Placement == cloud.InVM && !rt.HostID.IsZero() {
			c := used[rt.HostID]
			c.CPUMHz, c.MemoryMiB, c.VMs = c.CPUMHz+uint64(rt.CPUs)*uint64(rt.CPUMHz), c.MemoryMiB+uint64(rt.MemoryMiB), c.VMs+1
			used[rt.HostID] = c
			if !rt.ControlIP.IsLinkLocalUnicast() || rt.PoolID.IsZero() || rt.SHA256 == "" {
				fail("router %s has control address %s, pool %s, image %q", rt.Name, rt.ControlIP, rt.PoolID, rt.SHA256)
			}
		}
	}
	for _, h := range w.hosts {
		c, _ := tables.HostCapacities.Get(r, h)
		if c == nil {
			c = &cloud.HostCapacity{}
		}
		if u := used[h]; u.CPUMHz != c.CPUMHz || u.MemoryMiB != c.MemoryMiB || u.VMs != c.VMs {
			fail("host %s counts %d MHz, %d MiB, %d VMs; its routers have %d, %d, %d", h, c.CPUMHz, c.MemoryMiB, c.VMs, u.CPUMHz, u.MemoryMiB, u.VMs)
		}
	}
	for a := range tables.Accounts.All(r) {
		if got := identity.Counted(r, a.ID, cloud.ResourceNetwork); got != nets[a.ID] {
			fail("%d networks counted for %s, %d there", got, a.Name, nets[a.ID])
		}
		if got := identity.Counted(r, a.ID, cloud.ResourcePublicIP); got != ips[a.ID] {
			fail("%d addresses counted for %s, %d in use", got, a.Name, ips[a.ID])
		}
	}
	for f := range tables.FirewallRules.All(r) {
		if !tables.Networks.Has(r, f.NetworkID) {
			fail("firewall rule %s outlives its network", f.ID)
		}
	}
	for p := range tables.PortForwardingRules.All(r) {
		if !tables.Networks.Has(r, p.NetworkID) || p.State != cloud.RuleRevoke && !slices.Contains(slices.Collect(tables.VMs.IDs(r, "zone", nil)), p.VMID) {
			fail("forwarding rule %s outlives its network or VM", p.ID)
		}
	}
	return errors.Join(errs...)
}

func passwordTaken(ip string, epoch uint64) *netspec.PasswordTaken {
	return &netspec.PasswordTaken{Ip: ip, Epoch: epoch}
}
