package fat

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/hosttool/hosttooltest"
)

func TestWrite(t *testing.T) {
	if err := hosttool.Need(Tools...); err != nil {
		t.Fatal(err)
	}
	o := Options{Size: 18 << 20, Label: "TESTBOOT", ID: 0x1234abcd, Time: time.Unix(1700000000, 0)}
	kernel := bytes.Repeat([]byte("kernel"), 500_000)
	files := []File{{"syslinux.cfg", []byte("DEFAULT x\n")}, {"vmlinuz", kernel}}
	var images [][]byte
	for i := range 2 {
		if i == 1 {
			hosttooltest.AnotherDay(t, Tools)
		}
		dir := t.TempDir()
		image := filepath.Join(dir, "p")
		if err := Write(t.Context(), image, dir, o, files); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
		got, err := exec.Command("mtype", "-i", image, "::vmlinuz").Output()
		if err != nil || !bytes.Equal(got, kernel) {
			t.Errorf("the kernel reads back as %d bytes, %v", len(got), err)
		}
		list, err := exec.Command("mdir", "-i", image, "-a", "-b", "::").Output()
		if err != nil || strings.Join(strings.Fields(string(list)), " ") != "::/ldlinux.sys ::/ldlinux.c32 ::/syslinux.cfg ::/vmlinuz" {
			t.Errorf("files %q, %v", list, err)
		}
		// The boot sector's code names its maker; the last two bytes make it bootable.
		if string(b[3:11]) != "SYSLINUX" || b[510] != 0x55 || b[511] != 0xaa {
			t.Errorf("boot sector begins %q", b[3:11])
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two partitions of the same files differ")
	}
}

func TestWriteFull(t *testing.T) {
	dir := t.TempDir()
	err := Write(t.Context(), filepath.Join(dir, "p"), dir, Options{Size: 18 << 20, Label: "X", Time: time.Unix(1700000000, 0)},
		[]File{{"vmlinuz", make([]byte, 19<<20)}})
	if err == nil || !strings.Contains(err.Error(), "mcopy") {
		t.Errorf("a file that does not fit: %v", err)
	}
}
