package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/wispcloud/wisp/proto/netspec"
)

func want() *netspec.Dns {
	w := &netspec.Dns{
		Links: []string{"svc0"}, Domain: "CS1.internal", Allow: []string{"10.1.1.0/24"}, Forwarders: []string{"192.0.2.53"},
		Records: []*netspec.DnsRecord{
			{Name: "web1", Addresses: []string{"10.1.1.11"}, TtlSeconds: 30},
			{Name: "Two", Addresses: []string{"10.1.1.12", "10.1.1.13"}, TtlSeconds: 60},
			{Name: "outside.example.org.", Addresses: []string{"198.51.100.1"}, TtlSeconds: 5},
			{Name: "empty"},
		},
	}
	many := &netspec.DnsRecord{Name: "many", TtlSeconds: 1}
	for i := range 60 {
		many.Addresses = append(many.Addresses, fmt.Sprintf("10.3.0.%d", i))
	}
	w.Records = append(w.Records, many)
	return w
}

// ask builds a question; edns 0 is without.
func ask(name string, t dnsmessage.Type, edns uint16) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 0x1234, RecursionDesired: true})
	_ = b.StartQuestions()
	_ = b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: t, Class: dnsmessage.ClassINET})
	if edns > 0 {
		_ = b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(int(edns), dnsmessage.RCodeSuccess, true)
		_ = b.OPTResource(h, dnsmessage.OPTResource{})
	}
	m, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return m
}

