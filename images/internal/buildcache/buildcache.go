// Package buildcache keeps finished images under a key of everything that went
// into them, so that building what was built before takes no time.
//
// An entry is a directory that appears by one rename when its build is complete:
// a build that was killed leaves nothing that could be taken for a result. A
// lock makes builders of the same cache wait for each other, also across
// processes. The whole cache may be deleted whenever no build runs.
package buildcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keep is how many entries of an image stay.
const keep = 4

// Cache holds the entries of one kind of image in Dir.
type Cache struct {
	Dir string
}

const workPrefix = ".work-"

// Get returns the directory of key's entry. If there is none, or good refuses
// it, build is called to fill an empty directory that then becomes the entry.
func (c Cache) Get(ctx context.Context, key string, good func(dir string) error, build func(ctx context.Context, dir string) error) (string, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("open build cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(c.Dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("lock build cache %s: %w", c.Dir, err)
	}
	defer unlock()
	entry := filepath.Join(c.Dir, key)
	if good(entry) == nil {
		now := time.Now()
		_ = os.Chtimes(entry, now, now) // prune goes by last use
		return entry, nil
	}
	if err := c.removeWork(); err != nil {
		return "", fmt.Errorf("clean build cache: %w", err)
	}
	dir, err := os.MkdirTemp(c.Dir, workPrefix)
	if err != nil {
		return "", fmt.Errorf("open build cache: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := build(ctx, dir); err != nil {
		return "", err
	}
	if err := good(dir); err != nil {
		return "", fmt.Errorf("check new entry of build cache: %w", err)
	}
	if err := os.RemoveAll(entry); err != nil {
		return "", fmt.Errorf("replace entry of build cache: %w", err)
	}
	if err := os.Rename(dir, entry); err != nil {
		return "", fmt.Errorf("add entry to build cache: %w", err)
	}
	return entry, c.prune()
}

// lock waits for the cache; the kernel drops the lock of a process that dies.
func lock(ctx context.Context, path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// removeWork deletes what killed builds left. The lock is held: none is running.
func (c Cache) removeWork() error {
	left, err := filepath.Glob(filepath.Join(c.Dir, workPrefix+"*"))
	if err != nil {
		return err
	}
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return err
		}
	}
	return nil
}

// prune deletes the entries used longest ago.
func (c Cache) prune() error {
	list, err := os.ReadDir(c.Dir)
	if err != nil {
		return fmt.Errorf("prune build cache: %w", err)
	}
	var entries []fs.FileInfo
	for _, d := range list {
		if info, err := d.Info(); err == nil && d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			entries = append(entries, info)
		}
	}
	slices.SortFunc(entries, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, old := range entries[min(keep, len(entries)):] {
		if err := os.RemoveAll(filepath.Join(c.Dir, old.Name())); err != nil {
			return fmt.Errorf("prune build cache: %w", err)
		}
	}
	return nil
}

// Sum is the SHA-256 of a file, in hexadecimal.
func Sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Place puts a copy of from at to, replacing it by one rename. It is a copy and
// not a link: who writes to it must not change the cache.
func Place(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("place %s: %w", to, err)
	}
	defer src.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("place %s: %w", to, err)
	}
	dst, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-")
	if err != nil {
		return fmt.Errorf("place %s: %w", to, err)
	}
	defer os.Remove(dst.Name())
	_, err = io.Copy(dst, src)
	err = errors.Join(err, dst.Chmod(0o644), dst.Close())
	if err != nil {
		return fmt.Errorf("place %s: %w", to, err)
	}
	if err := os.Rename(dst.Name(), to); err != nil {
		return fmt.Errorf("place %s: %w", to, err)
	}
	return nil
}
