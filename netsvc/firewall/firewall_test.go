package firewall

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

var filter = kernel.TextOptions{Tables: []string{"filter"}}

func TestWalk(t *testing.T) {
	base := &netspec.Firewall{PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24"}
	netsvctest.Walk[*netspec.Firewall]{
		Options: filter,
		New: func(k netsvctest.Kernel) func(context.Context, *netspec.Firewall) error {
			s := New(ruleset.NewTables(k))
			return func(ctx context.Context, want *netspec.Firewall) error {
				if err := s.Narrow(ctx, want); err != nil {
					return err
				}
				return s.Apply(ctx, want)
			}
		},
		States: []netsvctest.State[*netspec.Firewall]{{
			Name: "none",
			Text: "*filter\n",
		}, {
			Name: "services' namespace without a public side",
			Want: &netspec.Firewall{GuestLink: "svc0", GuestCidr: "10.1.1.0/24"},
			Text: `
*filter
:FORWARD DROP
-A FORWARD -j WISP-FW-FWD
:INPUT DROP
-A INPUT -j WISP-FW-IN
:WISP-FW-FWD -
-A WISP-FW-FWD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WISP-FW-FWD -m conntrack --ctstate INVALID -j DROP
-A WISP-FW-FWD -j DROP
:WISP-FW-IN -
-A WISP-FW-IN -i lo -j ACCEPT
-A WISP-FW-IN -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WISP-FW-IN -m conntrack --ctstate INVALID -j DROP
-A WISP-FW-IN -p udp -m udp --dport 67 -j ACCEPT
-A WISP-FW-IN -p udp -m udp --dport 53 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-A WISP-FW-IN -p tcp -m multiport --dports 53,80,8080 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-A WISP-FW-IN -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j ACCEPT
-A WISP-FW-IN -p icmp -m icmp --icmp-type 8 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-A WISP-FW-IN -j DROP
`,
		}, {
			Name: "router that allows nothing",
			Want: base,
			Text: routerText("", "-A WISP-FW-EGR -j DROP\n", ""),
		}, {
			Name: "rules of every kind, egress allowed by default",
			Want: &netspec.Firewall{
				PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", EgressDefaultAllow: true,
				Ingress: []*netspec.FirewallRule{
					{Id: "a1", Protocol: "tcp", PublicIp: "203.0.113.5", StartPort: 22, EndPort: 22, Cidrs: []string{"198.51.100.7/24", "192.0.2.1/32"}},
					{Id: "a2", Protocol: "udp", PublicIp: "203.0.113.5", StartPort: 1000, EndPort: 2000},
					{Id: "a3", Protocol: "tcp", PublicIp: "203.0.113.4", Cidrs: []string{"0.0.0.0/0"}},
					{Id: "a4", Protocol: "icmp", PublicIp: "203.0.113.4", IcmpType: 8, IcmpCode: -1},
					{Id: "a5", Protocol: "icmp", PublicIp: "203.0.113.4", IcmpType: 3, IcmpCode: 1, Cidrs: []string{"192.0.2.0/24"}},
					{Id: "a6", Protocol: "icmp", PublicIp: "203.0.113.6", IcmpType: -1, IcmpCode: -1},
					{Id: "a7", Protocol: "all", PublicIp: "203.0.113.6", Cidrs: []string{"192.0.2.0/24"}},
					{Id: "a8", Protocol: "tcp", PublicIp: "203.0.113.6", Cidrs: []string{"2001:db8::/32"}},
					{Id: "needs quoting", Protocol: "tcp", PublicIp: "203.0.113.7", StartPort: 1, EndPort: 65535},
				},
				Egress: []*netspec.FirewallRule{
					{Id: "e1", Protocol: "tcp", StartPort: 25, EndPort: 25},
					{Id: "e2", Protocol: "udp", StartPort: 5000, EndPort: 5999, Cidrs: []string{"10.1.1.7/32"}},
					{Id: "e3", Protocol: "all", Cidrs: []string{"10.1.1.8/32"}},
				},
			},
			Text: routerText(`
-A WISP-FW-ICMP -d 203.0.113.4/32 -p icmp -m icmp --icmp-type 8 -m comment --comment a4 -j ACCEPT
-A WISP-FW-ICMP -s 192.0.2.0/24 -d 203.0.113.4/32 -p icmp -m icmp --icmp-type 3/1 -m comment --comment a5 -j ACCEPT
-A WISP-FW-ICMP -d 203.0.113.6/32 -p icmp -m comment --comment a6 -j ACCEPT
`, `-A WISP-FW-EGR -p tcp -m tcp --dport 25 -m comment --comment e1 -j DROP
-A WISP-FW-EGR -s 10.1.1.7/32 -p udp -m udp --dport 5000:5999 -m comment --comment e2 -j DROP
-A WISP-FW-EGR -s 10.1.1.8/32 -m comment --comment e3 -j DROP
-A WISP-FW-EGR -j ACCEPT
`, `
:WISP-FW-P-203.0.113.4 -
-A WISP-FW-P-203.0.113.4 -p tcp -m comment --comment a3 -j ACCEPT
-A WISP-FW-P-203.0.113.4 -p icmp -m icmp --icmp-type 8 -m comment --comment a4 -j ACCEPT
-A WISP-FW-P-203.0.113.4 -s 192.0.2.0/24 -p icmp -m icmp --icmp-type 3/1 -m comment --comment a5 -j ACCEPT
:WISP-FW-P-203.0.113.5 -
-A WISP-FW-P-203.0.113.5 -s 198.51.100.0/24 -p tcp -m conntrack --ctorigdstport 22 -m comment --comment a1 -j ACCEPT
-A WISP-FW-P-203.0.113.5 -s 192.0.2.1/32 -p tcp -m conntrack --ctorigdstport 22 -m comment --comment a1 -j ACCEPT
-A WISP-FW-P-203.0.113.5 -p udp -m conntrack --ctorigdstport 1000:2000 -m comment --comment a2 -j ACCEPT
:WISP-FW-P-203.0.113.6 -
-A WISP-FW-P-203.0.113.6 -p icmp -m comment --comment a6 -j ACCEPT
-A WISP-FW-P-203.0.113.6 -s 192.0.2.0/24 -m comment --comment a7 -j ACCEPT
:WISP-FW-P-203.0.113.7 -
-A WISP-FW-P-203.0.113.7 -p tcp -j ACCEPT
:WISP-FW-PUB -
-A WISP-FW-PUB -m conntrack --ctorigdst 203.0.113.4 -j WISP-FW-P-203.0.113.4
-A WISP-FW-PUB -m conntrack --ctorigdst 203.0.113.5 -j WISP-FW-P-203.0.113.5
-A WISP-FW-PUB -m conntrack --ctorigdst 203.0.113.6 -j WISP-FW-P-203.0.113.6
-A WISP-FW-PUB -m conntrack --ctorigdst 203.0.113.7 -j WISP-FW-P-203.0.113.7
`),
		}, {
			Name: "egress denied by default",
			Want: &netspec.Firewall{
				PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24",
				Egress: []*netspec.FirewallRule{{Id: "e1", Protocol: "tcp", StartPort: 443, EndPort: 443}},
			},
			Text: routerText("", `-A WISP-FW-EGR -p tcp -m tcp --dport 443 -m comment --comment e1 -j ACCEPT
-A WISP-FW-EGR -j DROP
`, ""),
		}},
	}.Run(t)
}

// routerText is the text of a router's firewall, given what differs.
func routerText(icmp, egress, public string) string {
	if public == "" {
		public = ":WISP-FW-PUB -\n"
	}
	return `
*filter
:FORWARD DROP
-A FORWARD -j WISP-FW-FWD
:INPUT DROP
-A INPUT -j WISP-FW-IN
:WISP-FW-EGR -
` + egress + `:WISP-FW-FWD -
-A WISP-FW-FWD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WISP-FW-FWD -m conntrack --ctstate INVALID -j DROP
-A WISP-FW-FWD ! -s 10.1.1.0/24 -i gw0 -j DROP
-A WISP-FW-FWD -i pub0 -o gw0 -m conntrack --ctstate DNAT -j WISP-FW-PUB
-A WISP-FW-FWD -i gw0 -o gw0 -m conntrack --ctstate DNAT -j WISP-FW-PUB
-A WISP-FW-FWD -i gw0 -o pub0 -j WISP-FW-EGR
-A WISP-FW-FWD -j DROP
:WISP-FW-ICMP -
` + strings.TrimLeft(icmp, "\n") + `:WISP-FW-IN -
-A WISP-FW-IN -i lo -j ACCEPT
-A WISP-FW-IN -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WISP-FW-IN -m conntrack --ctstate INVALID -j DROP
-A WISP-FW-IN -j WISP-FW-ICMP
-A WISP-FW-IN -i pub0 -j DROP
-A WISP-FW-IN -p udp -m udp --dport 67 -j ACCEPT
-A WISP-FW-IN -p udp -m udp --dport 53 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-A WISP-FW-IN -p tcp -m multiport --dports 53,80,8080 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-A WISP-FW-IN -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j ACCEPT
-A WISP-FW-IN -p icmp -m icmp --icmp-type 8 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-A WISP-FW-IN -j DROP
` + strings.TrimLeft(public, "\n") + "-A WISP-FW-PUB -j DROP\n"
}

func rule(id string, port uint32) *netspec.FirewallRule {
	return &netspec.FirewallRule{Id: id, Protocol: "tcp", PublicIp: "203.0.113.5", StartPort: port, EndPort: port}
}

func router(allow bool, ingress, egress []*netspec.FirewallRule) *netspec.Firewall {
	return &netspec.Firewall{
		PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", EgressDefaultAllow: allow,
		Ingress: ingress, Egress: egress,
	}
}

// TestNarrow: between the old and the new firewall nothing is open that either closes.
func TestNarrow(t *testing.T) {
	type rules = []*netspec.FirewallRule
	e1, e2 := rule("e1", 25), rule("e2", 26)
	tests := []struct {
		name      string
		old, want *netspec.Firewall
		same      *netspec.Firewall // what Narrow must leave: exactly the chains of this one
	}{
		{"first of all", nil, router(true, rules{rule("a", 1)}, nil), router(false, nil, nil)},
		{
			"rule added", router(false, rules{rule("a", 1)}, nil), router(false, rules{rule("a", 1), rule("b", 2)}, nil),
			router(false, rules{rule("a", 1)}, nil),
		},
		{
			"rule removed", router(false, rules{rule("a", 1), rule("b", 2)}, nil), router(false, rules{rule("a", 1)}, nil),
			router(false, rules{rule("a", 1)}, nil),
		},
		{
			"rule changed under its id", router(false, rules{rule("a", 1)}, nil), router(false, rules{rule("a", 2)}, nil),
			router(false, nil, nil),
		},
		{
			"two rules of one id", router(false, rules{rule("", 1), rule("", 2)}, nil), router(false, rules{rule("", 2), rule("", 3)}, nil),
			router(false, rules{rule("", 2)}, nil),
		},
		{"egress turned from allow to deny", router(true, nil, nil), router(false, nil, rules{e1}), router(false, nil, nil)},
		{"egress turned from deny to allow", router(false, nil, rules{e1}), router(true, nil, rules{e2}), router(false, nil, nil)},
		{"egress denials changed", router(true, nil, rules{e1}), router(true, nil, rules{e2}), router(true, nil, rules{e1, e2})},
		{"egress allowances changed", router(false, nil, rules{e1}), router(false, nil, rules{e2, e1}), router(false, nil, rules{e1})},
		{
			"other links", router(true, rules{rule("a", 1)}, nil),
			&netspec.Firewall{
				PublicLink: "pub1", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", EgressDefaultAllow: true,
				Ingress: rules{rule("a", 1)},
			},
			&netspec.Firewall{PublicLink: "pub1", GuestLink: "gw0", GuestCidr: "10.1.1.0/24"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := fake.New()
			s := New(ruleset.NewTables(k))
			if tt.old != nil {
				if err := s.Apply(t.Context(), tt.old); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Narrow(t.Context(), tt.want); err != nil {
				t.Fatal(err)
			}
			other := fake.New()
			if err := New(ruleset.NewTables(other)).Apply(t.Context(), tt.same); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text(t, other), text(t, k)); diff != "" {
				t.Errorf("after Narrow (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSuccessorLoadsNothing: a new process that finds the wanted chains leaves them alone.
func TestSuccessorLoadsNothing(t *testing.T) {
	k := fake.New()
	want := router(true, []*netspec.FirewallRule{rule("a", 1)}, nil)
	for _, s := range []*Service{New(ruleset.NewTables(k)), New(ruleset.NewTables(k))} {
		if err := s.Narrow(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if s.Repairs() != 0 {
			t.Errorf("%d repairs", s.Repairs())
		}
	}
	journal := k.Journal()
	if len(journal) != 4 { // closed, opened, two jumps: all by the first
		t.Errorf("changes are:\n%s", strings.Join(journal, "\n"))
	}
}

func TestBadRules(t *testing.T) {
	bad := []*netspec.FirewallRule{
		{Id: "no-address", Protocol: "tcp"},
		{Id: "proto", Protocol: "sctp", PublicIp: "203.0.113.5"},
		{Id: "cidr", Protocol: "tcp", PublicIp: "203.0.113.5", Cidrs: []string{"; reboot"}},
		{Id: "ports", Protocol: "tcp", PublicIp: "203.0.113.5", StartPort: 9, EndPort: 8},
		{Id: "port", Protocol: "tcp", PublicIp: "203.0.113.5", StartPort: 9, EndPort: 70000},
		{Id: "icmp", Protocol: "icmp", PublicIp: "203.0.113.5", IcmpType: 300},
	}
	for _, r := range bad {
		t.Run(r.GetId(), func(t *testing.T) {
			k := fake.New()
			err := New(ruleset.NewTables(k)).Apply(t.Context(), router(false, []*netspec.FirewallRule{rule("good", 22), r}, nil))
			if err == nil || !strings.Contains(err.Error(), "rule "+r.GetId()) {
				t.Errorf("error %v does not name the rule", err)
			}
			other := fake.New()
			if err := New(ruleset.NewTables(other)).Apply(t.Context(), router(false, []*netspec.FirewallRule{rule("good", 22)}, nil)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text(t, other), text(t, k)); diff != "" {
				t.Errorf("the good rule is not alone (-want +got):\n%s", diff)
			}
		})
	}
	for _, w := range []*netspec.Firewall{
		{PublicLink: "pub0 -j ACCEPT"}, {GuestLink: "gw0\n-A"}, {PublicLink: "pub+"}, {GuestCidr: "x"},
	} {
		k := fake.New()
		if err := New(ruleset.NewTables(k)).Apply(t.Context(), w); err == nil || len(k.Journal()) != 0 {
			t.Errorf("%v was taken", w)
		}
	}
	// A denial that cannot be read closes what it should have narrowed.
	k := fake.New()
	err := New(ruleset.NewTables(k)).Apply(t.Context(), router(true, nil, []*netspec.FirewallRule{{Id: "x", Protocol: "nonsense"}}))
	if err == nil || !strings.Contains(text(t, k), "-A WISP-FW-EGR -j DROP") {
		t.Errorf("error %v, chains:\n%s", err, text(t, k))
	}
}

// TestOneRuleLoadsItsChainOnly: a change costs what the changed chain costs.
func TestOneRuleLoadsItsChainOnly(t *testing.T) {
	k := fake.New()
	s := New(ruleset.NewTables(k))
	var many []*netspec.FirewallRule
	for i := range 1000 {
		r := rule(fmt.Sprintf("r%d", i), uint32(i+1))
		r.PublicIp = fmt.Sprintf("203.0.113.%d", i%250)
		many = append(many, r)
	}
	if err := s.Apply(t.Context(), router(false, many, nil)); err != nil {
		t.Fatal(err)
	}
	k.Journal()
	if err := s.Apply(t.Context(), router(false, many[:999], nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"load filter WISP-FW-P-203.0.113.249"}, k.Journal()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func text(t *testing.T, k *fake.Kernel) string {
	t.Helper()
	s, err := kernel.Text(t.Context(), k, filter)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
