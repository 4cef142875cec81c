package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// This file is the little of HTTP the guest needs, in place of net/http: that one
// brings TLS and doubles both the program (1.3 MB of an image that has to stay
// below 20) and the time it takes to start under emulation. Both sides speak one
// request per connection, RFC 1945, which every peer of today understands.

// errAbsent is a definite "no such document", as opposed to no answer.
var errAbsent = errors.New("not found")

// httpGet fetches path from address (host:port). header lines are sent as they
// are. More than limit bytes of body are an error.
func httpGet(ctx context.Context, address, path string, header []string, limit int64) ([]byte, error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline := time.Now().Add(15 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	lines := append([]string{"GET " + path + " HTTP/1.0", "Host: " + host, "User-Agent: wisp-guest", "Connection: close"}, header...)
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		return nil, err
	}
	body, err := readResponse(conn, limit)
	if err != nil && !errors.Is(err, errAbsent) {
		err = fmt.Errorf("get %s from %s: %w", path, address, err)
	}
	return body, err
}

const maxHeader = 16 << 10

// readResponse reads status, header and body. Where the server says how long the
// body is, a shorter one is an error: the connection broke.
func readResponse(r io.Reader, limit int64) ([]byte, error) {
	limited := &io.LimitedReader{R: r, N: limit + maxHeader}
	b := bufio.NewReader(limited)
	t := textproto.NewReader(b)
	line, err := t.ReadLine()
	if err != nil {
		return nil, err
	}
	f := strings.SplitN(line, " ", 3)
	if len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/1.") {
		return nil, errors.New("the answer is not HTTP")
	}
	switch f[1] {
	case "200":
	case "404":
		return nil, errAbsent
	default:
		return nil, fmt.Errorf("status %.40s", line)
	}
	header, err := t.ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	if header.Get("Transfer-Encoding") != "" {
		return nil, errors.New("the answer has a transfer encoding, which HTTP/1.0 has not")
	}
	body, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	if v := header.Get("Content-Length"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("content length %.20q", v)
		}
		if int64(len(body)) < n {
			return nil, io.ErrUnexpectedEOF
		}
		body = body[:n]
	}
	return body, nil
}

// document is an answer of the server.
type document struct {
	kind string
	body []byte
}

// handler answers a path for a client's address; false means there is none.
type handler func(path, client string) (document, bool)

// serveHTTP answers GET and HEAD on every connection of l until it is closed.
func serveHTTP(l net.Listener, h handler) error {
	slots := make(chan struct{}, 64) // a flood must not use up the memory of a small machine
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			answer(conn, h)
		}()
	}
}

func answer(conn net.Conn, h handler) {
	if conn.SetDeadline(time.Now().Add(10*time.Second)) != nil {
		return
	}
	t := textproto.NewReader(bufio.NewReader(&io.LimitedReader{R: conn, N: maxHeader}))
	line, err := t.ReadLine()
	if err != nil {
		return
	}
	f := strings.Fields(line)
	if len(f) != 3 || !strings.HasPrefix(f[2], "HTTP/1.") {
		respond(conn, "400 Bad Request", document{kind: "text/plain", body: []byte("bad request\n")}, true)
		return
	}
	if _, err := t.ReadMIMEHeader(); err != nil {
		return
	}
	if f[0] != "GET" && f[0] != "HEAD" {
		respond(conn, "405 Method Not Allowed", document{kind: "text/plain", body: []byte("GET and HEAD only\n")}, true)
		return
	}
	client, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		client = conn.RemoteAddr().String()
	}
	path, _, _ := strings.Cut(f[1], "?")
	d, ok := h(path, client)
	if !ok {
		respond(conn, "404 Not Found", document{kind: "text/plain", body: []byte("not found\n")}, f[0] == "GET")
		return
	}
	respond(conn, "200 OK", d, f[0] == "GET")
}

// respond sends a document that no browser may keep, guess about or run. The
// client being gone is its own affair.
func respond(conn net.Conn, status string, d document, withBody bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nDate: %s\r\n",
		status, d.kind, len(d.body), time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	b.WriteString("Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n" +
		"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil || !withBody {
		return
	}
	if _, err := conn.Write(d.body); err != nil {
		return
	}
	// A request body that was not read would turn the close into a reset, which may
	// overtake the answer. Give the client time to take it and close.
	if c, ok := conn.(*net.TCPConn); ok && c.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	}
}
