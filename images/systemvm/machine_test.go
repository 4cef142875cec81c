package systemvm_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/images/systemvm"
)

// bootLimit is how long a boot may take on a machine that does ten other things.
const bootLimit = 2 * time.Minute

// sharedCache is where wisp-image keeps packages and images too, so that tests
// rarely download or build.
func sharedCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "wisp", "images")
}

const testVersion = "v0-test"

// build makes the image of a checkout.
func build(t testing.TB, out, cache, source string) systemvm.Manifest {
	t.Helper()
	m, err := systemvm.Build(t.Context(), out, cache, systemvm.Options{Source: source, Version: testVersion, Commit: "0000000"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// checkout is the root of this one.
const checkout = "../.."

// files of the set, unpacked.
type bootFiles struct {
	kernel, initrd, root, disk string
	manifest                   systemvm.Manifest
}

// imageForTest builds the image unless the cache has it, and unpacks the bundle.
func imageForTest(t testing.TB) bootFiles {
	t.Helper()
	dir := t.TempDir()
	m := build(t, dir, sharedCache(), checkout)
	f, err := os.Open(filepath.Join(dir, systemvm.BundleFile(testVersion)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return bootFiles{
		kernel: filepath.Join(dir, "vmlinuz"), initrd: filepath.Join(dir, "initrd"), root: filepath.Join(dir, "root.squashfs"),
		disk: filepath.Join(dir, systemvm.DiskFile(testVersion)), manifest: m,
	}
}

// machine is a running QEMU.
type machine struct {
	t       testing.TB
	started time.Time
	pid     int
	done    chan struct{} // closed when QEMU has ended
	err     error         // then: how
	stdin   io.WriteCloser
	monitor string
	channel string

	mu     sync.Mutex
	serial bytes.Buffer
	marks  []mark
}

// mark is when a text was first seen on the console.
type mark struct {
	text string
	wall time.Duration
	cpu  time.Duration
}

// options of a start.
type options struct {
	kernel, initrd, cmdline string // direct boot, or nothing to boot from the first disk
	disks                   []string
	memory                  int      // MiB; 128 unless given
	args                    []string // more of QEMU's
	marks                   []string
}

const (
	guestMAC  = "02:00:00:00:01:01"
	publicMAC = "02:00:00:00:02:01"
)

// start runs a machine without any network: its two cards are plugged into each
// other. QEMU dies with the test process.
func start(t testing.TB, o options) *machine {
	t.Helper()
	if o.memory == 0 {
		o.memory = systemvm.MemoryMiB
	}
	// Not in the test's directory: the name of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "wisp-sv-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{t: t, done: make(chan struct{}), monitor: filepath.Join(dir, "mon"), channel: filepath.Join(dir, "ch")}
	for _, text := range o.marks {
		m.marks = append(m.marks, mark{text: text})
	}
	args := []string{
		// As the agent's domains: see images/README.md for the cache of translated code.
		"-M", "pc", "-accel", "tcg,tb-size=32", "-cpu", "max,-erms", "-m", strconv.Itoa(o.memory), "-nodefaults", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
		"-monitor", "unix:" + m.monitor + ",server=on,wait=off",
		"-netdev", "hubport,id=guest,hubid=0", "-device", "virtio-net-pci,netdev=guest,romfile=,mac=" + guestMAC,
		"-netdev", "hubport,id=public,hubid=0", "-device", "virtio-net-pci,netdev=public,romfile=,mac=" + publicMAC,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=spec,server=on,wait=off,path=" + m.channel,
		"-device", "virtserialport,chardev=spec,name=org.wispcloud.netspec.0",
	}
	if o.kernel != "" {
		args = append(args, "-kernel", o.kernel, "-initrd", o.initrd, "-append", o.cmdline)
	}
	for i, d := range o.disks {
		format := strings.Replace(strings.TrimPrefix(filepath.Ext(d), "."), "squashfs", "raw", 1)
		args = append(args, "-drive", fmt.Sprintf("file=%s,if=virtio,index=%d,format=%s,readonly=on", d, i, format))
	}
	m.run(exec.Command("qemu-system-x86_64", append(args, o.args...)...))
	return m
}

func (m *machine) run(cmd *exec.Cmd) {
	m.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = m, m
	stdin, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.stdin = stdin
	begun := make(chan error)
	m.started = time.Now()
	go func() {
		// Pdeathsig is about the thread that starts the process: keep it.
		runtime.LockOSThread()
		m.mu.Lock()
		err := cmd.Start()
		if err == nil {
			m.pid = cmd.Process.Pid
		}
		m.mu.Unlock()
		begun <- err
		if err == nil {
			m.err = cmd.Wait()
			close(m.done)
		}
	}()
	if err := <-begun; err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-m.done
		if m.t.Failed() {
			m.t.Logf("console:\n%s", m.console())
		}
	})
}

// Write collects what the serial port and QEMU say.
func (m *machine) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.serial.Write(p)
	for i := range m.marks {
		k := &m.marks[i]
		if k.wall == 0 && bytes.Contains(m.serial.Bytes(), []byte(k.text)) {
			k.wall, k.cpu = time.Since(m.started), cpuTime(m.pid)
		}
	}
	return n, err
}

// now is a mark without a text.
func (m *machine) now() mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return mark{wall: time.Since(m.started), cpu: cpuTime(m.pid)}
}

// cpuTime is what a process has used, proc(5); 0 if it is gone.
func cpuTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	const perSecond = 100 // USER_HZ
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / perSecond
}

func (m *machine) console() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serial.String()
}

// waitFor waits for a text on the console.
func (m *machine) waitFor(text string) {
	m.t.Helper()
	eventually(m.t, bootLimit, fmt.Sprintf("%q on the console", text), func() error {
		if strings.Contains(m.console(), text) {
			return nil
		}
		select {
		case <-m.done:
			m.t.Fatalf("qemu ended: %v", m.err)
		default:
		}
		return errors.New("not there")
	})
}

// waitEnd waits for the machine to switch itself off.
func (m *machine) waitEnd() {
	m.t.Helper()
	select {
	case <-m.done:
		if m.err != nil {
			m.t.Fatalf("qemu ended: %v", m.err)
		}
	case <-time.After(bootLimit):
		m.t.Fatal("the machine did not switch itself off")
	}
}

// powerButton presses it.
func (m *machine) powerButton() {
	m.t.Helper()
	c := m.dial(m.monitor)
	if _, err := io.WriteString(c, "system_powerdown\n"); err != nil {
		m.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
}

func (m *machine) dial(path string) net.Conn {
	m.t.Helper()
	var c net.Conn
	eventually(m.t, bootLimit, "qemu's socket", func() (err error) {
		c, err = new(net.Dialer).DialContext(context.Background(), "unix", path)
		return err
	})
	m.t.Cleanup(func() { c.Close() })
	return c
}

func eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.After(limit)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		}
	}
}
