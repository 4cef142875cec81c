// Package replicatest makes replicas in memory for the tests of other packages:
// real raft, real store, no disk and no network.
package replicatest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Cluster is a number of replicas of one database.
type Cluster struct {
	Nodes []*replica.Replica // nil where killed

	t      testing.TB
	opt    func(*replica.Config)
	tables []store.AnyTable

	mu     sync.Mutex
	transs []*raft.InmemTransport
}

// Single starts one replica, which leads when Single returns.
func Single(t testing.TB, tables ...store.AnyTable) *replica.Replica {
	t.Helper()
	return New(t, 1, tables...).Nodes[0]
}

// New starts n replicas, one of which leads when New returns. They end with the
// test. The table replica.Members is added.
func New(t testing.TB, n int, tables ...store.AnyTable) *Cluster {
	t.Helper()
	return NewWith(t, n, nil, tables...)
}

// NewWith is New with changes to the configuration of each replica: clock, id
// source, logger.
func NewWith(t testing.TB, n int, opt func(*replica.Config), tables ...store.AnyTable) *Cluster {
	t.Helper()
	c := &Cluster{t: t, opt: opt, tables: append(tables[:len(tables):len(tables)], replica.Members), Nodes: make([]*replica.Replica, n)}
	peers := make([]replica.Peer, n)
	for i := range n {
		peers[i] = replica.Peer{ID: name(i), Address: name(i)}
		_, tr := raft.NewInmemTransportWithTimeout(raft.ServerAddress(name(i)), 2*time.Second)
		c.transs = append(c.transs, tr)
	}
	c.connect()
	t.Cleanup(func() {
		for i := range c.Nodes {
			c.Kill(i)
		}
	})
	for i := range n {
		c.Nodes[i] = c.open(i, peers)
	}
	c.Leader()
	return c
}

func name(i int) string { return fmt.Sprintf("node%d", i+1) }

func (c *Cluster) connect() {
	for i, a := range c.transs {
		for j, b := range c.transs {
			if i != j {
				a.Connect(b.LocalAddr(), b)
			}
		}
	}
}

func (c *Cluster) open(i int, peers []replica.Peer) *replica.Replica {
	c.t.Helper()
	// One replica alone has nobody to be patient with.
	patience := 20 * time.Millisecond
	if len(c.Nodes) > 1 {
		patience = 150 * time.Millisecond
	}
	cfg := replica.Config{
		NodeID:    name(i),
		Transport: c.transs[i],
		API:       name(i) + ":8080",
		Bootstrap: peers,
		Heartbeat: patience, Election: patience, Lease: patience,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if c.opt != nil {
		c.opt(&cfg)
	}
	r, err := replica.Open(context.Background(), cfg, store.NewDB(c.tables...))
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// Kill stops a replica for good and cuts it off.
func (c *Cluster) Kill(i int) {
	if c.Nodes[i] == nil {
		return
	}
	c.Isolate(i)
	if err := c.Nodes[i].Close(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
		c.t.Errorf("close %s: %v", name(i), err)
	}
	c.Nodes[i] = nil
}

// Isolate cuts a replica off from the others.
func (c *Cluster) Isolate(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transs[i].DisconnectAll()
	for j, tr := range c.transs {
		if j != i {
			tr.Disconnect(c.transs[i].LocalAddr())
		}
	}
}

// Heal connects all replicas again.
func (c *Cluster) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connect()
}

// Leader waits until one of the replicas leads and returns it.
func (c *Cluster) Leader() *replica.Replica {
	c.t.Helper()
	return c.Nodes[c.LeaderIndex()]
}

// LeaderIndex waits until one of the replicas leads and returns its position.
func (c *Cluster) LeaderIndex() int {
	c.t.Helper()
	found := -1
	Wait(c.t, 20*time.Second, "a leader", func() error {
		for i, r := range c.Nodes {
			if r == nil {
				continue
			}
			if _, _, leads := r.Leader(); leads {
				found = i
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return found
}

// Settle waits until all living replicas have the same state.
func (c *Cluster) Settle() {
	c.t.Helper()
	Wait(c.t, 20*time.Second, "equal states", func() error {
		var first string
		for i, r := range c.Nodes {
			if r == nil {
				continue
			}
			sum, err := r.DB().Snapshot().Digest()
			if err != nil {
				return err
			}
			if s := fmt.Sprintf("%x", sum[:8]); first == "" {
				first = s
			} else if s != first {
				return fmt.Errorf("%s has %s at %d, another one %s", name(i), s, r.DB().Current().Index(), first)
			}
		}
		return nil
	})
}

// Wait tries until f returns nil, and fails the test with what it last returned
// when the time is over.
func Wait(t testing.TB, d time.Duration, what string, f func() error) {
	t.Helper()
	end := time.Now().Add(d)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s: %v", d, what, err)
		}
		time.Sleep(time.Millisecond)
	}
}
