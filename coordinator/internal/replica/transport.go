package replica

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// openTransport serves raft on TCP, with TLS where configured.
func openTransport(c Config) (raft.Transport, error) {
	if c.Transport != nil {
		return c.Transport, nil
	}
	ln, err := net.Listen("tcp", c.Bind)
	if err != nil {
		return nil, fmt.Errorf("serve raft: %w", err)
	}
	s := &streams{Listener: ln, advertise: ln.Addr(), tls: c.TLS}
	if c.Advertise != "" {
		s.advertise = address(c.Advertise)
	} else if a, ok := ln.Addr().(*net.TCPAddr); !ok || a.IP.IsUnspecified() {
		return nil, errors.Join(fmt.Errorf("serve raft on %s: the address for the other members must be given", ln.Addr()), ln.Close())
	}
	if c.TLS != nil {
		s.Listener = tls.NewListener(ln, c.TLS)
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  s,
		MaxPool:                 3,
		Timeout:                 10 * time.Second,
		Logger:                  raftLogger(c.Logger),
		MsgpackUseNewTimeFormat: true,
	}), nil
}

// streams implements raft.StreamLayer.
type streams struct {
	net.Listener
	advertise net.Addr
	tls       *tls.Config
}

// Addr is where the other members reach this one.
func (s *streams) Addr() net.Addr { return s.advertise }

// Dial implements raft.StreamLayer.
func (s *streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout}
	if s.tls == nil {
		return d.Dial("tcp", string(to))
	}
	return tls.DialWithDialer(d, "tcp", string(to), s.tls)
}

// address is a host:port that need not be resolved here.
type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

func (a address) String() string { return string(a) }
