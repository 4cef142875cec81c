package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

// console writes lines for people to every console of the machine: the serial
// port and the screen. A console that is absent or blocked is left out.
type console struct {
	mu    sync.Mutex
	paths []string
}

func newConsole() *console {
	return &console{paths: []string{"/dev/ttyS0", "/dev/tty1"}}
}

// Printf writes one line; those of a joined error are joined again.
func (c *console) Printf(format string, args ...any) {
	line := printable(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")) + "\r\n"
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.paths {
		// Not blocking: a serial port nobody reads must not stop the machine.
		f, err := os.OpenFile(p, os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		_, _ = f.WriteString(line)
		_ = f.Close()
	}
}

// printable keeps a line one line: what scripts and servers send may hold
// terminal control codes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
