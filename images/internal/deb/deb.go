// Package deb fetches Debian packages and reads their files into a tree.
//
// Versions and checksums come from apt's own lists, whose signatures apt has
// checked; the builder adds no trust of its own and works for every user who can
// run apt-get download. Nothing is installed and no maintainer script runs.
package deb

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/tree"
)

// Tools are the programs this package runs.
var Tools = []hosttool.Tool{
	{Name: "apt-get", Package: "apt"},
	{Name: "apt-cache", Package: "apt"},
	{Name: "dpkg-deb", Package: "dpkg"},
	{Name: "dpkg-query", Package: "dpkg"},
}

// Package is one version of a package as apt would download it.
type Package struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Arch    string   `json:"architecture"`
	SHA256  string   `json:"sha256"`
	Depends []string `json:"-"` // names only, the first of alternatives
}

func (p Package) fileName() string {
	return fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Arch)
}

// Resolve finds the candidate versions of packages, in the order of names.
func Resolve(ctx context.Context, names ...string) ([]Package, error) {
	found, err := show(ctx, []string{"--no-all-versions"}, names)
	if err != nil {
		return nil, err
	}
	var resolved []Package
	for _, name := range names {
		p, ok := found[name]
		if !ok {
			// The candidate may be an installed version that no archive has any longer.
			older, err := show(ctx, nil, []string{name})
			if err != nil {
				return nil, err
			}
			if p, ok = older[name]; !ok {
				return nil, fmt.Errorf("resolve package %s: no downloadable version in apt's lists: apt-get update", name)
			}
		}
		resolved = append(resolved, p)
	}
	return resolved, nil
}

// show returns, for each name, the first stanza that has a checksum.
func show(ctx context.Context, flags, names []string) (map[string]Package, error) {
	args := append(append([]string{"show"}, flags...), names...)
	out, err := hosttool.Run(ctx, hosttool.Command{Name: "apt-cache", Args: args})
	if err != nil {
		return nil, fmt.Errorf("resolve packages: %w (are apt's lists there? apt-get update)", err)
	}
	return parseShow(string(out)), nil
}

func parseShow(out string) map[string]Package {
	found := map[string]Package{}
	for stanza := range strings.SplitSeq(out, "\n\n") {
		var p Package
		for line := range strings.Lines(stanza) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if strings.HasPrefix(line, " ") {
				continue
			}
			switch key {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "Architecture":
				p.Arch = value
			case "SHA256":
				p.SHA256 = strings.ToLower(value)
			case "Depends":
				p.Depends = dependNames(value)
			}
		}
		if _, have := found[p.Name]; !have && p.Name != "" && len(p.SHA256) == 2*sha256.Size {
			found[p.Name] = p
		}
	}
	return found
}

var dependName = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*`)

func dependNames(value string) []string {
	var names []string
	for part := range strings.SplitSeq(value, ",") {
		if n := dependName.FindString(strings.TrimSpace(part)); n != "" {
			names = append(names, n)
		}
	}
	return names
}

// Fetch downloads p into dir unless it is there, and returns its path. A file
// with another checksum, such as a half-written one, is replaced.
func Fetch(ctx context.Context, dir string, p Package) (string, error) {
	at := filepath.Join(dir, p.fileName())
	if err := verify(at, p.SHA256); err == nil {
		return at, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("fetch package %s: %w", p.Name, err)
	}
	tmp, err := os.MkdirTemp(dir, ".fetch-")
	if err != nil {
		return "", fmt.Errorf("fetch package %s: %w", p.Name, err)
	}
	defer os.RemoveAll(tmp)
	// apt as root would drop to user _apt, who may not write here.
	_, err = hosttool.Run(ctx, hosttool.Command{
		Name: "apt-get", Dir: tmp,
		Args: []string{"download", "-q", "-o", "APT::Sandbox::User=root", p.Name + ":" + p.nativeArch() + "=" + p.Version},
	})
	if err != nil {
		return "", fmt.Errorf("fetch package %s: %w", p.Name, err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("fetch package %s: apt-get left %d files, want one", p.Name, len(debs))
	}
	if err := verify(debs[0], p.SHA256); err != nil {
		return "", fmt.Errorf("fetch package %s: %w", p.Name, err)
	}
	if err := os.Rename(debs[0], at); err != nil {
		return "", fmt.Errorf("fetch package %s: %w", p.Name, err)
	}
	return at, nil
}

// nativeArch is the architecture to ask apt for; packages for all are found
// under the machine's own.
func (p Package) nativeArch() string {
	if p.Arch == "all" {
		return "native"
	}
	return p.Arch
}

func verify(path, sum string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("checksum of %s is %s, want %s", path, got, sum)
	}
	return nil
}

// Read adds the files of the package at path to t, under merged-/usr names.
// keep chooses among files by that name; nil keeps all. Directories come along
// only above kept files, and with the package's mode.
func Read(ctx context.Context, t *tree.Tree, path string, keep func(name string) bool) error {
	tool, err := hosttool.Path("dpkg-deb")
	if err != nil {
		return fmt.Errorf("read package %s: %w", path, err)
	}
	cmd := exec.CommandContext(ctx, tool, "--fsys-tarfile", path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read package %s: %w", path, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("read package %s: %w", path, err)
	}
	readErr := readTar(t, bufio.NewReaderSize(out, 1<<20), keep)
	if readErr != nil {
		// Let dpkg-deb end instead of blocking on a full pipe.
		_ = out.Close()
	}
	waitErr := cmd.Wait()
	if readErr != nil {
		return fmt.Errorf("read package %s: %w", path, readErr)
	}
	if waitErr != nil {
		return fmt.Errorf("read package %s: %w: %s", path, waitErr, strings.TrimSpace(stderr.String()))
	}
	return nil
}

func readTar(t *tree.Tree, r io.Reader, keep func(string) bool) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		name := tree.Merged(h.Name)
		if name == "" || h.Typeflag != tar.TypeDir && keep != nil && !keep(name) {
			continue
		}
		if err := addHeader(t, name, h, tr); err != nil {
			return err
		}
	}
}

func addHeader(t *tree.Tree, name string, h *tar.Header, r io.Reader) error {
	e := tree.Entry{Path: name, Perm: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid}
	switch h.Typeflag {
	case tar.TypeReg:
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		e.Data = data
	case tar.TypeLink:
		to, err := t.Get(tree.Merged(h.Linkname))
		if err != nil {
			return fmt.Errorf("hard link %s: %w", name, err)
		}
		e = *to
		e.Path = name
	case tar.TypeSymlink:
		e.Kind, e.Link = tree.Symlink, h.Linkname
	case tar.TypeDir:
		// Only what differs from the implicit root:root 0755 is worth an entry.
		if e.Perm == 0o755 && e.UID == 0 && e.GID == 0 {
			return nil
		}
		e.Kind = tree.Dir
	default:
		return fmt.Errorf("file %s: type %q is not supported", name, h.Typeflag)
	}
	return t.Add(e)
}
