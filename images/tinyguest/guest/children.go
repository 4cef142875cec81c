package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// children starts the guest's processes and reaps all that end, orphans
// included, as PID 1 must. It replaces os/exec, whose Wait would race with
// reaping.
type children struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

func newChildren() *children {
	return &children{waiting: map[int]chan syscall.WaitStatus{}}
}

// start runs a program. files are its descriptors 0, 1, 2. The channel delivers
// its status when it ended. The lock is held so that reap cannot meet a process
// before it is known.
func (c *children) start(argv, env []string, files [3]*os.File) (int, <-chan syscall.WaitStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fds := []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()}
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir: "/root", Env: append(baseEnv(), env...), Files: fds,
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	ch := make(chan syscall.WaitStatus, 1)
	c.waiting[pid] = ch
	return pid, ch, nil
}

func baseEnv() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "SHELL=/bin/sh", "TERM=linux"}
}

// reap collects all processes that have ended. Called on each SIGCHLD.
func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if ch, ok := c.waiting[pid]; ok {
			ch <- status
			delete(c.waiting, pid)
		}
	}
}

// output runs a short program with input on its standard input and returns what
// it wrote to standard output.
func (c *children) output(input string, argv ...string) (string, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return "", err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		_, _ = inR.Close(), inW.Close()
		return "", err
	}
	defer outR.Close()
	pid, done, err := c.start(argv, nil, [3]*os.File{inR, outW, outW})
	_, _ = inR.Close(), outW.Close()
	if err != nil {
		_ = inW.Close()
		return "", err
	}
	timer := time.AfterFunc(time.Minute, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	defer timer.Stop()
	_, _ = io.WriteString(inW, input)
	_ = inW.Close()
	var out bytes.Buffer
	_, readErr := io.Copy(&out, outR)
	if status := <-done; status != 0 {
		return "", fmt.Errorf("run %s: %s", argv[0], describe(status))
	}
	return out.String(), readErr
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return fmt.Sprintf("signal=%d", s.Signal())
	}
	return fmt.Sprintf("exit=%d", s.ExitStatus())
}

// service is a program that shall run until stop.
type service struct {
	name string
	argv []string
	stop chan struct{}
}

// keep runs a service and starts it again when it ends: at once if it has run
// for a while (a login that ended), later the more often it fails.
func (c *children) keep(s *service, say *console) {
	delay := time.Duration(0)
	for {
		begin := time.Now()
		done, pid, err := c.startLogged(s)
		if err != nil {
			say.Printf("wisp-guest service %s: %v", s.name, err)
			closed := make(chan syscall.WaitStatus)
			close(closed)
			done = closed
		}
		select {
		case <-done:
		case <-s.stop:
			if pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
			return
		}
		if time.Since(begin) > 5*time.Second {
			delay = 0
		} else {
			delay = min(delay*2+500*time.Millisecond, 30*time.Second)
		}
		select {
		case <-time.After(delay):
		case <-s.stop:
			return
		}
	}
}

func (c *children) startLogged(s *service) (<-chan syscall.WaitStatus, int, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer null.Close()
	log, err := os.OpenFile("/run/log/"+s.name+".log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	if st, err := log.Stat(); err == nil && st.Size() > 256<<10 {
		_ = log.Truncate(0) // it lies in memory
	}
	pid, done, err := c.start(s.argv, nil, [3]*os.File{null, log, log})
	return done, pid, err
}