// describe prints a message in one line.
func describe(t *testing.T, m []byte) string {
	t.Helper()
	if m == nil {
		return "silence"
	}
	var d dnsmessage.Message
	if err := d.Unpack(m); err != nil {
		t.Fatalf("unpack %x: %v", m, err)
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	add("%s", strings.TrimPrefix(d.RCode.String(), "RCode"))
	for name, set := range map[string]bool{"aa": d.Authoritative, "tc": d.Truncated} {
		if set {
			add("%s", name)
		}
	}
	slices.Sort(parts[1:])
	sections := []string{"", "auth ", "add "}
	for i, records := range [][]dnsmessage.Resource{d.Answers, d.Authorities, d.Additionals} {
		section := sections[i]
		for _, r := range records {
			switch body := r.Body.(type) {
			case *dnsmessage.AResource:
				add("%s%s %d A %s", section, r.Header.Name, r.Header.TTL, netip.AddrFrom4(body.A))
			case *dnsmessage.PTRResource:
				add("%s%s %d PTR %s", section, r.Header.Name, r.Header.TTL, body.PTR)
			case *dnsmessage.SOAResource:
				add("%s%s %d SOA %s %s %d", section, r.Header.Name, r.Header.TTL, body.NS, body.MBox, body.MinTTL)
			case *dnsmessage.OPTResource:
				add("%sOPT %d do=%v ext=%d", section, r.Header.Class, r.Header.DNSSECAllowed(), r.Header.TTL>>24)
			default:
				add("%s%v", section, r)
			}
		}
	}
	if len(d.Answers) > 5 {
		parts = append(parts[:2], fmt.Sprintf("%d answers", len(d.Answers)))
	}
	return strings.Join(parts, ", ")
}

func newTestService(t testing.TB, w *netspec.Dns) *Service {
	t.Helper()
	s := &Service{log: slog.New(slog.DiscardHandler), forwarder: forwarder{open: map[netip.Addr]int{}}}
	s.ctx, s.cancel = context.WithCancel(t.Context())
	z, err := newZone(w)
	if err != nil {
		t.Fatal(err)
	}
	s.zone.Store(z)
	return s
}

func TestAnswers(t *testing.T) {
	const soa = "auth cs1.internal. 60 SOA ns.cs1.internal. hostmaster.cs1.internal. 60"
	guest, outsider := netip.MustParseAddr("10.1.1.11"), netip.MustParseAddr("10.1.2.11")
	mutate := func(m []byte, at int, b ...byte) []byte {
		m = slices.Clone(m)
		copy(m[at:], b)
		return m
	}
	a := ask("web1.cs1.internal.", dnsmessage.TypeA, 0)
	tests := []struct {
		name    string
		message []byte
		from    netip.Addr
		tcp     bool
		want    string
	}{
		{"name", a, guest, false, "Success, aa, web1.cs1.internal. 30 A 10.1.1.11"},
		{"case is kept in the answer", ask("WEB1.cs1.Internal.", dnsmessage.TypeA, 0), guest, false, "Success, aa, WEB1.cs1.Internal. 30 A 10.1.1.11"},
		{
			"two addresses", ask("two.cs1.internal.", dnsmessage.TypeA, 0), guest, false,
			"Success, aa, two.cs1.internal. 60 A 10.1.1.12, two.cs1.internal. 60 A 10.1.1.13",
		},
		{"short name", ask("web1.", dnsmessage.TypeA, 0), guest, false, "Success, aa, web1. 30 A 10.1.1.11"},
		{"full name of another domain", ask("outside.example.org.", dnsmessage.TypeA, 0), guest, false, "Success, aa, outside.example.org. 5 A 198.51.100.1"},
		{
			"EDNS is answered with EDNS", ask("web1.", dnsmessage.TypeA, 4096), guest, false,
			"Success, aa, web1. 30 A 10.1.1.11, add OPT 1232 do=true ext=0",
		},
		{
			"EDNS version nobody knows", mutate(ask("web1.", dnsmessage.TypeA, 4096), len(ask("web1.", dnsmessage.TypeA, 0))+6, 1), guest, false,
			"Success, add OPT 1232 do=true ext=1",
		},
		{"other type", ask("web1.cs1.internal.", dnsmessage.TypeAAAA, 0), guest, false, "Success, aa, " + soa},
		{"name without addresses", ask("empty.cs1.internal.", dnsmessage.TypeA, 0), guest, false, "Success, aa, " + soa},
		{
			"start of the domain", ask("cs1.internal.", dnsmessage.TypeSOA, 0), guest, false,
			"Success, aa, " + strings.TrimPrefix(soa, "auth "),
		},
		{"the domain has no address", ask("cs1.internal.", dnsmessage.TypeA, 0), guest, false, "Success, aa, " + soa},
		{"unknown name in the domain", ask("x.y.cs1.internal.", dnsmessage.TypeA, 0), guest, false, "NameError, aa, " + soa},
		{"a domain that only ends alike", ask("xcs1.internal.", dnsmessage.TypeA, 0), guest, false, "forward"},
		{"unknown bare name", ask("printer.", dnsmessage.TypeA, 0), guest, false, "NameError"},
		{"top-level domain", ask("org.", dnsmessage.TypeNS, 0), guest, false, "forward"},
		{"root", ask(".", dnsmessage.TypeNS, 0), guest, false, "forward"},
		{"elsewhere", ask("www.example.org.", dnsmessage.TypeA, 0), guest, false, "forward"},
		{"localhost", ask("localhost.", dnsmessage.TypeA, 0), guest, false, "Success, aa, localhost. 60 A 127.0.0.1"},
		{"pointer", ask("13.1.1.10.in-addr.arpa.", dnsmessage.TypePTR, 0), guest, false, "Success, aa, 13.1.1.10.in-addr.arpa. 60 PTR two.cs1.internal."},
		{"pointer, other type", ask("13.1.1.10.in-addr.arpa.", dnsmessage.TypeA, 0), guest, false, "Success, aa"},
		{"unknown pointer of the own network", ask("99.1.1.10.in-addr.arpa.", dnsmessage.TypePTR, 0), guest, false, "NameError, aa"},
		{"pointer of elsewhere", ask("1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, 0), guest, false, "forward"},
		{"pointer that is no address", ask("1.2.300.192.in-addr.arpa.", dnsmessage.TypePTR, 0), guest, false, "forward"},
		{"too many for a datagram", ask("many.", dnsmessage.TypeA, 0), guest, false, "Success, aa, tc"},
		{"too many for a datagram of a modest client", ask("many.", dnsmessage.TypeA, 600), guest, false, "Success, aa, tc, add OPT 1232 do=true ext=0"},
		{"enough room", ask("many.", dnsmessage.TypeA, 4096), guest, false, "Success, aa, 60 answers"},
		{"over TCP", ask("many.", dnsmessage.TypeA, 0), guest, true, "Success, aa, 60 answers"},
		{"any", ask("web1.", dnsmessage.TypeALL, 0), guest, false, "Refused"},
		{"chaos", mutate(a, len(a)-1, 3), guest, false, "Refused"},
		{"outsider", a, outsider, false, "silence"},
		{"answer instead of a question", mutate(a, 2, 0x80), guest, false, "silence"},
		{"less than a header", a[:11], guest, false, "silence"},
		{"update", mutate(a, 2, 5<<3), guest, false, "NotImplemented"},
		{"two questions", mutate(a, 5, 2), guest, false, "FormatError"},
		{"no question", mutate(a, 5, 0), guest, false, "FormatError"},
		{"cut off", a[:20], guest, false, "FormatError"},
		{"compressed name", mutate(a, 12, 0xc0, 12), guest, false, "FormatError"},
		{"dot inside a label", mutate(a, 14, '.'), guest, false, "FormatError"},
		{"claims an additional record", mutate(a, 11, 1), guest, false, "FormatError"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestService(t, want())
			var q query
			reply, forward := s.handle(nil, &q, tt.message, tt.from, tt.tcp)
			got := "forward"
			if !forward {
				got = describe(t, reply)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if reply != nil && (binary.BigEndian.Uint16(reply) != 0x1234 || reply[2]&0x80 == 0) {
				t.Errorf("header is %x", reply[:4])
			}
		})
	}
}

func TestWithoutForwarders(t *testing.T) {
	w := want()
	w.Forwarders = nil
	s := newTestService(t, w)
	var q query
	reply, forward := s.handle(nil, &q, ask("www.example.org.", dnsmessage.TypeA, 0), netip.MustParseAddr("10.1.1.11"), false)
	if got := describe(t, reply); forward || got != "Refused" {
		t.Errorf("got %s, forward %v", got, forward)
	}
	if reply[3]&0x80 != 0 {
		t.Error("says that it recurses")
	}
}

func TestZone(t *testing.T) {
	tests := []struct {
		name   string
		change func(*netspec.Dns)
		want   string
		serves bool
	}{
		{"as it should be", func(*netspec.Dns) {}, "", true},
		{"bad domain", func(w *netspec.Dns) { w.Domain = "a..b" }, "domain", false},
		{"bad allow", func(w *netspec.Dns) { w.Allow = []string{"10.1.1.0"} }, "allow", false},
		{"bad forwarder", func(w *netspec.Dns) { w.Forwarders = []string{"dns.example.org"} }, "forwarder", false},
		{"forwarder with port", func(w *netspec.Dns) { w.Forwarders = []string{"192.0.2.1:5353"} }, "", true},
		{"bad name", func(w *netspec.Dns) { w.Records[0].Name = "a b" }, `record "a b"`, true},
		{"long label", func(w *netspec.Dns) { w.Records[0].Name = strings.Repeat("a", 64) }, "label", true},
		{"bad address", func(w *netspec.Dns) { w.Records[0].Addresses = []string{"::1"} }, "not an IPv4 address", true},
		{"name twice", func(w *netspec.Dns) { w.Records[1].Name = "WEB1" }, "given twice", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := want()
			tt.change(w)
			z, err := newZone(w)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if (z != nil) != tt.serves {
				t.Errorf("zone is %v", z)
			}
		})
	}
}

// resolver is another resolver played over pipes: it answers what reply makes of a question; nil is silence.
type resolver struct {
	reply func(question []byte) [][]byte
}

func dialer(resolvers map[string]resolver, asked *[]string) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, network, address string) (net.Conn, error) {
		*asked = append(*asked, network+" "+address)
		r, ok := resolvers[address]
		if !ok {
			return nil, errors.New("unreachable")
		}
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			buf := make([]byte, 4096)
			n, err := there.Read(buf)
			if err != nil {
				return
			}
			question := buf[:n]
			if network == "tcp4" {
				question = question[2:]
			}
			for _, answer := range r.reply(question) {
				if network == "tcp4" {
					answer = append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
				}
				if _, err := there.Write(answer); err != nil {
					return
				}
			}
			_, _ = io.Copy(io.Discard, there) // silence until the asker gives up
		}()
		return here, nil
	}
}

