package firewall

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	prefix = "WISP-FW-"
	// inChain filters what reaches the namespace itself, forwardChain what passes through it.
	inChain      = prefix + "IN"
	forwardChain = prefix + "FWD"
	// echoChain allows ICMP to public addresses.
	echoChain = prefix + "ICMP"
	// publicChain sends each public address to a chain of its own, so that a changed rule loads a short chain.
	publicChain   = prefix + "PUB"
	addressPrefix = prefix + "P-"
	egressChain   = prefix + "EGR"
)

// render spells the chains as iptables-save does. The result is nil when the links or the network cannot be told;
// otherwise the error names the rules that were left out.
func render(w *netspec.Firewall) (*ruleset.Want, error) {
	r := &renderer{public: w.GetPublicLink(), guest: w.GetGuestLink()}
	for _, link := range []string{r.public, r.guest} {
		if link == "" {
			continue // a namespace without that side
		}
		if err := ruleset.CheckLink(link); err != nil {
			return nil, err
		}
	}
	if w.GetGuestCidr() != "" {
		cidr, err := netip.ParsePrefix(w.GetGuestCidr())
		if err != nil || !cidr.Addr().Is4() {
			return nil, fmt.Errorf("guest cidr %q is not an IPv4 prefix", w.GetGuestCidr())
		}
		r.cidr = cidr.Masked()
	}
	forwards := r.public != "" && r.guest != "" && r.cidr.IsValid()
	var errs []error
	chains := []kernel.Chain{{Name: inChain, Rules: r.in()}, {Name: forwardChain, Rules: r.forward(forwards)}}
	if r.public != "" {
		more, err := r.ingress(w.GetIngress())
		errs = append(errs, err)
		chains = append(chains, more...)
	}
	if forwards {
		egress, err := r.egress(w.GetEgress(), w.GetEgressDefaultAllow())
		errs = append(errs, err)
		chains = append(chains, kernel.Chain{Name: egressChain, Rules: egress})
	}
	return &ruleset.Want{
		Policies: map[string]string{"INPUT": "DROP", "FORWARD": "DROP"},
		Jumps:    map[string]string{"INPUT": inChain, "FORWARD": forwardChain},
		Chains:   chains,
	}, errors.Join(errs...)
}

type renderer struct {
	public, guest string
	cidr          netip.Prefix
}

const (
	established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
	invalid     = "-m conntrack --ctstate INVALID -j DROP"
	// own is true for addresses of the link the packet came in on: an address of one link is not reached by another.
	own = "-m addrtype --dst-type LOCAL --limit-iface-in"
)

// in lets guests reach the services and nothing else; the public side reaches what ICMP rules open.
func (r *renderer) in() []string {
	rules := []string{"-i lo -j ACCEPT", established, invalid}
	if r.public != "" {
		rules = append(rules, "-j "+echoChain, "-i "+r.public+" -j DROP")
	}
	return append(rules,
		"-p udp -m udp --dport 67 -j ACCEPT",
		"-p udp -m udp --dport 53 "+own+" -j ACCEPT",
		"-p tcp -m multiport --dports 53,80,8080 "+own+" -j ACCEPT",
		// This address is on several links, of which the kernel counts only the first as its own.
		"-d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j ACCEPT",
		"-p icmp -m icmp --icmp-type 8 "+own+" -j ACCEPT",
		"-j DROP",
	)
}

func (r *renderer) forward(forwards bool) []string {
	rules := []string{established, invalid}
	if forwards {
		rules = append(rules,
			fmt.Sprintf("! -s %s -i %s -j DROP", r.cidr, r.guest),
			fmt.Sprintf("-i %s -o %s -m conntrack --ctstate DNAT -j %s", r.public, r.guest, publicChain),
			fmt.Sprintf("-i %s -o %s -m conntrack --ctstate DNAT -j %s", r.guest, r.guest, publicChain),
			fmt.Sprintf("-i %s -o %s -j %s", r.guest, r.public, egressChain),
		)
	}
	return append(rules, "-j DROP")
}

