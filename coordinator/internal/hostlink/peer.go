package hostlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// peers are the connections to the other coordinators, by address, made when first needed.
type peers struct {
	keys  *pki.Keeper
	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

func (p *peers) conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[address]; ok {
		return c, nil
	}
	conf, err := p.keys.Client()
	if err != nil {
		return nil, err
	}
	conf.Certificates = nil
	// Asked for at each handshake, so a renewed certificate is used.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.keys.Own() }
	c, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("dial coordinator %s: %w", address, err)
	}
	p.conns[address] = c
	return c, nil
}

func (p *peers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	clear(p.conns)
	return errors.Join(errs...)
}

// leaderClient is the way to the leader, from a follower.
func (s *Server) leaderClient() (peerlink.PeerLinkClient, error) {
	id, _, leads := s.cfg.Replica.Leader()
	if id == "" || id == s.cfg.NodeID || leads {
		return nil, status.Error(codes.Unavailable, errNoLeader.Error())
	}
	c, ok := tables.Coordinators.First(s.cfg.Replica.DB().Current(), "node", store.K(id))
	if !ok {
		return nil, status.Errorf(codes.Unavailable, "the leader %s has not announced its host link yet", id)
	}
	conn, err := s.peers.conn(c.Address)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return peerlink.NewPeerLinkClient(conn), nil
}

// announce keeps the row that says where this coordinator's link is.
func (s *Server) announce(ctx context.Context) {
	for {
		changed := s.cfg.Replica.LeadershipChanges()
		pause := retry
		if s.announced() {
			pause = 30 * time.Second
		} else if err := s.tell(ctx); err != nil {
			s.cfg.Log.Debug("host link not announced yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(pause):
		}
	}
}

func (s *Server) announced() bool {
	c, ok := tables.Coordinators.First(s.cfg.Replica.DB().Current(), "node", store.K(s.cfg.NodeID))
	return ok && c.Address == s.cfg.Advertise
}

func (s *Server) tell(ctx context.Context) error {
	if s.isLeader() {
		return s.cfg.Replica.Update(ctx, func(tx *store.Tx) error { return infra.Announce(tx, s.cfg.NodeID, s.cfg.Advertise) })
	}
	c, err := s.leaderClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = c.Announce(ctx, &peerlink.AnnounceRequest{NodeId: s.cfg.NodeID, Address: s.cfg.Advertise})
	return err
}

// peerServer answers the other coordinators. Whoever is not the leader says so: requests are not passed on twice.
type peerServer struct {
	peerlink.UnimplementedPeerLinkServer
	s *Server
}

func (p *peerServer) mustLead() error {
	if p.s.isLeader() {
		return nil
	}
	return status.Error(codes.FailedPrecondition, "this coordinator does not lead")
}

func (p *peerServer) Announce(ctx context.Context, req *peerlink.AnnounceRequest) (*peerlink.AnnounceResponse, error) {
	if err := p.mustLead(); err != nil {
		return nil, err
	}
	if caller(ctx).ID != CoordinatorID(req.GetNodeId()) {
		return nil, status.Errorf(codes.PermissionDenied, "the certificate is not that of coordinator %s", req.GetNodeId())
	}
	err := p.s.cfg.Replica.Update(ctx, func(tx *store.Tx) error { return infra.Announce(tx, req.GetNodeId(), req.GetAddress()) })
	if err != nil {
		return nil, p.s.refusal("announce coordinator", err)
	}
	return &peerlink.AnnounceResponse{}, nil
}

func (p *peerServer) Join(ctx context.Context, req *peerlink.JoinRequest) (*peerlink.JoinResponse, error) {
	if err := p.mustLead(); err != nil {
		return nil, err
	}
	answer, err := p.s.join(ctx, req.GetRequest())
	if err != nil {
		return nil, err
	}
	return &peerlink.JoinResponse{Response: answer}, nil
}

func (p *peerServer) Renew(ctx context.Context, req *peerlink.RenewRequest) (*peerlink.RenewResponse, error) {
	if err := p.mustLead(); err != nil {
		return nil, err
	}
	id, err := cloud.ParseID(req.GetHostId())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer, err := p.s.renew(ctx, id, &hostlink.RenewRequest{CertificateRequest: req.GetCertificateRequest()})
	if err != nil {
		return nil, err
	}
	return &peerlink.RenewResponse{Response: answer}, nil
}

func (p *peerServer) Report(ctx context.Context, req *peerlink.ReportRequest) (*peerlink.ReportResponse, error) {
	if err := p.mustLead(); err != nil {
		return nil, err
	}
	if err := p.s.fold(ctx, req.GetReports()); err != nil {
		return nil, p.s.refusal("take news of hosts", err)
	}
	return &peerlink.ReportResponse{}, nil
}

// CoordinatorID is the id in the certificate of the coordinator of that name.
func CoordinatorID(nodeID string) cloud.ID { return cloud.NameID("coordinator", nodeID) }
