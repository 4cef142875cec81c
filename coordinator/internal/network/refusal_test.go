package network_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// refused checks code and sentence of a refusal, and that nothing of the transaction stayed.
func (w *world) refused(t *testing.T, code cloud.Code, text string, f func(tx *store.Tx) error) {
	t.Helper()
	before := w.read().Index()
	err := w.update(f)
	switch {
	case err == nil:
		t.Fatalf("accepted; want %q", text)
	case cloud.CodeOf(err) != code || !strings.Contains(err.Error(), text):
		t.Errorf("got  %d %v\nwant %d %s", cloud.CodeOf(err), err, code, text)
	}
	if w.read().Index() != before {
		t.Error("a refusal left a commit")
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

func TestCreateGuestRefuses(t *testing.T) {
	w := newWorld(t, 1)
	for _, c := range []struct {
		name string
		edit func(q *network.GuestRequest)
		code cloud.Code
		text string
	}{
		{"gateway alone", func(q *network.GuestRequest) { q.Gateway = addr("10.2.0.1") }, cloud.Invalid, "Parameters gateway and netmask go together"},
		{"netmask alone", func(q *network.GuestRequest) { q.Netmask = "255.255.255.0" }, cloud.Invalid, "Parameters gateway and netmask go together"},
		{"bad netmask", gw("10.2.0.1", "255.0.255.0"), cloud.Invalid, `Invalid netmask "255.0.255.0"`},
		{"gateway is the network", gw("10.2.0.0", "255.255.255.0"), cloud.Invalid, "it is the first or last address of 10.2.0.0/24"},
		{"gateway is the broadcast", gw("10.2.0.255", "255.255.255.0"), cloud.Invalid, "it is the first or last address of 10.2.0.0/24"},
		{"IPv6 gateway", gw("2001:db8::1", "255.255.255.0"), cloud.Invalid, "must be an IPv4 address"},
		{"loopback", gw("127.0.0.1", "255.255.255.0"), cloud.Invalid, "reserved for another use"},
		{"metadata's own network", gw("169.254.169.1", "255.255.255.0"), cloud.Invalid, "reserved for another use"},
		{"too large for a user", gw("10.0.0.1", "255.255.0.0"), cloud.Invalid, "Cidr size can't be less than 22"},
		{"too small", gw("10.2.0.1", "255.255.255.252"), cloud.Invalid, "no room for a gateway, a service address and a guest"},
		{"overlaps with the public range", gw("198.51.100.1", "255.255.255.0"), cloud.Invalid, "overlaps with the public subnet 198.51.100.0/24"},
		{"range without gateway", func(q *network.GuestRequest) { q.Start = addr("10.1.1.5") }, cloud.Invalid, "gateway and netmask should be defined"},
		{"range outside", func(q *network.GuestRequest) { gw("10.2.0.1", "255.255.255.0")(q); q.Start = addr("10.3.0.5") }, cloud.Invalid, "must rise and lie between 10.2.0.1 and 10.2.0.254"},
		{"range of one", func(q *network.GuestRequest) { gw("10.2.0.1", "255.255.255.0")(q); q.Start = addr("10.2.0.5") }, cloud.Invalid, "no room for"},
		{"end without start", func(q *network.GuestRequest) { gw("10.2.0.1", "255.255.255.0")(q); q.End = addr("10.2.0.5") }, cloud.Invalid, "endip needs startip"},
		{"vlan by a user", func(q *network.GuestRequest) { q.VLAN = "7" }, cloud.Denied, "not allowed to specify vlan"},
		{"vlan where none is taken", func(q *network.GuestRequest) { q.VLAN, q.Admin = "7", true }, cloud.Invalid, "does not take one"},
		{"domain of a bad form", func(q *network.GuestRequest) { q.Domain = "-x.example" }, cloud.Invalid, "Invalid network domain"},
		{"acltype", func(q *network.GuestRequest) { q.ACLType = "Domain" }, cloud.Invalid, "a network of type Isolated has Account"},
		{"source NAT address not there", func(q *network.GuestRequest) { q.SourceNATIP = addr("203.0.113.1") }, cloud.NoCapacity, "203.0.113.1 is not free"},
		{"offering disabled", func(q *network.GuestRequest) {
			o := *q.Offering
			o.State = cloud.OfferingDisabled
			q.Offering = &o
		}, cloud.Invalid, "its state is not Enabled"},
		{"offering of another zone", func(q *network.GuestRequest) {
			o := *q.Offering
			o.ZoneIDs = []cloud.ID{id(9, 9)}
			q.Offering = &o
		}, cloud.Invalid, "is not available in zone z1"},
		{"tags that no physical network has", func(q *network.GuestRequest) {
			o := *q.Offering
			o.Tags = []string{"fast"}
			q.Offering = &o
		}, cloud.Invalid, "No physical network of zone z1"},
		{"zone disabled", func(q *network.GuestRequest) {
			z := *q.Zone
			z.AllocationState = cloud.AllocationDisabled
			q.Zone = &z
		}, cloud.Denied, "zone z1 is currently disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.request("net")
			c.edit(&q)
			w.refused(t, c.code, c.text, func(tx *store.Tx) error {
				_, err := w.area.CreateGuest(tx, q)
				return err
			})
		})
	}
}

func gw(gateway, netmask string) func(q *network.GuestRequest) {
	return func(q *network.GuestRequest) { q.Gateway, q.Netmask = netip.MustParseAddr(gateway), netmask }
}

// A provider that is not enabled serves nobody, and neither does a disabled physical network.
func TestCreateGuestNeedsItsProvider(t *testing.T) {
	w := newWorld(t, 1)
	create := func(tx *store.Tx) error {
		_, err := w.area.CreateGuest(tx, w.request("net"))
		return err
	}
	w.do(func(tx *store.Tx) error {
		p, _ := tables.ServiceProviders.First(tx, "physical_network", store.K(w.physical.ID, network.VirtualRouter))
		return w.area.UpdateProvider(tx, p, "Disabled", nil)
	})
	w.refused(t, cloud.Invalid, "Service provider VirtualRouter", create)
	w.do(func(tx *store.Tx) error {
		p, _ := tables.PhysicalNetworks.Get(tx, w.physical.ID)
		return w.area.UpdatePhysical(tx, p, network.PhysicalChange{State: "disabled"})
	})
	w.refused(t, cloud.Invalid, "Physical network pn is not enabled", create)
}

func TestPhysicalRefuses(t *testing.T) {
	w := newWorld(t, 1)
	zone := *w.zone
	zone.AllocationState = cloud.AllocationDisabled
	create := func(q network.PhysicalRequest) func(tx *store.Tx) error {
		if q.Zone == nil {
			q.Zone = &zone
		}
		return func(tx *store.Tx) error { _, err := w.area.CreatePhysical(tx, q); return err }
	}
	w.refused(t, cloud.Denied, "while the zone is enabled", create(network.PhysicalRequest{Name: "x", Zone: w.zone}))
	w.refused(t, cloud.Invalid, "already exists", create(network.PhysicalRequest{Name: "pn"}))
	w.refused(t, cloud.Invalid, `Isolation method "GRE" is not supported`, create(network.PhysicalRequest{Name: "x", Isolation: []string{"GRE"}}))
	w.refused(t, cloud.Invalid, "Only one isolation method", create(network.PhysicalRequest{Name: "x", Isolation: []string{"VLAN", "VXLAN"}}))
	w.refused(t, cloud.Invalid, "Only one tag", create(network.PhysicalRequest{Name: "x", Tags: []string{"a", "b"}}))
	w.refused(t, cloud.Invalid, `range "1-4095" must rise and lie between 1 and 4094`, create(network.PhysicalRequest{Name: "x", VLANs: "1-4095"}))
	w.refused(t, cloud.Invalid, "overlaps with 5000-5003 of physical network pn",
		create(network.PhysicalRequest{Name: "x", VLANs: "4000-5000", Isolation: []string{"VXLAN"}}))
	w.refused(t, cloud.Invalid, "broadcastdomainrange", create(network.PhysicalRequest{Name: "x", Broadcast: "POD"}))
	traffic := func(row cloud.TrafficType) func(tx *store.Tx) error {
		return func(tx *store.Tx) error { _, err := w.area.AddTraffic(tx, w.physical, row); return err }
	}
	w.refused(t, cloud.Invalid, "already supports the traffic type: Guest", traffic(cloud.TrafficType{Type: "guest"}))
	w.refused(t, cloud.Invalid, `Invalid value "Vpn" of traffictype`, traffic(cloud.TrafficType{Type: "Vpn"}))
	w.refused(t, cloud.Invalid, "Invalid kvmnetworklabel", traffic(cloud.TrafficType{Type: "Storage", KVMLabel: "../../etc"}))
	w.refused(t, cloud.Invalid, "Invalid kvmnetworklabel", traffic(cloud.TrafficType{Type: "Storage", KVMLabel: "a-name-of-16-xxx"}))
	w.refused(t, cloud.InUse, "it has the public range", func(tx *store.Tx) error { return w.area.DeletePhysical(tx, w.physical) })
	n := w.guest("net")
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.refused(t, cloud.InUse, "network net is on it", func(tx *store.Tx) error { return w.area.DeletePhysical(tx, w.physical) })
	less := "5001-5003"
	w.refused(t, cloud.InUse, "cannot lose 5000", func(tx *store.Tx) error {
		p, _ := tables.PhysicalNetworks.Get(tx, w.physical.ID)
		return w.area.UpdatePhysical(tx, p, network.PhysicalChange{VLANs: &less})
	})
	w.refused(t, cloud.Invalid, "enable its element first", func(tx *store.Tx) error {
		p, _ := tables.ServiceProviders.First(tx, "physical_network", store.K(w.physical.ID, "VpcVirtualRouter"))
		return w.area.UpdateProvider(tx, p, "Enabled", nil)
	})
}

func TestRangeRefuses(t *testing.T) {
	w := newWorld(t, 1)
	w.guest("net")
	create := func(edit func(q *network.RangeRequest)) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			q := network.RangeRequest{
				Zone: w.zone, VLAN: "51", Gateway: addr("203.0.113.1"), Netmask: "255.255.255.0", Start: addr("203.0.113.10"), End: addr("203.0.113.20"),
			}
			edit(&q)
			_, err := w.area.CreateRange(tx, q)
			return err
		}
	}
	for _, c := range []struct {
		text string
		edit func(q *network.RangeRequest)
	}{
		{"overlaps with the range 198.51.100.10-198.51.100.15", func(q *network.RangeRequest) {
			q.Gateway, q.Start, q.End = addr("198.51.100.1"), addr("198.51.100.15"), addr("198.51.100.16")
		}},
		{"contains its gateway", func(q *network.RangeRequest) { q.Start = addr("203.0.113.1") }},
		{"must rise", func(q *network.RangeRequest) { q.End = addr("203.0.113.9") }},
		{"must rise and lie between 203.0.113.1 and 203.0.113.254", func(q *network.RangeRequest) { q.End = addr("203.0.113.255") }},
		{`Invalid vlan "4095"`, func(q *network.RangeRequest) { q.VLAN = "4095" }},
		{`Invalid vlan "x"`, func(q *network.RangeRequest) { q.VLAN = "x" }},
		{`Invalid netmask ""`, func(q *network.RangeRequest) { q.Netmask = "" }},
		{"VLAN 50 has gateway 198.51.100.1 in subnet 198.51.100.0/24 already", func(q *network.RangeRequest) {
			q.VLAN, q.Gateway, q.Start, q.End = "50", addr("198.51.100.2"), addr("198.51.100.30"), addr("198.51.100.31")
		}},
		{"overlaps with 10.1.1.0/24 of guest network net", func(q *network.RangeRequest) {
			q.Gateway, q.Start, q.End = addr("10.1.1.1"), addr("10.1.1.10"), addr("10.1.1.11")
		}},
		{"at most 65536 are accepted", func(q *network.RangeRequest) {
			q.Gateway, q.Netmask, q.Start, q.End = addr("11.0.0.1"), "255.0.0.0", addr("11.0.0.2"), addr("11.200.0.0")
		}},
	} {
		t.Run(c.text, func(t *testing.T) { w.refused(t, cloud.Invalid, c.text, create(c.edit)) })
	}
	w.do(create(func(*network.RangeRequest) {})) // the one they all were edited from
}