func respond(rcode byte, changes ...func([]byte)) func([]byte) [][]byte {
	return func(question []byte) [][]byte {
		answer := slices.Clone(question)
		answer[2] |= 0x80
		answer[3] = 0x80 | rcode
		for _, change := range changes {
			change(answer)
		}
		return [][]byte{answer}
	}
}

func TestForward(t *testing.T) {
	wrongID := func(m []byte) { m[0]++ }
	wrongName := func(m []byte) { m[13]++ }
	question := func(m []byte) { m[2] &^= 0x80 }
	ok, fails, refuses := respond(rcodeOK), respond(rcodeServFail), respond(rcodeRefused)
	tests := []struct {
		name      string
		tcp       bool
		resolvers map[string]resolver
		asked     string
		want      string
	}{
		{"first answers", false, map[string]resolver{"a:53": {ok}, "b:53": {ok}}, "udp4 a:53", "Success"},
		{"over TCP", true, map[string]resolver{"a:53": {ok}}, "tcp4 a:53", "Success"},
		{"no such name is an answer", false, map[string]resolver{"a:53": {respond(rcodeNXDomain)}, "b:53": {ok}}, "udp4 a:53", "NameError"},
		{"first unreachable", false, map[string]resolver{"b:53": {ok}}, "udp4 a:53, udp4 b:53", "Success"},
		{"first fails", false, map[string]resolver{"a:53": {fails}, "b:53": {ok}}, "udp4 a:53, udp4 b:53", "Success"},
		{"first refuses", false, map[string]resolver{"a:53": {refuses}, "b:53": {ok}}, "udp4 a:53, udp4 b:53", "Success"},
		{"all refuse", false, map[string]resolver{"a:53": {refuses}, "b:53": {refuses}}, "udp4 a:53, udp4 b:53", "Refused"},
		{"none reachable", false, nil, "udp4 a:53, udp4 b:53, udp4 a:53", "ServerFailure"},
		{"forged answers before the true one", false, map[string]resolver{"a:53": {func(q []byte) [][]byte {
			return slices.Concat(respond(rcodeNXDomain, wrongID)(q), respond(rcodeNXDomain, wrongName)(q), respond(rcodeNXDomain, question)(q),
				[][]byte{{1}, q[:12]}, ok(q))
		}}}, "udp4 a:53", "Success"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestService(t, want())
			z := *s.zone.Load()
			z.forwarders = []string{"a:53", "b:53"}
			s.zone.Store(&z)
			var asked []string
			s.forwarder.dial = dialer(tt.resolvers, &asked)
			var q query
			if err := q.parse(ask("www.example.org.", dnsmessage.TypeA, 0)); err != nil {
				t.Fatal(err)
			}
			answer := s.resolve(&q, tt.tcp)
			if got := describe(t, answer); got != tt.want || binary.BigEndian.Uint16(answer) != 0x1234 {
				t.Errorf("got %s with id %x, want %s", got, answer[:2], tt.want)
			}
			if got := strings.Join(asked, ", "); got != tt.asked {
				t.Errorf("asked %s, want %s", got, tt.asked)
			}
		})
	}
}

