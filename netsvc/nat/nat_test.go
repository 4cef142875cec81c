package nat

import (
	"context"
	"testing"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

func TestWalk(t *testing.T) {
	with := func(source, link string) string {
		return "*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -j WISP-NAT-POST\n:WISP-NAT-POST -\n" +
			"-A WISP-NAT-POST -s 10.1.1.0/24 -o " + link + " -j SNAT --to-source " + source + "\n"
	}
	netsvctest.Walk[*netspec.Nat]{
		Options: kernel.TextOptions{Tables: []string{"nat"}},
		New: func(k netsvctest.Kernel) func(context.Context, *netspec.Nat) error {
			return New(ruleset.NewTables(k)).Apply
		},
		States: []netsvctest.State[*netspec.Nat]{
			{Name: "none", Text: "*nat\n"},
			{
				Name: "on", Want: &netspec.Nat{PublicLink: "pub0", GuestCidr: "10.1.1.0/24", SourceNatIp: "203.0.113.10"},
				Text: with("203.0.113.10", "pub0"),
			},
			{
				Name: "another address, network given by one of its addresses",
				Want: &netspec.Nat{PublicLink: "pub0", GuestCidr: "10.1.1.77/24", SourceNatIp: "203.0.113.11"},
				Text: with("203.0.113.11", "pub0"),
			},
			{
				Name: "another link", Want: &netspec.Nat{PublicLink: "pub1", GuestCidr: "10.1.1.0/24", SourceNatIp: "203.0.113.10"},
				Text: with("203.0.113.10", "pub1"),
			},
			{
				Name: "two static addresses", Want: &netspec.Nat{
					PublicLink: "pub0", GuestCidr: "10.1.1.0/24", SourceNatIp: "203.0.113.10",
					GuestLink: "gw0", GuestGateway: "10.1.1.1", Statics: []*netspec.StaticNat{
						{PublicIp: "203.0.113.11", GuestIp: "10.1.1.20"}, {PublicIp: "203.0.113.12", GuestIp: "10.1.1.21"},
					},
				},
				Text: "*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -j WISP-NAT-POST\n:PREROUTING ACCEPT\n-A PREROUTING -j WISP-NAT-PRE\n" +
					":WISP-NAT-POST -\n-A WISP-NAT-POST -s 10.1.1.20/32 -o pub0 -j SNAT --to-source 203.0.113.11\n" +
					"-A WISP-NAT-POST -s 10.1.1.21/32 -o pub0 -j SNAT --to-source 203.0.113.12\n" +
					"-A WISP-NAT-POST -s 10.1.1.0/24 -d 10.1.1.0/24 -o gw0 -m conntrack --ctstate DNAT -j SNAT --to-source 10.1.1.1\n" +
					"-A WISP-NAT-POST -s 10.1.1.0/24 -o pub0 -j SNAT --to-source 203.0.113.10\n" +
					":WISP-NAT-PRE -\n-A WISP-NAT-PRE -d 203.0.113.11/32 -j DNAT --to-destination 10.1.1.20\n" +
					"-A WISP-NAT-PRE -d 203.0.113.12/32 -j DNAT --to-destination 10.1.1.21\n",
			},
			{Name: "without an address", Want: &netspec.Nat{PublicLink: "pub0", GuestCidr: "10.1.1.0/24"}, Text: "*nat\n"},
		},
	}.Run(t)
}

func TestUnusable(t *testing.T) {
	for _, want := range []*netspec.Nat{
		{PublicLink: "pub0", GuestCidr: "10.1.1.0/24", SourceNatIp: "x"},
		{PublicLink: "pub0", GuestCidr: "10.1.1.0/24", SourceNatIp: "2001:db8::1"},
		{PublicLink: "pub0", GuestCidr: "", SourceNatIp: "203.0.113.10"},
		{PublicLink: "pub0 -j ACCEPT", GuestCidr: "10.1.1.0/24", SourceNatIp: "203.0.113.10"},
		{PublicLink: "pub0", GuestCidr: "10.1.1.0/24", GuestLink: "gw0", GuestGateway: "10.1.1.1", Statics: []*netspec.StaticNat{
			{PublicIp: "203.0.113.11", GuestIp: "10.1.1.20"}, {PublicIp: "203.0.113.12", GuestIp: "10.1.1.20"},
		}},
		{PublicLink: "pub0", GuestCidr: "10.1.1.0/24", GuestLink: "gw0", Statics: []*netspec.StaticNat{
			{PublicIp: "203.0.113.11", GuestIp: "10.1.1.20"},
		}},
		{PublicLink: "", GuestCidr: "10.1.1.0/24", SourceNatIp: "203.0.113.10"},
	} {
		k := fake.New()
		if err := New(ruleset.NewTables(k)).Apply(t.Context(), want); err == nil {
			t.Errorf("%v was taken", want)
		}
		if journal := k.Journal(); len(journal) > 0 {
			t.Errorf("%v changed %q", want, journal)
		}
	}
}
