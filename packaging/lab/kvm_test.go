package lab

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestWaitConsole(t *testing.T) {
	tests := []struct {
		name   string
		script string
		seen   bool
		why    string
	}{
		{"comes up and stays", "echo starting; echo login: ; exec sleep 60", true, ""},
		{"comes up by standard error", "echo login: >&2; exec sleep 60", true, ""},
		{"ends", "echo assertion failed; exit 3", false, "a guest under KVM ended early: assertion failed (exit status 3)"},
		{"hangs", "echo warning; exec sleep 60", false, "(last: warning)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-c", tt.script)
			cmd.WaitDelay = time.Second
			seen, why := waitConsole(ctx, cmd, "login:")
			if seen != tt.seen || !strings.Contains(why, tt.why) {
				t.Errorf("got %t, %q; want %t, %q", seen, why, tt.seen, tt.why)
			}
			if cmd.ProcessState == nil {
				t.Error("process was left running")
			}
		})
	}
}
