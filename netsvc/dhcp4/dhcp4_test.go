package dhcp4

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/proto/netspec"
)

var (
	mac1     = kernel.MAC{2, 0, 0, 0, 1, 1}
	mac2     = kernel.MAC{2, 0, 0, 0, 1, 2}
	stranger = kernel.MAC{2, 0, 0, 0, 9, 9}
	ownMAC   = kernel.MAC{2, 0, 0, 0, 0, 2}
)

func want() *netspec.Dhcp4 {
	return &netspec.Dhcp4{
		Links: []string{"svc0"}, ServerId: "10.1.1.2", Subnet: "10.1.1.0/24", Gateway: "10.1.1.1",
		DnsServers: []string{"10.1.1.2", "10.1.1.1"}, Domain: "cs1.internal", LeaseSeconds: 3600, Mtu: 1450,
		ClasslessRoutes: []*netspec.Route{{Destination: "169.254.169.254/32", Gateway: "10.1.1.2"}},
		Relays:          []string{"10.9.9.1"},
		Guests: []*netspec.Guest{
			{Mac: mac1.String(), Ip: "10.1.1.11", Hostname: "web1", VmId: "vm-1", DefaultNic: true},
			{Mac: mac2.String(), Ip: "10.1.1.12", Hostname: "web2", VmId: "vm-2"},
		},
	}
}

// noon is the tests' clock.
var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func newTestService(t testing.TB, w *netspec.Dhcp4) *Service {
	t.Helper()
	s := New(Options{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon }, Changed: func() {}})
	c, err := newConfig(w)
	if err != nil {
		t.Fatal(err)
	}
	s.server.config.Store(c)
	return s
}

// ask is a request to be built.
type ask struct {
	kind      byte
	mac       kernel.MAC
	sender    kernel.MAC // zero: mac
	broadcast bool
	ciaddr    string
	giaddr    string
	options   []byte
	sname     []byte
	file      []byte
}

func (a ask) payload() []byte {
	b := make([]byte, fixedLen, 600)
	b[0], b[1], b[2] = opRequest, 1, 6
	copy(b[4:], "\xde\xad\xbe\xef")
	if a.broadcast {
		b[10] = 0x80
	}
	for at, text := range map[int]string{12: a.ciaddr, 24: a.giaddr} {
		if text != "" {
			put(b[at:], netip.MustParseAddr(text))
		}
	}
	copy(b[28:], a.mac[:])
	copy(b[snameAt:], a.sname)
	copy(b[fileAt:], a.file)
	b = append(b, cookie[:]...)
	if a.kind != 0 {
		b = append(b, optType, 1, a.kind)
	}
	return append(append(b, a.options...), optEnd)
}

func (a ask) frame() []byte {
	payload := a.payload()
	frame := append(make([]byte, headersLen), payload...)
	sender := a.sender
	if sender == (kernel.MAC{}) {
		sender = a.mac
	}
	fillHeaders(frame, sender, broadcastMAC, netip.IPv4Unspecified(), broadcastAddr)
	frame[etherLen+ipLen+3] = serverPort
	return frame
}

func addrOption(code byte, text string) []byte {
	a := netip.MustParseAddr(text).As4()
	return append([]byte{code, 4}, a[:]...)
}

// describe prints an answer: where it goes, what it gives, and its options in order.
func describe(reply []byte, relay netip.Addr) string {
	if reply == nil {
		return "silence"
	}
	var b strings.Builder
	m := reply[headersLen:]
	if relay.IsValid() {
		fmt.Fprintf(&b, "relay %s", relay)
	} else {
		fmt.Fprintf(&b, "to %s %s", kernel.MAC(reply[0:6]), netip.AddrFrom4([4]byte(reply[etherLen+16:])))
	}
	for name, at := range map[string]int{"yiaddr": 16} {
		if a := netip.AddrFrom4([4]byte(m[at:])); !a.IsUnspecified() {
			fmt.Fprintf(&b, " %s %s", name, a)
		}
	}
	if m[10]&0x80 != 0 {
		b.WriteString(" broadcast")
	}
	overload := describeOptions(&b, m[fixedLen+cookieLen:])
	if overload&1 != 0 {
		b.WriteString(" file:")
		describeOptions(&b, m[fileAt:fileAt+fileLen])
	}
	if overload&2 != 0 {
		b.WriteString(" sname:")
		describeOptions(&b, m[snameAt:snameAt+snameLen])
	}
	return b.String()
}

