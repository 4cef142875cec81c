package specio

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A virtio-serial port is one stream for the life of a machine: who opens it on either side finds what the last ones
// left in its buffers, half a message perhaps, and cannot tell it from the beginning of his own. A layer below the
// messages therefore divides it into sessions:
//
//   - The byte 0x1b never stands for itself: as data it is sent as 0x1b 0x00. So the marks below cannot occur in data,
//     wherever a reader begins to read and whatever a guest managed to write into a spec.
//   - 0x1b 0x01 and eight bytes (data, in the sense above): a session begins. The host draws the eight bytes and sends
//     them first; the guest begins with the same ones. Each side ignores everything before the other's mark: it was meant
//     for a dead session. Inside a session, a host's mark ends it and begins the next.
//   - 0x1b 0x02, guest to host: there is no session here (the process that had it died); begin another.
//   - 0x1b 0x1b: the first was cut off from what followed it; the second counts.
//
// A stream that knows connections, such as a unix socket, needs none of this.
const (
	escape      = 0x1b
	escapeSelf  = 0x00
	escapeBegin = 0x01
	escapeCall  = 0x02
)

// SessionID tells sessions of one port apart.
type SessionID [8]byte

// AppendData appends data as it stands on the port.
func AppendData(dst, data []byte) []byte {
	for _, b := range data {
		dst = append(dst, b)
		if b == escape {
			dst = append(dst, escapeSelf)
		}
	}
	return dst
}

// AppendBegin appends the mark that begins a session.
func AppendBegin(dst []byte, id SessionID) []byte {
	return AppendData(append(dst, escape, escapeBegin), id[:])
}

// AppendCall appends the guest's mark that asks for a session.
func AppendCall(dst []byte) []byte { return append(dst, escape, escapeCall) }

// Marks is what a Splitter found. An error ends the splitting.
type Marks struct {
	// Data is called with bytes between marks; they are valid during the call only.
	Data func([]byte) error
	// Begin is called when a session begins.
	Begin func(SessionID) error
	// Call is called when the guest asks for a session.
	Call func() error
	// Broken is called for bytes that no sender sends: something was lost. What follows, up to the next mark, is
	// worth nothing.
	Broken func() error
}

// Splitter takes the bytes of a port apart. The zero value is at the beginning of a stream.
type Splitter struct {
	escaped bool
	// missing bytes of the id that is being read.
	missing int
	id      SessionID
	data    []byte
}

// Feed takes the next bytes.
func (s *Splitter) Feed(b []byte, m Marks) error {
	s.data = s.data[:0]
	flush := func() error {
		if len(s.data) == 0 {
			return nil
		}
		data := s.data
		s.data = s.data[:0]
		return m.Data(data)
	}
	for _, c := range b {
		switch {
		case c == escape:
			s.escaped = true // also after another one, which was cut off
			continue
		case !s.escaped:
			// Data, below.
		case c == escapeSelf:
			c = escape
		default:
			s.escaped, s.missing = false, 0
			if err := flush(); err != nil {
				return err
			}
			var err error
			switch c {
			case escapeBegin:
				s.missing = len(s.id)
			case escapeCall:
				err = m.Call()
			default:
				err = m.Broken()
			}
			if err != nil {
				return err
			}
			continue
		}
		s.escaped = false
		if s.missing == 0 {
			s.data = append(s.data, c)
			continue
		}
		s.id[len(s.id)-s.missing] = c
		if s.missing--; s.missing == 0 {
			if err := m.Begin(s.id); err != nil {
				return err
			}
		}
	}
	return flush()
}

var (
	// ErrNoSession means that the guest has no session, or another one: close the connection and begin anew.
	ErrNoSession = errors.New("the guest asks for a new session")
	errBroken    = errors.New("the port is out of step")
)

// hostPort is the host's end of a port, inside one session.
type hostPort struct {
	net.Conn
	id      SessionID
	split   Splitter
	begun   bool   // the guest has answered
	pending []byte // data that was read and not asked for yet
	buf     []byte

	mu  sync.Mutex
	out []byte
}

// Begin begins a session over a connection to the host's end of a port. The result is used as a connection to a unix
// socket would be, with NewReader and NewWriter: what it reads begins with the guest's first message. Reads fail with
// ErrNoSession when the guest's process has been replaced; as after any other error the connection is then closed
// and made again. One goroutine reads.
func Begin(conn net.Conn) (net.Conn, error) {
	h := &hostPort{Conn: conn, buf: make([]byte, 16<<10)}
	if _, err := rand.Read(h.id[:]); err != nil {
		return nil, fmt.Errorf("begin session: %w", err)
	}
	if _, err := conn.Write(AppendBegin(nil, h.id)); err != nil {
		return nil, fmt.Errorf("begin session %x: %w", binary.BigEndian.Uint64(h.id[:]), err)
	}
	return h, nil
}

func (h *hostPort) Read(b []byte) (int, error) {
	for len(h.pending) == 0 {
		n, err := h.Conn.Read(h.buf)
		if n > 0 {
			if err := h.split.Feed(h.buf[:n], h.marks()); err != nil {
				return 0, err
			}
		}
		if err != nil && len(h.pending) == 0 {
			return 0, err
		}
	}
	n := copy(b, h.pending)
	h.pending = h.pending[n:]
	return n, nil
}

func (h *hostPort) marks() Marks {
	return Marks{
		Data: func(b []byte) error {
			if h.begun {
				h.pending = append(h.pending, b...)
			}
			return nil
		},
		Begin: func(id SessionID) error {
			if h.begun && id != h.id {
				return errBroken
			}
			h.begun = id == h.id
			return nil
		},
		Call: func() error { return ErrNoSession },
		Broken: func() error {
			if h.begun {
				return errBroken
			}
			return nil // the rest of a dead session
		},
	}
}

// Write writes data; all of it or, with an error, an unknown part.
func (h *hostPort) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out = AppendData(h.out[:0], b)
	if _, err := h.Conn.Write(h.out); err != nil {
		return 0, err
	}
	return len(b), nil
}

var _ io.ReadWriteCloser = (*hostPort)(nil)
