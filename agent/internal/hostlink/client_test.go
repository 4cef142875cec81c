package hostlink_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/hostlink"
	"github.com/wispcloud/wisp/agent/internal/hostlink/linktest"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// fakeHost writes down specs and observes what the test says.
type fakeHost struct {
	mu       sync.Mutex
	specs    []*hostspec.HostSpec
	accepted chan struct{}
	changed  chan struct{}
	kernel   string
}

func newFakeHost() *fakeHost {
	return &fakeHost{accepted: make(chan struct{}, 100), changed: make(chan struct{}, 1)}
}

func (h *fakeHost) Accept(s *hostspec.HostSpec) error {
	h.mu.Lock()
	h.specs = append(h.specs, s)
	h.mu.Unlock()
	h.accepted <- struct{}{}
	if s.GetGeneration() == 13 {
		return errors.New("unlucky")
	}
	return nil
}

func (h *fakeHost) Generation() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.specs) == 0 {
		return 0
	}
	return h.specs[len(h.specs)-1].GetGeneration()
}

func (h *fakeHost) Observe(context.Context) *hostspec.HostObservation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &hostspec.HostObservation{Facts: &hostspec.HostFacts{KernelVersion: h.kernel}}
}

func (h *fakeHost) set(kernel string) {
	h.mu.Lock()
	h.kernel = kernel
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *fakeHost) Changed() <-chan struct{} { return h.changed }

func (h *fakeHost) Facts(context.Context) *hostspec.HostFacts {
	return &hostspec.HostFacts{Hostname: "h1"}
}

// agent is a client that runs.
type agent struct {
	*hostlink.Client
	t    *testing.T
	host *fakeHost
	log  *bytes.Buffer
	stop func()
}

// awaitError waits until the link is down with an error that says want.
func (a *agent) awaitError(want string) {
	a.t.Helper()
	poll(a.t, "error with "+want, func() (bool, any) {
		_, err := a.Connected()
		return err != nil && strings.Contains(err.Error(), want), err
	})
}

// poll waits until ok says so; what ok saw last is told when it never does.
func poll(t *testing.T, what string, ok func() (bool, any)) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		done, saw := ok()
		if done {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: saw last %v", what, saw)
		case <-tick.C:
		}
	}
}

