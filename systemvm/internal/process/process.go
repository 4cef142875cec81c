// Package process starts programs as the first process of a machine must: it collects every child that ends, its own
// and the orphans it inherits, and starts again what shall always run.
package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// Table knows the children that somebody waits for. os/exec is of no use here: it waits for its own child, and would
// race with the collection of all others for the same status.
type Table struct {
	// mu is held while a program starts, so that a child that ends at once is known before it is collected.
	mu      sync.Mutex
	waiting map[int]chan<- syscall.WaitStatus
}

// NewTable returns an empty Table.
func NewTable() *Table { return &Table{waiting: map[int]chan<- syscall.WaitStatus{}} }

// Program is what to start.
type Program struct {
	Argv []string
	Env  []string
	// Files become descriptors 0, 1, 2.
	Files [3]*os.File
	// Terminal makes descriptor 0 the controlling terminal of a new session.
	Terminal bool
}

// Start starts a program; its status is sent on the channel when it has ended and was collected.
func (t *Table) Start(p Program) (pid int, ended <-chan syscall.WaitStatus, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	attr := &os.ProcAttr{Env: p.Env, Files: p.Files[:], Dir: "/", Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.Terminal}}
	proc, err := os.StartProcess(p.Argv[0], p.Argv, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", p.Argv[0], err)
	}
	pid = proc.Pid
	if err := proc.Release(); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", p.Argv[0], err)
	}
	c := make(chan syscall.WaitStatus, 1)
	t.waiting[pid] = c
	return pid, c, nil
}

// Reap collects all children that have ended. Call it on every SIGCHLD: one signal may stand for several ends.
func (t *Table) Reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c := t.waiting[pid]; c != nil {
			delete(t.waiting, pid)
			c <- status
		}
	}
}

// Describe says how a program ended.
func Describe(s syscall.WaitStatus) string {
	switch {
	case s.Signaled():
		return fmt.Sprintf("was ended by signal %d (%s)", int(s.Signal()), s.Signal())
	default:
		return fmt.Sprintf("ended with status %d", s.ExitStatus())
	}
}
