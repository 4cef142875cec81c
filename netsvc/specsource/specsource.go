// Package specsource is where desired state comes from and observations go: a stream to whoever rules this namespace.
// On a host it is a unix socket the agent connects to; in a system VM it is a virtio-serial port. The rest of netsvc
// sees only Source.
package specsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Source hands out streams to the one peer that rules this process.
type Source interface {
	// Accept waits for the next peer. The caller closes the stream; a newer one replaces an older one.
	Accept(ctx context.Context) (io.ReadWriteCloser, error)
	// Close ends a blocked Accept.
	Close() error
}

// Open opens the source an address names: "unix:/path/of.sock", or "virtio:NAME" for the virtio-serial port that the
// host gave that name.
func Open(address string) (Source, error) {
	kind, rest, ok := strings.Cut(address, ":")
	if !ok || rest == "" {
		return nil, fmt.Errorf("open spec source %q: want kind:address, such as unix:/run/wisp/netsvc/net.sock", address)
	}
	switch kind {
	case "unix":
		return listenUnix(rest)
	case "virtio":
		return openVirtio(rest)
	default:
		return nil, fmt.Errorf("open spec source %q: unknown kind %q", address, kind)
	}
}

// ListenUnix listens on a unix socket that only this user can open. A socket left behind by a killed predecessor is
// replaced; one that is alive is taken over as well, for two processes must not rule one namespace and the newer was
// started on purpose.
func ListenUnix(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: remove stale socket: %w", path, err)
	}
	// The mode is set before anybody can connect: bind makes the file with what the umask leaves.
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// unixSource listens on a unix socket.
type unixSource struct {
	l    *net.UnixListener
	once sync.Once
	err  error
}

func listenUnix(path string) (*unixSource, error) {
	l, err := ListenUnix(path)
	if err != nil {
		return nil, err
	}
	return &unixSource{l: l}, nil
}

func (s *unixSource) Accept(ctx context.Context) (io.ReadWriteCloser, error) {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	for {
		c, err := s.l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("accept on spec source: %w", err)
		}
		if err := checkPeer(c); err != nil {
			c.Close()
			continue
		}
		return c, nil
	}
}

// checkPeer admits root and this process' own user: the file's mode says the same, but directories get copied.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(controlErr, err); err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("peer is user %d", cred.Uid)
	}
	return nil
}

func (s *unixSource) Close() error {
	s.once.Do(func() { s.err = s.l.Close() })
	return s.err
}
