package api

import (
	"context"
	"io"
	"net"
	"net/http"
)

// Gather has the long answers of servers on l written from where they are kept, by one system call and without being joined
// before: for a page of 500 VMs joining costs as much as all else but the call. The server needs ConnContext, too. Without
// either of them, and over TLS, answers are joined.
func Gather(l net.Listener) net.Listener { return gatherListener{l} }

type gatherListener struct{ net.Listener }

// Accept implements net.Listener.
func (l gatherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return &gatherConn{TCPConn: tcp}, nil
	}
	return c, err
}

type gatherKey struct{}

// ConnContext is for http.Server: it tells handlers of the connection if it is one of Gather's.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if g, ok := c.(*gatherConn); ok {
		return context.WithValue(ctx, gatherKey{}, g)
	}
	return ctx
}

// gatherConn writes what net/http copies to it from a *net.Buffers at once, with the header of the answer. Only the handler's
// goroutine writes to it, as to any connection of net/http.
type gatherConn struct {
	*net.TCPConn
	// hold: what is written (the header, and the few bytes that net/http sniffs at) waits in held for what follows.
	hold  bool
	held  []byte
	parts net.Buffers // of the answer that is written
}

// Write implements net.Conn.
func (c *gatherConn) Write(p []byte) (int, error) {
	if c.hold {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.TCPConn.Write(p)
}

// ReadFrom implements io.ReaderFrom, which net/http looks for where it copies an answer of known length.
func (c *gatherConn) ReadFrom(r io.Reader) (int64, error) {
	b, ok := r.(*net.Buffers)
	if !ok {
		if err := c.release(); err != nil {
			return 0, err
		}
		return c.TCPConn.ReadFrom(r)
	}
	c.hold = false
	// What net/http has read of the parts it has written to held: the place before the others is free.
	all := c.parts[max(0, len(c.parts)-len(*b)-1):]
	all[0], *b = c.held, nil
	head := int64(len(c.held))
	n, err := all.WriteTo(c.TCPConn)
	c.held = c.held[:0]
	return max(0, n-head), err
}

// release sends what is held.
func (c *gatherConn) release() error {
	c.hold = false
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.TCPConn.Write(c.held)
	c.held = c.held[:0]
	return err
}

// gathering is the connection that can write an answer by its parts; nil where none can.
func (q *request) gathering() *gatherConn {
	if q.r.Method == http.MethodHead {
		return nil
	}
	if _, ok := q.w.(io.ReaderFrom); !ok {
		return nil
	}
	g, _ := q.r.Context().Value(gatherKey{}).(*gatherConn)
	return g
}

// writeParts writes the body of an answer whose length is told already. The first part is empty: there the header goes. What
// the parts hold is not changed.
func (g *gatherConn) writeParts(w http.ResponseWriter, parts net.Buffers) {
	g.hold, g.parts = true, parts
	_, _ = w.(io.ReaderFrom).ReadFrom(&parts) // a client that went away is no error of ours
	_ = g.release()
	g.parts = nil
}
