package link

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	svcMAC = "02:00:00:00:00:02"
	gwMAC  = "02:00:00:00:00:01"
	pubMAC = "02:00:00:00:00:03"
)

func svc(addresses ...string) *netspec.Link {
	return &netspec.Link{Name: "svc0", Mac: svcMAC, Mtu: 1450, StrictArp: true, Addresses: addresses}
}

func gw(addresses ...string) *netspec.Link {
	return &netspec.Link{Name: "gw0", Mac: gwMAC, Mtu: 1450, StrictArp: true, Announce: true, Addresses: addresses}
}

func pub(addresses ...string) *netspec.Link {
	return &netspec.Link{Name: "pub0", Mac: pubMAC, Mtu: 1500, Announce: true, Addresses: addresses}
}

const cleared = `
link gw0 02:00:00:00:00:01 mtu 1450 down
link pub0 02:00:00:00:00:03 mtu 1500 down
link svc0 02:00:00:00:00:02 mtu 1450 down
`

func TestWalk(t *testing.T) {
	netsvctest.Walk[[]*netspec.Link]{
		Ports: []netsvctest.Port{{Name: "wsvc1", MAC: svcMAC}, {Name: "gw0", MAC: pubMAC}, {Name: "wgw1", MAC: gwMAC}},
		New: func(k netsvctest.Kernel) func(context.Context, []*netspec.Link) error {
			return New(k, slog.New(slog.DiscardHandler)).Apply
		},
		// Every state names all three links, for a service that is new does not know which links its predecessor had.
		States: []netsvctest.State[[]*netspec.Link]{{
			Name: "services' leg and router's leg in one network",
			Want: []*netspec.Link{svc("10.1.1.2/24"), gw("10.1.1.1/24"), pub("203.0.113.10/24", "203.0.113.11/24")},
			Text: `
link gw0 02:00:00:00:00:01 mtu 1450 up
  address 10.1.1.1/24
link pub0 02:00:00:00:00:03 mtu 1500 up
  address 203.0.113.10/24
  address 203.0.113.11/24
link svc0 02:00:00:00:00:02 mtu 1450 up
  address 10.1.1.2/24
route main 10.1.1.0/24 dev gw0 src 10.1.1.1 metric 0 proto 87
route main 10.1.1.0/24 dev svc0 src 10.1.1.2 metric 1024 proto 87
route main 203.0.113.0/24 dev pub0 src 203.0.113.10 metric 0 proto 87
route of-gw0 10.1.1.0/24 dev gw0 src 10.1.1.1 metric 0 proto 87
route of-svc0 10.1.1.0/24 dev svc0 src 10.1.1.2 metric 0 proto 87
rule 10000 from 10.1.1.1/32 lookup of-gw0
rule 10000 from 10.1.1.2/32 lookup of-svc0
`,
		}, {
			Name: "services' leg only",
			Want: []*netspec.Link{svc("10.1.1.2/24"), gw(), pub()},
			Text: `
link gw0 02:00:00:00:00:01 mtu 1450 up
link pub0 02:00:00:00:00:03 mtu 1500 up
link svc0 02:00:00:00:00:02 mtu 1450 up
  address 10.1.1.2/24
route main 10.1.1.0/24 dev svc0 src 10.1.1.2 metric 1024 proto 87
route of-svc0 10.1.1.0/24 dev svc0 src 10.1.1.2 metric 0 proto 87
rule 10000 from 10.1.1.2/32 lookup of-svc0
`,
		}, {
			Name: "first public address replaced, an added one in another network",
			Want: []*netspec.Link{svc("10.1.1.2/24"), gw("10.1.1.1/24"), pub("203.0.113.11/24", "203.0.113.12/24", "198.51.100.9/28")},
			Text: `
link gw0 02:00:00:00:00:01 mtu 1450 up
  address 10.1.1.1/24
link pub0 02:00:00:00:00:03 mtu 1500 up
  address 198.51.100.9/28
  address 203.0.113.11/24
  address 203.0.113.12/24
link svc0 02:00:00:00:00:02 mtu 1450 up
  address 10.1.1.2/24
route main 10.1.1.0/24 dev gw0 src 10.1.1.1 metric 0 proto 87
route main 10.1.1.0/24 dev svc0 src 10.1.1.2 metric 1024 proto 87
route main 198.51.100.0/28 dev pub0 src 198.51.100.9 metric 0 proto 87
route main 203.0.113.0/24 dev pub0 src 203.0.113.11 metric 0 proto 87
route of-gw0 10.1.1.0/24 dev gw0 src 10.1.1.1 metric 0 proto 87
route of-svc0 10.1.1.0/24 dev svc0 src 10.1.1.2 metric 0 proto 87
rule 10000 from 10.1.1.1/32 lookup of-gw0
rule 10000 from 10.1.1.2/32 lookup of-svc0
`,
		}, {
			Name: "another prefix length, addresses that are their whole network",
			Want: []*netspec.Link{svc("10.1.1.2/25"), gw("10.1.1.1/25"), pub("203.0.113.10/32", "203.0.113.11/24")},
			Text: `
link gw0 02:00:00:00:00:01 mtu 1450 up
  address 10.1.1.1/25
link pub0 02:00:00:00:00:03 mtu 1500 up
  address 203.0.113.10/32
  address 203.0.113.11/24
link svc0 02:00:00:00:00:02 mtu 1450 up
  address 10.1.1.2/25
route main 10.1.1.0/25 dev gw0 src 10.1.1.1 metric 0 proto 87
route main 10.1.1.0/25 dev svc0 src 10.1.1.2 metric 1024 proto 87
route main 203.0.113.0/24 dev pub0 src 203.0.113.11 metric 0 proto 87
route of-gw0 10.1.1.0/25 dev gw0 src 10.1.1.1 metric 0 proto 87
route of-svc0 10.1.1.0/25 dev svc0 src 10.1.1.2 metric 0 proto 87
rule 10000 from 10.1.1.1/32 lookup of-gw0
rule 10000 from 10.1.1.2/32 lookup of-svc0
`,
		}},
	}.Run(t)
}

