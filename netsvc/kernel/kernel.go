// Package kernel is the only door from wisp-netsvc to the Linux kernel: links, addresses, routes, rules, neighbours,
// sysctls, netfilter and sockets of one network namespace, the one the process was started in.
//
// The services see it through small interfaces of their own; the types they exchange are plain values with netip
// addresses, so that package fake can stand in and print itself as text (Text). Nothing here decides anything: each
// method does one thing and says what it was doing when it fails. Deleting what is gone succeeds, and a link that is
// gone is ErrNoLink, which the services treat as "not there yet".
package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoLink is returned for operations on a link that does not exist (any more).
var ErrNoLink = errors.New("no such link")

// Protocol marks who installed a route (rtm_protocol), so that each service touches only its own. The numbers are
// not taken in iproute2's rt_protos.
type Protocol int

const (
	// ProtocolLink marks on-link routes and policy rules of the link service.
	ProtocolLink Protocol = 87
	// ProtocolRoute marks routes of the route service.
	ProtocolRoute Protocol = 88
)

// MainTable is the routing table everything without a rule uses.
const MainTable = unix.RT_TABLE_MAIN

// MAC is an Ethernet address as a comparable value.
type MAC [6]byte

// ParseMAC reads the usual colon notation.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("parse mac address %q: not six bytes in hexadecimal", s)
	}
	return MAC(hw), nil
}

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Link is one network interface.
type Link struct {
	Index int
	Name  string
	MAC   MAC
	MTU   int
	Up    bool
	// NoCarrier: the link is up, but there is nobody at its other end (IFF_LOWER_UP is not set).
	NoCarrier bool
}

// Address is an IPv4 address of a link. Addresses are set without the kernel's own on-link route
// (IFA_F_NOPREFIXROUTE): the link service makes those itself.
type Address struct {
	Prefix netip.Prefix
	// LinkScope addresses (RT_SCOPE_LINK) are never chosen by the kernel as source towards other networks.
	LinkScope bool
}

// Route is an IPv4 route. The zero Gateway makes it an on-link route.
type Route struct {
	Table       int
	Destination netip.Prefix
	Gateway     netip.Addr
	LinkIndex   int
	// Source is the address preferred for packets that have none yet.
	Source   netip.Addr
	Metric   int
	Protocol Protocol
}

// Rule is an IPv4 policy rule: packets from Source look into Table.
type Rule struct {
	Priority int
	Source   netip.Prefix
	Table    int
}

// Kernel is the network namespace of this process.
type Kernel struct {
	route *netlink.Handle
	// proc is the root of the sysctl tree.
	proc string
	ipt  iptables
}

// Open connects to the kernel. The namespace is the calling thread's.
func Open() (*Kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	return &Kernel{route: h, proc: "/proc/sys"}, nil
}

// Close releases the netlink sockets.
func (k *Kernel) Close() { k.route.Close() }

// Links lists all links except lo.
func (k *Kernel) Links() ([]Link, error) {
	all, err := k.route.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var links []Link
	for _, l := range all {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 {
			continue
		}
		link := Link{
			Index: a.Index, Name: a.Name, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0,
			NoCarrier: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP == 0,
		}
		if len(a.HardwareAddr) == len(link.MAC) {
			link.MAC = MAC(a.HardwareAddr)
		}
		links = append(links, link)
	}
	return links, nil
}

