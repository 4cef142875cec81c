package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/identity"
)

// TestReadyAfterCredentials: who waits for readiness finds the first administrator's credentials in their file.
func TestReadyAfterCredentials(t *testing.T) {
	cfg := testConfig(t, "c1")
	// A directory in the file's place, which cannot be renamed over, holds the bootstrap up between rows and file.
	obstacle := filepath.Join(cfg.DataDir, AdminFile)
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	wait := func(what string, ok func() bool) {
		t.Helper()
		deadline, tick := time.After(time.Minute), time.NewTicker(5*time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-deadline:
				t.Fatalf("wait for %s: ready says %v", what, s.Ready())
			case <-tick.C:
			}
		}
	}
	wait("the first rows", func() bool { return identity.Root(s.replica.DB().Current()) != nil })
	if err := s.Ready(); err == nil {
		t.Error("ready although the credentials are not in their file")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	wait("readiness", func() bool { return s.Ready() == nil })
	if info, err := os.Stat(obstacle); err != nil || !info.Mode().IsRegular() {
		t.Errorf("ready without credentials: %v, %v", info, err)
	}
}
