package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// stage records what its services are asked, and fails where it is told to.
type stage struct {
	mu    sync.Mutex
	calls []string
	fail  map[string]error
	wake  func() // what the kernel's watcher was given
	ready chan struct{}
}

func (s *stage) service(name string) Service {
	return Service{Name: name, Apply: func(_ context.Context, spec *netspec.NetSpec) error {
		return s.called(fmt.Sprintf("%s %d forwarding=%v", name, spec.GetGeneration(), spec.GetForwarding()), name)
	}}
}

func (s *stage) called(call, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	return s.fail[name]
}

func (s *stage) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls
	s.calls = nil
	return c
}

func (s *stage) setFail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[name] = err
}

func (s *stage) Watch(ctx context.Context, changed func()) error {
	s.wake = changed
	close(s.ready)
	<-ctx.Done()
	return nil
}

// newStage makes a namespace of services a, firewall, b, and runs it until the end of the test.
func newStage(t *testing.T) (*stage, *Namespace) {
	t.Helper()
	s := &stage{fail: map[string]error{}, ready: make(chan struct{})}
	firewall := s.service("firewall")
	firewall.Remove = func(context.Context) error { return s.called("firewall removed", "") }
	firewall.Repairs = func() uint64 { return 7 }
	firewall.Restart = func() { _ = s.called("firewall restarted", "") }
	n := New(Options{
		Services: []Service{s.service("a"), firewall, s.service("b")},
		Observe:  func(o *netspec.Observation) { o.Leases = append(o.Leases, &netspec.Lease{Mac: "m"}) },
		Watcher:  s,
		Log:      slog.New(slog.DiscardHandler),
		Now:      func() time.Time { return time.UnixMilli(1000) },
		Version:  "v1",
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return s, n
}

func waitFor(t *testing.T, n *Namespace, what string, condition func(*netspec.Observation) bool) *netspec.Observation {
	t.Helper()
	var o *netspec.Observation
	netsvctest.Wait(t, what, 5*time.Second, func() (bool, string) {
		o = n.Observation()
		return condition(o), o.String()
	})
	return o
}

func applied(generation uint64) func(*netspec.Observation) bool {
	return func(o *netspec.Observation) bool { return o.GetAppliedGeneration() == generation }
}

func tried(generation uint64) func(*netspec.Observation) bool {
	return func(o *netspec.Observation) bool { return o.GetTriedGeneration() == generation }
}

func spec(generation uint64) *netspec.NetSpec {
	return &netspec.NetSpec{NetworkId: "n", Generation: generation, Forwarding: true}
}

func TestApplyInOrderAndObserve(t *testing.T) {
	s, n := newStage(t)
	if err := n.Accept(spec(3)); err != nil {
		t.Fatal(err)
	}
	o := waitFor(t, n, "generation 3", applied(3))
	want := &netspec.Observation{
		NetworkId: "n", AppliedGeneration: 3, TriedGeneration: 3, Version: "v1", StartedUnixMs: 1000,
		Services: []*netspec.ServiceStatus{{Name: "a", Ready: true}, {Name: "firewall", Ready: true, Repairs: 7}, {Name: "b", Ready: true}},
		Leases:   []*netspec.Lease{{Mac: "m"}},
	}
	if diff := cmp.Diff(want, o, protocmp.Transform()); diff != "" {
		t.Errorf("observation (-want +got):\n%s", diff)
	}
	calls := s.take()
	if diff := cmp.Diff([]string{"a 3 forwarding=true", "firewall 3 forwarding=true", "b 3 forwarding=true"}, calls[:3]); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	// A change in the kernel wakes it.
	<-s.ready
	s.wake()
	netsvctest.Wait(t, "a pass after a change", 5*time.Second, func() (bool, string) {
		return len(s.take()) >= 3, "no pass"
	})
}

func TestOneFailureDoesNotStopTheOthers(t *testing.T) {
	s, n := newStage(t)
	s.setFail("a", errors.New("broken"))
	if err := n.Accept(spec(1)); err != nil {
		t.Fatal(err)
	}
	o := waitFor(t, n, "the try", tried(1))
	want := []*netspec.ServiceStatus{{Name: "a", Error: "broken"}, {Name: "firewall", Ready: true, Repairs: 7}, {Name: "b", Ready: true}}
	if diff := cmp.Diff(want, o.GetServices(), protocmp.Transform()); diff != "" || o.GetAppliedGeneration() != 0 {
		t.Errorf("applied %d, services (-want +got):\n%s", o.GetAppliedGeneration(), diff)
	}
	s.setFail("a", nil)
	waitFor(t, n, "the repair by a later pass", applied(1))
}

func TestNoForwardingWithoutFirewall(t *testing.T) {
	s, n := newStage(t)
	s.setFail("firewall", errors.New("no iptables"))
	if err := n.Accept(spec(1)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, n, "the try", tried(1))
	want := []string{"a 1 forwarding=true", "firewall 1 forwarding=true", "b 1 forwarding=false"}
	if diff := cmp.Diff(want, s.take()[:3]); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	_, n := newStage(t)
	if err := n.Accept(spec(5)); err != nil {
		t.Fatal(err)
	}
	other := spec(5)
	other.Forwarding = false
	foreign := spec(6)
	foreign.NetworkId = "m"
	for _, tt := range []struct {
		name string
		spec *netspec.NetSpec
		want string
	}{
		{"older", spec(4), "older"},
		{"same generation, other content", other, "other content"},
		{"another network", foreign, "is network n"},
		{"the same again", spec(5), ""},
		{"newer", spec(6), ""},
	} {
		err := n.Accept(tt.spec)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrRefused)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	waitFor(t, n, "the newer", applied(6))
}

func TestRestart(t *testing.T) {
	s, n := newStage(t)
	step := func(generation, restarts uint64, want int) {
		t.Helper()
		next := spec(generation)
		next.Restarts = restarts
		if err := n.Accept(next); err != nil {
			t.Fatal(err)
		}
		waitFor(t, n, "the generation", applied(generation))
		calls := s.take()
		if got := strings.Count(strings.Join(calls, "\n"), "restarted"); got != want {
			t.Errorf("generation %d: %d restarts, want %d: %q", generation, got, want, calls)
		}
	}
	step(1, 4, 0) // the first spec of a process: it is fresh already
	step(2, 4, 0)
	step(3, 5, 1)
	step(4, 5, 0)
}

func TestRemoveGoesBackwards(t *testing.T) {
	s := &stage{fail: map[string]error{"a": errors.New("stuck")}, ready: make(chan struct{})}
	firewall := s.service("firewall")
	firewall.Remove = func(context.Context) error { return s.called("firewall removed", "") }
	n := New(Options{Services: []Service{firewall, s.service("a"), s.service("b")}, Now: time.Now})
	if err := n.Remove(t.Context()); err == nil || !strings.Contains(err.Error(), "remove a: stuck") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"b 0 forwarding=false", "a 0 forwarding=false", "firewall removed"}, s.take()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// pipes is a Source whose peers are pipes.
type pipes chan io.ReadWriteCloser

func (p pipes) Accept(ctx context.Context) (io.ReadWriteCloser, error) {
	select {
	case c := <-p:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) Close() error { return nil }

func (p pipes) connect() net.Conn {
	here, there := net.Pipe()
	p <- there
	return here
}

// next reads until a message of the wanted kind comes.
func next[T any](t *testing.T, r *specio.Reader, get func(*netspec.FromService) *T) *T {
	t.Helper()
	for {
		var m netspec.FromService
		if err := r.Read(&m); err != nil {
			t.Fatal(err)
		}
		if v := get(&m); v != nil {
			return v
		}
	}
}

func send(t *testing.T, w *specio.Writer, m *netspec.ToService) {
	t.Helper()
	if err := w.Write(m); err != nil {
		t.Fatal(err)
	}
}

func TestSession(t *testing.T) {
	_, n := newStage(t)
	source := make(pipes)
	served := make(chan error, 1)
	go func() { served <- n.Serve(t.Context(), source) }()

	first := source.connect()
	r, w := specio.NewReader(first), specio.NewWriter(first)
	if o := next(t, r, (*netspec.FromService).GetObservation); o.GetTriedGeneration() != 0 {
		t.Errorf("first observation is %v", o)
	}
	// The peer reads all the time, as a host does: a pipe holds nothing.
	refusals, observations := make(chan *netspec.Refusal, 16), make(chan *netspec.Observation, 64)
	ended := make(chan error, 1)
	go func() {
		for {
			var m netspec.FromService
			if err := r.Read(&m); err != nil {
				ended <- err
				return
			}
			if m.GetRefusal() != nil {
				refusals <- m.GetRefusal()
			} else {
				observations <- m.GetObservation()
			}
		}
	}()
	send(t, w, &netspec.ToService{Message: &netspec.ToService_Apply{Apply: spec(2)}})
	for o := range observations {
		if o.GetAppliedGeneration() == 2 {
			break
		}
	}
	send(t, w, &netspec.ToService{Message: &netspec.ToService_Observe{Observe: &netspec.Observe{}}})
	<-observations
	send(t, w, &netspec.ToService{Message: &netspec.ToService_Apply{Apply: spec(1)}})
	if refusal := <-refusals; refusal.GetGeneration() != 1 || !strings.Contains(refusal.GetReason(), "older") {
		t.Errorf("refusal is %v", refusal)
	}
	send(t, w, &netspec.ToService{}) // of a later version
	if refusal := <-refusals; !strings.Contains(refusal.GetReason(), "does not know") {
		t.Errorf("refusal is %v", refusal)
	}
	if _, err := first.Write([]byte("\x00\x00\x00\x02\xff\xff")); err != nil {
		t.Fatal(err)
	}
	if refusal := <-refusals; !strings.Contains(refusal.GetReason(), "decode") {
		t.Errorf("refusal is %v", refusal)
	}

	// A newer connection replaces it; the spec stays.
	second := source.connect()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the older connection ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the older connection lives on")
	}
	r2, w2 := specio.NewReader(second), specio.NewWriter(second)
	if o := next(t, r2, (*netspec.FromService).GetObservation); o.GetAppliedGeneration() != 2 {
		t.Errorf("observation for the newer peer is %v", o)
	}
	go func() { _, _ = io.Copy(io.Discard, second) }()
	send(t, w2, &netspec.ToService{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{KeepState: true}}})
	select {
	case err := <-served:
		var shutdown *ErrShutdown
		if !errors.As(err, &shutdown) || !shutdown.KeepState {
			t.Errorf("Serve returned %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve goes on after the shutdown")
	}
}

func TestSessionOutOfStepIsClosed(t *testing.T) {
	_, n := newStage(t)
	source := make(pipes)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, source) }()
	peer := source.connect()
	go func() { _, _ = peer.Write([]byte("GET / HTTP/1.0\r\n\r\n")) }()
	_ = peer.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, peer); err != nil {
		t.Errorf("the stream was not closed: %v", err)
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v", err)
	}
}
