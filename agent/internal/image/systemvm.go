package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Files of a system VM's image.
const (
	manifestName = "manifest.json"
	KernelName   = "vmlinuz"
	InitrdName   = "initrd"
	RootName     = "root.squashfs"
)

// Largest sizes: some ten times those of a real image.
const (
	maxManifest = 4 << 20
	maxKernel   = 256 << 20
	maxInitrd   = 256 << 20
	maxRoot     = 1 << 30
	maxCmdline  = 1024
)

var setLimits = map[string]int64{manifestName: maxManifest, KernelName: maxKernel, InitrdName: maxInitrd, RootName: maxRoot}

// defaultCmdline is for images that bring none.
const defaultCmdline = "console=ttyS0 quiet panic=5 wisp.root=/dev/vda"

// Set is a system VM's image that was verified.
type Set struct {
	Version string
	// Cmdline to boot it with.
	Cmdline              string
	Kernel, Initrd, Root string
}

// manifest is the part of manifest.json that a host needs.
type manifest struct {
	Version string     `json:"version"`
	Cmdline string     `json:"cmdline"`
	Files   []fileSpec `json:"files"`
}

type fileSpec struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ErrCorrupted is a file of a set that is not what it was when it was fetched.
var ErrCorrupted = errors.New("image is damaged on this host's disk")

// sealName is the file that is written last, when the set was whole: the sum of the manifest. Without it nothing on the
// disk would say what the manifest has to be.
const sealName = "seal"

// Verify reads a whole set and compares it with what was fetched: a system VM is never booted from anything else. A
// damaged set is removed, so that it is fetched again, and the error says which file it was.
func (c *Cache) Verify(pool *hostspec.StoragePool, sum string) (Set, error) {
	dir := Path(pool, sum, desired.FormatSystemVM)
	set, err := readSet(dir)
	if err == nil || !errors.Is(err, ErrCorrupted) {
		return set, err
	}
	c.log.Error("removing a damaged image to fetch it again", "sha256", sum, "error", err)
	return Set{}, errors.Join(fmt.Errorf("image %s: %w; fetching it again", sum, err), removeSet(dir))
}

func readSet(dir string) (Set, error) {
	sealed, err := readBounded(filepath.Join(dir, sealName), 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return Set{}, fmt.Errorf("%w: it is not whole", ErrCorrupted)
	}
	if err != nil {
		return Set{}, fmt.Errorf("read image: %w", err)
	}
	data, err := readBounded(filepath.Join(dir, manifestName), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return Set{}, fmt.Errorf("%w: %s is missing", ErrCorrupted, manifestName)
	}
	if err != nil {
		return Set{}, fmt.Errorf("read image: %w", err)
	}
	if hexSum(data) != strings.TrimSpace(string(sealed)) {
		return Set{}, fmt.Errorf("%w: %s differs", ErrCorrupted, manifestName)
	}
	m, err := readManifest(data)
	if err != nil {
		return Set{}, fmt.Errorf("%w: %w", ErrCorrupted, err)
	}
	for _, f := range m.Files {
		if err := verifyFile(filepath.Join(dir, f.Name), f); err != nil {
			return Set{}, err
		}
	}
	return Set{
		Version: m.Version, Cmdline: m.Cmdline, Kernel: filepath.Join(dir, KernelName),
		Initrd: filepath.Join(dir, InitrdName), Root: filepath.Join(dir, RootName),
	}, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func verifyFile(path string, want fileSpec) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", ErrCorrupted, want.Name)
	}
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, want.Size+1))
	if err != nil {
		// A disk that cannot read a file back is a damaged file as well.
		return fmt.Errorf("%w: %s cannot be read: %w", ErrCorrupted, want.Name, err)
	}
	if n != want.Size || hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("%w: %s differs from its manifest", ErrCorrupted, want.Name)
	}
	return nil
}

