package hostlink

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// link is the open stream of one host.
type link struct {
	host cloud.ID
	name string // unique in the cluster; names of one coordinator rise as text, so the newer of two links is known
	end  context.CancelCauseFunc
	wake chan struct{}

	// What follows belongs to the goroutine that sends.
	ledger       uint64 // generation in the agent's ledger when the link began
	sent         bool
	digest       [sha256.Size]byte
	coordinators []string
	reconnects   uint64

	// What the spec sent last is about; guarded by links.mu.
	networks []cloud.ID
	images   map[string]bool
}

// poke makes the link look at the state again.
func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// links are the open streams of this coordinator, one per host.
type links struct {
	mu        sync.Mutex
	opened    uint64
	byHost    map[cloud.ID]*link
	byNetwork map[cloud.ID]map[*link]bool // those whose last spec has it
}

// note remembers what the spec being sent to a host is about. It tells whether that has networks the one before had not.
func (ls *links) note(l *link, networks []cloud.ID, images map[string]bool) (more bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, id := range networks {
		more = more || !ls.byNetwork[id][l]
	}
	ls.forget(l)
	if ls.byHost[l.host] != l {
		return false // replaced meanwhile
	}
	l.networks, l.images = networks, images
	for _, id := range networks {
		if ls.byNetwork[id] == nil {
			ls.byNetwork[id] = map[*link]bool{}
		}
		ls.byNetwork[id][l] = true
	}
	return more
}

// forget takes a link out of the networks. The caller holds ls.mu.
func (ls *links) forget(l *link) {
	for _, id := range l.networks {
		delete(ls.byNetwork[id], l)
		if len(ls.byNetwork[id]) == 0 {
			delete(ls.byNetwork, id)
		}
	}
	l.networks = nil
}

// poke makes the links of a scope look at the state again, and touches no others: a busy cloud changes hundreds of times
// a second, and has thousands of hosts.
func (ls *links) poke(scope hostplan.Scope) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if scope.All {
		for _, l := range ls.byHost {
			l.poke()
		}
		return
	}
	for id := range scope.Hosts {
		if l, ok := ls.byHost[id]; ok {
			l.poke()
		}
	}
	for id := range scope.Networks {
		for l := range ls.byNetwork[id] {
			l.poke()
		}
	}
}

// sent tells whether the spec that a host was sent last names an image.
func (ls *links) sent(host cloud.ID, sha string) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l, ok := ls.byHost[host]
	return ok && l.images[sha]
}

// put names l, makes it the link of its host, and ends the one before.
func (ls *links) put(l *link, node string) {
	ls.mu.Lock()
	ls.opened++
	l.name = fmt.Sprintf("%s/%016x-%s", node, ls.opened, nonce())
	was := ls.byHost[l.host]
	ls.byHost[l.host] = l
	if was != nil {
		ls.forget(was)
	}
	ls.mu.Unlock()
	if was != nil {
		was.end(errReplaced)
	}
}

func (ls *links) remove(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byHost[l.host] == l {
		delete(ls.byHost, l.host)
	}
	ls.forget(l)
}

func (ls *links) all() []*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]*link, 0, len(ls.byHost))
	for _, l := range ls.byHost {
		out = append(out, l)
	}
	return out
}

func (ls *links) hosts() []cloud.ID {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]cloud.ID, 0, len(ls.byHost))
	for id := range ls.byHost {
		out = append(out, id)
	}
	return out
}

func (ls *links) endAll(reason error) {
	for _, l := range ls.all() {
		l.end(reason)
	}
}

