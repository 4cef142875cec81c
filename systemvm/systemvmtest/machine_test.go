package systemvmtest

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/images/systemvm"
	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/netsvc/netsvctest/matrix"
)

const (
	// imageVersion is that of the image's own tests, so that one build serves both.
	imageVersion = "v0-test"
	// bootLimit is how long a boot may take on a machine that does ten other things.
	bootLimit = 3 * time.Minute
)

// image builds the image of this checkout, unless the cache has it, and unpacks it into a directory.
func image(t *testing.T) (dir string, m systemvm.Manifest) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir = t.TempDir()
	m, err = systemvm.Build(t.Context(), dir, filepath.Join(cache, "wisp", "images"),
		systemvm.Options{Source: "../..", Version: imageVersion, Commit: "0000000"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, systemvm.BundleFile(imageVersion)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir, m
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(dir, filepath.Base(h.Name)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(out, r)
		if err := errors.Join(err, out.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// machine is a running system VM.
type machine struct {
	t       *testing.T
	process *netsvctest.Process
	log     string // file with what the console showed
	console string // socket
	channel string // socket
	monitor string // socket
}

// boot starts the image in dir with the legs of w, which may be nil. restarts says whether the machine may start again by
// itself instead of ending.
func boot(t *testing.T, dir, cmdline string, w *matrix.World, restarts bool) *machine {
	t.Helper()
	// Not in the test's directory: the name of a socket has at most 107 bytes.
	sockets, err := os.MkdirTemp("", "wisp-svmt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	m := &machine{
		t: t, log: filepath.Join(sockets, "console.log"),
		console: filepath.Join(sockets, "console"), channel: filepath.Join(sockets, "channel"),
		monitor: filepath.Join(sockets, "monitor"),
	}
	argv := []string{
		"qemu-system-x86_64", "-M", "pc", "-accel", "tcg,tb-size=32", "-cpu", "max,-erms", "-m", strconv.Itoa(systemvm.MemoryMiB),
		"-nodefaults", "-display", "none",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"), "-append", cmdline,
		"-drive", "if=virtio,format=raw,readonly=on,file=" + filepath.Join(dir, "root.squashfs"),
		"-chardev", "socket,id=serial,server=on,wait=off,path=" + m.console + ",logfile=" + m.log, "-serial", "chardev:serial",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=spec,server=on,wait=off,path=" + m.channel,
		"-device", "virtserialport,chardev=spec,name=org.wispcloud.netspec.0",
		"-device", "virtio-rng-pci", "-device", "pvpanic", "-monitor", "unix:" + m.monitor + ",server=on,wait=off",
	}
	if !restarts {
		argv = append(argv, "-no-reboot")
	}
	node := netsvctest.NewNode
	var host *netsvctest.Node
	if w == nil {
		host = node(t)
	} else {
		host = w.Fabric
		for i, tap := range w.PlugTaps() {
			argv = append(argv,
				"-netdev", fmt.Sprintf("tap,id=n%d,ifname=%s,script=no,downscript=no", i, tap),
				"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,romfile=,mac=%s", i, matrix.Legs()[i].MAC))
		}
	}
	m.process = host.Start(argv...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s\nqemu: %s", m.seen(), m.process.Output())
		}
	})
	return m
}

func (m *machine) seen() string {
	b, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (m *machine) waitFor(text string) {
	m.t.Helper()
	netsvctest.Wait(m.t, fmt.Sprintf("%q on the console", text), bootLimit, func() (bool, string) {
		if m.process.Wait(0) == nil {
			m.t.Fatalf("the machine ended; console:\n%s", m.seen())
		}
		return strings.Contains(m.seen(), text), "see the console"
	})
}

// waitEnd waits until QEMU has ended by itself, well.
func (m *machine) waitEnd() {
	m.t.Helper()
	if err := m.process.Wait(bootLimit); err != nil {
		m.t.Fatalf("the machine's end: %v", err)
	}
}

// plug gives the legs that a machine on standby has not in the network their carrier, or takes it.
func (m *machine) plug(in bool) {
	m.t.Helper()
	c, err := net.Dial("unix", m.monitor)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	answers := bufio.NewReader(c)
	prompt := func() {
		m.t.Helper()
		if text, err := answers.ReadString(')'); err != nil || !strings.HasSuffix(text, "(qemu)") {
			m.t.Fatalf("qemu's monitor: %q, %v", text, err)
		}
	}
	prompt()
	for i, leg := range matrix.Legs() {
		if leg.Isolated {
			continue
		}
		if _, err := fmt.Fprintf(c, "set_link n%d %s\n", i, map[bool]string{false: "off", true: "on"}[in]); err != nil {
			m.t.Fatal(err)
		}
		prompt()
	}
}

// shell sends a line to the debug console.
func (m *machine) shell(line string) {
	m.t.Helper()
	c, err := net.Dial("unix", m.console)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		m.t.Fatal(err)
	}
	// Until the shell echoes the line, QEMU may not have taken it from the socket; the end of a machine ends this, too.
	buf := make([]byte, 4096)
	var echoed strings.Builder
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	for !strings.Contains(echoed.String(), line[:min(len(line), 20)]) {
		n, err := c.Read(buf)
		echoed.Write(buf[:n])
		if err != nil {
			return
		}
	}
}
