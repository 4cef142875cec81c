// Package dhcp4 is the DHCP server of a guest network (RFC 2131): each guest gets the one address the spec gives it,
// strangers get no answer, and neither does a frame whose sender is not the client it speaks of.
//
// Addresses are decided elsewhere and written in the spec, so there is no pool and nothing to persist: a server that
// was killed and started again answers every renewal as before, and so does the server on the host a guest has moved
// to. A lease is only an observation: which guest has asked, and until when it holds its address.
//
// Packets are parsed and built by hand in two buffers per link, and received with their Ethernet header: a general
// library costs twice the CPU, and the IP stack would hide the sender's MAC address, which decides whether to answer
// (see README.md for figures).
package dhcp4

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/proto/netspec"
)

// Conn is one link's socket, as kernel.PacketConn is.
type Conn interface {
	Read(frame []byte) (int, error)
	Write(frame []byte) error
	WriteTo(payload []byte, to netip.AddrPort) error
	Close() error
	LinkIndex() int
	MAC() kernel.MAC
}

// Kernel is what this package needs of the kernel beside sockets.
type Kernel interface {
	Links() ([]kernel.Link, error)
}

// Options are what a Service is made of.
type Options struct {
	Kernel Kernel
	// Open opens the socket of a link.
	Open func(link string) (Conn, error)
	Log  *slog.Logger
	Now  func() time.Time
	// Changed is called when a guest has got its first lease or gave it back; it must not block.
	Changed func()
}

// Service serves DHCP.
type Service struct {
	o         Options
	server    server
	listeners map[string]*listener
	// want is the spec the config was built from.
	want     *netspec.Dhcp4
	guestErr error
}

// New returns a Service that serves nothing yet.
func New(o Options) *Service {
	s := &Service{o: o, listeners: map[string]*listener{}}
	s.server.now, s.server.changed = o.Now, o.Changed
	s.server.leases = map[kernel.MAC]Lease{}
	return s
}

// Apply makes the server answer as wanted; nil ends it. A socket whose link was made anew is opened anew.
func (s *Service) Apply(_ context.Context, want *netspec.Dhcp4) error {
	if want == nil {
		s.server.config.Store(nil)
		s.want, s.guestErr = nil, nil
		s.server.keep(nil)
		return s.listen(nil)
	}
	if s.want == nil || !proto.Equal(s.want, want) {
		c, err := newConfig(want)
		if c == nil {
			return err
		}
		s.guestErr = err
		s.want = proto.CloneOf(want)
		s.server.config.Store(c)
	}
	s.server.keep(s.server.config.Load())
	return errors.Join(s.guestErr, s.listen(want.GetLinks()))
}

// Restart forgets the leases and opens the sockets anew with the next Apply.
func (s *Service) Restart() {
	s.Close()
	s.server.keep(nil)
}

// Leases lists what guests hold, by MAC address.
func (s *Service) Leases() []Lease { return s.server.list() }

// Counts tells how often what happened since start.
func (s *Service) Counts() map[string]uint64 {
	counts := make(map[string]uint64, eventCount)
	for e, name := range eventNames {
		counts[name] = s.server.events[e].Load()
	}
	return counts
}

// listen makes the set of served links be this one.
func (s *Service) listen(names []string) error {
	for name, l := range s.listeners {
		if !slices.Contains(names, name) {
			l.stop()
			delete(s.listeners, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	links, err := s.o.Kernel.Links()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		i := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == name })
		if l := s.listeners[name]; l != nil {
			if i >= 0 && l.serves(links[i]) {
				continue
			}
			l.stop()
			delete(s.listeners, name)
		}
		if i < 0 {
			errs = append(errs, fmt.Errorf("link %s: %w", name, kernel.ErrNoLink))
			continue
		}
		conn, err := s.o.Open(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.listeners[name] = s.serve(name, conn)
	}
	return errors.Join(errs...)
}

// Close stops serving.
func (s *Service) Close() {
	for _, name := range slices.Collect(maps.Keys(s.listeners)) {
		s.listeners[name].stop()
		delete(s.listeners, name)
	}
}

// listener is the goroutine of one link.
type listener struct {
	conn Conn
	done sync.WaitGroup
	dead chan struct{}
}

func (l *listener) serves(link kernel.Link) bool {
	select {
	case <-l.dead:
		return false
	default:
		return l.conn.LinkIndex() == link.Index && l.conn.MAC() == link.MAC
	}
}

func (l *listener) stop() {
	l.conn.Close()
	l.done.Wait()
}

func (s *Service) serve(name string, conn Conn) *listener {
	l := &listener{conn: conn, dead: make(chan struct{})}
	log := s.o.Log.With("link", name)
	l.done.Go(func() {
		defer close(l.dead)
		in, out := make([]byte, 2048), make([]byte, 2048)
		for {
			n, err := conn.Read(in)
			if err != nil {
				log.Debug("stop serving dhcp", "cause", err)
				return
			}
			reply, relay := s.server.answer(in[:n], out, conn.MAC())
			switch {
			case reply == nil:
				continue
			case relay.IsValid():
				err = conn.WriteTo(reply[headersLen:], netip.AddrPortFrom(relay, serverPort))
			default:
				err = conn.Write(reply)
			}
			if err != nil {
				s.server.count(droppedSend)
				log.Warn("send dhcp answer", "err", err)
			}
		}
	})
	return l
}
