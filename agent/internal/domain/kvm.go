package domain

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// kvmProbe is a boot sector that, in turn, waits for timer interrupts in real mode, goes to 64-bit mode with paging,
// and leaves through QEMU's debug exit device. Its source is probe.S.
//
//go:embed probe.bin
var kvmProbe []byte

const (
	// A machine whose KVM works needs a fifth of a second; nested ones that emulate it in software need longer and are
	// slower than emulation by QEMU itself.
	kvmDeadline = 2 * time.Second
	// The probe writes 0x10 to the exit device, which ends QEMU with 0x10<<1 | 1 (hw/misc/debugexit.c).
	kvmExit = 0x10<<1 | 1
)

// ProbeKVM says whether KVM runs guests here, by running one. That /dev/kvm is there and libvirt offers it proves
// nothing: on some nested machines every guest hangs or QEMU aborts. why tells what went wrong.
func ProbeKVM(ctx context.Context) (works bool, why error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return false, errors.New("there is no /dev/kvm")
	}
	dir, err := os.MkdirTemp("", "wisp-kvm-")
	if err != nil {
		return false, fmt.Errorf("probe kvm: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(ctx, kvmDeadline)
	defer cancel()
	cmd, err := probeCommand(ctx, dir, "kvm", "host")
	if err != nil {
		return false, fmt.Errorf("probe kvm: %w", err)
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return false, errors.New("a guest under kvm did not get through its first instructions in time")
	case errors.As(err, &exit) && exit.ExitCode() == kvmExit:
		return true, nil
	case err != nil:
		return false, fmt.Errorf("a guest under kvm failed: %w", err)
	}
	return false, errors.New("a guest under kvm ended without a word")
}

// probeCommand runs the probe's guest with files in dir.
func probeCommand(ctx context.Context, dir, accel, cpu string) (*exec.Cmd, error) {
	disk := filepath.Join(dir, "probe.img")
	if err := os.WriteFile(disk, kvmProbe, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "pc,accel="+accel, "-cpu", cpu, "-m", "16",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive", "file="+disk+",format=raw,if=ide,snapshot=on")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + dir}
	return cmd, nil
}
