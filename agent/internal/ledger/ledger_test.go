package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/proto/hostspec"
)

func spec(generation uint64, names ...string) *hostspec.HostSpec {
	s := &hostspec.HostSpec{HostId: "h1", Generation: generation}
	for _, n := range names {
		s.Vms = append(s.Vms, &hostspec.VirtualMachine{Id: n})
	}
	return s
}

func open(t *testing.T, files Files, wantWarning string) *Ledger {
	t.Helper()
	l, warning, err := Open(files)
	if err != nil {
		t.Fatal(err)
	}
	if (wantWarning == "") != (warning == "") || !strings.Contains(warning, wantWarning) {
		t.Fatalf("warning %q, want one with %q", warning, wantWarning)
	}
	return l
}

func accept(t *testing.T, l *Ledger, s *hostspec.HostSpec) {
	t.Helper()
	if changed, err := l.Accept(s); err != nil || !changed {
		t.Fatalf("accept %d: changed %t, %v", s.GetGeneration(), changed, err)
	}
}

// stores runs a test over both kinds of Files.
func stores(t *testing.T, f func(t *testing.T, files Files)) {
	t.Run("memory", func(t *testing.T) { f(t, &Memory{}) })
	t.Run("directory", func(t *testing.T) {
		d, err := OpenDir(filepath.Join(t.TempDir(), "state"))
		if err != nil {
			t.Fatal(err)
		}
		f(t, d)
	})
}

func TestAccept(t *testing.T) {
	stores(t, func(t *testing.T, files Files) {
		l := open(t, files, "")
		if l.Spec() != nil || l.Generation() != 0 {
			t.Fatalf("a new ledger holds %v", l.Spec())
		}
		accept(t, l, spec(5, "a"))
		tests := []struct {
			name    string
			spec    *hostspec.HostSpec
			changed bool
			err     error
		}{
			{"replay", spec(5, "a"), false, nil},
			{"older", spec(4, "a"), false, ErrOlder},
			{"equal but different", spec(5, "b"), false, ErrDiffers},
			{"another host's", &hostspec.HostSpec{HostId: "h2", Generation: 9}, false, ErrForeign},
			{"newer", spec(7, "b"), true, nil},
			{"what was newer once", spec(5, "a"), false, ErrOlder},
		}
		for _, tt := range tests {
			changed, err := l.Accept(tt.spec)
			if changed != tt.changed || !errors.Is(err, tt.err) {
				t.Errorf("%s: changed %t, error %v; want %t, %v", tt.name, changed, err, tt.changed, tt.err)
			}
		}
		again := open(t, files, "")
		if diff := cmp.Diff(spec(7, "b"), again.Spec(), protocmp.Transform()); diff != "" {
			t.Errorf("after opening again (-want +got):\n%s", diff)
		}
	})
}

// TestDamage flips every byte of the current file in turn, and cuts it at every length: the ledger falls back to the
// previous spec and says so, or holds the right one. It never holds anything else.
func TestDamage(t *testing.T) {
	files := &Memory{}
	l := open(t, files, "")
	accept(t, l, spec(1, "a"))
	accept(t, l, spec(2, "b", "c"))
	whole, err := files.Read(currentName)
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{nil}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x40
		damaged = append(damaged, flipped, whole[:i])
	}
	for i, data := range damaged {
		files := &Memory{}
		previous, err := encode(spec(1, "a"))
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{currentName: data, previousName: previous} {
			if err := files.Replace(name, "", content); err != nil {
				t.Fatal(err)
			}
		}
		l := open(t, files, "generation 1")
		if diff := cmp.Diff(spec(1, "a"), l.Spec(), protocmp.Transform()); diff != "" {
			t.Fatalf("damage %d (-want +got):\n%s", i, diff)
		}
		accept(t, l, spec(2, "b", "c"))
		if got := open(t, files, "").Generation(); got != 2 {
			t.Fatalf("damage %d: generation %d after mending", i, got)
		}
	}
}

func TestBothDamaged(t *testing.T) {
	files := &Memory{}
	for _, name := range []string{currentName, previousName} {
		if err := files.Replace(name, "", []byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, files, "starting with none")
	if l.Spec() != nil {
		t.Errorf("holds %v", l.Spec())
	}
	accept(t, l, spec(3, "a"))
}

// TestPreviousAlone is a crash between keeping the old file and naming the new one on a file system that reorders.
func TestPreviousAlone(t *testing.T) {
	files := &Memory{}
	l := open(t, files, "")
	accept(t, l, spec(1, "a"))
	accept(t, l, spec(2, "b"))
	if err := files.Remove(currentName); err != nil {
		t.Fatal(err)
	}
	if got := open(t, files, "current spec is missing").Generation(); got != 1 {
		t.Errorf("generation %d", got)
	}
}

// failing lets the n-th write fail.
type failing struct {
	Memory
	left int
}

func (f *failing) Replace(name, keep string, data []byte) error {
	if f.left--; f.left < 0 {
		return errors.New("no space left on device")
	}
	return f.Memory.Replace(name, keep, data)
}

func TestFullDisk(t *testing.T) {
	files := &failing{left: 1}
	l := open(t, files, "")
	accept(t, l, spec(1, "a"))
	if _, err := l.Accept(spec(2, "b")); err == nil {
		t.Fatal("accepted without writing")
	}
	if got := l.Generation(); got != 1 {
		t.Errorf("holds generation %d that is not on the disk", got)
	}
}

func TestDirKeepsSecretsAndNoLitter(t *testing.T) {
	root := filepath.Join(t.TempDir(), "state")
	d, err := OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := d.Replace("vms/x.json", "", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if err := d.Replace("spec", "spec.previous", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		got[name] = info.Mode().String()
		if !e.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			got[name] += " " + string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		".": "drwx------", "vms": "drwx------", "vms/x.json": "-rw------- 2", "spec": "-rw------- 2", "spec.previous": "-rw------- 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFacts(t *testing.T) {
	stores(t, func(t *testing.T, files Files) {
		f, warnings, err := OpenFacts[VMFacts](files, "vms")
		if err != nil || len(warnings) != 0 {
			t.Fatal(err, warnings)
		}
		a := VMFacts{StartEpoch: 3, BootEpoch: 1, Cause: CauseGuest, Restarts: 2}
		for id, v := range map[string]VMFacts{"a": a, "b": {StartEpoch: 1}, "c": {}} {
			if err := f.Put(id, v); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := f.Delete("b"); err != nil {
				t.Fatal(err)
			}
		}
		if err := files.Replace("vms/c.json", "", []byte("{")); err != nil {
			t.Fatal(err)
		}
		again, warnings, err := OpenFacts[VMFacts](files, "vms")
		if err != nil {
			t.Fatal(err)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0], "c.json") {
			t.Errorf("warnings %q", warnings)
		}
		if diff := cmp.Diff(map[string]VMFacts{"a": a}, again.All()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// FuzzOpen lets the ledger read anything: it must neither panic nor hold what was not written by encode.
func FuzzOpen(f *testing.F) {
	good, err := encode(spec(3, "a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := &Memory{}
		if err := files.Replace(currentName, "", data); err != nil {
			t.Fatal(err)
		}
		l, warning, err := Open(files)
		if err != nil {
			t.Fatal(err)
		}
		if (l.Spec() == nil) == (warning == "") {
			t.Fatalf("spec %v, warning %q", l.Spec(), warning)
		}
	})
}
