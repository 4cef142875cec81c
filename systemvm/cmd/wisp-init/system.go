package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const searchPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

type mountPoint struct {
	source, at, kind string
	flags            uintptr
	data             string
}

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// firstMounts move from the initial root to the root disk.
var firstMounts = []mountPoint{
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"proc", "/proc", "proc", noExec, ""},
	{"sysfs", "/sys", "sysfs", noExec, ""},
}

var laterMounts = []mountPoint{
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=10%"},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=10%"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
}

func mountAll(points []mountPoint) error {
	for _, m := range points {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := mount(m); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

func mount(m mountPoint) error {
	if err := unix.Mount(m.source, m.at, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s (%s) at %s: %w", m.source, m.kind, m.at, err)
	}
	return nil
}

// linkUp raises a network link. The services raise their own; lo belongs to nobody.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("raise link %s: %w", name, err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("raise link %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("raise link %s: %w", name, err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("raise link %s: %w", name, err)
	}
	return nil
}

// memTotal reads the memory of the machine in KiB from a text such as /proc/meminfo.
func memTotal(meminfo string) (uint64, error) {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, errors.New("read memory size: no MemTotal")
}

type setting struct{ path, value string }

// settings of the kernel for a machine of that much memory. What belongs to links and forwarding is the services'.
func settings(memKiB uint64) []setting {
	// By itself the kernel gives a machine of 128 MiB a table of 1,024 connections, which one guest's browser fills. An
	// entry takes about 320 bytes: this is at most a twelfth of the memory, when full.
	connections := max(memKiB/8, 4096)
	return []setting{
		{"/proc/sys/kernel/modprobe", "/sbin/modprobe"},
		// A kernel that has gone wrong must not go on half alive: it panics, and the host starts the machine again.
		{"/proc/sys/kernel/panic", "5"},
		{"/proc/sys/kernel/panic_on_oops", "1"},
		// The first process would otherwise be asked to reboot by a console's ctrl-alt-del at once, without syncing.
		{"/proc/sys/kernel/ctrl-alt-del", "0"},
		{"/proc/sys/kernel/printk", "4 4 1 7"},
		{"/sys/module/nf_conntrack/parameters/hashsize", strconv.FormatUint(connections/2, 10)},
		{"/proc/sys/net/netfilter/nf_conntrack_max", strconv.FormatUint(connections, 10)},
	}
}

func applySettings(list []setting) error {
	var errs []error
	for _, s := range list {
		if err := os.WriteFile(s.path, []byte(s.value), 0); err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", filepath.Base(s.path), err))
		}
	}
	return errors.Join(errs...)
}

// powerOff does not return; neither does restart.
func powerOff() { end(unix.LINUX_REBOOT_CMD_POWER_OFF) }
func restart()  { end(unix.LINUX_REBOOT_CMD_RESTART) }

func end(command int) {
	unix.Sync()
	if err := unix.Reboot(command); err != nil {
		say("switch off: %v", err)
	}
	// The end of the first process is a panic, which is an end as well.
	os.Exit(1)
}
