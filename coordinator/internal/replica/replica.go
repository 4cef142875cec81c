package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Replica is one member of the cluster.
type Replica struct {
	down  chan struct{} // closed when raft has shut down
	cfg   Config
	db    *store.DB
	raft  *raft.Raft
	trans raft.Transport
	logs  io.Closer
	log   *slog.Logger

	verifier verifier
	stop     context.CancelFunc
	done     chan struct{} // closed when lead has returned

	mu      sync.Mutex
	tenure  *tenure                // while leading and up to date
	silent  map[raft.ServerID]bool // members that this leader does not hear
	changed chan struct{}          // closed and replaced when the leader or the tenure changes
	closed  bool
}

// tenure is one stretch of leadership, from the moment on which everything
// committed before it is applied.
type tenure struct {
	ctx    context.Context // ends with the leadership
	cancel context.CancelFunc
	queue  *queue
	users  sync.WaitGroup // the proposer and the leader-only loops
}

// Open starts a replica of db, which must be new and contain the table Members.
func Open(ctx context.Context, cfg Config, db *store.DB) (*Replica, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open replica %s: %w", cfg.NodeID, err)
	}
	if !db.Has(Members) {
		return nil, fmt.Errorf("open replica %s: the schema lacks the table %s", cfg.NodeID, Members.Name())
	}
	trans, err := openTransport(cfg)
	if err != nil {
		return nil, fmt.Errorf("open replica %s: %w", cfg.NodeID, err)
	}
	s, err := openStores(cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open replica %s: %w", cfg.NodeID, err), closeTransport(trans))
	}
	r := &Replica{
		cfg: cfg, db: db, trans: trans, logs: s.closer, log: cfg.Logger.With("node", cfg.NodeID),
		done: make(chan struct{}), down: make(chan struct{}), changed: make(chan struct{}), silent: map[raft.ServerID]bool{},
	}
	notify := make(chan bool, 16)
	if err := r.startRaft(s, notify); err != nil {
		return nil, errors.Join(fmt.Errorf("open replica %s: %w", cfg.NodeID, err), closeTransport(trans), s.closer.Close())
	}
	r.verifier.ask = func() error {
		// raft leaves a question that it had not looked at yet unanswered when it shuts down.
		answer := make(chan error, 1)
		go func() { answer <- r.raft.VerifyLeader().Error() }()
		select {
		case err := <-answer:
			return err
		case <-r.done:
			return raft.ErrRaftShutdown
		}
	}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	go r.lead(ctx, notify)
	return r, nil
}

func (r *Replica) startRaft(s stores, notify chan bool) error {
	rc := r.cfg.raft()
	rc.NotifyCh = notify
	if len(r.cfg.Bootstrap) > 0 {
		has, err := raft.HasExistingState(s.logs, s.stable, s.snapshots)
		if err != nil {
			return fmt.Errorf("look for existing state: %w", err)
		}
		if !has {
			var members raft.Configuration
			for _, p := range r.cfg.Bootstrap {
				members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
			}
			if err := raft.BootstrapCluster(rc, s.logs, s.stable, s.snapshots, r.trans, members); err != nil {
				return fmt.Errorf("bootstrap: %w", err)
			}
		}
	}
	var err error
	r.raft, err = raft.NewRaft(rc, fsm{r.db}, s.logs, s.stable, s.snapshots, r.trans)
	return err
}

// Close stops the replica and waits until everything it started has ended.
func (r *Replica) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.stop()
	err := r.raft.Shutdown().Error()
	close(r.down)
	<-r.done
	r.announce()
	return errors.Join(err, closeTransport(r.trans), r.logs.Close())
}

func closeTransport(t raft.Transport) error {
	if c, ok := t.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// DB is the store this replica keeps.
func (r *Replica) DB() *store.DB { return r.db }

// Stats are raft's own figures, for metrics and operators.
func (r *Replica) Stats() map[string]string { return r.raft.Stats() }

// RaftAddress is where the other members reach this one.
func (r *Replica) RaftAddress() string { return string(r.trans.LocalAddr()) }

// lead follows the leadership: it owns the tenures.
func (r *Replica) lead(ctx context.Context, notify <-chan bool) {
	defer close(r.done)
	observed := make(chan raft.Observation, 256) // raft drops what does not fit
	observer := raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	r.raft.RegisterObserver(observer)
	defer r.raft.DeregisterObserver(observer)
	defer r.endTenure()
	// The barrier of a new leader waits for the followers, so that the loss of the
	// leadership has to be noticed meanwhile.
	var barrier chan error
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-observed:
			if _, ok := o.Data.(raft.LeaderObservation); ok {
				r.announce()
			} else {
				r.hear(o)
			}
		case leading := <-notify:
			barrier = nil
			r.endTenure()
			if leading {
				barrier = r.barrier()
			}
		case err := <-barrier:
			barrier = nil
			if err != nil {
				r.log.Warn("new leader could not bring itself up to date", "error", err)
				if r.raft.State() == raft.Leader {
					barrier = r.barrier()
				}
				continue
			}
			r.startTenure(ctx)
		}
	}
}

