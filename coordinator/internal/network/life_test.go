package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// state is what an operator would look at first.
func (w *world) state(n cloud.ID) string {
	r := w.read()
	row, ok := tables.Networks.Get(r, n)
	if !ok {
		return "gone"
	}
	text := fmt.Sprintf("%s segment=%d", row.State, row.Segment)
	if rt, ok := network.RouterOf(r, n); ok {
		host := "nowhere"
		if h, ok := tables.Hosts.Get(r, rt.HostID); ok {
			host = h.Name
		}
		text += fmt.Sprintf(" router=%s on %s", rt.State, host)
	}
	return text
}

func (w *world) expect(n cloud.ID, want string) {
	w.t.Helper()
	if got := w.state(n); got != want {
		w.t.Fatalf("got  %s\nwant %s", got, want)
	}
	if err := w.check(); err != nil {
		w.t.Fatal(err)
	}
}

func TestLifeOfANetwork(t *testing.T) {
	w := newWorld(t, 2)
	n := w.guest("net")
	w.expect(n.ID, "Allocated segment=0")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[1]); err != nil {
		t.Fatal(err)
	}
	w.expect(n.ID, "Implementing segment=5000 router=Starting on h2")
	if ready, on, err := w.area.Ready(w.read(), vm); ready || err != nil || len(on) != 1 {
		t.Fatalf("ready before the router runs: %v %v %v", ready, on, err)
	}
	w.observe(w.hosts[0])
	w.expect(n.ID, "Implementing segment=5000 router=Starting on h2")
	w.observe(w.hosts[1])
	w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
	if ready, _, err := w.area.Ready(w.read(), vm); !ready || err != nil {
		t.Fatalf("not ready: %v", err)
	}
	mac, ip := w.router(n.ID).PublicMAC, w.source(n.ID).Address

	// Idle: it stays for network.gc.wait, then leaves the host, then gives its segment back. Address and MAC stay.
	w.stop(vm)
	w.clock.advance(9 * time.Minute)
	w.tend()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
	w.clock.advance(time.Minute)
	w.tend()
	w.expect(n.ID, "Shutdown segment=5000 router=Stopping on h2")
	w.observe(w.hosts[1])
	w.expect(n.ID, "Allocated segment=0 router=Stopped on nowhere")
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	if w.router(n.ID).PublicMAC != mac || w.source(n.ID).Address != ip {
		t.Error("MAC or address changed")
	}

	// A network with NICs is not deleted; without, it goes when its router's host says so.
	err := w.update(func(tx *store.Tx) error { return w.area.Delete(tx, w.network(n.ID)) })
	if cloud.CodeOf(err) != cloud.InUse || !strings.Contains(err.Error(), "vm1 has address 10.1.1.2") {
		t.Fatalf("delete with a VM: %v", err)
	}
	w.stop(vm)
	w.expunge(vm)
	w.do(func(tx *store.Tx) error { return w.area.Delete(tx, w.network(n.ID)) })
	w.expect(n.ID, "Destroy segment=5000 router=Running on h1")
	w.observe(w.hosts[1])
	w.expect(n.ID, "Destroy segment=5000 router=Running on h1")
	w.observe(w.hosts[0])
	w.expect(n.ID, "gone")
	if got := []int64{w.count(cloud.ResourceNetwork), w.count(cloud.ResourcePublicIP)}; !cmp.Equal(got, []int64{0, 0}) {
		t.Errorf("still counted: %v", got)
	}
}

// An observation without news writes nothing.
func TestFoldIsQuiet(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	before := w.read().Index()
	for range 3 {
		w.settle()
		w.tend()
	}
	if after := w.read().Index(); after != before {
		t.Errorf("%d commits without news", after-before)
	}
}

// A host that dies takes no network with it: the router moves, with its MAC and addresses.
func TestRouterMovesOffADeadHost(t *testing.T) {
	w := newWorld(t, 3)
	n := w.guest("net")
	a, b := w.vm(n), w.vm(n)
	for vm, h := range map[*cloud.VM]cloud.ID{a: w.hosts[0], b: w.hosts[2]} {
		if err := w.start(vm, h); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	rt, ip := w.router(n.ID), w.source(n.ID)
	other := w.hosts[0]
	if rt.HostID == other {
		other = w.hosts[2]
	}
	w.setHost(rt.HostID, func(h *cloud.Host) { h.Status = cloud.HostAlert })
	w.tend()
	if got := w.router(n.ID).HostID; got != rt.HostID {
		t.Fatal("the router left a host that may still run it")
	}
	w.setHost(rt.HostID, func(h *cloud.Host) { h.Status = cloud.HostDown })
	w.tend()
	moved := w.router(n.ID)
	if moved.HostID != other || moved.PublicMAC != rt.PublicMAC || moved.ID != rt.ID || w.source(n.ID).ID != ip.ID {
		t.Fatalf("router moved badly: %+v", moved)
	}
	w.observe(other)
	w.expect(n.ID, "Implemented segment=5000 router=Running on "+w.hostName(other))
	// The dead host's row is removed with a router on it: that one moves too.
	w.do(func(tx *store.Tx) error { return tables.Hosts.Delete(tx, other) })
	w.tend()
	w.observe(w.hosts[1])
	w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
}

func (w *world) hostName(id cloud.ID) string {
	h, _ := tables.Hosts.Get(w.read(), id)
	return h.Name
}

func (w *world) setHost(id cloud.ID, f func(*cloud.Host)) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error {
		return tables.Hosts.Edit(tx, id, func(h *cloud.Host) error { f(h); return nil })
	})
}

