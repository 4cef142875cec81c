package hostlink

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// clock is the time of all coordinators of a test.
type clock struct {
	mu sync.Mutex
	by time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += d
}

// files is secondary storage in memory.
type files struct {
	mu sync.Mutex
	m  map[string]string
}

type file struct{ *strings.Reader }

func (file) Close() error { return nil }

func (f *files) Open(sha string) (io.ReadSeekCloser, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.m[sha]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return file{strings.NewReader(s)}, int64(len(s)), nil
}

func (f *files) Import(_ context.Context, sha string, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[sha] = string(b)
	return nil
}

// world is a cluster of coordinators with their host links on loopback.
type world struct {
	t       *testing.T
	c       *replicatest.Cluster
	servers []*Server
	addrs   []string
	files   []*files
	clock   *clock
	seal    *seal.Keeper
	folded  chan string // ids of hosts whose observations reached an area
}

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	k, err := seal.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, clock: &clock{}, seal: k, folded: make(chan string, 1024)}
	w.c = replicatest.NewWith(t, n, func(c *replica.Config) { c.Now = w.clock.now }, tables.Schema()...)
	w.update(func(tx *store.Tx) error { return pki.Bootstrap(tx, k) })
	w.c.Settle()
	for i := range n {
		w.start(i)
	}
	replicatest.Wait(t, 10*time.Second, "announced links", func() error {
		if got := len(infra.CoordinatorAddresses(w.read())); got != n {
			return errors.New("not all coordinators have announced themselves")
		}
		return nil
	})
	return w
}

func (w *world) start(i int) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.c.Nodes[i]
	node := []string{"node1", "node2", "node3"}[i]
	f := &files{m: map[string]string{}}
	s := New(Config{
		NodeID: node, Advertise: l.Addr().String(), Replica: r,
		Keys: pki.NewKeeper(func() store.Reader { return r.DB().Current() }, w.seal, CoordinatorID(node), []string{"127.0.0.1"}, w.clock.now),
		Plan: testPlan(),
		Folds: []Fold{func(_ *store.Tx, host cloud.ID, o *hostspec.HostObservation) error {
			if o.GetFacts().GetKernelVersion() == "poison" {
				return errors.New("this observation cannot be folded")
			}
			select {
			case w.folded <- host.String():
			default:
			}
			return nil
		}},
		Images: f, Now: w.clock.now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	w.servers, w.addrs, w.files = append(w.servers, s), append(w.addrs, l.Addr().String()), append(w.files, f)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Errorf("close link of %s: %v", node, err)
		}
		if err := <-done; err != nil {
			w.t.Errorf("serve link of %s: %v", node, err)
		}
	})
}

// testPlan renders VMs and volumes of a host in short, enough to see who is told what.
func testPlan() hostplan.Renderers {
	return hostplan.Renderers{
		Compute: func(r store.Reader, h *cloud.Host, s *hostspec.HostSpec) error {
			for vm := range tables.VMs.By(r, "host", store.K(h.ID)) {
				s.Vms = append(s.Vms, &hostspec.VirtualMachine{Id: vm.ID.String(), Hostname: vm.Name})
			}
			for v := range tables.Volumes.By(r, "state", store.K(cloud.VolumeReady)) {
				if v.HostID == h.ID {
					s.Images = append(s.Images, &hostspec.Image{Sha256: v.SHA256})
				}
			}
			return nil
		},
		Network: func(_ store.Reader, _ *cloud.Host, n *cloud.Network) (*hostspec.Network, error) {
			return &hostspec.Network{Id: n.ID.String(), Segment: n.Segment}, nil
		},
		Pools: func(store.Reader, *cloud.Host) []*hostspec.StoragePool { return nil },
	}
}

func (w *world) update(f func(tx *store.Tx) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.c.Leader().Update(ctx, f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read() store.Reader { return w.c.Leader().DB().Current() }

// token makes a join token at the given coordinator alone.
func (w *world) token(uses uint32, at ...string) pki.Token {
	w.t.Helper()
	a, err := w.servers[0].cfg.Keys.Authority()
	if err != nil {
		w.t.Fatal(err)
	}
	var t pki.Token
	w.update(func(tx *store.Tx) error {
		var err error
		t, _, err = infra.CreateToken(tx, a, infra.NewToken{Uses: uses})
		return err
	})
	if len(at) > 0 {
		t.Addresses = at
	}
	return t
}

// place makes a zone, pod and cluster.
func (w *world) place() infra.Adoption {
	a := infra.Adoption{ZoneID: cloud.ID{0xa}, PodID: cloud.ID{0xb}, ClusterID: cloud.ID{0xc}, Hypervisor: "KVM"}
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tables.Zones.Put(tx, &cloud.Zone{ID: a.ZoneID, Name: "z"}),
			tables.Pods.Put(tx, &cloud.Pod{ID: a.PodID, ZoneID: a.ZoneID, Name: "p"}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: a.ClusterID, ZoneID: a.ZoneID, PodID: a.PodID, Name: "c"}),
		)
	})
	return a
}

func (w *world) adopt(a infra.Adoption, url string) {
	w.t.Helper()
	a.URL = url
	w.update(func(tx *store.Tx) error {
		_, err := infra.AdoptHost(tx, a)
		return err
	})
}

func (w *world) host(id string) *cloud.Host {
	w.t.Helper()
	h, ok := tables.Hosts.Get(w.read(), mustID(w.t, id))
	if !ok {
		w.t.Fatalf("host %s is not there", id)
	}
	return h
}

