// Package tinyguest builds the tiny guest: a virtual machine image of less than
// 20 MB that uses a cloud's network services like any Linux guest, and shows on
// a web page what it got. The sandbox and the end-to-end tests deploy it.
//
// The image is a PC disk with two partitions. The first is FAT with SYSLINUX,
// Debian's cloud kernel and a small initial root file system that finds the
// second, an ext4 root that stays writable: what is written in the guest survives
// a reboot, and the file system grows with a larger disk. A squashfs or RAM root
// would be smaller by a journal, but then nothing a test writes would stay.
//
// It is put together from Debian packages as an ordinary user, without root or
// loop mounts, and its bytes follow from its inputs alone (the packages, the
// embedded files, the versions of the tools). See images/README.md.
package tinyguest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/images/internal/buildcache"
	"github.com/wispcloud/wisp/images/internal/deb"
	"github.com/wispcloud/wisp/images/internal/gobuild"
	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/qcow2"
)

// Names of the files Build writes.
const (
	ImageFile    = "tinyguest.qcow2"
	ManifestFile = "tinyguest.manifest.json"
)

// MaxSize is what the image must stay below, in bytes.
const MaxSize = 20_000_000

// Manifest says what an image is and what it was made from. It holds no time and
// no path, so it is as reproducible as the image.
type Manifest struct {
	Image       string             `json:"image"`
	File        string             `json:"file"`
	Format      string             `json:"format"`
	Size        int64              `json:"size"`         // bytes of the file
	VirtualSize int64              `json:"virtual_size"` // bytes of the disk
	SHA256      string             `json:"sha256"`       // of the file
	Kernel      string             `json:"kernel"`
	InputsKey   string             `json:"inputs_key"` // digest of everything below and of the recipe
	Recipe      string             `json:"recipe"`     // digest of the embedded sources
	Go          string             `json:"go"`
	Packages    []deb.Package      `json:"packages"`
	Tools       []hosttool.Version `json:"tools"`
}

// inputs is everything an image's bytes follow from.
type inputs struct {
	Version   int
	Recipe    string
	GoVersion string
	Packages  []deb.Package
	Tools     []hosttool.Version

	paths []string // of the packages' files, in the order of Packages
}

// Build makes the image and its manifest in outDir. cacheDir keeps downloaded
// packages and finished images; a build whose inputs were built before is a
// copy, or nothing if outDir has it already. It may be called by several
// processes with one cacheDir.
func Build(ctx context.Context, outDir, cacheDir string) (Manifest, error) {
	// Tools run in directories of their own, so names must not depend on this one.
	for _, dir := range []*string{&outDir, &cacheDir} {
		path, err := filepath.Abs(*dir)
		if err != nil {
			return Manifest{}, fmt.Errorf("build tinyguest: %w", err)
		}
		*dir = path
	}
	m, err := build(ctx, outDir, cacheDir)
	if err != nil {
		return Manifest{}, fmt.Errorf("build tinyguest: %w", err)
	}
	return m, nil
}

func build(ctx context.Context, outDir, cacheDir string) (Manifest, error) {
	if err := hosttool.Need(Tools()...); err != nil {
		return Manifest{}, err
	}
	in, err := resolve(ctx, cacheDir)
	if err != nil {
		return Manifest{}, err
	}
	key, err := in.key()
	if err != nil {
		return Manifest{}, err
	}
	cache := buildcache.Cache{Dir: filepath.Join(cacheDir, "tinyguest")}
	check := func(dir string) error {
		_, err := Check(dir)
		return err
	}
	entry, err := cache.Get(ctx, key, check, func(ctx context.Context, dir string) error {
		for _, p := range in.Packages {
			path, err := deb.Fetch(ctx, filepath.Join(cacheDir, "debs"), p)
			if err != nil {
				return err
			}
			in.paths = append(in.paths, path)
		}
		return buildInto(ctx, in, key, dir)
	})
	if err != nil {
		return Manifest{}, err
	}
	return place(entry, outDir)
}

