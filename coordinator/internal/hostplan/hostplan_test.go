package hostplan_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

var keeper, _ = seal.New(bytes.Repeat([]byte{3}, 32))

// plan is the product's own.
func plan() hostplan.Renderers {
	net := &network.Area{Seal: keeper, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	vms := &compute.Area{Net: net, Seal: keeper}
	return hostplan.Renderers{
		Compute: vms.Render,
		Network: func(r store.Reader, h *cloud.Host, n *cloud.Network) (*hostspec.Network, error) {
			return net.Render(r, h.ID, n), nil
		},
		Pools: storage.RenderPools,
	}
}

func id(kind byte, n int) cloud.ID { return cloud.ID{kind, 15: byte(n + 1)} }

// world is a random cloud, as the writes that make it.
type world struct {
	hosts, networks, vms int
	hostOf               map[int]int   // VM -> host, -1 none
	networksOf           map[int][]int // VM -> networks
	routerOn             map[int]int   // network -> host, -1 none
	writes               []func(tx *store.Tx) error
}

func secrets(vm int) []string {
	return []string{fmt.Sprintf("user-data-of-%d;", vm), fmt.Sprintf("password-of-%d;", vm), fmt.Sprintf("vnc-of-%d;", vm)}
}

func draw(t *rapid.T) *world {
	w := &world{
		hosts: rapid.IntRange(1, 4).Draw(t, "hosts"), networks: rapid.IntRange(1, 3).Draw(t, "networks"), vms: rapid.IntRange(0, 7).Draw(t, "vms"),
		hostOf: map[int]int{}, networksOf: map[int][]int{}, routerOn: map[int]int{},
	}
	put := func(f func(tx *store.Tx) error) { w.writes = append(w.writes, f) }
	offering := &cloud.NetworkOffering{ID: id('o', 0), Name: "o"}
	for _, s := range []string{"Dhcp", "Dns", "UserData", "SourceNat", "Firewall", "PortForwarding"} {
		offering.Services = append(offering.Services, cloud.OfferedService{Name: s, Providers: []string{"VirtualRouter"}})
	}
	put(func(tx *store.Tx) error { return tables.NetworkOfferings.Put(tx, offering) })
	put(func(tx *store.Tx) error {
		return tables.Zones.Put(tx, &cloud.Zone{ID: id('z', 0), Name: "z", DNS1: netip.MustParseAddr("192.0.2.53")})
	})
	for h := range w.hosts {
		put(func(tx *store.Tx) error {
			return tables.Hosts.Put(tx, &cloud.Host{
				ID: id('h', h), Name: fmt.Sprint("h", h), Number: uint64(h + 1), ZoneID: id('z', 0), ClusterID: id('c', 0),
				IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + h)}), Status: cloud.HostUp, ResourceState: cloud.HostEnabled,
			})
		})
		put(func(tx *store.Tx) error {
			return tables.StoragePools.Put(tx, &cloud.StoragePool{ID: id('p', h), Name: "p", ZoneID: id('z', 0), HostID: id('h', h), Path: "/pool", State: cloud.PoolUp})
		})
	}
	for n := range w.networks {
		w.routerOn[n] = rapid.IntRange(-1, w.hosts-1).Draw(t, "router")
		w.network(n, put)
	}
	for v := range w.vms {
		w.hostOf[v] = rapid.IntRange(-1, w.hosts-1).Draw(t, "host")
		w.networksOf[v] = rapid.SliceOfNDistinct(rapid.IntRange(0, w.networks-1), 1, w.networks, rapid.ID[int]).Draw(t, "nics")
		w.vm(v, put)
	}
	return w
}

func (w *world) network(n int, put func(func(tx *store.Tx) error)) {
	cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(n), 0}), 24)
	put(func(tx *store.Tx) error {
		return tables.Networks.Put(tx, &cloud.Network{
			ID: id('n', n), Name: fmt.Sprint("net", n), AccountID: id('a', n), ZoneID: id('z', 0), OfferingID: id('o', 0), PhysicalNetworkID: id('x', 0),
			State: cloud.NetworkImplemented, CIDR: cidr, Gateway: cidr.Addr().Next(), ServiceIP: cidr.Addr().Next().Next(), Isolation: "VXLAN",
			Segment: uint32(1000 + n), Number: uint64(n + 1), GatewayMAC: 0x020000000100 + uint64(n), ServiceMAC: 0x020000000200 + uint64(n), MTU: 1450,
		})
	})
	put(func(tx *store.Tx) error {
		r := &cloud.Router{ID: id('r', n), Name: fmt.Sprint("r-", n), NetworkID: id('n', n), State: cloud.VMRunning, PublicMAC: 0x020000000300 + uint64(n)}
		if on := w.routerOn[n]; on >= 0 {
			r.HostID = id('h', on)
		}
		return tables.Routers.Put(tx, r)
	})
}