func describeOptions(b *strings.Builder, options []byte) (overload byte) {
	for len(options) > 0 && options[0] != optEnd {
		if options[0] == optPad {
			options = options[1:]
			continue
		}
		value := options[2 : 2+int(options[1])]
		switch options[0] {
		case optHostname, optDomain:
			fmt.Fprintf(b, " %d=%s", options[0], value)
		case optOverload:
			overload = value[0]
			fmt.Fprintf(b, " 52=%d", overload)
		default:
			fmt.Fprintf(b, " %d=%s", options[0], hex.EncodeToString(value))
		}
		options = options[2+len(value):]
	}
	return overload
}

func TestAnswers(t *testing.T) {
	const (
		times    = " 51=00000e10 58=00000708 59=00000c4e"
		server   = " 54=0a010102"
		defaults = " 1=ffffff00 121=20a9fea9fe0a010102000a010101 3=0a010101 6=0a0101020a010101 12=web1 15=cs1.internal 26=05aa 28=0a0101ff"
		offer    = "to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=02" + server + times + defaults
		ack      = "to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=05" + server + times + defaults
		nak      = "to ff:ff:ff:ff:ff:ff 255.255.255.255 53=06" + server
		all      = "to ff:ff:ff:ff:ff:ff 255.255.255.255 yiaddr 10.1.1.11 broadcast 53=05" + server + times + defaults
	)
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	tests := []struct {
		name string
		ask  ask
		want string
	}{
		{"discover", ask{kind: typeDiscover, mac: mac1}, offer},
		{"discover naming another address", ask{kind: typeDiscover, mac: mac1, options: addrOption(optRequestedIP, "10.1.1.99")}, offer},
		{"selecting", ask{kind: typeRequest, mac: mac1, options: join(addrOption(optServerID, "10.1.1.2"), addrOption(optRequestedIP, "10.1.1.11"))}, ack},
		{"selecting another server", ask{kind: typeRequest, mac: mac1, options: join(addrOption(optServerID, "10.1.1.3"), addrOption(optRequestedIP, "10.1.1.11"))}, "silence"},
		{"selecting another address", ask{kind: typeRequest, mac: mac1, options: join(addrOption(optServerID, "10.1.1.2"), addrOption(optRequestedIP, "10.1.1.12"))}, nak},
		{"init-reboot", ask{kind: typeRequest, mac: mac1, options: addrOption(optRequestedIP, "10.1.1.11")}, ack},
		{"init-reboot, cannot hear unicast", ask{kind: typeRequest, mac: mac1, broadcast: true, options: addrOption(optRequestedIP, "10.1.1.11")}, all},
		{"init-reboot, moved from another network", ask{kind: typeRequest, mac: mac1, options: addrOption(optRequestedIP, "192.168.0.7")}, nak},
		{"renewing or rebinding", ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.11"}, ack},
		{
			"renewing, broadcast flag without meaning",
			ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.11", broadcast: true},
			strings.Replace(ack, "yiaddr 10.1.1.11", "yiaddr 10.1.1.11 broadcast", 1),
		},
		{"renewing another address", ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.12"}, nak},
		{"request without any address", ask{kind: typeRequest, mac: mac1}, "silence"},
		{"inform", ask{kind: typeInform, mac: mac1, ciaddr: "10.1.1.11"}, "to 02:00:00:00:01:01 10.1.1.11 53=05" + server + defaults},
		{"inform from elsewhere", ask{kind: typeInform, mac: mac1, ciaddr: "192.168.0.7"}, "silence"},
		{"inform without an address", ask{kind: typeInform, mac: mac1}, "silence"},
		{"release", ask{kind: typeRelease, mac: mac1, ciaddr: "10.1.1.11", options: addrOption(optServerID, "10.1.1.2")}, "silence"},
		{"decline", ask{kind: typeDecline, mac: mac1, options: addrOption(optRequestedIP, "10.1.1.11")}, "silence"},
		{"an offer of another server", ask{kind: typeOffer, mac: mac1}, "silence"},
		{"an unknown type", ask{kind: 77, mac: mac1}, "silence"},
		{"bootp without a type", ask{mac: mac1}, "silence"},
		{"stranger", ask{kind: typeDiscover, mac: stranger}, "silence"},
		{"another's name in the message", ask{kind: typeDiscover, mac: mac1, sender: stranger}, "silence"},
		{
			"wanted options, in that order and once",
			ask{kind: typeDiscover, mac: mac1, options: []byte{optParameterList, 6, 28, 3, 200, 3, 1, 12}},
			"to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=02" + server + times + " 28=0a0101ff 3=0a010101 1=ffffff00 12=web1",
		},
		{
			"mask though not asked for",
			ask{kind: typeDiscover, mac: mac1, options: []byte{optParameterList, 1, 15}},
			"to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=02" + server + times + " 15=cs1.internal 1=ffffff00",
		},
		{
			"old Windows routes",
			ask{kind: typeDiscover, mac: mac1, options: []byte{optParameterList, 2, 1, 249}},
			"to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=02" + server + times + " 1=ffffff00 249=20a9fea9fe0a010102000a010101",
		},
		{
			"client id comes back",
			ask{kind: typeDiscover, mac: mac1, options: []byte{optParameterList, 1, 1, optClientID, 3, 0xff, 1, 2}},
			"to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=02" + server + times + " 1=ffffff00 61=ff0102",
		},
		{"client id comes back with nak", ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.77", options: []byte{optClientID, 1, 9}}, nak + " 61=09"},
		{
			"a NIC that is not the default one",
			ask{kind: typeDiscover, mac: mac2},
			"to 02:00:00:00:01:02 10.1.1.12 yiaddr 10.1.1.12 53=02" + server + times + " 1=ffffff00 12=web2 15=cs1.internal 26=05aa 28=0a0101ff",
		},
		{
			"relay",
			ask{kind: typeDiscover, mac: mac1, sender: stranger, giaddr: "10.9.9.1", options: []byte{optParameterList, 1, 1, optRelayAgent, 3, 1, 1, 7}},
			"relay 10.9.9.1 yiaddr 10.1.1.11 53=02" + server + times + " 1=ffffff00 82=010107",
		},
		{"relay, nak is to be broadcast", ask{kind: typeRequest, mac: mac1, giaddr: "10.9.9.1", ciaddr: "10.1.1.99"}, "relay 10.9.9.1 broadcast 53=06" + server},
		{"relay that is not allowed", ask{kind: typeDiscover, mac: mac1, giaddr: "10.1.1.13"}, "silence"},
		{
			"relay agent option of a client",
			ask{kind: typeDiscover, mac: mac1, options: []byte{optParameterList, 1, 1, optRelayAgent, 1, 7}},
			"to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=02" + server + times + " 1=ffffff00",
		},
		{
			"options in file and sname",
			ask{
				kind: typeRequest, mac: mac1, options: []byte{optOverload, 1, 3, optPad},
				file: append(addrOption(optRequestedIP, "10.1.1.11"), optEnd), sname: []byte{optParameterList, 1, 1, optEnd},
			},
			"to 02:00:00:00:01:01 10.1.1.11 yiaddr 10.1.1.11 53=05" + server + times + " 1=ffffff00",
		},
		{"file and sname without overload are no options", ask{kind: typeRequest, mac: mac1, file: addrOption(optRequestedIP, "10.1.1.11")}, "silence"},
		{"option that runs over the end", ask{kind: typeDiscover, mac: mac1, options: []byte{optClientID, 200, 1}}, "silence"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestService(t, want())
			reply, relay := s.server.answer(tt.ask.frame(), make([]byte, 2048), ownMAC)
			if diff := cmp.Diff(tt.want, describe(reply, relay)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if reply != nil && len(reply)-headersLen < minMessage {
				t.Errorf("message of %d bytes is shorter than a BOOTP packet", len(reply)-headersLen)
			}
		})
	}
}

// TestOverload: what does not fit a small client's message goes into file and sname, and what the protocol needs
// comes first.
func TestOverload(t *testing.T) {
	w := want()
	w.Domain = strings.Repeat("d", 120)
	for i := range 52 {
		w.DnsServers = append(w.DnsServers, fmt.Sprintf("10.2.0.%d", i))
	}
	w.Guests[0].Hostname = strings.Repeat("h", 50)
	s := newTestService(t, w)
	r, _ := s.server.answer(ask{kind: typeDiscover, mac: mac1, options: []byte{
		optParameterList, 6, 1, 3, 6, 15, 12, 121,
	}}.frame(), make([]byte, 2048), ownMAC)
	if size := len(r) - etherLen; size > minMaxSize {
		t.Errorf("datagram of %d bytes, the client takes %d", size, minMaxSize)
	}
	got := describe(r, netip.Addr{})
	for _, part := range []string{"53=02", "51=", "1=ffffff00", "52=3", " file: 15=" + w.Domain, " sname: 12=" + w.Guests[0].Hostname} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in %s", part, got)
		}
	}
	// A client that takes more gets everything in one place.
	r, _ = s.server.answer(ask{kind: typeDiscover, mac: mac1, options: []byte{
		optMaxSize, 2, 5, 220, optParameterList, 6, 1, 3, 6, 15, 12, 121,
	}}.frame(), make([]byte, 2048), ownMAC)
	if got := describe(r, netip.Addr{}); strings.Contains(got, "52=") || !strings.Contains(got, "15="+w.Domain) {
		t.Errorf("with room enough: %s", got)
	}
}

func TestLeases(t *testing.T) {
	s := newTestService(t, want())
	changes := 0
	s.server.changed = func() { changes++ }
	now := noon
	s.server.now = func() time.Time { return now }
	send := func(a ask) { s.server.answer(a.frame(), make([]byte, 2048), ownMAC) }
	check := func(wantChanges int, want ...Lease) {
		t.Helper()
		if diff := cmp.Diff(want, s.Leases(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" && len(want)+len(s.Leases()) > 0 {
			t.Errorf("leases (-want +got):\n%s", diff)
		}
		if changes != wantChanges {
			t.Errorf("%d changes, want %d", changes, wantChanges)
		}
	}
	ip1, ip2 := netip.MustParseAddr("10.1.1.11"), netip.MustParseAddr("10.1.1.12")
	send(ask{kind: typeDiscover, mac: mac1})
	check(0)
	send(ask{kind: typeRequest, mac: mac2, ciaddr: "10.1.1.12"})
	send(ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.11"})
	check(2, Lease{mac1, ip1, "vm-1", noon.Add(time.Hour)}, Lease{mac2, ip2, "vm-2", noon.Add(time.Hour)})
	now = noon.Add(time.Minute)
	send(ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.11"})
	check(2, Lease{mac1, ip1, "vm-1", now.Add(time.Hour)}, Lease{mac2, ip2, "vm-2", noon.Add(time.Hour)})
	send(ask{kind: typeRelease, mac: mac1, sender: stranger, ciaddr: "10.1.1.11"}) // somebody else's release
	send(ask{kind: typeDecline, mac: mac2, options: addrOption(optRequestedIP, "10.1.1.12")})
	check(3, Lease{mac1, ip1, "vm-1", now.Add(time.Hour)})
	now = now.Add(time.Hour)
	s.server.keep(s.server.config.Load())
	check(3)
	send(ask{kind: typeRequest, mac: mac1, ciaddr: "10.1.1.11"})
	send(ask{kind: typeRelease, mac: mac1, ciaddr: "10.1.1.11"})
	check(5)
}

func TestConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*netspec.Dhcp4)
		want   string
		served int // guests that are served all the same; -1: none, as nothing can be
	}{
		{"as it should be", func(*netspec.Dhcp4) {}, "", 2},
		{"no server id", func(w *netspec.Dhcp4) { w.ServerId = "" }, "server id", -1},
		{"bad subnet", func(w *netspec.Dhcp4) { w.Subnet = "10.1.1.0" }, "subnet", -1},
		{"bad gateway", func(w *netspec.Dhcp4) { w.Gateway = "x" }, "gateway", -1},
		{"no gateway", func(w *netspec.Dhcp4) { w.Gateway = "" }, "", 2},
		{"bad dns", func(w *netspec.Dhcp4) { w.DnsServers[0] = "2001:db8::1" }, "dns server", -1},
		{"bad route", func(w *netspec.Dhcp4) { w.ClasslessRoutes[0].Gateway = "" }, "classless route", -1},
		{"long domain", func(w *netspec.Dhcp4) { w.Domain = strings.Repeat("d", 256) }, "option holds", -1},
		{"bad mac", func(w *netspec.Dhcp4) { w.Guests[0].Mac = "x" }, "guest vm-1", 1},
		{"mac twice", func(w *netspec.Dhcp4) { w.Guests[1].Mac = w.Guests[0].Mac }, "another guest's", 1},
		{"address outside", func(w *netspec.Dhcp4) { w.Guests[0].Ip = "10.1.2.11" }, "is not in", 1},
		{"long host name", func(w *netspec.Dhcp4) { w.Guests[0].Hostname = strings.Repeat("h", 256) }, "host name", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := want()
			tt.change(w)
			c, err := newConfig(w)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			served := -1
			if c != nil {
				served = len(c.guests)
			}
			if served != tt.served {
				t.Errorf("%d guests served, want %d", served, tt.served)
			}
		})
	}
}

