// Package metadata serves each guest its user-data and meta-data over HTTP, at the paths CloudStack's virtual router
// serves them and, for the same content, below EC2's version prefixes.
//
// Who asks is told by the connection's source address and verified by its MAC address (package guestsock); what a
// request says about itself (X-Forwarded-For and the like) is never looked at. A guest that is not known and one that
// is not who it seems get the same answer: not found.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/guestsock"
	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	port = 80
	// Limits of what one guest can make us hold. cloud-init asks for one thing after the other on one connection.
	connsPerGuest = 16
	connsTotal    = 1024
	maxHeader     = 8 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 10 * time.Second
)

// magic is the address guests of most clouds ask without knowing anything. It is put on the links by this package.
var magic = netip.MustParsePrefix("169.254.169.254/32")

// Kernel is what this package needs of the kernel.
type Kernel interface {
	guestsock.Kernel
	Links() ([]kernel.Link, error)
	Addresses(index int) ([]kernel.Address, error)
	AddAddress(index int, a kernel.Address) error
	DeleteAddress(index int, a kernel.Address) error
}

// Service serves metadata.
type Service struct {
	k       Kernel
	log     *slog.Logger
	sockets *guestsock.Set
	server  *http.Server
	drift   kernel.Drift

	want   *netspec.Metadata
	broken error
	guests atomic.Pointer[map[netip.Addr]*guest]
	counts counts
}

type counts struct{ served, unknown, spoofed, refused, limited atomic.Uint64 }

type guest struct {
	mac  kernel.MAC
	data *netspec.GuestData
}

// New returns a Service that serves nothing yet.
func New(k Kernel, log *slog.Logger) *Service {
	s := &Service{k: k, log: log}
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug), // guests write it
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	s.sockets = guestsock.NewSet(guestsock.Options{
		Kernel: k, Serve: s.server.Serve, PerGuest: connsPerGuest,
		Total: connsTotal, Log: log, Limited: func() { s.counts.limited.Add(1) },
	})
	return s
}

type connKey struct{}

// Repairs counts drift mended since start.
func (s *Service) Repairs() uint64 { return s.drift.Repairs() }

// Counts tells how often what happened since start.
func (s *Service) Counts() map[string]uint64 {
	return map[string]uint64{
		"served": s.counts.served.Load(), "dropped_stranger": s.counts.unknown.Load(),
		"dropped_spoofed": s.counts.spoofed.Load(), "refused": s.counts.refused.Load(),
		"limited": s.counts.limited.Load(),
	}
}

// Apply makes metadata be served as wanted; nil ends it.
func (s *Service) Apply(_ context.Context, want *netspec.Metadata) error {
	if want == nil {
		s.want, s.broken = nil, nil
		s.guests.Store(nil)
		s.sockets.Close()
		_, err := s.addresses(nil)
		return err
	}
	if s.want == nil || !proto.Equal(s.want, want) {
		guests, err := parse(want)
		s.guests.Store(&guests)
		s.want, s.broken = want, err
	}
	changes, err := s.addresses(want)
	s.drift.Pass(fmt.Sprint(want.GetLinks(), want.GetListen()), changes, err)
	places, placesErr := guestsock.Places(want.GetLinks(), want.GetListen(), port)
	return errors.Join(s.broken, err, placesErr, s.sockets.Apply(places))
}

// Restart opens the sockets anew with the next Apply.
func (s *Service) Restart() { s.sockets.Close() }

// Close stops serving.
func (s *Service) Close() {
	s.sockets.Close()
	s.server.Close()
}

func parse(want *netspec.Metadata) (map[netip.Addr]*guest, error) {
	guests := make(map[netip.Addr]*guest, len(want.GetGuests()))
	var errs []error
	for _, data := range want.GetGuests() {
		ip, err := netip.ParseAddr(data.GetIp())
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %q: %w", data.GetIp(), err))
			continue
		}
		mac, err := kernel.ParseMAC(data.GetMac())
		if err == nil && guests[ip] != nil {
			err = errors.New("the address is given twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %s: %w", ip, err))
			continue
		}
		guests[ip] = &guest{mac: mac, data: data}
	}
	return guests, errors.Join(errs...)
}

// addresses puts 169.254.169.254 on the links that want it, and takes it from others. It has link scope: nothing
// that is sent elsewhere may have it as source.
func (s *Service) addresses(want *netspec.Metadata) (changes int, err error) {
	links, err := s.k.Links()
	if err != nil {
		return 0, err
	}
	listed := slices.Contains(want.GetListen(), magic.Addr().String())
	var errs []error
	for _, l := range links {
		have, err := s.k.Addresses(l.Index)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		there := slices.ContainsFunc(have, func(a kernel.Address) bool { return a.Prefix == magic })
		wanted := listed && slices.Contains(want.GetLinks(), l.Name)
		a := kernel.Address{Prefix: magic, LinkScope: true}
		switch {
		case wanted && !there:
			changes++
			errs = append(errs, s.k.AddAddress(l.Index, a))
		case there && !wanted:
			changes++
			errs = append(errs, s.k.DeleteAddress(l.Index, a))
		}
	}
	return changes, errors.Join(errs...)
}

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "wisp")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.counts.refused.Add(1)
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	g := s.asker(r)
	if g == nil {
		http.NotFound(w, r)
		return
	}
	body, ok := lookup(g.data, r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	s.counts.served.Add(1)
	w.Header().Set("Content-Type", body.kind)
	w.Header().Set("Content-Length", fmt.Sprint(len(body.bytes)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body.bytes) // a guest that went away
}

// asker is the guest at the other end of the connection, or nil.
func (s *Service) asker(r *http.Request) *guest {
	conn, ok := r.Context().Value(connKey{}).(*guestsock.Conn)
	guests := s.guests.Load()
	if !ok || guests == nil {
		return nil
	}
	g := (*guests)[conn.Peer]
	if g == nil {
		s.counts.unknown.Add(1)
		return nil
	}
	if err := conn.Verify(g.mac); err != nil {
		s.counts.spoofed.Add(1)
		s.log.Warn("metadata withheld", "ip", conn.Peer, "err", err)
		return nil
	}
	return g
}
