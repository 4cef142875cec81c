package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// port starts a server of the real library on a loopback address.
func port(t *testing.T, ip string, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func documents(d map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := d[r.URL.Path]
		switch {
		case text == "error":
			http.Error(w, "broken", http.StatusServiceUnavailable)
		case !ok:
			http.NotFound(w, r)
		default:
			_, _ = io.WriteString(w, text)
		}
	})
}

func TestReadMetadata(t *testing.T) {
	const key = "ssh-ed25519 AAAA x"
	for _, tc := range []struct {
		name string
		docs map[string]string
		want metadata
		err  bool
	}{
		{"everything", map[string]string{
			"/latest/user-data": "data\x00\n", "/latest/meta-data/": "vm-id\npublic-keys\ngone\n",
			"/latest/meta-data/vm-id": "7\n", "/latest/meta-data/public-keys": key + "\n",
		}, metadata{UserData: []byte("data\x00\n"), Values: map[string]string{"vm-id": "7", "public-keys": key}}, false},
		{
			"key without a list",
			map[string]string{"/latest/meta-data/public-keys": key},
			metadata{Values: map[string]string{"public-keys": key}},
			false,
		},
		{"index of keys", map[string]string{
			"/latest/meta-data/public-keys": "0=a\n1=b", "/latest/meta-data/public-keys/0/openssh-key": key, "/latest/meta-data/public-keys/1/openssh-key": key + "2\n",
		}, metadata{Values: map[string]string{"public-keys": key + "\n" + key + "2"}}, false},
		{"nothing", nil, metadata{Values: map[string]string{}}, false},
		{"broken user-data", map[string]string{"/latest/user-data": "error"}, metadata{}, true},
		{"broken value", map[string]string{"/latest/meta-data/": "a\n", "/latest/meta-data/a": "error"}, metadata{}, true},
		{"too large", map[string]string{"/latest/user-data": strings.Repeat("x", maxUserData+1)}, metadata{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &client{metadataPort: port(t, "127.0.0.1", documents(tc.docs))}
			// Nobody listens at the first source.
			got, err := c.read(t.Context(), []string{"127.0.0.9", "127.0.0.1"})
			if tc.err {
				if err == nil {
					t.Errorf("read %v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Source = "127.0.0.1"
			if len(got.UserData) == 0 {
				got.UserData = nil
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPassword(t *testing.T) {
	for answer, want := range map[string]string{
		"s3cret <&\"\n": `s3cret <&"`, "saved_password\n": "", "bad_request": "", "": "", " spaces \r\n": " spaces ",
	} {
		var asked []string
		c := &client{passwordPort: port(t, "127.0.0.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("DomU_Request"))
			_, _ = io.WriteString(w, answer)
		}))}
		got, err := c.askPassword(t.Context(), "127.0.0.1")
		if err != nil || got != want {
			t.Errorf("answer %q gave %q, %v; want %q", answer, got, err, want)
		}
		if err := c.confirmPassword(t.Context(), "127.0.0.1"); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"GET / send_my_password", "GET / saved_password"}, asked); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	}
	for _, bad := range []string{"two\nlines", strings.Repeat("x", 513)} {
		c := &client{passwordPort: port(t, "127.0.0.1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, bad) }))}
		if got, err := c.askPassword(t.Context(), "127.0.0.1"); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("answer %.20q gave %q, %v", bad, got, err)
		}
	}
}

func TestReadResponse(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want string
		err      error // nil: none; errAny: whichever
	}{
		"plain":          {"HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody", "body", nil},
		"length":         {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest", "body", nil},
		"empty":          {"HTTP/1.0 200\r\n\r\n", "", nil},
		"absent":         {"HTTP/1.0 404 Not Found\r\n\r\n", "", errAbsent},
		"cut":            {"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nbody", "", io.ErrUnexpectedEOF},
		"chunked":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "", errAny},
		"redirect":       {"HTTP/1.0 302 Found\r\nLocation: http://x/\r\n\r\n", "", errAny},
		"not HTTP":       {"SSH-2.0-dropbear\r\n", "", errAny},
		"nothing":        {"", "", errAny},
		"bad length":     {"HTTP/1.0 200 OK\r\nContent-Length: -1\r\n\r\nbody", "", errAny},
		"too large":      {"HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("x", 101), "", errAny},
		"endless header": {"HTTP/1.0 200 OK\r\nA: " + strings.Repeat("x", 1<<20), "", errAny},
	} {
		got, err := readResponse(strings.NewReader(tc.in), 100)
		if string(got) != tc.want || (tc.err == nil) != (err == nil) || !errors.Is(tc.err, errAny) && !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v; want %q, %v", name, got, err, tc.want, tc.err)
		}
	}
}

var errAny = errors.New("any")

func FuzzReadResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
	f.Add("HTTP/1.0 404 Not Found\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		b, err := readResponse(strings.NewReader(in), 100)
		if err == nil && len(b) > 100 {
			t.Errorf("%d bytes were returned", len(b))
		}
	})
}

func testPage(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- serveHTTP(l, pageHandler(func() info { return info{Name: "hello", UserDataBase64: []byte("data\x00")} }))
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestPage asks with the real client library.
func TestPage(t *testing.T) {
	address := testPage(t)
	for path, want := range map[string]string{"/name": "200 OK text/plain; charset=utf-8 hello\n", "/user-data?x": "200 OK application/octet-stream data\x00", "/x": "404 Not Found text/plain not found\n"} {
		for _, method := range []string{"GET", "HEAD"} {
			req, err := http.NewRequest(method, "http://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			w := want
			if method == "HEAD" {
				w = strings.TrimSuffix(w, "hello\n")
				w = strings.TrimSuffix(w, "data\x00")
				w = strings.TrimSuffix(w, "not found\n")
			}
			if got := r.Status + " " + r.Header.Get("Content-Type") + " " + string(body); got != w {
				t.Errorf("%s %s: %q, want %q", method, path, got, w)
			}
		}
	}
	r, err := http.Post("http://"+address+"/", "text/plain", strings.NewReader(strings.Repeat("x", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", r.Status)
	}
}

// TestPageRaw speaks to it as health checks and strangers do.
func TestPageRaw(t *testing.T) {
	address := testPage(t)
	for in, want := range map[string]string{
		"GET /name HTTP/1.0\r\n\r\n": "HTTP/1.1 200 OK\r\n",
		"HEAD / HTTP/1.0\r\n\r\n":    "HTTP/1.1 200 OK\r\n",
		"GET\r\n\r\n":                "HTTP/1.1 400 Bad Request\r\n",
		"\x16\x03\x01\r\n":           "HTTP/1.1 400 Bad Request\r\n",
	} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, in); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		b, err := io.ReadAll(c)
		c.Close()
		if err != nil || !strings.HasPrefix(string(b), want) {
			t.Errorf("%q: %.60q, %v", in, b, err)
		}
	}
}

func TestHTTPGetCancelled(t *testing.T) {
	p := port(t, "127.0.0.1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := httpGet(ctx, net.JoinHostPort("127.0.0.1", p), "/", nil, 10); err == nil {
		t.Error("a server that never answers gave an answer")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
