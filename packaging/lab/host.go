package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/packaging/process"
)

// Paths as a host sees them.
const (
	agentConfigPath = "/etc/wisp/agent.yaml"
	// libvirtSocket is relative to /run.
	libvirtSocket = "libvirt/libvirt-sock"
)

// Host is one hypervisor host. Its methods may be called by several
// goroutines, but powering it on and off at once is in no useful order.
type Host struct {
	lab  *Lab
	info HostInfo
	dir  string

	power sync.Mutex
}

// Info returns what the host's configuration may depend on.
func (h *Host) Info() HostInfo { return h.info }

// Name is its host name.
func (h *Host) Name() string { return h.info.Name }

// IP is its address in the management range.
func (h *Host) IP() netip.Addr { return h.info.IP }

// Dir holds its files as seen from outside: run is its /run, var-lib-wisp its
// /var/lib/wisp and so on, log the output of its services.
func (h *Host) Dir() string { return h.dir }

// LogDir holds init.log, agent.log, libvirtd.log and virtlogd.log, which
// survive a power-off.
func (h *Host) LogDir() string { return filepath.Join(h.dir, "log") }

// LibvirtSocket is where the host's libvirt can be reached from outside.
func (h *Host) LibvirtSocket() string { return filepath.Join(h.dir, "run", libvirtSocket) }

// LibvirtURI is the same for virsh and other clients.
func (h *Host) LibvirtURI() string { return "qemu+unix:///system?socket=" + h.LibvirtSocket() }

// running returns the host's PID 1, false when it is off. The caller closes it.
func (h *Host) running() (process.Process, bool, error) {
	found, err := process.Find(process.HasArgs(roleHost, h.dir))
	if err != nil || len(found) == 0 {
		return process.Process{}, false, err
	}
	for _, extra := range found[1:] {
		extra.Close()
	}
	return found[0], true, nil
}

// Running tells whether the host is on.
func (h *Host) Running() (bool, error) {
	p, on, err := h.running()
	if on {
		p.Close()
	}
	return on, err
}

// pid is that of the host's PID 1 as the machine sees it.
func (h *Host) pid() (int, error) {
	p, on, err := h.running()
	if err != nil {
		return 0, err
	}
	if !on {
		return 0, fmt.Errorf("find host %s: it is powered off", h.info.Name)
	}
	p.Close()
	return p.PID, nil
}

// PowerOn boots the host and returns when its libvirt answers. A host that is
// on stays as it is.
func (h *Host) PowerOn(ctx context.Context) error {
	h.power.Lock()
	defer h.power.Unlock()
	on, err := h.Running()
	if err != nil || on {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.lab.cfg.BootTimeout)
	defer cancel()
	begin := time.Now()
	if err := h.install(); err != nil {
		return fmt.Errorf("power on %s: %w", h.info.Name, err)
	}
	if err := h.boot(ctx); err != nil {
		return fmt.Errorf("power on %s (logs in %s): %w", h.info.Name, h.LogDir(), err)
	}
	err = waitFor(ctx, "libvirt of "+h.info.Name, func() error {
		_, err := output(exec.CommandContext(ctx, "virsh", "-c", h.LibvirtURI(), "version"), []string{"virsh", "version"})
		return err
	})
	if err != nil {
		return fmt.Errorf("power on %s (logs in %s): %w", h.info.Name, h.LogDir(), err)
	}
	h.keepCapabilities()
	h.lab.cfg.Log.Info("host is up", "lab", h.lab.cfg.Name, "host", h.info.Name, "took", time.Since(begin))
	return nil
}

// boot starts PID 1 in new namespaces, plugs the cables in, and waits until it
// says that its services are started.
func (h *Host) boot(ctx context.Context) error {
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer goWrite.Close()
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		_ = goRead.Close()
		return err
	}
	defer reportRead.Close()
	pid, err := h.startInit(goRead, reportWrite)
	_, _ = goRead.Close(), reportWrite.Close()
	if err != nil {
		return err
	}
	err = h.plug(ctx, pid)
	if err == nil {
		_, err = goWrite.Write([]byte{'\n'})
	}
	if err != nil {
		// Why PID 1 is gone says more than that it is.
		err = errors.Join(err, h.powerOff(context.WithoutCancel(ctx)))
		report, _ := io.ReadAll(reportRead)
		return fmt.Errorf("%w (PID 1 said %q)", err, report)
	}
	// Ends the wait below when the context ends.
	stop := context.AfterFunc(ctx, func() { _ = reportRead.SetReadDeadline(time.Now()) })
	defer stop()
	report, err := io.ReadAll(reportRead)
	if string(report) == "ok" {
		return nil
	}
	return errors.Join(fmt.Errorf("boot: PID 1 said %q", report), err, h.powerOff(context.WithoutCancel(ctx)))
}

