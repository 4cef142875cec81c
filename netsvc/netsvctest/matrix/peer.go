package matrix

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// appliesWithin is how long a spec may take on a machine that does ten other things.
const appliesWithin = 2 * time.Minute

// Peer is the host's end of the spec source: it connects, and connects again when the stream ends.
type Peer struct {
	dial func() (net.Conn, error)
	stop chan struct{}
	done sync.WaitGroup

	mu         sync.Mutex
	conn       net.Conn
	w          *specio.Writer
	want       *netspec.NetSpec
	generation uint64
	last       *netspec.Observation
	connects   int
	trouble    []string
}

// NewPeer keeps a connection until the test ends. dial returns a stream of messages: a unix socket's, or a port's
// session.
func NewPeer(t testing.TB, dial func() (net.Conn, error)) *Peer {
	p := &Peer{dial: dial, stop: make(chan struct{})}
	p.done.Go(p.run)
	t.Cleanup(func() {
		close(p.stop)
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Cut ends the connection there is; another is made.
func (p *Peer) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
}

// Connects counts connections that an observation came over.
func (p *Peer) Connects() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connects
}

func (p *Peer) run() {
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		if err := p.session(); err != nil {
			p.note(err.Error())
		}
		select {
		case <-p.stop:
			return
		case <-pause.C:
		}
	}
}

func (p *Peer) note(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = append(p.trouble, s)
	if len(p.trouble) > 10 {
		p.trouble = p.trouble[1:]
	}
}

func (p *Peer) session() error {
	conn, err := p.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	p.mu.Lock()
	p.conn, p.w, p.last = conn, specio.NewWriter(conn), nil
	w, want := p.w, p.want
	p.mu.Unlock()
	select {
	case <-p.stop:
		return nil
	default:
	}
	if want != nil {
		if err := send(w, want); err != nil {
			return err
		}
	}
	r := specio.NewReader(conn)
	for first := true; ; {
		var m netspec.FromService
		if err := r.Read(&m); err != nil {
			return err
		}
		if refusal := m.GetRefusal(); refusal != nil {
			p.note(refusal.GetReason())
		}
		if o := m.GetObservation(); o != nil {
			p.mu.Lock()
			p.last = o
			if first {
				p.connects++
				first = false
			}
			p.mu.Unlock()
		}
	}
}

func send(w *specio.Writer, spec *netspec.NetSpec) error {
	return w.Write(&netspec.ToService{Message: &netspec.ToService_Apply{Apply: spec}})
}

// Apply hands over a spec under the next generation and waits until it is applied whole.
func (p *Peer) Apply(t testing.TB, spec *netspec.NetSpec) *netspec.Observation {
	t.Helper()
	p.mu.Lock()
	p.generation++
	generation := p.generation
	spec.Generation = generation
	p.want = spec
	conn, w := p.conn, p.w
	p.mu.Unlock()
	if conn != nil {
		if err := send(w, spec); err != nil {
			conn.Close() // the next connection begins with it
		}
	}
	return p.WaitFor(t, fmt.Sprintf("generation %d", generation), func(o *netspec.Observation) bool {
		return o.GetAppliedGeneration() == generation
	})
}

// WaitFor waits until an observation is as it should be.
func (p *Peer) WaitFor(t testing.TB, what string, condition func(*netspec.Observation) bool) *netspec.Observation {
	t.Helper()
	var last *netspec.Observation
	netsvctest.Wait(t, what, appliesWithin, func() (bool, string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		last = p.last
		return last != nil && condition(last), fmt.Sprint(last.String(), p.trouble)
	})
	return last
}
