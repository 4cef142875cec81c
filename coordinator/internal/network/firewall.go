package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// FirewallRequest is a new firewall rule as it was asked for. nil means not given.
type FirewallRequest struct {
	Protocol           string
	Start, End         *int
	ICMPType, ICMPCode *int
	CIDRs, DestCIDRs   []string
	Hidden             bool // from all but root admins
}

const anywhere = "0.0.0.0/0"

// OpenFirewall writes a rule that lets traffic to a public address in.
//
// Errors: cloud.Invalid, cloud.NetworkRuleConflict.
func (a *Area) OpenFirewall(tx *store.Tx, ip *cloud.PublicIP, q FirewallRequest) (*cloud.FirewallRule, error) {
	n, err := networkOfIP(tx, ip, Firewall)
	if err != nil {
		return nil, err
	}
	f := &cloud.FirewallRule{IPID: ip.ID, NetworkID: n.ID, AccountID: ip.AccountID, DomainID: ip.DomainID, CIDRs: q.CIDRs, Hidden: q.Hidden}
	if len(f.CIDRs) == 0 {
		f.CIDRs = []string{anywhere}
	}
	if f.CIDRs, err = cidrs("cidrlist", f.CIDRs); err != nil {
		return nil, err
	}
	if err := setMatch(f, q, "tcp", "udp", "icmp"); err != nil {
		return nil, err
	}
	return f, a.putFirewall(tx, n, f)
}

// OpenEgress writes a rule about what guests of a network may reach: an exception to the default of its offering.
func (a *Area) OpenEgress(tx *store.Tx, n *cloud.Network, q FirewallRequest) (*cloud.FirewallRule, error) {
	if err := serves(tx, n, Firewall); err != nil {
		return nil, err
	}
	if len(q.DestCIDRs) > 0 && !slices.Equal(q.DestCIDRs, []string{anywhere}) {
		return nil, cloud.Errorf(cloud.Invalid, "Parameter destcidrlist is not supported: egress rules hold for all destinations")
	}
	f := &cloud.FirewallRule{NetworkID: n.ID, AccountID: n.AccountID, DomainID: n.DomainID, Egress: true, CIDRs: q.CIDRs, Hidden: q.Hidden}
	if len(f.CIDRs) == 0 {
		f.CIDRs = []string{n.CIDR.String()}
	}
	var err error
	if f.CIDRs, err = cidrs("cidrlist", f.CIDRs); err != nil {
		return nil, err
	}
	for _, c := range f.CIDRs {
		if p := netip.MustParsePrefix(c); c != anywhere && (p.Bits() < n.CIDR.Bits() || !n.CIDR.Contains(p.Addr())) {
			return nil, cloud.Errorf(cloud.Invalid, "%s is not with in the guest network cidr %s (parameter cidrlist)", c, n.CIDR)
		}
	}
	if err := setMatch(f, q, "tcp", "udp", "icmp", "all"); err != nil {
		return nil, err
	}
	return f, a.putFirewall(tx, n, f)
}

// networkOfIP gives the network that a public address belongs to, if rules of a service can be put on it.
func networkOfIP(r store.Reader, ip *cloud.PublicIP, service string) (*cloud.Network, error) {
	n, ok := tables.Networks.Get(r, ip.NetworkID)
	switch {
	case ip.System || ip.State == cloud.IPFree || ip.State == cloud.IPReleasing:
		return nil, cloud.Errorf(cloud.Invalid, "Public address %s is not in use by an account", ip.Address)
	case !ok:
		return nil, cloud.Errorf(cloud.Invalid, "Public address %s is not associated with any network", ip.Address)
	case ip.StaticNAT && service == PortForwarding:
		return nil, cloud.Errorf(cloud.Invalid, "Public address %s has static nat enabled", ip.Address)
	}
	return n, serves(r, n, service)
}

