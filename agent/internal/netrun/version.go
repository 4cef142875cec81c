package netrun

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// binary knows the version of the program on the disk. A running process is compared with that and nothing else: it may
// be newer or older than the agent, for both are upgraded one after the other and the agent is not restarted for it.
type binary struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	id      fileID
	version string
}

// fileID changes when a file is replaced or written.
type fileID struct {
	inode, size uint64
	mtime       time.Time
}

const versionTimeout = 5 * time.Second

// Version is what the program says of itself; it is run once for every file that stands there. "" is not known, which
// fits any process: better an old one than none.
func (b *binary) Version() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := os.Stat(b.path)
	if err != nil {
		// Between the old and the new one.
		return ""
	}
	id := fileID{size: uint64(info.Size()), mtime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.inode = st.Ino
	}
	if id == b.id {
		return b.version
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, b.path, "--version").Output()
	if err != nil {
		// Half written perhaps: look again next time.
		b.log.Error("wisp-netsvc does not tell its version", "binary", b.path, "error", err)
		return ""
	}
	b.id, b.version = id, strings.TrimSpace(string(out))
	return b.version
}
