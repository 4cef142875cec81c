package deb

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/tree"
)

const sum = "00be21c0c17f08ddf26e82d3b53fe7a41efa4a288938da6bb69e89c4b25c281d"

func TestParseShow(t *testing.T) {
	got := parseShow(`Package: linux-image-cloud-amd64
Version: 6.1.192-2
Architecture: amd64
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), a | b, libx:any (>= 1) , ${weird}
SHA256: ` + strings.ToUpper(sum) + `
Description: a
 SHA256: not this
 Package: nor this

Package: installed-only
Version: 1
Architecture: all

Package: installed-only
Version: 0.9
Architecture: all
SHA256: ` + sum + `

Package: linux-image-cloud-amd64
Version: 5
Architecture: amd64
SHA256: ` + sum + `
`)
	want := map[string]Package{
		"linux-image-cloud-amd64": {
			Name: "linux-image-cloud-amd64", Version: "6.1.192-2", Arch: "amd64", SHA256: sum,
			Depends: []string{"linux-image-6.1.0-56-cloud-amd64", "a", "libx"},
		},
		"installed-only": {Name: "installed-only", Version: "0.9", Arch: "all", SHA256: sum},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// testDeb makes a package as a maintainer would.
func testDeb(t *testing.T) string {
	t.Helper()
	if err := hosttool.Need(Tools...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for p, text := range map[string]string{
		"DEBIAN/control":     "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n",
		"bin/tool":           "tool",
		"usr/share/doc/x/cp": "copyright",
		"etc/secret/key":     "key",
	} {
		at := filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(root, "bin/tool"), 0o4755|os.ModeSetuid),
		os.Chmod(filepath.Join(root, "etc/secret"), 0o700),
		os.Symlink("tool", filepath.Join(root, "bin/alias")),
		os.Link(filepath.Join(root, "bin/tool"), filepath.Join(root, "bin/twin")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "x.deb")
	if b, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", root, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, b)
	}
	return out
}

func TestRead(t *testing.T) {
	path := testDeb(t)
	tr := tree.New()
	if err := Read(t.Context(), tr, path, func(name string) bool { return !strings.HasPrefix(name, "usr/share/") }); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, e := range tr.All() {
		fmt.Fprintf(&got, "%d %04o %d:%d %s %s%s\n", e.Kind, e.Perm, e.UID, e.GID, e.Path, e.Data, e.Link)
	}
	want := `1 0755 0:0 etc 
1 0700 0:0 etc/secret 
0 0644 0:0 etc/secret/key key
1 0755 0:0 usr 
1 0755 0:0 usr/bin 
2 0777 0:0 usr/bin/alias tool
0 4755 0:0 usr/bin/tool tool
0 4755 0:0 usr/bin/twin tool
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestReadDamaged(t *testing.T) {
	path := testDeb(t)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-100], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Read(t.Context(), tree.New(), path, nil); err == nil {
		t.Error("a cut package was read")
	}
}

func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verify(path, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"); err != nil {
		t.Error(err)
	}
	if err := verify(path, sum); err == nil {
		t.Error("another checksum passed")
	}
}

// TestFetchKept does not ask apt for what is there and whole.
func TestFetchKept(t *testing.T) {
	p := Package{Name: "x", Version: "1:2+b", Arch: "all", SHA256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}
	dir := t.TempDir()
	at := filepath.Join(dir, "x_1%3a2+b_all.deb")
	if err := os.WriteFile(at, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Fetch(t.Context(), dir, p)
	if err != nil || got != at {
		t.Errorf("fetched %q, %v", got, err)
	}
	if err := os.WriteFile(at, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), dir, p); err == nil || !strings.Contains(err.Error(), "fetch package x") {
		t.Errorf("a package no archive has: %v", err)
	}
}

// TestLists answers a second time from the file, also for a name that is new.
func TestLists(t *testing.T) {
	l := Lists{File: filepath.Join(t.TempDir(), "sub", "lists.json")}
	first, err := l.Resolve(t.Context(), "libc6")
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 1 || first[0].Name != "libc6" || len(first[0].SHA256) != 64 || len(first[0].Depends) == 0 {
		t.Errorf("resolved %v", first)
	}
	both, err := l.Resolve(t.Context(), "zlib1g", "libc6")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first[0], both[1]); diff != "" {
		t.Errorf("libc6 by the file (-first +second):\n%s", diff)
	}
	t.Setenv("PATH", "/nonexistent")
	if again, err := l.Resolve(t.Context(), "zlib1g", "libc6"); err != nil || !cmp.Equal(both, again) {
		t.Errorf("without apt: %v, %v", again, err)
	}
	if _, err := l.Resolve(t.Context(), "busybox-static"); err == nil {
		t.Error("a name that is not in the file was resolved without apt")
	}
	if err := os.WriteFile(l.File, []byte("{damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := l.load("x"); len(got.Resolved) != 0 || got.State != "x" {
		t.Errorf("a damaged file gave %v", got)
	}
}

func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	see := func() string {
		t.Helper()
		f, err := fingerprint([]string{dir, "/nonexistent"})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a := see()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := see()
	if a == b || b != see() {
		t.Errorf("fingerprints %s, %s, %s", a, b, see())
	}
}