func serves(r store.Reader, n *cloud.Network, service string) error {
	o, ok := tables.NetworkOfferings.Get(r, n.OfferingID)
	switch {
	case n.State == cloud.NetworkDestroy:
		return cloud.Errorf(cloud.Invalid, "Network %s is being deleted", n.Name)
	case !ok || !Offers(o, service):
		return cloud.Errorf(cloud.Invalid, "Network %s does not offer the service %s", n.Name, service)
	}
	return nil
}

// cidrs checks a list of IPv4 networks and writes them in their usual form.
func cidrs(parameter string, list []string) ([]string, error) {
	var out []string
	for _, c := range list {
		c = strings.TrimSpace(c)
		p, err := netip.ParsePrefix(c)
		if err != nil || !p.Addr().Is4() {
			return nil, cloud.Errorf(cloud.Invalid, "Source cidrs formatting error %q (parameter %s): an IPv4 network such as 192.0.2.0/24 is accepted", c, parameter)
		}
		if text := p.Masked().String(); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out, nil
}

// setMatch checks protocol, ports and ICMP type.
func setMatch(f *cloud.FirewallRule, q FirewallRequest, protocols ...string) error {
	f.Protocol = strings.ToLower(q.Protocol)
	if !slices.Contains(protocols, f.Protocol) {
		return cloud.Errorf(cloud.Invalid, "Protocol %q is not supported; %s are known", q.Protocol, strings.Join(protocols, ", "))
	}
	f.ICMPType, f.ICMPCode = -1, -1
	if f.Protocol != "icmp" && (q.ICMPType != nil || q.ICMPCode != nil) {
		return cloud.Errorf(cloud.Invalid, "Can specify icmpcode and icmptype for ICMP protocol only")
	}
	if (f.Protocol == "icmp" || f.Protocol == "all") && (q.Start != nil || q.End != nil) {
		return cloud.Errorf(cloud.Invalid, "Can't specify start/end port when protocol is %s", strings.ToUpper(f.Protocol))
	}
	if f.Protocol == "icmp" {
		return setICMP(f, q)
	}
	start, end, err := ports(q.Start, q.End)
	f.StartPort, f.EndPort = start, end
	return err
}

func setICMP(f *cloud.FirewallRule, q FirewallRequest) error {
	for _, v := range []struct {
		name string
		from *int
		to   *int16
	}{{"icmptype", q.ICMPType, &f.ICMPType}, {"icmpcode", q.ICMPCode, &f.ICMPCode}} {
		if v.from == nil {
			continue
		}
		if *v.from < -1 || *v.from > 255 {
			return cloud.Errorf(cloud.Invalid, "Invalid value %d of %s: -1 (any) to 255 is accepted", *v.from, v.name)
		}
		*v.to = int16(*v.from)
	}
	if f.ICMPType == -1 && f.ICMPCode != -1 {
		return cloud.Errorf(cloud.Invalid, "Parameter icmpcode needs an icmptype")
	}
	return nil
}

// ports reads a range of ports; without a start it is all of them (0, 0), without an end the start alone.
func ports(start, end *int) (uint16, uint16, error) {
	if start == nil && end == nil {
		return 0, 0, nil
	}
	if start == nil {
		return 0, 0, cloud.Errorf(cloud.Invalid, "An end port needs a start port")
	}
	if end == nil {
		end = start
	}
	for _, p := range []int{*start, *end} {
		if p < 1 || p > 65535 {
			return 0, 0, cloud.Errorf(cloud.Invalid, "Invalid port %d: 1 to 65535 is accepted", p)
		}
	}
	if *start > *end {
		return 0, 0, cloud.Errorf(cloud.Invalid, "Start port can't be bigger than end port")
	}
	return uint16(*start), uint16(*end), nil
}

// putFirewall writes a new rule that collides with none.
func (a *Area) putFirewall(tx *store.Tx, n *cloud.Network, f *cloud.FirewallRule) error {
	others := tables.FirewallRules.By(tx, "ip", store.K(f.IPID))
	what := "The public address"
	if f.Egress {
		others = tables.FirewallRules.By(tx, "network", store.K(n.ID))
		what = "Network " + n.Name
	}
	have := 0
	for o := range others {
		if o.Egress == f.Egress {
			have++
		}
		if o.State != cloud.RuleRevoke && o.Egress == f.Egress && sameMatch(o, f) {
			return cloud.Errorf(cloud.NetworkRuleConflict, "The rule conflicts with rule %s: %s, which has sources %s", o.ID, describe(o), strings.Join(o.CIDRs, ","))
		}
	}
	if err := room(tx, f.AccountID, have, what); err != nil {
		return err
	}
	f.ID, f.State, f.Created = tx.NewID(), cloud.RuleAdd, tx.Now()
	if err := tables.FirewallRules.Put(tx, f); err != nil {
		return err
	}
	return a.changed(tx, n)
}

// sameMatch tells whether two rules say something of the same packets. As in CloudStack a rule for all ports and one
// for some of them may stand side by side, since the one adds nothing to the other's meaning but may outlive it.
func sameMatch(x, y *cloud.FirewallRule) bool {
	if x.Protocol != y.Protocol || !slices.ContainsFunc(x.CIDRs, func(c string) bool { return slices.Contains(y.CIDRs, c) }) {
		return false
	}
	switch x.Protocol {
	case "icmp":
		return x.ICMPType == y.ICMPType && x.ICMPCode == y.ICMPCode
	case "all":
		return true
	}
	if (x.StartPort == 0) != (y.StartPort == 0) {
		return false
	}
	return overlap(x.StartPort, x.EndPort, y.StartPort, y.EndPort)
}

func overlap(aLo, aHi, bLo, bHi uint16) bool { return aLo <= bHi && bLo <= aHi }

func describe(f *cloud.FirewallRule) string {
	switch {
	case f.Protocol == "icmp" || f.Protocol == "all":
		return f.Protocol
	case f.StartPort == 0:
		return f.Protocol + " all ports"
	}
	return f.Protocol + " ports " + portRange(f.StartPort, f.EndPort)
}

// UpdateFirewall writes a rule of which nothing has changed that its router needs to know. With an id that is not zero the
// rule has that one from now on, and f with it.
//
// Errors: cloud.Invalid.
func (a *Area) UpdateFirewall(tx *store.Tx, f *cloud.FirewallRule, id cloud.ID) error {
	old := f.ID
	if id.IsZero() || id == old {
		return tables.FirewallRules.Put(tx, f)
	}
	switch {
	case tables.FirewallRules.Has(tx, id):
		return cloud.Errorf(cloud.Invalid, "Invalid customid=%s: another firewall rule has it", id)
	case f.State != cloud.RuleActive: // a job knows it by its id
		return cloud.Errorf(cloud.Invalid, "Firewall rule %s is in the state %s; its id can be changed (parameter customid) when it is Active", old, f.State)
	}
	f.ID = id
	if err := tables.FirewallRules.Put(tx, f); err != nil {
		return err
	}
	if err := tables.MoveAttached(tx, old, id); err != nil {
		return err
	}
	if err := tables.FirewallRules.Delete(tx, old); err != nil {
		return err
	}
	n, ok := tables.Networks.Get(tx, f.NetworkID)
	if !ok {
		return nil
	}
	return a.changed(tx, n)
}

// CloseFirewall revokes a rule.
func (a *Area) CloseFirewall(tx *store.Tx, f *cloud.FirewallRule) error {
	if err := revokeFirewall(tx, f); err != nil {
		return err
	}
	n, ok := tables.Networks.Get(tx, f.NetworkID)
	if !ok {
		return tables.FirewallRules.Delete(tx, f.ID)
	}
	return a.changed(tx, n)
}

// revokeFirewall marks a rule; the caller sees to its network.
func revokeFirewall(tx *store.Tx, f *cloud.FirewallRule) error {
	f.State = cloud.RuleRevoke
	return tables.FirewallRules.Put(tx, f)
}
