package hostlink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Host is what the link serves.
type Host interface {
	// Accept takes a spec from a coordinator.
	Accept(spec *hostspec.HostSpec) error
	// Generation of the spec held.
	Generation() uint64
	// Observe is the host's present state. It is called by one goroutine at a time.
	Observe(ctx context.Context) *hostspec.HostObservation
	// Changed gets a value when there is something new to observe.
	Changed() <-chan struct{}
	// Facts for joining.
	Facts(ctx context.Context) *hostspec.HostFacts
}

// Config of a Client.
type Config struct {
	Files ledger.Files
	// Token to join with; not needed once joined.
	Token   string
	Version string
	BootID  string
	Host    Host
	// Dial replaces net.Dialer, for simulations.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Log  *slog.Logger
	// Time between observations when nothing changes; 0 means 8 s, of the 10 s the contract allows.
	Heartbeat time.Duration
}

const (
	defaultHeartbeat = 8 * time.Second
	dialTimeout      = 5 * time.Second
	callTimeout      = 30 * time.Second
	firstPause       = 200 * time.Millisecond
	// All agents of a fleet are back within seconds after a coordinator's restart, yet not all at once.
	lastPause = 3 * time.Second
	// At most this long after a refusal.
	refusedPause = 30 * time.Second
	maxMessage   = 256 << 20
	// Changes within this time go up in one observation.
	gather = 5 * time.Millisecond
	// At most one observation in this time.
	spacing = 100 * time.Millisecond
)

// Client keeps the link up.
type Client struct {
	config Config
	log    *slog.Logger

	mu        sync.Mutex
	identity  *identity
	conn      *grpc.ClientConn
	connected bool
	lastError error
}

// New makes a Client. It fails when there is neither an identity nor a usable token.
func New(c Config) (*Client, error) {
	if c.Dial == nil {
		d := &net.Dialer{Timeout: dialTimeout}
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", address)
		}
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = defaultHeartbeat
	}
	id, err := loadIdentity(c.Files)
	if err != nil {
		return nil, err
	}
	if id == nil {
		if c.Token == "" {
			return nil, errors.New("this host has not joined a cluster and no join token is configured")
		}
		if _, err := ParseToken(c.Token); err != nil {
			return nil, err
		}
	}
	return &Client{config: c, log: c.Log, identity: id}, nil
}

// HostID is the id the cluster gave this host, "" before it has joined.
func (c *Client) HostID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.identity == nil {
		return ""
	}
	return c.identity.HostID
}

// Connected says whether a coordinator is listening now, and else why not.
func (c *Client) Connected() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected, c.lastError
}

// Run joins when needed and keeps the link until ctx ends.
func (c *Client) Run(ctx context.Context) {
	pause, refusals := firstPause, 0
	for next := 0; ctx.Err() == nil; next++ {
		begin := time.Now()
		err := c.once(ctx, next)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		first := c.connected || c.lastError == nil || err != nil && c.lastError.Error() != err.Error()
		c.connected, c.lastError = false, err
		c.mu.Unlock()
		if first {
			c.log.Warn("link to the coordinators is down; guests and networks go on", "error", err)
		}
		if time.Since(begin) > lastPause {
			pause = firstPause
		}
		wait := pause/2 + rand.N(pause)
		if code := status.Code(err); code == codes.Unauthenticated || code == codes.PermissionDenied {
			// A coordinator that has just started may not know its hosts yet; one that means it is not to be bothered.
			refusals++
			refused := min(lastPause<<min(refusals, 5), refusedPause)
			wait = refused/2 + rand.N(refused/2)
		} else {
			refusals = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, lastPause)
	}
}

// once is one try at one coordinator.
func (c *Client) once(ctx context.Context, next int) error {
	c.mu.Lock()
	id := c.identity
	c.mu.Unlock()
	if id == nil {
		token, err := ParseToken(c.config.Token)
		if err != nil {
			return err
		}
		return c.join(ctx, token, token.Addresses[next%len(token.Addresses)])
	}
	addresses := id.Coordinators
	if len(addresses) == 0 {
		return errors.New("no coordinator's address is known")
	}
	return c.link(ctx, addresses[next%len(addresses)])
}

func (c *Client) dial(address string, config *tls.Config) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(c.config.Dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(8<<10),
		// A coordinator that lost its power answers no more: found out within 20 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return conn, nil
}

