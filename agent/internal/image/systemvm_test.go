package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/proto/hostspec"
)

type entry struct {
	name, data string
	link       string
}

func pack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil && e.link == "" {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// setOf is a whole set; change may spoil its manifest.
func setOf(t *testing.T, change func(*manifest)) []entry {
	t.Helper()
	files := []entry{{name: KernelName, data: "kernel"}, {name: InitrdName, data: "initrd"}, {name: RootName, data: "root"}}
	m := manifest{Version: "1.2.3", Cmdline: "console=ttyS0 wisp.root=/dev/vda"}
	for _, f := range files {
		m.Files = append(m.Files, fileSpec{f.name, int64(len(f.data)), hexSum([]byte(f.data))})
	}
	if change != nil {
		change(&m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append([]entry{{name: manifestName, data: string(data)}}, files...)
}

func TestSystemVM(t *testing.T) {
	data := pack(t, setOf(t, nil)...)
	cache, dir := newCache(data), t.TempDir()
	want := describe(data, desired.FormatSystemVM)
	pool := &hostspec.StoragePool{Id: "p", Path: dir}
	home := Path(pool, want.GetSha256(), want.GetFormat())
	fetched := func() {
		t.Helper()
		if err := fetch(t, cache, dir, want); err != nil {
			t.Fatal(err)
		}
	}
	fetched()
	set, err := cache.Verify(pool, want.GetSha256())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Set{
		Version: "1.2.3", Cmdline: "console=ttyS0 wisp.root=/dev/vda", Kernel: filepath.Join(home, KernelName),
		Initrd: filepath.Join(home, InitrdName), Root: filepath.Join(home, RootName),
	}, set); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
	for _, file := range []string{KernelName, InitrdName, RootName, manifestName, sealName} {
		for name, harm := range map[string]func(path string) error{
			"flipped": func(path string) error {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				data[0] ^= 1
				return os.WriteFile(path, data, 0o644)
			},
			"cut":      func(path string) error { return os.Truncate(path, 1) },
			"longer":   func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 200), 0o644) },
			"missing":  os.Remove,
			"symlink":  func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)) },
			"override": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				if err := harm(filepath.Join(home, file)); err != nil {
					t.Fatal(err)
				}
				if _, err := cache.Verify(pool, want.GetSha256()); err == nil {
					t.Fatal("a damaged image was taken for whole")
				} else if name == "flipped" && !errors.Is(err, ErrCorrupted) {
					t.Fatal(err)
				}
				if has, err := cache.Has(pool, want); has && name == "flipped" || err != nil {
					t.Fatalf("a damaged image is still there (%v)", err)
				}
				fetched()
				if _, err := cache.Verify(pool, want.GetSha256()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestHostileSystemVM: none of these is unpacked, and nothing of it is left.
func TestHostileSystemVM(t *testing.T) {
	swap := func(i int, e entry) []entry {
		list := setOf(t, nil)
		list[i] = e
		return list
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"up and away", pack(t, append(setOf(t, nil), entry{name: "../../etc/passwd", data: "x"})...), "no part"},
		{"absolute", pack(t, append(setOf(t, nil), entry{name: "/vmlinuz", data: "x"})...), "no part"},
		{"a fifth file", pack(t, append(setOf(t, nil), entry{name: sealName, data: "x"})...), "no part"},
		{"symlink", pack(t, swap(1, entry{name: KernelName, link: "/etc/shadow"})...), "no regular file"},
		{"a file twice", pack(t, append(setOf(t, nil), entry{name: KernelName, data: "x"})...), "twice"},
		{"another kernel", pack(t, swap(1, entry{name: KernelName, data: "kern3l"})...), "manifest"},
		{"no kernel", pack(t, setOf(t, nil)[0], setOf(t, nil)[2], setOf(t, nil)[3]), "manifest"},
		{"no manifest", pack(t, setOf(t, nil)[1:]...), "no manifest.json"},
		{"manifest is no json", pack(t, swap(0, entry{name: manifestName, data: "x"})...), "manifest.json"},
		{"manifest names too little", pack(t, setOf(t, func(m *manifest) { m.Files = m.Files[1:] })...), "names 2 files"},
		{"manifest names another file", pack(t, setOf(t, func(m *manifest) { m.Files[0].Name = "../x" })...), "not known"},
		{"manifest with a huge file", pack(t, setOf(t, func(m *manifest) { m.Files[0].Size = 1 << 60 })...), "bytes"},
		{"command line with a line end", pack(t, setOf(t, func(m *manifest) { m.Cmdline = "a\nb" })...), "command line"},
		{"command line too long", pack(t, setOf(t, func(m *manifest) { m.Cmdline = strings.Repeat("a", 2000) })...), "command line"},
		{"no version", pack(t, setOf(t, func(m *manifest) { m.Version = "" })...), "version"},
		{"no tar", []byte("not a tar at all"), "unpack"},
		{"empty tar", pack(t), "no manifest.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			err := fetch(t, newCache(tt.data), dir, describe(tt.data, desired.FormatSystemVM))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !desired.IsPermanent(err) {
				t.Errorf("permanent %t: %v; want a permanent error with %q", desired.IsPermanent(err), err, tt.want)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
		})
	}
}
