// Package linktest is a coordinator for tests of agents: it speaks the real host link over real TLS and does nothing
// of its own accord. A test sets a spec and waits for an observation.
package linktest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/google/uuid"

	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Authority signs the certificates of one cluster.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewAuthority makes an authority.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{key, cert}, err
}

func (a *Authority) sign(template *x509.Certificate, public any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.KeyUsage = x509.KeyUsageDigitalSignature
	return x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
}

// Coordinator is the other end of the link.
type Coordinator struct {
	hostlink.UnimplementedHostLinkServer
	authority *Authority
	server    *grpc.Server
	listener  net.Listener

	mu sync.Mutex
	// Lifetime of the certificates it signs.
	lifetime time.Duration
	tokens   map[string]string // token -> host id
	keys     map[string]string // token -> public key that used it
	specs    map[string]*hostspec.HostSpec
	seen     map[string]*hostspec.HostObservation
	hellos   []*hostlink.Hello
	renewals int
	images   map[string][]byte
	cutAfter int
	changed  chan struct{}
}

// Start serves on an address.
func Start(a *Authority, address string) (*Coordinator, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return Serve(a, listener)
}

// Serve serves on a listener.
func Serve(a *Authority, listener net.Listener) (*Coordinator, error) {
	c := &Coordinator{
		authority: a, listener: listener, lifetime: time.Hour, tokens: map[string]string{}, keys: map[string]string{},
		specs: map[string]*hostspec.HostSpec{}, seen: map[string]*hostspec.HostObservation{},
		images: map[string][]byte{}, changed: make(chan struct{}),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := a.sign(&x509.Certificate{
		DNSNames: []string{"coordinator.wisp.internal"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool,
	})), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(64<<20))
	hostlink.RegisterHostLinkServer(c.server, c)
	go func() { _ = c.server.Serve(listener) }()
	return c, nil
}

// Address it serves on.
func (c *Coordinator) Address() string { return c.listener.Addr().String() }

// Kill ends it like a crash.
func (c *Coordinator) Kill() { c.server.Stop() }

// Token makes a join token for a new host. addresses default to the coordinator's own.
func (c *Coordinator) Token(addresses ...string) (token, hostID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(addresses) == 0 {
		addresses = []string{c.Address()}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	sum := sha256.Sum256(c.authority.cert.Raw)
	token = "wisp1."
	for i, a := range addresses {
		if i > 0 {
			token += ","
		}
		token += a
	}
	token += "." + base64.RawURLEncoding.EncodeToString(secret) + "." + hex.EncodeToString(sum[:])
	hostID = uuid.NewString()
	c.tokens[token] = hostID
	return token, hostID
}

// Lifetime of certificates signed from now on.
func (c *Coordinator) Lifetime(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lifetime = d
}

// AddImage offers an image and returns its sum.
func (c *Coordinator) AddImage(data []byte) string {
	sum := sha256.Sum256(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images[hex.EncodeToString(sum[:])] = data
	return hex.EncodeToString(sum[:])
}

// CutImages makes the next image streams break after so many bytes; 0 ends that.
func (c *Coordinator) CutImages(after int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutAfter = after
}

// SetSpec sends a spec to its host, now and at each new link.
func (c *Coordinator) SetSpec(s *hostspec.HostSpec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.specs[s.GetHostId()] = proto.CloneOf(s)
	c.wake()
}

// Seen is the last observation of a host, nil for none.
func (c *Coordinator) Seen(host string) *hostspec.HostObservation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[host]
}

// Hellos are all greetings so far.
func (c *Coordinator) Hellos() []*hostlink.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hellos)
}

// Renewals counts certificates renewed.
func (c *Coordinator) Renewals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewals
}

func (c *Coordinator) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Wait waits until an observation of a host satisfies ok, and returns it.
func (c *Coordinator) Wait(ctx context.Context, host string, ok func(*hostspec.HostObservation) bool) (*hostspec.HostObservation, error) {
	for {
		c.mu.Lock()
		o, changed := c.seen[host], c.changed
		c.mu.Unlock()
		if o != nil && ok(o) {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("wait for observation: %w; last: %v", ctx.Err(), o)
		case <-changed:
		}
	}
}