func mustID(t *testing.T, s string) cloud.ID {
	t.Helper()
	id, err := cloud.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// agent is an agent in the test's hands.
type agent struct {
	w     *world
	name  string
	key   ed25519.PrivateKey
	id    string
	chain [][]byte
	roots *x509.CertPool
}

func (w *world) agent(name string) *agent {
	w.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return &agent{w: w, name: name, key: key}
}

func (a *agent) request() []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, a.key)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return der
}

func (a *agent) facts() *hostspec.HostFacts {
	return &hostspec.HostFacts{Hostname: a.name, Cpus: 4, CpuMhz: 2000, MemoryMib: 8192, UnderlayIp: "192.0.2.7"}
}

// pinned trusts whom the token names, as an agent without certificate does.
func pinned(pin [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots := x509.NewCertPool()
			for _, c := range cs.PeerCertificates {
				if sha256.Sum256(c.Raw) == pin {
					roots.AddCert(c)
				}
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: pki.ServerName, Roots: roots})
			return err
		},
	}
}

func (a *agent) dial(address string, conf *tls.Config) hostlink.HostLinkClient {
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(conf)))
	if err != nil {
		a.w.t.Fatal(err)
	}
	a.w.t.Cleanup(func() { _ = c.Close() })
	return hostlink.NewHostLinkClient(c)
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (a *agent) join(t pki.Token) error {
	answer, err := a.dial(t.Addresses[0], pinned(t.Pin)).Join(short(a.w.t), &hostlink.JoinRequest{
		Token: t.Reveal(), CertificateRequest: a.request(), Facts: a.facts(),
	})
	if err != nil {
		return err
	}
	a.take(answer.GetHostId(), answer.GetCertificateChain(), answer.GetCaCertificates())
	return nil
}

func (a *agent) take(id string, chain, cas [][]byte) {
	a.id, a.chain, a.roots = id, chain, x509.NewCertPool()
	for _, der := range cas {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			a.w.t.Fatal(err)
		}
		a.roots.AddCert(c)
	}
}

func (a *agent) mustJoin() *agent {
	a.w.t.Helper()
	if err := a.join(a.w.token(0)); err != nil {
		a.w.t.Fatal(err)
	}
	return a
}

// client is the agent with its certificate.
func (a *agent) client(address string) hostlink.HostLinkClient {
	return a.dial(address, &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: a.roots, ServerName: pki.ServerName,
		Certificates: []tls.Certificate{{Certificate: a.chain, PrivateKey: a.key}}, Time: a.w.clock.now,
	})
}

// stream is an open link: what came, and how it ended.
type stream struct {
	w     *world
	s     grpc.BidiStreamingClient[hostlink.AgentMessage, hostlink.CoordinatorMessage]
	specs chan *hostspec.HostSpec
	ended chan error
	close context.CancelFunc
	id    string
}

func (a *agent) link(address string, ledger uint64) *stream {
	a.w.t.Helper()
	return a.linkAs(address, ledger, a.id)
}

func (a *agent) linkAs(address string, ledger uint64, id string) *stream {
	a.w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a.w.t.Cleanup(cancel)
	s, err := a.client(address).Link(ctx)
	if err != nil {
		a.w.t.Fatal(err)
	}
	st := &stream{w: a.w, s: s, specs: make(chan *hostspec.HostSpec, 64), ended: make(chan error, 1), close: cancel, id: id}
	hello := &hostlink.Hello{HostId: id, AgentVersion: "test", LedgerGeneration: ledger, BootId: "boot"}
	if err := s.Send(&hostlink.AgentMessage{Message: &hostlink.AgentMessage_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		a.w.t.Fatal(err)
	}
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				st.ended <- err
				return
			}
			if m.GetSpec() != nil {
				st.specs <- m.GetSpec()
			}
		}
	}()
	return st
}

func (s *stream) observe(o *hostspec.HostObservation) {
	s.w.t.Helper()
	if o.HostId == "" {
		o.HostId = s.id
	}
	if err := s.s.Send(&hostlink.AgentMessage{Message: &hostlink.AgentMessage_Observation{Observation: o}}); err != nil {
		s.w.t.Fatal(err)
	}
}

// spec waits for the next spec.
func (s *stream) spec() *hostspec.HostSpec {
	s.w.t.Helper()
	select {
	case m := <-s.specs:
		return m
	case err := <-s.ended:
		s.w.t.Fatalf("the link ended while a spec was waited for: %v", err)
	case <-time.After(10 * time.Second):
		s.w.t.Fatal("no spec came")
	}
	return nil
}

// end waits for the end of the link.
func (s *stream) end() error {
	s.w.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(10 * time.Second):
		s.w.t.Fatal("the link did not end")
		return nil
	}
}

func (w *world) until(what string, f func() error) {
	w.t.Helper()
	replicatest.Wait(w.t, 10*time.Second, what, f)
}

var errEOF = io.EOF

// peerClient calls what only coordinators may, with the agent's certificate.
func (a *agent) peerClient(address string) peerlink.PeerLinkClient {
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: a.roots, ServerName: pki.ServerName,
		Certificates: []tls.Certificate{{Certificate: a.chain, PrivateKey: a.key}},
	})))
	if err != nil {
		a.w.t.Fatal(err)
	}
	a.w.t.Cleanup(func() { _ = c.Close() })
	return peerlink.NewPeerLinkClient(c)
}