// An account's own range serves nobody else, and it first; addresses of one router are of one VLAN.
func TestRangesOfAnAccount(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	w.do(func(tx *store.Tx) error {
		_, err := w.area.CreateRange(tx, network.RangeRequest{
			Zone: w.zone, VLAN: "51", Gateway: addr("203.0.113.1"), Netmask: "255.255.255.0", Start: addr("203.0.113.10"), End: addr("203.0.113.11"),
			Owner: w.account,
		})
		return err
	})
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	if got := w.source(n.ID).Address; got != addr("203.0.113.10") {
		t.Errorf("source NAT address %s is not of the account's own range", got)
	}
	w.refused(t, cloud.InUse, "203.0.113.10 is in use", func(tx *store.Tx) error {
		ip, _ := network.SourceNATOf(tx, n.ID)
		v, _ := tables.VLANRanges.Get(tx, ip.RangeID)
		return w.area.DeleteRange(tx, v)
	})
	other := *w.account
	other.ID, other.Name, other.Number = id(3, 2), "bob", 13
	w.do(func(tx *store.Tx) error { return tables.Accounts.Put(tx, &other) })
	var m *cloud.Network
	w.do(func(tx *store.Tx) (err error) {
		q := w.request("bobs")
		q.Owner = &other
		m, err = w.area.CreateGuest(tx, q)
		return err
	})
	var ip *cloud.PublicIP
	w.do(func(tx *store.Tx) (err error) {
		ip, err = w.area.Associate(tx, w.network(m.ID), netip.Addr{})
		return err
	})
	if ip.Address != addr("198.51.100.10") || !ip.SourceNAT || ip.State != cloud.IPAllocated {
		t.Errorf("first address of a network that does not run: %+v", ip)
	}
	associate := func(tx *store.Tx) error {
		_, err := w.area.Associate(tx, w.network(n.ID), netip.Addr{})
		return err
	}
	w.do(associate)
	w.refused(t, cloud.NoCapacity, "none is free in zone z1", associate) // although another VLAN has some
}

