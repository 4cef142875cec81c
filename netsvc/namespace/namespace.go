// Package namespace makes one network namespace true: it holds the services in the order in which they must be
// applied, hands each its part of the spec, repeats that slowly to mend drift, and gathers what they observe.
//
// One goroutine applies (Run); specs and wake-ups only tell it that there is something to do. A spec is always
// applied whole, and a service that fails does not stop the ones after it, with one exception: without its firewall a
// namespace does not forward.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	// driftPeriod is the time between two passes that only look for drift.
	driftPeriod = 2500 * time.Millisecond
	// settle is how long the kernel must have been quiet after a change before a pass looks at it: a change rarely
	// comes alone, and each pass of ours makes some itself.
	settle = 50 * time.Millisecond
)

// Service is one part of the spec made true.
type Service struct {
	Name string
	// Apply may be called twice with the same spec; an empty spec removes everything.
	Apply func(ctx context.Context, spec *netspec.NetSpec) error
	// Remove removes everything, if that is not what Apply does with an empty spec.
	Remove func(ctx context.Context) error
	// Restart forgets what is kept in memory, before the next Apply; nil for nothing. It must not change the kernel.
	Restart func()
	// Repairs counts drift mended since start; nil for services that keep no state in the kernel.
	Repairs func() uint64
	// Counts names and counts events for the metrics; nil for none.
	Counts func() map[string]uint64
}

// Watcher tells that something in the kernel has changed.
type Watcher interface {
	Watch(ctx context.Context, changed func()) error
}

// Options are what a Namespace is made of.
type Options struct {
	// Services in the order of application. Two of the same name are two steps of one: their errors are reported
	// together.
	Services []Service
	// Observe adds what the services have seen to an observation.
	Observe func(*netspec.Observation)
	// Recall takes in what an earlier process had observed; nil for nothing to do with it.
	Recall  func(*netspec.Recall)
	Watcher Watcher
	Log     *slog.Logger
	Now     func() time.Time
	Version string
}

// Namespace applies specs.
type Namespace struct {
	o       Options
	started time.Time
	wake    chan struct{}

	mu      sync.Mutex
	spec    *netspec.NetSpec // last accepted
	fresh   bool             // spec has not been tried yet
	tried   uint64
	applied uint64
	errs    map[string]error
	changed chan struct{} // closed at the next change of the observation
}

// New returns a Namespace that has no spec.
func New(o Options) *Namespace {
	return &Namespace{
		o: o, started: o.Now(), wake: make(chan struct{}, 1), errs: map[string]error{},
		changed: make(chan struct{}),
	}
}

// ErrRefused is wrapped by errors of Accept.
var ErrRefused = errors.New("refused")

// Accept takes a spec to be applied by Run. It refuses one that is older than the last, or that differs from it
// under the same generation.
func (n *Namespace) Accept(spec *netspec.NetSpec) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.spec != nil {
		switch {
		case spec.GetNetworkId() != n.spec.GetNetworkId():
			return fmt.Errorf("%w: this namespace is network %s, the spec is of %s", ErrRefused,
				n.spec.GetNetworkId(), spec.GetNetworkId())
		case spec.GetGeneration() < n.spec.GetGeneration():
			return fmt.Errorf("%w: generation %d is older than %d", ErrRefused,
				spec.GetGeneration(), n.spec.GetGeneration())
		case spec.GetGeneration() == n.spec.GetGeneration() && !proto.Equal(spec, n.spec):
			return fmt.Errorf("%w: generation %d was given before with other content", ErrRefused, spec.GetGeneration())
		}
	}
	n.spec = spec
	n.fresh = true
	n.Wake()
	return nil
}

// Wake makes Run look again soon.
func (n *Namespace) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Notify tells those who wait on Changed that an observation would be different now.
func (n *Namespace) Notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of the observation.
func (n *Namespace) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Run applies until ctx ends. It leaves the kernel's state as it is.
func (n *Namespace) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() { n.watch(ctx) })
	tick := time.NewTicker(driftPeriod)
	defer tick.Stop()
	var last *netspec.NetSpec
	spent := false // memory that a new spec needed has not been given back yet
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.wake:
		}
		n.mu.Lock()
		spec, fresh := n.spec, n.fresh
		n.fresh = false
		n.mu.Unlock()
		if spec == nil {
			continue
		}
		if last != nil && spec.GetRestarts() > last.GetRestarts() {
			n.restart(spec)
		}
		last = spec
		n.pass(ctx, spec)
		switch {
		case fresh:
			n.Notify()
			tick.Reset(driftPeriod)
			spent = true
		case spent:
			// A host runs one process per network, most of them idle most of the time: what decoding and applying
			// needed is given back by the next pass, in seconds, not in minutes. Not by the same one: somebody waits to
			// hear of it.
			debug.FreeOSMemory()
			spent = false
		}
	}
}

