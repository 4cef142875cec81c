package hostlink

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// Server serves the host link of one coordinator.
type Server struct {
	hostlink.UnimplementedHostLinkServer
	cfg    Config
	grpc   *grpc.Server
	links  links
	inbox  *inbox
	peers  *peers
	leader leaderState
	// render bounds how many specs are rendered at once.
	render chan struct{}

	stop context.CancelFunc
	runs sync.WaitGroup
}

// New makes a server; Serve starts it.
func New(cfg Config) *Server {
	s := &Server{
		cfg:    cfg,
		inbox:  newInbox(),
		render: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	s.links.byHost, s.links.byNetwork = map[cloud.ID]*link{}, map[cloud.ID]map[*link]bool{}
	s.peers = &peers{keys: cfg.Keys, conns: map[string]*grpc.ClientConn{}}
	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(cfg.Keys.Server())),
		grpc.UnaryInterceptor(s.authUnary),
		grpc.StreamInterceptor(s.authStream),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(4<<20),
		// A link says little: small buffers keep thousands of them cheap.
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(8<<10),
		// An agent has one link and a few image downloads; whoever wants more is no agent.
		grpc.MaxConcurrentStreams(64),
	)
	hostlink.RegisterHostLinkServer(s.grpc, s)
	peerlink.RegisterPeerLinkServer(s.grpc, &peerServer{s: s})
	return s
}

// Serve serves on a listener until Close; it owns the listener. The context's values are kept, its end is not waited
// for: Close ends everything.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for name, run := range map[string]func(context.Context){
		"dispatch": s.dispatch, "deliver": s.deliver, "announce": s.announce, "mirror": s.mirror,
		"liveness": func(ctx context.Context) { s.cfg.Replica.RunOnLeader(ctx, "host liveness", s.watchHosts) },
		"tidy":     func(ctx context.Context) { s.cfg.Replica.RunOnLeader(ctx, "host link housekeeping", s.tidy) },
	} {
		s.runs.Go(func() {
			run(ctx)
			s.cfg.Log.Debug("host link loop ended", "loop", name)
		})
	}
	if err := s.grpc.Serve(l); err != nil {
		return fmt.Errorf("serve host link on %s: %w", l.Addr(), err)
	}
	return nil
}

// Close ends all links and waits for everything the server started.
func (s *Server) Close() error {
	s.links.endAll(errClosing)
	s.grpc.Stop()
	if s.stop != nil {
		s.stop()
	}
	s.runs.Wait()
	return s.peers.close()
}

// Linked lists the hosts linked to this coordinator, for metrics and diagnosis.
func (s *Server) Linked() []cloud.ID { return s.links.hosts() }

func (s *Server) isLeader() bool {
	_, _, leads := s.cfg.Replica.Leader()
	return leads
}