// Exhaustion: of VNIs, of guest addresses, of public addresses, of what the account may have.
func TestNoCapacity(t *testing.T) {
	w := newWorld(t, 1)
	var nets []*cloud.Network
	for range 5 {
		n := w.guest("net")
		nets = append(nets, n)
	}
	for i, n := range nets {
		vm := w.vm(n)
		if i < 4 {
			if err := w.start(vm, w.hosts[0]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		w.refused(t, cloud.NoCapacity, `physical network pn has no free VXLAN in its range "5000-5003"`, func(tx *store.Tx) error {
			vm.HostID = w.hosts[0]
			return w.area.Prepare(tx, vm)
		})
	}
	for range 2 {
		w.do(func(tx *store.Tx) error {
			_, err := w.area.Associate(tx, w.network(nets[0].ID), netip.Addr{})
			return err
		})
	}
	w.refused(t, cloud.NoCapacity, "none is free in zone z1", func(tx *store.Tx) error {
		_, err := w.area.Associate(tx, w.network(nets[0].ID), netip.Addr{})
		return err
	})
	w.do(func(tx *store.Tx) error {
		return tables.ResourceLimits.Put(tx, &cloud.ResourceLimit{ID: tx.NewID(), AccountID: w.account.ID, Type: cloud.ResourceNetwork, Max: 5})
	})
	w.refused(t, cloud.LimitExceeded, "'network' for account name=alice", func(tx *store.Tx) error {
		_, err := w.area.CreateGuest(tx, w.request("six"))
		return err
	})
}

func TestGuestAddresses(t *testing.T) {
	w := newWorld(t, 1)
	var n *cloud.Network
	w.do(func(tx *store.Tx) (err error) {
		q := w.request("small")
		q.Gateway, q.Netmask, q.Start, q.End = addr("10.2.0.1"), "255.255.255.0", addr("10.2.0.10"), addr("10.2.0.13")
		n, err = w.area.CreateGuest(tx, q)
		return err
	})
	if n.ServiceIP != addr("10.2.0.13") {
		t.Errorf("service address %s", n.ServiceIP)
	}
	nic := func(q network.NICRequest) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			vm := &cloud.VM{ID: tx.NewID(), ZoneID: w.zone.ID, AccountID: w.account.ID}
			_, err := w.area.AllocateNIC(tx, vm, n, q)
			return err
		}
	}
	w.do(nic(network.NICRequest{IP: addr("10.2.0.11"), MAC: 0x020000000001}))
	w.refused(t, cloud.NoCapacity, "10.2.0.11 is in use", nic(network.NICRequest{IP: addr("10.2.0.11")}))
	w.refused(t, cloud.Invalid, "is where network small serves DHCP and DNS", nic(network.NICRequest{IP: addr("10.2.0.13")}))
	w.refused(t, cloud.Invalid, "is not in the range 10.2.0.10-10.2.0.13", nic(network.NICRequest{IP: addr("10.2.0.1")}))
	w.refused(t, cloud.Invalid, "is not in the range", nic(network.NICRequest{IP: addr("2001:db8::1")}))
	w.refused(t, cloud.Invalid, "MAC address 02:00:00:00:00:01 is in use", nic(network.NICRequest{MAC: 0x020000000001}))
	w.do(nic(network.NICRequest{}))
	w.do(nic(network.NICRequest{}))
	w.refused(t, cloud.NoCapacity, "network small has no free address from 10.2.0.10 to 10.2.0.13", nic(network.NICRequest{}))
}

