package specsource

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestUnixSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	for range 2 { // the second takes the place of the first, which was not closed: it was killed
		s, err := Open("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket has mode %v, %v", info.Mode(), err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peer, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if n, err := peer.Read(b); n != 1 || err != nil || b[0] != 'x' {
			t.Errorf("read %q, %v", b[:n], err)
		}
		peer.Close()
	}
}

func TestAcceptEndsWithContext(t *testing.T) {
	s, err := Open("unix:" + filepath.Join(t.TempDir(), "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, address := range []string{"", "unix:", "/run/x.sock", "tcp:1234", "unix:/nowhere/at/all/x.sock"} {
		if s, err := Open(address); err == nil {
			s.Close()
			t.Errorf("opened %q", address)
		}
	}
}