// ingress renders what the public side may start: one chain per public address for what is translated to guests,
// and one for ICMP to the addresses themselves.
func (r *renderer) ingress(rules []*netspec.FirewallRule) ([]kernel.Chain, error) {
	addresses := map[netip.Addr][]string{}
	var echo []string
	var errs []error
	for _, rule := range rules {
		ip, err := netip.ParseAddr(rule.GetPublicIp())
		if err != nil || !ip.Is4() {
			errs = append(errs, fmt.Errorf("rule %s: public address %q is not IPv4", rule.GetId(), rule.GetPublicIp()))
			continue
		}
		sources, err := sources(rule)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		match, err := protocol(rule, "-m conntrack --ctorigdstport")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, source := range sources {
			addresses[ip] = append(addresses[ip], join(source, match, ruleset.Comment(rule.GetId()), "-j ACCEPT"))
			if rule.GetProtocol() == "icmp" {
				echo = append(echo, join(source, "-d "+ip.String()+"/32", match, ruleset.Comment(rule.GetId()), "-j ACCEPT"))
			}
		}
	}
	public := kernel.Chain{Name: publicChain}
	chains := []kernel.Chain{{Name: echoChain, Rules: echo}}
	for _, ip := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
		name := addressPrefix + ip.String()
		chains = append(chains, kernel.Chain{Name: name, Rules: addresses[ip]})
		public.Rules = append(public.Rules, fmt.Sprintf("-m conntrack --ctorigdst %s -j %s", ip, name))
	}
	public.Rules = append(public.Rules, "-j DROP")
	return append(chains, public), errors.Join(errs...)
}

// egress renders what guests may start towards the public side.
func (r *renderer) egress(rules []*netspec.FirewallRule, allow bool) ([]string, error) {
	verdict, rest := "-j ACCEPT", "-j DROP"
	if allow {
		verdict, rest = rest, verdict
	}
	var out []string
	var errs []error
	for _, rule := range rules {
		sources, err := sources(rule)
		match := ""
		if err == nil {
			match, err = protocol(rule, "-m "+rule.GetProtocol()+" --dport")
		}
		if err != nil {
			errs = append(errs, err)
			rest = "-j DROP" // what should be denied is not known: deny all
			continue
		}
		for _, source := range sources {
			out = append(out, join(source, match, ruleset.Comment(rule.GetId()), verdict))
		}
	}
	return append(out, rest), errors.Join(errs...)
}

// sources are the source matches of a rule: one empty one for any source, none when no IPv4 source is named.
func sources(rule *netspec.FirewallRule) ([]string, error) {
	if len(rule.GetCidrs()) == 0 {
		return []string{""}, nil
	}
	var matches []string
	for _, text := range rule.GetCidrs() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("rule %s: source %q is not a prefix", rule.GetId(), text)
		}
		if !p.Addr().Is4() {
			continue // cannot be met by an IPv4 packet
		}
		if p.Bits() == 0 {
			return []string{""}, nil
		}
		matches = append(matches, "-s "+p.Masked().String())
	}
	return matches, nil
}

// protocol is the match of a rule's protocol and ports; port is the option that takes the port.
func protocol(rule *netspec.FirewallRule, port string) (string, error) {
	switch p := rule.GetProtocol(); p {
	case "tcp", "udp":
		ports, err := ports(rule)
		if err != nil || ports == "" {
			return "-p " + p, err
		}
		return fmt.Sprintf("-p %s %s %s", p, port, ports), nil
	case "icmp":
		return icmp(rule)
	case "all":
		return "", nil
	default:
		return "", fmt.Errorf("rule %s: unknown protocol %q", rule.GetId(), p)
	}
}

func ports(rule *netspec.FirewallRule) (string, error) {
	start, end := rule.GetStartPort(), rule.GetEndPort()
	if end == 0 {
		end = start
	}
	switch {
	case start == 0 && end == 0, start <= 1 && end == 65535:
		return "", nil
	case start == 0 || start > end || end > 65535:
		return "", fmt.Errorf("rule %s: ports %d to %d are no range", rule.GetId(), start, end)
	case start == end:
		return fmt.Sprint(start), nil
	default:
		return fmt.Sprintf("%d:%d", start, end), nil
	}
}

func icmp(rule *netspec.FirewallRule) (string, error) {
	kind, code := rule.GetIcmpType(), rule.GetIcmpCode()
	switch {
	case kind < 0:
		return "-p icmp", nil
	case kind > 255 || code > 255:
		return "", fmt.Errorf("rule %s: icmp type %d code %d do not exist", rule.GetId(), kind, code)
	case code < 0:
		return fmt.Sprintf("-p icmp -m icmp --icmp-type %d", kind), nil
	default:
		return fmt.Sprintf("-p icmp -m icmp --icmp-type %d/%d", kind, code), nil
	}
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}
