package replica

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Config describes one replica.
type Config struct {
	// NodeID is the replica's name for good. Two replicas must never share one.
	NodeID string
	// DataDir holds log, votes and snapshots. "" keeps them in memory: for tests.
	DataDir string

	// Bind is the host:port to serve raft on, Advertise the one the other replicas
	// reach it by; "" means the address bound.
	Bind, Advertise string
	// TLS protects the raft connections. It must ask for client certificates and
	// verify them: whoever can speak raft owns the cloud. nil means plain TCP, which
	// is right only where nobody else can connect.
	TLS *tls.Config
	// Transport, if given, is used instead of TCP. It is closed with the replica.
	Transport raft.Transport

	// API is where the other replicas forward requests to when this one leads.
	API string

	// Bootstrap makes the members of a new cluster, if this replica has no state
	// yet; every one of them must be given the same list. Replicas that join an
	// existing cluster leave it empty and are added by AddVoter.
	Bootstrap []Peer

	// Heartbeat is how long a follower waits for its leader before it asks for an
	// election, Election how long a candidate waits for votes, Lease how long a leader
	// that reaches no majority still leads. Defaults: 250, 250 and 200 ms. Twice
	// the slowest write to the disk is a sound lower bound.
	Heartbeat, Election, Lease time.Duration

	// A snapshot is taken when this many entries have gathered (default 16384),
	// looked at in this interval (default 30 s); this many entries stay behind it
	// for followers that lag a little (default 8192).
	SnapshotEntries  uint64
	SnapshotInterval time.Duration
	TrailingEntries  uint64

	// Now and NewID are the source of times and IDs in transactions. Defaults: the
	// clock, and UUIDs that sort by time.
	Now   func() time.Time
	NewID func() cloud.ID

	Logger *slog.Logger // default: slog.Default()
}

// Peer is a member of the cluster as raft knows it.
type Peer struct {
	ID      string
	Address string // raft, host:port
}

func (c Config) withDefaults() Config {
	c.Heartbeat = cmp.Or(c.Heartbeat, 250*time.Millisecond)
	c.Election = max(cmp.Or(c.Election, 250*time.Millisecond), c.Heartbeat)
	c.Lease = min(cmp.Or(c.Lease, 200*time.Millisecond), c.Heartbeat)
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, 16384)
	c.SnapshotInterval = cmp.Or(c.SnapshotInterval, 30*time.Second)
	c.TrailingEntries = cmp.Or(c.TrailingEntries, 8192)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = NewIDSource(c.Now)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) check() error {
	if c.NodeID == "" {
		return errors.New("a replica needs a node id")
	}
	if c.Transport == nil && c.Bind == "" {
		return errors.New("a replica needs an address to serve raft on")
	}
	if c.TLS != nil && c.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return errors.New("raft over TLS needs verified client certificates")
	}
	if len(c.Bootstrap) > 0 {
		for _, p := range c.Bootstrap {
			if p.ID == c.NodeID {
				return nil
			}
		}
		return fmt.Errorf("%s is not in its own list of members to bootstrap", c.NodeID)
	}
	return nil
}

// raft makes raft's own configuration.
func (c Config) raft() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.NodeID)
	rc.HeartbeatTimeout = c.Heartbeat
	rc.ElectionTimeout = c.Election
	rc.LeaderLeaseTimeout = c.Lease
	// Followers learn of a commit with the next entry or after this time.
	rc.CommitTimeout = min(20*time.Millisecond, c.Heartbeat/4)
	rc.MaxAppendEntries = 64
	rc.SnapshotThreshold = c.SnapshotEntries
	rc.SnapshotInterval = c.SnapshotInterval
	rc.TrailingLogs = c.TrailingEntries
	rc.ShutdownOnRemove = false
	rc.NoLegacyTelemetry = true
	rc.Logger = raftLogger(c.Logger)
	return rc
}