// Without a host the refusal names each one's reason; a router that lost its host waits and is homed later.
func TestNoHostForARouter(t *testing.T) {
	w := newWorld(t, 2)
	n := w.guest("net")
	vm := w.vm(n)
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.Features = []string{"vlan"} })
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.ResourceState = cloud.HostMaintenance })
	err := w.start(vm, w.hosts[0])
	want := "No host can take the router of network net: host h1: its kernel lacks vxlan; host h2: it is Maintenance"
	if cloud.CodeOf(err) != cloud.NoCapacity || err.Error() != want {
		t.Fatalf("got %v", err)
	}
	w.expect(n.ID, "Allocated segment=0") // nothing half done
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.ResourceState = cloud.HostEnabled })
	if err := w.start(vm, w.hosts[1]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.setHost(w.hosts[1], func(h *cloud.Host) { h.Status = cloud.HostDown })
	w.tend()
	w.expect(n.ID, "Implemented segment=5000 router=Starting on nowhere")
	if why := w.router(n.ID).Error; !strings.Contains(why, "host h2: it is Down") {
		t.Errorf("router says %q", why)
	}
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.Features = []string{"vxlan"} })
	w.tend()
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

// A network that leaves a dead host is not waited for.
func TestLeavingADeadHost(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.stop(vm)
	w.expunge(vm)
	w.do(func(tx *store.Tx) error { return w.area.Delete(tx, w.network(n.ID)) })
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostAlert })
	w.tend()
	w.expect(n.ID, "Destroy segment=5000 router=Running on h1")
	w.setHost(w.hosts[0], func(h *cloud.Host) { h.Status = cloud.HostDown })
	w.tend()
	w.expect(n.ID, "gone")
}

// A host that accepted the spec but cannot settle for another reason, and one that never saw the network.
func TestLeavingWithoutSettling(t *testing.T) {
	for _, c := range []struct {
		name     string
		accepted func(pending uint64) uint64
		after    time.Duration
		want     string
	}{
		{"accepted, at once", func(p uint64) uint64 { return p }, 0, "Destroy segment=5000 router=Running on h1"},
		{"accepted, later", func(p uint64) uint64 { return p }, 10 * time.Second, "gone"},
		{"never seen, later", func(p uint64) uint64 { return p - 1 }, 10 * time.Second, "Destroy segment=5000 router=Running on h1"},
		{"never seen, much later", func(p uint64) uint64 { return p - 1 }, 30 * time.Second, "gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			n := w.guest("net")
			vm := w.vm(n)
			if err := w.start(vm, w.hosts[0]); err != nil {
				t.Fatal(err)
			}
			w.settle()
			w.stop(vm)
			w.expunge(vm)
			w.do(func(tx *store.Tx) error { return w.area.Delete(tx, w.network(n.ID)) })
			o := w.observation(w.hosts[0])
			pending := w.network(n.ID).PendingIndex
			o.SettledGeneration, o.AcceptedGeneration = pending-1, c.accepted(pending)
			w.clock.advance(c.after)
			w.fold(w.hosts[0], o)
			w.expect(n.ID, c.want)
		})
	}
}