// syncWriter lets a log be written by many.
type syncWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func run(t *testing.T, files ledger.Files, token string) *agent {
	t.Helper()
	a := &agent{t: t, host: newFakeHost(), log: &bytes.Buffer{}}
	c, err := hostlink.New(hostlink.Config{
		Files: files, Token: token, Version: "1", BootID: "boot", Host: a.host,
		Log: slog.New(slog.NewTextHandler(&syncWriter{w: a.log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Client = c
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	a.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if text := a.log.String(); token != "" && strings.Contains(text, token) {
			t.Errorf("the token is in the log:\n%s", text)
		}
	})
	t.Cleanup(a.stop)
	return a
}

func coordinator(t *testing.T) (*linktest.Authority, *linktest.Coordinator) {
	t.Helper()
	authority, err := linktest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return authority, another(t, authority, "127.0.0.1:0")
}

func another(t *testing.T, authority *linktest.Authority, address string) *linktest.Coordinator {
	t.Helper()
	c, err := linktest.Start(authority, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func await(t *testing.T, c *linktest.Coordinator, host, kernel string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := c.Wait(ctx, host, func(o *hostspec.HostObservation) bool { return o.GetFacts().GetKernelVersion() == kernel })
	if err != nil {
		t.Fatal(err)
	}
}

func TestJoinAndLink(t *testing.T) {
	_, c := coordinator(t)
	token, id := c.Token()
	files := &ledger.Memory{}
	a := run(t, files, token)
	await(t, c, id, "")
	if got := a.HostID(); got != id {
		t.Errorf("host id %q, want %q", got, id)
	}
	for generation := range uint64(3) {
		c.SetSpec(&hostspec.HostSpec{HostId: id, Generation: generation + 12})
		<-a.host.accepted
	}
	want := &hostspec.HostSpec{HostId: id, Generation: 14}
	if diff := cmp.Diff(want, a.host.specs[2], protocmp.Transform()); diff != "" {
		t.Errorf("a spec after a refused one (-want +got):\n%s", diff)
	}
	begin := time.Now()
	a.host.set("new")
	await(t, c, id, "new")
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("a change was observed after %s", took)
	}

	// The next agent needs no token.
	a.stop()
	hellos := len(c.Hellos())
	b := run(t, files, "")
	<-b.host.accepted
	if got := c.Hellos()[hellos]; got.GetHostId() != id || got.GetBootId() != "boot" {
		t.Errorf("hello %v", got)
	}
}

func TestNoTokenNoIdentity(t *testing.T) {
	_, err := hostlink.New(hostlink.Config{Files: &ledger.Memory{}, Host: newFakeHost(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "not joined") {
		t.Errorf("error %v", err)
	}
}

// An agent does what nobody says but the coordinator: one that cannot show the authority of the token gets nothing.
func TestCVE_2024_38346_Impostor(t *testing.T) {
	_, honest := coordinator(t)
	_, impostor := coordinator(t)
	token, id := honest.Token(impostor.Address())
	a := run(t, &ledger.Memory{}, token)
	a.awaitError("does not show the authority")
	if a.HostID() != "" || impostor.Seen(id) != nil {
		t.Error("the impostor was believed")
	}
}

// The same for a host that has joined.
func TestCVE_2024_38346_ImpostorLater(t *testing.T) {
	_, c := coordinator(t)
	token, id := c.Token()
	a := run(t, &ledger.Memory{}, token)
	await(t, c, id, "")
	address := c.Address()
	c.Kill()
	other, err := linktest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	impostor := another(t, other, address)
	a.awaitError("certificate")
	if len(impostor.Hellos()) != 0 {
		t.Error("the impostor was greeted")
	}
}

// TestFailover: one of the addresses answers.
func TestFailover(t *testing.T) {
	_, c := coordinator(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	token, id := c.Token(address, c.Address())
	run(t, &ledger.Memory{}, token)
	await(t, c, id, "")
}

func TestCoordinatorRestart(t *testing.T) {
	authority, c := coordinator(t)
	token, id := c.Token()
	a := run(t, &ledger.Memory{}, token)
	await(t, c, id, "")
	address := c.Address()
	c.Kill()
	a.host.set("meanwhile")
	c = another(t, authority, address)
	begin := time.Now()
	await(t, c, id, "meanwhile")
	t.Logf("back after %.2f s", time.Since(begin).Seconds())
}

// TestRenewal: certificates that live seconds are replaced again and again, and the last one is good for a new link.
func TestRenewal(t *testing.T) {
	authority, c := coordinator(t)
	c.Lifetime(3 * time.Second)
	token, id := c.Token()
	a := run(t, &ledger.Memory{}, token)
	await(t, c, id, "")
	poll(t, "two renewals", func() (bool, any) { return c.Renewals() >= 2, c.Renewals() })
	address := c.Address()
	c.Kill()
	a.host.set("renewed")
	await(t, another(t, authority, address), id, "renewed")
}

// fullDisk cannot keep an identity at first.
type fullDisk struct {
	ledger.Memory
	mu    sync.Mutex
	tries int
}

func (f *fullDisk) Replace(name, keep string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name == "identity.json" {
		if f.tries++; f.tries == 1 {
			return errors.New("no space left on device")
		}
	}
	return f.Memory.Replace(name, keep, data)
}

// TestJoinTwice: the answer to a join is lost on its way to the disk. The next try uses the same key, so it is the same
// host; with another key the token is used up.
func TestJoinTwice(t *testing.T) {
	_, c := coordinator(t)
	token, id := c.Token()
	files := &fullDisk{}
	first := run(t, files, token)
	await(t, c, id, "")
	first.stop()
	if key, err := files.Read("join-key.json"); err == nil {
		t.Errorf("the key of a finished join is still there: %d bytes", len(key))
	}
	second := run(t, &ledger.Memory{}, token)
	second.awaitError("used up")
}

func TestFetch(t *testing.T) {
	_, c := coordinator(t)
	token, id := c.Token()
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	sum := c.AddImage(data)
	a := run(t, &ledger.Memory{}, token)
	if _, err := a.Fetch(t.Context(), sum, 0, io.Discard); err == nil {
		t.Error("fetched without a link")
	}
	await(t, c, id, "")
	c.CutImages(600_000)
	var got bytes.Buffer
	if _, err := a.Fetch(t.Context(), sum, 0, &got); err == nil || got.Len() != 600_000 {
		t.Fatalf("%d bytes, error %v; want a cut at 600,000", got.Len(), err)
	}
	c.CutImages(0)
	if _, err := a.Fetch(t.Context(), sum, uint64(got.Len()), &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d bytes differ from what was offered", got.Len())
	}
	if _, err := a.Fetch(t.Context(), strings.Repeat("0", 64), 0, io.Discard); !desired.IsPermanent(err) {
		t.Errorf("unknown image: %v, want a permanent error", err)
	}
}
