package portfwd

import (
	"context"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

var nat = kernel.TextOptions{Tables: []string{"nat"}}

func forward(rules ...*netspec.PortForwardRule) *netspec.PortForward {
	return &netspec.PortForward{PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", GuestGateway: "10.1.1.1", Rules: rules}
}

func rule(id, protocol, public string, p1, p2 uint32, guest string, g1, g2 uint32) *netspec.PortForwardRule {
	return &netspec.PortForwardRule{
		Id: id, Protocol: protocol, PublicIp: public, PublicStartPort: p1, PublicEndPort: p2,
		GuestIp: guest, GuestStartPort: g1, GuestEndPort: g2,
	}
}

const (
	head = `
*nat
:POSTROUTING ACCEPT
-A POSTROUTING -j WISP-PF-POST
:PREROUTING ACCEPT
-A PREROUTING -j WISP-PF-PRE
`
	post = `:WISP-PF-POST -
-A WISP-PF-POST -s 10.1.1.0/24 -d 10.1.1.0/24 -o gw0 -m conntrack --ctstate DNAT -j SNAT --to-source 10.1.1.1
:WISP-PF-PRE -
`
)

func TestWalk(t *testing.T) {
	netsvctest.Walk[*netspec.PortForward]{
		Options: nat,
		New: func(k netsvctest.Kernel) func(context.Context, *netspec.PortForward) error {
			return New(ruleset.NewTables(k)).Apply
		},
		States: []netsvctest.State[*netspec.PortForward]{{
			Name: "none",
			Text: "*nat\n",
		}, {
			Name: "no rules",
			Want: forward(),
			Text: "*nat\n",
		}, {
			Name: "one port",
			Want: forward(rule("a", "tcp", "203.0.113.5", 2222, 2222, "10.1.1.5", 22, 22)),
			Text: head + `:WISP-PF-D-203.0.113.5 -
-A WISP-PF-D-203.0.113.5 -p tcp -m tcp --dport 2222 -m comment --comment a -j DNAT --to-destination 10.1.1.5:22
` + post + `-A WISP-PF-PRE -d 203.0.113.5/32 -j WISP-PF-D-203.0.113.5
`,
		}, {
			Name: "ranges on two addresses",
			Want: forward(
				rule("a", "tcp", "203.0.113.5", 8000, 8010, "10.1.1.5", 8000, 8010),
				rule("b", "tcp", "203.0.113.5", 9000, 9010, "10.1.1.6", 7000, 7010),
				rule("c", "udp", "203.0.113.5", 9000, 9010, "10.1.1.6", 53, 0),
				rule("d", "udp", "203.0.113.4", 53, 0, "10.1.1.7", 53, 53),
			),
			Text: head + `:WISP-PF-D-203.0.113.4 -
-A WISP-PF-D-203.0.113.4 -p udp -m udp --dport 53 -m comment --comment d -j DNAT --to-destination 10.1.1.7:53
:WISP-PF-D-203.0.113.5 -
-A WISP-PF-D-203.0.113.5 -p tcp -m tcp --dport 8000:8010 -m comment --comment a -j DNAT --to-destination 10.1.1.5
-A WISP-PF-D-203.0.113.5 -p tcp -m tcp --dport 9000:9010 -m comment --comment b -j DNAT --to-destination 10.1.1.6:7000-7010/9000
-A WISP-PF-D-203.0.113.5 -p udp -m udp --dport 9000:9010 -m comment --comment c -j DNAT --to-destination 10.1.1.6:53
` + post + `-A WISP-PF-PRE -d 203.0.113.4/32 -j WISP-PF-D-203.0.113.4
-A WISP-PF-PRE -d 203.0.113.5/32 -j WISP-PF-D-203.0.113.5
`,
		}},
	}.Run(t)
}

func TestBadRulesDoNotStopTheOthers(t *testing.T) {
	good := rule("good", "tcp", "203.0.113.5", 22, 22, "10.1.1.5", 22, 22)
	for _, bad := range []*netspec.PortForwardRule{
		rule("b1", "icmp", "203.0.113.5", 1, 1, "10.1.1.5", 1, 1),
		rule("b2", "tcp", "nowhere", 1, 1, "10.1.1.5", 1, 1),
		rule("b3", "tcp", "203.0.113.5", 1, 1, "", 1, 1),
		rule("b4", "tcp", "203.0.113.5", 0, 0, "10.1.1.5", 1, 1),
		rule("b5", "tcp", "203.0.113.5", 1, 70000, "10.1.1.5", 1, 1),
		rule("b6", "tcp", "203.0.113.5", 1, 10, "10.1.1.5", 1, 5),
		rule("b7", "tcp", "203.0.113.5", 20, 30, "10.1.1.5", 20, 30), // overlaps good
	} {
		k := fake.New()
		err := New(ruleset.NewTables(k)).Apply(t.Context(), forward(good, bad))
		if err == nil || !strings.Contains(err.Error(), "rule "+bad.GetId()) {
			t.Errorf("error %v does not name %s", err, bad.GetId())
		}
		text, err := kernel.Text(t.Context(), k, nat)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(text, "DNAT --to-destination") != 1 || !strings.Contains(text, "--comment good ") {
			t.Errorf("beside %s:\n%s", bad.GetId(), text)
		}
	}
}
