package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/packaging/process"
)

// crashDir makes the test binary a program that makes a lab in the directory,
// says "up" and waits to be killed.
const crashDir = "WISP_LAB_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	Main()
	if dir := os.Getenv(crashDir); dir != "" {
		crash(dir)
	}
	os.Exit(m.Run())
}

// Ranges of RFC 2544, which no machine has a route to by accident.
var (
	testMgmt   = netip.MustParsePrefix("198.18.200.0/24")
	testPublic = netip.MustParsePrefix("198.18.201.0/24")
)

func crash(dir string) {
	ctx := context.Background()
	l, err := New(ctx, Config{
		Name: "crash", Dir: dir, Hosts: 1, AttachRoot: true, MgmtPrefix: testMgmt, PublicPrefix: testPublic,
		AgentBinary: "/bin/sleep", AgentArgs: []string{"1000"},
	})
	if err == nil {
		err = l.Start(ctx)
	}
	fmt.Println("up", err)
	select {}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces and bridges")
	}
}

// newTestLab makes a lab that is removed when the test ends, and checks that it is.
func newTestLab(t *testing.T, cfg Config) *Lab {
	t.Helper()
	needRoot(t)
	cfg.Dir = filepath.Join(t.TempDir(), "l")
	l, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		networks := l.networks()
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		checkGone(t, l.record, networks)
	})
	return l
}