// Concurrent calls do not get beyond a limit, nor the same address, number or name (2025-69233).
func TestLimitsHoldUnderConcurrency(t *testing.T) {
	w := newWorld(t, 1)
	w.do(func(tx *store.Tx) error {
		return tables.ResourceLimits.Put(tx, &cloud.ResourceLimit{ID: tx.NewID(), AccountID: w.account.ID, Type: cloud.ResourceNetwork, Max: 5})
	})
	n := w.guest("net")
	var wg sync.WaitGroup
	codes := make(chan cloud.Code, 64)
	for i := range 40 {
		wg.Go(func() {
			err := w.update(func(tx *store.Tx) error {
				if i%2 == 0 {
					_, err := w.area.CreateGuest(tx, w.request("more"))
					return err
				}
				vm := &cloud.VM{ID: id(7, byte(i)), ZoneID: w.zone.ID, AccountID: w.account.ID}
				_, err := w.area.AllocateNIC(tx, vm, n, network.NICRequest{})
				return err
			})
			if err != nil {
				codes <- cloud.CodeOf(err)
			}
		})
	}
	wg.Wait()
	close(codes)
	refused := 0
	for c := range codes {
		if c != cloud.LimitExceeded {
			t.Errorf("refused with code %d", c)
		}
		refused++
	}
	if nets := tables.Networks.Len(w.read()); nets != 5 || refused != 16 {
		t.Errorf("%d networks, %d refusals", nets, refused)
	}
	if nics := tables.NICs.Count(w.read(), "network", store.K(n.ID)); nics != 20 {
		t.Errorf("%d NICs", nics)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}
