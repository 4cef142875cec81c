package rootdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
)

// squashfs is a disk whose super block speaks of that many bytes, padded, and followed by what a larger partition has.
func squashfs(used, behind int) []byte {
	size := (used + padding - 1) / padding * padding
	b := bytes.Repeat([]byte{7}, size+behind)
	binary.LittleEndian.PutUint32(b, superMagic)
	binary.LittleEndian.PutUint64(b[bytesUsedAt:], uint64(used))
	return b
}

func TestVerify(t *testing.T) {
	disk := squashfs(10000, 0)
	sum := fmt.Sprintf("%016x", xxhash.Sum64(disk))
	flipped := bytes.Clone(disk)
	flipped[9000] ^= 1
	huge := bytes.Clone(disk)
	binary.LittleEndian.PutUint64(huge[bytesUsedAt:], 1<<50)
	tests := []struct {
		name, seal string
		disk       []byte
		want       error
	}{
		{"whole", sum, disk, nil},
		{"whole, as xxhsum prints it", sum + "  root.squashfs\n", disk, nil},
		{"whole, with its size", sum + " 12288", disk, nil},
		{"in a larger partition", sum, append(bytes.Clone(disk), "more"...), nil},
		{"one bit", sum, flipped, ErrBroken},
		{"cut short", sum, disk[:8192], ErrBroken},
		{"cut short, with its size", sum + " 12288", disk[:8192], ErrBroken},
		{"a super block that lies", sum, huge, ErrBroken},
		{"no squashfs", sum, make([]byte, 12288), ErrNoSquashfs},
		{"no squashfs, with its size", sum + " 12288", make([]byte, 12288), ErrBroken},
		{"nothing", sum, nil, io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSeal(tt.seal)
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(bytes.NewReader(tt.disk), s); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseSealRefuses(t *testing.T) {
	sum := fmt.Sprintf("%016x", xxhash.Sum64(nil))
	for _, text := range []string{"", "\n", "abc", sum[:14], sum + "00", "+" + sum[:15], sum + " 0", sum + " -1"} {
		if s, err := ParseSeal(text); err == nil {
			t.Errorf("%q gave %v", text, s)
		}
	}
}

func TestPick(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()
	good := squashfs(5000, 0)
	for name, content := range map[string][]byte{"vda": make([]byte, 8192), "vdb": squashfs(6000, 0), "vdc2": squashfs(5000, 512)} {
		if err := os.MkdirAll(filepath.Join(sys, "class/block", name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dev, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	candidates, err := Candidates(sys, dev)
	want := []string{filepath.Join(dev, "vdb"), filepath.Join(dev, "vdc2")}
	if diff := cmp.Diff(want, candidates); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := Pick(candidates, Seal{Sum: xxhash.Sum64(good)}); got != want[1] || err != nil {
		t.Errorf("picked %q, %v", got, err)
	}
	if got, err := Pick(candidates, Seal{}); !errors.Is(err, ErrBroken) {
		t.Errorf("picked %q, %v", got, err)
	}
	if got, err := Pick(nil, Seal{}); err == nil {
		t.Errorf("picked %q of nothing", got)
	}
}
