package specsource

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// wire is a port: one stream for as long as the machine lives, with a buffer that outlives those at its ends.
type wire struct {
	net.Conn
	hangUp    chan struct{}
	connected atomic.Bool
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		select {
		case <-w.hangUp:
			return 0, errors.Join(errHangUp, w.SetReadDeadline(time.Time{}))
		default:
		}
	}
	return n, err
}

func (w *wire) HostConnected() bool { return w.connected.Load() }

// newPort returns a port's guest end as a source, and its host end.
func newPort(t *testing.T) (*portSource, *wire, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "port"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	guest, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	host, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	w := &wire{Conn: guest, hangUp: make(chan struct{}, 1)}
	w.connected.Store(true)
	p := newPortSource(w)
	t.Cleanup(func() { p.Close(); host.Close() })
	return p, w, host
}

func message(generation uint64) *netspec.ToService {
	return &netspec.ToService{Message: &netspec.ToService_Apply{Apply: &netspec.NetSpec{Generation: generation}}}
}

func observation(generation uint64) *netspec.FromService {
	return &netspec.FromService{Message: &netspec.FromService_Observation{
		Observation: &netspec.Observation{AppliedGeneration: generation},
	}}
}

// talk sends a message each way through a session that is new on both sides.
func talk(t *testing.T, p *portSource, host net.Conn, generation uint64) (atHost net.Conn, atGuest io.ReadWriteCloser) {
	t.Helper()
	session, err := specio.Begin(host)
	if err != nil {
		t.Fatal(err)
	}
	if err := specio.NewWriter(session).Write(message(generation)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var peer io.ReadWriteCloser
	var r *specio.Reader
	var got netspec.ToService
	for { // a session that ends before its first message was a dead one's
		if peer, err = p.Accept(ctx); err != nil {
			t.Fatal(err)
		}
		r = specio.NewReader(peer)
		if r.Read(&got) == nil {
			break
		}
	}
	if diff := cmp.Diff(message(generation), &got, protocmp.Transform()); diff != "" {
		t.Errorf("the guest read (-want +got):\n%s", diff)
	}
	if err := specio.NewWriter(peer).Write(observation(generation)); err != nil {
		t.Fatal(err)
	}
	var answer netspec.FromService
	if err := specio.NewReader(session).Read(&answer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(observation(generation), &answer, protocmp.Transform()); diff != "" {
		t.Errorf("the host read (-want +got):\n%s", diff)
	}
	go func() { // as a namespace does: a session is read until it ends
		for r.Read(&netspec.ToService{}) == nil {
			continue
		}
	}()
	return session, peer
}

func TestPortSessionsFollowEachOther(t *testing.T) {
	p, _, host := newPort(t)
	// What the end of a session leaves on the port in either direction, before the next.
	leftovers := []struct{ name, toGuest, toHost string }{
		{"nothing", "", ""},
		{"half a header", "\x00\x00", "\x00"},
		{"half a message", "\x80\x00\x00\x10abc", "\x00\x00\x00\x40x"},
		{"a whole message that says more follow", "\x80\x00\x00\x01a", "\x80\x00\x00\x01a"},
		{"half an escape", "\x1b", "\x1b"},
		{"half a beginning", "\x1b\x01abc", "\x1b\x01abc"},
		{"a beginning of nobody's session", "\x1b\x01abcdefgh\x00\x00\x00\x01", "\x1b\x01abcdefgh"},
		{"noise", "\x1b\x77\xff\xff", "\x1b\x77\xff\xff"},
	}
	for i, tt := range leftovers {
		t.Run(tt.name, func(t *testing.T) {
			_, peer := talk(t, p, host, uint64(i+1))
			if _, err := io.WriteString(p.dev, tt.toHost); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(host, tt.toGuest); err != nil {
				t.Fatal(err)
			}
			talk(t, p, host, uint64(100+i))
			if _, err := peer.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
				t.Errorf("write to the session before: %v", err)
			}
		})
	}
}

func TestPortEndsSessionOfAHostThatWentAway(t *testing.T) {
	p, w, host := newPort(t)
	_, peer := talk(t, p, host, 1)
	w.connected.Store(false)
	w.hangUp <- struct{}{}
	if err := w.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := peer.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d", n)
	}
	w.connected.Store(true)
	talk(t, p, host, 2)
}

// A guest without a session asks for one, or a host whose peer was replaced would speak to nobody for ever.
func TestPortCallsForSession(t *testing.T) {
	p, _, host := newPort(t)
	session, peer := talk(t, p, host, 1)
	peer.Close()
	if err := specio.NewReader(session).Read(&netspec.FromService{}); !errors.Is(err, specio.ErrNoSession) {
		t.Errorf("got %v", err)
	}
	talk(t, p, host, 2)
}

// A writer whose host does not read is not stuck for ever: neither when a new session begins nor after its deadline.
func TestPortWriterIsReleased(t *testing.T) {
	p, _, host := newPort(t)
	_, peer := talk(t, p, host, 1)
	fill := func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, specio.MaxChunk)); err != nil {
				return err
			}
		}
	}
	stuck := make(chan error)
	go func() { stuck <- fill(peer) }()
	second, err := specio.Begin(host)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-stuck; err == nil {
		t.Error("the writer of the old session went on")
	}
	next, err := p.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := next.(*portSession).SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := fill(next); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	second.Close()
}

func TestPortCloseEndsEverything(t *testing.T) {
	p, _, host := newPort(t)
	_, peer := talk(t, p, host, 1)
	p.Close()
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	if _, err := p.Accept(t.Context()); err == nil {
		t.Error("accepted after the end")
	}
}

func TestFindVirtio(t *testing.T) {
	class := t.TempDir()
	for port, name := range map[string]string{"vport1p1": "org.qemu.guest_agent.0\n", "vport1p2": "org.wispcloud.netspec.0\n"} {
		if err := os.Mkdir(filepath.Join(class, port), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(class, port, "name"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := findVirtio(class, "/dev", "org.wispcloud.netspec.0"); got != "/dev/vport1p2" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	got, err := findVirtio(class, "/dev", "org.wispcloud")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %q, %v", got, err)
	}
}
