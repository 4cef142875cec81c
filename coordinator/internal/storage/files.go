package storage

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
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Files is secondary storage as this coordinator reaches it.
type Files struct {
	read func() store.Reader
}

// NewFiles makes it; read gives the present state.
func NewFiles(read func() store.Reader) *Files { return &Files{read} }

// dir is the directory of an image store.
func dir(s *cloud.ImageStore) string { return strings.TrimPrefix(s.URL, "file://") }

func imagePath(s *cloud.ImageStore, sha string) string { return filepath.Join(dir(s), "images", sha) }

func incomingPath(s *cloud.ImageStore, template cloud.ID) string {
	return filepath.Join(dir(s), "incoming", template.String()+".part")
}

// prepare makes the directories of a store.
func prepare(s *cloud.ImageStore) error {
	for _, sub := range []string{"images", "incoming"} {
		if err := os.MkdirAll(filepath.Join(dir(s), sub), 0o750); err != nil {
			return fmt.Errorf("prepare image store %s: %w", s.ID, err)
		}
	}
	return nil
}

// validSHA keeps anything but a checksum out of paths.
func validSHA(sha string) bool {
	if len(sha) != 2*sha256.Size {
		return false
	}
	for _, c := range sha {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Open gives the file of that checksum, from any store; fs.ErrNotExist where none has it.
func (f *Files) Open(sha string) (io.ReadSeekCloser, int64, error) {
	if !validSHA(sha) {
		return nil, 0, fs.ErrNotExist
	}
	for s := range tables.ImageStores.All(f.read()) {
		file, err := os.Open(imagePath(s, sha))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("open image %s: %w", sha, err)
		}
		st, err := file.Stat()
		if err != nil {
			return nil, 0, errors.Join(fmt.Errorf("open image %s: %w", sha, err), file.Close())
		}
		return file, st.Size(), nil
	}
	return nil, 0, fs.ErrNotExist
}

// Import stores a file under its checksum, which is verified.
func (f *Files) Import(ctx context.Context, sha string, r io.Reader) error {
	if !validSHA(sha) {
		return fmt.Errorf("import image: %q is no checksum", sha)
	}
	for s := range tables.ImageStores.All(f.read()) {
		return importTo(ctx, s, sha, r)
	}
	return errors.New("import image: there is no secondary storage")
}

func importTo(ctx context.Context, s *cloud.ImageStore, sha string, r io.Reader) (err error) {
	if err := prepare(s); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Join(dir(s), "incoming"), "import-*.part")
	if err != nil {
		return fmt.Errorf("import image %s: %w", sha, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tmp, h), &ctxReader{ctx, r}); err != nil {
		return fmt.Errorf("import image %s: %w", sha, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sha {
		return fmt.Errorf("import image %s: the content has checksum %s", sha, got)
	}
	return admit(tmp, imagePath(s, sha))
}

// admit makes a written file durable under its final name and closes it.
func admit(f *os.File, path string) error {
	if err := f.Chmod(0o440); err != nil {
		return fmt.Errorf("admit image: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("admit image: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("admit image: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("admit image: %w", err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("admit image: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
