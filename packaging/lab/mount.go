package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountAll makes the machine's file systems read-only for the host and lays
// the host's own over them. From the first line on no mount made here is seen
// outside.
func mountAll(binds []bind) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := setReadOnly("/", true, true); err != nil {
		return err
	}
	// Devices are shared with the machine: terminals, shared memory, tun, kvm.
	if err := setReadOnly("/dev", false, true); err != nil {
		return err
	}
	// What a host binds may lie below what it covers (a lab in /run or
	// /var/tmp), so all sources are opened before anything is covered.
	sources := make([]*os.File, len(binds))
	for i, b := range binds {
		source, err := openPath(b.From)
		if err != nil {
			return err
		}
		sources[i] = source
	}
	for i, b := range binds {
		if err := mountBind(sources[i], b); err != nil {
			return err
		}
		if err := sources[i].Close(); err != nil {
			return fmt.Errorf("mount %s: %w", b.To, err)
		}
	}
	// A new sysfs shows the links of the own network namespace.
	for _, m := range []struct{ kind, path string }{{"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}

func mountBind(source *os.File, b bind) error {
	if _, err := os.Stat(b.To); errors.Is(err, fs.ErrNotExist) {
		if b.IfThere {
			return nil
		}
		if err := makeMountPoint(b.To); err != nil {
			return err
		}
	}
	if err := unix.Mount(fdPath(source, ""), b.To, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", b.From, b.To, err)
	}
	return setReadOnly(b.To, false, false)
}

// makeMountPoint makes a directory that the machine does not have, without
// making it on the machine: the directory above is replaced by a copy whose
// entries are bound to the original ones.
func makeMountPoint(path string) error {
	parent := filepath.Dir(path)
	if err := os.Mkdir(path, 0o755); err == nil {
		return nil // In a copy made before.
	}
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := makeMountPoint(parent); err != nil {
			return err
		}
	}
	if err := coverDir(parent); err != nil {
		return fmt.Errorf("make mount point %s: %w", path, err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	return nil
}

// coverDir mounts over a directory a new one with the same entries.
func coverDir(dir string) error {
	original, err := openPath(dir)
	if err != nil {
		return err
	}
	defer original.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, e := range entries {
		if err := coverEntry(original, dir, e); err != nil {
			return err
		}
	}
	return nil
}

func coverEntry(original *os.File, dir string, e fs.DirEntry) error {
	from, to := fdPath(original, e.Name()), filepath.Join(dir, e.Name())
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case e.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
	}
	err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
	if errors.Is(err, unix.ENOENT) {
		return nil // Deleted since the directory was read.
	}
	return err
}

func openPath(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// fdPath names what an open file or directory is, whatever covers it now.
func fdPath(f *os.File, below string) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(f.Fd())), below)
}

// setReadOnly changes a mount, and with deep all below it. See
// mount_setattr(2).
func setReadOnly(path string, readOnly, deep bool) error {
	var attr unix.MountAttr
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	} else {
		attr.Attr_clr = unix.MOUNT_ATTR_RDONLY
	}
	flags := uint(0)
	if deep {
		flags = unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &attr); err != nil {
		return fmt.Errorf("set mount %s read-only=%t: %w", path, readOnly, err)
	}
	return nil
}
