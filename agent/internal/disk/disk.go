// Package disk makes the pools and volumes of a host: directories of qcow2 files over read-only images.
//
// A volume is made once. A file that exists is never replaced, one that was made and is gone is reported lost, not
// made anew empty, and a file is deleted only where the spec says that its volume is removed.
package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Disks are the volumes of a host.
type Disks struct {
	facts *ledger.Facts[ledger.VolumeFacts]
	log   *slog.Logger
}

// New makes Disks that remember in facts what they made.
func New(facts *ledger.Facts[ledger.VolumeFacts], log *slog.Logger) *Disks {
	return &Disks{facts: facts, log: log}
}

// Path is where a volume lives in its pool.
func Path(pool *hostspec.StoragePool, id string) string {
	return filepath.Join(pool.GetPath(), "volumes", id+".qcow2")
}

// State of one volume.
type State struct {
	Present bool
	// Bytes it takes on the host.
	Allocated uint64
}

// Observe looks at one volume. A volume that was made and is gone is a permanent error.
func (d *Disks) Observe(pool *hostspec.StoragePool, want *hostspec.Volume) (State, error) {
	path := Path(pool, want.GetId())
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if made, ok := d.facts.Get(want.GetId()); ok && made.Done {
			return State{}, desired.Permanent(fmt.Errorf("file %s is gone: it was made here and is not made anew", path))
		}
		return State{}, nil
	case err != nil:
		return State{}, fmt.Errorf("look at volume: %w", err)
	case !info.Mode().IsRegular():
		return State{}, desired.Permanent(fmt.Errorf("%s is not a regular file", path))
	}
	s := State{Present: true}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Allocated = uint64(st.Blocks) * 512
	}
	return s, nil
}

const createDeadline = 5 * time.Minute

// Create makes a volume over the image at backing, or a blank one when want has no image.
func (d *Disks) Create(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Volume, backing string) error {
	path := Path(pool, want.GetId())
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return fmt.Errorf("make volume directory: %w", err)
	}
	facts := ledger.VolumeFacts{PoolID: pool.GetId(), Path: path}
	if err := d.facts.Put(want.GetId(), facts); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove half-made volume: %w", err)
	}
	if err := create(ctx, temp, want, backing); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	if err := syncFile(temp); err != nil {
		return err
	}
	// Unlike rename(2), never over something that is there.
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) {
		// File systems without RENAME_NOREPLACE: link(2) fails on an existing name too.
		if err = os.Link(temp, path); err == nil {
			err = os.Remove(temp)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("name volume: %w", err), removeIfThere(temp))
	}
	if err := syncFile(filepath.Dir(path)); err != nil {
		return err
	}
	facts.Done = true
	d.log.Info("made volume", "volume", want.GetId(), "pool", pool.GetId(), "bytes", want.GetSizeBytes(),
		"image", want.GetImageSha256())
	return d.facts.Put(want.GetId(), facts)
}

func create(ctx context.Context, path string, want *hostspec.Volume, backing string) error {
	ctx, cancel := context.WithTimeout(ctx, createDeadline)
	defer cancel()
	args := []string{"create", "-q", "-f", "qcow2"}
	if want.GetImageSha256() != "" {
		args = append(args, "-b", backing, "-F", want.GetImageFormat())
	}
	args = append(args, path)
	if want.GetSizeBytes() != 0 {
		args = append(args, strconv.FormatUint(want.GetSizeBytes(), 10))
	}
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(complaint.String())
		return fmt.Errorf("qemu-img create: %w: %s", err, text[:min(len(text), 300)])
	}
	return os.Chmod(path, 0o600)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// Delete removes the file of a volume, and what a half-made one has left. Deleting what is gone succeeds.
func (d *Disks) Delete(pool *hostspec.StoragePool, id string) error {
	path := Path(pool, id)
	_, err := os.Lstat(path)
	if err == nil {
		d.log.Info("deleting volume", "volume", id, "path", path)
	}
	if err := errors.Join(removeIfThere(path+".new"), removeIfThere(path)); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	return d.facts.Delete(id)
}

// Backing finds the images below the volumes of a pool, by the headers of their files.
func Backing(pool *hostspec.StoragePool) (map[string]bool, error) {
	dir := filepath.Join(pool.GetPath(), "volumes")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	sums := map[string]bool{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		h, err := image.ReadFileHeader(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, image.ErrNotQcow2):
			continue
		case err != nil:
			// What cannot be read may need any image: keep them all for now.
			return nil, fmt.Errorf("read volume %s: %w", e.Name(), err)
		case h.Backing != "":
			sum, _, _ := strings.Cut(filepath.Base(h.Backing), ".")
			sums[sum] = true
		}
	}
	return sums, nil
}
