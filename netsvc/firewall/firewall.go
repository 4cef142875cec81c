// Package firewall filters what is forwarded between the guest network and the public side and what reaches the
// namespace itself, in chains of its own in the filter table.
//
// Policies of INPUT and FORWARD are DROP, and the own chains end in DROP as well: chains flushed by hand close the
// namespace instead of opening it. Everything is loaded in one atomic step. A change is made in two: Narrow, called
// before links, routes and translations change, leaves only what both the old and the new spec allow; Apply, called
// after them, adds what is new. So at no moment is anything open that the target does not open. Established
// connections pass first, through both.
//
// Rules from the public side name the public address and port; they are matched in FORWARD, where the packet has its
// translated destination already, by what conntrack remembers of the original one (--ctorigdst, --ctorigdstport). The
// other way, marks set before translation, would need a second table loaded apart from this one and bits of the mark
// that others may want. Rules hold for guests that use a public address of their own network as for anybody else.
package firewall

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/proto/netspec"
)

// Service applies the firewall.
type Service struct {
	set *ruleset.Set
	// last is the spec that was applied last; nil for none since start.
	last *netspec.Firewall
}

// New returns a Service that has applied nothing yet.
func New(t *ruleset.Tables) *Service {
	return &Service{set: ruleset.New(t, "filter", prefix)}
}

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.set.Repairs() }

// Restart makes the next Apply load the chains anew.
func (s *Service) Restart() { s.set.Forget() }

// Narrow leaves only what both the applied firewall and the wanted one allow. Where nothing was applied since start
// and the kernel does not hold the wanted rules already, that is nothing but established connections.
func (s *Service) Narrow(ctx context.Context, want *netspec.Firewall) error {
	if want == nil {
		return nil // opening, if there is something to open, is the last step
	}
	if s.last != nil && proto.Equal(s.last, want) {
		return nil // drift is Apply's
	}
	full, err := render(want)
	if full == nil {
		return err
	}
	if s.last == nil {
		current, err := s.set.Current(ctx, *full)
		if current || err != nil {
			return err
		}
	}
	narrow, err := render(intersect(s.last, want))
	if narrow == nil {
		return err
	}
	return s.set.Apply(ctx, *narrow)
}

// Apply makes the firewall true; nil removes it. Of rules that cannot be rendered the allowing ones are left out,
// and a denying one closes its direction.
func (s *Service) Apply(ctx context.Context, want *netspec.Firewall) error {
	if want == nil {
		s.last = nil
		return s.set.Apply(ctx, ruleset.Want{Policies: map[string]string{"INPUT": "ACCEPT", "FORWARD": "ACCEPT"}})
	}
	full, renderErr := render(want)
	if full == nil {
		return renderErr
	}
	if err := s.set.Apply(ctx, *full); err != nil {
		return errors.Join(renderErr, err)
	}
	s.last = proto.CloneOf(want)
	return renderErr
}

// intersect is a firewall that allows only what both do.
func intersect(old, want *netspec.Firewall) *netspec.Firewall {
	n := &netspec.Firewall{PublicLink: want.GetPublicLink(), GuestLink: want.GetGuestLink(), GuestCidr: want.GetGuestCidr()}
	if old == nil || old.GetPublicLink() != n.PublicLink || old.GetGuestLink() != n.GuestLink || old.GetGuestCidr() != n.GuestCidr {
		return n
	}
	n.Ingress = both(old.GetIngress(), want.GetIngress())
	switch {
	case old.GetEgressDefaultAllow() && want.GetEgressDefaultAllow():
		n.EgressDefaultAllow = true
		n.Egress = append(append(n.Egress, old.GetEgress()...), want.GetEgress()...)
	case !old.GetEgressDefaultAllow() && !want.GetEgressDefaultAllow():
		n.Egress = both(old.GetEgress(), want.GetEgress())
	}
	return n
}

func both(old, want []*netspec.FirewallRule) []*netspec.FirewallRule {
	known := make(map[string][]*netspec.FirewallRule, len(old))
	for _, r := range old {
		known[r.GetId()] = append(known[r.GetId()], r)
	}
	var kept []*netspec.FirewallRule
	for _, r := range want {
		for _, o := range known[r.GetId()] {
			if proto.Equal(o, r) {
				kept = append(kept, r)
				break
			}
		}
	}
	return kept
}