// resolve finds the inputs as this machine has them.
func resolve(ctx context.Context, cacheDir string) (inputs, error) {
	lists := deb.Lists{File: filepath.Join(cacheDir, "packages.json")}
	meta, err := lists.Resolve(ctx, kernelMeta)
	if err != nil {
		return inputs{}, err
	}
	i := slices.IndexFunc(meta[0].Depends, func(d string) bool { return strings.HasPrefix(d, kernelPrefix) })
	if i < 0 {
		return inputs{}, fmt.Errorf("resolve kernel: package %s %s depends on none", kernelMeta, meta[0].Version)
	}
	all, err := lists.Resolve(ctx, append([]string{meta[0].Depends[i]}, packages...)...)
	if err != nil {
		return inputs{}, err
	}
	in := inputs{Version: recipeVersion, Packages: all}
	if in.Tools, err = hosttool.Versions(ctx, hostPackages...); err != nil {
		return inputs{}, err
	}
	if in.GoVersion, err = gobuild.Version(ctx); err != nil {
		return inputs{}, err
	}
	if in.Recipe, err = recipeSum(); err != nil {
		return inputs{}, err
	}
	return in, nil
}

const kernelPrefix = "linux-image-"

// kernel is the release, which Debian puts into the package's name.
func (in inputs) kernel() string {
	return strings.TrimPrefix(in.Packages[0].Name, kernelPrefix)
}

func (in inputs) key() (string, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// recipeSum is the digest of all embedded sources with their names.
func recipeSum() (string, error) {
	h := sha256.New()
	for _, source := range []fs.FS{files, programs} {
		err := fs.WalkDir(source, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") {
				return err
			}
			b, err := fs.ReadFile(source, p)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%s %d\n", p, len(b))
			_, err = h.Write(b)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// buildInto makes the image and the manifest in dir, and leaves nothing else.
func buildInto(ctx context.Context, in inputs, key, dir string) error {
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	image := filepath.Join(dir, ImageFile)
	if err := assemble(ctx, in, work, image); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	st, err := os.Stat(image)
	if err != nil {
		return err
	}
	if st.Size() > MaxSize {
		return fmt.Errorf("image has %d bytes, at most %d are allowed", st.Size(), MaxSize)
	}
	info, err := qcow2.Inspect(ctx, image)
	if err != nil {
		return err
	}
	sum, err := buildcache.Sum(image)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(Manifest{
		Image: "tinyguest", File: ImageFile, Format: info.Format, Size: st.Size(), VirtualSize: info.VirtualSize, SHA256: sum,
		Kernel: in.kernel(), InputsKey: key, Recipe: in.Recipe, Go: in.GoVersion, Packages: in.Packages, Tools: in.Tools,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ManifestFile), append(b, '\n'), 0o644)
}

// Check reads the manifest in dir and compares the image beside it with it.
func Check(dir string) (Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return Manifest{}, fmt.Errorf("check image: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("check image: read %s: %w", ManifestFile, err)
	}
	sum, err := buildcache.Sum(filepath.Join(dir, ImageFile))
	if err != nil {
		return Manifest{}, fmt.Errorf("check image: %w", err)
	}
	if sum != m.SHA256 {
		return Manifest{}, fmt.Errorf("check image %s: checksum is %s, the manifest says %s", ImageFile, sum, m.SHA256)
	}
	return m, nil
}

// place copies an entry of the cache to outDir unless it is there.
func place(entry, outDir string) (Manifest, error) {
	m, err := Check(entry)
	if err != nil {
		return Manifest{}, err
	}
	if have, err := Check(outDir); err == nil && have.SHA256 == m.SHA256 && have.InputsKey == m.InputsKey {
		return m, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// A damaged copy is replaced; the manifest goes first so that it never describes another image.
		if err := os.Remove(filepath.Join(outDir, ManifestFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Manifest{}, err
		}
	}
	for _, f := range []string{ImageFile, ManifestFile} {
		if err := buildcache.Place(filepath.Join(entry, f), filepath.Join(outDir, f)); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

// WriteTo prints the manifest for people.
func (m Manifest) WriteTo(w io.Writer) (int64, error) {
	n, err := fmt.Fprintf(w, "%s: %.1f MB (disk %d MiB), kernel %s\nsha256 %s\n",
		m.File, float64(m.Size)/1e6, m.VirtualSize>>20, m.Kernel, m.SHA256)
	return int64(n), err
}
