// Package process finds and ends processes of this machine without ever hitting
// another: a process is known by what it is (its arguments, its namespace), and
// is held by a descriptor from before that was looked at, so that the kernel
// cannot give its number to another meanwhile.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Process is one that ran when it was found. Holding it keeps the kernel from
// giving its number to another; the holder closes it.
type Process struct {
	// PID is its number.
	PID int
	fd  int
}

func (p Process) Close() { _ = unix.Close(p.fd) }

// Find returns what matches; the caller closes each.
func Find(match func(pid int) bool) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Process
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
		found = append(found, Process{PID: pid, fd: fd})
	}
	return found, nil
}

// Args returns the arguments of a process, none when it is gone or a zombie.
func Args(pid int) []string {
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

// HasArgs matches a process by all of its arguments.
func HasArgs(args ...string) func(pid int) bool {
	return func(pid int) bool { return slices.Equal(Args(pid), args) }
}

// InNetwork matches what lives in a network namespace, named as the link
// /proc/pid/ns/net does.
func InNetwork(name string) func(pid int) bool {
	return func(pid int) bool { return Network(pid) == name }
}

// Network names the network namespace of a process, "" when it is gone.
func Network(pid int) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return ""
	}
	return name
}

// kill ends the processes and waits until they are gone, which for the PID 1
// of a namespace means that everything in it is gone.
func kill(ctx context.Context, victims []Process) error {
	var errs []error
	for _, v := range victims {
		if err := v.Signal(unix.SIGKILL); err != nil {
			errs = append(errs, err)
		}
	}
	for _, v := range victims {
		if err := v.Wait(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Signal sends the process a signal; one that ended is no error.
func (p Process) Signal(signal unix.Signal) error {
	if err := unix.PidfdSendSignal(p.fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Wait waits until the process ended, whether or not its parent has noticed.
func (p Process) Wait(ctx context.Context) error {
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d to end: %w", p.PID, err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for process %d to end: %w", p.PID, err)
		}
	}
}

// KillAll finds and kills, again until nothing matches: a victim may have
// forked between being found and being killed.
func KillAll(ctx context.Context, match func(pid int) bool) error {
	for {
		victims, err := Find(match)
		if err != nil || len(victims) == 0 {
			return err
		}
		err = kill(ctx, victims)
		for _, v := range victims {
			v.Close()
		}
		if err != nil {
			return err
		}
		// A zombie whose parent is slow has no arguments any more but still
		// its number; it matches neither way and needs no waiting for.
	}
}

// StartTime is when a process started, in clock ticks since boot; with the
// number it names a process for as long as the machine is up. See proc(5).
func StartTime(pid int) (uint64, error) {
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
