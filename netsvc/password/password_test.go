package password

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/proto/netspec"
)

func TestReadRequest(t *testing.T) {
	tests := []struct {
		name, request, want string
	}{
		{"wget", "GET / HTTP/1.1\r\nUser-Agent: Wget/1.20\r\nAccept: */*\r\nHost: 10.1.1.1:8080\r\nDomU_Request: send_my_password\r\n\r\n", "send_my_password"},
		{"other case", "GET / HTTP/1.0\r\ndomu_request: saved_password\r\n\r\n", "saved_password"},
		{"bare newlines, no version, no space", "GET /\nDomU_Request:send_my_password\n\n", "send_my_password"},
		{"no empty line, end of stream", "GET / HTTP/1.0\r\nDomU_Request: send_my_password\r\n", "send_my_password"},
		{"no newline at all", "DomU_Request: send_my_password", "send_my_password"},
		{"mixed ends of lines", "GET / HTTP/1.0\nDomU_Request: send_my_password\r\n\nDomU_Request: x\n\n", "send_my_password"},
		{"body is not looked at", "POST / HTTP/1.0\r\n\r\nDomU_Request: send_my_password\r\n\r\n", ""},
		{"no header", "GET / HTTP/1.0\r\n\r\n", ""},
		{"first counts", "GET / HTTP/1.0\r\nDomU_Request: a\r\nDomU_Request: b\r\n\r\n", "a"},
		{"noise", "\x16\x03\x01\x02\x00\n\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.request), iotest.OneByteReader(strings.NewReader(tt.request))} {
				if got, err := readRequest(r); err != nil || got != tt.want {
					t.Errorf("got %q, %v, want %q", got, err, tt.want)
				}
			}
		})
	}
	if _, err := readRequest(strings.NewReader("")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := readRequest(strings.NewReader("GET / HTTP/1.0\r\nX: " + strings.Repeat("x", 5000))); !errors.Is(err, errTooLong) {
		t.Errorf("endless header: %v", err)
	}
}

var (
	ip1, ip2 = netip.MustParseAddr("10.1.1.11"), netip.MustParseAddr("10.1.1.12")
	mac1     = kernel.MAC{2, 0, 0, 0, 1, 1}
)

func want(password string, epoch uint64) *netspec.Password {
	return &netspec.Password{Guests: []*netspec.GuestPassword{
		{Ip: ip1.String(), Mac: mac1.String(), Password: password, Epoch: epoch},
		{Ip: ip2.String(), Mac: "02:00:00:00:01:02"},
	}}
}