// legs is a fake with the three links of a router's namespace.
func legs(t *testing.T) *fake.Kernel {
	t.Helper()
	k := fake.New()
	for name, text := range map[string]string{"wsvc1": svcMAC, "wgw1": gwMAC, "wpub1": pubMAC} {
		mac, err := kernel.ParseMAC(text)
		if err != nil {
			t.Fatal(err)
		}
		k.AddLink(name, mac, 1500)
	}
	return k
}

func text(t *testing.T, k *fake.Kernel, o kernel.TextOptions) string {
	t.Helper()
	s, err := kernel.Text(t.Context(), k, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func all() []*netspec.Link {
	return []*netspec.Link{svc("10.1.1.2/24"), gw("10.1.1.1/24"), pub("203.0.113.10/24", "203.0.113.11/24")}
}

func TestReleaseClearsLinks(t *testing.T) {
	k := legs(t)
	s := New(k, slog.New(slog.DiscardHandler))
	if err := s.Apply(t.Context(), all()); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimLeft(cleared, "\n"), text(t, k, kernel.TextOptions{})); diff != "" {
		t.Errorf("after no link is wanted (-want +got):\n%s", diff)
	}
}

func TestSysctls(t *testing.T) {
	k := legs(t)
	if err := New(k, slog.New(slog.DiscardHandler)).Apply(t.Context(), all()); err != nil {
		t.Fatal(err)
	}
	whole := text(t, k, kernel.TextOptions{Sysctls: Sysctls()})
	got := slices.DeleteFunc(strings.Split(whole, "\n"), func(line string) bool { return !strings.HasPrefix(line, "sysctl") })
	want := strings.Fields(`
all/accept_redirects=0 all/accept_source_route=0 all/arp_announce=0 all/arp_ignore=0 all/rp_filter=0 all/send_redirects=0
gw0/accept_redirects=0 gw0/accept_source_route=0 gw0/arp_announce=2 gw0/arp_ignore=1 gw0/promote_secondaries=1
gw0/rp_filter=1 gw0/send_redirects=0
pub0/accept_redirects=0 pub0/accept_source_route=0 pub0/arp_announce=0 pub0/arp_ignore=0 pub0/promote_secondaries=1
pub0/rp_filter=1 pub0/send_redirects=0
svc0/accept_redirects=0 svc0/accept_source_route=0 svc0/arp_announce=2 svc0/arp_ignore=1 svc0/promote_secondaries=1
svc0/rp_filter=2 svc0/send_redirects=0`)
	for i, line := range want {
		name, value, _ := strings.Cut(line, "=")
		want[i] = "sysctl net/ipv4/conf/" + name + " = " + value
	}
	for _, link := range []string{"gw0", "pub0", "svc0"} {
		want = append(want, "sysctl net/ipv6/conf/"+link+"/accept_ra = 0", "sysctl net/ipv6/conf/"+link+"/disable_ipv6 = 1")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOrder: an address is there before the link is up, the new one before the old one goes, sysctls before all.
func TestOrder(t *testing.T) {
	k := legs(t)
	s := New(k, slog.New(slog.DiscardHandler))
	if err := s.Apply(t.Context(), []*netspec.Link{gw("10.1.1.1/24")}); err != nil {
		t.Fatal(err)
	}
	first := k.Journal()
	if err := s.Apply(t.Context(), []*netspec.Link{gw("10.1.1.254/24")}); err != nil {
		t.Fatal(err)
	}
	second := k.Journal()
	shorten := func(journal []string) []string {
		return slices.DeleteFunc(journal, func(op string) bool { return strings.HasPrefix(op, "sysctl net/ipv4/conf/all") })
	}
	at := func(journal []string, op string) int { return slices.Index(journal, op) }
	first = shorten(first)
	for _, pair := range [][2]string{
		{"sysctl net/ipv4/conf/gw0/arp_ignore 1", "up gw0"},
		{"sysctl net/ipv4/conf/gw0/rp_filter 1", "up gw0"},
		{"address add gw0 10.1.1.1/24", "up gw0"},
		{"up gw0", "announce gw0 10.1.1.1"},
	} {
		if i, j := at(first, pair[0]), at(first, pair[1]); i < 0 || j < 0 || i > j {
			t.Errorf("%q must come before %q:\n%s", pair[0], pair[1], strings.Join(first, "\n"))
		}
	}
	want := []string{
		"address add gw0 10.1.1.254/24", "address delete gw0 10.1.1.1/24", "announce gw0 10.1.1.254",
		"route set 254 10.1.1.0/24 gw0 invalid IP", "route set 20003 10.1.1.0/24 gw0 invalid IP",
		"rule add 10000 10.1.1.254/32", "rule delete 10000 10.1.1.1/32",
	}
	for i, op := range second { // the number of the link's table depends on the order of a map
		if strings.HasPrefix(op, "route set 2000") {
			second[i] = "route set 20003 " + strings.SplitN(op, " ", 4)[3]
		}
	}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOneBrokenLinkDoesNotStopTheOthers(t *testing.T) {
	tests := []struct {
		name string
		link *netspec.Link
		want string
	}{
		{"not there yet", &netspec.Link{Name: "x0", Mac: "02:00:00:00:00:99"}, "no such link"},
		{"bad mac", &netspec.Link{Name: "x0", Mac: "nonsense"}, "not six bytes"},
		{"bad name", &netspec.Link{Name: "a/b", Mac: pubMAC}, "not a usable link name"},
		{"long name", &netspec.Link{Name: "sixteen-letters-", Mac: pubMAC}, "not a usable link name"},
		{"loopback", &netspec.Link{Name: "lo", Mac: pubMAC}, "not a usable link name"},
		{"bad address", &netspec.Link{Name: "x0", Mac: pubMAC, Addresses: []string{"10.0.0.1"}}, "not IPv4 with a prefix length"},
		{"same mac", &netspec.Link{Name: "x0", Mac: gwMAC}, "given twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := legs(t)
			err := New(k, slog.New(slog.DiscardHandler)).Apply(t.Context(), []*netspec.Link{gw("10.1.1.1/24"), tt.link, svc("10.1.1.2/24")})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			got := text(t, k, kernel.TextOptions{})
			for _, line := range []string{"  address 10.1.1.1/24", "  address 10.1.1.2/24"} {
				if !strings.Contains(got, line) {
					t.Errorf("no line %q in:\n%s", line, got)
				}
			}
		})
	}
}

func TestRepairsAreCounted(t *testing.T) {
	k := legs(t)
	s := New(k, slog.New(slog.DiscardHandler))
	apply := func(want uint64) {
		t.Helper()
		if err := s.Apply(t.Context(), all()); err != nil {
			t.Fatal(err)
		}
		if s.Repairs() != want {
			t.Errorf("repairs = %d, want %d", s.Repairs(), want)
		}
	}
	apply(0)
	apply(0)
	links, err := k.Links()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == "gw0" })
	have, err := k.Addresses(links[i].Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.DeleteAddress(links[i].Index, have[0]); err != nil {
		t.Fatal(err)
	}
	apply(3) // the address and its two routes
	apply(3)
	if err := s.Apply(t.Context(), all()[:2]); err != nil {
		t.Fatal(err)
	}
	if s.Repairs() != 3 {
		t.Errorf("a change of the spec was counted as repair")
	}
}

func TestKernelWithoutIPv6(t *testing.T) {
	k := legs(t)
	k.FailOn("sysctl net/ipv6", fs.ErrNotExist)
	if err := New(k, slog.New(slog.DiscardHandler)).Apply(t.Context(), all()); err != nil {
		t.Errorf("without IPv6: %v", err)
	}
	other := errors.New("denied")
	k = legs(t)
	k.FailOn("sysctl net/ipv6", other)
	if err := New(k, slog.New(slog.DiscardHandler)).Apply(t.Context(), all()); !errors.Is(err, other) {
		t.Errorf("got %v, want %v", err, other)
	}
}

// TestAnnouncedWithCarrier: a link that serves in another's place is announced when it is plugged in, once.
func TestAnnouncedWithCarrier(t *testing.T) {
	k := fake.New()
	mac, err := kernel.ParseMAC(gwMAC)
	if err != nil {
		t.Fatal(err)
	}
	k.AddLink("gw0", mac, 1450)
	s := New(k, slog.New(slog.DiscardHandler))
	want := []*netspec.Link{{Name: "gw0", Mac: gwMAC, Mtu: 1450, Announce: true, Addresses: []string{"10.1.1.1/24", "10.1.1.9/24"}}}
	announced := func() (list []string) {
		t.Helper()
		if err := s.Apply(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		for _, line := range k.Journal() {
			if strings.HasPrefix(line, "announce") {
				list = append(list, line)
			}
		}
		return list
	}
	both := []string{"announce gw0 10.1.1.1", "announce gw0 10.1.1.9"}
	for i, step := range []struct {
		carrier bool
		want    []string
	}{{true, both}, {true, nil}, {false, nil}, {false, nil}, {true, both}, {true, nil}} {
		k.SetCarrier("gw0", step.carrier)
		if diff := cmp.Diff(step.want, announced()); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}
