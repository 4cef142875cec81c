// Package portfwd forwards ports of public addresses to guests: destination NAT before routing, and for guests that
// use a public address of their own network (hairpin) source NAT to the gateway, so that the answer comes back this
// way instead of directly.
//
// Rules stand in chains of their own in the nat table, one chain per public address, so that a changed rule loads a
// short chain. Whether a connection may be made is the firewall's matter.
package portfwd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	prefix        = "WISP-PF-"
	preChain      = prefix + "PRE"
	postChain     = prefix + "POST"
	addressPrefix = prefix + "D-"
)

// Service applies port forwarding.
type Service struct{ set *ruleset.Set }

// New returns a Service that has applied nothing yet.
func New(t *ruleset.Tables) *Service { return &Service{ruleset.New(t, "nat", prefix)} }

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.set.Repairs() }

// Restart makes the next Apply load the chains anew.
func (s *Service) Restart() { s.set.Forget() }

// Apply makes port forwarding true; nil removes it. A rule that cannot be rendered does not keep the others out.
func (s *Service) Apply(ctx context.Context, want *netspec.PortForward) error {
	if len(want.GetRules()) == 0 {
		return s.set.Apply(ctx, ruleset.Want{})
	}
	hairpin, err := hairpin(want)
	if err != nil {
		return err
	}
	addresses, renderErr := destinations(want.GetRules())
	pre := kernel.Chain{Name: preChain}
	chains := []kernel.Chain{{Name: postChain, Rules: []string{hairpin}}}
	for _, ip := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
		name := addressPrefix + ip.String()
		pre.Rules = append(pre.Rules, fmt.Sprintf("-d %s/32 -j %s", ip, name))
		chains = append(chains, kernel.Chain{Name: name, Rules: addresses[ip]})
	}
	err = s.set.Apply(ctx, ruleset.Want{
		Jumps:  map[string]string{"PREROUTING": preChain, "POSTROUTING": postChain},
		Chains: append(chains, pre),
	})
	return errors.Join(renderErr, err)
}

func hairpin(want *netspec.PortForward) (string, error) {
	guests, err := netip.ParsePrefix(want.GetGuestCidr())
	if err != nil || !guests.Addr().Is4() {
		return "", fmt.Errorf("guest cidr %q is not an IPv4 prefix", want.GetGuestCidr())
	}
	gateway, err := netip.ParseAddr(want.GetGuestGateway())
	if err != nil || !gateway.Is4() {
		return "", fmt.Errorf("guest gateway %q is not IPv4", want.GetGuestGateway())
	}
	link := want.GetGuestLink()
	if err := ruleset.CheckLink(link); err != nil {
		return "", err
	}
	return fmt.Sprintf("-s %s -d %s -o %s -m conntrack --ctstate DNAT -j SNAT --to-source %s",
		guests.Masked(), guests.Masked(), link, gateway), nil
}

// destinations renders the rules by public address.
func destinations(rules []*netspec.PortForwardRule) (map[netip.Addr][]string, error) {
	addresses := map[netip.Addr][]string{}
	taken := map[netip.Addr][]*netspec.PortForwardRule{}
	var errs []error
	for _, rule := range rules {
		ip, text, err := destination(rule)
		if err == nil {
			err = overlap(taken[ip], rule)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", rule.GetId(), err))
			continue
		}
		taken[ip] = append(taken[ip], rule)
		addresses[ip] = append(addresses[ip], text)
	}
	return addresses, errors.Join(errs...)
}

func overlap(taken []*netspec.PortForwardRule, rule *netspec.PortForwardRule) error {
	for _, t := range taken {
		if t.GetProtocol() == rule.GetProtocol() && t.GetPublicStartPort() <= lastPublic(rule) &&
			rule.GetPublicStartPort() <= lastPublic(t) {
			return fmt.Errorf("its ports are forwarded by rule %s already", t.GetId())
		}
	}
	return nil
}

func lastPublic(r *netspec.PortForwardRule) uint32 {
	return max(r.GetPublicStartPort(), r.GetPublicEndPort())
}

func lastGuest(r *netspec.PortForwardRule) uint32 {
	return max(r.GetGuestStartPort(), r.GetGuestEndPort())
}

func destination(r *netspec.PortForwardRule) (netip.Addr, string, error) {
	public, err := netip.ParseAddr(r.GetPublicIp())
	if err != nil || !public.Is4() {
		return public, "", fmt.Errorf("public address %q is not IPv4", r.GetPublicIp())
	}
	guest, err := netip.ParseAddr(r.GetGuestIp())
	if err != nil || !guest.Is4() {
		return public, "", fmt.Errorf("guest address %q is not IPv4", r.GetGuestIp())
	}
	if r.GetProtocol() != "tcp" && r.GetProtocol() != "udp" {
		return public, "", fmt.Errorf("protocol %q has no ports", r.GetProtocol())
	}
	from, to, err := portMap(r)
	if err != nil {
		return public, "", err
	}
	match := fmt.Sprintf("-p %s -m %s --dport %s", r.GetProtocol(), r.GetProtocol(), from)
	if comment := ruleset.Comment(r.GetId()); comment != "" {
		match += " " + comment
	}
	return public, fmt.Sprintf("%s -j DNAT --to-destination %s%s", match, guest, to), nil
}

// portMap spells the ports: a range goes to one port, to the same ports, or to as many others one by one.
func portMap(r *netspec.PortForwardRule) (from, to string, err error) {
	p1, p2 := r.GetPublicStartPort(), lastPublic(r)
	g1, g2 := r.GetGuestStartPort(), lastGuest(r)
	if p1 == 0 || p2 > 65535 || g1 == 0 || g2 > 65535 {
		return "", "", fmt.Errorf("ports %d-%d to %d-%d are no ranges", p1, p2, g1, g2)
	}
	from = fmt.Sprint(p1)
	if p2 > p1 {
		from = fmt.Sprintf("%d:%d", p1, p2)
	}
	switch {
	case g1 == g2:
		return from, fmt.Sprintf(":%d", g1), nil
	case g2-g1 != p2-p1:
		return "", "", fmt.Errorf("ports %d-%d and %d-%d are not equally many", p1, p2, g1, g2)
	case g1 == p1:
		return from, "", nil
	default:
		return from, fmt.Sprintf(":%d-%d/%d", g1, g2, p1), nil
	}
}
