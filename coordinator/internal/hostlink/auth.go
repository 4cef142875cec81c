package hostlink

import (
	"context"
	"crypto/x509"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// access lists who may call what. A method that is not listed may be called by nobody.
var access = map[string][]pki.Kind{
	hostlink.HostLink_Join_FullMethodName:       {}, // the token in the request is the proof
	hostlink.HostLink_Renew_FullMethodName:      {pki.KindHost},
	hostlink.HostLink_Link_FullMethodName:       {pki.KindHost},
	hostlink.HostLink_FetchImage_FullMethodName: {pki.KindHost, pki.KindCoordinator},
	peerlink.PeerLink_Announce_FullMethodName:   {pki.KindCoordinator},
	peerlink.PeerLink_Join_FullMethodName:       {pki.KindCoordinator},
	peerlink.PeerLink_Renew_FullMethodName:      {pki.KindCoordinator},
	peerlink.PeerLink_Report_FullMethodName:     {pki.KindCoordinator},
}

type identityKey struct{}

// caller is who a checked call comes from.
func caller(ctx context.Context) pki.Identity {
	who, _ := ctx.Value(identityKey{}).(pki.Identity)
	return who
}

// authorize checks the caller of a method and notes who it is.
func (s *Server) authorize(ctx context.Context, method string) (context.Context, error) {
	kinds, listed := access[method]
	if !listed {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	if len(kinds) == 0 {
		return ctx, nil
	}
	cert := certificateOf(ctx)
	if cert == nil {
		return nil, status.Error(codes.Unauthenticated, "this call needs a certificate of the cluster")
	}
	who, err := pki.Check(s.cfg.Replica.DB().Current(), cert)
	if errors.Is(err, pki.ErrRevoked) {
		return nil, status.Error(codes.Unauthenticated, errRemoved.Error())
	}
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	for _, k := range kinds {
		if who.Kind == k {
			return context.WithValue(ctx, identityKey{}, who), nil
		}
	}
	return nil, status.Errorf(codes.PermissionDenied, "a %s may not call %s", who.Kind, method)
}

// certificateOf is the verified certificate of a connection; nil if none was shown.
func certificateOf(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

func (s *Server) authUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authorize(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) authStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.authorize(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &authorized{stream, ctx})
}

// authorized is a stream whose context says who called.
type authorized struct {
	grpc.ServerStream
	ctx context.Context
}

func (a *authorized) Context() context.Context { return a.ctx }
