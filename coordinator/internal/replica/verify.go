package replica

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

// verifier asks the majority whether this replica still leads, once for all who
// want to know at a time: whoever comes while a question is on its way waits for
// the next one, because the answer to this one may be older than his call.
type verifier struct {
	ask func() error // raft.VerifyLeader; blocks

	mu      sync.Mutex
	asking  bool
	waiting *question
}

type question struct {
	done chan struct{}
	err  error // once done is closed
}

func (v *verifier) verify(ctx context.Context) error {
	q := v.join()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// join returns the question to be asked next.
func (v *verifier) join() *question {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting == nil {
		v.waiting = &question{done: make(chan struct{})}
		if !v.asking {
			v.asking = true
			go v.run() // ends when nobody waits, with raft at the latest
		}
	}
	return v.waiting
}

func (v *verifier) run() {
	for {
		v.mu.Lock()
		q := v.waiting
		v.waiting = nil
		v.asking = q != nil
		v.mu.Unlock()
		if q == nil {
			return
		}
		q.err = v.ask()
		close(q.done)
	}
}

// verify asks a majority whether this replica still leads.
func (r *Replica) verify(ctx context.Context) error {
	if r.alone() {
		return nil
	}
	err := r.verifier.verify(ctx)
	switch {
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, raft.ErrLeadershipLost), definitelyNotLeader(err):
		return r.notLeader()
	}
	return err
}

// alone tells whether this replica leads as the only voter. No other can lead then without being a voter, which it becomes by an
// entry of this replica's log: the configuration is the latest, committed or not.
func (r *Replica) alone() bool {
	voters := 0
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			if voters++; string(s.ID) != r.cfg.NodeID {
				return false
			}
		}
	}
	return voters == 1 && r.raft.State() == raft.Leader
}
