package agenttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

type simFabric struct{ h *Host }

// Apply implements reconcile.Fabric.
func (s simFabric) Apply(ctx context.Context, want fabric.Want) (map[string]fabric.Result, error) {
	h := s.h
	h.mu.Lock()
	fresh := false
	for _, n := range want.Networks {
		fresh = fresh || !h.links[n.GetId()] || !slices.Equal(h.legs[n.GetId()], macsOf(n))
	}
	h.mu.Unlock()
	if fresh {
		if err := h.work(ctx, h.options.Latency.Network); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	results := map[string]fabric.Result{}
	for _, n := range want.Networks {
		id := n.GetId()
		if err := h.broken(OpNetwork, id); err != nil {
			results[id] = fabric.Result{Err: fmt.Errorf("make network %s: %w", id, err)}
			continue
		}
		h.links[id], h.legs[id] = true, macsOf(n)
		r := fabric.Result{Plugged: true, MTU: 1450}
		if n.GetServices() != nil {
			r.Serving = netrun.Instance(id, n.GetIncarnation())
			r.Instances = []string{r.Serving}
		}
		results[id] = r
	}
	for _, a := range want.Appliances {
		results[a.ID] = fabric.Result{Plugged: true}
	}
	for id := range h.links {
		if _, wanted := results[id]; !wanted && !want.Keep[id] {
			delete(h.links, id)
			delete(h.legs, id)
		}
	}
	h.listen()
	return results, nil
}

// macsOf are the MACs of a network's legs that are heard beyond this host.
func macsOf(n *hostspec.Network) (macs []string) {
	for _, l := range n.GetLegs() {
		if !l.GetIsolated() {
			macs = append(macs, l.GetMac())
		}
	}
	return macs
}

// Switch implements reconcile.Fabric: there are no frames to lead.
func (simFabric) Switch(context.Context, []string, []fabric.Plug) error { return nil }

// simServices is one wisp-netsvc per network that applies at once, and guests that use them.
type simServices struct {
	h       *Host
	started time.Time

	mu    sync.Mutex
	specs map[string]*netspec.NetSpec
	fed   map[string]netrun.Channel
}

func newSimServices(h *Host) *simServices {
	return &simServices{h: h, started: time.Now(), specs: map[string]*netspec.NetSpec{}}
}

// Apply implements reconcile.Services.
func (s *simServices) Apply(want map[string]*netspec.NetSpec, keep map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for id, spec := range want {
		changed = changed || s.specs[id] != spec
		s.specs[id] = spec
	}
	for id := range s.specs {
		if want[id] == nil && !keep[netrun.NetworkOf(id)] {
			delete(s.specs, id)
			changed = true
		}
	}
	if changed {
		s.h.mu.Lock()
		tell := s.h.changed
		s.h.mu.Unlock()
		if tell != nil {
			go tell()
		}
	}
}

// Feed implements reconcile.Services.
func (s *simServices) Feed(want map[string]netrun.Channel) {
	s.mu.Lock()
	changed := len(want) != len(s.fed)
	for id, c := range want {
		changed = changed || s.fed[id] != c
	}
	s.fed = maps.Clone(want)
	s.mu.Unlock()
	if !changed {
		return
	}
	s.h.mu.Lock()
	tell := s.h.changed
	s.h.mu.Unlock()
	if tell != nil {
		go tell()
	}
}

// FeedStatus implements reconcile.Services: a system VM that runs has applied what it was told.
func (s *simServices) FeedStatus(id string) netrun.Status {
	s.mu.Lock()
	c, ok := s.fed[id]
	s.mu.Unlock()
	if !ok {
		return netrun.Status{}
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if err := s.h.broken(OpChannel, id); err != nil {
		return netrun.Status{Err: err}
	}
	d := s.h.domains[id]
	if d == nil || !d.active {
		return netrun.Status{}
	}
	return netrun.Status{Answering: true, Applied: true, Observation: &netspec.Observation{
		NetworkId: c.Spec.GetNetworkId(), AppliedGeneration: c.Spec.GetGeneration(), TriedGeneration: c.Spec.GetGeneration(),
		Version: d.machine.System.ImageVersion, StartedUnixMs: d.since.UnixMilli(),
	}}
}

// Forget implements reconcile.Services.
func (*simServices) Forget(string) error { return nil }

// Present implements reconcile.Services.
func (s *simServices) Present() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for id := range s.specs {
		out[id] = true
	}
	return out
}

// Close implements host.Services.
func (s *simServices) Close() {}

// Status implements reconcile.Services.
func (s *simServices) Status(id string) netrun.Status {
	s.mu.Lock()
	spec := s.specs[id]
	s.mu.Unlock()
	if spec == nil {
		return netrun.Status{}
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if err := s.h.broken(OpServices, netrun.NetworkOf(id)); err != nil {
		return netrun.Status{Err: err}
	}
	o := &netspec.Observation{
		NetworkId: netrun.NetworkOf(id), AppliedGeneration: spec.GetGeneration(), TriedGeneration: spec.GetGeneration(),
		Version: s.h.options.Version, StartedUnixMs: s.started.UnixMilli(),
	}
	macs := map[string]bool{}
	for _, d := range s.h.domains {
		if d.active {
			for _, n := range d.machine.Nics {
				macs[n.MAC] = true
			}
		}
	}
	for _, g := range spec.GetDhcp4().GetGuests() {
		if macs[g.GetMac()] {
			o.Leases = append(o.Leases, &netspec.Lease{Mac: g.GetMac(), Ip: g.GetIp(), VmId: g.GetVmId()})
		}
	}
	for _, g := range spec.GetPassword().GetGuests() {
		if macs[g.GetMac()] && g.GetPassword() != "" {
			o.PasswordsTaken = append(o.PasswordsTaken, &netspec.PasswordTaken{Ip: g.GetIp(), Epoch: g.GetEpoch()})
		}
	}
	return netrun.Status{Answering: true, Applied: true, Observation: o}
}
