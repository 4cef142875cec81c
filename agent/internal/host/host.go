// Package host is the agent of one host, put together: ledger, reconciler, report and link over whatever parts the
// host is made of. The real parts are wired in cmd/wisp-agent, fakes in agenttest; everything between is the same.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/hostlink"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/agent/internal/reconcile"
	"github.com/wispcloud/wisp/agent/internal/report"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Parts are what a host is made of.
type Parts struct {
	Files      ledger.Files
	Pools      reconcile.Pools
	Fabric     reconcile.Fabric
	Hypervisor domain.Hypervisor
	// Services makes the runner of wisp-netsvc; changed is to be called when a status changed, taken outlives the agent.
	Services func(taken netrun.Memory, changed func()) (Services, error)
	// Images and Volumes; nil for the real ones.
	Images  func(image.Source) reconcile.Images
	Volumes func(*ledger.Facts[ledger.VolumeFacts]) reconcile.Volumes
	// Watchers run while the host does and call wake when something of theirs changed.
	WatchLinks   func(ctx context.Context, wake func())
	WatchDomains func(ctx context.Context, wake func())
	Facts        func(ctx context.Context) *hostspec.HostFacts
	Usage        func() (*hostspec.HostUsage, error)
	BootID       string
	HostEnding   func() bool
	// ChannelPath is the socket a system VM is fed over; SystemDebug offers a shell on their serial consoles.
	ChannelPath func(id string) string
	SystemDebug bool
}

// Services is the runner as a host needs it.
type Services interface {
	reconcile.Services
	Close()
}

// Config of a Host.
type Config struct {
	Token   string
	Version string
	Dial    func(ctx context.Context, address string) (net.Conn, error)
	// Zero values mean the defaults of the packages concerned.
	Slow, Heartbeat, ImageGrace time.Duration
	Log                         *slog.Logger
}

// Host is one running agent.
type Host struct {
	log      *slog.Logger
	parts    Parts
	ledger   *ledger.Ledger
	loop     *reconcile.Loop
	reporter *report.Reporter
	link     *hostlink.Client
	services Services
	changed  chan struct{}
	accept   sync.Mutex
}

// New opens the ledger and takes up what it says; nothing runs yet.
func New(c Config, p Parts) (*Host, error) {
	h := &Host{log: c.Log, parts: p, changed: make(chan struct{}, 1)}
	var warning string
	var err error
	if h.ledger, warning, err = ledger.Open(p.Files); err != nil {
		return nil, err
	}
	if warning != "" {
		c.Log.Error("ledger was damaged", "detail", warning)
	}
	vms, warnings, err := ledger.OpenFacts[ledger.VMFacts](p.Files, "vms")
	if err != nil {
		return nil, err
	}
	systems, damaged, err := ledger.OpenFacts[ledger.VMFacts](p.Files, "systemvms")
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, damaged...)
	volumes, more, err := ledger.OpenFacts[ledger.VolumeFacts](p.Files, "volumes")
	if err != nil {
		return nil, err
	}
	taken, lost, err := ledger.OpenFacts[string](p.Files, "taken")
	if err != nil {
		return nil, err
	}
	for _, w := range append(append(warnings, more...), lost...) {
		c.Log.Error(w)
	}
	h.link, err = hostlink.New(hostlink.Config{
		Files: p.Files, Token: c.Token, Version: c.Version, BootID: p.BootID, Host: h, Dial: c.Dial,
		Log: c.Log.With("part", "link"), Heartbeat: c.Heartbeat,
	})
	if err != nil {
		return nil, err
	}
	// Services of an earlier agent may have something to say before the loop is there; it looks at them anyway.
	var loop atomic.Pointer[reconcile.Loop]
	h.services, err = p.Services(taken, func() {
		if l := loop.Load(); l != nil {
			l.ServicesChanged()
		}
	})
	if err != nil {
		return nil, err
	}
	h.wire(c, vms, systems, volumes)
	loop.Store(h.loop)
	if spec := h.ledger.Spec(); spec != nil {
		h.loop.Set(h.read(spec))
	}
	return h, nil
}

