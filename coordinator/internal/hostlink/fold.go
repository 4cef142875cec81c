package hostlink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// leaderState is what the leader remembers of hosts in memory. A new leader starts with none of it and gives every host
// time to be heard from.
type leaderState struct {
	mu    sync.Mutex
	hosts map[cloud.ID]*heard
}

// heard is what was last heard from a host.
type heard struct {
	link   string    // news of other links are old
	at     time.Time // of the last news
	digest [sha256.Size]byte
	folded time.Time // when an observation with that digest was folded
}

// fresh forgets everything, at the beginning of a leadership.
func (l *leaderState) fresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = map[cloud.ID]*heard{}
}

// seen tells when a host was last heard from.
func (l *leaderState) seen(id cloud.ID) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.hosts[id]; ok {
		return h.at, true
	}
	return time.Time{}, false
}

// news is a report that is worth a transaction.
type news struct {
	host   cloud.ID
	report *peerlink.HostReport
	digest [sha256.Size]byte
}

// sift notes that hosts were heard from, and leaves out reports of replaced links and observations that say nothing new.
func (l *leaderState) sift(reports []*peerlink.HostReport, now time.Time) []news {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts == nil {
		l.hosts = map[cloud.ID]*heard{}
	}
	var out []news
	for _, r := range reports {
		id, err := cloud.ParseID(r.GetHostId())
		if err != nil {
			continue
		}
		h, known := l.hosts[id]
		switch {
		case !known:
			h = &heard{link: r.GetLink()}
			l.hosts[id] = h
		case r.GetHello() != nil:
			h.link, h.digest = r.GetLink(), [sha256.Size]byte{}
		case h.link != r.GetLink():
			continue
		}
		h.at = now
		n := news{host: id, report: r}
		if o := r.GetObservation(); o != nil {
			n.digest = essence(o)
			if r.GetHello() == nil && !r.GetClosed() && n.digest == h.digest && now.Sub(h.folded) < refold {
				continue
			}
		}
		out = append(out, n)
	}
	return out
}

// folded notes what was written.
func (l *leaderState) folded(list []news, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range list {
		h, ok := l.hosts[n.host]
		if !ok || h.link != n.report.GetLink() {
			continue
		}
		if n.report.GetObservation() != nil {
			h.digest, h.folded = n.digest, now
		}
		if n.report.GetClosed() {
			delete(l.hosts, n.host)
		}
	}
}

// withoutUsage is what an agent says of a VM but its figures.
func withoutUsage(vm *hostspec.VirtualMachineObservation) *hostspec.VirtualMachineObservation {
	if vm.GetUsage() == nil {
		return vm
	}
	usage := vm.Usage
	vm.Usage = nil
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(vm)
	vm.Usage = usage
	v := &hostspec.VirtualMachineObservation{}
	_ = proto.Unmarshal(b, v) // of what was just marshalled
	return v
}

// essence is a fingerprint of an observation without the figures that change all the time.
func essence(o *hostspec.HostObservation) [sha256.Size]byte {
	c := &hostspec.HostObservation{
		HostId: o.GetHostId(), AcceptedGeneration: o.GetAcceptedGeneration(), SettledGeneration: o.GetSettledGeneration(),
		Facts: o.GetFacts(), Volumes: o.GetVolumes(), Images: o.GetImages(), Networks: o.GetNetworks(), BootId: o.GetBootId(),
		AgentStartedUnixMs: o.GetAgentStartedUnixMs(),
	}
	for _, vm := range o.GetVms() {
		c.Vms = append(c.Vms, withoutUsage(vm))
	}
	for _, vm := range o.GetSystemVms() {
		c.SystemVms = append(c.SystemVms, &hostspec.SystemVMObservation{
			Vm: withoutUsage(vm.GetVm()), Services: vm.GetServices(), Connected: vm.GetConnected(), ImageVersion: vm.GetImageVersion(),
		})
	}
	for _, p := range o.GetPools() {
		c.Pools = append(c.Pools, &hostspec.PoolObservation{
			Id: p.GetId(), Ready: p.GetReady(), Error: p.GetError(), CapacityBytes: p.GetCapacityBytes(), UsedBytes: p.GetUsedBytes() >> 28,
		})
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return [sha256.Size]byte{} // invalid UTF-8 somewhere: never equal to anything folded
	}
	return sha256.Sum256(b)
}

// fold writes the news of hosts into rows. Only the leader can. It returns an error where all of it is to be delivered
// again; a single host whose news cannot be folded does not hold up the others.
func (s *Server) fold(ctx context.Context, reports []*peerlink.HostReport) error {
	now := s.cfg.Now()
	list := s.leader.sift(reports, now)
	if len(list) == 0 {
		return nil
	}
	err := s.cfg.Replica.Update(ctx, func(tx *store.Tx) error {
		for _, n := range list {
			if err := s.foldOne(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil:
		s.leader.folded(list, now)
		return nil
	case again(ctx, err):
		return err
	}
	for _, n := range list {
		err := s.cfg.Replica.Update(ctx, func(tx *store.Tx) error { return s.foldOne(tx, n) })
		if again(ctx, err) {
			return err
		}
		if err != nil {
			s.cfg.Log.Error("could not fold what a host reports", "host", n.host, "error", err)
			continue
		}
		s.leader.folded([]news{n}, now)
	}
	return nil
}

// again tells whether an update failed for a reason that has nothing to do with what it wrote.
func again(ctx context.Context, err error) bool {
	var not *replica.NotLeader
	return ctx.Err() != nil || errors.As(err, &not) || errors.Is(err, replica.ErrOutcomeUnknown) || errors.Is(err, replica.ErrClosed)
}

func (s *Server) foldOne(tx *store.Tx, n news) error {
	h, ok := tables.Hosts.Get(tx, n.host)
	if !ok {
		return nil
	}
	hello, o := n.report.GetHello(), n.report.GetObservation()
	if hello != nil {
		if err := infra.Linked(tx, n.host, hello.GetAgentVersion(), hello.GetBootId()); err != nil {
			return err
		}
	}
	if o != nil {
		folds := s.cfg.Folds
		if h.ResourceState == cloud.HostPending {
			folds = nil // nothing on it is ours yet
		}
		if err := infra.Fold(tx, n.host, o); err != nil {
			return err
		}
		for _, fold := range folds {
			if err := fold(tx, n.host, o); err != nil {
				return fmt.Errorf("fold observation of host %s: %w", n.host, err)
			}
		}
	}
	if n.report.GetClosed() {
		return infra.SetStatus(tx, n.host, cloud.HostDisconnected)
	}
	return infra.SetStatus(tx, n.host, cloud.HostUp)
}
