// Package fake is a network namespace in memory, with the behaviour of the Linux kernel that the services of netsvc
// depend on: routes vanish with their link or source address, secondary addresses vanish with their primary one
// unless promoted, a gateway must be reachable, a chain change is all or nothing. kernel.Text prints it as it prints
// the real one, so one table of desired states can be walked over both.
package fake

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

// Kernel is the namespace. The zero value is not usable; New makes one.
type Kernel struct {
	mu         sync.Mutex
	next       int
	links      []*link
	routes     []kernel.Route
	rules      []kernel.Rule
	sysctls    map[string]string
	tables     map[string]*table
	generation uint32
	neighbours map[neighbour]kernel.MAC
	journal    []string
	// fail, when set, is asked before every change.
	fail func(op string) error
}

type link struct {
	kernel.Link
	addresses []kernel.Address
}

type neighbour struct {
	index int
	addr  netip.Addr
}

// New returns an empty namespace.
func New() *Kernel {
	return &Kernel{
		next: 2, sysctls: map[string]string{}, tables: map[string]*table{},
		neighbours: map[neighbour]kernel.MAC{}, generation: kernel.FirstGeneration,
	}
}

// defaults are the values of a new namespace, by the last element of the key.
var defaults = map[string]string{
	"accept_ra": "1", "autoconf": "1", "send_redirects": "1", "accept_redirects": "1", "disable_ipv6": "0",
	"accept_source_route": "0", "secure_redirects": "1", "shared_media": "1",
}

// AddLink makes a link that is down, as the fabric does.
func (k *Kernel) AddLink(name string, mac kernel.MAC, mtu int) kernel.Link {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := kernel.Link{Index: k.next, Name: name, MAC: mac, MTU: mtu}
	k.next++
	k.links = append(k.links, &link{Link: l})
	return l
}

// SetCarrier gives a link somebody at its other end, or takes him away.
func (k *Kernel) SetCarrier(name string, carrier bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.links {
		if l.Name == name {
			l.NoCarrier = !carrier
		}
	}
}

// FailOn makes every change whose description has the given prefix fail with err; nil err ends it.
func (k *Kernel) FailOn(prefix string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.fail = nil
		return
	}
	k.fail = func(op string) error {
		if strings.HasPrefix(op, prefix) {
			return err
		}
		return nil
	}
}

// Journal returns the changes made since the last call, in order, and empties it.
func (k *Kernel) Journal() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	j := k.journal
	k.journal = nil
	return j
}

// change notes a change, or refuses it. The lock is held.
func (k *Kernel) change(format string, args ...any) error {
	return k.changes([]string{fmt.Sprintf(format, args...)})
}

