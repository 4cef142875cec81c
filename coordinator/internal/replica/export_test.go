package replica

import (
	"io"

	"github.com/hashicorp/raft"
)

// MemberID is the id of a member's row.
var MemberID = memberID

// PlainRaft is raft as a Replica runs it, on the same log and transport, with an FSM
// that does nothing: what a commit costs without group commit and without a store.
func PlainRaft(c Config) (r *raft.Raft, stop func(), err error) {
	c = c.withDefaults()
	trans, err := openTransport(c)
	if err != nil {
		return nil, nil, err
	}
	s, err := openStores(c)
	if err != nil {
		return nil, nil, err
	}
	var members raft.Configuration
	for _, p := range c.Bootstrap {
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
	}
	if err := raft.BootstrapCluster(c.raft(), s.logs, s.stable, s.snapshots, trans, members); err != nil {
		return nil, nil, err
	}
	if r, err = raft.NewRaft(c.raft(), nullFSM{}, s.logs, s.stable, s.snapshots, trans); err != nil {
		return nil, nil, err
	}
	return r, func() { _ = r.Shutdown().Error(); _ = closeTransport(trans); _ = s.closer.Close() }, nil
}

type nullFSM struct{}

func (nullFSM) Apply(*raft.Log) any                  { return nil }
func (nullFSM) Snapshot() (raft.FSMSnapshot, error)  { return nullFSM{}, nil }
func (nullFSM) Restore(r io.ReadCloser) error        { return r.Close() }
func (nullFSM) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nullFSM) Release()                             {}
