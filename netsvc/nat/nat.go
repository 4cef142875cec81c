// Package nat translates whole addresses: packets of the guest network that leave by the public link get a public source
// address, and a static address leads to one guest and is that guest's source address (RFC 2663, basic NAT). The chains
// are its own, in the nat table.
package nat

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	prefix = "WISP-NAT-"
	pre    = prefix + "PRE"
	post   = prefix + "POST"
)

// Service applies source NAT and static NAT.
type Service struct{ set *ruleset.Set }

// New returns a Service that has applied nothing yet.
func New(t *ruleset.Tables) *Service { return &Service{ruleset.New(t, "nat", prefix)} }

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.set.Repairs() }

// Restart makes the next Apply load the chains anew.
func (s *Service) Restart() { s.set.Forget() }

// Apply makes translation true; nil, or one without an address, removes it.
func (s *Service) Apply(ctx context.Context, want *netspec.Nat) error {
	w, err := render(want)
	if err != nil {
		return err
	}
	return s.set.Apply(ctx, w)
}

func render(want *netspec.Nat) (ruleset.Want, error) {
	if want.GetSourceNatIp() == "" && len(want.GetStatics()) == 0 {
		return ruleset.Want{}, nil
	}
	guests, err := netip.ParsePrefix(want.GetGuestCidr())
	if err != nil || !guests.Addr().Is4() {
		return ruleset.Want{}, fmt.Errorf("guest cidr %q is not an IPv4 prefix", want.GetGuestCidr())
	}
	link := want.GetPublicLink()
	if err := ruleset.CheckLink(link); err != nil {
		return ruleset.Want{}, err
	}
	w := ruleset.Want{Jumps: map[string]string{"POSTROUTING": post}}
	out := kernel.Chain{Name: post}
	if len(want.GetStatics()) > 0 {
		in, back, err := statics(want, guests.Masked())
		if err != nil {
			return ruleset.Want{}, err
		}
		w.Jumps["PREROUTING"] = pre
		w.Chains = append(w.Chains, kernel.Chain{Name: pre, Rules: in})
		out.Rules = back
	}
	if want.GetSourceNatIp() != "" {
		source, err := ipv4("source address", want.GetSourceNatIp())
		if err != nil {
			return ruleset.Want{}, err
		}
		out.Rules = append(out.Rules, fmt.Sprintf("-s %s -o %s -j SNAT --to-source %s", guests.Masked(), link, source))
	}
	w.Chains = append(w.Chains, out)
	return w, nil
}

// statics renders what leads in, and what goes out before the network's own source address is given.
func statics(want *netspec.Nat, guests netip.Prefix) (in, out []string, err error) {
	if err := ruleset.CheckLink(want.GetGuestLink()); err != nil {
		return nil, nil, err
	}
	gateway, err := ipv4("guest gateway", want.GetGuestGateway())
	if err != nil {
		return nil, nil, err
	}
	seen := map[netip.Addr]bool{}
	for _, s := range want.GetStatics() {
		public, err := ipv4("public address", s.GetPublicIp())
		if err != nil {
			return nil, nil, err
		}
		guest, err := ipv4("guest address", s.GetGuestIp())
		if err != nil {
			return nil, nil, err
		}
		if seen[public] || seen[guest] {
			return nil, nil, fmt.Errorf("static NAT of %s to %s: one of them is in another static NAT", public, guest)
		}
		seen[public], seen[guest] = true, true
		in = append(in, fmt.Sprintf("-d %s/32 -j DNAT --to-destination %s", public, guest))
		out = append(out, fmt.Sprintf("-s %s/32 -o %s -j SNAT --to-source %s", guest, want.GetPublicLink(), public))
	}
	out = append(out, fmt.Sprintf("-s %s -d %s -o %s -m conntrack --ctstate DNAT -j SNAT --to-source %s",
		guests, guests, want.GetGuestLink(), gateway))
	return in, out, nil
}

func ipv4(what, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return a, fmt.Errorf("%s %q is not IPv4", what, text)
	}
	return a, nil
}