// changes notes all of them, or refuses them. The lock is held.
func (k *Kernel) changes(ops []string) error {
	for _, op := range ops {
		if k.fail == nil {
			break
		}
		if err := k.fail(op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	k.journal = append(k.journal, ops...)
	return nil
}

func (k *Kernel) find(index int) (*link, error) {
	for _, l := range k.links {
		if l.Index == index {
			return l, nil
		}
	}
	return nil, fmt.Errorf("link %d: %w", index, kernel.ErrNoLink)
}

// Links lists the links.
func (k *Kernel) Links() ([]kernel.Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var links []kernel.Link
	for _, l := range k.links {
		links = append(links, l.Link)
	}
	return links, nil
}

// SetLoopbackUp does nothing: the fake has no lo.
func (k *Kernel) SetLoopbackUp() error { return nil }

// SetLinkName renames a link that is down.
func (k *Kernel) SetLinkName(index int, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(index)
	if err != nil {
		return err
	}
	if l.Up {
		return fmt.Errorf("rename %s: %w", l.Name, unix.EBUSY)
	}
	if slices.ContainsFunc(k.links, func(o *link) bool { return o.Name == name }) {
		return fmt.Errorf("rename %s to %s: %w", l.Name, name, unix.EEXIST)
	}
	if err := k.change("rename %s to %s", l.Name, name); err != nil {
		return err
	}
	old := l.Name
	l.Name = name
	for key, value := range k.sysctls { // the link's directory moves with it
		if moved := strings.Replace(key, "/"+old+"/", "/"+name+"/", 1); moved != key {
			delete(k.sysctls, key)
			k.sysctls[moved] = value
		}
	}
	return nil
}

// SetLinkMTU sets the MTU.
func (k *Kernel) SetLinkMTU(index, mtu int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(index)
	if err == nil {
		err = k.change("mtu %s %d", l.Name, mtu)
	}
	if err == nil {
		l.MTU = mtu
	}
	return err
}

// SetLinkUp raises or lowers a link; lowering takes its routes.
func (k *Kernel) SetLinkUp(index int, up bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(index)
	if err != nil {
		return err
	}
	state := map[bool]string{true: "up", false: "down"}[up]
	if err := k.change("%s %s", state, l.Name); err != nil {
		return err
	}
	l.Up = up
	if !up {
		k.dropRoutes(func(r kernel.Route) bool { return r.LinkIndex == index })
	}
	return nil
}

// Addresses lists the addresses of a link.
func (k *Kernel) Addresses(index int) ([]kernel.Address, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(index)
	if err != nil {
		return nil, err
	}
	return slices.Clone(l.addresses), nil
}

// AddAddress adds an address.
func (k *Kernel) AddAddress(index int, a kernel.Address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(index)
	if err != nil {
		return err
	}
	if err := k.change("address add %s %s", l.Name, a.Prefix); err != nil {
		return err
	}
	if !slices.ContainsFunc(l.addresses, func(o kernel.Address) bool { return o.Prefix == a.Prefix }) {
		l.addresses = append(l.addresses, a)
	}
	return nil
}

// DeleteAddress deletes an address, its secondaries unless promote_secondaries is set, and the routes that name it.
func (k *Kernel) DeleteAddress(index int, a kernel.Address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(index)
	if err != nil {
		return err
	}
	if err := k.change("address delete %s %s", l.Name, a.Prefix); err != nil {
		return err
	}
	sameNetwork := func(o kernel.Address) bool { return o.Prefix.Masked() == a.Prefix.Masked() }
	primary := slices.IndexFunc(l.addresses, sameNetwork)
	if primary < 0 {
		return nil
	}
	all := l.addresses[primary].Prefix == a.Prefix &&
		k.sysctls["net/ipv4/conf/"+l.Name+"/promote_secondaries"] != "1"
	for _, o := range slices.Clone(l.addresses) {
		if o.Prefix == a.Prefix || all && sameNetwork(o) {
			l.addresses = slices.DeleteFunc(l.addresses, func(x kernel.Address) bool { return x.Prefix == o.Prefix })
			k.dropRoutes(func(r kernel.Route) bool { return r.Source == o.Prefix.Addr() })
		}
	}
	return nil
}

func (k *Kernel) dropRoutes(which func(kernel.Route) bool) {
	k.routes = slices.DeleteFunc(k.routes, which)
}

// Routes lists the routes of a protocol.
func (k *Kernel) Routes(p kernel.Protocol) ([]kernel.Route, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var routes []kernel.Route
	for _, r := range k.routes {
		if r.Protocol == p {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

func sameRoute(a, b kernel.Route) bool {
	return a.Table == b.Table && a.Destination == b.Destination && a.Metric == b.Metric
}

// ReplaceRoute adds or changes a route.
func (k *Kernel) ReplaceRoute(r kernel.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := k.find(r.LinkIndex)
	if err != nil {
		return err
	}
	if !l.Up {
		return fmt.Errorf("set route %s: %w", r.Destination, unix.ENETDOWN)
	}
	if r.Gateway.IsValid() && !slices.ContainsFunc(k.routes, func(o kernel.Route) bool {
		return o.LinkIndex == r.LinkIndex && !o.Gateway.IsValid() && o.Destination.Contains(r.Gateway)
	}) {
		return fmt.Errorf("set route %s: %w", r.Destination, unix.ENETUNREACH)
	}
	if err := k.change("route set %d %s %s %s", r.Table, r.Destination, l.Name, r.Gateway); err != nil {
		return err
	}
	k.dropRoutes(func(o kernel.Route) bool { return sameRoute(o, r) })
	k.routes = append(k.routes, r)
	return nil
}

// DeleteRoute deletes a route.
func (k *Kernel) DeleteRoute(r kernel.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.change("route delete %d %s", r.Table, r.Destination); err != nil {
		return err
	}
	k.dropRoutes(func(o kernel.Route) bool { return sameRoute(o, r) && o.Gateway == r.Gateway })
	return nil
}

// Rules lists the policy rules.
func (k *Kernel) Rules() ([]kernel.Rule, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.rules), nil
}

// AddRule adds a policy rule.
func (k *Kernel) AddRule(r kernel.Rule) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.change("rule add %d %s", r.Priority, r.Source); err != nil {
		return err
	}
	if !slices.Contains(k.rules, r) {
		k.rules = append(k.rules, r)
	}
	return nil
}

// DeleteRule deletes a policy rule.
func (k *Kernel) DeleteRule(r kernel.Rule) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.change("rule delete %d %s", r.Priority, r.Source); err != nil {
		return err
	}
	k.rules = slices.DeleteFunc(k.rules, func(o kernel.Rule) bool { return o == r })
	return nil
}

// Sysctl reads a value.
func (k *Kernel) Sysctl(key string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if value, ok := k.sysctls[key]; ok {
		return value, nil
	}
	if value, ok := defaults[path.Base(key)]; ok {
		return value, nil
	}
	return "0", nil
}

// SetSysctl writes a value.
func (k *Kernel) SetSysctl(key, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.change("sysctl %s %s", key, value); err != nil {
		return err
	}
	k.sysctls[key] = value
	if key == "net/ipv4/ip_forward" { // inet_forward_change: a router believes no redirects, a host does
		k.sysctls["net/ipv4/conf/all/accept_redirects"] = map[string]string{"0": "1", "1": "0"}[value]
	}
	return nil
}

// Announce notes the announcement in the journal.
func (k *Kernel) Announce(l kernel.Link, addr netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.change("announce %s %s", l.Name, addr)
}

// SetNeighbour makes the namespace know the MAC of an address.
func (k *Kernel) SetNeighbour(index int, addr netip.Addr, mac kernel.MAC) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.neighbours[neighbour{index, addr}] = mac
}

// Neighbour looks up a MAC.
func (k *Kernel) Neighbour(index int, addr netip.Addr) (kernel.MAC, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	mac, ok := k.neighbours[neighbour{index, addr}]
	return mac, ok, nil
}

var _ kernel.Reader = (*Kernel)(nil)

// SaveTable reads a netfilter table.
func (k *Kernel) SaveTable(_ context.Context, name string) (kernel.Table, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.table(name).copy(), nil
}
