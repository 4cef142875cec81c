package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// Capacity of a pool's file system.
type Capacity struct {
	Bytes, Used uint64
	// Direct I/O works there.
	Direct bool
}

const mountDeadline = 60 * time.Second

// Open makes a pool usable and measures it. It may block as long as the pool's file system does.
func Open(ctx context.Context, pool *hostspec.StoragePool) (Capacity, error) {
	switch pool.GetType() {
	case hostspec.PoolType_POOL_TYPE_LOCAL:
		if err := os.MkdirAll(pool.GetPath(), 0o711); err != nil {
			return Capacity{}, fmt.Errorf("make pool directory: %w", err)
		}
	case hostspec.PoolType_POOL_TYPE_SHARED_MOUNT:
		if err := mustExist(pool.GetPath()); err != nil {
			return Capacity{}, fmt.Errorf("shared pool: %w", err)
		}
	case hostspec.PoolType_POOL_TYPE_NFS:
		if err := mountNFS(ctx, pool); err != nil {
			return Capacity{}, err
		}
	}
	for _, dir := range []string{"images", "volumes"} {
		if err := os.MkdirAll(filepath.Join(pool.GetPath(), dir), 0o711); err != nil {
			return Capacity{}, fmt.Errorf("make pool directory: %w", err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(pool.GetPath(), &st); err != nil {
		return Capacity{}, fmt.Errorf("measure pool: %w", err)
	}
	size := uint64(st.Bsize)
	return Capacity{
		Bytes: st.Blocks * size, Used: (st.Blocks - st.Bfree) * size, Direct: takesDirect(pool.GetPath()),
	}, nil
}

func mustExist(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	return nil
}

// takesDirect tries O_DIRECT on a file without a name.
func takesDirect(dir string) bool {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}

func mountNFS(ctx context.Context, pool *hostspec.StoragePool) error {
	mounted, err := mountedFrom(pool.GetPath())
	if err != nil {
		return err
	}
	if mounted == pool.GetSource() {
		return nil
	}
	if mounted != "" {
		return fmt.Errorf("mount pool: %s is mounted at %s", mounted, pool.GetPath())
	}
	if err := os.MkdirAll(pool.GetPath(), 0o711); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, mountDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mount", "-t", "nfs", "-o", "nosuid,nodev,noexec,hard", "--",
		pool.GetSource(), pool.GetPath())
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mount pool from %s: %w: %s", pool.GetSource(), err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// mountedFrom returns the source of the mount at exactly path, "" for none (proc_pid_mountinfo(5)).
func mountedFrom(path string) (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	source := ""
	for _, line := range strings.Split(string(data), "\n") {
		left, right, ok := strings.Cut(line, " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if ok && len(fields) >= 5 && len(tail) >= 2 && fields[4] == path {
			source = tail[1]
		}
	}
	return source, nil
}

// ErrNoPool says that the pool of an object is not ready.
var ErrNoPool = errors.New("pool is not ready")
