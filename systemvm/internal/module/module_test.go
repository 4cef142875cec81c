package module

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	dep = `kernel/net/a-b.ko:
kernel/net/mid.ko: kernel/net/a-b.ko
kernel/net/top.ko: kernel/net/mid.ko kernel/net/a-b.ko
kernel/crypto/cipher.ko:
`
	aliases = `# Aliases extracted from modules themselves.
alias virtio:d00000001v* top
alias net-pf-16-proto-[0-9]* mid
alias nft-expr-match a-b
alias fs-x/y mid
alias cpu:type:x86,*feature:*,0099,* cipher
`
)

func TestLoad(t *testing.T) {
	tests := []struct {
		name   string
		wanted []string
		loaded string
		want   []string
		err    error
	}{
		{"with what it needs, once", []string{"top", "mid"}, "", []string{"a_b", "mid", "top"}, nil},
		{"dashes are underscores", []string{"a-b", "a_b"}, "", []string{"a_b"}, nil},
		{"what is loaded already", []string{"top"}, "a_b 16384 2 mid, Live 0x0\n", []string{"mid", "top"}, nil},
		{"device alias", []string{"virtio:d00000001v00001AF4"}, "", []string{"a_b", "mid", "top"}, nil},
		{"range in an alias", []string{"net-pf-16-proto-12"}, "", []string{"a_b", "mid"}, nil},
		{"slash in an alias", []string{"fs-x/y"}, "", []string{"a_b", "mid"}, nil},
		{"after a name that is nobody's", []string{"nothing", "top"}, "", []string{"a_b", "mid", "top"}, ErrUnknown},
		{"nobody's name", []string{"nothing"}, "", nil, ErrUnknown},
		{"nobody's alias", []string{"net-pf-16-proto-x"}, "", nil, ErrUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			l := newLoader("/m", ParseIndex(dep, aliases), func(file string) error {
				got = append(got, Name(file))
				if Name(file) == "a_b" {
					return fs.ErrExist // somebody else was faster
				}
				return nil
			})
			l.MarkLoaded(tt.loaded)
			if err := l.LoadAll(tt.wanted...); !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadStopsAtAFailure(t *testing.T) {
	broken := errors.New("broken")
	l := newLoader("/m", ParseIndex(dep, aliases), func(string) error { return broken })
	if err := l.Load("top"); !errors.Is(err, broken) || err.Error() != "load module a_b: broken" {
		t.Errorf("got %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A driver's load makes its device's children appear, which have drivers too.
func TestColdplug(t *testing.T) {
	sys := t.TempDir()
	write(t, filepath.Join(sys, "bus/pci/devices/0/modalias"), "net-pf-16-proto-1\n")
	write(t, filepath.Join(sys, "bus/pci/devices/1/modalias"), "nobody:knows\n")
	write(t, filepath.Join(sys, "bus/cpu/devices/cpu0/modalias"), "cpu:type:x86,feature:,0099,\n")
	var got []string
	l := newLoader("/m", ParseIndex(dep, aliases), func(file string) error {
		got = append(got, Name(file))
		write(t, filepath.Join(sys, "bus/virtio/devices/0/modalias"), "virtio:d00000001v1\n")
		return nil
	})
	if err := l.Coldplug(sys); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a_b", "mid", "top"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFindInOrder(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"kernel/x/one.ko", "kernel/two-b.ko"} {
		write(t, filepath.Join(dir, f), "")
	}
	got, err := Find(dir, ParseList("two_b # first\n\nkernel/x/one.ko\n"))
	want := []string{filepath.Join(dir, "kernel/two-b.ko"), filepath.Join(dir, "kernel/x/one.ko")}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := Find(dir, []string{"three"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}
