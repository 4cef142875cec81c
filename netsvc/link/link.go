// Package link makes the links of the namespace true: name, MTU, addresses, state, sysctls, on-link routes and the
// policy rules by which answers leave through the leg that was asked.
//
// Links are made by somebody else (the host's fabric, a hypervisor) and found here by MAC address. A link that is not
// there yet is an error that the next pass mends. All changes add before they delete; of addresses only those of
// links in the spec are touched, and link-local ones (169.254.0.0/16) belong to the service that answers on them.
//
// # Two legs in one network
//
// On the router's host svc0 and gw0 carry the same prefix. The kernel would keep both on-link routes at the same
// metric and use the first made, so addresses are set without the kernel's route, and this package makes them: in the
// main table gw0's comes before svc0's (metric 1024), so what is forwarded to guests leaves by gw0; and each leg has
// a table of its own, looked up for packets from its addresses, so what svc0 answers leaves by svc0. netsvc's
// DESIGN.md tells the whole path.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	// rulePriority is the priority of this package's policy rules, and marks them as its own.
	rulePriority = 10000
	// backMetric is the metric of on-link routes that another link's should win over.
	backMetric = 1024
	// maxName is IFNAMSIZ without the terminating zero.
	maxName = 15
)

// Kernel is what this package needs of the kernel.
type Kernel interface {
	Links() ([]kernel.Link, error)
	SetLoopbackUp() error
	SetLinkName(index int, name string) error
	SetLinkMTU(index, mtu int) error
	SetLinkUp(index int, up bool) error
	Addresses(index int) ([]kernel.Address, error)
	AddAddress(index int, a kernel.Address) error
	DeleteAddress(index int, a kernel.Address) error
	Announce(l kernel.Link, addr netip.Addr) error
	Routes(kernel.Protocol) ([]kernel.Route, error)
	ReplaceRoute(kernel.Route) error
	DeleteRoute(kernel.Route) error
	Rules() ([]kernel.Rule, error)
	AddRule(kernel.Rule) error
	DeleteRule(kernel.Rule) error
	Sysctl(key string) (string, error)
	SetSysctl(key, value string) error
}

// Service applies links.
type Service struct {
	k     Kernel
	log   *slog.Logger
	drift kernel.Drift
	// owned are links applied since start: when one leaves the spec it is cleared.
	owned map[kernel.MAC]bool
	// dark are links that had no carrier when they were last looked at, and have not been announced since.
	dark map[kernel.MAC]bool
}

// New returns a Service that has applied nothing yet.
func New(k Kernel, log *slog.Logger) *Service {
	return &Service{k: k, log: log, owned: map[kernel.MAC]bool{}, dark: map[kernel.MAC]bool{}}
}

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.drift.Repairs() }

// Apply makes the links true; none wanted clears the ones applied before. One broken link does not keep the others
// from being applied.
func (s *Service) Apply(_ context.Context, want []*netspec.Link) error {
	p := &pass{Service: s}
	err := p.run(want)
	s.drift.Pass(fmt.Sprint(want), p.changes, err)
	return err
}

// wish is a parsed netspec.Link.
type wish struct {
	name      string
	mac       kernel.MAC
	mtu       int
	addresses []netip.Prefix
	announce  bool
	strictARP bool
	// metric of each address' on-link route in the main table.
	metric map[netip.Prefix]int
}

// back says whether another link of the network wins: the services' leg stands behind the router's.
func (w *wish) back() bool { return strings.HasPrefix(w.name, "svc") }

func parse(l *netspec.Link) (*wish, error) {
	mac, err := kernel.ParseMAC(l.GetMac())
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", l.GetName(), err)
	}
	name := l.GetName()
	if name == "" || name == "lo" || name == "." || name == ".." || len(name) > maxName ||
		strings.ContainsAny(name, "/: \t\n") {
		return nil, fmt.Errorf("link %q: not a usable link name", name)
	}
	w := &wish{name: name, mac: mac, mtu: int(l.GetMtu()), announce: l.GetAnnounce(), strictARP: l.GetStrictArp()}
	for _, text := range l.GetAddresses() {
		p, err := netip.ParsePrefix(text)
		if err != nil || !p.Addr().Is4() {
			return nil, fmt.Errorf("link %s: address %q is not IPv4 with a prefix length", name, text)
		}
		if !slices.Contains(w.addresses, p) {
			w.addresses = append(w.addresses, p)
		}
	}
	return w, nil
}

