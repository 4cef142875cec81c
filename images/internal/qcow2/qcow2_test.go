package qcow2

import (
	"bytes"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/hosttool"
)

func TestCompress(t *testing.T) {
	if err := hosttool.Need(Tools...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	disk := make([]byte, 8<<20)
	_, _ = rand.New(rand.NewSource(1)).Read(disk[1<<20 : 2<<20])
	copy(disk[5<<20:], bytes.Repeat([]byte("text"), 100_000))
	if err := os.WriteFile(raw, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	var images [][]byte
	for range 3 {
		out := filepath.Join(dir, "out.qcow2")
		if err := Compress(t.Context(), raw, out); err != nil {
			t.Fatal(err)
		}
		info, err := Inspect(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Info{Format: "qcow2", VirtualSize: 8 << 20}, info); diff != "" {
			t.Errorf("info (-want +got):\n%s", diff)
		}
		if msg, err := exec.Command("qemu-img", "compare", raw, out).CombinedOutput(); err != nil {
			t.Errorf("contents differ: %s", msg)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
	}
	if !bytes.Equal(images[0], images[1]) || !bytes.Equal(images[0], images[2]) {
		t.Error("images of the same disk differ")
	}
	if n := len(images[0]); n > 2<<20 {
		t.Errorf("image has %d bytes: it is not compressed", n)
	}
}

func TestInspectRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("no image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), file); err == nil || !strings.Contains(err.Error(), "inspect") {
		t.Errorf("error %v", err)
	}
}
