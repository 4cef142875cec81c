package kernel_test

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
)

// open enters a new namespace with a link l0 (10.0.0.1/24) whose other end is in a node.
func open(t *testing.T) (*kernel.Kernel, *netsvctest.Node, kernel.Link) {
	t.Helper()
	netsvctest.Enter(t)
	k, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	node := netsvctest.NewNode(t)
	netsvctest.RunHere(t, "ip", "link", "add", "name", "l0", "address", "02:00:00:00:00:01", "type", "veth",
		"peer", "name", "p0", "address", "02:00:00:00:00:02", "netns", node.PID())
	node.Must("ip", "address", "add", "10.0.0.2/24", "dev", "p0")
	node.Must("ip", "link", "set", "p0", "up")
	links, err := k.Links()
	if err != nil || len(links) != 1 {
		t.Fatalf("links are %v, %v", links, err)
	}
	l := links[0]
	for _, err := range []error{
		k.SetLoopbackUp(), k.AddAddress(l.Index, kernel.Address{Prefix: netip.MustParsePrefix("10.0.0.1/24")}), k.SetLinkUp(l.Index, true),
		k.ReplaceRoute(kernel.Route{Table: kernel.MainTable, Destination: netip.MustParsePrefix("10.0.0.0/24"), LinkIndex: l.Index, Protocol: kernel.ProtocolLink}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return k, node, l
}

func TestDeletingWhatIsGoneSucceeds(t *testing.T) {
	k, _, l := open(t)
	for name, err := range map[string]error{
		"address":               k.DeleteAddress(l.Index, kernel.Address{Prefix: netip.MustParsePrefix("10.9.9.9/24")}),
		"route":                 k.DeleteRoute(kernel.Route{Table: kernel.MainTable, Destination: netip.MustParsePrefix("10.9.0.0/24"), LinkIndex: l.Index, Protocol: kernel.ProtocolRoute}),
		"rule":                  k.DeleteRule(kernel.Rule{Priority: 10000, Source: netip.MustParsePrefix("10.9.0.1/32"), Table: 20001}),
		"address that is there": k.AddAddress(l.Index, kernel.Address{Prefix: netip.MustParsePrefix("10.0.0.1/24")}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"address": k.AddAddress(4711, kernel.Address{Prefix: netip.MustParsePrefix("10.9.9.9/24")}),
		"up":      k.SetLinkUp(4711, true),
		"route":   k.ReplaceRoute(kernel.Route{Table: kernel.MainTable, Destination: netip.MustParsePrefix("10.9.0.0/24"), LinkIndex: 4711}),
	} {
		if !errors.Is(err, kernel.ErrNoLink) {
			t.Errorf("%s on a link that is not there: %v", name, err)
		}
	}
}

func TestNeighbourAndSender(t *testing.T) {
	k, node, l := open(t)
	listener, err := k.ListenTCP("l0", netip.MustParseAddrPort("10.0.0.1:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, ok, err := k.Neighbour(l.Index, netip.MustParseAddr("10.0.0.2")); ok || err != nil {
		t.Errorf("before any packet: %v, %v", ok, err)
	}
	node.Start("busybox", "nc", "10.0.0.1", "80")
	_ = listener.SetDeadline(time.Now().Add(5 * time.Second))
	c, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := kernel.MAC{2, 0, 0, 0, 0, 2}
	if mac, ok := k.SenderMAC(c); !ok || mac != want {
		t.Errorf("the connection was opened by %v, %v", mac, ok)
	}
	if mac, ok, err := k.Neighbour(l.Index, netip.MustParseAddr("10.0.0.2")); !ok || err != nil || mac != want {
		t.Errorf("the neighbour is %v, %v, %v", mac, ok, err)
	}
	if _, err := k.ListenTCP("none", netip.MustParseAddrPort("10.0.0.1:81")); !errors.Is(err, kernel.ErrNoLink) {
		t.Errorf("listen on a link that is not there: %v", err)
	}
}

func TestAnnounce(t *testing.T) {
	k, node, l := open(t)
	node.Must("sysctl", "-q", "net.ipv4.conf.p0.arp_accept=1")
	addr := netip.MustParseAddr("10.0.0.77")
	netsvctest.Wait(t, "the other end to learn the address", 5*time.Second, func() (bool, string) {
		if err := k.Announce(l, addr); err != nil {
			t.Fatal(err)
		}
		out := node.Must("ip", "neighbour", "show", "10.0.0.77")
		return len(out) > 0, out
	})
}

func TestWatch(t *testing.T) {
	k, _, l := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	var seen atomic.Int64
	// Watch opens its socket in the calling thread's namespace, so it is this goroutine that waits.
	change := time.AfterFunc(100*time.Millisecond, func() { _ = k.SetLinkMTU(l.Index, 1400) })
	defer change.Stop()
	giveUp := time.AfterFunc(5*time.Second, cancel)
	defer giveUp.Stop()
	if err := k.Watch(ctx, func() { seen.Add(1); cancel() }); err != nil || seen.Load() == 0 {
		t.Errorf("saw %d changes, %v", seen.Load(), err)
	}
}

func TestPacketConn(t *testing.T) {
	k, node, _ := open(t)
	c, err := k.OpenPacket("l0", 67)
	if err != nil {
		t.Fatal(err)
	}
	// Other ports do not come through; a datagram to the port does, with its sender, and is not refused.
	node.Must("bash", "-c", "echo no > /dev/udp/10.0.0.1/68; echo yes > /dev/udp/10.0.0.1/67")
	frame := make([]byte, 2048)
	n, err := c.Read(frame)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("yes\n", string(frame[42:n])); diff != "" || kernel.MAC(frame[6:12]) != (kernel.MAC{2, 0, 0, 0, 0, 2}) {
		t.Errorf("from %s (-want +got):\n%s", kernel.MAC(frame[6:12]), diff)
	}
	time.AfterFunc(50*time.Millisecond, func() { c.Close() })
	if _, err := c.Read(frame); err == nil {
		t.Error("Read goes on after Close")
	}
}

func TestPacketInfo(t *testing.T) {
	k, node, _ := open(t)
	l := netip.MustParseAddr("10.0.0.1")
	c, err := k.ListenUDP("l0", 5353)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := node.Start("bash", "-c", "exec 3<>/dev/udp/10.0.0.1/5353; echo hello >&3; timeout 5 dd bs=100 count=1 <&3 2>/dev/null")
	buf, oob := make([]byte, 100), make([]byte, 128)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, oobN, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
	if err != nil || string(buf[:n]) != "hello\n" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	if to := kernel.ParsePacketInfo(oob[:oobN]); to != l {
		t.Errorf("sent to %s", to)
	}
	if _, _, err := c.WriteMsgUDPAddrPort([]byte("back\n"), kernel.AppendPacketInfo(nil, l), from); err != nil {
		t.Fatal(err)
	}
	netsvctest.Wait(t, "the answer", 5*time.Second, func() (bool, string) { return p.Output() == "back\n", p.Output() })
}

func TestChangeChainsIsAllOrNothing(t *testing.T) {
	k, _, _ := open(t)
	ctx := t.Context()
	save := func() kernel.Table {
		t.Helper()
		table, err := k.SaveTable(ctx, "filter")
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	good := kernel.Change{
		Table: "filter", Policies: map[string]string{"FORWARD": "DROP"},
		Load: []kernel.Chain{{Name: "T-A", Rules: []string{"-j T-B"}}, {Name: "T-B", Rules: []string{"-j ACCEPT"}}},
		Jump: []kernel.Jump{{From: "FORWARD", To: "T-A"}},
	}
	if err := k.ChangeChains(ctx, good); err != nil {
		t.Fatal(err)
	}
	netsvctest.RunHere(t, "iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "ACCEPT")
	before := save()
	for name, bad := range map[string]kernel.Change{
		"a rule that is none": {Load: []kernel.Chain{{Name: "T-B"}, {Name: "T-C", Rules: []string{"-p nonsense -j ACCEPT"}}}},
		"a jump that is not there": {
			Load: []kernel.Chain{{Name: "T-B"}}, Unjump: []kernel.Jump{{From: "INPUT", To: "T-A"}},
		},
		"a jump to nothing": {Load: []kernel.Chain{{Name: "T-B"}}, Jump: []kernel.Jump{{From: "INPUT", To: "T-NONE"}}},
	} {
		bad.Table, bad.Policies = "filter", map[string]string{"FORWARD": "ACCEPT"}
		if err := k.ChangeChains(ctx, bad); err == nil {
			t.Errorf("%s was loaded", name)
		}
		if diff := cmp.Diff(before, save()); diff != "" {
			t.Errorf("after %s (-before +after):\n%s", name, diff)
		}
	}
	if err := k.ChangeChains(ctx, kernel.Change{
		Table: "filter", Load: []kernel.Chain{{Name: "T-C"}}, Remove: []string{"T-A", "T-B"},
		Unjump: []kernel.Jump{{From: "FORWARD", To: "T-A"}}, Jump: []kernel.Jump{{From: "FORWARD", To: "T-C"}},
	}); err != nil {
		t.Errorf("replace chains that name each other: %v", err)
	}
	want := kernel.Table{
		Policies: map[string]string{"INPUT": "ACCEPT", "FORWARD": "DROP", "OUTPUT": "ACCEPT"},
		Chains: map[string][]string{
			"INPUT": nil, "OUTPUT": nil, "T-C": nil, "FORWARD": {"-j T-C", "-s 192.0.2.1/32 -j ACCEPT"},
		},
	}
	if diff := cmp.Diff(want, save()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGenerationCountsEveryChange(t *testing.T) {
	k, _, _ := open(t)
	read := func() uint32 {
		t.Helper()
		g, ok, err := k.NetfilterGeneration()
		if err != nil || !ok {
			t.Fatalf("generation: %v, %v", ok, err)
		}
		return g
	}
	netsvctest.RunHere(t, "iptables", "-N", "T-A")
	first := read()
	if again := read(); again != first {
		t.Errorf("without a change it went from %d to %d", first, again)
	}
	netsvctest.RunHere(t, "iptables", "-A", "T-A", "-j", "ACCEPT")
	if again := read(); again == first {
		t.Error("a change did not move it")
	}
}

// TestAChangeIsOneGeneration: package ruleset tells its own changes from others' by it.
func TestAChangeIsOneGeneration(t *testing.T) {
	k, _, _ := open(t)
	read := func() uint32 {
		t.Helper()
		g, _, err := k.NetfilterGeneration()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	rules := make([]string, 2000)
	for i := range rules {
		rules[i] = "-p tcp -m tcp --dport 80 -j ACCEPT"
	}
	for _, c := range []kernel.Change{
		{Load: []kernel.Chain{{Name: "T-A", Rules: rules}}, Jump: []kernel.Jump{{From: "OUTPUT", To: "T-A"}}}, // makes the table
		{Load: []kernel.Chain{{Name: "T-A"}}},
		{Unjump: []kernel.Jump{{From: "OUTPUT", To: "T-A"}}, Remove: []string{"T-A"}},
	} {
		for _, c.Table = range []string{"filter", "nat"} {
			before := read()
			if err := k.ChangeChains(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			changed := read()
			if _, err := k.SaveTable(t.Context(), c.Table); err != nil {
				t.Fatal(err)
			}
			if saved := read(); changed != before+1 || saved != changed {
				t.Errorf("%s: from %d to %d, read: %d", c.Table, before, changed, saved)
			}
		}
	}
}

func TestParseMAC(t *testing.T) {
	for _, text := range []string{"", "02:00:00:00:00", "02:00:00:00:00:00:00:01", "x"} {
		if mac, err := kernel.ParseMAC(text); err == nil {
			t.Errorf("%q is %s", text, mac)
		}
	}
	if mac, err := kernel.ParseMAC("0A:00:00:00:00:01"); err != nil || mac.String() != "0a:00:00:00:00:01" {
		t.Errorf("%s, %v", mac, err)
	}
}
