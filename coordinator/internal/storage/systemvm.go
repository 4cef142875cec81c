package storage

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// systemFiles are what a system-VM image holds beside its manifest, with the largest size of each: some ten times what
// a real one has.
var systemFiles = map[string]int64{"vmlinuz": 256 << 20, "initrd": 256 << 20, "root.squashfs": 1 << 30}

const (
	systemManifest    = "manifest.json"
	maxSystemManifest = 4 << 20
	maxVersion        = 64
)

// systemImage is the part of a manifest that the cloud needs.
type systemImage struct {
	Version string `json:"version"`
	Files   []struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	} `json:"files"`
}

// CheckSystemVM verifies a system-VM image: a tar of manifest.json and exactly the files it names, each with its
// checksum. It gives the version and how much space the files take on a host.
func CheckSystemVM(ctx context.Context, f io.ReadSeeker) (version string, size uint64, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	archive := tar.NewReader(&ctxReader{ctx, f})
	var m *systemImage
	sums, sizes := map[string]string{}, map[string]int64{}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", 0, refuse("it is no tar archive: %v", err)
		}
		most, known := systemFiles[h.Name]
		switch {
		case h.Typeflag != tar.TypeReg:
			return "", 0, refuse("%.100q in it is no regular file", h.Name)
		case h.Name == systemManifest && m == nil && h.Size <= maxSystemManifest:
			m = &systemImage{}
			if err := json.NewDecoder(archive).Decode(m); err != nil {
				return "", 0, refuse("its manifest cannot be read: %v", err)
			}
			continue
		case !known || sums[h.Name] != "":
			return "", 0, refuse("it holds %.100q, which is no part of a system-VM image or there twice", h.Name)
		case h.Size > most:
			return "", 0, refuse("%s in it has %d bytes, more than %d", h.Name, h.Size, most)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, archive); err != nil {
			return "", 0, refuse("%s in it is cut off: %v", h.Name, err)
		}
		sums[h.Name], sizes[h.Name] = hex.EncodeToString(sum.Sum(nil)), h.Size
		size += uint64(h.Size)
	}
	if m == nil {
		return "", 0, refuse("it has no manifest.json")
	}
	return m.Version, size, m.check(sums, sizes)
}

// check compares what the manifest names with what is there.
func (m *systemImage) check(sums map[string]string, sizes map[string]int64) error {
	if m.Version == "" || len(m.Version) > maxVersion {
		return refuse("its manifest tells no version, or one of more than %d characters", maxVersion)
	}
	named := map[string]bool{}
	for _, file := range m.Files {
		named[file.Name] = true
		switch sum, ok := sums[file.Name]; {
		case !ok:
			return refuse("%.100s, which its manifest names, is not in it", file.Name)
		case sum != file.SHA256 || sizes[file.Name] != file.Size:
			return refuse("%s is not what its manifest says: %d bytes with SHA-256 %s", file.Name, sizes[file.Name], sum)
		}
	}
	for name := range systemFiles {
		if !named[name] {
			return refuse("its manifest does not name %s", name)
		}
	}
	return nil
}

// checkSystem is CheckSystemVM for a template; its version becomes part of the row.
func checkSystem(ctx context.Context, t *cloud.Template, f *os.File) (uint64, error) {
	version, size, err := CheckSystemVM(ctx, f)
	t.Version = version
	return size, err
}