func (c *Client) join(ctx context.Context, token Token, address string) error {
	key, err := joinKey(c.config.Files, token)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	facts := c.config.Host.Facts(ctx)
	request, err := certificateRequest(key, facts.GetHostname())
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	conn, err := c.dial(address, pinned(token.Pin))
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	defer func() { _ = conn.Close() }()
	// For this call only: the link below lasts.
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	answer, err := hostlink.NewHostLinkClient(conn).Join(limited, &hostlink.JoinRequest{
		Token: token.text, CertificateRequest: request, Facts: facts,
	})
	cancel()
	if err != nil {
		return fmt.Errorf("join at %s: %w", address, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	id := &identity{
		HostID: answer.GetHostId(), Key: der, Chain: answer.GetCertificateChain(),
		Authorities: answer.GetCaCertificates(), Coordinators: usable(answer.GetCoordinators(), token.Addresses),
	}
	if _, err := id.tls(); err != nil {
		return fmt.Errorf("join at %s: answer is not usable: %w", address, err)
	}
	if err := id.save(c.config.Files); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := c.config.Files.Remove(joinKeyFile); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	c.mu.Lock()
	c.identity = id
	c.mu.Unlock()
	c.log.Info("joined the cluster", "host", id.HostID, "coordinator", address)
	return c.link(ctx, address)
}

// usable are the well-formed addresses of list, or else of otherwise.
func usable(list, otherwise []string) []string {
	var good []string
	for _, a := range list {
		if checkAddress(a) == nil && !slices.Contains(good, a) {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return otherwise
	}
	return good
}

// link is one stream's life.
func (c *Client) link(ctx context.Context, address string) error {
	c.mu.Lock()
	config, err := c.identity.tls()
	hostID := c.identity.HostID
	c.mu.Unlock()
	if err != nil {
		return err
	}
	conn, err := c.dial(address, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := hostlink.NewHostLinkClient(conn)
	stream, err := client.Link(ctx)
	if err != nil {
		return fmt.Errorf("link to %s: %w", address, err)
	}
	hello := &hostlink.Hello{
		HostId: hostID, AgentVersion: c.config.Version, LedgerGeneration: c.config.Host.Generation(), BootId: c.config.BootID,
	}
	if err := stream.Send(&hostlink.AgentMessage{Message: &hostlink.AgentMessage_Hello{Hello: hello}}); err != nil {
		return fmt.Errorf("link to %s: %w", address, orCause(stream, err))
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
	}()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { c.observe(ctx, stream, cancel) })
	group.Go(func() { c.renew(ctx, client) })
	return fmt.Errorf("link to %s: %w", address, c.receive(stream))
}

// orCause finds out why a stream broke: Send only says io.EOF.
func orCause(stream hostlink.HostLink_LinkClient, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, cause := stream.Recv(); cause != nil {
		return cause
	}
	return err
}

func (c *Client) receive(stream hostlink.HostLink_LinkClient) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		c.mu.Lock()
		if !c.connected {
			c.log.Info("link to the coordinators is up", "host", c.identity.HostID)
		}
		c.connected, c.lastError = true, nil
		c.mu.Unlock()
		switch m := m.GetMessage().(type) {
		case *hostlink.CoordinatorMessage_Spec:
			// A refused spec is not the stream's fault: the observation says what the ledger holds.
			if err := c.config.Host.Accept(m.Spec); err != nil {
				c.log.Error("refused a host spec", "generation", m.Spec.GetGeneration(),
					"request", m.Spec.GetRequestId(), "error", err)
			}
		case *hostlink.CoordinatorMessage_Coordinators:
			if err := c.learn(m.Coordinators.GetAddresses()); err != nil {
				c.log.Error("cannot keep coordinators' addresses", "error", err)
			}
		default:
			c.log.Warn("coordinator sent a message this agent does not know")
		}
	}
}

// learn keeps the coordinators' addresses.
func (c *Client) learn(addresses []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := usable(addresses, c.identity.Coordinators)
	if slices.Equal(list, c.identity.Coordinators) {
		return nil
	}
	changed := *c.identity
	changed.Coordinators = list
	if err := changed.save(c.config.Files); err != nil {
		return err
	}
	c.identity = &changed
	return nil
}

// observe sends the host's state at once, after changes, and at the heartbeat.
func (c *Client) observe(ctx context.Context, stream hostlink.HostLink_LinkClient, broken func()) {
	defer broken()
	// Spread over the fleet, so that a coordinator's restart does not line the heartbeats up.
	beat := c.config.Heartbeat - rand.N(c.config.Heartbeat/8)
	for {
		m := &hostlink.AgentMessage{Message: &hostlink.AgentMessage_Observation{Observation: c.config.Host.Observe(ctx)}}
		if err := stream.Send(m); err != nil {
			return
		}
		sent := time.Now()
		timer := time.NewTimer(beat)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			continue
		case <-c.config.Host.Changed():
			timer.Stop()
		}
		wait := max(gather, spacing-time.Since(sent))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		// What changed meanwhile is in the next observation already.
		select {
		case <-c.config.Host.Changed():
		default:
		}
	}
}