// Link implements the contract.
func (s *Server) Link(stream grpc.BidiStreamingServer[hostlink.AgentMessage, hostlink.CoordinatorMessage]) error {
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	incoming := make(chan *hostlink.AgentMessage)
	failed := make(chan error, 1)
	go func() { failed <- receive(ctx, stream, incoming) }() // ends with the stream, which ends when Link returns
	hello, err := s.hello(ctx, incoming, failed)
	if err != nil {
		return err
	}
	l := &link{
		host: caller(ctx).ID, end: end, wake: make(chan struct{}, 1),
		ledger: hello.GetLedgerGeneration(),
	}
	if h, ok := tables.Hosts.Get(s.cfg.Replica.DB().Current(), l.host); ok {
		l.reconnects = h.Reconnects
	}
	s.links.put(l, s.cfg.NodeID)
	s.inbox.put(&peerlink.HostReport{HostId: l.host.String(), Link: l.name, Hello: hello})
	s.cfg.Log.Info("host linked", "host", l.host, "agent", hello.GetAgentVersion(), "ledger", l.ledger)
	err = s.run(ctx, l, stream, incoming, failed)
	s.links.remove(l)
	s.inbox.put(&peerlink.HostReport{HostId: l.host.String(), Link: l.name, Closed: true})
	s.cfg.Log.Info("host link ended", "host", l.host, "reason", err)
	return err
}

func nonce() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

func receive(ctx context.Context, stream grpc.BidiStreamingServer[hostlink.AgentMessage, hostlink.CoordinatorMessage], to chan<- *hostlink.AgentMessage) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hello waits for the first message, which must come from the host that the certificate names.
func (s *Server) hello(ctx context.Context, incoming <-chan *hostlink.AgentMessage, failed <-chan error) (*hostlink.Hello, error) {
	select {
	case <-time.After(helloWithin):
		return nil, status.Error(codes.DeadlineExceeded, "the agent did not say hello in time")
	case err := <-failed:
		return nil, err
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case m := <-incoming:
		h := m.GetHello()
		if h == nil {
			return nil, status.Error(codes.InvalidArgument, "the first message of a link must be hello")
		}
		if id, err := cloud.ParseID(h.GetHostId()); err != nil || id != caller(ctx).ID {
			return nil, status.Errorf(codes.PermissionDenied, "the certificate is not that of host %s", h.GetHostId())
		}
		return h, nil
	}
}

