package modload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// testLoader notes what would be inserted instead of asking the kernel.
func testLoader(t *testing.T, result func(name string) error) (*Loader, *[]string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "modules.dep"), `k/virtio.ko:
k/virtio-ring.ko: k/virtio.ko
k/virtio_net.ko: k/virtio-ring.ko k/virtio.ko
k/sd_mod.ko:
`)
	write(t, filepath.Join(dir, "modules.alias"), `# comment
alias virtio:d00000001v* virtio_net
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_ring
alias scsi:t-0x00* sd_mod
`)
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.loaded = map[string]bool{} // this machine's own modules do not count
	var inserted []string
	l.insert = func(file string) error {
		name := strings.TrimPrefix(file, dir+"/")
		if err := result(name); err != nil {
			return err
		}
		inserted = append(inserted, name)
		return nil
	}
	return l, &inserted
}

func TestLoad(t *testing.T) {
	l, inserted := testLoader(t, func(name string) error {
		if name == "k/virtio.ko" {
			return syscall.EEXIST // by another way meanwhile
		}
		return nil
	})
	for range 2 {
		if err := l.Load("virtio-net"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"k/virtio-ring.ko", "k/virtio_net.ko"}, *inserted); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
	if err := l.Load("absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent module: %v", err)
	}
}

func TestLoadFails(t *testing.T) {
	l, inserted := testLoader(t, func(name string) error {
		if name == "k/virtio-ring.ko" {
			return syscall.ENOEXEC
		}
		return nil
	})
	if err := l.Load("virtio_net"); !errors.Is(err, syscall.ENOEXEC) || !strings.Contains(err.Error(), "virtio_ring") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"k/virtio.ko"}, *inserted); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
}

func TestMarkLoaded(t *testing.T) {
	l, inserted := testLoader(t, func(string) error { return nil })
	list := filepath.Join(t.TempDir(), "modules")
	write(t, list, "virtio_ring 1 2 - Live 0x0\nother 1 2 - Live 0x0\n")
	l.markLoaded(list)
	if err := l.Load("virtio_ring"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"k/virtio.ko"}, *inserted); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
}

// TestColdplug has a device that appears when the driver of another is loaded.
func TestColdplug(t *testing.T) {
	sys := t.TempDir()
	write(t, filepath.Join(sys, "pci/devices/0000:00:03.0/modalias"), "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00\n")
	write(t, filepath.Join(sys, "scsi/devices/0:0:0:0/modalias"), "scsi:t-0x00\n")
	write(t, filepath.Join(sys, "acpi/devices/x/modalias"), "acpi:PNP0C0C:\n")
	appear := func(name string) error {
		if name == "k/virtio-ring.ko" {
			write(t, filepath.Join(sys, "virtio/devices/virtio0/modalias"), "virtio:d00000001v00001AF4\n")
		}
		return nil
	}
	l, inserted := testLoader(t, appear)
	if err := l.Coldplug(sys, func(m string) bool { return !strings.HasPrefix(m, "scsi:") }); err != nil {
		t.Fatal(err)
	}
	want := []string{"k/virtio.ko", "k/virtio-ring.ko", "k/virtio_net.ko"}
	if diff := cmp.Diff(want, *inserted); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
	if err := l.Coldplug(sys, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(want, "k/sd_mod.ko"), *inserted); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
}
