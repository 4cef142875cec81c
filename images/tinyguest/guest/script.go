package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"
	"time"
)

const (
	scriptPath = runDir + "/user-data-script"
	scriptLog  = "/var/log/user-data.log"
)

func isScript(userData []byte) bool {
	return bytes.HasPrefix(userData, []byte("#!"))
}

// runUserScript executes user-data once in a boot, as root, and shows what it
// prints on the console and in a log.
func (g *guest) runUserScript(userData []byte) {
	if err := os.WriteFile(scriptPath, userData, 0o700); err != nil {
		g.say.Printf("wisp-guest user-data script: %v", err)
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		g.say.Printf("wisp-guest user-data script: %v", err)
		return
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		_, _ = r.Close(), w.Close()
		g.say.Printf("wisp-guest user-data script: %v", err)
		return
	}
	defer null.Close()
	_, done, err := g.procs.start(scriptArgv(userData), nil, [3]*os.File{null, w, w})
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		g.say.Printf("wisp-guest user-data script: %v", err)
		return
	}
	g.facts.setScript("running")
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		g.showScriptOutput(r)
	}()
	status := <-done
	// What it printed stands before its end; something it left running may hold the pipe.
	select {
	case <-copied:
	case <-time.After(2 * time.Second):
	}
	g.facts.setScript(describe(status))
	g.say.Printf("wisp-guest user-data script %s", describe(status))
}

// showScriptOutput ends when the script and all it started have closed the pipe.
func (g *guest) showScriptOutput(r *os.File) {
	defer r.Close()
	sink := io.Discard
	if log, err := os.Create(scriptLog); err == nil {
		defer log.Close()
		sink = log
	}
	lines := bufio.NewReaderSize(io.TeeReader(r, sink), 4096)
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		g.say.Printf("user-data: %s", line)
	}
}

// scriptArgv runs a script for bash by busybox's shell: most such scripts use
// nothing that it lacks, and the image has no other.
func scriptArgv(userData []byte) []string {
	line, _, _ := strings.Cut(strings.TrimPrefix(string(userData), "#!"), "\n")
	f := strings.Fields(line)
	if len(f) > 0 {
		if _, err := os.Stat(f[0]); err != nil && (strings.HasSuffix(f[0], "/bash") || strings.HasSuffix(f[0], "/dash")) {
			return []string{"/bin/sh", scriptPath}
		}
		if len(f) > 1 && strings.HasSuffix(f[0], "/env") && (f[1] == "bash" || f[1] == "dash") {
			return []string{"/bin/sh", scriptPath}
		}
	}
	return []string{scriptPath}
}