func (r *Replica) barrier() chan error {
	c := make(chan error, 1)
	f := r.raft.Barrier(0)
	go func() { c <- f.Error() }() // ends with the leadership at the latest
	return c
}

func (r *Replica) startTenure(ctx context.Context) {
	t := &tenure{queue: newQueue()}
	t.ctx, t.cancel = context.WithCancel(ctx)
	r.db.Forget()
	t.users.Go(func() { r.propose(t) })
	r.mu.Lock()
	r.tenure = t
	r.mu.Unlock()
	r.announce()
	r.log.Info("leading")
	if r.cfg.API != "" {
		t.users.Go(func() { r.tellAPI(t.ctx) })
	}
}

// tellAPI writes where the new leader's API is, until it has succeeded.
func (r *Replica) tellAPI(ctx context.Context) {
	for {
		err := r.setAPI(ctx, r.cfg.NodeID, r.cfg.API)
		var not *NotLeader
		if err == nil || errors.As(err, &not) || errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrClosed) {
			return // or the next tenure does it
		}
		r.log.Warn("could not write the leader's address", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (r *Replica) endTenure() {
	r.mu.Lock()
	t := r.tenure
	r.tenure = nil
	clear(r.silent)
	r.mu.Unlock()
	if t == nil {
		return
	}
	t.cancel()
	r.announce()
	t.users.Wait()
	r.db.Forget()
	r.log.Info("no longer leading")
}

func (r *Replica) announce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// LeadershipChanges returns a channel that is closed when another leader is known
// than at the time of the call, or none, or when this replica is ready to lead.
func (r *Replica) LeadershipChanges() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Leader tells who leads, where its API is, and whether it is this replica and
// ready for writes. The ID is "" where no leader is known.
func (r *Replica) Leader() (id, api string, isLeader bool) {
	_, leader := r.raft.LeaderWithID()
	if leader == "" {
		return "", "", false
	}
	if string(leader) == r.cfg.NodeID {
		// Not by ready, which asks back here who leads.
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.cfg.NodeID, r.cfg.API, r.tenure != nil && !r.closed
	}
	return string(leader), r.apiOf(string(leader)), false
}

// ready returns the present tenure, or a *NotLeader.
func (r *Replica) ready() (*tenure, error) {
	r.mu.Lock()
	t, closed := r.tenure, r.closed
	r.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case t == nil:
		return nil, r.notLeader()
	}
	return t, nil
}

func (r *Replica) notLeader() error {
	id, api, _ := r.Leader()
	if id == r.cfg.NodeID {
		id, api = "", "" // elected, but not ready; or not any more
	}
	return &NotLeader{LeaderID: id, LeaderAPI: api}
}

// Barrier makes reads linearizable: after it returned nil, a view of this replica
// contains every write that any replica acknowledged before the call. Only the
// leader can.
func (r *Replica) Barrier(ctx context.Context) error {
	if _, err := r.ready(); err != nil {
		return err
	}
	// Update acknowledges after the entry is applied here, and the writes of former
	// leaders were applied before the tenure began. So it is enough to still lead.
	return r.verify(ctx)
}

// RunOnLeader calls f whenever this replica begins to lead, once everything
// committed before is applied; f's context ends with the leadership. Where f returns
// before that, it is called again after a pause. RunOnLeader returns when ctx ends or
// the replica is closed.
//
// A leader learns that it is one no longer a moment after its successor has begun, so
// that two may run f for that moment. Update fails on the old one; what f does to
// anything else than the state must bear being done twice.
func (r *Replica) RunOnLeader(ctx context.Context, name string, f func(context.Context) error) {
	const pause = time.Second
	for ctx.Err() == nil {
		changed := r.LeadershipChanges()
		t, ok := r.join()
		if !ok {
			if _, err := r.ready(); errors.Is(err, ErrClosed) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		err := runInTenure(ctx, t, f)
		t.users.Done()
		if err != nil && t.ctx.Err() == nil && ctx.Err() == nil {
			r.log.Error("leader's loop failed", "loop", name, "error", err)
		}
		select {
		case <-t.ctx.Done():
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// join counts the caller among the users of the present tenure, if there is one.
func (r *Replica) join() (*tenure, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tenure == nil || r.closed {
		return nil, false
	}
	r.tenure.users.Add(1)
	return r.tenure, true
}

func runInTenure(ctx context.Context, t *tenure, f func(context.Context) error) error {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	return f(both)
}
