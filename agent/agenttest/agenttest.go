// Package agenttest is a whole agent over simulated hardware, for simulations of a cloud: thousands fit in a process.
//
// Ledger, reconciler, report and link are the real ones and speak the real host link; only what they work on is
// simulated, with behaviour (guests shut down, crash, take leases and passwords), latency and faults. A Host outlives
// its agent as a machine does: Kill ends the agent, PowerOff the machine, and what lies on the disk stays.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/wispcloud/wisp/agent/internal/host"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/agent/internal/reconcile"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Latency of simulated work. Each takes between a half and one and a half of it.
type Latency struct {
	Start, Stop, Image, Volume, Network time.Duration
}

// Options of a Host.
type Options struct {
	// Name is the host name.
	Name string
	// Token to join with.
	Token string
	// Dial replaces the network; nil is TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Facts the host reports; what is empty gets a default.
	Facts *hostspec.HostFacts
	// PoolBytes is the size of each pool; 0 means 1 TiB.
	PoolBytes uint64
	Latency   Latency
	// FetchImages streams images through the link and checks their sums, without keeping them. Otherwise they are
	// simply there after Latency.Image.
	FetchImages bool
	// Version of the agent, and of the system-VM images it meets; empty means "sim".
	Version, SystemVersion string
	// Heartbeat and Slow pass; 0 means the product's.
	Heartbeat, Slow time.Duration
	// Heard is told whenever a MAC address begins or ceases to be heard on this host: of a router's leg that is plugged
	// in, or of a NIC with carrier of a domain that runs. who is the namespace's network or the domain's id. It is called
	// at the very moment, one call at a time, and must not call the Host; nil is nobody.
	Heard func(mac, who string, on bool)
	// Log; nil is silence.
	Log *slog.Logger
}

// Op is a kind of work that can be made to fail.
type Op string

// The operations; a fault's id is that of the object.
const (
	OpStart    Op = "start"    // VM
	OpStop     Op = "stop"     // VM: neither asking nor pulling the plug works
	OpVolume   Op = "volume"   // volume
	OpImage    Op = "image"    // image's SHA-256
	OpPool     Op = "pool"     // pool
	OpNetwork  Op = "network"  // network: links
	OpServices Op = "services" // network: wisp-netsvc does not run
	OpChannel  Op = "channel"  // system VM: its channel is cut
	OpLibvirt  Op = "libvirt"  // "": the daemon does not answer
)

// Host is one simulated machine.
type Host struct {
	options Options
	files   *ledger.Memory
	log     *slog.Logger

	mu      sync.Mutex
	boot    string
	faults  map[fault]error
	domains map[string]*simDomain
	volumes map[string]bool     // path -> there
	images  map[string]bool     // path -> there
	links   map[string]bool     // network -> made
	legs    map[string][]string // network -> MACs of the legs of its services that are plugged in
	heard   map[source]bool
	runs    int32
	deaf    map[string]bool
	spoilt  map[string]bool // images by sum
	wakeVMs func()
	changed func()

	agent  *host.Host
	cancel context.CancelFunc
	done   chan struct{}
}

type fault struct {
	op Op
	id string
}

// source of frames.
type source struct{ mac, who string }

// New makes a machine that is switched on but runs no agent yet.
func New(o Options) *Host {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PoolBytes == 0 {
		o.PoolBytes = 1 << 40
	}
	if o.Version == "" {
		o.Version = "sim"
	}
	if o.SystemVersion == "" {
		o.SystemVersion = "sim"
	}
	h := &Host{
		options: o, files: &ledger.Memory{}, log: o.Log, boot: uuid.NewString(), faults: map[fault]error{},
		domains: map[string]*simDomain{}, volumes: map[string]bool{}, images: map[string]bool{},
		links: map[string]bool{}, legs: map[string][]string{}, heard: map[source]bool{}, deaf: map[string]bool{}, spoilt: map[string]bool{},
	}
	return h
}

// Start starts the agent. It fails when one runs.
func (h *Host) Start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agent != nil {
		return errors.New("start agent: it runs already")
	}
	if h.boot == "" {
		h.boot = uuid.NewString()
	}
	h.wakeVMs, h.changed = nil, nil
	agent, err := host.New(host.Config{
		Token: h.options.Token, Version: h.options.Version, Dial: h.options.Dial, Slow: h.options.Slow,
		Heartbeat: h.options.Heartbeat, Log: h.log,
	}, host.Parts{
		Files: h.files, Pools: simPools{h}, Fabric: simFabric{h}, Hypervisor: simHypervisor{h},
		Services: func(_ netrun.Memory, changed func()) (host.Services, error) {
			h.changed = changed
			return newSimServices(h), nil
		},
		Images:  func(s image.Source) reconcile.Images { return simImages{h, s} },
		Volumes: func(f *ledger.Facts[ledger.VolumeFacts]) reconcile.Volumes { return simVolumes{h, f} },
		WatchDomains: func(ctx context.Context, wake func()) {
			h.mu.Lock()
			h.wakeVMs = wake
			h.mu.Unlock()
			<-ctx.Done()
		},
		WatchLinks:  func(ctx context.Context, _ func()) { <-ctx.Done() }, // nobody else touches them
		ChannelPath: func(id string) string { return "/run/wisp/systemvm/" + id + ".sock" },
		Facts:       func(context.Context) *hostspec.HostFacts { return h.facts() },
		Usage:       func() (*hostspec.HostUsage, error) { return h.usage(), nil }, BootID: h.boot,
	})
	if err != nil {
		return fmt.Errorf("start agent of %s: %w", h.options.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.agent, h.cancel, h.done = agent, cancel, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		agent.Run(ctx)
	}(h.done)
	return nil
}

