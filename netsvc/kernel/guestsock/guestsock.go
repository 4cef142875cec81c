// Package guestsock holds the TCP listeners of services that guests ask: one per link and address, bound to the link,
// with a limit on connections per guest, and with a way to know that a connection really comes from the guest whose
// address it shows.
//
// An address proves nothing: any guest can take its neighbour's. Verify therefore compares the MAC address the spec
// gives for the guest with two facts of the kernel: the sender of the frame that opened the connection, and the
// neighbour entry by which answers are sent. Callers verify right before they write, so that an entry changed in
// between is met too.
package guestsock

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

// Kernel is what this package needs of the kernel.
type Kernel interface {
	ListenTCP(link string, at netip.AddrPort) (*net.TCPListener, error)
	LinkIndex(name string) (int, error)
	Neighbour(index int, addr netip.Addr) (kernel.MAC, bool, error)
	SenderMAC(c *net.TCPConn) (kernel.MAC, bool)
}

// Place is one link and address to listen on.
type Place struct {
	Link string
	At   netip.AddrPort
}

// Options are what a Set is made of.
type Options struct {
	Kernel Kernel
	// Serve accepts and serves connections (*Conn) of one listener until it is closed.
	Serve func(net.Listener) error
	// PerGuest and Total limit open connections; above them new ones are closed at once.
	PerGuest, Total int
	Log             *slog.Logger
	// Limited is called for each connection closed because of a limit.
	Limited func()
}

// Set is the listeners of one service.
type Set struct {
	o         Options
	limits    *limits
	listeners map[Place]*listener
}

// NewSet returns a Set that listens nowhere.
func NewSet(o Options) *Set {
	return &Set{
		o: o, limits: &limits{perGuest: o.PerGuest, total: o.Total, open: map[netip.Addr]int{}},
		listeners: map[Place]*listener{},
	}
}

// Apply makes the set of listeners be this one. Listeners that stay are not disturbed; one whose link was made anew
// is opened anew.
func (s *Set) Apply(want []Place) error {
	wanted := make(map[Place]bool, len(want))
	for _, p := range want {
		wanted[p] = true
	}
	var errs []error
	for p, l := range s.listeners {
		if index, err := s.o.Kernel.LinkIndex(p.Link); !wanted[p] || err != nil || index != l.index || l.ended() {
			l.stop()
			delete(s.listeners, p)
		}
	}
	for _, p := range want {
		if s.listeners[p] != nil {
			continue
		}
		l, err := s.open(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.listeners[p] = l
	}
	return errors.Join(errs...)
}

// Close closes all listeners; connections that were accepted are the server's.
func (s *Set) Close() {
	for p, l := range s.listeners {
		l.stop()
		delete(s.listeners, p)
	}
}

func (s *Set) open(p Place) (*listener, error) {
	index, err := s.o.Kernel.LinkIndex(p.Link)
	if err != nil {
		return nil, err
	}
	tcp, err := s.o.Kernel.ListenTCP(p.Link, p.At)
	if err != nil {
		return nil, err
	}
	l := &listener{TCPListener: tcp, set: s, index: index, dead: make(chan struct{})}
	go func() {
		defer close(l.dead)
		if err := s.o.Serve(l); !errors.Is(err, net.ErrClosed) {
			s.o.Log.Debug("stop serving", "link", p.Link, "address", p.At, "cause", err)
		}
	}()
	return l, nil
}

// listener enforces the limits.
type listener struct {
	*net.TCPListener
	set   *Set
	index int
	dead  chan struct{}
}

func (l *listener) ended() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

func (l *listener) stop() {
	l.Close()
	<-l.dead
}

// Accept returns a *Conn.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		peer := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !l.set.limits.take(peer) {
			l.set.o.Limited()
			c.Close()
			continue
		}
		return &Conn{
			TCPConn: c, Peer: peer, kernel: l.set.o.Kernel, index: l.index,
			release: sync.OnceFunc(func() { l.set.limits.give(peer) }),
		}, nil
	}
}

// Conn is a connection of a guest.
type Conn struct {
	*net.TCPConn
	// Peer is the address it comes from.
	Peer    netip.Addr
	kernel  Kernel
	index   int
	release func()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.release()
	return c.TCPConn.Close()
}

// ErrOtherSender means that the address is used by a machine it does not belong to.
var ErrOtherSender = errors.New("the address is used by another machine")

// Verify says whether the connection is the machine's with this MAC address; nil is yes.
func (c *Conn) Verify(mac kernel.MAC) error {
	if sender, ok := c.kernel.SenderMAC(c.TCPConn); ok && sender != mac {
		return fmt.Errorf("verify %s: opened by %s, not %s: %w", c.Peer, sender, mac, ErrOtherSender)
	}
	have, ok, err := c.kernel.Neighbour(c.index, c.Peer)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("verify %s: no neighbour on the link has it: %w", c.Peer, ErrOtherSender)
	}
	if have != mac {
		return fmt.Errorf("verify %s: the neighbour is %s, not %s: %w", c.Peer, have, mac, ErrOtherSender)
	}
	return nil
}

type limits struct {
	perGuest, total int

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

func (l *limits) take(peer netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.total || l.open[peer] >= l.perGuest {
		return false
	}
	l.all++
	l.open[peer]++
	return true
}

func (l *limits) give(peer netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.open[peer]--; l.open[peer] == 0 {
		delete(l.open, peer)
	}
}

// Places is every link with every address.
func Places(links, addresses []string, port uint16) ([]Place, error) {
	var places []Place
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is4() {
			return nil, fmt.Errorf("listen address %q is not an IPv4 address", text)
		}
		for _, link := range links {
			places = append(places, Place{Link: link, At: netip.AddrPortFrom(a, port)})
		}
	}
	return places, nil
}