// parseAll parses every link and settles who wins where several carry one prefix.
func parseAll(want []*netspec.Link) ([]*wish, error) {
	var wishes []*wish
	var errs []error
	for _, l := range want {
		w, err := parse(l)
		if err == nil && slices.ContainsFunc(wishes, func(o *wish) bool { return o.name == w.name || o.mac == w.mac }) {
			err = fmt.Errorf("link %s: name or mac %s is given twice", w.name, w.mac)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		wishes = append(wishes, w)
	}
	type slot struct {
		prefix netip.Prefix
		metric int
	}
	taken := map[slot]bool{}
	for _, w := range slices.SortedFunc(slices.Values(wishes), func(a, b *wish) int { return strings.Compare(a.name, b.name) }) {
		w.metric = map[netip.Prefix]int{}
		for _, a := range w.addresses {
			at := slot{prefix: a.Masked()}
			if _, done := w.metric[at.prefix]; done {
				continue
			}
			if w.back() {
				at.metric = backMetric
			}
			for taken[at] {
				at.metric++
			}
			taken[at] = true
			w.metric[at.prefix] = at.metric
		}
	}
	return wishes, errors.Join(errs...)
}

// pass is one Apply at work.
type pass struct {
	*Service
	changes int
	links   []kernel.Link
	// what the passes over single links wish of the namespace as a whole
	routes []kernel.Route
	rules  []kernel.Rule
}

func (p *pass) run(want []*netspec.Link) error {
	wishes, parseErr := parseAll(want)
	errs := []error{parseErr}
	if len(wishes) > 0 {
		errs = append(errs, p.k.SetLoopbackUp(), p.sysctls("net/ipv4/conf/all/", allSysctls))
	}
	var err error
	if p.links, err = p.k.Links(); err != nil {
		return err
	}
	for _, w := range wishes {
		if err := p.apply(w); err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", w.name, err))
		}
	}
	errs = append(errs, p.applyRoutes(), p.applyRules())
	if parseErr != nil {
		return errors.Join(errs...) // what could not be read is not known to be unwanted
	}
	return errors.Join(append(errs, p.release(wishes))...)
}

// apply makes one link true, except its routes and rules, which it adds to the pass.
func (p *pass) apply(w *wish) error {
	l, err := kernel.LinkByMAC(p.links, w.mac)
	if err != nil {
		return err
	}
	p.owned[w.mac] = true
	if l, err = p.name(l, w.name); err != nil {
		return err
	}
	if w.mtu != 0 && l.MTU != w.mtu {
		p.changes++
		if err := p.k.SetLinkMTU(l.Index, w.mtu); err != nil {
			return err
		}
	}
	errs := []error{p.linkSysctls(w)}
	have, err := p.k.Addresses(l.Index)
	if err != nil {
		return err
	}
	var added []netip.Addr
	for _, a := range w.addresses {
		if slices.ContainsFunc(have, func(h kernel.Address) bool { return h.Prefix == a }) {
			continue
		}
		p.changes++
		if err := p.k.AddAddress(l.Index, kernel.Address{Prefix: a}); err != nil {
			errs = append(errs, err)
			continue
		}
		added = append(added, a.Addr())
	}
	if !l.Up {
		p.changes++
		if err := p.k.SetLinkUp(l.Index, true); err != nil {
			return errors.Join(append(errs, err)...)
		}
		added = added[:0]
		for _, a := range w.addresses {
			added = append(added, a.Addr())
		}
	}
	p.wish(l, w)
	for _, h := range have {
		if slices.Contains(w.addresses, h.Prefix) || h.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		p.changes++
		errs = append(errs, p.k.DeleteAddress(l.Index, h))
	}
	return errors.Join(append(errs, p.announce(w, l, added))...)
}

// announce tells the neighbours of addresses that were added, and of all addresses of a link that got its carrier: a
// successor is plugged in when it takes over, and what was sent before went nowhere.
func (p *pass) announce(w *wish, l kernel.Link, added []netip.Addr) error {
	if l.NoCarrier {
		p.dark[w.mac] = true
		return nil
	}
	if p.dark[w.mac] {
		added = added[:0]
		for _, a := range w.addresses {
			added = append(added, a.Addr())
		}
	}
	var errs []error
	if w.announce {
		for _, a := range added {
			errs = append(errs, p.k.Announce(l, a))
		}
	}
	if errors.Join(errs...) == nil {
		delete(p.dark, w.mac)
	}
	return errors.Join(errs...)
}

