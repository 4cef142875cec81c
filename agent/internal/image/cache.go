// Package image keeps templates on a host: files named by the SHA-256 of their content, fetched once from a
// coordinator, verified, judged, and then read-only for ever.
//
// An image is hostile until proven dull: it was uploaded by a tenant. Before any other program opens it, its header is
// parsed here and by qemu-img without privileges; an image that names other files never gets its final name.
package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Source is where images come from. Fetch writes the content from offset on to w; size is the whole image's.
type Source interface {
	Fetch(ctx context.Context, sha256 string, offset uint64, w io.Writer) (size uint64, err error)
}

// Cache is the images of a host, kept in its pools.
type Cache struct {
	source Source
	log    *slog.Logger
	now    func() time.Time
	grace  time.Duration

	mu sync.Mutex
	// Since when an image is wanted by nobody, by path.
	unwanted map[string]time.Time
}

// DefaultGrace is how long an unreferenced image is kept for the next VM.
const DefaultGrace = time.Hour

// New makes a cache; grace 0 means DefaultGrace.
func New(source Source, grace time.Duration, now func() time.Time, log *slog.Logger) *Cache {
	if grace == 0 {
		grace = DefaultGrace
	}
	return &Cache{source: source, log: log, now: now, grace: grace, unwanted: map[string]time.Time{}}
}

// Path is where an image is kept in a pool.
func Path(pool *hostspec.StoragePool, sum, format string) string {
	return filepath.Join(pool.GetPath(), "images", sum+"."+format)
}

// Has says whether the image is there, whole and judged.
func (c *Cache) Has(pool *hostspec.StoragePool, want *hostspec.Image) (bool, error) {
	info, err := os.Lstat(Path(pool, want.GetSha256(), want.GetFormat()))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for image: %w", err)
	case want.GetFormat() == desired.FormatSystemVM && info.IsDir():
		return true, nil
	case !info.Mode().IsRegular():
		return false, desired.Permanent(errors.New("image is not a regular file"))
	}
	return true, nil
}

// Fetch brings an image into the pool, going on where an earlier try ended. progress hears of bytes present.
func (c *Cache) Fetch(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Image, progress func(uint64)) error {
	final := Path(pool, want.GetSha256(), want.GetFormat())
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return fmt.Errorf("make image directory: %w", err)
	}
	partial := final + ".part"
	if err := c.download(ctx, partial, want, progress); err != nil {
		return err
	}
	if err := c.admit(ctx, partial, final, want); err != nil {
		if desired.IsPermanent(err) {
			return errors.Join(err, os.Remove(partial))
		}
		return err
	}
	c.log.Info("fetched image", "sha256", want.GetSha256(), "bytes", want.GetSizeBytes(), "pool", pool.GetId())
	return nil
}

func (c *Cache) download(ctx context.Context, partial string, want *hostspec.Image, progress func(uint64)) (err error) {
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open partial image: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Two agents on one shared pool must not write one file.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock partial image: another host is fetching it: %w", err)
	}
	sum := sha256.New()
	have, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("read partial image: %w", err)
	}
	if have > 0 && uint64(have) > want.GetSizeBytes() && want.GetSizeBytes() != 0 {
		have = 0
		sum.Reset()
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("restart partial image: %w", err)
		}
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return fmt.Errorf("seek partial image: %w", err)
	}
	w := &meter{file: f, sum: sum, have: uint64(have), limit: want.GetSizeBytes(), progress: progress}
	progress(w.have)
	if want.GetSizeBytes() == 0 || w.have < want.GetSizeBytes() {
		if _, err := c.source.Fetch(ctx, want.GetSha256(), w.have, w); err != nil {
			return fmt.Errorf("fetch image: %w", err)
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.GetSha256() {
		if want.GetSizeBytes() != 0 && w.have < want.GetSizeBytes() {
			return fmt.Errorf("fetch image: got %d of %d bytes", w.have, want.GetSizeBytes())
		}
		// Nothing of it can be trusted: start over next time.
		return errors.Join(fmt.Errorf("verify image: content has SHA-256 %s", got), f.Truncate(0))
	}
	if err := f.Chmod(0o444); err != nil {
		return fmt.Errorf("protect image: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync image: %w", err)
	}
	return nil
}

// meter writes, sums, counts, and refuses more than was announced.
type meter struct {
	file     *os.File
	sum      hash.Hash
	have     uint64
	limit    uint64
	progress func(uint64)
}

func (m *meter) Write(p []byte) (int, error) {
	if m.limit != 0 && m.have+uint64(len(p)) > m.limit {
		return 0, fmt.Errorf("image is longer than its %d bytes", m.limit)
	}
	n, err := m.file.Write(p)
	m.sum.Write(p[:n])
	m.have += uint64(n)
	m.progress(m.have)
	return n, err
}

// admit judges a verified file and gives it its name.
func (c *Cache) admit(ctx context.Context, partial, final string, want *hostspec.Image) error {
	if want.GetFormat() == desired.FormatSystemVM {
		return c.unpack(partial, final)
	}
	if err := Judge(ctx, partial, want.GetFormat()); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return desired.Permanent(fmt.Errorf("refuse image %s: %w", want.GetSha256(), err))
	}
	if err := os.Rename(partial, final); err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	d, err := os.Open(filepath.Dir(final))
	if err != nil {
		return fmt.Errorf("sync image directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sweep removes images of a local pool that nobody has wanted for the grace time, and partial files likewise. keep
// holds the sums that are wanted or lie below a volume.
func (c *Cache) Sweep(pool *hostspec.StoragePool, keep map[string]bool) error {
	dir := filepath.Join(pool.GetPath(), "images")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var errs []error
	for _, e := range entries {
		sum, _, _ := strings.Cut(e.Name(), ".")
		path := filepath.Join(dir, e.Name())
		if len(sum) != 2*sha256.Size || keep[sum] {
			delete(c.unwanted, path)
			continue
		}
		since, ok := c.unwanted[path]
		if !ok {
			c.unwanted[path] = now
			continue
		}
		if now.Sub(since) < c.grace {
			continue
		}
		c.log.Info("removing image nobody uses", "path", path)
		delete(c.unwanted, path)
		if e.IsDir() {
			errs = append(errs, removeSet(path))
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove image: %w", err))
		}
	}
	return errors.Join(errs...)
}