// run serves a link until it ends, and says why it did.
func (s *Server) run(ctx context.Context, l *link, stream grpc.BidiStreamingServer[hostlink.AgentMessage, hostlink.CoordinatorMessage], incoming <-chan *hostlink.AgentMessage, failed <-chan error) error {
	cert := certificateOf(ctx)
	slow := time.NewTicker(slowPass)
	defer slow.Stop()
	look := true
	for {
		// Armed only while a state new enough is waited for: thousands of idle links must not tick.
		var behind <-chan time.Time
		if look {
			if _, err := pki.Check(s.cfg.Replica.DB().Current(), cert); err != nil {
				return status.Error(codes.Unauthenticated, errRemoved.Error())
			}
			if s.cfg.Now().After(cert.NotAfter) {
				return status.Error(codes.Unauthenticated, "the certificate has expired")
			}
			if err := s.serve(l, stream); err != nil {
				return err
			}
		}
		look = true
		if !l.sent {
			behind = time.After(100 * time.Millisecond)
		}
		select {
		case <-l.wake:
		case <-slow.C:
		case <-behind:
		case m := <-incoming:
			look = false
			if err := s.observed(l, m); err != nil {
				return err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ended(context.Cause(ctx))
		}
	}
}

// ended is the status that an agent is told when its link is ended from here.
func ended(why error) error {
	switch {
	case errors.Is(why, errReplaced):
		return status.Error(codes.Aborted, why.Error())
	case errors.Is(why, errReconnect), errors.Is(why, errClosing):
		return status.Error(codes.Unavailable, why.Error())
	}
	return status.FromContextError(why).Err()
}

func (s *Server) observed(l *link, m *hostlink.AgentMessage) error {
	o := m.GetObservation()
	if o == nil {
		return nil // hello again, or something newer than this program
	}
	if o.GetHostId() != l.host.String() {
		return status.Errorf(codes.PermissionDenied, "an observation speaks for host %s", o.GetHostId())
	}
	s.inbox.put(&peerlink.HostReport{HostId: l.host.String(), Link: l.name, Observation: o})
	return nil
}

// serve sends what the host has to know and does not.
func (s *Server) serve(l *link, stream grpc.BidiStreamingServer[hostlink.AgentMessage, hostlink.CoordinatorMessage]) error {
	r := s.cfg.Replica.DB().Current()
	h, ok := tables.Hosts.Get(r, l.host)
	if !ok {
		return status.Error(codes.Unauthenticated, errRemoved.Error())
	}
	if h.Reconnects != l.reconnects {
		return ended(errReconnect)
	}
	if addresses := infra.CoordinatorAddresses(r); !slices.Equal(addresses, l.coordinators) {
		l.coordinators = addresses
		m := &hostlink.CoordinatorMessage{Message: &hostlink.CoordinatorMessage_Coordinators{Coordinators: &hostlink.Coordinators{Addresses: addresses}}}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	// A state older than what the host has in its ledger must not be rendered: this coordinator lags behind. At equal
	// generations the content could differ between versions of this program, so the next commit is waited for; the
	// link's own opening is one.
	if r.Index() <= l.ledger {
		return nil
	}
	s.render <- struct{}{}
	spec, err := s.cfg.Plan.Render(r, h)
	<-s.render
	if err != nil {
		// A spec that cannot be rendered is a fault of ours; the host keeps what it has.
		s.cfg.Log.Error("could not render host spec", "host", l.host, "error", err)
		return nil
	}
	if spec == nil {
		l.sent = true // pending: there is nothing to wait for
		return nil
	}
	return s.send(l, stream, spec, r)
}

// requestOf is the request id of the newest job that works on something in a spec, so that one id leads from an API call
// through the host's logs; "" where no job is pending.
func requestOf(r store.Reader, spec *hostspec.HostSpec) string {
	var newest *cloud.Job
	look := func(text string) {
		id, err := cloud.ParseID(text)
		if err != nil {
			return
		}
		for j := range tables.Jobs.By(r, "instance", store.K(id)) {
			if j.Status == cloud.JobPending && (newest == nil || j.Created.After(newest.Created)) {
				newest = j
			}
		}
	}
	for _, vm := range spec.GetVms() {
		look(vm.GetId())
	}
	for _, n := range spec.GetNetworks() {
		look(n.GetId())
	}
	if newest == nil {
		return ""
	}
	return newest.RequestID
}

func (s *Server) send(l *link, stream grpc.BidiStreamingServer[hostlink.AgentMessage, hostlink.CoordinatorMessage], spec *hostspec.HostSpec, r store.Reader) error {
	digest, err := hostplan.Digest(spec)
	if err != nil {
		s.cfg.Log.Error("could not encode host spec", "host", l.host, "error", err)
		return nil
	}
	if l.sent && digest == l.digest {
		return nil
	}
	generation := r.Index()
	spec.Generation, spec.RequestId = generation, requestOf(r, spec)
	for _, n := range spec.GetNetworks() {
		if n.Services != nil { // what network.Fold compares with the commits of its rows
			n.Services.Generation, n.Services.RequestId = generation, spec.RequestId
		}
	}
	for _, vm := range spec.GetSystemVms() {
		vm.Services.Generation, vm.Services.RequestId = generation, spec.RequestId
	}
	if s.links.note(l, networksOf(spec), imagesOf(spec)) && s.cfg.Replica.DB().Current().Index() != generation {
		l.poke() // a network may have changed after it was rendered and before changes of it were looked for here
	}
	if err := stream.Send(&hostlink.CoordinatorMessage{Message: &hostlink.CoordinatorMessage_Spec{Spec: spec}}); err != nil {
		return fmt.Errorf("send spec: %w", err)
	}
	l.sent, l.digest, l.ledger = true, digest, generation
	return nil
}

func networksOf(spec *hostspec.HostSpec) []cloud.ID {
	var out []cloud.ID
	for _, n := range spec.GetNetworks() {
		if id, err := cloud.ParseID(n.GetId()); err == nil {
			out = append(out, id)
		}
	}
	return out
}

func imagesOf(spec *hostspec.HostSpec) map[string]bool {
	out := map[string]bool{}
	for _, i := range spec.GetImages() {
		out[i.GetSha256()] = true
	}
	return out
}
