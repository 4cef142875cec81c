package storage_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/storage"
)

// systemTar packs files in order, each "name=content".
func systemTar(t *testing.T, files ...string) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		name, content, _ := strings.Cut(f, "=")
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

func systemManifest(version string, files ...string) string {
	var list []string
	for _, f := range files {
		name, content, _ := strings.Cut(f, "=")
		list = append(list, fmt.Sprintf(`{"name":%q,"size":%d,"sha256":"%x"}`, name, len(content), sha256.Sum256([]byte(content))))
	}
	return fmt.Sprintf(`manifest.json={"version":%q,"files":[%s]}`, version, strings.Join(list, ","))
}

func TestCheckSystemVM(t *testing.T) {
	set := []string{"vmlinuz=kernel", "initrd=first", "root.squashfs=root"}
	good := systemManifest("1.2.3", set...)
	for _, c := range []struct {
		name  string
		files []string
		want  string
	}{
		{"good", append([]string{good}, set...), ""},
		{"no manifest", set, "it has no manifest.json"},
		{"no version", append([]string{systemManifest("", set...)}, set...), "tells no version"},
		{"changed", []string{good, set[0], set[1], "root.squashfs=ROOT"}, "root.squashfs is not what its manifest says"},
		{"missing", []string{good, set[0], set[1]}, "root.squashfs, which its manifest names, is not in it"},
		{"unnamed", append([]string{systemManifest("1", set[:2]...)}, set...), "does not name root.squashfs"},
		{"stranger", append([]string{good, "../../etc/passwd=x"}, set...), "which is no part of a system-VM image"},
		{"twice", append([]string{good, set[0]}, set...), "or there twice"},
		{"two manifests", append([]string{good, good}, set...), "or there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			version, size, err := storage.CheckSystemVM(t.Context(), systemTar(t, c.files...))
			if c.want == "" {
				if err != nil || version != "1.2.3" || size != 15 {
					t.Errorf("got %q %d %v", version, size, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, _, err := storage.CheckSystemVM(t.Context(), bytes.NewReader(bytes.Repeat([]byte{7}, 2048))); err == nil {
		t.Error("what is no tar was taken")
	}
}
