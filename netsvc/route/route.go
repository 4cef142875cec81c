// Package route makes the listed routes of the main table true, and whether the namespace forwards at all.
//
// Its routes carry a protocol number of their own (kernel.ProtocolRoute): routes of the kernel, of the link package
// and of an operator are never touched. Forwarding is switched on after the routes stand and off before they go; the
// caller has the firewall closed before either.
package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	forwardSysctl  = "net/ipv4/ip_forward"
	redirectSysctl = "net/ipv4/conf/all/accept_redirects"
)

// Kernel is what this package needs of the kernel.
type Kernel interface {
	Links() ([]kernel.Link, error)
	Routes(kernel.Protocol) ([]kernel.Route, error)
	ReplaceRoute(kernel.Route) error
	DeleteRoute(kernel.Route) error
	Sysctl(key string) (string, error)
	SetSysctl(key, value string) error
}

// Want is the routes and whether to forward. The zero value removes all and forwards nothing.
type Want struct {
	Routes     []*netspec.Route
	Forwarding bool
}

// Service applies routes.
type Service struct {
	k     Kernel
	drift kernel.Drift
}

// New returns a Service that has applied nothing yet.
func New(k Kernel) *Service { return &Service{k: k} }

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.drift.Repairs() }

// Sysctls are the keys this package writes, for tests that print them.
func Sysctls() []string { return []string{forwardSysctl} }

// Apply makes the routes and forwarding true.
func (s *Service) Apply(_ context.Context, want Want) error {
	changes, err := s.apply(want)
	s.drift.Pass(fmt.Sprint(want.Routes, want.Forwarding), changes, err)
	return err
}

func (s *Service) apply(want Want) (changes int, err error) {
	if !want.Forwarding {
		if changes, err = s.forwarding("0"); err != nil {
			return changes, err
		}
	}
	n, err := s.routes(want.Routes)
	changes += n
	if want.Forwarding {
		n, forwardErr := s.forwarding("1")
		changes += n
		err = errors.Join(err, forwardErr)
	}
	return changes, err
}

func (s *Service) forwarding(value string) (changes int, err error) {
	have, err := s.k.Sysctl(forwardSysctl)
	if err != nil || have == value {
		return 0, err
	}
	if err := s.k.SetSysctl(forwardSysctl, value); err != nil {
		return 1, err
	}
	// Switching forwarding makes the kernel reset whether a namespace believes ICMP redirects: hosts would.
	return 1, s.k.SetSysctl(redirectSysctl, "0")
}

func (s *Service) routes(want []*netspec.Route) (changes int, err error) {
	links, err := s.k.Links()
	if err != nil {
		return 0, err
	}
	have, err := s.k.Routes(kernel.ProtocolRoute)
	if err != nil {
		return 0, err
	}
	var errs []error
	var keep []netip.Prefix
	for _, w := range want {
		r, err := parse(w, links)
		keep = append(keep, r.Destination) // also when its link is missing: then there is nothing to delete
		if err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", w.GetDestination(), err))
			continue
		}
		if !slices.Contains(have, r) {
			changes++
			errs = append(errs, s.k.ReplaceRoute(r))
		}
	}
	for _, h := range have {
		if h.Table == kernel.MainTable && !slices.Contains(keep, h.Destination) {
			changes++
			errs = append(errs, s.k.DeleteRoute(h))
		}
	}
	return changes, errors.Join(errs...)
}

func parse(w *netspec.Route, links []kernel.Link) (kernel.Route, error) {
	r := kernel.Route{Table: kernel.MainTable, Protocol: kernel.ProtocolRoute}
	destination, err := netip.ParsePrefix(w.GetDestination())
	if err != nil || !destination.Addr().Is4() {
		return r, errors.New("the destination is not an IPv4 prefix")
	}
	r.Destination = destination.Masked()
	if w.GetGateway() != "" {
		if r.Gateway, err = netip.ParseAddr(w.GetGateway()); err != nil || !r.Gateway.Is4() {
			return r, fmt.Errorf("the gateway %q is not an IPv4 address", w.GetGateway())
		}
	}
	i := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == w.GetLink() })
	if i < 0 {
		return r, fmt.Errorf("link %s: %w", w.GetLink(), kernel.ErrNoLink)
	}
	r.LinkIndex = links[i].Index
	return r, nil
}
