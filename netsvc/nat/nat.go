// Package nat gives packets of the guest network that leave by the public link a public source address. It is one
// chain of its own in the nat table.
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
	chain  = prefix + "POST"
)

// Service applies source NAT.
type Service struct{ set *ruleset.Set }

// New returns a Service that has applied nothing yet.
func New(k ruleset.Kernel) *Service { return &Service{ruleset.New(k, "nat", prefix)} }

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.set.Repairs() }

// Restart makes the next Apply load the chains anew.
func (s *Service) Restart() { s.set.Forget() }

// Apply makes source NAT true; nil, or one without an address, removes it.
func (s *Service) Apply(ctx context.Context, want *netspec.Nat) error {
	w, err := render(want)
	if err != nil {
		return err
	}
	return s.set.Apply(ctx, w)
}

func render(want *netspec.Nat) (ruleset.Want, error) {
	if want.GetSourceNatIp() == "" {
		return ruleset.Want{}, nil
	}
	source, err := netip.ParseAddr(want.GetSourceNatIp())
	if err != nil || !source.Is4() {
		return ruleset.Want{}, fmt.Errorf("source address %q is not IPv4", want.GetSourceNatIp())
	}
	guests, err := netip.ParsePrefix(want.GetGuestCidr())
	if err != nil || !guests.Addr().Is4() {
		return ruleset.Want{}, fmt.Errorf("guest cidr %q is not an IPv4 prefix", want.GetGuestCidr())
	}
	link := want.GetPublicLink()
	if err := ruleset.CheckLink(link); err != nil {
		return ruleset.Want{}, err
	}
	rule := fmt.Sprintf("-s %s -o %s -j SNAT --to-source %s", guests.Masked(), link, source)
	return ruleset.Want{
		Jumps:  map[string]string{"POSTROUTING": chain},
		Chains: []kernel.Chain{{Name: chain, Rules: []string{rule}}},
	}, nil
}
