package domain

import (
	"errors"
	"os/exec"
	"testing"
)

// TestProbeGuest runs the probe's guest under emulation, where it must get to its end: so when it does not under KVM,
// that is KVM's fault.
func TestProbeGuest(t *testing.T) {
	cmd, err := probeCommand(t.Context(), t.TempDir(), "tcg", "max")
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != kvmExit {
		t.Errorf("it ended with %v, want exit status %d", err, kvmExit)
	}
}
