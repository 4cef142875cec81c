package main

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/netsvc/netsvctest/matrix"
)

// TestMatrix runs the matrix against a router in a namespace of a host. systemvm/systemvmtest runs the same against one
// in a system VM.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := matrix.NewWorld(t)
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	router := netsvctest.NewNode(t)
	w.PlugNode(router)
	socket := filepath.Join(t.TempDir(), "spec.sock")
	process := router.Start(path, "--spec-source", "unix:"+socket)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("wisp-netsvc printed:\n%s", process.Output())
		}
	})
	p := matrix.NewPeer(t, func() (net.Conn, error) { return net.Dial("unix", socket) })
	matrix.Run(t, w, p)
	t.Run("plugged in", func(t *testing.T) { matrix.Announced(t, w, p, w.Plug) })
	p.Cut()
	matrix.Check(t, w)
}
