package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/images/tinyguest"
)

const guestXML = `<domain type='qemu'>
  <name>guest</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
    <interface type='bridge'><source bridge='cloudbr1'/><model type='virtio'/></interface>
    <serial type='pty'><log file='/var/log/libvirt/qemu/guest-console.log' append='on'/></serial>
  </devices>
</domain>`

// TestGuest boots a real guest on one host, moves it alive to the other by
// libvirt's own means, and pulls the plug there.
func TestGuest(t *testing.T) {
	needRoot(t)
	shared := t.TempDir()
	image, err := tinyguest.Build(t.Context(), shared, imageCache(t))
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLab(t, Config{Name: "tguest", Hosts: 2, Shared: []string{shared}})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	xml := filepath.Join(shared, "guest.xml")
	if err := os.WriteFile(xml, fmt.Appendf(nil, guestXML, filepath.Join(shared, image.File)), 0o644); err != nil {
		t.Fatal(err)
	}
	from, to := l.Host(1), l.Host(2)
	begin := time.Now()
	mustExec(t, from, "virsh", "create", xml)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err = waitFor(ctx, "the guest's banner", func() error {
		console, err := os.ReadFile(filepath.Join(from.Dir(), "var-log-libvirt/qemu/guest-console.log"))
		if err == nil && !strings.Contains(string(console), "Wisp tiny guest") {
			err = fmt.Errorf("console: %q", console)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("guest up after %s", time.Since(begin).Round(10*time.Millisecond))

	begin = time.Now()
	// Unsafe in libvirt's words because the disk is on what looks like a local
	// file system.
	mustExec(t, from, "virsh", "migrate", "--live", "--p2p", "--unsafe", "guest", "qemu+tcp://"+to.IP().String()+"/system")
	t.Logf("moved in %s", time.Since(begin).Round(10*time.Millisecond))
	if got := strings.TrimSpace(mustExec(t, from, "virsh", "list", "--name", "--all")); got != "" {
		t.Errorf("left on the source: %q", got)
	}
	if got := strings.TrimSpace(mustExec(t, to, "virsh", "domstate", "guest")); got != "running" {
		t.Errorf("guest on the target is %q", got)
	}

	if err := to.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "pgrep", "-f", shared).Output(); err == nil {
		t.Errorf("processes with the guest's disk after power-off: %s", out)
	}
	// Nobody holds the disk any more.
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "info", filepath.Join(shared, image.File)).CombinedOutput(); err != nil {
		t.Errorf("disk after power-off: %v %s", err, out)
	}
}

// imageCache keeps built images across runs, as libvirt's answers are kept.
func imageCache(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(errors.Join(errors.New("no cache directory"), err))
	}
	return filepath.Join(cache, "wisp-image")
}
