package systemvmtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/netsvc/netsvctest/matrix"
	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// cutConn is closed when so many bytes have been written.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) > c.left {
		n, err := c.Conn.Write(b[:c.left])
		if err == nil {
			c.Close()
			err = net.ErrClosed
		}
		return n, err
	}
	c.left -= len(b)
	return c.Conn.Write(b)
}

// large is a spec of more than 4 MB, which is what 128 guests with much user-data make.
func large() *netspec.NetSpec {
	s := matrix.Spec()
	for i := range 128 {
		s.Metadata.Guests = append(s.Metadata.Guests, &netspec.GuestData{
			Ip: fmt.Sprintf("10.1.1.%d", 100+i), Mac: fmt.Sprintf("02:00:00:00:02:%02x", i),
			// The escape of the port, so that every byte of it becomes two.
			UserData: bytes.Repeat([]byte{0x1b}, 32<<10),
		})
	}
	return s
}

// TestRouter is the life of a router in a system VM: the matrix, then one mishap after the other, the last of them fatal.
func TestRouter(t *testing.T) {
	w := matrix.NewWorld(t)
	dir, m := image(t)
	vm := boot(t, dir, m.Cmdline+" wisp.debug=1", w, false)
	var cutAfter atomic.Int64 // bytes that the next connection carries; 0 for any number
	peer := matrix.NewPeer(t, func() (net.Conn, error) {
		conn, err := net.Dial("unix", vm.channel)
		if err != nil {
			return nil, err
		}
		if n := cutAfter.Swap(0); n > 0 {
			conn = &cutConn{conn, int(n)}
		}
		session, err := specio.Begin(conn)
		if err != nil {
			conn.Close()
		}
		return session, err
	})
	vm.waitFor("wisp-netsvc serves")
	t.Run("matrix", func(t *testing.T) { matrix.Run(t, w, peer) })

	t.Run("observation", func(t *testing.T) {
		o := peer.WaitFor(t, "the image's version", func(o *netspec.Observation) bool { return o.GetImageVersion() != "" })
		if o.GetImageVersion() != imageVersion || o.GetVersion() != imageVersion || o.GetMemoryAvailableKib() == 0 {
			t.Errorf("image %q, program %q, %d KiB available", o.GetImageVersion(), o.GetVersion(), o.GetMemoryAvailableKib())
		}
		for _, s := range o.GetServices() {
			if !s.GetReady() {
				t.Errorf("service %s: %s", s.GetName(), s.GetError())
			}
		}
	})

	t.Run("plugged in", func(t *testing.T) {
		matrix.Announced(t, w, peer, vm.plug)
		matrix.Check(t, w)
	})

	t.Run("channel cut", func(t *testing.T) {
		before := peer.Connects()
		peer.Cut()
		matrix.Check(t, w)
		waitConnects(t, peer, before+1)
	})

	t.Run("a spec of 4 MB, cut in the middle", func(t *testing.T) {
		s := large()
		if n := proto.Size(s); n < 4<<20 {
			t.Fatalf("the spec has %d bytes", n)
		}
		before := peer.Connects()
		cutAfter.Store(3 << 20)
		peer.Cut()
		o := peer.Apply(t, s)
		t.Logf("applied with %d MiB available, over connection %d", o.GetMemoryAvailableKib()>>10, peer.Connects()-before)
		matrix.Check(t, w)
		peer.Apply(t, matrix.Spec())
	})

	t.Run("services killed", func(t *testing.T) {
		old := peer.WaitFor(t, "an observation", func(*netspec.Observation) bool { return true }).GetStartedUnixMs()
		vm.shell("busybox killall -9 wisp-netsvc")
		peer.WaitFor(t, "another process", func(o *netspec.Observation) bool {
			return o.GetStartedUnixMs() > old && o.GetAppliedGeneration() > 0
		})
		matrix.Check(t, w)
		if !strings.Contains(vm.seen(), "was ended by signal 9") {
			t.Error("the console does not say that it was killed")
		}
	})

	t.Run("kernel panic", func(t *testing.T) {
		vm.shell("echo c > /proc/sysrq-trigger")
		vm.waitEnd()
		if !strings.Contains(vm.seen(), "Kernel panic") {
			t.Error("the console does not speak of the panic")
		}
	})
}

func waitConnects(t *testing.T, p *matrix.Peer, n int) {
	t.Helper()
	netsvctest.Wait(t, fmt.Sprintf("connection %d", n), bootLimit, func() (bool, string) {
		got := p.Connects()
		return got >= n, fmt.Sprint(got)
	})
}

// A machine whose root disk is damaged says so and switches itself off; it does not start again and again.
func TestDamagedRoot(t *testing.T) {
	netsvctest.RequireRoot(t)
	dir, m := image(t)
	root := filepath.Join(dir, "root.squashfs")
	data, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	whole := xxhash.Sum64(data)
	f, err := os.OpenFile(root, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	vm := boot(t, dir, m.Cmdline, nil, true)
	vm.waitEnd()
	for _, text := range []string{"ROOT DISK IS DAMAGED, NOT STARTED: verify /dev/vda", fmt.Sprintf("want %016x", whole), "power off"} {
		if !strings.Contains(vm.seen(), text) {
			t.Errorf("the console does not say %q", text)
		}
	}
	if strings.Contains(vm.seen(), "wisp-netsvc") {
		t.Error("the services were started")
	}
}