func TestAnswer(t *testing.T) {
	var log strings.Builder
	s := New(nil, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), func() {})
	honest := func(mac kernel.MAC) error { return nil }
	spoofed := func(mac kernel.MAC) error { return errors.New("another machine") }
	apply := func(w *netspec.Password) {
		t.Helper()
		if err := s.Apply(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(name, request string, peer netip.Addr, verify func(kernel.MAC) error, want string) {
		t.Helper()
		got, _ := s.answer(request, peer, verify)
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	apply(want("one", 1))
	expect("stranger", "send_my_password", netip.MustParseAddr("10.1.1.99"), honest, saved)
	expect("spoofed", "send_my_password", ip1, spoofed, saved)
	expect("without one", "send_my_password", ip2, honest, saved)
	expect("without one, confirms", "saved_password", ip2, honest, saved)
	expect("nonsense", "", ip1, honest, bad)
	expect("nonsense", "SEND_MY_PASSWORD", ip1, honest, bad)
	expect("send", "send_my_password", ip1, honest, "one")
	expect("spoofed confirmation", "saved_password", ip1, spoofed, saved)
	expect("send again", "send_my_password", ip1, honest, "one")
	expect("confirm", "saved_password", ip1, honest, saved)
	expect("after the confirmation", "send_my_password", ip1, honest, saved)
	expect("confirm again", "saved_password", ip1, honest, saved)
	apply(want("one", 1)) // the same spec: still confirmed
	expect("same spec", "send_my_password", ip1, honest, saved)
	if diff := cmp.Diff([]Taken{{ip1, 1}}, s.Taken(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	apply(want("two", 2))
	if len(s.Taken()) != 0 {
		t.Errorf("taken after a new password: %v", s.Taken())
	}
	expect("new password", "send_my_password", ip1, honest, "two")
	apply(nil)
	expect("not wanted", "send_my_password", ip1, honest, saved)
	for _, secret := range []string{"one", "two"} {
		if strings.Contains(strings.ReplaceAll(log.String(), "another machine", ""), secret) {
			t.Errorf("the log holds %q:\n%s", secret, log.String())
		}
	}
}

func TestBadGuestsDoNotStopTheOthers(t *testing.T) {
	s := New(nil, slog.New(slog.DiscardHandler), func() {})
	w := want("one", 1)
	w.Guests = append(w.Guests, &netspec.GuestPassword{Ip: "x", Password: "hidden"}, &netspec.GuestPassword{Ip: "10.1.1.13", Mac: "x", Password: "hidden"},
		&netspec.GuestPassword{Ip: ip1.String(), Mac: mac1.String(), Password: "hidden"})
	err := s.Apply(t.Context(), w)
	for _, part := range []string{`guest "x"`, "guest 10.1.1.13", "given twice"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
	if strings.Contains(fmt.Sprint(err), "hidden") {
		t.Errorf("the error holds a password: %v", err)
	}
	if got, _ := s.answer("send_my_password", ip1, func(kernel.MAC) error { return nil }); got != "one" {
		t.Errorf("got %q", got)
	}
}

// FuzzReadRequest: whatever a guest sends, reading ends, and only DomU_Request's value comes out of it.
func FuzzReadRequest(f *testing.F) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\nDomU_Request: send_my_password\r\n\r\n", "DomU_Request:saved_password\n\n", "\n\n", ":\r\n\r\n",
		"GET / HTTP/1.0\nDomU_Request: \x00\n\r\n",
	} {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		got, err := readRequest(strings.NewReader(string(request)))
		if err != nil && got != "" {
			t.Fatalf("%q beside %v", got, err)
		}
		if !strings.Contains(string(request), got) || strings.ContainsAny(got, "\n") {
			t.Fatalf("%q is not of the request", got)
		}
		slow, slowErr := readRequest(iotest.OneByteReader(strings.NewReader(string(request))))
		if len(request) < maxRequest && (slow != got || (slowErr == nil) != (err == nil)) {
			t.Fatalf("byte by byte %q, %v; at once %q, %v", slow, slowErr, got, err)
		}
	})
}

// TestRecall: what an earlier process was told counts, for exactly that password.
func TestRecall(t *testing.T) {
	honest := func(kernel.MAC) error { return nil }
	for _, tt := range []struct {
		name  string
		epoch uint64
		late  bool
		want  string
		taken []Taken
	}{
		{"the same password", 3, false, saved, []Taken{{ip1, 3}}},
		{"the same password, told late", 3, true, saved, []Taken{{ip1, 3}}},
		{"an earlier password", 2, false, "secret", []Taken{}},
		{"an earlier password, told late", 2, true, "secret", []Taken{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(nil, slog.New(slog.DiscardHandler), func() {})
			recall := func() { s.Recall([]Taken{{ip1, tt.epoch}, {netip.MustParseAddr("10.9.9.9"), 1}}) }
			if !tt.late {
				recall()
			}
			if err := s.Apply(t.Context(), want("secret", 3)); err != nil {
				t.Fatal(err)
			}
			if tt.late {
				recall()
			}
			if got, _ := s.answer("send_my_password", ip1, honest); got != tt.want {
				t.Errorf("the guest got %q, want %q", got, tt.want)
			}
			if diff := cmp.Diff(tt.taken, s.Taken(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("reported (-want +got):\n%s", diff)
			}
		})
	}
}
