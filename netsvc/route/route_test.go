package route

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

// prepare raises the links a and b with an on-link route each, as the link service leaves them.
func prepare(t *testing.T, k netsvctest.Kernel) {
	t.Helper()
	links, err := k.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		prefix := netip.MustParsePrefix(map[string]string{"a": "10.0.1.1/24", "b": "10.0.2.1/24"}[l.Name])
		if err := k.AddAddress(l.Index, kernel.Address{Prefix: prefix}); err != nil {
			t.Fatal(err)
		}
		if err := k.SetLinkUp(l.Index, true); err != nil {
			t.Fatal(err)
		}
		if err := k.ReplaceRoute(kernel.Route{
			Table: kernel.MainTable, Destination: prefix.Masked(), LinkIndex: l.Index,
			Source: prefix.Addr(), Protocol: kernel.ProtocolLink,
		}); err != nil {
			t.Fatal(err)
		}
	}
}

const ground = `
link a 02:00:00:00:00:0a mtu 1500 up
  address 10.0.1.1/24
link b 02:00:00:00:00:0b mtu 1500 up
  address 10.0.2.1/24
route main 10.0.1.0/24 dev a src 10.0.1.1 metric 0 proto 87
route main 10.0.2.0/24 dev b src 10.0.2.1 metric 0 proto 87
`

func TestWalk(t *testing.T) {
	netsvctest.Walk[Want]{
		Ports:   []netsvctest.Port{{Name: "a", MAC: "02:00:00:00:00:0a"}, {Name: "b", MAC: "02:00:00:00:00:0b"}},
		Options: kernel.TextOptions{Sysctls: Sysctls()},
		New: func(k netsvctest.Kernel) func(context.Context, Want) error {
			return New(k).Apply
		},
		Prepare: prepare,
		States: []netsvctest.State[Want]{{
			Name: "nothing",
			Text: ground + "sysctl net/ipv4/ip_forward = 0\n",
		}, {
			Name: "default route, forwarding",
			Want: Want{Routes: []*netspec.Route{{Destination: "0.0.0.0/0", Gateway: "10.0.1.254", Link: "a"}}, Forwarding: true},
			Text: strings.Replace(ground, "route main 10.0.1.0/24", `route main 0.0.0.0/0 dev a via 10.0.1.254 metric 0 proto 88
route main 10.0.1.0/24`, 1) + "sysctl net/ipv4/ip_forward = 1\n",
		}, {
			Name: "default route by the other link, one more, one without gateway",
			Want: Want{Routes: []*netspec.Route{
				{Destination: "0.0.0.0/0", Gateway: "10.0.2.254", Link: "b"},
				{Destination: "192.0.2.0/24", Gateway: "10.0.1.7", Link: "a"},
				{Destination: "192.0.3.1/32", Link: "b"},
			}, Forwarding: true},
			Text: strings.Replace(ground, "route main 10.0.1.0/24", `route main 0.0.0.0/0 dev b via 10.0.2.254 metric 0 proto 88
route main 10.0.1.0/24`, 1) + `route main 192.0.2.0/24 dev a via 10.0.1.7 metric 0 proto 88
route main 192.0.3.1/32 dev b metric 0 proto 88
sysctl net/ipv4/ip_forward = 1
`,
		}},
	}.Run(t)
}

func TestBadRoutesDoNotStopTheOthers(t *testing.T) {
	k := fake.New()
	k.AddLink("a", kernel.MAC{2, 0, 0, 0, 0, 10}, 1500)
	k.AddLink("b", kernel.MAC{2, 0, 0, 0, 0, 11}, 1500)
	prepare(t, k)
	err := New(k).Apply(t.Context(), Want{Routes: []*netspec.Route{
		{Destination: "nonsense", Link: "a"},
		{Destination: "192.0.2.0/24", Gateway: "x", Link: "a"},
		{Destination: "192.0.3.0/24", Link: "missing"},
		{Destination: "192.0.4.0/24", Gateway: "172.16.0.1", Link: "a"},
		{Destination: "192.0.5.0/24", Gateway: "10.0.1.9", Link: "a"},
	}})
	for _, want := range []string{"not an IPv4 prefix", "not an IPv4 address", "no such link", "unreachable"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in error %v", want, err)
		}
	}
	routes, _ := k.Routes(kernel.ProtocolRoute)
	if len(routes) != 1 || routes[0].Destination.String() != "192.0.5.0/24" {
		t.Errorf("routes are %v", routes)
	}
}

// TestForwardingIsLastOnAndFirstOff: no moment forwards over routes that are not wanted.
func TestForwardingIsLastOnAndFirstOff(t *testing.T) {
	k := fake.New()
	k.AddLink("a", kernel.MAC{2, 0, 0, 0, 0, 10}, 1500)
	k.AddLink("b", kernel.MAC{2, 0, 0, 0, 0, 11}, 1500)
	prepare(t, k)
	k.Journal()
	s := New(k)
	on := Want{Routes: []*netspec.Route{{Destination: "0.0.0.0/0", Gateway: "10.0.1.254", Link: "a"}}, Forwarding: true}
	for _, step := range []struct {
		want    Want
		journal []string
	}{
		{on, []string{"route set 254 0.0.0.0/0 a 10.0.1.254", "sysctl net/ipv4/ip_forward 1", "sysctl net/ipv4/conf/all/accept_redirects 0"}},
		{Want{}, []string{"sysctl net/ipv4/ip_forward 0", "sysctl net/ipv4/conf/all/accept_redirects 0", "route delete 254 0.0.0.0/0"}},
	} {
		if err := s.Apply(t.Context(), step.want); err != nil {
			t.Fatal(err)
		}
		if got := k.Journal(); !slices.Equal(got, step.journal) {
			t.Errorf("changes are %q, want %q", got, step.journal)
		}
	}
}
