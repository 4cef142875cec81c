package systemvm

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/wispcloud/wisp/images/internal/deb"
	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// Manifest says what an image is and what it was made from, down to every
// package and module: its bill of materials. It holds no time and no path, so it
// is as reproducible as the image. It is the first file of the bundle, without
// Bundle and Disk, and lies beside it.
type Manifest struct {
	Image     string `json:"image"`   // "systemvm"
	Version   string `json:"version"` // as the running machine reports it
	Commit    string `json:"commit,omitempty"`
	Kernel    string `json:"kernel"`
	Cmdline   string `json:"cmdline"` // to boot the set with; the host adds to it
	MemoryMiB int    `json:"memory_mib"`
	Files     []File `json:"files"` // of the bundle: vmlinuz, initrd, root.squashfs
	Bundle    *File  `json:"bundle,omitempty"`
	Disk      *File  `json:"disk,omitempty"`

	InputsKey string             `json:"inputs_key"` // digest of everything below and of the recipe
	Go        string             `json:"go"`
	Programs  []Program          `json:"programs"`
	Packages  []deb.Package      `json:"packages"`
	Modules   []string           `json:"kernel_modules"`
	Tools     []hosttool.Version `json:"tools"`
}

// File is a file of the image.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Program is one of our own programs and what it was linked from.
type Program struct {
	Path    string     `json:"path"`
	SHA256  string     `json:"sha256"`
	Modules []GoModule `json:"modules"`
}

// GoModule is a library of a program; Sum is what go.sum says of it.
type GoModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"`
}

// describe reads what the linker wrote into a program.
func describe(path string, b []byte) (Program, error) {
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		return Program{}, fmt.Errorf("describe program %s: %w", path, err)
	}
	p := Program{Path: "/" + path, SHA256: sum(b), Modules: []GoModule{}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		p.Modules = append(p.Modules, GoModule{Path: m.Path, Version: m.Version, Sum: m.Sum})
	}
	return p, nil
}

func (m Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// Names of the bundle's files.
const (
	manifestName = "manifest.json"
	kernelName   = "vmlinuz"
	initrdName   = "initrd"
	rootName     = "root.squashfs"
)

// setFile is a file of the set.
type setFile struct {
	name string
	data []byte
}

// writeBundle packs manifest and files, in this order, as a tar of the oldest
// common form (POSIX.1-1988 ustar) with fixed owners and times.
func writeBundle(out string, m Manifest, list []setFile) (err error) {
	b, err := m.encode()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for _, e := range append([]setFile{{manifestName, b}}, list...) {
		h := tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: int64(len(e.data)), ModTime: imageTime, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(&h); err != nil {
			return fmt.Errorf("write %s to bundle: %w", e.name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return fmt.Errorf("write %s to bundle: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// ManifestOf reads the manifest at the beginning of a bundle.
func ManifestOf(bundle string) (Manifest, error) {
	f, err := os.Open(bundle)
	if err != nil {
		return Manifest{}, fmt.Errorf("read bundle: %w", err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	h, err := r.Next()
	if err != nil {
		return Manifest{}, fmt.Errorf("read bundle %s: %w", bundle, err)
	}
	if h.Name != manifestName {
		return Manifest{}, fmt.Errorf("read bundle %s: it begins with %q, want %s", bundle, strings.ToValidUTF8(h.Name, "?"), manifestName)
	}
	var m Manifest
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("read manifest of bundle %s: %w", bundle, err)
	}
	return m, nil
}