func TestRestart(t *testing.T) {
	for _, cleanup := range []bool{false, true} {
		w := newWorld(t, 2)
		n := w.guest("net")
		restart := func() error {
			return w.update(func(tx *store.Tx) error { return w.area.Restart(tx, w.network(n.ID), cleanup) })
		}
		if err := restart(); cloud.CodeOf(err) != cloud.Invalid {
			t.Fatalf("restart of an Allocated network: %v", err)
		}
		if err := w.start(w.vm(n), w.hosts[1]); err != nil {
			t.Fatal(err)
		}
		w.settle()
		before := w.render(w.hosts[1])[0]
		if err := restart(); err != nil {
			t.Fatal(err)
		}
		after := w.render(w.hosts[1])[0]
		if cleanup {
			w.expect(n.ID, "Implemented segment=5000 router=Running on h2") // the one of before goes on
			if after.GetIncarnation() != before.GetIncarnation()+1 || after.GetServices().GetRestarts() != before.GetServices().GetRestarts() {
				t.Error("the replacement does not reach the host")
			}
			old := w.observation(w.hosts[1])
			old.Networks[0].Incarnation, n.Incarnation = 1, 2
			w.do(func(tx *store.Tx) error {
				return tables.Networks.Edit(tx, n.ID, func(n *cloud.Network) error { n.Incarnation = 2; return nil })
			})
			w.fold(w.hosts[1], old)
			if network.Restarted(w.read(), w.network(n.ID)) {
				t.Error("the namespace of before was taken for the new one")
			}
		} else {
			w.expect(n.ID, "Implementing segment=5000 router=Starting on h2")
			if after.GetServices().GetRestarts() != before.GetServices().GetRestarts()+1 {
				t.Error("the restart does not reach the host")
			}
		}
		// An answer about the generation before counts for nothing.
		old := w.observation(w.hosts[1])
		old.Networks[0].Services.AppliedGeneration = before.GetServices().GetGeneration()
		w.fold(w.hosts[1], old)
		if network.Restarted(w.read(), w.network(n.ID)) {
			t.Error("restarted before the host said so")
		}
		w.settle()
		w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
		if !network.Restarted(w.read(), w.network(n.ID)) {
			t.Error("not restarted")
		}
	}
}

func TestPersistentNetworkRunsWithoutVMs(t *testing.T) {
	w := newWorld(t, 1)
	var n *cloud.Network
	w.do(func(tx *store.Tx) error {
		o, err := w.area.CreateOffering(tx, network.OfferingRequest{
			Name: "p", DisplayText: "p", TrafficType: "Guest", GuestType: "Isolated", Enable: true, Persistent: true,
			Services: []string{"dhcp", "dns", "sourcenat", "portforwarding"},
		})
		if err != nil {
			return err
		}
		q := w.request("net")
		q.Offering = o
		n, err = w.area.CreateGuest(tx, q)
		return err
	})
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.stop(vm)
	w.clock.advance(time.Hour)
	w.tend()
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

// Errors of the services reach the router's row, and what asks for it.
func TestTroubleIsTold(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	o := w.observation(w.hosts[0])
	o.Networks[0].Error = "services: no such device"
	w.fold(w.hosts[0], o)
	w.expect(n.ID, "Implementing segment=5000 router=Starting on h1")
	want := "router r-1-VM of network net on host h1, which is Up (services: no such device)"
	if got := network.WaitingFor(w.read(), w.network(n.ID)); got != want {
		t.Errorf("got %q", got)
	}
	w.settle()
	w.expect(n.ID, "Implemented segment=5000 router=Running on h1")
}

func TestPasswordTaken(t *testing.T) {
	w := newWorld(t, 2)
	n := w.guest("net")
	a, b := w.vm(n), w.vm(n)
	for _, vm := range []*cloud.VM{a, b} {
		if err := w.start(vm, w.hosts[1]); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	took := func(host cloud.ID, ip string, epoch uint64) {
		o := w.observation(w.hosts[1])
		o.Networks[0].Services.PasswordsTaken = append(o.Networks[0].Services.PasswordsTaken, passwordTaken(ip, epoch))
		w.fold(host, o)
	}
	password := func(i int) string {
		return w.render(w.hosts[1])[0].GetServices().GetPassword().GetGuests()[i].GetPassword()
	}
	took(w.hosts[1], "10.1.1.2", 7)  // an epoch that there never was
	took(w.hosts[0], "10.1.1.2", 1)  // a host that runs neither the VM nor the router
	took(w.hosts[1], "10.1.1.99", 1) // nobody
	if password(0) != "s3cret" || password(1) != "s3cret" {
		t.Fatalf("passwords: %q %q", password(0), password(1))
	}
	took(w.hosts[1], "10.1.1.2", 1)
	if password(0) != "" || password(1) != "s3cret" {
		t.Errorf("passwords after the first took its own: %q %q", password(0), password(1))
	}
	took(w.hosts[1], "10.1.1.2", 0) // an old report again
	if vm, _ := tables.VMs.Get(w.read(), a.ID); vm.PasswordTaken != 1 {
		t.Errorf("taken %d", vm.PasswordTaken)
	}
}

// deleteHost with forced=true leaves routers to be started elsewhere.
func TestRouterMovesOffARemovedHost(t *testing.T) {
	w := newWorld(t, 2)
	n := w.guest("net")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.do(func(tx *store.Tx) error { // the VM moves, its router stays behind
		vm.HostID = w.hosts[1]
		return tables.VMs.Put(tx, vm)
	})
	w.do(func(tx *store.Tx) error { return infra.RemoveHost(tx, w.hosts[0], true, false, nil) })
	w.tend()
	w.observe(w.hosts[1])
	w.expect(n.ID, "Implemented segment=5000 router=Running on h2")
}
