// Package netrun keeps one wisp-netsvc alive in the namespace of each guest network and hands it its spec.
//
// The process is started detached and outlives the agent: it is nobody's child for long. A new agent finds it by its
// socket, learns its process id from the socket itself (SO_PEERCRED, unix(7)), and goes on. Each network has one
// keeper goroutine that owns the connection; it starts the process when nobody answers, restarts it when it died, fell
// silent, sits in a namespace that is not the network's any more, or is of another version, and relays what it sees.
package netrun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/netspec"
)

// Config of a Runner.
type Config struct {
	// Binary is the wisp-netsvc to run.
	Binary string
	// Version a running process must have; "" accepts any.
	Version string
	// RunDir holds sockets and process records.
	RunDir string
	// LogDir takes what the processes print; "" hands on our own standard error.
	LogDir string
	// NamespacePath of a network.
	NamespacePath func(networkID string) string
	// Scopes puts each process into a systemd scope of its own.
	Scopes bool
	// Silence after which a process is taken for stuck; 0 means 20 s. Observations come every few seconds.
	Silence time.Duration
	// CheckEvery is how often a process and its namespace are looked at; 0 means 3 s.
	CheckEvery time.Duration
	// Changed is called when something about a network's services changed; it must not block.
	Changed func()
	Log     *slog.Logger
}

// Runner keeps the services of all networks of a host.
type Runner struct {
	config Config

	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	keepers map[string]*keeper
}

// New makes a Runner and takes on the processes an earlier agent left.
func New(c Config) (*Runner, error) {
	if c.Silence == 0 {
		c.Silence = 20 * time.Second
	}
	if c.CheckEvery == 0 {
		c.CheckEvery = 3 * time.Second
	}
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	if c.LogDir != "" {
		if err := os.MkdirAll(c.LogDir, 0o700); err != nil {
			return nil, fmt.Errorf("make log directory: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Runner{config: c, ctx: ctx, cancel: cancel, keepers: map[string]*keeper{}}
	entries, err := os.ReadDir(c.RunDir)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("list run directory: %w", err)
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".pid"); ok {
			r.keeper(id)
		}
	}
	return r, nil
}

// Close ends the keepers and leaves every process running.
func (r *Runner) Close() {
	r.cancel()
	r.group.Wait()
}

// keeper of a network, started on first use. The caller may hold r.mu or, in New, be alone.
func (r *Runner) keeper(id string) *keeper {
	k := r.keepers[id]
	if k == nil {
		k = &keeper{id: id, config: r.config, wake: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(r.ctx)
		k.cancel = cancel
		r.keepers[id] = k
		r.group.Go(func() { k.run(ctx) })
	}
	return k
}

// Apply tells which networks are to have services, with their specs. Those whose namespace is not there yet are
// passed too and wait. Networks in keep are left as they are; all others' services are ended.
func (r *Runner) Apply(want map[string]*netspec.NetSpec, keep map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, spec := range want {
		r.keeper(id).set(spec, false)
	}
	for id, k := range r.keepers {
		switch {
		case want[id] != nil || keep[id]:
		case k.ended():
			k.cancel()
			delete(r.keepers, id)
		default:
			k.set(nil, true)
		}
	}
}

// Status of one network's services.
type Status struct {
	// Answering: a process runs, is ours, and has taken a spec at least once since it started.
	Answering bool
	// Applied: it has applied the wanted generation whole.
	Applied bool
	Err     error
	// Observation is the process's last word; nil for none. It must not be changed.
	Observation *netspec.Observation
	// Restarts the runner made because a process died or went wrong.
	Restarts uint64
	PID      int
}

// Status returns what is known of a network's services.
func (r *Runner) Status(id string) Status {
	r.mu.Lock()
	k := r.keepers[id]
	r.mu.Unlock()
	if k == nil {
		return Status{}
	}
	return k.status()
}

// Present lists the networks that still have a process or may have one.
func (r *Runner) Present() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]bool, len(r.keepers))
	for id, k := range r.keepers {
		if !k.ended() {
			out[id] = true
		}
	}
	return out
}

// Holder is the process that lives in a network's namespace, 0 for none.
func (r *Runner) Holder(id string) int { return r.Status(id).PID }

// set changes what a keeper is to do.
func (k *keeper) set(spec *netspec.NetSpec, gone bool) {
	k.mu.Lock()
	same := k.gone == gone && proto.Equal(k.want, spec)
	k.want, k.gone = spec, gone
	if !gone {
		k.over = false
	}
	k.mu.Unlock()
	if !same {
		k.poke()
	}
}

func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) ended() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.over
}

func (k *keeper) status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{Err: k.err, Observation: k.seen, Restarts: k.restarts, PID: k.pid}
	if k.connected && k.seen != nil && k.want != nil {
		s.Answering = k.seen.GetAppliedGeneration() != 0 || k.seen.GetTriedGeneration() != 0
		s.Applied = k.seen.GetAppliedGeneration() >= k.want.GetGeneration()
		if s.Err == nil {
			s.Err = serviceErrors(k.seen)
		}
	}
	return s
}

// serviceErrors gathers what the services complain of.
func serviceErrors(o *netspec.Observation) error {
	var errs []error
	for _, s := range o.GetServices() {
		if s.GetError() != "" {
			errs = append(errs, fmt.Errorf("%s: %s", s.GetName(), s.GetError()))
		}
	}
	return errors.Join(errs...)
}

func (k *keeper) socket() string { return filepath.Join(k.config.RunDir, k.id+".sock") }
func (k *keeper) record() string { return filepath.Join(k.config.RunDir, k.id+".pid") }

// Pace of restarts of a process that keeps dying.
const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 10 * time.Second
	steadyRun    = 30 * time.Second
)