// readManifest checks what is built into paths, command lines and reports.
func readManifest(data []byte) (manifest, error) {
	var m manifest
	if len(data) > maxManifest {
		return m, fmt.Errorf("%s is longer than %d bytes", manifestName, maxManifest)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", manifestName, err)
	}
	if m.Cmdline == "" {
		m.Cmdline = defaultCmdline
	}
	if len(m.Cmdline) > maxCmdline || !printable(m.Cmdline) {
		return m, fmt.Errorf("%s: the command line is not usable", manifestName)
	}
	if m.Version == "" || len(m.Version) > 128 || !printable(m.Version) {
		return m, fmt.Errorf("%s: the version is not usable", manifestName)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		limit, known := setLimits[f.Name]
		switch {
		case !known || f.Name == manifestName || seen[f.Name]:
			return m, fmt.Errorf("%s: file %q is not known or named twice", manifestName, f.Name)
		case f.Size < 1 || f.Size > limit:
			return m, fmt.Errorf("%s: %s has %d bytes, want 1 to %d", manifestName, f.Name, f.Size, limit)
		case len(f.SHA256) != 2*sha256.Size:
			return m, fmt.Errorf("%s: %s has no SHA-256", manifestName, f.Name)
		}
		seen[f.Name] = true
	}
	if len(seen) != len(setLimits)-1 {
		return m, fmt.Errorf("%s names %d files, want %s, %s and %s", manifestName, len(seen), KernelName, InitrdName, RootName)
	}
	return m, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

// unpack turns a verified tar into the set's directory, which gets its name when everything in it is on the disk.
func (c *Cache) unpack(partial, final string) error {
	scratch := final + ".unpack"
	if err := removeSet(scratch); err != nil {
		return err
	}
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	if err := unpackInto(partial, scratch); err != nil {
		return errors.Join(err, removeSet(scratch))
	}
	if err := syncPath(scratch); err != nil {
		return err
	}
	// What was there is damaged, or nothing.
	if err := removeSet(final); err != nil {
		return err
	}
	if err := os.Rename(scratch, final); err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove packed image: %w", err)
	}
	return syncPath(filepath.Dir(final))
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync image directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// unpackInto writes the four files and the seal. Everything that is wrong with the tar is permanent: its content is
// that of its name.
func unpackInto(partial, dir string) error {
	f, err := os.Open(partial)
	if err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	defer func() { _ = f.Close() }()
	r := tar.NewReader(f)
	seen := map[string]bool{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return desired.Permanent(fmt.Errorf("unpack image: %w", err))
		}
		limit, known := setLimits[h.Name]
		switch {
		case !known:
			return desired.Permanent(fmt.Errorf("unpack image: it holds %q, which is no part of a system vm", h.Name[:min(len(h.Name), 64)]))
		case seen[h.Name]:
			return desired.Permanent(fmt.Errorf("unpack image: it holds %s twice", h.Name))
		case h.Typeflag != tar.TypeReg:
			return desired.Permanent(fmt.Errorf("unpack image: %s is no regular file", h.Name))
		case h.Size > limit:
			return desired.Permanent(fmt.Errorf("unpack image: %s has %d bytes, more than %d", h.Name, h.Size, limit))
		}
		seen[h.Name] = true
		if err := writeFile(filepath.Join(dir, h.Name), io.LimitReader(r, h.Size)); err != nil {
			return err
		}
	}
	data, err := readBounded(filepath.Join(dir, manifestName), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return desired.Permanent(fmt.Errorf("unpack image: it has no %s", manifestName))
	}
	if err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	m, err := readManifest(data)
	if err != nil {
		return desired.Permanent(fmt.Errorf("unpack image: %w", err))
	}
	for _, file := range m.Files {
		if err := verifyFile(filepath.Join(dir, file.Name), file); errors.Is(err, ErrCorrupted) {
			return desired.Permanent(fmt.Errorf("unpack image: %s is not as its manifest says", file.Name))
		} else if err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, sealName), bytes.NewReader([]byte(hexSum(data)+"\n")))
}

func writeFile(path string, r io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o444)
	if err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	return f.Sync()
}

// removeSet removes a set's directory and the files that are known to be in one, and nothing else: the path is ours,
// what somebody put there is not.
func removeSet(dir string) error {
	var errs []error
	for name := range setLimits {
		errs = append(errs, removeIfThere(filepath.Join(dir, name)))
	}
	errs = append(errs, removeIfThere(filepath.Join(dir, sealName)), removeIfThere(dir))
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("remove image: %w", err)
	}
	return nil
}