func TestClasslessRoutes(t *testing.T) {
	gateway := netip.MustParseAddr("10.0.0.1")
	for _, tt := range []struct {
		name   string
		routes []*netspec.Route
		want   string
	}{
		{"none", nil, ""},
		{
			"bytes as far as the prefix reaches",
			[]*netspec.Route{
				{Destination: "10.0.0.0/8", Gateway: "1.2.3.4"},
				{Destination: "10.17.0.0/12", Gateway: "1.2.3.4"},
				{Destination: "192.168.128.0/17", Gateway: "1.2.3.4"},
			},
			"080a01020304" + "0c0a1001020304" + "11c0a88001020304" + "000a000001",
		},
		{"own default route", []*netspec.Route{{Destination: "0.0.0.0/0", Gateway: "1.2.3.4"}}, "0001020304"},
	} {
		b, err := encodeRoutes(tt.routes, gateway)
		if got := hex.EncodeToString(b); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

// FuzzAnswer feeds frames: an answer must be well formed, and only go to a known guest whose own frame asked.
func FuzzAnswer(f *testing.F) {
	for _, a := range []ask{
		{kind: typeDiscover, mac: mac1},
		{kind: typeRequest, mac: mac2, ciaddr: "10.1.1.12"},
		{kind: typeInform, mac: mac1, ciaddr: "10.1.1.11", broadcast: true},
		{kind: typeDiscover, mac: mac1, giaddr: "10.9.9.1", options: []byte{optRelayAgent, 3, 1, 1, 7}},
		{kind: typeRequest, mac: mac1, options: []byte{optOverload, 1, 3}, file: addrOption(optRequestedIP, "10.1.1.11")},
		{kind: typeDiscover, mac: mac1, options: []byte{optMaxSize, 2, 2, 64, optParameterList, 4, 1, 3, 6, 121, optClientID, 2, 1, 1}},
	} {
		f.Add(a.frame())
	}
	s := newTestService(f, want())
	c := s.server.config.Load()
	out := make([]byte, 4096)
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := slices.Clone(frame)
		reply, relay := s.server.answer(frame, out, ownMAC)
		if !slices.Equal(before, frame) {
			t.Fatal("the received frame was changed")
		}
		if reply == nil {
			return
		}
		_, payload, err := payloadOf(frame)
		if err != nil {
			t.Fatalf("answered what is no datagram: %v", err)
		}
		r, err := parse(payload)
		if err != nil {
			t.Fatalf("answered what cannot be parsed: %v", err)
		}
		if c.guests[r.mac] == nil || !relay.IsValid() && kernel.MAC(frame[6:12]) != r.mac {
			t.Fatalf("answered a stranger: %+v", r)
		}
		if relay.IsValid() && !c.relays[relay] {
			t.Fatalf("answered relay %s", relay)
		}
		if len(reply) > etherLen+maxSize {
			t.Fatalf("answer of %d bytes", len(reply))
		}
		describe(reply, relay) // walks all options; panics on one that runs over
	})
}

// BenchmarkAnswer is one answer without the sockets, with few and many guests.
func BenchmarkAnswer(b *testing.B) {
	for _, guests := range []int{100, 10000} {
		b.Run(fmt.Sprint(guests), func(b *testing.B) {
			w := want()
			w.Subnet, w.Guests = "10.0.0.0/8", nil
			var frames [][]byte
			for i := range guests {
				mac := kernel.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
				ip := fmt.Sprintf("10.1.%d.%d", i>>8, i&255)
				w.Guests = append(w.Guests, &netspec.Guest{Mac: mac.String(), Ip: ip, Hostname: fmt.Sprint("vm", i), DefaultNic: true})
				frames = append(frames, ask{kind: typeRequest, mac: mac, ciaddr: ip, options: []byte{optParameterList, 8, 1, 3, 6, 12, 15, 26, 28, 121}}.frame())
			}
			s := newTestService(b, w)
			out := make([]byte, 2048)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if reply, _ := s.server.answer(frames[i%guests], out, ownMAC); reply == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
