package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// counter counts items in the transaction that adds them: a counter that is
// computed from a state that was lost would differ from the number of rows.
func putCounted(ctx context.Context, r *replica.Replica, name string) error {
	return r.Update(ctx, func(tx *store.Tx) error {
		if _, taken := items.First(tx, "name", store.K(name)); taken {
			return nil
		}
		return items.Put(tx, &item{ID: tx.NewID(), Name: name, Place: items.Len(tx)})
	})
}

// load writes to whoever leads until ctx ends, and notes what was acknowledged.
type load struct {
	mu    sync.Mutex
	acked []string
	n     atomic.Int64
}

func (l *load) run(ctx context.Context, worker int, leader func() *replica.Replica) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("w%d-%d", worker, i)
		for ctx.Err() == nil {
			r := leader()
			if r == nil {
				select { // look again
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			err := putCounted(ctx, r, name)
			if err == nil {
				l.mu.Lock()
				l.acked = append(l.acked, name)
				l.mu.Unlock()
				l.n.Add(1)
				break
			}
			// Not the leader, unknown, closed: try again, with the leader of the moment.
		}
	}
}

func (l *load) waitFor(t *testing.T, more int64) {
	t.Helper()
	target := l.n.Load() + more
	replicatest.Wait(t, 30*time.Second, fmt.Sprintf("%d acknowledged writes", target), func() error {
		if n := l.n.Load(); n < target {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// check finds every acknowledged write, once, and places without gaps.
func (l *load) check(t *testing.T, db *store.DB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	v := db.Current()
	lost := 0
	for _, name := range l.acked {
		if items.Count(v, "name", store.K(name)) != 1 {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(l.acked))
	}
	places := map[int]int{}
	for r := range items.All(v) {
		places[r.Place]++
	}
	for n := range items.Len(v) {
		if places[n] != 1 {
			t.Fatalf("place %d of %d was given %d times", n, items.Len(v), places[n])
		}
	}
}

// findLeader is a replica that believes to lead.
func findLeader(nodes []atomic.Pointer[replica.Replica]) func() *replica.Replica {
	return func() *replica.Replica {
		for i := range nodes {
			if r := nodes[i].Load(); r != nil {
				if _, _, leads := r.Leader(); leads {
					return r
				}
			}
		}
		return nil
	}
}

// TestLeaderIsolatedUnderLoad cuts the leader off, lets it go on for itself with
// what waits there, heals, and does so again.
func TestLeaderIsolatedUnderLoad(t *testing.T) {
	c := replicatest.New(t, 3, items)
	nodes := make([]atomic.Pointer[replica.Replica], 3)
	for i, r := range c.Nodes {
		nodes[i].Store(r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var l load
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() { l.run(ctx, w, findLeader(nodes)) })
	}
	for range 4 {
		l.waitFor(t, 200)
		old := c.LeaderIndex()
		c.Isolate(old)
		replicatest.Wait(t, 20*time.Second, "another leader", func() error {
			for i, r := range c.Nodes {
				if _, _, leads := r.Leader(); leads && i != old {
					return nil
				}
			}
			return errors.New("none")
		})
		l.waitFor(t, 50)
		c.Heal()
	}
	l.waitFor(t, 200)
	cancel()
	workers.Wait()
	c.Settle()
	l.check(t, c.Nodes[0].DB())
	t.Logf("%d acknowledged writes, none lost over 4 changes of leader", len(l.acked))
}

// node is a replica on disk and TCP that can be killed and started again.
type node struct {
	cfg replica.Config
	r   *replica.Replica
	db  *store.DB
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// diskNodes are n replicas with boltdb, fsync and TCP.
func diskNodes(t testing.TB, n int) []*node {
	t.Helper()
	var nodes []*node
	var peers []replica.Peer
	for i := range n {
		cfg := replica.Config{
			NodeID: fmt.Sprintf("n%d", i+1), DataDir: t.TempDir(), Bind: freeAddress(t), API: fmt.Sprintf("api-%d", i+1),
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}
		peers = append(peers, replica.Peer{ID: cfg.NodeID, Address: cfg.Bind})
		nodes = append(nodes, &node{cfg: cfg})
	}
	for _, n := range nodes {
		n.cfg.Bootstrap = peers
		t.Cleanup(n.stop)
	}
	return nodes
}

func (n *node) start(t testing.TB) {
	t.Helper()
	n.db = store.NewDB(items, replica.Members)
	r, err := replica.Open(t.Context(), n.cfg, n.db)
	if err != nil {
		t.Fatal(err)
	}
	n.r = r
}

func (n *node) stop() {
	if n.r != nil {
		_ = n.r.Close() // a second stop is the cleanup's
		n.r = nil
	}
}

func leaderOf(t testing.TB, nodes []*node) int {
	t.Helper()
	at := -1
	replicatest.Wait(t, 30*time.Second, "a leader", func() error {
		for i, n := range nodes {
			if n.r == nil {
				continue
			}
			if _, _, leads := n.r.Leader(); leads {
				at = i
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return at
}

func settle(t testing.TB, nodes []*node) {
	t.Helper()
	replicatest.Wait(t, 30*time.Second, "equal states", func() error {
		first, err := nodes[0].db.Snapshot().Digest()
		if err != nil {
			return err
		}
		for _, n := range nodes[1:] {
			sum, err := n.db.Snapshot().Digest()
			if err != nil {
				return err
			}
			if sum != first {
				return fmt.Errorf("at %d and %d", nodes[0].db.Current().Index(), n.db.Current().Index())
			}
		}
		return nil
	})
}

// TestKillLeaderUnderLoad stops the leader again and again while clients write,
// and starts it again from its disk.
func TestKillLeaderUnderLoad(t *testing.T) {
	nodes := diskNodes(t, 3)
	current := make([]atomic.Pointer[replica.Replica], 3)
	for i, n := range nodes {
		n.start(t)
		current[i].Store(n.r)
	}
	leaderOf(t, nodes)
	ctx, cancel := context.WithCancel(t.Context())
	var l load
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() { l.run(ctx, w, findLeader(current)) })
	}
	for range 4 {
		l.waitFor(t, 100)
		i := leaderOf(t, nodes)
		current[i].Store(nil)
		nodes[i].stop()
		l.waitFor(t, 100)
		nodes[i].start(t)
		current[i].Store(nodes[i].r)
	}
	l.waitFor(t, 100)
	cancel()
	workers.Wait()
	leaderOf(t, nodes)
	settle(t, nodes)
	for _, n := range nodes {
		l.check(t, n.db)
	}
	t.Logf("%d acknowledged writes, none lost over 4 kills", len(l.acked))
}

// TestRestartFromDisk restarts one replica alone, with and without a snapshot.
func TestRestartFromDisk(t *testing.T) {
	nodes := diskNodes(t, 1)
	n := nodes[0]
	n.cfg.SnapshotEntries, n.cfg.TrailingEntries, n.cfg.SnapshotInterval = 10, 1, 5*time.Millisecond
	for round := range 3 {
		n.start(t)
		leaderOf(t, nodes)
		for i := range 30 {
			if err := put(t.Context(), n.r, fmt.Sprintf("%d-%d", round, i)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := n.db.Snapshot().Digest()
		if err != nil {
			t.Fatal(err)
		}
		n.stop()
		n.start(t)
		leaderOf(t, nodes)
		got, err := n.db.Snapshot().Digest()
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("round %d: another state after the restart", round)
		}
		n.stop()
	}
}

// TestLaggingFollowerGetsSnapshot lets a replica miss more than the log keeps.
func TestLaggingFollowerGetsSnapshot(t *testing.T) {
	nodes := diskNodes(t, 3)
	for _, n := range nodes {
		n.cfg.SnapshotEntries, n.cfg.TrailingEntries, n.cfg.SnapshotInterval = 20, 1, 10*time.Millisecond
		n.start(t)
	}
	lead := leaderOf(t, nodes)
	behind := (lead + 1) % 3
	nodes[behind].stop()
	for i := range 100 {
		if err := put(t.Context(), nodes[leaderOf(t, nodes)].r, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	replicatest.Wait(t, 20*time.Second, "a snapshot behind which the log is cut", func() error {
		if first := nodes[leaderOf(t, nodes)].r.Stats()["last_snapshot_index"]; first == "0" {
			return errors.New("none")
		}
		return nil
	})
	nodes[behind].cfg.SnapshotEntries = 1 << 30 // it takes none of its own
	nodes[behind].start(t)
	settle(t, nodes)
	if got := nodes[behind].r.Stats()["last_snapshot_index"]; got == "0" {
		t.Error("it has not been sent a snapshot")
	}
	if n := items.Len(nodes[behind].db.Current()); n != 100 {
		t.Errorf("%d rows", n)
	}
}