// restart makes the services start afresh, as an operator asked for by restartNetwork.
func (n *Namespace) restart(spec *netspec.NetSpec) {
	n.o.Log.Info("start services afresh", "network", spec.GetNetworkId(), "request", spec.GetRequestId())
	for _, s := range n.o.Services {
		if s.Restart != nil {
			s.Restart()
		}
	}
}

// watch wakes Run when the kernel's state changes; without it drift waits for the slow pass.
func (n *Namespace) watch(ctx context.Context) {
	timer := time.AfterFunc(time.Hour, n.Wake)
	defer timer.Stop()
	if err := n.o.Watcher.Watch(ctx, func() { timer.Reset(settle) }); err != nil {
		n.o.Log.Warn("cannot watch the kernel, drift is found by the slow pass only", "err", err)
	}
}

// pass applies a spec once.
func (n *Namespace) pass(ctx context.Context, spec *netspec.NetSpec) {
	errs := n.apply(ctx, spec)
	if ctx.Err() != nil {
		return // cut short by the end of the process, not by a fault
	}
	n.mu.Lock()
	differ := !sameErrors(n.errs, errs)
	n.errs, n.tried = errs, spec.GetGeneration()
	if len(errs) == 0 {
		n.applied = n.tried
	}
	n.mu.Unlock()
	if !differ {
		return
	}
	log := n.o.Log.With("network", spec.GetNetworkId(), "generation", spec.GetGeneration(), "request", spec.GetRequestId())
	for name, err := range errs {
		log.Warn("service not ready", "service", name, "err", err)
	}
	if len(errs) == 0 {
		log.Info("all services ready")
	}
	n.Notify()
}

// firewallName is the service whose failure keeps the namespace from forwarding.
const firewallName = "firewall"

func (n *Namespace) apply(ctx context.Context, spec *netspec.NetSpec) map[string]error {
	errs := map[string]error{}
	for _, s := range n.o.Services {
		if errs[firewallName] != nil && spec.GetForwarding() {
			spec = proto.CloneOf(spec)
			spec.Forwarding = false
		}
		if err := s.Apply(ctx, spec); err != nil {
			errs[s.Name] = errors.Join(errs[s.Name], err)
		}
	}
	return errs
}

// Remove takes everything away that the services installed, in the opposite order. Run must have ended.
func (n *Namespace) Remove(ctx context.Context) error {
	var errs []error
	for i := len(n.o.Services) - 1; i >= 0; i-- {
		s := n.o.Services[i]
		remove := s.Remove
		if remove == nil {
			remove = func(ctx context.Context) error { return s.Apply(ctx, &netspec.NetSpec{}) }
		}
		if err := remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Observation is the present state.
func (n *Namespace) Observation() *netspec.Observation {
	n.mu.Lock()
	o := &netspec.Observation{
		NetworkId: n.spec.GetNetworkId(), AppliedGeneration: n.applied, TriedGeneration: n.tried,
		Version: n.o.Version, StartedUnixMs: n.started.UnixMilli(),
	}
	seen := map[string]*netspec.ServiceStatus{}
	for _, s := range n.o.Services {
		status := seen[s.Name]
		if status == nil {
			status = &netspec.ServiceStatus{Name: s.Name, Ready: n.tried != 0 && n.errs[s.Name] == nil}
			if err := n.errs[s.Name]; err != nil {
				status.Error = err.Error()
			}
			seen[s.Name] = status
			o.Services = append(o.Services, status)
		}
		if s.Repairs != nil {
			status.Repairs += s.Repairs()
		}
	}
	n.mu.Unlock()
	n.o.Observe(o)
	return o
}

func sameErrors(a, b map[string]error) bool {
	if len(a) != len(b) {
		return false
	}
	for name, err := range a {
		if b[name] == nil || b[name].Error() != err.Error() {
			return false
		}
	}
	return true
}
