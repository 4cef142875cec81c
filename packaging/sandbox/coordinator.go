package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/packaging/process"
)

// CoordinatorArgs are all arguments of the coordinator, and how its process is
// found again. Dir must be absolute.
func (c Config) CoordinatorArgs() []string {
	return []string{c.program("wisp-coordinator"), "--config", filepath.Join(c.Dir, "coordinator.yaml")}
}

func (s *Sandbox) coordinatorLog() string { return filepath.Join(s.cfg.Dir, "coordinator.log") }

// startCoordinator starts it unless it runs, and waits until it leads.
func (s *Sandbox) startCoordinator(ctx context.Context) error {
	s.steps.lookAt(s.coordinatorLog(), func() string { return tail(s.coordinatorLog(), 5) })
	running, err := process.Find(process.HasArgs(s.cfg.CoordinatorArgs()...))
	if err != nil {
		return err
	}
	for _, p := range running {
		p.Close()
	}
	if len(running) == 0 {
		s.changed = true
		return s.launchCoordinator(ctx)
	}
	s.steps.say("process %d, as before, log %s", running[0].PID, s.show(s.coordinatorLog()))
	return s.awaitReady(ctx, nil)
}

func (s *Sandbox) launchCoordinator(ctx context.Context) error {
	if err := s.writeCoordinatorConfig(); err != nil {
		return err
	}
	log, err := os.OpenFile(s.coordinatorLog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := s.cfg.CoordinatorArgs()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = s.cfg.Dir
	cmd.Stdout, cmd.Stderr = log, log
	// In a session of its own: it goes on when this command ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start coordinator: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.steps.say("process %d, log %s", cmd.Process.Pid, s.show(s.coordinatorLog()))
	return s.awaitReady(ctx, ended)
}

// awaitReady waits until the coordinator says that it can serve; ended tells
// that there is nothing to wait for any more.
func (s *Sandbox) awaitReady(ctx context.Context, ended <-chan error) error {
	ready := "http://" + s.cfg.apiAddress() + "/readyz"
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := fetch(ctx, ready)
		if err == nil {
			return nil
		}
		select {
		case how := <-ended:
			return fmt.Errorf("the coordinator ended at once: %w", errors.Join(how, s.busy(err)))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", ready, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// busy points at the commonest reason: another program answers at the address.
func (s *Sandbox) busy(last error) error {
	if last == nil || errors.Is(last, syscall.ECONNREFUSED) {
		return nil
	}
	return fmt.Errorf("something else may be listening on %s", s.cfg.apiAddress())
}

// stopCoordinator ends it, first with leave to write its state down.
func stopCoordinator(ctx context.Context, cfg Config) error {
	match := process.HasArgs(cfg.CoordinatorArgs()...)
	running, err := process.Find(match)
	if err != nil {
		return err
	}
	for _, p := range running {
		_ = p.Signal(syscall.SIGTERM)
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range running {
		// Whoever stays is killed below.
		_ = p.Wait(soon)
		p.Close()
	}
	return process.KillAll(ctx, match)
}