func TestForwardTimesOut(t *testing.T) {
	s := newTestService(t, want())
	var asked []string
	s.forwarder.dial = dialer(map[string]resolver{"a:53": {func([]byte) [][]byte { return nil }}}, &asked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the process ends: nobody waits for the time-out
	var q query
	if err := q.parse(ask("www.example.org.", dnsmessage.TypeA, 0)); err != nil {
		t.Fatal(err)
	}
	if answer, err := s.forwarder.ask(ctx, "udp4", []string{"a:53"}, &q); err == nil {
		t.Errorf("got %x", answer)
	}
}

func TestForwardLimits(t *testing.T) {
	f := forwarder{open: map[netip.Addr]int{}}
	greedy := netip.MustParseAddr("10.1.1.1")
	for i := range forwardsPerGuest {
		if !f.take(greedy) {
			t.Fatalf("refused the %dth", i)
		}
	}
	if f.take(greedy) {
		t.Error("one guest got more than its share")
	}
	if !f.take(netip.MustParseAddr("10.1.1.2")) {
		t.Error("another guest got nothing")
	}
	f.give(greedy)
	if !f.take(greedy) {
		t.Error("what was given back is not there")
	}
}

// FuzzHandle feeds messages: an answer must be well formed, say it is one, and fit; and this parser must agree with
// another about what the question is.
func FuzzHandle(f *testing.F) {
	for _, name := range []string{"web1.", "many.cs1.internal.", "x.cs1.internal.", "13.1.1.10.in-addr.arpa.", "www.example.org.", "."} {
		for _, t := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypePTR, dnsmessage.TypeSOA, dnsmessage.TypeALL} {
			f.Add(ask(name, t, 0), false)
			f.Add(ask(name, t, 700), true)
		}
	}
	s := newTestService(f, want())
	from := netip.MustParseAddr("10.1.1.11")
	f.Fuzz(func(t *testing.T, message []byte, tcp bool) {
		before := slices.Clone(message)
		var q query
		reply, forward := s.handle(nil, &q, message, from, tcp)
		if !slices.Equal(before, message) {
			t.Fatal("the question was changed")
		}
		if forward || len(reply) > headerLen && reply[3]&0xf == rcodeOK {
			var p dnsmessage.Parser
			if _, err := p.Start(message); err != nil {
				t.Fatalf("answered what another parser refuses: %v", err)
			}
			question, err := p.Question()
			if err != nil {
				t.Fatalf("answered what another parser refuses: %v", err)
			}
			if got := strings.ToLower(question.Name.String()); got != string(q.name) && !strings.ContainsAny(got, "\\") && !nonASCII(got) {
				t.Fatalf("name is %q, another parser says %q", q.name, got)
			}
		}
		if reply == nil {
			return
		}
		if reply[2]&0x80 == 0 || !slices.Equal(reply[:2], message[:2]) {
			t.Fatalf("header is %x", reply[:headerLen])
		}
		if len(reply) > q.limit(tcp) && len(reply) > plainSize {
			t.Fatalf("answer of %d bytes", len(reply))
		}
		var p dnsmessage.Parser
		if _, err := p.Start(reply); err != nil {
			t.Fatalf("answer cannot be parsed: %v", err)
		}
	})
}

func nonASCII(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r > '~' || r < ' ' })
}

func BenchmarkAnswer(b *testing.B) {
	w := want()
	for i := range 10000 {
		w.Records = append(w.Records, &netspec.DnsRecord{Name: fmt.Sprintf("vm%d", i), Addresses: []string{fmt.Sprintf("10.2.%d.%d", i>>8, i&255)}})
	}
	s := newTestService(b, w)
	message, out := ask("vm7777.cs1.internal.", dnsmessage.TypeA, 1232), make([]byte, 0, 4096)
	from := netip.MustParseAddr("10.1.1.11")
	var q query
	b.ReportAllocs()
	for b.Loop() {
		if reply, _ := s.handle(out, &q, message, from, false); reply == nil {
			b.Fatal("no answer")
		}
	}
}
