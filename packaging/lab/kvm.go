package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// probeTimeout is much more than a guest needs where KVM works, about 2 s.
const probeTimeout = 20 * time.Second

// ProbeKVM tells whether guests run under KVM here, and if not why, in words
// that go behind "software emulation: ".
//
// It boots the disk image and waits for the text on its serial console. Less
// would prove nothing: there are machines with a /dev/kvm that libvirt and
// QEMU are content with and on which no kernel gets beyond its first page
// fault. The image stays unchanged.
func ProbeKVM(ctx context.Context, disk, want string) (works bool, why string) {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, "no usable /dev/kvm"
	}
	_ = kvm.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host",
		"-m", "128", "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio",
		"-drive", "if=virtio,format=qcow2,snapshot=on,file="+strings.ReplaceAll(disk, ",", ",,"))
	// In a group of its own: Ctrl-C is for the one who started the probe.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	return waitConsole(ctx, cmd, want)
}

// qemuPlace is where in QEMU's source a message comes from.
var qemuPlace = regexp.MustCompile(`^qemu-system-x86_64: (\S+:\d+: )?`)

// waitConsole runs cmd until its output has the text; it kills it then.
func waitConsole(ctx context.Context, cmd *exec.Cmd, want string) (seen bool, why string) {
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		return false, err.Error()
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = write.Close()
		ended <- err
	}()
	last := "nothing on its console"
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			last = qemuPlace.ReplaceAllString(line, "")
		}
		if strings.Contains(lines.Text(), want) {
			seen = true
			break
		}
	}
	_ = cmd.Process.Kill()
	// Lets what is still being written go through.
	_, _ = io.Copy(io.Discard, read)
	err := <-ended
	switch {
	case seen:
		return true, ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return false, fmt.Sprintf("a guest under KVM did not come up within %s (last: %s)", probeTimeout, last)
	default:
		return false, fmt.Sprintf("a guest under KVM ended early: %s (%v)", last, err)
	}
}
