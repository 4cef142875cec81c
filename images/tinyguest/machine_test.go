package tinyguest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// machine is a running QEMU with the guest's disk, serial console and monitor.
type machine struct {
	t       testing.TB
	started time.Time
	done    chan struct{} // closed when QEMU has ended
	err     error         // then: how
	stdin   io.WriteCloser
	monitor string

	kernelSeconds string // from the kernel's start to the last ready line

	mu     sync.Mutex
	serial bytes.Buffer
}

// options of a start. The zero value is the usual machine.
type options struct {
	bus    string // of the disk; virtio unless given
	memory int    // MiB; 128 unless given
	kernel bool   // load the kernel from image into memory instead of booting from the disk
	image  string
}

// start runs the disk. QEMU dies with the test process.
func start(t testing.TB, disk string, o options) *machine {
	t.Helper()
	if o.bus == "" {
		o.bus = "virtio"
	}
	if o.memory == 0 {
		o.memory = 128
	}
	m := &machine{t: t, done: make(chan struct{}), monitor: filepath.Join(t.TempDir(), "mon")}
	args := []string{
		// With its default cache of translated code, QEMU takes twice the CPU time for each reset and keeps 90 MiB more.
		"-M", "pc", "-accel", "tcg,tb-size=32", "-cpu", "max,-erms", "-m", strconv.Itoa(o.memory), "-nodefaults", "-vga", "std", "-display", "none",
		"-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
		"-monitor", "unix:" + m.monitor + ",server,nowait",
		"-drive", "file=" + disk + ",if=" + o.bus + ",format=qcow2,cache=writeback",
		"-netdev", "tap,id=net,ifname=" + tapName + ",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=net,romfile=,mac=" + guestMAC,
		"-device", "virtio-rng-pci",
	}
	if o.kernel {
		args = append(args, directBoot(t, o.image)...)
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout = m
	cmd.Stderr = m
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.stdin = stdin
	begun := make(chan error)
	m.started = time.Now()
	go func() {
		// Pdeathsig is about the thread that starts the process: keep it.
		runtime.LockOSThread()
		err := cmd.Start()
		begun <- err
		if err == nil {
			m.err = cmd.Wait()
			close(m.done)
		}
	}()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-m.done
		if t.Failed() {
			t.Logf("console:\n%s", m.console())
		}
	})
	return m
}

// directBoot takes kernel, initial root and command line from the image's boot
// partition, which begins at 1 MiB.
func directBoot(t testing.TB, image string) []string {
	t.Helper()
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	for _, c := range [][]string{
		{"qemu-img", "convert", "-O", "raw", image, raw},
		{"mcopy", "-i", raw + "@@1M", "::vmlinuz", "::initrd.gz", "::syslinux.cfg", dir},
	} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c[0], err, out)
		}
	}
	cfg, err := os.ReadFile(filepath.Join(dir, "syslinux.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	_, cmdline, ok := strings.Cut(string(cfg), "APPEND ")
	if !ok {
		t.Fatalf("no command line in syslinux.cfg:\n%s", cfg)
	}
	return []string{"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd.gz"), "-append", strings.TrimSpace(cmdline)}
}

// Write collects what the serial port and QEMU say.
func (m *machine) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serial.Write(p)
}

func (m *machine) console() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serial.String()
}

var readyLine = regexp.MustCompile(`wisp-guest ready name=(\S+) ip=(\S+) metadata=(\S+) seconds=(\S+)`)

// waitReady waits for the n-th ready line on the console and returns its fields.
func (m *machine) waitReady(n int) []string {
	m.t.Helper()
	var fields []string
	eventually(m.t, 90*time.Second, fmt.Sprintf("ready line %d", n), func() error {
		select {
		case <-m.done:
			m.t.Fatalf("qemu ended: %v", m.err)
		default:
		}
		all := readyLine.FindAllStringSubmatch(m.console(), -1)
		if len(all) < n {
			return fmt.Errorf("console has %d of them", len(all))
		}
		fields = all[n-1][1:4]
		m.kernelSeconds = all[n-1][4]
		return nil
	})
	return fields
}

// powerButton presses it and waits for QEMU to end.
func (m *machine) powerButton() time.Duration {
	m.t.Helper()
	begin := time.Now()
	c, err := net.Dial("unix", m.monitor)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "system_powerdown\n"); err != nil {
		m.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	m.waitEnd(15 * time.Second)
	return time.Since(begin)
}

func (m *machine) waitEnd(limit time.Duration) {
	m.t.Helper()
	select {
	case <-m.done:
		if m.err != nil {
			m.t.Fatalf("qemu ended: %v", m.err)
		}
	case <-time.After(limit):
		m.t.Fatalf("the machine did not power off within %s", limit)
	}
}

// get fetches a path of the guest's page.
func get(host, path string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + net.JoinHostPort(host, "80") + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s", path, r.Status)
	}
	return string(b), err
}

// info reads /info.json as a tree, without what differs from run to run.
func (m *machine) info(host string) map[string]any {
	m.t.Helper()
	text, err := get(host, "/info.json")
	if err != nil {
		m.t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		m.t.Fatal(err)
	}
	for _, k := range []string{"boot_id", "uptime_seconds", "kernel"} {
		if v[k] == nil {
			m.t.Errorf("info.json has no %s", k)
		}
		delete(v, k)
	}
	return v
}

// login makes an ssh connection; hostKey is filled or compared.
func login(auth ssh.AuthMethod, hostKey *ssh.PublicKey) (*ssh.Client, error) {
	return ssh.Dial("tcp", net.JoinHostPort(guestIP, "22"), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{auth}, Timeout: 20 * time.Second,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if *hostKey != nil && !bytes.Equal((*hostKey).Marshal(), key.Marshal()) {
				return errors.New("the host key is another one")
			}
			*hostKey = key
			return nil
		},
	})
}

// run executes a command line in the guest and returns its output.
func run(t testing.TB, c *ssh.Client, line string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(line)
	if err != nil {
		t.Fatalf("run %q in the guest: %v: %s", line, err, out)
	}
	return string(out)
}

// end executes a command that ends the machine and so its own connection.
func end(t testing.TB, c *ssh.Client, line string) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var missing *ssh.ExitMissingError
	if err := s.Run(line); err != nil && !errors.As(err, &missing) && !errors.Is(err, io.EOF) {
		t.Fatalf("run %q in the guest: %v", line, err)
	}
}

// overlay makes a disk on top of the image; size 0 keeps the template's.
func overlay(t testing.TB, image, disk string, size int64) {
	t.Helper()
	args := []string{"create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", disk}
	if size > 0 {
		args = append(args, strconv.FormatInt(size, 10))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
}
