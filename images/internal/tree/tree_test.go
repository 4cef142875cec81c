package tree

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func list(t *Tree) string {
	var b strings.Builder
	for _, e := range t.All() {
		fmt.Fprintf(&b, "%d %04o %d:%d %s%s\n", e.Kind, e.Perm, e.UID, e.GID, e.Path, map[bool]string{true: " -> " + e.Link}[e.Kind == Symlink])
	}
	return b.String()
}

func TestAdd(t *testing.T) {
	tr := New()
	for _, e := range []Entry{
		{Path: "/etc/dropbear/", Kind: Dir, Perm: 0o700},
		{Path: "./usr/bin/../sbin/x", Kind: File, Perm: 0o4755, UID: 1, GID: 2},
		{Path: "../../b", Kind: Symlink, Perm: 0o777, Link: "usr/sbin/x"},
		{Path: "dev/null", Kind: CharDevice, Perm: 0o666, Major: 1, Minor: 3},
		{Path: "/", Kind: Dir, Perm: 0o755},
		{Path: "etc", Kind: Dir, Perm: 0o711},
	} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	want := `2 0777 0:0 b -> usr/sbin/x
1 0755 0:0 dev
3 0666 0:0 dev/null
1 0711 0:0 etc
1 0700 0:0 etc/dropbear
1 0755 0:0 usr
1 0755 0:0 usr/sbin
0 4755 1:2 usr/sbin/x
`
	if diff := cmp.Diff(want, list(tr)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	for _, bad := range []Entry{
		{Path: "usr", Kind: File},              // has files
		{Path: "usr/sbin/x/y", Kind: File},     // below a file
		{Path: "dev/null/x", Kind: CharDevice}, // below a device
	} {
		if err := tr.Add(bad); err == nil {
			t.Errorf("%s was added", bad.Path)
		}
	}
	if diff := cmp.Diff(want, list(tr)); diff != "" {
		t.Errorf("tree after refused entries (-want +got):\n%s", diff)
	}
}

func TestResolve(t *testing.T) {
	tr := New()
	links := map[string]string{
		"lib": "usr/lib", "usr/lib/a.so": "x/../a.so.1", "abs": "/usr/lib/a.so", "up": "../../../usr/lib/a.so",
		"loop": "loop2", "loop2": "/loop", "dangling": "nowhere",
	}
	for p, to := range links {
		if err := tr.AddLink(p, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"usr/lib/x"} {
		if err := tr.AddDir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.AddFile("usr/lib/a.so.1", 0o644, []byte("lib")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ path, want string }{
		{"lib/a.so", "usr/lib/a.so.1"},
		{"/usr/lib/a.so.1", "usr/lib/a.so.1"},
		{"abs", "usr/lib/a.so.1"},
		{"up", "usr/lib/a.so.1"},
		{"lib", "usr/lib"},
		{"loop", ""},
		{"dangling", ""},
		{"nothing", ""},
	} {
		e, err := tr.Resolve(tc.path)
		got := ""
		if err == nil {
			got = e.Path
		}
		if got != tc.want {
			t.Errorf("resolve %s: %q, %v; want %q", tc.path, got, err, tc.want)
		}
	}
	if _, err := tr.Resolve("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want %v", err, ErrNotFound)
	}
}

func TestMerged(t *testing.T) {
	for in, want := range map[string]string{
		"./bin/ls": "usr/bin/ls", "/lib64/ld.so": "usr/lib64/ld.so", "usr/bin/ls": "usr/bin/ls", "libexec/x": "libexec/x", "./": "", "sbin": "usr/sbin",
	} {
		if got := Merged(in); got != want {
			t.Errorf("merged %s: %s, want %s", in, got, want)
		}
	}
}

// TestCopyBinary compares the closure with what the dynamic linker itself says
// about a program every builder has.
func TestCopyBinary(t *testing.T) {
	const program = "/usr/sbin/mke2fs"
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	pool := New()
	want := []string{Merged(program)}
	add := func(p string) {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(real)
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.AddFile(Merged(p), 0o755, data); err != nil {
			t.Fatal(err)
		}
	}
	add(program)
	for _, f := range strings.Fields(string(out)) {
		if strings.HasPrefix(f, "/") {
			add(f)
			want = append(want, Merged(f))
		}
	}
	if len(want) < 4 {
		t.Fatalf("ldd found only %v", want)
	}
	tr := New()
	if err := tr.CopyBinary(pool, program); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range tr.All() {
		if e.Kind == File {
			got = append(got, e.Path)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("copied files (-ldd +got):\n%s", diff)
	}

	delete(pool.entries, want[0])
	err = New().CopyBinary(pool, program)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), filepath.Base(want[0])) {
		t.Errorf("without %s: %v", want[0], err)
	}
}