func (w *world) vm(v int, put func(func(tx *store.Tx) error)) {
	s := secrets(v)
	// Sealing has a random part; a row holds the sealed text, so both orders of writing must write the same.
	userData, password, vnc := keeper.Seal(s[0]), keeper.Seal(s[1]), keeper.Seal(s[2])
	put(func(tx *store.Tx) error {
		vm := &cloud.VM{
			ID: id('v', v), Name: fmt.Sprint("vm", v), InstanceName: fmt.Sprint("i-", v), ZoneID: id('z', 0), State: cloud.VMRunning,
			UserData: userData, Password: password, PasswordEpoch: 1, VNCPassword: vnc, StartEpoch: 1, CPUs: 1, MemoryMiB: 128,
		}
		if on := w.hostOf[v]; on >= 0 {
			vm.HostID = id('h', on)
		} else {
			vm.State = cloud.VMStopped
		}
		return tables.VMs.Put(tx, vm)
	})
	for i, n := range w.networksOf[v] {
		put(func(tx *store.Tx) error {
			return tables.NICs.Put(tx, &cloud.NIC{
				ID: cloud.ID{'i', 14: byte(v), 15: byte(i)}, VMID: id('v', v), NetworkID: id('n', n), MAC: 0x020000010000 + uint64(v)<<8 + uint64(i),
				IP: netip.AddrFrom4([4]byte{10, 1, byte(n), byte(10 + v)}), Default: i == 0, DeviceID: uint32(i),
			})
		})
	}
}

// build makes the state by its writes in the given order.
func (w *world) build(t *rapid.T, order []int) store.Reader {
	db := store.NewDB(tables.Schema()...)
	b := db.NewBatch(db.Current())
	for _, i := range order {
		if _, err := b.Run(w.writes[i], time.Unix(0, 0), func() cloud.ID { panic("no ids are made here") }); err != nil {
			t.Fatal(err)
		}
	}
	ws, _ := b.Seal()
	if err := db.Apply(ws); err != nil {
		t.Fatal(err)
	}
	return db.Current()
}

func render(t *rapid.T, p hostplan.Renderers, r store.Reader, host cloud.ID) (*hostspec.HostSpec, []byte) {
	h, ok := tables.Hosts.Get(r, host)
	if !ok {
		t.Fatalf("host %s is not there", host)
	}
	s, err := p.Render(r, h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

// TestProperties: the same rows give the same bytes however they came to be; lists are sorted; and a host is told the
// secrets of the VMs that it runs, and of those whose router it runs, and no others'.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, p := draw(t), plan()
		order := make([]int, len(w.writes))
		for i := range order {
			order[i] = i
		}
		one := w.build(t, order)
		other := w.build(t, rapid.Permutation(order).Draw(t, "order"))
		for h := range w.hosts {
			s, b := render(t, p, one, id('h', h))
			s2, b2 := render(t, plan(), other, id('h', h))
			if !bytes.Equal(b, b2) {
				t.Fatalf("host %d: the same rows give two specs:\n%s", h, cmp.Diff(s.String(), s2.String()))
			}
			if d1, _ := hostplan.Digest(s); d1 != must(hostplan.Digest(s2)) {
				t.Fatal("the same spec has two digests")
			}
			checkSorted(t, s)
			for v := range w.vms {
				w.checkSecrets(t, h, v, b)
			}
			var want []cloud.ID
			for n := range w.networks {
				if w.carries(h, n) {
					want = append(want, id('n', n))
				}
			}
			if got := hostplan.Carried(one, id('h', h)); !slices.Equal(got, want) || len(s.GetNetworks()) != len(want) {
				t.Fatalf("host %d carries %v and is told of %d networks, want %v", h, got, len(s.GetNetworks()), want)
			}
		}
	})
}

func must[T any](v T, _ error) T { return v }

func (w *world) carries(h, n int) bool {
	if w.routerOn[n] == h {
		return true
	}
	for v := range w.vms {
		if w.hostOf[v] == h && slices.Contains(w.networksOf[v], n) {
			return true
		}
	}
	return false
}

func (w *world) checkSecrets(t *rapid.T, h, v int, spec []byte) {
	runs := w.hostOf[v] == h
	routes := false
	for _, n := range w.networksOf[v] {
		routes = routes || w.routerOn[n] == h && w.hostOf[v] >= 0
	}
	told := []bool{runs || routes, runs || routes, runs}
	for i, s := range secrets(v) {
		if got := bytes.Contains(spec, []byte(s)); got != told[i] {
			t.Fatalf("host %d (runs VM %d: %v, its router: %v) is told %q: %v", h, v, runs, routes, s, got)
		}
	}
}

func checkSorted(t *rapid.T, s *hostspec.HostSpec) {
	var vms, nets, pools, vols []string
	for _, x := range s.GetVms() {
		vms = append(vms, x.GetId())
	}
	for _, x := range s.GetNetworks() {
		nets = append(nets, x.GetId())
	}
	for _, x := range s.GetPools() {
		pools = append(pools, x.GetId())
	}
	for _, x := range s.GetVolumes() {
		vols = append(vols, x.GetId())
	}
	for _, l := range [][]string{vms, nets, pools, vols} {
		if !slices.IsSorted(l) || len(slices.Compact(slices.Clone(l))) != len(l) {
			t.Fatalf("a list is not sorted, or names something twice: %v", l)
		}
	}
}

