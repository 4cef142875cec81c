package hostlink

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// Join implements the contract.
func (s *Server) Join(ctx context.Context, req *hostlink.JoinRequest) (*hostlink.JoinResponse, error) {
	if s.isLeader() {
		return s.join(ctx, req)
	}
	c, err := s.leaderClient()
	if err != nil {
		return nil, err
	}
	answer, err := c.Join(ctx, &peerlink.JoinRequest{Request: req})
	return answer.GetResponse(), fromLeader(err)
}

func (s *Server) join(ctx context.Context, req *hostlink.JoinRequest) (*hostlink.JoinResponse, error) {
	t, err := pki.ParseToken(req.GetToken())
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	csr, err := pki.ParseRequest(req.GetCertificateRequest())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if req.GetFacts().GetHostname() == "" {
		return nil, status.Error(codes.InvalidArgument, "the host does not say its name")
	}
	a, err := s.cfg.Keys.Authority()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	if !infra.Admits(s.cfg.Replica.DB().Current(), t, s.cfg.Now()) {
		// Whoever knocks without a good token costs a look at the state and no transaction.
		s.cfg.Log.Warn("join refused", "token", t.ID, "hostname", req.GetFacts().GetHostname())
		return nil, status.Error(codes.Unauthenticated, infra.ErrTokenRefused.Error())
	}
	var host *cloud.Host
	var leaf pki.Leaf
	err = s.cfg.Replica.Update(ctx, func(tx *store.Tx) error {
		var err error
		host, leaf, err = infra.Join(tx, t, csr, req.GetFacts(), a.SignHost)
		return err
	})
	if errors.Is(err, infra.ErrTokenRefused) {
		s.cfg.Log.Warn("join refused", "token", t.ID, "hostname", req.GetFacts().GetHostname())
		return nil, status.Error(codes.Unauthenticated, infra.ErrTokenRefused.Error())
	}
	if err != nil {
		return nil, s.refusal("join", err)
	}
	s.cfg.Log.Info("host joined", "host", host.ID, "name", host.Name, "token", t.ID, "state", host.ResourceState)
	return &hostlink.JoinResponse{
		HostId:           host.ID.String(),
		CertificateChain: [][]byte{leaf.DER},
		CaCertificates:   [][]byte{a.Certificate()},
		Coordinators:     infra.CoordinatorAddresses(s.cfg.Replica.DB().Current()),
	}, nil
}

// Renew implements the contract.
func (s *Server) Renew(ctx context.Context, req *hostlink.RenewRequest) (*hostlink.RenewResponse, error) {
	id := caller(ctx).ID
	if s.isLeader() {
		return s.renew(ctx, id, req)
	}
	c, err := s.leaderClient()
	if err != nil {
		return nil, err
	}
	answer, err := c.Renew(ctx, &peerlink.RenewRequest{HostId: id.String(), CertificateRequest: req.GetCertificateRequest()})
	return answer.GetResponse(), fromLeader(err)
}

// fromLeader turns "I do not lead any more" into something that an agent tries again.
func fromLeader(err error) error {
	if status.Code(err) == codes.FailedPrecondition {
		return status.Error(codes.Unavailable, errNoLeader.Error())
	}
	return err
}

func (s *Server) renew(ctx context.Context, id cloud.ID, req *hostlink.RenewRequest) (*hostlink.RenewResponse, error) {
	csr, err := pki.ParseRequest(req.GetCertificateRequest())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	a, err := s.cfg.Keys.Authority()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	var leaf pki.Leaf
	err = s.cfg.Replica.Update(ctx, func(tx *store.Tx) error {
		var err error
		_, leaf, err = infra.Renew(tx, id, csr, a.SignHost)
		return err
	})
	if errors.Is(err, pki.ErrRevoked) {
		return nil, status.Error(codes.Unauthenticated, errRemoved.Error())
	}
	if err != nil {
		return nil, s.refusal("renew certificate", err)
	}
	s.cfg.Log.Info("host certificate renewed", "host", id, "expires", leaf.Expires)
	return &hostlink.RenewResponse{CertificateChain: [][]byte{leaf.DER}, CaCertificates: [][]byte{a.Certificate()}}, nil
}

// refusal is what an agent is told of an error: the sentence of a refusal, or that it may try again.
func (s *Server) refusal(what string, err error) error {
	var refused *cloud.Error
	if errors.As(err, &refused) {
		return status.Error(codes.InvalidArgument, refused.Text)
	}
	s.cfg.Log.Warn("could not "+what, "error", err)
	return status.Errorf(codes.Unavailable, "could not %s now; try again", what)
}