// TestCloseEndsCommands: what runs in the switch goes with it.
func TestCloseEndsCommands(t *testing.T) {
	l := newTestLab(t, Config{Name: "tcmd"})
	cmd := l.Command(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := waitFor(ctx, "sleep to be in the switch", func() error {
		if !slices.Contains(l.networks(), process.Network(cmd.Process.Pid)) {
			return errors.New(process.Network(cmd.Process.Pid))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("command ended with %v, want killed", err)
	}
}

// networks names the namespaces that the lab has now.
func (l *Lab) networks() []string {
	var names []string
	found, err := process.Find(process.HasArgs(roleSwitch, l.cfg.Dir))
	if err != nil {
		return nil
	}
	for _, p := range found {
		names = append(names, process.Network(p.PID))
		p.Close()
	}
	for _, h := range l.hosts {
		if pid, err := h.pid(); err == nil {
			names = append(names, process.Network(pid))
		}
	}
	return names
}

// checkGone compares what the machine has of the lab with nothing.
func checkGone(t *testing.T, r record, networks []string) {
	t.Helper()
	var left []string
	procs, err := process.Find(func(pid int) bool {
		return slices.Contains(networks, process.Network(pid)) || slices.Contains(process.Args(pid), r.Dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		left = append(left, fmt.Sprintf("process %d: %q", p.PID, process.Args(p.PID)))
		p.Close()
	}
	mounts, err := mountsBelow(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		left = append(left, "mount "+m)
	}
	for _, path := range []string{r.Dir, recordPath(r.Name)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, "file "+path)
		}
	}
	left = append(left, networkState(t, r)...)
	if len(left) > 0 {
		t.Errorf("left of lab %s:\n%s", r.Name, strings.Join(left, "\n"))
	}
}

// networkState lists what the machine's own network has of the lab: links,
// rules, routes.
func networkState(t *testing.T, r record) []string {
	t.Helper()
	mgmt, public := rootLinks(r.Name)
	words := []string{mgmt, public}
	if r.AttachRoot {
		words = append(words, r.Mgmt.String(), r.Public.String())
	}
	var lines []string
	for _, args := range [][]string{{"-o", "link", "show"}, {"rule", "show"}, {"route", "show", "table", "all"}} {
		text, err := exec.Command("ip", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return lines
}

func mustExec(t *testing.T, h *Host, argv ...string) string {
	t.Helper()
	text, err := h.Exec(t.Context(), argv...)
	if err != nil {
		t.Fatalf("%v\nlibvirtd.log: %s\ninit.log: %s", err, h.Log("libvirtd", 5), h.Log("init", 5))
	}
	return text
}

// TestHosts walks two hosts through their life.
func TestHosts(t *testing.T) {
	l := newTestLab(t, Config{Name: "thost", Hosts: 2, AgentBinary: "/bin/sleep", AgentArgs: []string{"1000"}})
	begin := time.Now()
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("two hosts up after %s", time.Since(begin).Round(time.Millisecond))

	t.Run("each has its own libvirt", func(t *testing.T) { testLibvirt(t, l) })
	t.Run("hosts reach each other and the outside", func(t *testing.T) {
		mustExec(t, l.Host(1), "busybox", "ping", "-c1", "-W2", "h2")
		mustExec(t, l.Host(2), "busybox", "ping", "-c1", "-W2", l.Gateway())
		if text, err := l.Exec(t.Context(), "busybox", "ping", "-c1", "-W2", l.Host(2).IP().String()); err != nil {
			t.Errorf("from outside: %v %s", err, text)
		}
	})
	t.Run("VXLAN between them", func(t *testing.T) { testVXLAN(t, l) })
	t.Run("the machine's files are read-only", func(t *testing.T) {
		for _, path := range []string{"/boot/wisp-lab-test", "/usr/wisp-lab-test", "/root/wisp-lab-test"} {
			if _, err := l.Host(1).Exec(t.Context(), "touch", path); err == nil || !strings.Contains(err.Error(), "Read-only") {
				t.Errorf("touch %s: %v", path, err)
			}
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s exists outside", path)
			}
		}
	})
	t.Run("a killed agent comes back", func(t *testing.T) { testRestart(t, l.Host(1)) })
	t.Run("orphans are reaped", func(t *testing.T) {
		mustExec(t, l.Host(1), "sh", "-c", "setsid sh -c 'sleep 0.1 & exit' &")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := waitFor(ctx, "no zombies", func() error {
			if text := mustExec(t, l.Host(1), "ps", "-eo", "stat,args"); strings.Contains(text, "\nZ") {
				return errors.New(text)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("power off and on", func(t *testing.T) { testPower(t, l) })
}

func testLibvirt(t *testing.T, l *Lab) {
	uuids := map[string]bool{}
	for _, h := range l.Hosts() {
		if got := strings.TrimSpace(mustExec(t, h, "hostname")); got != h.Name() {
			t.Errorf("host name %q, want %q", got, h.Name())
		}
		text, err := exec.CommandContext(t.Context(), "virsh", "-c", h.LibvirtURI(), "list", "--all", "--name").CombinedOutput()
		if err != nil || strings.TrimSpace(string(text)) != "" {
			t.Errorf("list from outside: %v %q", err, text)
		}
		capabilities := mustExec(t, h, "virsh", "capabilities")
		_, rest, _ := strings.Cut(capabilities, "<uuid>")
		uuid, _, _ := strings.Cut(rest, "</uuid>")
		uuids[uuid] = true
		if !strings.Contains(capabilities, "<domain type='qemu'/>") {
			t.Errorf("%s cannot run emulated guests", h.Name())
		}
	}
	if len(uuids) != len(l.Hosts()) {
		t.Errorf("host uuids %v are not distinct", uuids)
	}
}

// testVXLAN makes an overlay as an agent does, on cloudbr0, and sends through.
func testVXLAN(t *testing.T, l *Lab) {
	for i, h := range l.Hosts() {
		other := l.Host(2 - i)
		script := fmt.Sprintf(`set -e
ip link add vx100 type vxlan id 100 dev cloudbr0 dstport 4789 local %s nolearning
bridge fdb append 00:00:00:00:00:00 dev vx100 dst %s
ip addr add 172.20.0.%d/24 dev vx100
ip link set vx100 up`, h.IP(), other.IP(), i+1)
		mustExec(t, h, "sh", "-c", script)
	}
	mustExec(t, l.Host(1), "busybox", "ping", "-c2", "-W2", "172.20.0.2")
	if _, err := l.Exec(t.Context(), "busybox", "ping", "-c1", "-W1", "172.20.0.2"); err == nil {
		t.Error("the overlay's address answers in the underlay")
	}
}

func agentOf(t *testing.T, h *Host) ServiceStatus {
	t.Helper()
	all, err := h.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s ServiceStatus) bool { return s.Name == "agent" })
	return all[i]
}

func testRestart(t *testing.T, h *Host) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	before := agentOf(t, h)
	if err := h.KillAgent(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := waitFor(ctx, "agent to come back", func() error {
		if now := agentOf(t, h); now.Starts != before.Starts+1 || now.PID == 0 {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	after := agentOf(t, h)
	want := ServiceStatus{Name: "agent", PID: after.PID, Starts: 2, LastExit: "signal SIGKILL", Wanted: true}
	if diff := cmp.Diff(want, after); diff != "" || after.PID == before.PID {
		t.Errorf("agent (-want +got):\n%s", diff)
	}
	if err := h.StopService(ctx, "agent", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := h.KillAgent(ctx, syscall.SIGTERM); err == nil {
		t.Error("a stopped agent was signalled")
	}
	if err := h.StartService(ctx, "agent"); err != nil {
		t.Fatal(err)
	}
	if now := agentOf(t, h); now.Starts != 3 || now.PID == 0 {
		t.Errorf("agent after start: %+v", now)
	}
	if err := h.StopService(ctx, "nobody", syscall.SIGTERM); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("unknown service: %v", err)
	}
}

func testPower(t *testing.T, l *Lab) {
	ctx, h := t.Context(), l.Host(2)
	mustExec(t, h, "sh", "-c", "echo kept > /var/lib/wisp/data; echo gone > /run/data")
	pid, err := h.pid()
	if err != nil {
		t.Fatal(err)
	}
	network := process.Network(pid)
	begin := time.Now()
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("off after %s", time.Since(begin).Round(time.Millisecond))
	if left, err := process.Find(process.InNetwork(network)); err != nil || len(left) > 0 {
		t.Errorf("processes after power-off: %v, %v", left, err)
	}
	if _, err := h.Exec(ctx, "true"); err == nil || !strings.Contains(err.Error(), "powered off") {
		t.Errorf("a host that is off: %v", err)
	}
	if _, err := l.Host(1).Exec(ctx, "busybox", "ping", "-c1", "-W1", h.IP().String()); err == nil {
		t.Error("a host that is off answers")
	}
	begin = time.Now()
	if err := h.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("on after %s", time.Since(begin).Round(time.Millisecond))
	got := mustExec(t, h, "sh", "-c", "cat /var/lib/wisp/data; ls /run/data 2>&1; ip -o link show vx100 2>&1; virsh list --name --all")
	want := "kept\nls: cannot access '/run/data': No such file or directory\nDevice \"vx100\" does not exist.\n\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after power-on (-want +got):\n%s", diff)
	}
	mustExec(t, l.Host(1), "busybox", "ping", "-c1", "-W2", "h2")
	if err := h.PowerOn(ctx); err != nil {
		t.Errorf("power on what is on: %v", err)
	}
}

// TestAttachRoot joins the machine, and lets nothing out.
func TestAttachRoot(t *testing.T) {
	cfg := Config{Name: "troot", Hosts: 1, AttachRoot: true, MgmtPrefix: testMgmt, PublicPrefix: testPublic}
	l := newTestLab(t, cfg)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := l.Host(1)
	if text, err := exec.CommandContext(t.Context(), "busybox", "ping", "-c1", "-W2", h.IP().String()).CombinedOutput(); err != nil {
		t.Errorf("host from machine: %v %s", err, text)
	}
	// Not the machine's own addresses: those may be reached.
	mustExec(t, h, "ip", "route", "add", "default", "via", l.Gateway())
	if text, err := h.Exec(t.Context(), "busybox", "ping", "-c1", "-W1", "203.0.113.9"); err == nil {
		t.Errorf("the machine forwards for the host: %s", text)
	}
	mustExec(t, h, "busybox", "ping", "-c1", "-W2", l.Gateway())

	// Without links the ranges lead nowhere.
	for _, link := range []string{"troot-mgmt", "troot-pub"} {
		if err := ip(t.Context(), "", "link set "+link+" down"); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range []string{"198.18.200.11", "198.18.201.50"} {
		text, err := exec.Command("ip", "route", "get", addr).CombinedOutput()
		// EHOSTUNREACH is what an unreachable route answers.
		if err == nil || !strings.Contains(string(text), "No route to host") {
			t.Errorf("route to %s without links: %s", addr, text)
		}
	}

	other := cfg
	other.Name, other.Dir = "tother", filepath.Join(t.TempDir(), "o")
	if _, err := New(t.Context(), other); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("a second lab in the same ranges: %v", err)
	}
	if state := networkState(t, l.record); !slices.Contains(state, "unreachable 198.18.200.0/24 metric 4294967295") {
		t.Errorf("the refused lab took away this one's guard:\n%s", strings.Join(state, "\n"))
	}
}

// TestHalfStarted fails in the middle and leaves nothing.
func TestHalfStarted(t *testing.T) {
	l := newTestLab(t, Config{Name: "thalf", Hosts: 2, AgentBinary: "/nonexistent/agent"})
	err := l.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "start agent") || !strings.Contains(err.Error(), "/nonexistent/agent") {
		t.Errorf("start without agent: %v", err)
	}
	if on, err := l.Host(1).Running(); err != nil || on {
		t.Errorf("a host that failed to boot is on: %t, %v", on, err)
	}
}

// TestAfterCrash removes what a killed process left, in both ways.
func TestAfterCrash(t *testing.T) {
	needRoot(t)
	for _, way := range []string{"cleanup", "new"} {
		t.Run(way, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "l")
			r, networks := runCrash(t, dir)
			if l, err := Open("crash"); err != nil {
				t.Error(err)
			} else if on, err := l.Host(1).Running(); err != nil || !on {
				t.Errorf("the host of the killed process is off: %v", err)
			}
			if way == "new" {
				l, err := New(t.Context(), Config{Name: "crash", Dir: filepath.Join(t.TempDir(), "n")})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			} else if err := Cleanup(t.Context(), "crash"); err != nil {
				t.Fatal(err)
			}
			if way == "new" {
				// The name is in use again, and the new lab's namespaces may have
				// the old ones' numbers.
				r.Name, networks = "none", nil
			}
			checkGone(t, r, networks)
			if err := Cleanup(t.Context(), "none"); err != nil {
				t.Errorf("nothing to clean up: %v", err)
			}
		})
	}
}

// runCrash runs crash in another process and kills it.
func runCrash(t *testing.T, dir string) (record, []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := Cleanup(context.WithoutCancel(t.Context()), "crash"); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up <nil>\n" {
		t.Fatalf("lab in another process: %q %v", line, err)
	}
	if _, err := New(t.Context(), Config{Name: "crash", Dir: dir}); err == nil || !strings.Contains(err.Error(), "process") {
		t.Errorf("a lab of the same name while it is in use: %v", err)
	}
	r, err := loadRecord("crash")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open("crash")
	if err != nil {
		t.Fatal(err)
	}
	networks := l.networks()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return r, networks
}
