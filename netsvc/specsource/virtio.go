package specsource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openVirtio opens the virtio-serial port with a name, which the host gives it (a <target name> in libvirt).
func openVirtio(name string) (*portSource, error) {
	path, err := findVirtio("/sys/class/virtio-ports", "/dev", name)
	if err != nil {
		return nil, fmt.Errorf("open port %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open port %s: %w", name, err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open port %s: %w", name, err), f.Close())
	}
	return newPortSource(&virtioDevice{File: f, raw: raw}), nil
}

// findVirtio finds the device of a port by the names the kernel shows in sysfs.
func findVirtio(class, dev, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if has := strings.TrimSpace(string(b)); has != name {
			names = append(names, has)
			continue
		}
		return filepath.Join(dev, filepath.Base(filepath.Dir(f))), nil
	}
	return "", fmt.Errorf("%w: the machine's ports are %q", fs.ErrNotExist, names)
}

// virtioDevice is a port of Linux' virtio_console driver. While the host has its end closed, a read returns 0 instead
// of waiting, and poll reports a hang-up again and again. The runtime's poller is edge-triggered, and the driver wakes
// those who wait when the host comes as well as when bytes do: so a 0 is taken for "nothing yet".
type virtioDevice struct {
	*os.File
	raw syscall.RawConn
	// connected is whether the host was there when last looked; only the reader uses it.
	connected bool
}

func (d *virtioDevice) Read(b []byte) (int, error) {
	var n int
	var err error
	waitErr := d.raw.Read(func(fd uintptr) bool {
		n, err = retryInterrupted(func() (int, error) { return unix.Read(int(fd), b) })
		switch {
		case errors.Is(err, unix.EAGAIN):
			d.connected = true
			return false
		case n == 0 && err == nil && !d.connected:
			return false
		case n == 0 && err == nil:
			d.connected = false
			err = errHangUp
		case err == nil:
			d.connected = true
		}
		return true
	})
	if waitErr != nil {
		return 0, waitErr
	}
	if err != nil && !errors.Is(err, errHangUp) {
		return 0, fmt.Errorf("read port: %w", err)
	}
	return n, err
}

func (d *virtioDevice) HostConnected() bool {
	connected := false
	_ = d.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, err := retryInterrupted(func() (int, error) { return unix.Poll(fds, 0) }); err == nil {
			connected = fds[0].Revents&unix.POLLHUP == 0
		}
	})
	return connected
}

func retryInterrupted(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
