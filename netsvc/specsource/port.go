package specsource

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// callPeriod is how often a guest without a session asks a connected host for one.
const callPeriod = 500 * time.Millisecond

// errHangUp means that the host closed its end; it may open it again.
var errHangUp = errors.New("the host closed its end")

// device is a port of the guest's kernel. It is open as long as the process lives: closing it throws away what the host
// has sent.
type device interface {
	// Read waits for bytes. It returns errHangUp once each time the host closes its end.
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	SetWriteDeadline(time.Time) error
	// HostConnected tells whether the host has its end open.
	HostConnected() bool
	Close() error
}

// portSource divides a port into sessions (package specio). One goroutine reads the port as long as it is open, so that
// the beginning of a new session is seen whatever became of the old one.
type portSource struct {
	dev    device
	accept chan *portSession // holds the newest one that nobody has taken
	stop   context.CancelFunc
	closed sync.Once
	err    error // of Close
	ended  sync.WaitGroup

	failed  chan struct{} // closed when the port cannot be read any more
	failure error

	writing sync.Mutex // held during a write

	mu      sync.Mutex // orders ends of sessions and the deadlines of writes
	current *portSession
	over    bool // no session begins any more
}

func newPortSource(dev device) *portSource {
	ctx, cancel := context.WithCancel(context.Background())
	p := &portSource{dev: dev, accept: make(chan *portSession, 1), stop: cancel, failed: make(chan struct{})}
	p.ended.Go(p.read)
	p.ended.Go(func() { p.call(ctx) })
	return p
}

func (p *portSource) Accept(ctx context.Context) (io.ReadWriteCloser, error) {
	select {
	case s := <-p.accept:
		return s, nil
	case <-p.failed:
		return nil, p.failure
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *portSource) Close() error {
	p.closed.Do(func() {
		p.stop()
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.end(nil)
		p.err = p.dev.Close()
		p.ended.Wait()
	})
	return p.err
}

// read takes the port apart until it fails or is closed.
func (p *portSource) read() {
	var split specio.Splitter
	marks := specio.Marks{
		Data:  p.deliver,
		Begin: func(id specio.SessionID) error { p.begin(id); return nil },
		Call:  func() error { return nil }, // a host calls nobody
		Broken: func() error {
			p.end(nil) // what follows is worth nothing; call asks for another session
			return nil
		},
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := p.dev.Read(buf)
		if errors.Is(err, errHangUp) {
			p.end(nil)
			continue
		}
		if err != nil {
			p.end(nil)
			p.failure = err
			close(p.failed)
			return
		}
		_ = split.Feed(buf[:n], marks) // none of the above fails
	}
}

// deliver hands data to the session, if there is one and somebody reads it.
func (p *portSource) deliver(b []byte) error {
	p.mu.Lock()
	s := p.current
	p.mu.Unlock()
	if s != nil {
		_, _ = s.w.Write(b)
	}
	return nil
}

// begin ends the session there is and offers another.
func (p *portSource) begin(id specio.SessionID) {
	p.end(nil)
	s := &portSession{port: p, id: id}
	s.PipeReader, s.w = io.Pipe()
	p.mu.Lock()
	over := p.over
	if !over {
		p.current = s
	}
	p.mu.Unlock()
	if over {
		return
	}
	select {
	case old := <-p.accept:
		old.PipeReader.Close()
	default:
	}
	p.accept <- s // only this goroutine sends
}

// end ends a session, or whichever there is: its reader reads the end, its writer fails, at once.
func (p *portSource) end(s *portSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || s != nil && p.current != s {
		return
	}
	s = p.current
	p.current = nil
	s.w.Close()
	_ = p.dev.SetWriteDeadline(time.Unix(1, 0))
}

// call asks for a session as long as there is none: the process before this one may have died in the middle of one,
// which the host cannot see.
func (p *portSource) call(ctx context.Context) {
	tick := time.NewTicker(callPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.writing.Lock()
		p.mu.Lock()
		wanted := p.current == nil && p.dev.HostConnected()
		if wanted {
			_ = p.dev.SetWriteDeadline(time.Now().Add(callPeriod))
		}
		p.mu.Unlock()
		if wanted {
			_, _ = p.dev.Write(specio.AppendCall(nil)) // it is asked again
		}
		p.writing.Unlock()
	}
}

// portSession is one session of a port.
type portSession struct {
	*io.PipeReader
	w    *io.PipeWriter
	port *portSource
	id   specio.SessionID

	begun    bool      // under port.writing
	deadline time.Time // under port.mu
	out      []byte    // under port.writing
}

// SetWriteDeadline is as net.Conn's.
func (s *portSession) SetWriteDeadline(t time.Time) error {
	s.port.mu.Lock()
	defer s.port.mu.Unlock()
	s.deadline = t
	return nil
}

// Write begins the guest's side of the session with the first bytes. After an error the session is of no use.
func (s *portSession) Write(b []byte) (int, error) {
	p := s.port
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	if p.current != s {
		p.mu.Unlock()
		return 0, os.ErrClosed
	}
	// Under the same lock as the end of a session, which sets a deadline that has passed.
	err := p.dev.SetWriteDeadline(s.deadline)
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	s.out = s.out[:0]
	if !s.begun {
		s.out = specio.AppendBegin(s.out, s.id)
	}
	s.out = specio.AppendData(s.out, b)
	if _, err := p.dev.Write(s.out); err != nil {
		return 0, err
	}
	s.begun = true
	return len(b), nil
}

// Close ends the session on this side; the host is asked for another.
func (s *portSession) Close() error {
	s.port.end(s)
	return s.PipeReader.Close()
}
