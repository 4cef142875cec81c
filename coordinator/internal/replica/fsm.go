package replica

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// fsm lets raft drive the store.
type fsm struct{ db *store.DB }

// Apply implements raft.FSM. The response is nil or store.ErrRefused.
func (f fsm) Apply(l *raft.Log) any {
	if l.Type != raft.LogCommand {
		return nil
	}
	err := f.db.Apply(l.Data)
	if err != nil && !errors.Is(err, store.ErrRefused) {
		// To go on would mean to differ from the other replicas for ever.
		panic(fmt.Sprintf("replica: log entry %d cannot be applied: %v", l.Index, err))
	}
	if err != nil {
		return err
	}
	return nil
}

// Snapshot implements raft.FSM.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) { return fsmSnapshot{f.db.Snapshot()}, nil }

// Restore implements raft.FSM.
func (f fsm) Restore(r io.ReadCloser) error {
	defer r.Close() // only read from
	return f.db.Restore(r)
}

type fsmSnapshot struct{ s *store.Snapshot }

// Persist implements raft.FSMSnapshot.
func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.s.WriteTo(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (fsmSnapshot) Release() {}