// SetLoopbackUp raises lo, which a new namespace has down.
func (k *Kernel) SetLoopbackUp() error {
	lo, err := k.route.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := k.route.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

func device(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// SetLinkName renames a link, which must be down.
func (k *Kernel) SetLinkName(index int, name string) error {
	return wrapLink(k.route.LinkSetName(device(index), name), "rename link %d to %s", index, name)
}

// SetLinkMTU sets the MTU in bytes.
func (k *Kernel) SetLinkMTU(index, mtu int) error {
	return wrapLink(k.route.LinkSetMTU(device(index), mtu), "set mtu of link %d to %d", index, mtu)
}

// SetLinkUp raises or lowers a link.
func (k *Kernel) SetLinkUp(index int, up bool) error {
	if up {
		return wrapLink(k.route.LinkSetUp(device(index)), "set link %d up", index)
	}
	return wrapLink(k.route.LinkSetDown(device(index)), "set link %d down", index)
}

// Addresses lists the IPv4 addresses of a link.
func (k *Kernel) Addresses(index int) ([]Address, error) {
	all, err := k.route.AddrList(device(index), unix.AF_INET)
	if err != nil {
		return nil, wrapLink(err, "list addresses of link %d", index)
	}
	var addresses []Address
	for _, a := range all {
		if p, ok := prefixOf(a.IPNet); ok {
			addresses = append(addresses, Address{Prefix: p, LinkScope: a.Scope == unix.RT_SCOPE_LINK})
		}
	}
	return addresses, nil
}

// AddAddress adds an address; one that is there already is no error.
func (k *Kernel) AddAddress(index int, a Address) error {
	err := k.route.AddrAdd(device(index), netlinkAddress(a))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return wrapLink(err, "add address %s to link %d", a.Prefix, index)
}

// DeleteAddress deletes an address; one that is gone is no error.
func (k *Kernel) DeleteAddress(index int, a Address) error {
	err := k.route.AddrDel(device(index), netlinkAddress(a))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return wrapLink(err, "delete address %s of link %d", a.Prefix, index)
}

func netlinkAddress(a Address) *netlink.Addr {
	scope := unix.RT_SCOPE_UNIVERSE
	if a.LinkScope {
		scope = unix.RT_SCOPE_LINK
	}
	return &netlink.Addr{IPNet: ipNet(a.Prefix), Flags: unix.IFA_F_NOPREFIXROUTE, Scope: scope}
}

// Routes lists the IPv4 routes with the given protocol, of all tables.
func (k *Kernel) Routes(p Protocol) ([]Route, error) {
	filter := &netlink.Route{Protocol: netlink.RouteProtocol(p), Table: unix.RT_TABLE_UNSPEC}
	all, err := k.route.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, r := range all {
		route := Route{
			Table: r.Table, LinkIndex: r.LinkIndex, Metric: r.Priority, Protocol: p,
			Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		}
		if d, ok := prefixOf(r.Dst); ok {
			route.Destination = d
		}
		if g, ok := netip.AddrFromSlice(r.Gw); ok {
			route.Gateway = g.Unmap()
		}
		if s, ok := netip.AddrFromSlice(r.Src); ok {
			route.Source = s.Unmap()
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// ReplaceRoute adds a route, or changes the one with the same table, destination and metric.
func (k *Kernel) ReplaceRoute(r Route) error {
	return wrapLink(k.route.RouteReplace(netlinkRoute(r)), "set route %s", r.Destination)
}

// DeleteRoute deletes a route; one that is gone is no error.
func (k *Kernel) DeleteRoute(r Route) error {
	err := k.route.RouteDel(netlinkRoute(r))
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return wrapLink(err, "delete route %s", r.Destination)
}

func netlinkRoute(r Route) *netlink.Route {
	n := &netlink.Route{
		Table: r.Table, Dst: ipNet(r.Destination), LinkIndex: r.LinkIndex, Priority: r.Metric,
		Protocol: netlink.RouteProtocol(r.Protocol), Scope: netlink.SCOPE_LINK,
	}
	if r.Gateway.IsValid() {
		n.Gw, n.Scope = r.Gateway.AsSlice(), netlink.SCOPE_UNIVERSE
	}
	if r.Source.IsValid() {
		n.Src = r.Source.AsSlice()
	}
	return n
}

// Rules lists the IPv4 policy rules with a source.
func (k *Kernel) Rules() ([]Rule, error) {
	all, err := k.route.RuleList(unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("list policy rules: %w", err)
	}
	var rules []Rule
	for _, r := range all {
		if source, ok := prefixOf(r.Src); ok {
			rules = append(rules, Rule{Priority: r.Priority, Source: source, Table: r.Table})
		}
	}
	return rules, nil
}

// AddRule adds a policy rule; one that is there already is no error.
func (k *Kernel) AddRule(r Rule) error {
	if err := k.route.RuleAdd(netlinkRule(r)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add policy rule from %s: %w", r.Source, err)
	}
	return nil
}

// DeleteRule deletes a policy rule; one that is gone is no error.
func (k *Kernel) DeleteRule(r Rule) error {
	if err := k.route.RuleDel(netlinkRule(r)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete policy rule from %s: %w", r.Source, err)
	}
	return nil
}

func netlinkRule(r Rule) *netlink.Rule {
	n := netlink.NewRule()
	n.Family = unix.AF_INET
	n.Priority, n.Table, n.Src = r.Priority, r.Table, ipNet(r.Source)
	return n
}

// Neighbour asks the kernel which MAC address it sends to for an address on a link. ok is false when the kernel
// knows none.
func (k *Kernel) Neighbour(index int, addr netip.Addr) (mac MAC, ok bool, err error) {
	// Without NLM_F_DUMP the kernel (5.0 and later) answers with this one entry only.
	return neighbour(index, addr)
}

// Sysctl reads a value; key is a path below /proc/sys.
func (k *Kernel) Sysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join(k.proc, key))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// SetSysctl writes a value; key is a path below /proc/sys.
func (k *Kernel) SetSysctl(key, value string) error {
	if err := os.WriteFile(filepath.Join(k.proc, key), []byte(value), 0); err != nil {
		return fmt.Errorf("write sysctl %s: %w", key, err)
	}
	return nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func wrapLink(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var missing netlink.LinkNotFoundError
	if errors.Is(err, unix.ENODEV) || errors.As(err, &missing) {
		return fmt.Errorf("%s: %w", what, ErrNoLink)
	}
	return fmt.Errorf("%s: %w", what, err)
}
