// Package reconcile makes a host as its spec says, and keeps it so.
//
// Three lanes run side by side, each a loop of whole passes: storage (pools, images, volumes), network (links,
// namespaces, services), compute (domains). A pass looks at everything of its lane and acts where it differs; a
// wake-up carries no news, and a slow tick repairs what no event told of. Lanes know each other only through the
// board, where each writes what is ready; so a hung storage server holds up the VMs that live on it and nothing else.
// What takes long is a task: one at a time per object, retried with growing pauses, next to any number of others.
//
// Making goes pool, image, volume, bridge, services, domain. Removing goes the other way: a volume or a network is
// removed when no domain uses it any more.
package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// Pools opens and measures pools. Open may block as long as the file system does.
type Pools interface {
	Open(ctx context.Context, pool *hostspec.StoragePool) (disk.Capacity, error)
}

// Images is the template cache.
type Images interface {
	Has(pool *hostspec.StoragePool, want *hostspec.Image) (bool, error)
	Fetch(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Image, progress func(uint64)) error
	// Sweep removes old images of a pool that are neither in keep nor below a volume.
	Sweep(pool *hostspec.StoragePool, keep map[string]bool) error
	// Verify reads a system VM's image through; one that is damaged is removed.
	Verify(pool *hostspec.StoragePool, sum string) (image.Set, error)
}

// Volumes are the disks.
type Volumes interface {
	Observe(pool *hostspec.StoragePool, want *hostspec.Volume) (disk.State, error)
	Create(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Volume, backing string) error
	Delete(pool *hostspec.StoragePool, id string) error
}

// Fabric makes links.
type Fabric interface {
	Apply(ctx context.Context, want fabric.Want) (map[string]fabric.Result, error)
	// Switch unplugs taps and plugs in others, at once.
	Switch(ctx context.Context, off []string, on []fabric.Plug) error
}

// Services runs wisp-netsvc.
type Services interface {
	Apply(want map[string]*netspec.NetSpec, keep map[string]bool)
	Status(id string) netrun.Status
	Present() map[string]bool
	// Feed names the system VMs that run, FeedStatus is what is heard from one, Forget is for one that is gone for good.
	Feed(want map[string]netrun.Channel)
	FeedStatus(id string) netrun.Status
	Forget(id string) error
}

// Config of a Loop.
type Config struct {
	Pools    Pools
	Images   Images
	Volumes  Volumes
	Fabric   Fabric
	Services Services
	Domains  *domain.Applier
	// Systems is the applier of system VMs.
	Systems    *domain.Applier
	Hypervisor domain.Hypervisor
	// ChannelPath is the socket a system VM is fed over.
	ChannelPath func(id string) string
	// SystemDebug offers a shell on every system VM's serial console.
	SystemDebug bool
	// Changed is called when an observation may have changed; it must not block.
	Changed func()
	Log     *slog.Logger
	// Time between passes when nothing happens; 0 means 5 s.
	Slow time.Duration
	// Tasks at a time per lane; 0 means 8.
	Parallel int
}

const (
	defaultSlow     = 5 * time.Second
	defaultParallel = 8
	// Passes are at least this far apart, however many wake-ups come.
	spacing = 2 * time.Millisecond
	// Events of kernel and hypervisor come in bursts (a starting guest makes a dozen): one pass for all within this.
	burst = 25 * time.Millisecond
)

// Loop is the reconciler of one host.
type Loop struct {
	config Config
	state  atomic.Pointer[desired.State]
	board  *board
	log    *slog.Logger

	storage, network, compute lane
	tasks                     struct{ storage, compute *tasks }
	lastSweep                 time.Time
	// Links of guests must be looked at again; of the compute lane only.
	recheck bool
	// Networks made by this loop; of the network lane only.
	past map[string]*hostspec.Network
	// Something waits for services to end, or to answer.
	removing, waiting atomic.Bool
	// Some network has an instance that waits to take over.
	replacing atomic.Bool
}

// New makes a Loop that wants nothing yet.
func New(c Config) *Loop {
	if c.Slow == 0 {
		c.Slow = defaultSlow
	}
	if c.Parallel == 0 {
		c.Parallel = defaultParallel
	}
	l := &Loop{config: c, board: newBoard(c.Changed), log: c.Log, past: map[string]*hostspec.Network{}}
	l.storage = newLane(l.passStorage, c.Slow)
	l.network = newLane(l.passNetwork, c.Slow)
	l.compute = newLane(l.passCompute, c.Slow)
	l.tasks.storage = newTasks(c.Parallel, l.storage.poke)
	l.tasks.compute = newTasks(c.Parallel, l.compute.poke)
	return l
}

// Set replaces what is wanted.
func (l *Loop) Set(s *desired.State) {
	l.state.Store(s)
	l.storage.poke()
	l.network.poke()
	l.compute.poke()
}

// Desired is what is wanted now; nil before the first Set.
func (l *Loop) Desired() *desired.State { return l.state.Load() }

// WakeNetwork asks for a look at links: something changed there.
func (l *Loop) WakeNetwork() { l.network.pokeSoon() }

// WakeCompute asks for a look at domains.
func (l *Loop) WakeCompute() { l.compute.pokeSoon() }

// ServicesChanged tells that the status of some network's services changed.
func (l *Loop) ServicesChanged() {
	if l.removing.Load() || l.replacing.Load() {
		l.network.poke()
	}
	if l.waiting.Load() {
		l.compute.poke()
	}
	l.config.Changed()
}

// Run keeps the host as wanted until ctx ends, and returns when all tasks have.
func (l *Loop) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, lane := range []*lane{&l.storage, &l.network, &l.compute} {
		group.Go(func() { lane.run(ctx) })
	}
	group.Wait()
	l.tasks.storage.wait()
	l.tasks.compute.wait()
}

// lane runs passes: after a poke, and at least every so often.
type lane struct {
	wake  chan struct{}
	soon  chan struct{}
	pass  func(ctx context.Context) (again time.Duration)
	every time.Duration
}

func newLane(pass func(context.Context) time.Duration, every time.Duration) lane {
	return lane{wake: make(chan struct{}, 1), soon: make(chan struct{}, 1), pass: pass, every: every}
}

// poke has a pass run at once.
func (l *lane) poke() { offer(l.wake) }

// pokeSoon has a pass run after the burst of events this one may be part of.
func (l *lane) pokeSoon() { offer(l.soon) }

func offer(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		again := l.pass(ctx)
		wait := l.every
		if again > 0 && again < wait {
			wait = again
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.wake:
			pause(ctx, spacing, nil)
		case <-l.soon:
			pause(ctx, burst, l.wake)
		}
		timer.Stop()
		// What was asked for until now is answered by the pass that follows.
		select {
		case <-l.soon:
		default:
		}
	}
}

// pause waits, but not after the context's end or something in cut.
func pause(ctx context.Context, d time.Duration, cut <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-cut:
	}
}