// wire puts loop and reporter over the parts.
func (h *Host) wire(c Config, vms, systems *ledger.Facts[ledger.VMFacts], volumes *ledger.Facts[ledger.VolumeFacts]) {
	p := h.parts
	if p.Images == nil {
		p.Images = func(s image.Source) reconcile.Images {
			return imageCache{image.New(s, c.ImageGrace, time.Now, c.Log.With("part", "image"))}
		}
	}
	if p.Volumes == nil {
		p.Volumes = func(f *ledger.Facts[ledger.VolumeFacts]) reconcile.Volumes {
			return disk.New(f, c.Log.With("part", "disk"))
		}
	}
	h.loop = reconcile.New(reconcile.Config{
		Pools: p.Pools, Images: p.Images(h.link), Volumes: p.Volumes(volumes), Fabric: p.Fabric, Services: h.services,
		Domains: domain.New(domain.Options{
			Hypervisor: p.Hypervisor, Facts: vms, HostBoot: p.BootID, HostEnding: p.HostEnding,
			Log: c.Log.With("part", "domain"),
		}),
		Systems: domain.New(domain.Options{
			Hypervisor: p.Hypervisor, Facts: systems, HostBoot: p.BootID, HostEnding: p.HostEnding, Tireless: true,
			Log: c.Log.With("part", "systemvm"),
		}),
		ChannelPath: p.ChannelPath, SystemDebug: p.SystemDebug,
		Hypervisor: p.Hypervisor, Changed: h.wakeReport, Log: c.Log.With("part", "reconcile"), Slow: c.Slow,
	})
	h.reporter = report.New(report.Sources{
		HostID: h.HostID, Generation: h.ledger.Generation, BootID: p.BootID, Started: time.Now(), Loop: h.loop,
		Services: func(id string) netrun.Status { return h.services.Status(id) },
		Feed:     func(id string) netrun.Status { return h.services.FeedStatus(id) }, Hypervisor: p.Hypervisor,
		Facts: p.Facts, Usage: p.Usage,
	})
}

// imageCache lets a sweep find out which images lie below volumes only when there is something to remove.
type imageCache struct{ *image.Cache }

// Sweep adds the images below the pool's volumes to what is kept.
func (c imageCache) Sweep(pool *hostspec.StoragePool, keep map[string]bool) error {
	backing, err := disk.Backing(pool)
	if err != nil {
		return err
	}
	for sum := range backing {
		keep[sum] = true
	}
	return c.Cache.Sweep(pool, keep)
}

// Run reconciles and keeps the link until ctx ends. Guests and services go on afterwards.
func (h *Host) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { h.loop.Run(ctx) })
	group.Go(func() { h.link.Run(ctx) })
	if h.parts.WatchLinks != nil {
		group.Go(func() { h.parts.WatchLinks(ctx, h.loop.WakeNetwork) })
	}
	if h.parts.WatchDomains != nil {
		group.Go(func() { h.parts.WatchDomains(ctx, h.loop.WakeCompute) })
	}
	group.Wait()
	h.services.Close()
}

func (h *Host) wakeReport() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// HostID is the id the cluster gave this host.
func (h *Host) HostID() string {
	if id := h.link.HostID(); id != "" {
		return id
	}
	return h.ledger.Spec().GetHostId()
}

func (h *Host) read(spec *hostspec.HostSpec) *desired.State {
	s := desired.Read(spec)
	for key, problem := range s.Problems {
		h.log.Error("object of the spec is not usable", "object", key.String(), "error", problem,
			"generation", spec.GetGeneration(), "request", spec.GetRequestId())
	}
	return s
}

// Accept implements hostlink.Host: ledger first, then the reconciler.
func (h *Host) Accept(spec *hostspec.HostSpec) error {
	h.accept.Lock()
	defer h.accept.Unlock()
	if id := h.link.HostID(); spec.GetHostId() != id {
		return fmt.Errorf("accept spec: %w: %q", ledger.ErrForeign, spec.GetHostId())
	}
	changed, err := h.ledger.Accept(spec)
	if err != nil || !changed {
		return err
	}
	h.log.Info("accepted spec", "generation", spec.GetGeneration(), "request", spec.GetRequestId(),
		"vms", len(spec.GetVms()), "networks", len(spec.GetNetworks()))
	h.loop.Set(h.read(spec))
	h.wakeReport()
	return nil
}

// Generation implements hostlink.Host.
func (h *Host) Generation() uint64 { return h.ledger.Generation() }

// Observe implements hostlink.Host.
func (h *Host) Observe(ctx context.Context) *hostspec.HostObservation { return h.reporter.Observe(ctx) }

// Changed implements hostlink.Host.
func (h *Host) Changed() <-chan struct{} { return h.changed }

// Facts implements hostlink.Host.
func (h *Host) Facts(ctx context.Context) *hostspec.HostFacts { return h.parts.Facts(ctx) }

// ErrNoSpec says that the host was never told what to be.
var ErrNoSpec = errors.New("this host has not been given a spec yet")

// Ready says why the agent is of no use yet: it has no spec, or its last look at the host failed.
func (h *Host) Ready() error {
	shot := h.loop.Snapshot()
	if h.loop.Desired() == nil {
		if _, err := h.link.Connected(); err != nil {
			return fmt.Errorf("%w: %w", ErrNoSpec, err)
		}
		return ErrNoSpec
	}
	return errors.Join(shot.ComputeErr, shot.NetworkErr)
}

// ServicePID is the process of an instance of a network's services, 0 for none.
func (h *Host) ServicePID(instance string) int { return h.services.Status(instance).PID }

// Connected says whether a coordinator listens, and why not.
func (h *Host) Connected() (bool, error) { return h.link.Connected() }