// TestScope: whatever changes in a spec, the index has named the host or a network it carries.
func TestScope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, p := draw(t), plan()
		db := store.NewDB(tables.Schema()...)
		apply := func(fs ...func(tx *store.Tx) error) {
			b := db.NewBatch(db.Current())
			for _, f := range fs {
				if _, err := b.Run(f, time.Unix(0, 0), func() cloud.ID { panic("no ids are made here") }); err != nil {
					t.Fatal(err)
				}
			}
			ws, _ := b.Seal()
			if err := db.Apply(ws); err != nil {
				t.Fatal(err)
			}
		}
		apply(w.writes...)
		index := hostplan.NewIndex(db.Current())
		watch := db.Watch(hostplan.Watched()...)
		defer watch.Close()
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			before := db.Current()
			apply(w.change(t))
			touched, ok := watch.Touched()
			if !ok {
				t.Fatal("the watch has lost count")
			}
			now := db.Current()
			scope := index.Scope(now, touched)
			for h := range w.hosts {
				host := id('h', h)
				was, b1 := render(t, p, before, host)
				is, b2 := render(t, p, now, host)
				named := scope.All || scope.Hosts[host]
				for _, n := range append(was.GetNetworks(), is.GetNetworks()...) {
					nid, _ := cloud.ParseID(n.GetId())
					named = named || scope.Networks[nid]
				}
				if !bytes.Equal(b1, b2) && !named {
					t.Fatalf("host %d was not named by %v:\n%s", h, touched, cmp.Diff(was.String(), is.String()))
				}
			}
		}
	})
}

// change is one random change of the world.
func (w *world) change(t *rapid.T) func(tx *store.Tx) error {
	pick := func(what string, n int) int { return rapid.IntRange(0, max(n-1, 0)).Draw(t, what) }
	v, n, h := id('v', pick("vm", w.vms)), id('n', pick("network", w.networks)), id('h', pick("host", w.hosts))
	ignore := func(err error) error { // what was removed by an earlier step
		var gone *store.NotFound
		if err != nil && !errors.As(err, &gone) {
			return err
		}
		return nil
	}
	changes := []func(tx *store.Tx) error{
		func(tx *store.Tx) error {
			return ignore(tables.VMs.Edit(tx, v, func(r *cloud.VM) error { r.HostID = h; r.State = cloud.VMRunning; return nil }))
		},
		func(tx *store.Tx) error {
			return ignore(tables.VMs.Edit(tx, v, func(r *cloud.VM) error { r.HostID = cloud.ID{}; r.State = cloud.VMStopped; return nil }))
		},
		func(tx *store.Tx) error {
			return ignore(tables.VMs.Edit(tx, v, func(r *cloud.VM) error { r.BootEpoch++; return nil }))
		},
		func(tx *store.Tx) error {
			for nic := range tables.NICs.By(tx, "vm", store.K(v)) {
				if err := tables.NICs.Delete(tx, nic.ID); err != nil {
					return err
				}
			}
			return tables.VMs.Delete(tx, v)
		},
		func(tx *store.Tx) error {
			return ignore(tables.Networks.Edit(tx, n, func(r *cloud.Network) error { r.Epoch++; return nil }))
		},
		func(tx *store.Tx) error {
			r, ok := tables.Routers.First(tx, "network", store.K(n))
			if !ok {
				return nil
			}
			r.HostID = h
			return tables.Routers.Put(tx, r)
		},
		func(tx *store.Tx) error {
			r, ok := tables.Routers.First(tx, "network", store.K(n))
			if !ok {
				return nil
			}
			return tables.Routers.Delete(tx, r.ID)
		},
		func(tx *store.Tx) error {
			return ignore(tables.Hosts.Edit(tx, h, func(r *cloud.Host) error { r.IP = r.IP.Next(); return nil }))
		},
		func(tx *store.Tx) error {
			return ignore(tables.Zones.Edit(tx, id('z', 0), func(r *cloud.Zone) error { r.DNS1 = r.DNS1.Next(); return nil }))
		},
		func(tx *store.Tx) error {
			return tables.StoragePools.Put(tx, &cloud.StoragePool{ID: id('q', 0), ZoneID: id('z', 0), Kind: cloud.PoolSharedMountPoint, Path: "/mnt/" + h.String(), State: cloud.PoolUp})
		},
		func(tx *store.Tx) error {
			return ignore(tables.StoragePools.Edit(tx, id('q', 0), func(p *cloud.StoragePool) error {
				p.State = cloud.PoolUp + cloud.PoolMaintenance - p.State
				return nil
			}))
		},
	}
	return changes[pick("change", len(changes))]
}