// Kill ends the agent as kill -9 does: guests and services go on, nothing is told to anybody. It may be called when no
// agent runs.
func (h *Host) Kill() {
	h.mu.Lock()
	cancel, done := h.cancel, h.done
	h.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	<-done
	h.mu.Lock()
	h.agent, h.cancel, h.done = nil, nil, nil
	h.mu.Unlock()
}

// PowerOff ends agent, guests and everything else that is not on the disk. Start switches the machine on again.
func (h *Host) PowerOff() {
	h.Kill()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot = ""
	clear(h.links)
	clear(h.legs)
	for _, d := range h.domains {
		d.active, d.down, d.shuttingDown = false, downUnknown, false
	}
	h.listen()
}

// listen tells what began and ceased to be heard. It is called after each change of that. The caller holds h.mu.
func (h *Host) listen() {
	now := map[source]bool{}
	for network, macs := range h.legs {
		for _, mac := range macs {
			now[source{mac, network}] = true
		}
	}
	for id, d := range h.domains {
		for _, n := range d.machine.Nics {
			if d.active && !d.unlinked[n.Tap] {
				now[source{n.MAC, id}] = true
			}
		}
	}
	before := h.heard
	h.heard = now
	if h.options.Heard == nil {
		return
	}
	for s := range before {
		if !now[s] {
			h.options.Heard(s.mac, s.who, false)
		}
	}
	for s := range now {
		if !before[s] {
			h.options.Heard(s.mac, s.who, true)
		}
	}
}

// ID is the id the cluster gave the host, "" before it joined or while no agent runs.
func (h *Host) ID() string {
	if a := h.running(); a != nil {
		return a.HostID()
	}
	return ""
}

// Connected says whether the agent has a coordinator.
func (h *Host) Connected() bool {
	a := h.running()
	if a == nil {
		return false
	}
	ok, _ := a.Connected()
	return ok
}

// Generation in the ledger; 0 while no agent runs.
func (h *Host) Generation() uint64 {
	if a := h.running(); a != nil {
		return a.Generation()
	}
	return 0
}

func (h *Host) running() *host.Host {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent
}

// Fail makes an operation on an object fail with err from now on; nil ends that. An empty id means every object.
func (h *Host) Fail(op Op, id string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.faults, fault{op, id})
		return
	}
	h.faults[fault{op, id}] = err
}

// broken returns the fault of an operation. The caller holds h.mu.
func (h *Host) broken(op Op, id string) error {
	if err := h.faults[fault{op, id}]; err != nil {
		return err
	}
	return h.faults[fault{op, ""}]
}

// work takes its time, or less when the context ends.
func (h *Host) work(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (h *Host) facts() *hostspec.HostFacts {
	f := &hostspec.HostFacts{
		Hostname: h.options.Name, Cpus: 16, CpuMhz: 2500, MemoryMib: 64 << 10, HypervisorVersion: "7.2.22",
		LibvirtVersion: "9.0.0", KernelVersion: "6.1.0", AgentVersion: h.options.Version, Architecture: "x86_64", Kvm: true,
		Features: []string{"bridge", "veth", "bridge-isolated", "vxlan", "vlan", "iptables", "ipset"}, CpuModel: "simulated",
	}
	if o := h.options.Facts; o != nil {
		merge(f, o)
	}
	return f
}

func merge(f, o *hostspec.HostFacts) {
	if o.GetHostname() != "" {
		f.Hostname = o.GetHostname()
	}
	if o.GetCpus() != 0 {
		f.Cpus = o.GetCpus()
	}
	if o.GetCpuMhz() != 0 {
		f.CpuMhz = o.GetCpuMhz()
	}
	if o.GetMemoryMib() != 0 {
		f.MemoryMib = o.GetMemoryMib()
	}
	if o.GetUnderlayIp() != "" {
		f.UnderlayIp = o.GetUnderlayIp()
	}
	if len(o.GetFeatures())+len(o.GetMissingFeatures()) > 0 {
		f.Features, f.MissingFeatures = slices.Clone(o.GetFeatures()), slices.Clone(o.GetMissingFeatures())
	}
}

func (h *Host) usage() *hostspec.HostUsage {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := &hostspec.HostUsage{MemoryUsedMib: 512}
	for _, d := range h.domains {
		if d.active {
			u.MemoryUsedMib += uint64(d.machine.VM.GetMemoryMib())
			u.CpuPercent = min(u.CpuPercent+0.5, 100)
		}
	}
	return u
}
