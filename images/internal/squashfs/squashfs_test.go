package squashfs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/tree"
)

var options = Options{Time: time.Unix(1700000000, 0), BlockSize: 128 << 10, Compressor: []string{"lz4", "-Xhc"}}

// sample has every kind of entry, an owner, special modes, and a file of several
// blocks.
func sample(t *testing.T) *tree.Tree {
	t.Helper()
	s := tree.New()
	for _, e := range []tree.Entry{
		{Path: "dev/console", Kind: tree.CharDevice, Perm: 0o600, Major: 5, Minor: 1},
		{Path: "etc/empty", Perm: 0o644},
		{Path: "etc/secret", Perm: 0o640, UID: 7, GID: 300000, Data: []byte("x\n")},
		{Path: "tmp", Kind: tree.Dir, Perm: 0o1777},
		{Path: "usr/bin/big", Perm: 0o4755, Data: bytes.Repeat([]byte("wisp"), 100<<10)},
		{Path: "usr/bin/" + strings.Repeat("long", 40), Perm: 0o755, Data: []byte("y\n")},
		{Path: "bin", Kind: tree.Symlink, Perm: 0o777, Link: "usr/bin"},
	} {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestWrite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "root.squashfs")
	if err := Write(t.Context(), out, sample(t), options); err != nil {
		t.Fatal(err)
	}
	listing := unsquashfs(t, "-lln", out)
	// The unit of a directory's size is the tool's own, and so are the columns.
	listing = regexp.MustCompile(` +`).ReplaceAllString(listing, " ")
	listing = regexp.MustCompile(`(?m)^(d\S+ \S+) \d+`).ReplaceAllString(listing, "$1 -")
	long := strings.Repeat("long", 40)
	want := `drwxr-xr-x 0/0 - 2023-11-14 22:13 squashfs-root
lrwxrwxrwx 0/0 7 2023-11-14 22:13 squashfs-root/bin -> usr/bin
drwxr-xr-x 0/0 - 2023-11-14 22:13 squashfs-root/dev
crw------- 0/0 5, 1 2023-11-14 22:13 squashfs-root/dev/console
drwxr-xr-x 0/0 - 2023-11-14 22:13 squashfs-root/etc
-rw-r--r-- 0/0 0 2023-11-14 22:13 squashfs-root/etc/empty
-rw-r----- 7/300000 2 2023-11-14 22:13 squashfs-root/etc/secret
drwxrwxrwt 0/0 - 2023-11-14 22:13 squashfs-root/tmp
drwxr-xr-x 0/0 - 2023-11-14 22:13 squashfs-root/usr
drwxr-xr-x 0/0 - 2023-11-14 22:13 squashfs-root/usr/bin
-rwsr-xr-x 0/0 409600 2023-11-14 22:13 squashfs-root/usr/bin/big
-rwxr-xr-x 0/0 2 2023-11-14 22:13 squashfs-root/usr/bin/` + long + "\n"
	if diff := cmp.Diff(want, listing); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(bytes.Repeat([]byte("wisp"), 100<<10), []byte(unsquashfs(t, "-cat", out, "usr/bin/big"))); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	st, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size()%Align != 0 {
		t.Errorf("the file has %d bytes, want a multiple of %d", st.Size(), Align)
	}
}

func unsquashfs(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unsquashfs", args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("unsquashfs %v: %v", args, err)
	}
	return string(out)
}

// TestSameBytes writes one tree on two days, in two places, with two umasks.
func TestSameBytes(t *testing.T) {
	var images [][]byte
	for _, mask := range []int{0o022, 0o077} {
		old := syscall.Umask(mask)
		out := filepath.Join(t.TempDir(), "root.squashfs")
		err := Write(t.Context(), out, sample(t), options)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("the images differ")
	}
}

// TestFailures leaves no file system that could be taken for a good one.
func TestFailures(t *testing.T) {
	bad := options
	bad.Compressor = []string{"none-such"}
	if err := Write(t.Context(), filepath.Join(t.TempDir(), "x"), sample(t), bad); err == nil {
		t.Error("an unknown compressor was accepted")
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := Write(t.Context(), short, sample(t), options); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(short, 512); err != nil {
		t.Fatal(err)
	}
	if err := check(short); err == nil || !strings.Contains(err.Error(), "superblock says") {
		t.Errorf("a truncated file: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check(empty); err == nil || !strings.Contains(err.Error(), "no squashfs") {
		t.Errorf("an empty file: %v", err)
	}
}
