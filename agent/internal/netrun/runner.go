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
	"strconv"
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
	// Taken remembers passwords that guests confirmed, by network or system VM; nil forgets them.
	Taken Memory
	// RunDir holds sockets and process records.
	RunDir string
	// LogDir takes what the processes print; "" hands on our own standard error.
	LogDir string
	// NamespacePath of an instance.
	NamespacePath func(instance string) string
	// Scopes puts each process into a systemd scope of its own.
	Scopes bool
	// Silence after which a process is taken for stuck; 0 means 20 s. Observations come every few seconds.
	Silence time.Duration
	// CheckEvery is how often a process and its namespace are looked at; 0 means 3 s.
	CheckEvery time.Duration
	// Reopen has the socket of a running system VM's channel made anew; nil leaves it.
	Reopen func(ctx context.Context, id string) error
	// Changed is called when something about a network's services changed; it must not block.
	Changed func()
	Log     *slog.Logger

	binary *binary
}

// Runner keeps the services of all networks of a host.
type Runner struct {
	config Config

	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu       sync.Mutex
	keepers  map[string]*keeper
	channels map[string]*channel
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
	c.binary = &binary{path: c.Binary, log: c.Log}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Runner{config: c, ctx: ctx, cancel: cancel, keepers: map[string]*keeper{}, channels: map[string]*channel{}}
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
		k = &keeper{session: session{id: NetworkOf(id), config: r.config, wake: make(chan struct{}, 1)}, instance: id}
		ctx, cancel := context.WithCancel(r.ctx)
		k.cancel = cancel
		r.keepers[id] = k
		r.group.Go(func() { k.run(ctx) })
	}
	return k
}

// Instance names the namespace of a network's services: the network itself, and from the second incarnation on its number.
func Instance(networkID string, incarnation uint64) string {
	if incarnation == 0 {
		return networkID
	}
	return networkID + "." + strconv.FormatUint(incarnation, 10)
}

// NetworkOf is the network of an instance.
func NetworkOf(instance string) string {
	id, _, _ := strings.Cut(instance, ".")
	return id
}

// IncarnationOf an instance; 0 for the first.
func IncarnationOf(instance string) uint64 {
	_, number, _ := strings.Cut(instance, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Apply tells which instances are to have services, with their specs. Those whose namespace is not there yet are
// passed too and wait. Networks in keep are left as they are; all others' services are ended. Of two instances of one
// network the lower is about to go: it is kept up to date, but not restarted any more.
func (r *Runner) Apply(want map[string]*netspec.NetSpec, keep map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := map[string]uint64{}
	for id := range want {
		newest[NetworkOf(id)] = max(newest[NetworkOf(id)], IncarnationOf(id))
	}
	passing := func(id string) bool {
		last, ok := newest[NetworkOf(id)]
		return ok && last != IncarnationOf(id)
	}
	for id, spec := range want {
		r.keeper(id).set(spec, false, passing(id))
	}
	for id, k := range r.keepers {
		switch {
		case want[id] != nil || keep[NetworkOf(id)]:
		case k.ended():
			k.cancel()
			delete(r.keepers, id)
		default:
			k.set(nil, true, passing(id))
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
	// Observation is the process's last word; nil for none, and while it is not heard. It must not be changed.
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
func (k *keeper) set(spec *netspec.NetSpec, gone, passing bool) {
	k.mu.Lock()
	same := k.gone == gone && proto.Equal(k.want, spec)
	k.want, k.gone, k.passing = spec, gone, passing
	if !gone {
		k.over = false
	}
	k.mu.Unlock()
	if !same {
		k.poke()
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
	s := k.session.status()
	s.PID = k.pid
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

func (k *keeper) socket() string { return filepath.Join(k.config.RunDir, k.instance+".sock") }
func (k *keeper) record() string { return filepath.Join(k.config.RunDir, k.instance+".pid") }

// Pace of restarts of a process that keeps dying.
const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 10 * time.Second
	steadyRun    = 30 * time.Second
)
