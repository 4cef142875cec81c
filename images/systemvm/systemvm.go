// Package systemvm builds the system-VM image: an appliance that runs the same
// network services as a host does.
//
// The image is a set of three files that a hypervisor boots directly: the
// kernel, a small initial root file system with wisp-init, and the root, a
// squashfs that is never written. The initial root file system holds the root's
// checksum, so whoever boots the set, by whatever way, runs the root that was
// built with it or nothing. The set is packed into one tar with its manifest,
// which is what hosts are handed; the same three files on a disk with a boot
// loader are for people who boot it by hand.
//
// See DESIGN.md for what is in it, and why in this form.
package systemvm

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
	"regexp"
	"strings"

	"github.com/wispcloud/wisp/images/internal/buildcache"
	"github.com/wispcloud/wisp/images/internal/deb"
	"github.com/wispcloud/wisp/images/internal/gobuild"
	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// Options say what is built.
type Options struct {
	// Source is a checkout of this repository, whose wisp-init and wisp-netsvc
	// the image runs.
	Source string
	// Version is the image's name for itself: in its file names, on its console,
	// in the programs it runs.
	Version string
	// Commit is the checkout's, for the manifest. Empty if unknown.
	Commit string
}

// Names of the files Build writes.
func BundleFile(version string) string   { return "systemvm-" + version + ".tar" }
func DiskFile(version string) string     { return "systemvm-" + version + ".qcow2" }
func ManifestFile(version string) string { return "systemvm-" + version + ".manifest.json" }

