// Package password hands each guest the password that was set for it, over CloudStack's protocol: HTTP on port 8080
// with the request in a header, spoken by shell scripts in guest images since 2010 and by cloud-init.
//
//	DomU_Request: send_my_password   the password, or "saved_password" when there is none to hand out
//	DomU_Request: saved_password     the guest has set it: it is never handed out again
//	anything else                    "bad_request"
//
// A password is handed out until the guest confirms, for its script may die in between; confirmations are reported
// with the password's epoch. Requests are read by hand: those scripts send what wget and socat of fifteen years make
// of it, and net/http would refuse some. Passwords are never logged.
package password

import (
	"context"
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
	port          = 8080
	connsPerGuest = 4
	connsTotal    = 256
	timeout       = 10 * time.Second
)

// Taken is a password that its guest confirmed.
type Taken struct {
	IP    netip.Addr
	Epoch uint64
}

// Service hands out passwords.
type Service struct {
	sockets *guestsock.Set
	log     *slog.Logger
	changed func()
	counts  counts
	// serving are the goroutines of connections.
	serving sync.WaitGroup

	want   *netspec.Password
	broken error

	mu     sync.Mutex
	guests map[netip.Addr]guest
	taken  map[netip.Addr]uint64
}

type counts struct{ sent, none, confirmed, bad, unknown, spoofed, limited atomic.Uint64 }

type guest struct {
	mac      kernel.MAC
	password string
	epoch    uint64
}

// New returns a Service that serves nothing yet; changed is called when a guest confirmed, and must not block.
func New(k guestsock.Kernel, log *slog.Logger, changed func()) *Service {
	s := &Service{log: log, changed: changed, taken: map[netip.Addr]uint64{}}
	s.sockets = guestsock.NewSet(guestsock.Options{
		Kernel: k, Serve: s.serve, PerGuest: connsPerGuest,
		Total: connsTotal, Log: log, Limited: func() { s.counts.limited.Add(1) },
	})
	return s
}

// Counts tells how often what happened since start.
func (s *Service) Counts() map[string]uint64 {
	return map[string]uint64{
		"sent": s.counts.sent.Load(), "none": s.counts.none.Load(), "confirmed": s.counts.confirmed.Load(),
		"bad_request": s.counts.bad.Load(), "dropped_stranger": s.counts.unknown.Load(),
		"dropped_spoofed": s.counts.spoofed.Load(), "limited": s.counts.limited.Load(),
	}
}

// Taken lists the confirmed passwords whose guests are still in the spec, by address.
func (s *Service) Taken() []Taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Taken, 0, len(s.taken))
	for ip, epoch := range s.taken {
		list = append(list, Taken{ip, epoch})
	}
	slices.SortFunc(list, func(a, b Taken) int { return a.IP.Compare(b.IP) })
	return list
}

// Apply makes passwords be handed out as wanted; nil ends it.
func (s *Service) Apply(_ context.Context, want *netspec.Password) error {
	if want == nil {
		s.want, s.broken = nil, nil
		s.sockets.Close()
		s.set(nil)
		return nil
	}
	if s.want == nil || !proto.Equal(s.want, want) {
		guests, err := parse(want)
		s.set(guests)
		s.want, s.broken = want, err
	}
	places, err := guestsock.Places(want.GetLinks(), want.GetListen(), port)
	return errors.Join(s.broken, err, s.sockets.Apply(places))
}

// Restart opens the sockets anew with the next Apply. What was confirmed stays so: a password is handed out once.
func (s *Service) Restart() { s.sockets.Close() }

// Close stops serving and waits for open connections.
func (s *Service) Close() {
	s.sockets.Close()
	s.serving.Wait()
}

// Recall takes over what an earlier process was told by its guests. It counts for the spec that is applied next, and for
// the present one.
func (s *Service) Recall(taken []Taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range taken {
		if g, ok := s.guests[t.IP]; s.guests != nil && (!ok || g.epoch != t.Epoch) {
			continue
		}
		s.taken[t.IP] = t.Epoch
	}
}

// set replaces the guests; confirmations of passwords that are not wanted any more are forgotten.
func (s *Service) set(guests map[netip.Addr]guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guests = guests
	for ip, epoch := range s.taken {
		if g, ok := guests[ip]; !ok || g.epoch != epoch {
			delete(s.taken, ip)
		}
	}
}

func parse(want *netspec.Password) (map[netip.Addr]guest, error) {
	guests := make(map[netip.Addr]guest, len(want.GetGuests()))
	var errs []error
	for _, w := range want.GetGuests() {
		ip, err := netip.ParseAddr(w.GetIp())
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %q: not an address", w.GetIp()))
			continue
		}
		mac, err := kernel.ParseMAC(w.GetMac())
		if _, twice := guests[ip]; err == nil && twice {
			err = errors.New("the address is given twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %s: %w", ip, err))
			continue
		}
		guests[ip] = guest{mac: mac, password: w.GetPassword(), epoch: w.GetEpoch()}
	}
	return guests, errors.Join(errs...)
}

// serve accepts connections of one listener.
func (s *Service) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		s.serving.Go(func() {
			defer c.Close()
			s.handle(c.(*guestsock.Conn))
		})
	}
}

func (s *Service) handle(c *guestsock.Conn) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return
	}
	request, err := readRequest(c)
	if err != nil {
		s.counts.bad.Add(1)
		return
	}
	answer, confirmed := s.answer(request, c.Peer, c.Verify)
	if _, err := io.WriteString(c, response(answer)); err != nil {
		s.log.Debug("send password answer", "ip", c.Peer, "err", err)
	}
	if confirmed {
		s.changed()
	}
	// What the guest sent behind its header is read away: closing on unread data would reset the connection, and the
	// guest's wget would lose the answer.
	_ = c.CloseWrite()
	_, _ = io.CopyN(io.Discard, c, maxRequest)
}

const (
	saved = "saved_password"
	bad   = "bad_request"
)

// answer decides what a guest gets. Strangers and machines that use another's address get what a guest without a
// password gets: it says nothing.
func (s *Service) answer(request string, peer netip.Addr, verify func(kernel.MAC) error) (answer string, confirmed bool) {
	if request != "send_my_password" && request != saved {
		s.counts.bad.Add(1)
		return bad, false
	}
	s.mu.Lock()
	g, ok := s.guests[peer]
	s.mu.Unlock()
	if !ok {
		s.counts.unknown.Add(1)
		return saved, false
	}
	if err := verify(g.mac); err != nil {
		s.counts.spoofed.Add(1)
		s.log.Warn("password withheld", "ip", peer, "err", err)
		return saved, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g = s.guests[peer] // the spec may have changed meanwhile
	epoch, taken := s.taken[peer]
	if g.password == "" || taken && epoch == g.epoch {
		s.counts.none.Add(1)
		return saved, false
	}
	if request == saved {
		s.counts.confirmed.Add(1)
		s.taken[peer] = g.epoch
		return saved, true
	}
	s.counts.sent.Add(1)
	return g.password, false
}