// name renames a link, moving another one out of the way if need be.
func (p *pass) name(l kernel.Link, name string) (kernel.Link, error) {
	if l.Name == name {
		return l, nil
	}
	for i, other := range p.links {
		if other.Name != name {
			continue
		}
		aside := fmt.Sprintf("aside%d", other.Index)
		if err := p.rename(other, aside); err != nil {
			return l, err
		}
		p.links[i].Name, p.links[i].Up = aside, false
	}
	if err := p.rename(l, name); err != nil {
		return l, err
	}
	l.Name, l.Up = name, false
	return l, nil
}

func (p *pass) rename(l kernel.Link, name string) error {
	p.changes++
	if l.Up {
		if err := p.k.SetLinkUp(l.Index, false); err != nil {
			return err
		}
	}
	p.log.Info("rename link", "mac", l.MAC, "from", l.Name, "to", name)
	return p.k.SetLinkName(l.Index, name)
}

// wish adds the link's on-link routes and rules to what the pass wants.
func (p *pass) wish(l kernel.Link, w *wish) {
	done := map[netip.Prefix]bool{}
	for _, a := range w.addresses {
		prefix := a.Masked()
		if w.strictARP {
			source := netip.PrefixFrom(a.Addr(), 32)
			p.rules = append(p.rules, kernel.Rule{Priority: rulePriority, Source: source, Table: kernel.LinkTable(l.Index)})
		}
		if done[prefix] || prefix.IsSingleIP() {
			continue
		}
		done[prefix] = true
		r := kernel.Route{
			Table: kernel.MainTable, Destination: prefix, LinkIndex: l.Index, Source: a.Addr(),
			Metric: w.metric[prefix], Protocol: kernel.ProtocolLink,
		}
		p.routes = append(p.routes, r)
		if w.strictARP {
			r.Table, r.Metric = kernel.LinkTable(l.Index), 0
			p.routes = append(p.routes, r)
		}
	}
}

func (p *pass) applyRoutes() error {
	have, err := p.k.Routes(kernel.ProtocolLink)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range p.routes {
		if !slices.Contains(have, r) {
			p.changes++
			errs = append(errs, p.k.ReplaceRoute(r))
		}
	}
	for _, h := range have {
		replaced := func(r kernel.Route) bool {
			return r.Table == h.Table && r.Destination == h.Destination && r.Metric == h.Metric
		}
		if !slices.ContainsFunc(p.routes, replaced) {
			p.changes++
			errs = append(errs, p.k.DeleteRoute(h))
		}
	}
	return errors.Join(errs...)
}

func (p *pass) applyRules() error {
	have, err := p.k.Rules()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range p.rules {
		if !slices.Contains(have, r) {
			p.changes++
			errs = append(errs, p.k.AddRule(r))
		}
	}
	for _, h := range have {
		if h.Priority == rulePriority && !slices.Contains(p.rules, h) {
			p.changes++
			errs = append(errs, p.k.DeleteRule(h))
		}
	}
	return errors.Join(errs...)
}

// release clears links that were applied before and are in no wish: addresses off, down. Routes and rules are gone
// already.
func (p *pass) release(wishes []*wish) error {
	var errs []error
	for _, mac := range slices.SortedFunc(maps.Keys(p.owned), func(a, b kernel.MAC) int { return slices.Compare(a[:], b[:]) }) {
		if slices.ContainsFunc(wishes, func(w *wish) bool { return w.mac == mac }) {
			continue
		}
		err := p.clear(mac)
		if err == nil || errors.Is(err, kernel.ErrNoLink) {
			delete(p.owned, mac)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *pass) clear(mac kernel.MAC) error {
	l, err := kernel.LinkByMAC(p.links, mac)
	if err != nil {
		return err
	}
	p.changes++
	if err := p.k.SetLinkUp(l.Index, false); err != nil {
		return err
	}
	have, err := p.k.Addresses(l.Index)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range have {
		errs = append(errs, p.k.DeleteAddress(l.Index, h))
	}
	return errors.Join(errs...)
}
