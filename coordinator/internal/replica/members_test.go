package replica_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// TestMembership grows a cluster from one to three, loses the first member, and
// looks at what the others say.
func TestMembership(t *testing.T) {
	ctx := t.Context()
	nodes := diskNodes(t, 3)
	nodes[0].cfg.Bootstrap = nodes[0].cfg.Bootstrap[:1]
	nodes[1].cfg.Bootstrap, nodes[2].cfg.Bootstrap = nil, nil
	for _, n := range nodes {
		n.start(t)
	}
	first := nodes[0].r
	leaderOf(t, nodes[:1])
	if err := put(ctx, first, "before"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // adding again is no error
		for _, n := range nodes[1:] {
			if err := first.AddVoter(ctx, replica.Peer{ID: n.cfg.NodeID, Address: n.cfg.Bind}, n.cfg.API); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(t, nodes)
	var want []replica.MemberInfo
	for i, n := range nodes {
		want = append(want, replica.MemberInfo{ID: n.cfg.NodeID, Address: n.cfg.Bind, API: n.cfg.API, Voter: true, Leader: i == 0, Row: replica.MemberID(n.cfg.NodeID)})
	}
	for _, n := range nodes {
		replicatest.Wait(t, 10*time.Second, "the list of members", func() error {
			got, err := n.r.ListPeers()
			if diff := cmp.Diff(want, got); diff != "" {
				return fmt.Errorf("(-want +got):\n%s", diff)
			}
			return err
		})
	}
	var not *replica.NotLeader
	if err := put(ctx, nodes[1].r, "x"); !errors.As(err, &not) || *not != (replica.NotLeader{LeaderID: "n1", LeaderAPI: "api-1"}) {
		t.Errorf("update on a follower: %v", err)
	}
	for name, err := range map[string]error{
		"barrier": nodes[1].r.Barrier(ctx), "add": nodes[1].r.AddVoter(ctx, replica.Peer{ID: "x", Address: "y"}, ""),
		"remove": nodes[1].r.RemoveServer(ctx, "n1"), "transfer": nodes[1].r.TransferLeadership(ctx),
	} {
		if !errors.As(err, &not) {
			t.Errorf("%s on a follower: %v", name, err)
		}
	}

	// The first one leaves; somebody else leads and has everything.
	if err := first.RemoveServer(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	rest := nodes[1:]
	lead := rest[leaderOf(t, rest)].r
	if err := put(ctx, lead, "after"); err != nil {
		t.Fatal(err)
	}
	settle(t, rest)
	if err := lead.RemoveServer(ctx, "n1"); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
	peers, err := lead.ListPeers()
	if err != nil || len(peers) != 2 || slices.ContainsFunc(peers, func(m replica.MemberInfo) bool { return m.ID == "n1" }) {
		t.Errorf("members afterwards: %v, %v", peers, err)
	}
	if _, ok := items.First(lead.DB().Current(), "name", store.K("before")); !ok {
		t.Error("a row of the first member is gone")
	}
}

// TestRunOnLeader runs a loop on three replicas: soon only on the one that leads, and
// again after the leadership moved.
func TestRunOnLeader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := replicatest.New(t, 3, items)
	var running, starts atomic.Int64
	var where atomic.Pointer[replica.Replica]
	var loops sync.WaitGroup
	for _, r := range c.Nodes {
		loops.Go(func() {
			r.RunOnLeader(ctx, "test", func(ctx context.Context) error {
				running.Add(1)
				defer running.Add(-1)
				where.Store(r)
				starts.Add(1)
				<-ctx.Done()
				return ctx.Err()
			})
		})
	}
	onLeader := func() error {
		if l := c.Leader(); where.Load() != l || running.Load() != 1 {
			return errors.New("the loop does not run on the leader")
		}
		return nil
	}
	for range 3 {
		replicatest.Wait(t, 10*time.Second, "the loop", onLeader)
		old := c.Leader()
		changed := old.LeadershipChanges()
		if err := old.TransferLeadership(ctx); err != nil {
			t.Fatal(err)
		}
		<-changed
		replicatest.Wait(t, 10*time.Second, "another leader", func() error {
			if c.Leader() == old {
				return errors.New("the same one")
			}
			return nil
		})
	}
	replicatest.Wait(t, 10*time.Second, "the loop", onLeader)
	cancel()
	loops.Wait()
	if running.Load() != 0 || starts.Load() < 4 {
		t.Errorf("%d left, %d starts", running.Load(), starts.Load())
	}
}

// TestRunOnLeaderAgain calls a loop that fails again.
func TestRunOnLeaderAgain(t *testing.T) {
	r := replicatest.Single(t, items)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	r.RunOnLeader(ctx, "failing", func(context.Context) error {
		if calls++; calls == 2 {
			cancel()
		}
		return errors.New("no luck")
	})
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
	// It returns when the replica is closed, too.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.RunOnLeader(t.Context(), "waiting", func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := put(t.Context(), r, "x"); !errors.Is(err, replica.ErrClosed) {
		t.Errorf("update after close: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// testTLS makes a CA and returns configurations signed by it.
func testTLS(t *testing.T) (cluster, stranger *tls.Config) {
	t.Helper()
	issue := func(parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if parent == nil {
			parent, parentKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	ca, caKey := issue(nil, nil)
	leaf, leafKey := issue(ca, caKey)
	other, otherKey := issue(nil, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	config := func(c *x509.Certificate, key *ecdsa.PrivateKey) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}},
			RootCAs:      roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}
	}
	return config(leaf, leafKey), config(other, otherKey)
}

func TestMutualTLS(t *testing.T) {
	cluster, stranger := testTLS(t)
	nodes := diskNodes(t, 3)
	for _, n := range nodes {
		n.cfg.TLS = cluster
		n.start(t)
	}
	if err := put(t.Context(), nodes[leaderOf(t, nodes)].r, "a"); err != nil {
		t.Fatal(err)
	}
	settle(t, nodes)
	// A certificate of another authority is not listened to. With TLS 1.3 the client
	// learns so at its first read.
	conn, err := tls.Dial("tcp", nodes[0].cfg.Bind, stranger)
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger's connection: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	db := store.NewDB(items, replica.Members)
	for name, tc := range map[string]struct {
		cfg  replica.Config
		db   *store.DB
		want string
	}{
		"no id":         {replica.Config{Bind: "127.0.0.1:0"}, db, "needs a node id"},
		"no address":    {replica.Config{NodeID: "a"}, db, "needs an address"},
		"one-sided TLS": {replica.Config{NodeID: "a", Bind: "127.0.0.1:0", TLS: &tls.Config{}}, db, "needs verified client certificates"},
		"any address":   {replica.Config{NodeID: "a", Bind: "0.0.0.0:0"}, db, "the address for the other members must be given"},
		"not a member": {
			replica.Config{NodeID: "a", Bind: "127.0.0.1:0", Bootstrap: []replica.Peer{{ID: "b", Address: "c"}}}, db, "not in its own list",
		},
		"no table": {replica.Config{NodeID: "a", Bind: "127.0.0.1:0"}, store.NewDB(items), "lacks the table members"},
		"bad dir":  {replica.Config{NodeID: "a", Bind: "127.0.0.1:0", DataDir: "/dev/null"}, db, "open raft log"},
	} {
		if _, err := replica.Open(t.Context(), tc.cfg, tc.db); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestIDSource(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	next := replica.NewIDSource(func() time.Time { return now })
	var last cloud.ID
	for i := range 5000 {
		if i == 4000 {
			now = now.Add(-time.Hour)
		}
		id := next()
		if id.String() <= last.String() {
			t.Fatalf("%s follows %s", id, last)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%s is not of version 7", id)
		}
		last = id
	}
	if _, err := cloud.ParseID(last.String()); err != nil {
		t.Error(err)
	}
}
