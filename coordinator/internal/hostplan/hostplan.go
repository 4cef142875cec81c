// Package hostplan renders what one host shall be from the rows of the cloud. It is pure: the same rows give the same
// bytes on every coordinator, which is why any of them may serve any host, and why a spec is sent only when its content
// differs from what was sent before.
//
// The areas render their own parts; this package decides which objects a host is told of. It is told of nothing else:
// a host that was broken into must not learn the user-data or passwords of tenants it does not run.
package hostplan

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Renderers are the areas' parts of a spec. Each must be pure and give its lists sorted by id.
type Renderers struct {
	// Compute writes VMs, volumes, images, and the pools they need.
	Compute func(r store.Reader, host *cloud.Host, s *hostspec.HostSpec) error
	// Network gives one network as this host has to carry it; nil leaves it out.
	Network func(r store.Reader, host *cloud.Host, n *cloud.Network) (*hostspec.Network, error)
	// System writes system VMs, and the images they boot; nil where there are none.
	System func(r store.Reader, host *cloud.Host, s *hostspec.HostSpec) error
	// Pools lists the pools the host shall have, used or not.
	Pools func(r store.Reader, host *cloud.Host) []*hostspec.StoragePool
}

// Render gives the spec of a host, without a generation. A pending host has none: nil.
func (p Renderers) Render(r store.Reader, host *cloud.Host) (*hostspec.HostSpec, error) {
	if host.ResourceState == cloud.HostPending {
		return nil, nil
	}
	s := &hostspec.HostSpec{HostId: host.ID.String()}
	if err := p.Compute(r, host, s); err != nil {
		return nil, fmt.Errorf("render VMs of host %s: %w", host.ID, err)
	}
	for _, id := range Carried(r, host.ID) {
		n, ok := tables.Networks.Get(r, id)
		if !ok {
			continue
		}
		m, err := p.Network(r, host, n)
		if err != nil {
			return nil, fmt.Errorf("render network %s on host %s: %w", id, host.ID, err)
		}
		if m != nil {
			s.Networks = append(s.Networks, m)
		}
	}
	if p.System != nil {
		if err := p.System(r, host, s); err != nil {
			return nil, fmt.Errorf("render system VMs of host %s: %w", host.ID, err)
		}
	}
	s.Pools = merge(s.Pools, p.Pools(r, host))
	return s, nil
}

// merge adds the pools that are not listed yet.
func merge(have, more []*hostspec.StoragePool) []*hostspec.StoragePool {
	listed := map[string]bool{}
	for _, p := range have {
		listed[p.GetId()] = true
	}
	for _, p := range more {
		if !listed[p.GetId()] {
			listed[p.GetId()] = true
			have = append(have, p)
		}
	}
	slices.SortFunc(have, func(a, b *hostspec.StoragePool) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return have
}

// Carried lists the guest networks a host has to carry: those of the VMs that are on it and of the routers that are on
// it, sorted.
func Carried(r store.Reader, host cloud.ID) []cloud.ID {
	var ids []cloud.ID
	for vm := range tables.VMs.IDs(r, "host", store.K(host)) {
		for nic := range tables.NICs.By(r, "vm", store.K(vm)) {
			ids = append(ids, nic.NetworkID)
		}
	}
	for router := range tables.Routers.By(r, "host", store.K(host)) {
		ids = append(ids, router.NetworkID)
	}
	slices.SortFunc(ids, func(a, b cloud.ID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// Digest is a fingerprint of a spec's content: everything but its generation and request id.
func Digest(s *hostspec.HostSpec) ([sha256.Size]byte, error) {
	generation, request := s.GetGeneration(), s.GetRequestId()
	s.Generation, s.RequestId = 0, ""
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	s.Generation, s.RequestId = generation, request
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("encode spec of host %s: %w", s.GetHostId(), err)
	}
	return sha256.Sum256(b), nil
}