// startInit runs Main's host role as PID 1 of new namespaces. It waits for a
// byte on goRead and reports "ok" or an error on reportWrite.
func (h *Host) startInit(goRead, reportWrite *os.File) (int, error) {
	logs, err := h.openLogs()
	defer func() {
		for _, f := range logs {
			_ = f.Close()
		}
	}()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self)
	cmd.Args = []string{roleHost, h.dir}
	cmd.Dir = "/"
	cmd.Env = initEnv
	cmd.Stdout, cmd.Stderr = logs[0], logs[0]
	cmd.ExtraFiles = append([]*os.File{goRead, reportWrite}, logs[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start PID 1: %w", err)
	}
	h.lab.children.Go(func() { _ = cmd.Wait() })
	return cmd.Process.Pid, nil
}

// openLogs opens PID 1's log and behind it those of the services in order.
func (h *Host) openLogs() ([]*os.File, error) {
	names := []string{"init"}
	for _, svc := range h.spec().Services {
		names = append(names, svc.Name)
	}
	var logs []*os.File
	for _, name := range names {
		f, err := os.OpenFile(filepath.Join(h.LogDir(), name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return logs, err
		}
		logs = append(logs, f)
	}
	return logs, nil
}

// plug makes the host's two network cards. They go with its namespace, so a
// host that was powered off has none of its links any more.
func (h *Host) plug(ctx context.Context, pid int) error {
	mtu := strconv.Itoa(h.lab.cfg.MTU)
	var lines []string
	for card, bridge := range []string{"mgmt", "public"} {
		port := fmt.Sprintf("%s-%s", h.info.Name, bridge)
		lines = append(lines,
			fmt.Sprintf("link add %s mtu %s type veth peer name eth%d mtu %s address %s netns %d",
				port, mtu, card, mtu, h.mac(card), pid),
			"link set "+port+" master "+bridge+" up")
	}
	if err := ip(ctx, h.lab.switchNetwork(), lines...); err != nil {
		return fmt.Errorf("plug in: %w", err)
	}
	return nil
}

// mac is a locally administered address, the same at every power-on. Switches
// of different labs are not connected.
func (h *Host) mac(card int) string {
	return fmt.Sprintf("02:4c:61:62:%02x:%02x", card, h.info.Index)
}

// PowerOff ends the host at once, as pulling the plug does: its PID 1 is
// killed, and with it go its processes, links and mounts. Its disks stay.
func (h *Host) PowerOff(ctx context.Context) error {
	h.power.Lock()
	defer h.power.Unlock()
	return h.powerOff(ctx)
}

func (h *Host) powerOff(ctx context.Context) error {
	if err := process.KillAll(ctx, process.HasArgs(roleHost, h.dir)); err != nil {
		return fmt.Errorf("power off %s: %w", h.info.Name, err)
	}
	// The kernel takes its time over a network namespace; without its cables
	// the host is gone for the others at once, and their names are free.
	for _, bridge := range []string{"mgmt", "public"} {
		port := h.info.Name + "-" + bridge
		err := waitFor(ctx, "port "+port+" to go", func() error {
			_ = ip(ctx, h.lab.switchNetwork(), "link del "+port)
			text, err := h.lab.switchLinks(ctx)
			if err == nil && slices.Contains(text, port) {
				err = errors.New("it is still there")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("power off %s: %w", h.info.Name, err)
		}
	}
	return nil
}

// switchLinks lists the names of links in the switch.
func (l *Lab) switchLinks(ctx context.Context) ([]string, error) {
	text, err := exec.CommandContext(ctx, "nsenter", "--net="+l.switchNetwork(), "--", "ip", "-j", "link", "show").Output()
	if err != nil {
		return nil, fmt.Errorf("list switch ports: %w", err)
	}
	var links []struct {
		Name string `json:"ifname"`
	}
	if err := json.Unmarshal(text, &links); err != nil {
		return nil, fmt.Errorf("list switch ports: %w", err)
	}
	var names []string
	for _, link := range links {
		names = append(names, link.Name)
	}
	return names, nil
}

// Command prepares a program to run on the host.
func (h *Host) Command(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	pid, err := h.pid()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nsenter",
		append([]string{"-t", strconv.Itoa(pid), "-m", "-u", "-i", "-p", "-n", "-r", "-w", "--"}, argv...)...)
	cmd.Dir = "/"
	cmd.Env = initEnv
	// nsenter forks to be in the PID namespace; both must end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// Exec runs a program on the host and returns what it printed.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	cmd, err := h.Command(ctx, argv...)
	if err != nil {
		return "", err
	}
	text, err := output(cmd, argv)
	if err != nil {
		return text, fmt.Errorf("on %s: %w", h.info.Name, err)
	}
	return text, nil
}

// KillAgent sends the agent a signal. When it ends, PID 1 starts it again, as
// systemd's Restart=always does.
func (h *Host) KillAgent(ctx context.Context, signal syscall.Signal) error {
	return h.KillService(ctx, "agent", signal)
}

// Log returns the last lines of a service's log, for messages about failures.
func (h *Host) Log(service string, lines int) string {
	f, err := os.Open(filepath.Join(h.LogDir(), service+".log"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return err.Error()
	}
	defer f.Close()
	var last []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if last = append(last, scan.Text()); len(last) > lines {
			last = last[1:]
		}
	}
	return strings.Join(last, "\n")
}
