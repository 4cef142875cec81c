package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/systemvm/internal/cmdline"
	"github.com/wispcloud/wisp/systemvm/internal/module"
	"github.com/wispcloud/wisp/systemvm/internal/rootdisk"
)

// Where the image keeps what init needs, and where init puts things.
const (
	moduleList  = "/etc/wisp/modules"
	sealFile    = "/etc/wisp/root.seal"
	versionFile = "/etc/wisp/version"

	imageMount = "/image" // the squashfs, read-only
	writeMount = "/write" // what is written over it, in memory
	newRoot    = "/root"  // both as one

	// diskWait is how long drivers may look for disks, which they do in the background.
	diskWait = 20 * time.Second
)

// firstProcess is the machine from its first moment to its last. One that cannot start is switched off, not started
// again, for it would fail the same way, and its host sees a machine that is off but not one that boots for ever.
func firstProcess() {
	err := boot()
	if err == nil {
		serve()
	}
	if errors.Is(err, rootdisk.ErrBroken) {
		say("ROOT DISK IS DAMAGED, NOT STARTED: %v", err)
	} else {
		say("CANNOT START: %v", err)
	}
	say("power off")
	powerOff()
}

// say writes a line to the console before there is a log.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "wisp-init: "+format+"\r\n", args...)
}

// boot makes the root disk the root of the machine, once it is known to be whole.
func boot() error {
	begun := time.Now()
	if err := mountAll(firstMounts); err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	parameters := cmdline.Parse(string(line))
	if err := loadListed(); err != nil {
		return err
	}
	text, err := os.ReadFile(sealFile)
	if err != nil {
		return err
	}
	seal, err := rootdisk.ParseSeal(string(text))
	if err != nil {
		return err
	}
	device, err := findRoot(parameters.Root, seal)
	if err != nil {
		return err
	}
	say("image %s, root disk %s is whole, %s after init began", imageVersion(), device, time.Since(begun).Round(time.Millisecond))
	if err := assemble(device); err != nil {
		return err
	}
	return enter()
}

// imageVersion is what the image calls itself.
func imageVersion() string {
	b, err := os.ReadFile(versionFile)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// loadListed loads the modules of the list in its order, which the image's builder has made right.
func loadListed() error {
	dirs, err := filepath.Glob("/lib/modules/*")
	if err != nil || len(dirs) != 1 {
		return fmt.Errorf("load modules: /lib/modules holds %d releases, want one", len(dirs))
	}
	text, err := os.ReadFile(moduleList)
	if err != nil {
		return fmt.Errorf("load modules: %w", err)
	}
	files, err := module.Find(dirs[0], module.ParseList(string(text)))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := module.Insert(f); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", module.Name(f), err)
		}
	}
	return nil
}

// findRoot returns the verified root disk: the named one, or, where none is named, the one that fits.
func findRoot(named string, seal rootdisk.Seal) (string, error) {
	deadline := time.Now().Add(diskWait)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		if named != "" {
			if _, err := os.Stat(named); err == nil {
				return named, rootdisk.VerifyDevice(named, seal)
			}
		} else {
			candidates, err := rootdisk.Candidates("/sys", "/dev")
			if err != nil {
				return "", err
			}
			if len(candidates) > 0 {
				return rootdisk.Pick(candidates, seal)
			}
		}
		if time.Now().After(deadline) {
			if named == "" {
				named = "with a squashfs"
			}
			return "", fmt.Errorf("find root disk: no disk %s after %s", named, diskWait)
		}
		<-pause.C
	}
}

// assemble puts a writable layer in memory over the image.
func assemble(device string) error {
	for _, d := range []string{imageMount, writeMount, newRoot} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount(mountPoint{device, imageMount, "squashfs", unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID, ""}); err != nil {
		return err
	}
	// A quarter of the memory: what is written are lock files and the configuration of daemons.
	if err := mount(mountPoint{"tmpfs", writeMount, "tmpfs", unix.MS_NODEV | unix.MS_NOSUID, "mode=0755,size=25%"}); err != nil {
		return err
	}
	for _, d := range []string{writeMount + "/upper", writeMount + "/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", imageMount, writeMount, writeMount)
	return mount(mountPoint{"overlay", newRoot, "overlay", unix.MS_NOATIME, options})
}

// enter makes newRoot the root file system. This process goes on there as the same program: executing the root's copy of
// it would cost a start of the runtime and gain nothing, for both are of one build.
func enter() error {
	if _, err := os.Stat(newRoot + netsvcPath); err != nil {
		return fmt.Errorf("root disk has no services: %w", err)
	}
	for _, m := range firstMounts {
		if err := os.MkdirAll(newRoot+m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.at, newRoot+m.at, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move mount %s: %w", m.at, err)
		}
	}
	// The files of the initial root file system are memory that nothing frees later: after the move it is out of reach.
	// What remains is this program itself.
	for _, p := range []string{"/init", "/lib", "/etc"} {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move mount %s: %w", newRoot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return os.Chdir("/")
}
