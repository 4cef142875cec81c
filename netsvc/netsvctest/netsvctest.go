// Package netsvctest gives tests network namespaces of their own on a real kernel: unnamed ones that live as long as
// the process that holds them, so that nothing is left behind even when a test is killed half-way, and the machine's
// own interfaces, routes and rules are never in reach.
package netsvctest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RequireRoot skips a test that cannot run without root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
}

// Enter puts the calling test into a new network namespace. Only the test's own goroutine is in it, and the
// processes it starts; the thread ends with the test.
func Enter(t testing.TB) {
	t.Helper()
	RequireRoot(t)
	runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
}

// Node is a network namespace held by a sleeping process.
type Node struct {
	t   testing.TB
	pid int
}

// NewNode makes a namespace with lo up.
func NewNode(t testing.TB) *Node {
	t.Helper()
	RequireRoot(t)
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	n := &Node{t: t, pid: holder.Process.Pid}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	n.Must("ip", "link", "set", "lo", "up")
	return n
}

// PID is a process in the namespace, for ip link set netns.
func (n *Node) PID() string { return strconv.Itoa(n.pid) }

// Command is a command that runs in the namespace and dies with the test.
func (n *Node) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", n.PID(), "-n", "--"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command for at most 20 s and returns what it printed, errors included.
func (n *Node) Run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	out, err := n.Command(ctx, argv...).CombinedOutput()
	return string(out), err
}

// Must is Run for a command that has to succeed.
func (n *Node) Must(argv ...string) string {
	n.t.Helper()
	out, err := n.Run(argv...)
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// Start starts a command that is killed at the end of the test; its output goes to the returned Process.
func (n *Node) Start(argv ...string) *Process {
	n.t.Helper()
	return Start(n.t, n.Command(n.t.Context(), argv...))
}

// Process is a started command.
type Process struct {
	Cmd  *exec.Cmd
	out  *os.File
	done chan struct{}
	err  error
}

// Start starts a command with its output collected in a file.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Cmd: cmd, out: out, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		out.Close()
	})
	return p
}

// Kill kills the process and waits for it.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
	_ = p.Cmd.Process.Kill()
	<-p.done
}

// Wait waits for the end of the process.
func (p *Process) Wait(limit time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		return errors.New("still running")
	}
}

// Output is what the process has printed so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.out.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Wire connects two namespaces by a veth pair; a MAC may be empty. Both ends are left down.
func Wire(a *Node, nameA, macA string, b *Node, nameB, macB string) {
	a.t.Helper()
	argv := []string{"ip", "link", "add", "name", nameA}
	if macA != "" {
		argv = append(argv, "address", macA)
	}
	argv = append(argv, "type", "veth", "peer", "name", nameB)
	if macB != "" {
		argv = append(argv, "address", macB)
	}
	if a == b {
		a.Must(argv...)
		return
	}
	a.Must(append(argv, "netns", b.PID())...)
}

// Wait asks for a condition until it holds, for at most limit; the condition says what it saw.
func Wait(t testing.TB, what string, limit time.Duration, condition func() (ok bool, saw string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, saw := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s; last saw: %s", limit, what, saw)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// RunHere runs a command in the calling thread's namespace, as after Enter.
func RunHere(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// String names the namespace in messages.
func (n *Node) String() string { return fmt.Sprintf("namespace of process %d", n.pid) }
