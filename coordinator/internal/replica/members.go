package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Member is what the members need to know of each other beyond raft. It is a row
// so that a follower knows where to forward to.
type Member struct {
	ID      cloud.ID `row:"1"` // memberID(NodeID)
	NodeID  string   `row:"2"`
	API     string   `row:"3"` // host:port that requests are forwarded to
	Unknown cloud.Unknown
}

// Members is the table of members. It must be part of the schema of every
// database that is replicated.
var Members = store.Define(store.Def[Member]{
	Name: "members",
	ID:   func(m *Member) cloud.ID { return m.ID },
	Indexes: []store.Index[Member]{
		{Name: "node", Unique: true, Key: func(m *Member) store.Key { return store.K(m.NodeID) }},
	},
})

func memberID(nodeID string) cloud.ID { return cloud.NameID("member", nodeID) }

// MemberInfo is one member as ListPeers tells it.
type MemberInfo struct {
	ID      string
	Address string // raft
	API     string
	Voter   bool
	Leader  bool
	// Row is the id of its row, which is made of ID.
	Row cloud.ID
	// Silent is true of a member that this replica, which leads, does not hear. Others than the leader know of none.
	Silent bool
}

// ListPeers returns the members of the cluster as this replica knows them.
func (r *Replica) ListPeers() ([]MemberInfo, error) {
	f := r.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	_, leader := r.raft.LeaderWithID()
	var out []MemberInfo
	for _, s := range f.Configuration().Servers {
		out = append(out, MemberInfo{
			ID:      string(s.ID),
			Address: string(s.Address),
			API:     r.apiOf(string(s.ID)),
			Voter:   s.Suffrage == raft.Voter,
			Leader:  s.ID == leader,
			Row:     memberID(string(s.ID)),
			Silent:  r.isSilent(s.ID),
		})
	}
	return out, nil
}

func (r *Replica) isSilent(id raft.ServerID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.silent[id]
}

// hear notes what raft tells of a follower's heartbeats.
func (r *Replica) hear(o raft.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch x := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		r.silent[x.PeerID] = true
	case raft.ResumedHeartbeatObservation:
		delete(r.silent, x.PeerID)
	}
}

// apiOf is where requests for a member are forwarded to; "" if unknown.
func (r *Replica) apiOf(nodeID string) string {
	if nodeID == r.cfg.NodeID {
		return r.cfg.API
	}
	if m, ok := Members.Get(r.db.Current(), memberID(nodeID)); ok {
		return m.API
	}
	return ""
}

// AddVoter makes a replica a member: it is sent the state and counts from then
// on. Adding a member again changes its addresses. Only the leader can.
func (r *Replica) AddVoter(ctx context.Context, p Peer, api string) error {
	if p.ID == "" || p.Address == "" {
		return errors.New("add member: it needs an id and an address")
	}
	if _, err := r.ready(); err != nil {
		return err
	}
	if err := r.setAPI(ctx, p.ID, api); err != nil {
		return fmt.Errorf("add member %s: %w", p.ID, err)
	}
	f := r.raft.AddVoter(raft.ServerID(p.ID), raft.ServerAddress(p.Address), 0, timeLeft(ctx))
	if err := r.await(ctx, f); err != nil {
		return fmt.Errorf("add member %s: %w", p.ID, err)
	}
	return nil
}

// RemoveServer ends a membership. Removing one that is none succeeds. Only the
// leader can; when it removes itself, another one takes over.
func (r *Replica) RemoveServer(ctx context.Context, id string) error {
	if _, err := r.ready(); err != nil {
		return err
	}
	err := r.Update(ctx, func(tx *store.Tx) error { return Members.Delete(tx, memberID(id)) })
	if err == nil {
		err = r.await(ctx, r.raft.RemoveServer(raft.ServerID(id), 0, timeLeft(ctx)))
	}
	if err != nil {
		return fmt.Errorf("remove member %s: %w", id, err)
	}
	return nil
}

// TransferLeadership asks another member to lead, before a planned stop.
func (r *Replica) TransferLeadership(ctx context.Context) error {
	if _, err := r.ready(); err != nil {
		return err
	}
	if err := r.await(ctx, r.raft.LeadershipTransfer()); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}

func (r *Replica) setAPI(ctx context.Context, nodeID, api string) error {
	return r.Update(ctx, func(tx *store.Tx) error {
		m, ok := Members.Get(tx, memberID(nodeID))
		if !ok {
			m = &Member{ID: memberID(nodeID), NodeID: nodeID}
		}
		m.API = api
		return Members.Put(tx, m)
	})
}

// await waits for a raft future as long as the context allows.
func (r *Replica) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends with raft at the latest
	select {
	case err := <-done:
		if definitelyNotLeader(err) {
			return r.notLeader()
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// timeLeft is what raft takes for a timeout: 0 is none.
func timeLeft(ctx context.Context) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return max(time.Until(d), time.Millisecond)
	}
	return 0
}
