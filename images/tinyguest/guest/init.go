package main

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/images/tinyguest/modload"
)

const (
	runDir   = "/run/wisp"
	stateDir = "/var/lib/wisp-guest"
)

// guest is the machine: its parts, and what is known about it.
type guest struct {
	say     *console
	procs   *children
	modules *kernelModules
	net     *network
	prov    *provisioner
	facts   *facts
}

// kernelModules guards a loader, which hotplug and start-up share. Without a
// loader it does nothing.
type kernelModules struct {
	mu     sync.Mutex
	loader *modload.Loader
}

// runInit is the life of the machine; it returns only into a power-off.
func runInit() {
	g := &guest{say: newConsole(), procs: newChildren(), facts: newFacts(), modules: &kernelModules{}}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan os.Signal, 1) // reap collects all there are: one pending signal is enough
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			g.procs.reap()
		}
	}()
	g.prov = newProvisioner(g)
	g.net = newNetwork(g)
	// The network first: a server's answer takes longer than all the rest.
	g.step("mount file systems", mountAll)
	g.step("load network drivers", g.loadNetworkModules)
	go g.watchHotplug()
	g.net.refresh()
	g.step("set host name", restoreHostname)
	g.step("bring up loopback", func() error { return linkUp("lo") })
	g.step("count boots", g.facts.countBoot)
	go g.prov.run()
	go servePage(g)
	go serveEcho(g.say)
	go g.startSSH()
	go g.startLogins()
	go func() {
		g.step("load power button driver", g.loadPowerButton)
		listening := make(chan struct{})
		go g.watchPowerButton(listening)
		select {
		case <-listening:
		case <-time.After(2 * time.Second): // a machine without one
		}
		g.step("grow root file system", func() error { return growRoot(os.Getenv("WISP_ROOT_DEVICE"), g.say) })
		g.facts.setPrepared()
		g.prov.wake()
		g.prov.waitReady(10 * time.Second)
		g.step("load other drivers", func() error { return g.modules.coldplug(nil) })
	}()
	g.handleSignals(signals)
}

// step runs a part of the start and reports its failure. None is worth a machine
// that does not come up at all.
func (g *guest) step(name string, run func() error) {
	if err := run(); err != nil {
		g.say.Printf("wisp-guest %s: %v", name, err)
	}
}

// handleSignals speaks the protocol of busybox's poweroff, reboot and halt, and
// of the kernel's ctrl-alt-del, which is SIGINT.
func (g *guest) handleSignals(signals <-chan os.Signal) {
	for s := range signals {
		switch s {
		case syscall.SIGHUP:
			g.prov.wake()
		case syscall.SIGUSR2:
			go g.shutDown("power-off", syscall.LINUX_REBOOT_CMD_POWER_OFF)
		case syscall.SIGUSR1:
			go g.shutDown("halt", syscall.LINUX_REBOOT_CMD_HALT)
		case syscall.SIGTERM, syscall.SIGINT:
			go g.shutDown("reboot", syscall.LINUX_REBOOT_CMD_RESTART)
		}
	}
}

// mountAll completes what the first stage moved here.
func mountAll() error {
	_ = os.Chmod("/dev", 0o755)
	mounts := []struct {
		kind, at, data string
		flags          uintptr
	}{
		{"tmpfs", "/run", "mode=0755,size=25%", syscall.MS_NOSUID | syscall.MS_NODEV},
		{"tmpfs", "/tmp", "mode=1777,size=25%", syscall.MS_NOSUID | syscall.MS_NODEV},
		{"devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666", syscall.MS_NOSUID | syscall.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "mode=1777,size=25%", syscall.MS_NOSUID | syscall.MS_NODEV},
	}
	var errs []error
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := syscall.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil {
			errs = append(errs, &os.PathError{Op: "mount", Path: m.at, Err: err})
		}
	}
	for _, d := range []string{runDir, "/run/log", stateDir} {
		errs = append(errs, os.MkdirAll(d, 0o755))
	}
	for link, to := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"} {
		if err := os.Symlink(to, link); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	// ctrl-alt-del shall ask init, not reset the machine.
	errs = append(errs, syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF))
	return errors.Join(errs...)
}

func (g *guest) loadNetworkModules() error {
	dirs, err := filepath.Glob("/usr/lib/modules/*")
	if err != nil || len(dirs) != 1 {
		return errors.New("want one directory in /usr/lib/modules")
	}
	loader, err := modload.Open(dirs[0])
	if err != nil {
		return err
	}
	g.modules.loader = loader
	return g.modules.coldplug(isFirst)
}

// loadPowerButton loads the button's driver and what makes it readable: no
// modalias announces the second.
func (g *guest) loadPowerButton() error {
	return errors.Join(g.modules.load("button"), g.modules.load("evdev"))
}

