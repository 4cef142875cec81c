package dhcp4

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/proto/netspec"
)

// config is a parsed netspec.Dhcp4; it is never changed once built.
type config struct {
	serverID  netip.Addr
	subnet    netip.Prefix
	mask      [4]byte
	broadcast [4]byte
	gateway   netip.Addr
	dns       []netip.Addr
	domain    string
	lease     uint32
	mtu       uint16
	classless []byte
	relays    map[netip.Addr]bool
	guests    map[kernel.MAC]*guest
}

type guest struct {
	mac        kernel.MAC
	ip         netip.Addr
	hostname   string
	vmID       string
	defaultNIC bool
}

const (
	minLease    = 60
	maxServers  = 63 // what fits one option
	maxTextSize = 255
)

// newConfig parses the whole message; a guest that cannot be served is reported beside a config that serves the others.
func newConfig(w *netspec.Dhcp4) (*config, error) {
	c := &config{
		domain: w.GetDomain(), lease: max(w.GetLeaseSeconds(), minLease), mtu: uint16(min(w.GetMtu(), 0xffff)),
		guests: make(map[kernel.MAC]*guest, len(w.GetGuests())),
	}
	var err error
	if c.serverID, err = parse4(w.GetServerId()); err != nil {
		return nil, fmt.Errorf("server id: %w", err)
	}
	if c.subnet, err = netip.ParsePrefix(w.GetSubnet()); err != nil || !c.subnet.Addr().Is4() {
		return nil, fmt.Errorf("subnet %q is not an IPv4 prefix", w.GetSubnet())
	}
	c.subnet = c.subnet.Masked()
	c.mask, c.broadcast = masks(c.subnet)
	if w.GetGateway() != "" {
		if c.gateway, err = parse4(w.GetGateway()); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if c.dns, err = parseAll(w.GetDnsServers()); err != nil {
		return nil, fmt.Errorf("dns server: %w", err)
	}
	relays, err := parseAll(w.GetRelays())
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	c.relays = map[netip.Addr]bool{}
	for _, r := range relays {
		c.relays[r] = true
	}
	if len(c.dns) > maxServers || len(c.domain) > maxTextSize {
		return nil, errors.New("more dns servers, or a longer domain, than an option holds")
	}
	if c.classless, err = encodeRoutes(w.GetClasslessRoutes(), c.gateway); err != nil {
		return nil, err
	}
	return c, c.addGuests(w.GetGuests())
}

func (c *config) addGuests(guests []*netspec.Guest) error {
	var errs []error
	for _, w := range guests {
		mac, err := kernel.ParseMAC(w.GetMac())
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %s: %w", w.GetVmId(), err))
			continue
		}
		ip, err := parse4(w.GetIp())
		if err == nil && !c.subnet.Contains(ip) {
			err = fmt.Errorf("address %s is not in %s", ip, c.subnet)
		}
		if err == nil && c.guests[mac] != nil {
			err = errors.New("its mac address is another guest's too")
		}
		if err == nil && len(w.GetHostname()) > maxTextSize {
			err = errors.New("its host name is longer than an option holds")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %s: %w", mac, err))
			continue
		}
		c.guests[mac] = &guest{
			mac: mac, ip: ip, hostname: w.GetHostname(), vmID: w.GetVmId(),
			defaultNIC: w.GetDefaultNic(),
		}
	}
	return errors.Join(errs...)
}

func parse4(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address", s)
	}
	return a, nil
}

func parseAll(texts []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, text := range texts {
		a, err := parse4(text)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func masks(p netip.Prefix) (mask, broadcast [4]byte) {
	bits := ^uint32(0)
	if p.Bits() < 32 {
		bits = ^(bits >> p.Bits())
	}
	network := p.Addr().As4()
	for i := range mask {
		mask[i] = byte(bits >> (24 - 8*i))
		broadcast[i] = network[i] | ^mask[i]
	}
	return mask, broadcast
}

// encodeRoutes is the value of option 121. A client that heeds it ignores the router option (RFC 3442), so the default
// route is part of it. Without further routes the option is left out.
func encodeRoutes(routes []*netspec.Route, gateway netip.Addr) ([]byte, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	var b []byte
	hasDefault := false
	for _, r := range routes {
		d, err := netip.ParsePrefix(r.GetDestination())
		if err != nil || !d.Addr().Is4() {
			return nil, fmt.Errorf("classless route %q is not an IPv4 prefix", r.GetDestination())
		}
		via, err := parse4(r.GetGateway())
		if err != nil {
			return nil, fmt.Errorf("classless route %s: gateway: %w", d, err)
		}
		hasDefault = hasDefault || d.Bits() == 0
		b = appendRoute(b, d, via)
	}
	if !hasDefault && gateway.IsValid() {
		b = appendRoute(b, netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway)
	}
	return b, nil
}

// appendRoute writes the prefix length, as many bytes of the destination as it covers, and the router.
func appendRoute(b []byte, d netip.Prefix, via netip.Addr) []byte {
	network, router := d.Masked().Addr().As4(), via.As4()
	b = append(b, byte(d.Bits()))
	b = append(b, network[:(d.Bits()+7)/8]...)
	return append(b, router[:]...)
}

func sortedLeases(leases map[kernel.MAC]Lease) []Lease {
	list := make([]Lease, 0, len(leases))
	for _, l := range leases {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b Lease) int { return strings.Compare(string(a.MAC[:]), string(b.MAC[:])) })
	return list
}
