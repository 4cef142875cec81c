package ext4

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/tree"
)

var opts = Options{
	Size: 16 << 20, Label: "test", UUID: "00000000-0000-4000-8000-000000000001", HashSeed: "00000000-0000-4000-8000-000000000002",
	JournalMiB: 4, Inodes: 512, Time: time.Unix(1700000000, 0),
}

func testTree(t *testing.T) *tree.Tree {
	t.Helper()
	tr := tree.New()
	for _, e := range []tree.Entry{
		{Path: "bin/su", Kind: tree.File, Perm: 0o4755, Data: bytes.Repeat([]byte("x"), 100_000)},
		{Path: "etc/shadow", Kind: tree.File, Perm: 0o640, GID: 42, Data: []byte("root:!:\n")},
		{Path: "home/u", Kind: tree.Dir, Perm: 0o700, UID: 1000, GID: 1000},
		{Path: "dev/null", Kind: tree.CharDevice, Perm: 0o666, Major: 1, Minor: 3},
		{Path: "tmp", Kind: tree.Dir, Perm: 0o1777},
		{Path: "sh", Kind: tree.Symlink, Perm: 0o777, Link: "bin/su"},
		{Path: "long", Kind: tree.Symlink, Perm: 0o777, Link: strings.Repeat("d/", 40) + "x"},
	} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func debugfs(t *testing.T, image, command string) string {
	t.Helper()
	path, err := hosttool.Path("debugfs")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "-R", command, image).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestWrite(t *testing.T) {
	if err := hosttool.Need(Tools...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "p")
	if err := Write(t.Context(), image, dir, opts, testTree(t)); err != nil {
		t.Fatal(err)
	}
	// /inode/mode/uid/gid/name/size/
	want := map[string]string{
		"/":     "040755/0/0/. 040755/0/0/.. 040700/0/0/lost+found 040755/0/0/bin 040755/0/0/dev 040755/0/0/etc 040755/0/0/home 120777/0/0/long 120777/0/0/sh 041777/0/0/tmp",
		"/bin":  "040755/0/0/. 040755/0/0/.. 104755/0/0/su/100000",
		"/dev":  "040755/0/0/. 040755/0/0/.. 020666/0/0/null",
		"/etc":  "040755/0/0/. 040755/0/0/.. 100640/0/42/shadow/8",
		"/home": "040755/0/0/. 040755/0/0/.. 040700/1000/1000/u",
	}
	for path, w := range want {
		if diff := cmp.Diff(strings.Fields(w), entries(debugfs(t, image, "ls -p "+path))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if got := debugfs(t, image, "cat /etc/shadow"); got != "root:!:\n" {
		t.Errorf("/etc/shadow holds %q", got)
	}
	for _, p := range []string{"/", "/lost+found", "/bin/su", "/home/u", "/sh", "/long", "/dev/null"} {
		stat := debugfs(t, image, "stat "+p)
		if n := strings.Count(stat, "0x6553f100:00000000"); n != 4 {
			t.Errorf("%s: %d of its four times are the one given:\n%s", p, n, stat)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("scratch directory holds %v, %v; want the image alone", left, err)
	}
}

// entries turns debugfs's listing into mode/uid/gid/name, with the size of files.
func entries(out string) []string {
	var all []string
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "/")
		if len(f) < 7 {
			continue
		}
		e := strings.Join(f[2:6], "/")
		if strings.HasPrefix(f[2], "10") {
			e += "/" + f[6]
		}
		all = append(all, e)
	}
	return all
}

func TestWriteReproducible(t *testing.T) {
	var first []byte
	for i := range 2 {
		dir := t.TempDir()
		image := filepath.Join(dir, "p")
		if err := Write(t.Context(), image, dir, opts, testTree(t)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = b
			// The clock of the next one shows another second.
			<-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		} else if !bytes.Equal(first, b) {
			t.Error("two file systems of the same tree differ")
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		e    tree.Entry
		size int64
		want string
	}{
		{"white space", tree.Entry{Path: "a b"}, opts.Size, "white space"},
		{"newline in a link", tree.Entry{Path: "a", Kind: tree.Symlink, Link: "x\nrm /"}, opts.Size, "white space"},
		{"too large", tree.Entry{Path: "a", Data: bytes.Repeat([]byte("x"), 12<<20)}, 12 << 20, "debugfs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := tree.New()
			if err := tr.Add(tc.e); err != nil {
				t.Fatal(err)
			}
			o := opts
			o.Size = tc.size
			dir := t.TempDir()
			err := Write(t.Context(), filepath.Join(dir, "p"), dir, o, tr)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
