package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestKillAll(t *testing.T) {
	// Arguments no other process of the machine has.
	args := []string{"wisp-process-test", "1000.0" + strings.Repeat("0", os.Getpid()%20+1)}
	var cmds []*exec.Cmd
	for range 3 {
		cmd := exec.CommandContext(t.Context(), "sleep")
		cmd.Args = args
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	other := exec.CommandContext(t.Context(), "sleep", args[1])
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if err := KillAll(t.Context(), HasArgs(args...)); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range cmds {
		// Killed, though not yet waited for: a zombie is no longer found.
		if got := Args(cmd.Process.Pid); got != nil {
			t.Errorf("process %d still runs as %q", cmd.Process.Pid, got)
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("process ended with %v, want killed", err)
		}
	}
	if got := Args(other.Process.Pid); len(got) != 2 {
		t.Errorf("a process with other arguments was hit: %q", got)
	}
	if err := other.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = other.Wait()
}

func TestStartTime(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	own, err := StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	child, err := StartTime(cmd.Process.Pid)
	if err != nil || child < own {
		t.Errorf("child started at %d, before its parent at %d: %v", child, own, err)
	}
	if _, err := StartTime(1 << 30); err == nil {
		t.Error("a process that is not there has a start time")
	}
}

func TestNetwork(t *testing.T) {
	own := Network(os.Getpid())
	if !strings.HasPrefix(own, "net:[") || Network(1<<30) != "" {
		t.Errorf("own network %q, that of no process %q", own, Network(1<<30))
	}
	if !InNetwork(own)(os.Getpid()) || InNetwork(own)(1<<30) {
		t.Error("who is in the network")
	}
}
