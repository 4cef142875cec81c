package fabric

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

const inside = "WISP_FABRIC_TEST_INSIDE"

// TestMain runs the tests in network and mount namespaces of their own, which end with them.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// newUnderlay makes a fresh /run/netns, an underlay eth0 and a bridge for public traffic.
func newUnderlay(t *testing.T) *Fabric {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root: makes links in a namespace")
	}
	if err := os.MkdirAll(NamespaceDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", NamespaceDir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		links, err := netlink.LinkList()
		if err != nil {
			t.Error(err)
		}
		for _, l := range links {
			if l.Attrs().Name != "lo" {
				_ = netlink.LinkDel(l)
			}
		}
		if err := unix.Unmount(NamespaceDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
	ip(t, "addr", "add", "10.0.0.1/24", "dev", "eth0")
	ip(t, "link", "set", "eth0", "up")
	ip(t, "link", "set", "far0", "up")
	ip(t, "link", "add", "cloudbr1", "type", "bridge")
	ip(t, "link", "set", "cloudbr1", "up")
	// Somebody else's, with a name that looks like ours.
	ip(t, "link", "add", "wbr99", "type", "bridge")
	return New(Config{Log: slog.New(slog.DiscardHandler)})
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func vxlan(n uint32, peers ...string) *hostspec.Network {
	return &hostspec.Network{
		Id: id(int(n)), Number: n, Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: 5000 + n, Peers: peers,
	}
}

// served adds services with their legs.
func served(n *hostspec.Network, legs ...*hostspec.Leg) *hostspec.Network {
	n.Services = &netspec.NetSpec{NetworkId: n.GetId()}
	n.Legs = legs
	return n
}

func svc() *hostspec.Leg {
	return &hostspec.Leg{Name: "svc0", Mac: "02:00:00:00:00:01", Isolated: true}
}
func gw() *hostspec.Leg { return &hostspec.Leg{Name: "gw0", Mac: "02:00:00:00:00:02"} }
func pub() *hostspec.Leg {
	return &hostspec.Leg{Name: "pub0", Mac: "02:00:00:00:00:03", Bridge: "cloudbr1"}
}

// picture prints all links of ours and what is in our namespaces, with hashes replaced by what they stand for.
func picture(t *testing.T) string {
	t.Helper()
	shot, err := look()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for name, l := range shot.byName {
		if !shot.ours(l) {
			continue
		}
		a := l.Attrs()
		line := fmt.Sprintf("%s %s mtu %d", plainName(name), l.Type(), a.MTU)
		if m := shot.byIndex[a.MasterIndex]; m != nil {
			line += " in " + plainName(m.Attrs().Name)
		}
		if shot.isolated[a.Index] {
			line += " isolated"
		}
		if a.Flags&net.FlagUp == 0 {
			line += " down"
		}
		if v, ok := l.(*netlink.Vxlan); ok {
			line += fmt.Sprintf(" vni %d local %s peers%s", v.VxlanId, v.SrcAddr, floods(t, l))
		}
		lines = append(lines, line)
	}
	ids, err := namespaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range ids {
		var members []string
		for _, l := range strings.Split(ip(t, "-n", NamespaceName(n), "-br", "link"), "\n") {
			if f := strings.Fields(l); len(f) > 2 && f[0] != "lo" {
				name, _, _ := strings.Cut(f[0], "@")
				members = append(members, " "+name+" "+f[2])
			}
		}
		sort.Strings(members)
		lines = append(lines, "namespace "+n[len(n)-2:]+strings.Join(members, ""))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func floods(t *testing.T, l netlink.Link) string {
	entries, err := netlink.NeighList(l.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if len(e.IP) > 0 {
			out = append(out, " "+e.IP.String())
		}
	}
	sort.Strings(out)
	return strings.Join(out, "")
}

// plainName replaces the hashed names of the test's networks.
func plainName(name string) string {
	for n := range 10 {
		for _, leg := range []string{"svc0", "gw0", "pub0"} {
			if name == legName(id(n), leg) {
				return fmt.Sprintf("leg(%d,%s)", n, leg)
			}
		}
	}
	return name
}

type step struct {
	name     string
	networks []*hostspec.Network
	picture  string
}

func steps() []step {
	return []step{
		{"nothing", nil, ""},
		{"a network without services", []*hostspec.Network{vxlan(1)}, `
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers`},
		{"peers", []*hostspec.Network{vxlan(1, "10.0.0.3", "10.0.0.1", "10.0.0.2")}, `
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers 10.0.0.2 10.0.0.3`},
		{"another peer", []*hostspec.Network{vxlan(1, "10.0.0.3", "10.0.0.4")}, `
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers 10.0.0.3 10.0.0.4`},
		{"services", []*hostspec.Network{served(vxlan(1), svc())}, `
leg(1,svc0) veth mtu 1450 in wbr1 isolated
namespace 01 svc0 02:00:00:00:00:01
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers`},
		{"a router", []*hostspec.Network{served(vxlan(1), svc(), gw(), pub())}, `
leg(1,gw0) veth mtu 1450 in wbr1
leg(1,pub0) veth mtu 1500 in cloudbr1
leg(1,svc0) veth mtu 1450 in wbr1 isolated
namespace 01 gw0 02:00:00:00:00:02 pub0 02:00:00:00:00:03 svc0 02:00:00:00:00:01
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers`},
		{"two networks, one of its own mtu", []*hostspec.Network{served(vxlan(1), svc()), func() *hostspec.Network {
			n := vxlan(2)
			n.Mtu = 1300
			return n
		}()}, `
leg(1,svc0) veth mtu 1450 in wbr1 isolated
namespace 01 svc0 02:00:00:00:00:01
wbr1 bridge mtu 1450
wbr2 bridge mtu 1300
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers
wvx2 vxlan mtu 1300 in wbr2 isolated vni 5002 local 10.0.0.1 peers`},
		{"another vni", []*hostspec.Network{func() *hostspec.Network {
			n := vxlan(1)
			n.Segment = 7777
			return n
		}()}, `
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 7777 local 10.0.0.1 peers`},
		{"no isolation, on a bridge of the host", []*hostspec.Network{{
			Id: id(3), Number: 3, Isolation: hostspec.Isolation_ISOLATION_NONE, Device: "cloudbr1",
		}}, `
wbr3 bridge mtu 1500
wpi3 veth mtu 1500 in wbr3 isolated
wpo3 veth mtu 1500 in cloudbr1`},
		{"no isolation, this host only", []*hostspec.Network{{Id: id(3), Number: 3, Isolation: hostspec.Isolation_ISOLATION_NONE}}, `
wbr3 bridge mtu 1500`},
	}
}

// apply applies a step twice; the second time must change nothing.
func (s step) apply(t *testing.T, f *Fabric) {
	t.Helper()
	for _, again := range []string{"first", "second"} {
		before, repairs := picture(t), map[string]uint64{}
		for id, n := range f.repairs {
			repairs[id] = n
		}
		results, err := f.Apply(t.Context(), Want{Networks: s.networks})
		if err != nil {
			t.Fatalf("%s, %s time: %v", s.name, again, err)
		}
		for id, r := range results {
			if r.Err != nil || !r.Plugged {
				t.Fatalf("%s, %s time: network %s: plugged %t, %v", s.name, again, id, r.Plugged, r.Err)
			}
		}
		got := picture(t)
		if diff := cmp.Diff(strings.TrimSpace(s.picture), got); diff != "" {
			t.Fatalf("%s, %s time (-want +got):\n%s", s.name, again, diff)
		}
		if again == "second" && (before != got || cmp.Diff(repairs, f.repairs) != "") {
			t.Fatalf("%s: the second time changed something", s.name)
		}
	}
	if _, err := netlink.LinkByName("wbr99"); err != nil {
		t.Fatalf("%s: somebody else's bridge: %v", s.name, err)
	}
}

// TestWalk walks the states in order and then shuffled, with a new agent now and then.
func TestWalk(t *testing.T) {
	f := newUnderlay(t)
	list := steps()
	for _, s := range list {
		s.apply(t, f)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, s := range list {
			if random.IntN(3) == 0 {
				f = New(f.config)
			}
			s.apply(t, f)
		}
	}
	list[0].networks, list[0].picture = nil, ""
	list[0].apply(t, f)
}

// TestDrift breaks one thing at a time and expects the same picture again, and one repair counted.
func TestDrift(t *testing.T) {
	f := newUnderlay(t)
	state := step{networks: []*hostspec.Network{served(vxlan(1, "10.0.0.2"), svc(), gw(), pub())}}
	if _, err := f.Apply(t.Context(), Want{Networks: state.networks}); err != nil {
		t.Fatal(err)
	}
	state.picture = picture(t)
	leg := func(name string) string { return legName(id(1), name) }
	breakages := []struct {
		name string
		do   [][]string
	}{
		{"bridge deleted", [][]string{{"link", "del", "wbr1"}}},
		{"bridge down", [][]string{{"link", "set", "wbr1", "down"}}},
		{"bridge mtu", [][]string{{"link", "set", "wbr1", "mtu", "1400"}}},
		{"tunnel deleted", [][]string{{"link", "del", "wvx1"}}},
		{"tunnel unplugged", [][]string{{"link", "set", "wvx1", "nomaster"}}},
		{"tunnel talks to the services", [][]string{{"link", "set", "wvx1", "type", "bridge_slave", "isolated", "off"}}},
		{"leg deleted", [][]string{{"link", "del", leg("gw0")}}},
		{"leg in another bridge", [][]string{{"link", "set", leg("pub0"), "master", "wbr1"}}},
		{"leg made by somebody", [][]string{{"link", "del", leg("svc0")}, {"link", "add", leg("svc0"), "group", fmt.Sprint(Group), "type", "veth", "peer", "name", "x"}}},
		{"tunnel replaced by another kind", [][]string{{"link", "del", "wvx1"}, {"link", "add", "wvx1", "group", fmt.Sprint(Group), "type", "bridge"}}},
		{"namespace deleted", [][]string{{"netns", "del", NamespaceName(id(1))}}},
	}
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			before := f.repairs[id(1)]
			for _, args := range b.do {
				ip(t, args...)
			}
			if picture(t) == state.picture {
				t.Fatal("the picture shows nothing of it")
			}
			results, err := f.Apply(t.Context(), Want{Networks: state.networks})
			if err != nil {
				t.Fatal(err)
			}
			if got := results[id(1)]; got.Err != nil || got.Repairs != before+1 {
				t.Errorf("repairs %d, want %d; error %v", got.Repairs, before+1, got.Err)
			}
			// A deleted namespace dies with its legs when the last process leaves it, a moment later.
			if diff := cmp.Diff(state.picture, picture(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFloodEntryDeleted(t *testing.T) {
	f := newUnderlay(t)
	want := Want{Networks: []*hostspec.Network{vxlan(1, "10.0.0.2")}}
	if _, err := f.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	before := picture(t)
	if out, err := exec.Command("bridge", "fdb", "del", "00:00:00:00:00:00", "dev", "wvx1", "dst", "10.0.0.2").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := f.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, picture(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestErrors: a network that cannot be made says why and takes no other with it.
func TestErrors(t *testing.T) {
	f := newUnderlay(t)
	vlan := &hostspec.Network{Id: id(4), Number: 4, Isolation: hostspec.Isolation_ISOLATION_VLAN, Segment: 100, Device: "eth0"}
	lost := pub()
	lost.Bridge = "nobr0"
	taken := vxlan(99)
	device := &hostspec.Network{Id: id(5), Number: 5, Isolation: hostspec.Isolation_ISOLATION_NONE, Device: "eth0"}
	results, err := f.Apply(t.Context(), Want{Networks: []*hostspec.Network{vlan, served(vxlan(1), svc(), lost), taken, device, vxlan(2)}})
	if err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{
		id(1): "bridge nobr0 is not on this host", id(99): "was not made by this agent", id(5): "no bridge", id(2): "",
	}
	if _, err := netlink.LinkByName("wvl4"); err != nil {
		wants[id(4)] = "no VLAN support"
	}
	for network, want := range wants {
		err := results[network].Err
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("network %s: %v, want %q", network, err, want)
		}
	}
	if got := picture(t); !strings.Contains(got, "svc0 02:00:00:00:00:01") {
		t.Errorf("the services' leg was not made beside a broken public one:\n%s", got)
	}
}

// TestTaps: taps of guests are put back into a bridge that was made anew, and told of when they are gone.
func TestTaps(t *testing.T) {
	f := newUnderlay(t)
	tap := TapName(id(50))
	ip(t, "tuntap", "add", tap, "mode", "tap")
	want := Want{Networks: []*hostspec.Network{vxlan(1)}, Taps: map[string]Tap{tap: {NetworkID: id(1)}, TapName(id(51)): {NetworkID: id(1)}}}
	for _, what := range []string{"new", "bridge deleted"} {
		results, err := f.Apply(t.Context(), want)
		if err != nil || results[id(1)].Err != nil {
			t.Fatal(err, results[id(1)].Err)
		}
		l, err := netlink.LinkByName(tap)
		if err != nil {
			t.Fatal(err)
		}
		bridge, err := netlink.LinkByName("wbr1")
		if err != nil {
			t.Fatal(err)
		}
		if l.Attrs().MasterIndex != bridge.Attrs().Index || l.Attrs().Flags&net.FlagUp == 0 || l.Attrs().MTU != 1450 {
			t.Errorf("%s: tap %+v is not as it should be", what, l.Attrs())
		}
		if diff := cmp.Diff(map[string]bool{TapName(id(51)): true}, results[id(1)].Absent); diff != "" {
			t.Errorf("%s: absent taps (-want +got):\n%s", what, diff)
		}
		ip(t, "link", "del", "wbr1")
	}
}

// TestKeep: what belongs to a network that is to be left alone stays, whatever else goes.
func TestKeep(t *testing.T) {
	f := newUnderlay(t)
	both := []*hostspec.Network{served(vxlan(1), svc()), vxlan(2)}
	if _, err := f.Apply(t.Context(), Want{Networks: both}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply(t.Context(), Want{Keep: map[string]bool{id(1): true}}); err != nil {
		t.Fatal(err)
	}
	want := `
leg(1,svc0) veth mtu 1450 in wbr1 isolated
namespace 01 svc0 02:00:00:00:00:01
wbr1 bridge mtu 1450
wvx1 vxlan mtu 1450 in wbr1 isolated vni 5001 local 10.0.0.1 peers`
	if diff := cmp.Diff(strings.TrimSpace(want), picture(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestIsolation sends real frames: two isolated legs of one bridge do not hear each other nor the tunnel, a guest hears
// all.
func TestIsolation(t *testing.T) {
	f := newUnderlay(t)
	if _, err := f.Apply(t.Context(), Want{Networks: []*hostspec.Network{served(vxlan(1), svc(), gw())}}); err != nil {
		t.Fatal(err)
	}
	namespace := NamespaceName(id(1))
	for _, args := range [][]string{
		{"netns", "add", "guest"},
		{"link", "add", "tap0", "type", "veth", "peer", "name", "eth0", "netns", "guest"},
		{"link", "set", "tap0", "master", "wbr1", "up"},
		{"-n", "guest", "addr", "add", "10.1.1.5/24", "dev", "eth0"},
		{"-n", "guest", "link", "set", "eth0", "up"},
		{"-n", namespace, "addr", "add", "10.1.1.1/24", "dev", "svc0"},
		{"-n", namespace, "link", "set", "svc0", "up"},
	} {
		ip(t, args...)
	}
	ping := func(namespace, target string) error {
		return exec.Command("nsenter", "--net="+NamespaceDir+"/"+namespace, "busybox", "ping", "-c1", "-W2", target).Run()
	}
	if err := ping("guest", "10.1.1.1"); err != nil {
		t.Errorf("the guest does not reach the services: %v", err)
	}
	ip(t, "link", "set", "tap0", "type", "bridge_slave", "isolated", "on")
	ip(t, "-n", "guest", "neigh", "flush", "all")
	if ping("guest", "10.1.1.1") == nil {
		t.Error("an isolated port, like the tunnel's, reaches the services' leg")
	}
}

// TestGuard: a guest reaches others with its own address and not with a neighbour's, also after its bridge was made
// anew.
func TestGuard(t *testing.T) {
	f := newUnderlay(t)
	tap := TapName(id(50))
	for _, args := range [][]string{
		{"netns", "add", "guest"},
		{"netns", "add", "other"},
		{"link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", "guest"},
		{"link", "add", "tap1", "type", "veth", "peer", "name", "eth0", "netns", "other"},
		{"-n", "guest", "link", "set", "eth0", "address", "02:00:00:00:00:50", "up"},
		{"-n", "other", "link", "set", "eth0", "up"},
		{"-n", "guest", "addr", "add", "10.1.1.5/24", "dev", "eth0"},
		{"-n", "other", "addr", "add", "10.1.1.6/24", "dev", "eth0"},
	} {
		ip(t, args...)
	}
	want := Want{Networks: []*hostspec.Network{vxlan(1)}, Taps: map[string]Tap{tap: {NetworkID: id(1), MAC: "02:00:00:00:00:50"}}}
	ping := func() error {
		ip(t, "-n", "guest", "neigh", "flush", "all")
		ip(t, "-n", "other", "neigh", "flush", "all")
		return exec.Command("nsenter", "--net="+NamespaceDir+"/guest", "busybox", "ping", "-c1", "-W1", "10.1.1.6").Run()
	}
	for _, what := range []string{"new bridge", "bridge made anew"} {
		for range 2 {
			if results, err := f.Apply(t.Context(), want); err != nil || results[id(1)].Err != nil {
				t.Fatal(err, results[id(1)].Err)
			}
		}
		ip(t, "link", "set", "tap1", "master", "wbr1", "up")
		if err := ping(); err != nil {
			t.Errorf("%s: the guest does not reach its neighbour: %v", what, err)
		}
		ip(t, "-n", "guest", "link", "set", "eth0", "address", "02:00:00:00:00:51")
		if ping() == nil {
			t.Errorf("%s: a foreign source address passes", what)
		}
		ip(t, "-n", "guest", "link", "set", "eth0", "address", "02:00:00:00:00:50")
		ip(t, "link", "del", "wbr1")
	}
}

// TestLabelWithoutAddress: a tunnel of a network whose label names a bridge without address leaves by the underlay.
func TestLabelWithoutAddress(t *testing.T) {
	f := newUnderlay(t)
	n := vxlan(1)
	n.Device = "cloudbr1"
	results, err := f.Apply(t.Context(), Want{Networks: []*hostspec.Network{n}})
	if err != nil || results[id(1)].Err != nil {
		t.Fatal(err, results[id(1)].Err)
	}
	if got := picture(t); !strings.Contains(got, "local 10.0.0.1") {
		t.Error(got)
	}
}

func TestUnderlay(t *testing.T) {
	f := newUnderlay(t)
	tests := []struct {
		name   string
		config Config
		want   Underlay
		fails  bool
	}{
		{"found", Config{}, Underlay{Device: "eth0", Address: netip.MustParseAddr("10.0.0.1"), MTU: 1500}, false},
		{"device", Config{UnderlayDevice: "far0"}, Underlay{Device: "far0", MTU: 1500}, false},
		{"address", Config{UnderlayAddress: netip.MustParseAddr("10.0.0.1")}, Underlay{Device: "eth0", Address: netip.MustParseAddr("10.0.0.1"), MTU: 1500}, false},
		{"address of nobody", Config{UnderlayAddress: netip.MustParseAddr("10.9.9.9")}, Underlay{}, true},
		{"device of nobody", Config{UnderlayDevice: "eth9"}, Underlay{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Log = f.log
			got, err := New(tt.config).Underlay()
			if (err != nil) != tt.fails || got != tt.want {
				t.Errorf("%+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}