// validVersion is what is a version: it becomes part of file names and of a
// linker's command line.
var validVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,100}$`)

// inputs is everything an image's bytes follow from.
type inputs struct {
	Recipe    int
	Files     string // digest of the embedded files
	Version   string
	Commit    string
	GoVersion string
	Programs  []Program
	Packages  []deb.Package
	Tools     []hosttool.Version

	paths    []string // of the packages' files, in the order of Packages
	programs map[string][]byte
}

// Build makes the image in outDir: the bundle, the disk, and the manifest.
// cacheDir keeps downloaded packages and finished images; a build whose inputs
// were built before is a copy, or nothing if outDir has it already. It may be
// called by several processes with one cacheDir.
func Build(ctx context.Context, outDir, cacheDir string, o Options) (Manifest, error) {
	// Tools run in directories of their own, so names must not depend on this one.
	for _, dir := range []*string{&outDir, &cacheDir, &o.Source} {
		path, err := filepath.Abs(*dir)
		if err != nil {
			return Manifest{}, fmt.Errorf("build systemvm: %w", err)
		}
		*dir = path
	}
	m, err := build(ctx, outDir, cacheDir, o)
	if err != nil {
		return Manifest{}, fmt.Errorf("build systemvm %s: %w", o.Version, err)
	}
	return m, nil
}

func build(ctx context.Context, outDir, cacheDir string, o Options) (Manifest, error) {
	if !validVersion.MatchString(o.Version) {
		return Manifest{}, fmt.Errorf("version %q is not one of letters, digits, and .+-_", o.Version)
	}
	if err := hosttool.Need(Tools()...); err != nil {
		return Manifest{}, err
	}
	in, err := resolve(ctx, cacheDir, o)
	if err != nil {
		return Manifest{}, err
	}
	key, err := in.key()
	if err != nil {
		return Manifest{}, err
	}
	cache := buildcache.Cache{Dir: filepath.Join(cacheDir, "systemvm")}
	check := func(dir string) error {
		_, err := Check(dir, o.Version)
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
	return place(entry, outDir, o.Version)
}

// resolve finds the inputs as this machine has them. Our own programs are built
// here already: their bytes are a shorter name for all their sources, and the
// tool chain has its own cache.
func resolve(ctx context.Context, cacheDir string, o Options) (inputs, error) {
	in := inputs{Recipe: recipeVersion, Version: o.Version, Commit: o.Commit, programs: map[string][]byte{}}
	lists := deb.Lists{File: filepath.Join(cacheDir, "packages.json")}
	meta, err := lists.Resolve(ctx, kernelMeta)
	if err != nil {
		return inputs{}, err
	}
	for _, d := range meta[0].Depends {
		if strings.HasPrefix(d, kernelPrefix) {
			if in.Packages, err = lists.Resolve(ctx, append([]string{d}, packages...)...); err != nil {
				return inputs{}, err
			}
			break
		}
	}
	if in.Packages == nil {
		return inputs{}, fmt.Errorf("resolve kernel: package %s %s depends on none", kernelMeta, meta[0].Version)
	}
	if in.Tools, err = hosttool.Versions(ctx, hostPackages...); err != nil {
		return inputs{}, err
	}
	if in.GoVersion, err = gobuild.Version(ctx); err != nil {
		return inputs{}, err
	}
	if in.Files, err = filesSum(); err != nil {
		return inputs{}, err
	}
	scratch, err := os.MkdirTemp("", "wisp-image-")
	if err != nil {
		return inputs{}, err
	}
	defer os.RemoveAll(scratch)
	for _, p := range []struct{ path, dir string }{{initPath, "systemvm/cmd/wisp-init"}, {netsvcPath, "netsvc/cmd/wisp-netsvc"}} {
		b, err := gobuild.BuildPackage(ctx, scratch, gobuild.Package{Source: o.Source, Dir: p.dir, Version: o.Version})
		if err != nil {
			return inputs{}, err
		}
		described, err := describe(p.path, b)
		if err != nil {
			return inputs{}, err
		}
		in.programs[p.path] = b
		in.Programs = append(in.Programs, described)
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
	return sum(b), nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// filesSum is the digest of all embedded files with their names.
func filesSum() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", p, len(b))
		_, err = h.Write(b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// buildInto makes the image and the manifest in dir, and leaves nothing else.
func buildInto(ctx context.Context, in inputs, key, dir string) error {
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	s, err := assemble(ctx, in, work)
	if err != nil {
		return err
	}
	m := Manifest{
		Image: "systemvm", Version: in.Version, Commit: in.Commit, Kernel: in.kernel(), Cmdline: Cmdline, MemoryMiB: MemoryMiB,
		InputsKey: key, Go: in.GoVersion, Programs: in.Programs, Packages: in.Packages, Tools: in.Tools, Modules: s.modules,
	}
	for _, f := range s.files {
		m.Files = append(m.Files, File{Name: f.name, Size: int64(len(f.data)), SHA256: sum(f.data)})
	}
	bundle := filepath.Join(dir, BundleFile(in.Version))
	if err := writeBundle(bundle, m, s.files); err != nil {
		return err
	}
	disk := filepath.Join(dir, DiskFile(in.Version))
	if err := writeDisk(ctx, work, disk, s); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		to   **File
	}{{bundle, &m.Bundle}, {disk, &m.Disk}} {
		if *f.to, err = describeFile(f.path); err != nil {
			return err
		}
	}
	if m.Bundle.Size > MaxSize {
		return fmt.Errorf("the bundle has %d bytes, at most %d are allowed", m.Bundle.Size, MaxSize)
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ManifestFile(in.Version)), b, 0o644)
}

func describeFile(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	s, err := buildcache.Sum(path)
	if err != nil {
		return nil, err
	}
	return &File{Name: filepath.Base(path), Size: st.Size(), SHA256: s}, nil
}

// Check reads the manifest of a version in dir and compares the files beside it
// with it.
func Check(dir, version string) (Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile(version)))
	if err != nil {
		return Manifest{}, fmt.Errorf("check image: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("check image: read %s: %w", ManifestFile(version), err)
	}
	if m.Bundle == nil || m.Disk == nil || m.Bundle.Name != BundleFile(version) || m.Disk.Name != DiskFile(version) {
		return Manifest{}, fmt.Errorf("check image: %s is of another image", ManifestFile(version))
	}
	for _, f := range []*File{m.Bundle, m.Disk} {
		have, err := describeFile(filepath.Join(dir, f.Name))
		if err != nil {
			return Manifest{}, fmt.Errorf("check image: %w", err)
		}
		if *have != *f {
			return Manifest{}, fmt.Errorf("check image %s: checksum is %s, the manifest says %s", f.Name, have.SHA256, f.SHA256)
		}
	}
	return m, nil
}

// place copies an entry of the cache to outDir unless it is there.
func place(entry, outDir, version string) (Manifest, error) {
	m, err := Check(entry, version)
	if err != nil {
		return Manifest{}, err
	}
	if have, err := Check(outDir, version); err == nil && have.InputsKey == m.InputsKey && *have.Bundle == *m.Bundle && *have.Disk == *m.Disk {
		return m, nil
	}
	// The manifest goes first and comes last, so that it never describes another image.
	if err := os.Remove(filepath.Join(outDir, ManifestFile(version))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, err
	}
	for _, f := range []string{m.Bundle.Name, m.Disk.Name, ManifestFile(version)} {
		if err := buildcache.Place(filepath.Join(entry, f), filepath.Join(outDir, f)); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

// WriteTo prints the manifest for people.
func (m Manifest) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "systemvm %s, kernel %s, %d MiB of memory\n", m.Version, m.Kernel, m.MemoryMiB)
	for _, f := range m.Files {
		fmt.Fprintf(&b, "  %-22s %6.1f MB  %s\n", f.Name, float64(f.Size)/1e6, f.SHA256)
	}
	for _, f := range []*File{m.Bundle, m.Disk} {
		if f != nil {
			fmt.Fprintf(&b, "%-24s %6.1f MB  %s\n", f.Name, float64(f.Size)/1e6, f.SHA256)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
