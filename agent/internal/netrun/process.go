package netrun

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Above this size a log starts afresh with the next process.
const maxLogBytes = 1 << 20

// spawn starts the process detached, inside the network's namespace. exited gets its end; it is reaped in any case.
func (k *keeper) spawn() (exited <-chan error, err error) {
	if err := removeIfThere(k.socket()); err != nil {
		return nil, err
	}
	args := []string{k.config.Binary, "--spec-source", "unix:" + k.socket()}
	if k.config.Scopes {
		args = append([]string{
			"systemd-run", "--scope", "--quiet", "--collect", "--unit=wisp-netsvc-" + k.instance,
			"--description=network services of " + k.instance, "--",
		}, args...)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: args, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := k.output()
	if err != nil {
		return nil, err
	}
	if out != os.Stderr {
		defer func() { _ = out.Close() }()
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := startIn(k.config.NamespacePath(k.instance), cmd); err != nil {
		return nil, err
	}
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	started, err := startTime(cmd.Process.Pid)
	if err != nil {
		return end, nil // It ended already; end says how.
	}
	record := fmt.Sprintf("%d %d\n", cmd.Process.Pid, started)
	if err := os.WriteFile(k.record(), []byte(record), 0o600); err != nil {
		return nil, errors.Join(err, cmd.Process.Kill())
	}
	k.config.Log.Info("started services", "network", k.instance, "pid", cmd.Process.Pid)
	// It lives in the namespace from now on, long before it answers.
	k.mu.Lock()
	k.pid = cmd.Process.Pid
	k.mu.Unlock()
	return end, nil
}

func (k *keeper) output() (*os.File, error) {
	if k.config.LogDir == "" {
		return os.Stderr, nil
	}
	path := filepath.Join(k.config.LogDir, k.instance+".log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("rotate log: %w", err)
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// startIn starts cmd from a thread that is in the namespace. A child inherits the namespace of the thread that makes
// it, and a locked goroutine makes it on its own thread; the thread ends with the goroutine.
func startIn(namespace string, cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			f, err := os.Open(namespace)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace: %w", err)
			}
			return cmd.Start()
		}()
	}()
	return <-done
}

// startTime is field 22 of /proc/<pid>/stat: with the process id it names a process for as long as the host is up.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const state, start = 3, 22
	if len(fields) <= start-state || fields[0] == "Z" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[start-state], 10, 64)
}

// killRecorded ends the process a record names, if it still is that process.
func killRecorded(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read process record: %w", err)
	}
	var pid int
	var started uint64
	if _, err := fmt.Sscan(string(data), &pid, &started); err != nil || pid <= 1 {
		return removeIfThere(path)
	}
	if now, err := startTime(pid); err != nil || now != started {
		return removeIfThere(path)
	}
	if err := kill(pid); err != nil {
		return err
	}
	return removeIfThere(path)
}

// kill ends a process and waits for its end.
func kill(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	if !waitExit(fd, endTimeout) {
		return fmt.Errorf("kill process %d: it does not end", pid)
	}
	return nil
}

// waitExit waits until the process of a pidfd has ended (pidfd_open(2): it becomes readable).
func waitExit(fd int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n > 0
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
