package metadata

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
	"github.com/wispcloud/wisp/proto/netspec"
)

var (
	guestMAC = kernel.MAC{2, 0, 0, 0, 1, 1}
	otherMAC = kernel.MAC{2, 0, 0, 0, 1, 2}
	loopback = netip.MustParseAddr("127.0.0.1")
)

// loopKernel is the fake with listeners on the machine's loopback, whose port is chosen by the kernel.
type loopKernel struct {
	*fake.Kernel
	at     string
	sender kernel.MAC
}

func (k *loopKernel) ListenTCP(string, netip.AddrPort) (*net.TCPListener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k.at = l.Addr().String()
	return l.(*net.TCPListener), nil
}

func (k *loopKernel) LinkIndex(string) (int, error) { return 2, nil }

func (k *loopKernel) SenderMAC(*net.TCPConn) (kernel.MAC, bool) {
	return k.sender, k.sender != kernel.MAC{}
}

func newTestService(t testing.TB) (*Service, *loopKernel) {
	t.Helper()
	k := &loopKernel{Kernel: fake.New()}
	k.AddLink("svc0", kernel.MAC{2}, 1500)
	k.SetNeighbour(2, loopback, guestMAC)
	s := New(k, slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	err := s.Apply(t.Context(), &netspec.Metadata{
		Links: []string{"svc0"}, Listen: []string{"10.1.1.2"},
		Guests: []*netspec.GuestData{{Ip: "127.0.0.1", Mac: guestMAC.String(), UserData: []byte("data"), MetaData: map[string]string{"k": "v"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

func get(t *testing.T, k *loopKernel) string {
	t.Helper()
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + k.at + "/latest/user-data")
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return fmt.Sprintf("%d %s", r.StatusCode, b)
}

func TestOnlyTheGuestItselfIsServed(t *testing.T) {
	s, k := newTestService(t)
	const notFound = "404 404 page not found\n"
	for _, step := range []struct {
		name      string
		neighbour kernel.MAC
		sender    kernel.MAC
		want      string
	}{
		{"neighbour as expected, sender not known", guestMAC, kernel.MAC{}, "200 data"},
		{"both as expected", guestMAC, guestMAC, "200 data"},
		{"another neighbour has the address", otherMAC, kernel.MAC{}, notFound},
		{"another machine opened the connection", guestMAC, otherMAC, notFound},
	} {
		k.SetNeighbour(2, loopback, step.neighbour)
		k.sender = step.sender
		if got := get(t, k); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
	}
	if n := s.Counts()["dropped_spoofed"]; n != 2 {
		t.Errorf("counted %d spoofed requests, want 2", n)
	}
	k.SetNeighbour(2, loopback, guestMAC)
	k.sender = guestMAC
	if err := s.Apply(t.Context(), &netspec.Metadata{Links: []string{"svc0"}, Listen: []string{"10.1.1.2"}}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, k); got != notFound {
		t.Errorf("a guest that left the spec: got %q", got)
	}
	if err := s.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := get(t, k); !strings.Contains(got, "refused") {
		t.Errorf("not wanted any more: got %q", got)
	}
}

// Who asks is decided by the connection, whatever a client writes about itself.
func TestCVE_2024_29006_HeadersAreNotBelieved(t *testing.T) {
	_, k := newTestService(t)
	k.SetNeighbour(2, netip.MustParseAddr("127.0.0.2"), otherMAC)
	stranger := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext,
	}}
	for header, value := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "X-Client-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+k.at+"/latest/user-data", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(header, value)
		answer, err := stranger.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: a stranger got %d %q", header, answer.StatusCode, body)
		}
	}
	if got := get(t, k); got != "200 data" {
		t.Errorf("the guest itself got %q", got)
	}
}

func TestLimits(t *testing.T) {
	s, k := newTestService(t)
	var conns []net.Conn
	for range connsPerGuest {
		c, err := net.Dial("tcp4", k.at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /latest/k HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != 200 {
			t.Fatalf("within the limit: %v, %v", r, err)
		}
		conns = append(conns, c)
	}
	c, err := net.Dial("tcp4", k.at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || n != 0 || s.Counts()["limited"] != 1 {
		t.Errorf("above the limit: read %d, %v, counts %v", n, err, s.Counts())
	}
	conns[0].Close()
	deadline := time.Now().Add(5 * time.Second)
	for get(t, k) != "200 data" {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection's place is not given back")
		}
	}
	big := "GET /latest/k HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n"
	conns[1].Close()
	c, err = net.Dial("tcp4", k.at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = io.WriteString(c, big) }()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("header of 32 KiB: %v", r.Status)
	}
}

// TestMagicAddress: 169.254.169.254 stands on the links that serve it and on no other, whoever put it there.
func TestMagicAddress(t *testing.T) {
	k := &loopKernel{Kernel: fake.New()}
	k.AddLink("svc0", kernel.MAC{1}, 1500)
	k.AddLink("gw0", kernel.MAC{2}, 1500)
	k.AddLink("pub0", kernel.MAC{3}, 1500)
	state := func() string {
		text, err := kernel.Text(t.Context(), k, kernel.TextOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for line := range strings.Lines(text) {
			if name, ok := strings.CutPrefix(line, "link "); ok {
				b.WriteString(" " + strings.Fields(name)[0])
			} else {
				b.WriteString("=" + strings.TrimPrefix(strings.TrimSpace(line), "address "))
			}
		}
		return strings.TrimSpace(b.String())
	}
	const on = "=169.254.169.254/32 scope link"
	with := func(links ...string) *netspec.Metadata {
		return &netspec.Metadata{Links: links, Listen: []string{"10.1.1.2", "169.254.169.254"}}
	}
	for _, step := range []struct {
		name string
		want *netspec.Metadata
		text string
	}{
		{"both legs", with("svc0", "gw0"), "gw0" + on + " pub0 svc0" + on},
		{"one leg", with("svc0"), "gw0 pub0 svc0" + on},
		{"not listed", &netspec.Metadata{Links: []string{"svc0"}, Listen: []string{"10.1.1.2"}}, "gw0 pub0 svc0"},
		{"the other leg", with("gw0"), "gw0" + on + " pub0 svc0"},
		{"not wanted", nil, "gw0 pub0 svc0"},
	} {
		s := New(k, slog.New(slog.DiscardHandler)) // as after a restart: nothing is remembered
		if err := s.Apply(t.Context(), step.want); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		k.Journal()
		if err := s.Apply(t.Context(), step.want); err != nil || len(k.Journal()) > 0 {
			t.Errorf("%s: applied again: %v", step.name, err)
		}
		if diff := cmp.Diff(step.text, state()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		s.Close()
	}
}

// FuzzRequest sends bytes to a real server over a real connection: it must live on and serve the next.
func FuzzRequest(f *testing.F) {
	for _, request := range []string{
		"GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\r\n\r\n", "HEAD //latest HTTP/1.0\n\n",
		"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
		"GET http://10.1.1.12/latest/user-data HTTP/1.1\r\nHost: y\r\nX-Forwarded-For: 10.1.1.12\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		f.Add([]byte(request))
	}
	s, k := newTestService(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		c, err := net.Dial("tcp4", k.at)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write(request)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
		if s.guests.Load() == nil {
			t.Fatal("guests are gone")
		}
	})
}
