// Command boot is the first program of the tiny guest, /init of its initial root
// file system: it loads the drivers of the disk, mounts the root partition and
// becomes the guest's init from there.
//
// It imports nothing larger than os and syscall: the boot loader reads it through
// the BIOS, where every megabyte costs a tenth of a second in an emulated guest.
package main

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/images/tinyguest/modload"
)

const (
	nextInit  = "/usr/sbin/wisp-guest"
	rootParam = "wisp.root=" // file system UUID, on the kernel's command line
	newRoot   = "/newroot"
)

func main() {
	for {
		err := boot()
		say("wisp-guest boot: " + err.Error() + "; trying again in 10 s")
		time.Sleep(10 * time.Second)
	}
}

func say(s string) {
	_, _ = os.Stderr.WriteString(s + "\n")
}

// boot returns only when it failed. It may be called again.
func boot() error {
	mounts := []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}}
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, syscall.EBUSY) {
			return &os.PathError{Op: "mount", Path: m.at, Err: err}
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	uuid, err := rootUUID(string(cmdline))
	if err != nil {
		return err
	}
	device, err := findRoot(uuid)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(device, newRoot, "ext4", syscall.MS_NOATIME, "errors=remount-ro"); err != nil {
		return &os.PathError{Op: "mount", Path: device, Err: err}
	}
	return enter(device)
}

// enter makes newRoot the root file system and executes the init there. Before,
// it frees the memory of the initial root file system.
func enter(device string) error {
	for _, m := range []string{"/dev", "/proc", "/sys"} {
		if err := syscall.Mount(m, newRoot+m, "", syscall.MS_MOVE, ""); err != nil {
			return &os.PathError{Op: "move mount", Path: m, Err: err}
		}
	}
	for _, p := range []string{"/init", "/lib"} {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		return &os.PathError{Op: "move mount", Path: newRoot, Err: err}
	}
	if err := syscall.Chroot("."); err != nil {
		return &os.PathError{Op: "chroot", Path: newRoot, Err: err}
	}
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux", "WISP_ROOT_DEVICE=" + device}
	err := syscall.Exec(nextInit, []string{"wisp-guest", "init"}, env)
	return &os.PathError{Op: "execute", Path: nextInit, Err: err}
}

func rootUUID(cmdline string) (string, error) {
	for _, word := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(word, rootParam); ok {
			b, err := hex.DecodeString(strings.ReplaceAll(v, "-", ""))
			if err != nil || len(b) != 16 {
				return "", errors.New("kernel parameter " + word + " is not a UUID")
			}
			return string(b), nil
		}
	}
	return "", errors.New("kernel parameter " + rootParam + " is missing")
}

// virtio marks devices whose drivers are tried first: a guest's disk almost always
// is one, and asking an IDE controller what it has takes half a second.
func virtio(modalias string) bool {
	return strings.HasPrefix(modalias, "virtio:") || strings.HasPrefix(modalias, "pci:v00001AF4")
}

// findRoot loads drivers until a partition with the root file system is there.
// Drivers look for disks in the background; ten seconds suffice by far.
func findRoot(uuid string) (string, error) {
	dirs, err := filepath.Glob("/lib/modules/*")
	if err != nil || len(dirs) != 1 {
		return "", errors.New("want one directory in /lib/modules")
	}
	loader, err := modload.Open(dirs[0])
	if err != nil {
		return "", err
	}
	loadErr := loader.Coldplug("/sys/bus", virtio)
	if device := partitionOf(uuid); device != "" {
		return device, nil
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if loadErr = loader.Coldplug("/sys/bus", nil); loadErr != nil {
			say("wisp-guest boot: " + loadErr.Error())
		}
		if device := partitionOf(uuid); device != "" {
			return device, nil
		}
	}
	return "", errors.Join(errors.New("no partition has the root file system"), loadErr)
}

// partitionOf looks for an ext4 file system with a UUID. Names are tried in
// order: a second disk may be a copy of the same template, and the firmware
// starts from the first one.
func partitionOf(uuid string) string {
	names, err := filepath.Glob("/sys/class/block/*/partition")
	if err != nil {
		return ""
	}
	sort.Strings(names)
	for _, n := range names {
		device := "/dev/" + filepath.Base(filepath.Dir(n))
		if isRoot(device, uuid) {
			return device
		}
	}
	return ""
}

// isRoot checks the super block: magic number at 56, UUID at 104 (kernel
// documentation, filesystems/ext4/super.rst).
func isRoot(device, uuid string) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	var sb [1024]byte
	if _, err := f.ReadAt(sb[:], 1024); err != nil {
		return false
	}
	return sb[56] == 0x53 && sb[57] == 0xef && string(sb[104:120]) == uuid
}
