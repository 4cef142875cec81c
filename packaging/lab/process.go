package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is one that runs now. Holding it keeps the kernel from giving its
// number to another, so a signal can only reach the one that was looked at.
type process struct {
	pid int
	fd  int
}

func (p process) close() { _ = unix.Close(p.fd) }

// findProcesses returns what matches; the caller closes each.
func findProcesses(match func(pid int) bool) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !match(pid) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // Gone meanwhile, or a thread.
		}
		// Only now is the number pinned; look again.
		if !match(pid) {
			_ = unix.Close(fd)
			continue
		}
		found = append(found, process{pid: pid, fd: fd})
	}
	return found, nil
}

// argsOf returns the arguments of a process, none when it is gone or a zombie.
func argsOf(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	var args []string
	for part := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte{0}), []byte{0}) {
		args = append(args, string(part))
	}
	return args
}

// hasRole matches the lab's own processes: those started by name with their
// directory as the only argument, see Main.
func hasRole(role, dir string) func(pid int) bool {
	return func(pid int) bool {
		args := argsOf(pid)
		return len(args) == 2 && args[0] == role && args[1] == dir
	}
}

// inNetwork matches what lives in a network namespace, named as the link
// /proc/pid/ns/net does.
func inNetwork(name string) func(pid int) bool {
	return func(pid int) bool { return networkOf(pid) == name }
}

func networkOf(pid int) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return ""
	}
	return name
}

// kill ends the processes and waits until they are gone, which for the PID 1
// of a namespace means that everything in it is gone.
func kill(ctx context.Context, victims []process) error {
	var errs []error
	for _, v := range victims {
		if err := unix.PidfdSendSignal(v.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", v.pid, err))
		}
	}
	for _, v := range victims {
		if err := waitGone(ctx, v); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// waitGone waits for a pid descriptor to become readable: the process ended,
// whether or not its parent has noticed.
func waitGone(ctx context.Context, p process) error {
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d to end: %w", p.pid, err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for process %d to end: %w", p.pid, err)
		}
	}
}

// killMatching finds and kills, again until nothing matches: a victim may have
// forked between being found and being killed.
func killMatching(ctx context.Context, match func(pid int) bool) error {
	for {
		victims, err := findProcesses(match)
		if err != nil || len(victims) == 0 {
			return err
		}
		err = kill(ctx, victims)
		for _, v := range victims {
			v.close()
		}
		if err != nil {
			return err
		}
		// A zombie whose parent is slow has no arguments any more but still
		// its number; it matches neither way and needs no waiting for.
	}
}

// startTime is when a process started, in clock ticks since boot; with the
// number it names a process for as long as the machine is up. See proc(5).
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in brackets, may hold anything; fields count from
	// behind it, where the state is the third.
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read start time of process %d: %d fields", pid, len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// waitFor asks until it is true or the context ends; the error says what was
// last seen.
func waitFor(ctx context.Context, what string, ask func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := ask()
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, ctx.Err(), last)
		case <-tick.C:
		}
	}
}