// isFirst picks virtio's network cards and random number generators, and what they
// sit on. The drivers of all others wait until the machine is ready: looking for
// the disks of an IDE controller alone takes half a second.
func isFirst(modalias string) bool {
	for _, p := range []string{"pci:v00001AF4", "virtio:d00000001", "virtio:d00000004"} {
		if strings.HasPrefix(modalias, p) {
			return true
		}
	}
	return false
}

func (m *kernelModules) coldplug(want func(string) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loader == nil {
		return nil
	}
	return m.loader.Coldplug("/sys/bus", want)
}

func (m *kernelModules) load(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loader == nil {
		return nil
	}
	return m.loader.Load(name)
}

func (m *kernelModules) loadAlias(modalias string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loader == nil {
		return nil
	}
	_, err := m.loader.LoadAlias(modalias)
	return err
}

// watchHotplug listens to the kernel's device events: a driver is loaded for a
// device that appears, and a network card is given to DHCP. The events of
// NETLINK_KOBJECT_UEVENT are NUL-separated KEY=value strings after a header.
func (g *guest) watchHotplug() {
	const netlinkKobjectUevent = 15
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkKobjectUevent)
	if err != nil {
		g.say.Printf("wisp-guest watch devices: %v", err)
		return
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: 1}); err != nil {
		g.say.Printf("wisp-guest watch devices: %v", err)
		return
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR || err == syscall.ENOBUFS {
			continue
		}
		if err != nil {
			g.say.Printf("wisp-guest watch devices: %v", err)
			return
		}
		event := parseUevent(buf[:n])
		if m := event["MODALIAS"]; event["ACTION"] == "add" && m != "" {
			if err := g.modules.loadAlias(m); err != nil {
				g.say.Printf("wisp-guest add device: %v", err)
			}
		}
		if event["SUBSYSTEM"] == "net" {
			g.net.refresh()
		}
	}
}

func parseUevent(b []byte) map[string]string {
	event := map[string]string{}
	for _, field := range strings.Split(string(b), "\x00") {
		if key, value, ok := strings.Cut(field, "="); ok {
			event[key] = value
		}
	}
	return event
}

// startLogins keeps a login prompt on each console that exists. The root account
// is locked until a password was handed to the machine.
func (g *guest) startLogins() {
	for _, tty := range []string{"ttyS0", "tty1"} {
		if !isTerminal("/dev/" + tty) {
			continue
		}
		go g.procs.keep(&service{name: "getty-" + tty, argv: []string{"/usr/sbin/getty", "-L", "115200", tty, "vt100"}}, g.say)
	}
}

// isTerminal tells a console that is there from a device node without hardware.
func isTerminal(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var t syscall.Termios
	return ioctl(f, syscall.TCGETS, pointer(&t)) == nil
}

// hostKeyKinds are the host keys of the ssh server. RSA is left out: making one
// takes seconds in an emulated guest, and every client of today knows these.
var hostKeyKinds = []string{"ed25519", "ecdsa"}

// startSSH makes the host keys at the first boot and keeps dropbear running.
func (g *guest) startSSH() {
	argv := []string{"/usr/sbin/dropbear", "-F", "-E", "-m"}
	for _, kind := range hostKeyKinds {
		path := "/etc/dropbear/host_key_" + kind
		if err := g.hostKey(kind, path); err != nil {
			g.say.Printf("wisp-guest ssh host key: %v", err)
			continue
		}
		argv = append(argv, "-r", path)
	}
	g.facts.setSSH()
	g.prov.wake()
	g.procs.keep(&service{name: "dropbear", argv: argv}, g.say)
}

// hostKey makes a key unless there is one. It appears under its name only whole.
func (g *guest) hostKey(kind, path string) error {
	if st, err := os.Stat(path); err == nil && st.Size() > 0 {
		return nil
	}
	tmp := path + ".new"
	_ = os.Remove(tmp)
	if _, err := g.procs.output("", "/usr/bin/dropbearkey", "-t", kind, "-f", tmp); err != nil {
		return err
	}
	return commit(tmp, path)
}

// commit makes a written file durable and puts it in place.
func commit(tmp, path string) error {
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	err = f.Sync()
	_ = f.Close()
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// writeFile replaces a file durably: after a power cut there is the old one or the new one.
func writeFile(path string, data []byte, perm os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return os.Chmod(path, perm)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, perm); err != nil {
		return err
	}
	if err := os.Chmod(tmp, perm); err != nil {
		return err
	}
	return commit(tmp, path)
}

// monotonic is the time since the kernel started.
func monotonic() time.Duration {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	d, err := time.ParseDuration(first + "s")
	if err != nil {
		return 0
	}
	return d
}
