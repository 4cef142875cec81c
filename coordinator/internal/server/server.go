package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// SealFile is the cluster's key in the data directory.
const SealFile = "seal.key"

// Server is one coordinator.
type Server struct {
	cfg     Config
	log     *slog.Logger
	seal    *seal.Keeper
	cluster *tls.Config
	replica *replica.Replica

	areas    areas
	settings *settings.Registry
	registry *api.Registry
	jobs     *job.Engine
	api      *api.Server
	throttle *api.Throttle
	version  string

	described struct {
		once   sync.Once
		packed []byte
		plain  int
	}
	peers   *peers
	metrics *metrics

	listeners []*listener
	// bootstrapped: this coordinator has led, and seen to it that first rows and credentials are in place.
	bootstrapped atomic.Bool

	running sync.WaitGroup // what serve and loops started
	stop    context.CancelFunc
	failed  chan error
}

// Open reads or makes the state in the data directory and opens every port. Run then serves.
func Open(ctx context.Context, cfg Config, version string, log *slog.Logger) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, version: version, failed: make(chan error, 1), stop: func() {}}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.seal, err = openSeal(cfg); err != nil {
		return nil, err
	}
	if s.cluster, err = clusterTLS(s.seal, cfg.Node); err != nil {
		return nil, err
	}
	if s.replica, err = s.openReplica(ctx); err != nil {
		return nil, err
	}
	s.peers = newPeers(s.cfg.Node, s.replica, s.cluster)
	s.metrics = newMetrics(s.replica, version)
	if s.areas, err = newAreas(s); err != nil {
		return nil, err
	}
	s.throttle = api.NewThrottle()
	s.settings = settings.New(s.areas.settings()...)
	if s.registry, err = api.NewRegistry(s.areas.commands(s), s.areas.entities()); err != nil {
		return nil, err
	}
	s.jobs = job.New(job.Config{
		Cluster: s.replica, Kinds: append(s.registry.JobKinds(s.settings, s.seal), s.areas.compute.HAKind(), s.areas.compute.ReturnKind()), Seal: s.seal, Log: log, Failure: api.JobFailure,
	})
	s.api = api.New(api.Config{
		Registry: s.registry, Cluster: s.replica, Settings: s.settings, Seal: s.seal, Log: log, Now: time.Now,
		Forward: s.peers.forward, Throttle: s.throttle, Done: s.metrics.done,
	})
	s.peers.serve, s.peers.own = s.api, s.figures
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, s.areas.listen(s)
}

// openSeal reads the cluster's key. The first coordinator makes it; one that joins has to be given it.
func openSeal(cfg Config) (*seal.Keeper, error) {
	path := filepath.Join(cfg.DataDir, SealFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		switch {
		case len(cfg.Join) > 0:
			return nil, fmt.Errorf("%s is missing: copy it from a coordinator of the cluster to join (mode 0600)", path)
		case hasState(cfg):
			return nil, fmt.Errorf("%s is missing, but there is state that was sealed with it: restore it from where it was kept", path)
		}
		if err := seal.Create(path); err != nil {
			return nil, err
		}
	}
	return seal.Load(path)
}

// raftDir holds log, votes and snapshots.
func raftDir(cfg Config) string { return filepath.Join(cfg.DataDir, "raft") }

func hasState(cfg Config) bool {
	entries, err := os.ReadDir(raftDir(cfg))
	return err == nil && len(entries) > 0
}

// openReplica starts raft: a cluster of one where there is no state and nobody to join.
func (s *Server) openReplica(ctx context.Context) (*replica.Replica, error) {
	raft := cmp.Or(s.cfg.RaftAdvertise, s.cfg.Raft)
	rc := replica.Config{
		NodeID: s.cfg.Node, DataDir: raftDir(s.cfg), Bind: s.cfg.Raft, Advertise: s.cfg.RaftAdvertise, TLS: s.cluster,
		API: cmp.Or(s.cfg.PeersAdvertise, s.cfg.Peers), Logger: s.log,
	}
	if len(s.cfg.Join) == 0 {
		rc.Bootstrap = []replica.Peer{{ID: s.cfg.Node, Address: raft}}
	}
	return replica.Open(ctx, rc, store.NewDB(append(tables.Schema(), replica.Members)...))
}

// Run serves until ctx ends or a part fails, then stops everything in order. It returns nil after a stop that was asked
// for.
func (s *Server) Run(ctx context.Context) error {
	loops, stop := context.WithCancel(ctx)
	s.stop = stop
	s.serve()
	if len(s.cfg.Join) > 0 {
		s.loop(loops, "join", func(ctx context.Context) {
			me := joining{s.cfg.Node, cmp.Or(s.cfg.RaftAdvertise, s.cfg.Raft), cmp.Or(s.cfg.PeersAdvertise, s.cfg.Peers)}
			if err := s.peers.askToJoin(ctx, me, s.cfg.Join); err != nil && ctx.Err() == nil {
				s.fail(err)
			}
		})
	}
	s.leaderLoop(loops, "bootstrap", s.bootstrapOnce)
	s.leaderLoop(loops, "jobs", s.jobs.Run)
	s.areas.run(loops, s)
	s.running.Go(func() { s.tellReady(loops) })
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
		return s.Close()
	case err := <-s.failed:
		return errors.Join(err, s.Close())
	}
}

// bootstrapOnce makes the first rows and stays until the leadership ends.
func (s *Server) bootstrapOnce(ctx context.Context) error {
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	s.bootstrapped.Store(true)
	<-ctx.Done()
	return nil
}

// loop starts a goroutine that Close waits for.
func (s *Server) loop(ctx context.Context, name string, f func(context.Context)) {
	s.running.Go(func() {
		f(ctx)
		s.log.Debug("loop ended", "loop", name)
	})
}

// leaderLoop starts a loop that runs wherever the leader is.
func (s *Server) leaderLoop(ctx context.Context, name string, f func(context.Context) error) {
	s.loop(ctx, name, func(ctx context.Context) { s.replica.RunOnLeader(ctx, name, f) })
}

// fail ends Run; the first reason is told.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// transferTimeout bounds how long a stopping leader tries to hand over.
const transferTimeout = 3 * time.Second

// Close stops everything: first no new calls, then the loops, then the state. It may be called twice.
func (s *Server) Close() error {
	notify("STOPPING=1")
	if s.replica != nil {
		s.handOver()
	}
	s.drain()
	err := s.areas.close()
	s.stop()
	s.running.Wait()
	if s.replica != nil {
		err = errors.Join(err, s.replica.Close())
	}
	return err
}

// handOver asks another coordinator to lead, so that clients need not wait for an election.
func (s *Server) handOver() {
	peers, err := s.replica.ListPeers()
	if _, _, leads := s.replica.Leader(); err != nil || !leads || len(peers) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	if err := s.replica.TransferLeadership(ctx); err != nil {
		s.log.Warn("could not hand the leadership over", "error", err)
	}
}

// tellReady tells systemd once calls can be served.
func (s *Server) tellReady(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.Ready() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	notify("READY=1")
	s.log.Info("ready")
}