func (c *Coordinator) leaf(request []byte, host string) ([][]byte, string, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, "", err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, "", err
	}
	der, err := c.authority.sign(&x509.Certificate{
		URIs: []*url.URL{{Scheme: "wisp", Host: "host", Path: "/" + host}}, NotBefore: time.Now(),
		NotAfter: time.Now().Add(c.lifetime), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, csr.PublicKey)
	return [][]byte{der}, string(csr.RawSubjectPublicKeyInfo), err
}

// Join implements the service.
func (c *Coordinator) Join(_ context.Context, r *hostlink.JoinRequest) (*hostlink.JoinResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	host, ok := c.tokens[r.GetToken()]
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the token is not known")
	}
	chain, key, err := c.leaf(r.GetCertificateRequest(), host)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if used := c.keys[r.GetToken()]; used != "" && used != key {
		return nil, status.Error(codes.Unauthenticated, "the token is used up")
	}
	c.keys[r.GetToken()] = key
	return &hostlink.JoinResponse{
		HostId: host, CertificateChain: chain, CaCertificates: [][]byte{c.authority.cert.Raw}, Coordinators: []string{c.Address()},
	}, nil
}

// hostOf reads who called.
func hostOf(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates[0].URIs) != 1 {
		return "", status.Error(codes.Unauthenticated, "no certificate of a host")
	}
	return info.State.PeerCertificates[0].URIs[0].Path[1:], nil
}

// Renew implements the service.
func (c *Coordinator) Renew(ctx context.Context, r *hostlink.RenewRequest) (*hostlink.RenewResponse, error) {
	host, err := hostOf(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	chain, _, err := c.leaf(r.GetCertificateRequest(), host)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c.renewals++
	c.wake()
	return &hostlink.RenewResponse{CertificateChain: chain, CaCertificates: [][]byte{c.authority.cert.Raw}}, nil
}

// Link implements the service.
func (c *Coordinator) Link(stream hostlink.HostLink_LinkServer) error {
	host, err := hostOf(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetHello().GetHostId() != host {
		return status.Error(codes.InvalidArgument, "the first message must be a hello of the certificate's host")
	}
	c.mu.Lock()
	c.hellos = append(c.hellos, first.GetHello())
	c.wake()
	c.mu.Unlock()
	go c.push(stream, host)
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if o := m.GetObservation(); o != nil {
			c.mu.Lock()
			c.seen[host] = o
			c.wake()
			c.mu.Unlock()
		}
	}
}

// push sends the addresses and every new spec.
func (c *Coordinator) push(stream hostlink.HostLink_LinkServer, host string) {
	addresses := &hostlink.Coordinators{Addresses: []string{c.Address()}}
	err := stream.Send(&hostlink.CoordinatorMessage{Message: &hostlink.CoordinatorMessage_Coordinators{Coordinators: addresses}})
	var sent *hostspec.HostSpec
	for err == nil {
		c.mu.Lock()
		spec, changed := c.specs[host], c.changed
		c.mu.Unlock()
		if spec != nil && spec != sent {
			sent = spec
			err = stream.Send(&hostlink.CoordinatorMessage{Message: &hostlink.CoordinatorMessage_Spec{Spec: spec}})
			continue
		}
		select {
		case <-stream.Context().Done():
			return
		case <-changed:
		}
	}
}

// FetchImage implements the service.
func (c *Coordinator) FetchImage(r *hostlink.FetchImageRequest, stream hostlink.HostLink_FetchImageServer) error {
	if _, err := hostOf(stream.Context()); err != nil {
		return err
	}
	c.mu.Lock()
	data, ok := c.images[r.GetSha256()]
	cut := c.cutAfter
	c.mu.Unlock()
	if !ok || r.GetOffset() > uint64(len(data)) {
		return status.Error(codes.NotFound, "there is no such image")
	}
	sent := 0
	size := uint64(len(data))
	for rest := data[r.GetOffset():]; len(rest) > 0; {
		n := min(len(rest), 256<<10)
		if cut > 0 {
			n = min(n, cut-sent)
		}
		if err := stream.Send(&hostlink.FetchImageResponse{Data: rest[:n], SizeBytes: size}); err != nil {
			return err
		}
		rest, sent, size = rest[n:], sent+n, 0
		if cut > 0 && sent >= cut {
			return status.Error(codes.Unavailable, "cut for the test")
		}
	}
	return nil
}
