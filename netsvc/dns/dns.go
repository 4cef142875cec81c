// Package dns is the resolver of a guest network: it answers for the names of the network's guests, in both
// directions, and asks other resolvers for everything else.
//
// Only sources in the allow list are answered, others not even refused: it is never an open resolver and never an
// amplifier. Names of the own domain are never asked elsewhere, nor are bare host names, nor addresses of the own
// network. Messages are parsed and built by hand, since most answers are one record; what is forwarded is passed on as
// it is, EDNS options included.
package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/guestsock"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	port          = 53
	connsPerGuest = 8
	connsTotal    = 256
	tcpIdle       = 10 * time.Second
)

// Kernel is what this package needs of the kernel.
type Kernel interface {
	guestsock.Kernel
	ListenUDP(link string, port uint16) (*net.UDPConn, error)
	// Dial opens a connection to another resolver.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// Service answers DNS questions.
type Service struct {
	k         Kernel
	log       *slog.Logger
	zone      atomic.Pointer[zone]
	forwarder forwarder
	tcp       *guestsock.Set
	udp       map[string]*udpListener
	counts    counts
	// working are the goroutines of forwarded questions and TCP connections.
	working sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc

	want   *netspec.Dns
	broken error
}

type counts struct{ answered, forwarded, failed, malformed, strangers, limited atomic.Uint64 }

// New returns a Service that serves nothing yet. ctx ends questions asked elsewhere.
func New(ctx context.Context, k Kernel, log *slog.Logger) *Service {
	s := &Service{k: k, log: log, udp: map[string]*udpListener{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.forwarder = forwarder{dial: k.Dial, open: map[netip.Addr]int{}}
	s.tcp = guestsock.NewSet(guestsock.Options{
		Kernel: k, Serve: s.serveTCP, PerGuest: connsPerGuest, Total: connsTotal,
		Log: log, Limited: func() { s.counts.limited.Add(1) },
	})
	return s
}

// Counts tells how often what happened since start.
func (s *Service) Counts() map[string]uint64 {
	return map[string]uint64{
		"answered": s.counts.answered.Load(), "forwarded": s.counts.forwarded.Load(),
		"failed": s.counts.failed.Load(), "dropped_malformed": s.counts.malformed.Load(),
		"dropped_stranger": s.counts.strangers.Load(), "limited": s.counts.limited.Load(),
	}
}

// Apply makes names be answered as wanted; nil ends it.
func (s *Service) Apply(_ context.Context, want *netspec.Dns) error {
	if want == nil {
		s.want, s.broken = nil, nil
		s.zone.Store(nil)
		s.tcp.Close()
		return s.listen(nil)
	}
	if s.want == nil || !proto.Equal(s.want, want) {
		z, err := newZone(want)
		if z == nil {
			return err
		}
		s.zone.Store(z)
		s.want, s.broken = want, err
	}
	var places []guestsock.Place
	for _, link := range want.GetLinks() {
		at := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
		places = append(places, guestsock.Place{Link: link, At: at})
	}
	return errors.Join(s.broken, s.listen(want.GetLinks()), s.tcp.Apply(places))
}

// Restart opens the sockets anew with the next Apply.
func (s *Service) Restart() {
	s.tcp.Close()
	_ = s.listen(nil)
}

// Close stops serving and waits for what is under way.
func (s *Service) Close() {
	s.cancel()
	s.tcp.Close()
	_ = s.listen(nil)
	s.working.Wait()
}

// listen makes the set of links with a UDP socket be this one.
func (s *Service) listen(names []string) error {
	for name, l := range s.udp {
		index, err := s.k.LinkIndex(name)
		if !slices.Contains(names, name) || err != nil || index != l.index || l.ended() {
			l.stop()
			delete(s.udp, name)
		}
	}
	var errs []error
	for _, name := range names {
		if s.udp[name] != nil {
			continue
		}
		index, err := s.k.LinkIndex(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		conn, err := s.k.ListenUDP(name, port)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l := &udpListener{UDPConn: conn, index: index, dead: make(chan struct{})}
		s.udp[name] = l
		go func() {
			defer close(l.dead)
			s.serveUDP(l)
		}()
	}
	return errors.Join(errs...)
}

// udpListener is the UDP socket of one link.
type udpListener struct {
	*net.UDPConn
	index int
	dead  chan struct{}
}

func (l *udpListener) ended() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

func (l *udpListener) stop() {
	l.Close()
	<-l.dead
}

func (s *Service) serveUDP(l *udpListener) {
	in, out := make([]byte, 4096), make([]byte, 0, 4096)
	oob, oobOut := make([]byte, 128), make([]byte, 0, 128)
	var q query
	for {
		n, oobN, _, from, err := l.ReadMsgUDPAddrPort(in, oob)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error to an earlier answer
		}
		local := kernel.ParsePacketInfo(oob[:oobN])
		reply, forward := s.handle(out, &q, in[:n], from.Addr().Unmap(), false)
		if forward {
			s.forward(&q, from.Addr().Unmap(), false, func(answer []byte) {
				s.send(l, answer, nil, local, from)
			})
			continue
		}
		if reply != nil {
			s.send(l, reply, oobOut, local, from)
		}
	}
}

// send sends an answer from the address the question was sent to.
func (s *Service) send(l *udpListener, answer, oob []byte, local netip.Addr, to netip.AddrPort) {
	if local.IsValid() {
		oob = kernel.AppendPacketInfo(oob, local)
	}
	if _, _, err := l.WriteMsgUDPAddrPort(answer, oob, to); err != nil {
		s.counts.failed.Add(1)
		s.log.Debug("send answer", "to", to, "err", err)
	}
}

// handle answers a message, or says that it is to be forwarded; neither is: drop it.
func (s *Service) handle(out []byte, q *query, message []byte, from netip.Addr, tcp bool) (reply []byte, forward bool) {
	z := s.zone.Load()
	if z == nil {
		return nil, false
	}
	if !z.allows(from) {
		s.counts.strangers.Add(1)
		return nil, false
	}
	switch err := q.parse(message); {
	case errors.Is(err, errDrop):
		s.counts.malformed.Add(1)
		return nil, false
	case errors.Is(err, errOpcode):
		s.counts.malformed.Add(1)
		return q.failure(out, 0, rcodeNotImpl), false
	case err != nil:
		s.counts.malformed.Add(1)
		q.questionEnd, q.edns = headerLen, false
		return q.failure(out, 0, rcodeFormat), false
	}
	reply, forward = z.answer(out, q, tcp)
	if !forward {
		s.counts.answered.Add(1)
	}
	return reply, forward
}

// forward asks others in a goroutine and hands the answer to send.
func (s *Service) forward(q *query, from netip.Addr, tcp bool, send func(answer []byte)) {
	own := &query{}
	if err := own.parse(slices.Clone(q.raw)); err != nil { // q's buffer is used again
		return
	}
	if !s.forwarder.take(from) {
		s.counts.limited.Add(1)
		send(own.failure(nil, flagRA, rcodeServFail))
		return
	}
	s.working.Go(func() {
		defer s.forwarder.give(from)
		send(s.resolve(own, tcp))
	})
}

// resolve asks others and makes the answer fit the client.
func (s *Service) resolve(q *query, tcp bool) []byte {
	z := s.zone.Load()
	if z == nil || len(z.forwarders) == 0 {
		return q.failure(nil, 0, rcodeRefused)
	}
	network := "udp4"
	if tcp {
		network = "tcp4"
	}
	s.counts.forwarded.Add(1)
	answer, err := s.forwarder.ask(s.ctx, network, z.forwarders, q)
	if err != nil {
		s.counts.failed.Add(1)
		s.log.Debug("no resolver answers", "err", err)
		return q.failure(nil, flagRA, rcodeServFail)
	}
	if len(answer) > q.limit(tcp) {
		return q.failure(nil, flagRA|flagTC, rcodeOK)
	}
	return answer
}

func (s *Service) serveTCP(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		s.working.Go(func() {
			defer c.Close()
			stop := context.AfterFunc(s.ctx, func() { c.Close() })
			defer stop()
			if err := s.handleTCP(c.(*guestsock.Conn)); !errors.Is(err, io.EOF) {
				s.log.Debug("tcp client", "err", err)
			}
		})
	}
}

// handleTCP answers the questions of one connection, one after the other, and says why it ended.
func (s *Service) handleTCP(c *guestsock.Conn) error {
	in := make([]byte, 1024)
	var q query
	for {
		if err := c.SetDeadline(time.Now().Add(tcpIdle)); err != nil {
			return err
		}
		message, err := readTCP(c, in)
		if err != nil {
			return err
		}
		reply, forward := s.handle(nil, &q, message, c.Peer, true)
		if forward {
			if !s.forwarder.take(c.Peer) {
				reply = q.failure(nil, flagRA, rcodeServFail)
			} else {
				reply = s.resolve(&q, true)
				s.forwarder.give(c.Peer)
			}
		}
		if reply == nil {
			return fmt.Errorf("no answer for %s", c.Peer)
		}
		framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
		if _, err := c.Write(append(framed, reply...)); err != nil {
			return err
		}
	}
}
