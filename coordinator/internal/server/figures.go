package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api/management"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
)

const (
	figuresPath = "/cluster/figures"
	// figuresPatience is how long another coordinator has to tell its figures: a list is not held up by one that died just now.
	figuresPatience = 2 * time.Second
	// ticksPerSecond is the unit of times in /proc, the same on every machine that Linux runs Go programs on.
	ticksPerSecond = 100
)

// figures is what this coordinator tells of itself.
func (s *Server) figures() *management.Figures {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	f := &management.Figures{
		Version: s.version, Taken: time.Now(), Processors: runtime.NumCPU(), HeapTotal: heap.HeapSys - heap.HeapReleased, HeapUsed: heap.HeapAlloc,
		Hosts: s.areas.link.Linked(),
	}
	readMachine(f, "/proc", "/etc/os-release")
	return f
}

// readMachine fills in what the kernel tells of the process and the machine. What cannot be read stays zero.
func readMachine(f *management.Figures, proc, release string) {
	read := func(name string) string {
		b, _ := os.ReadFile(proc + "/" + name) // what is not there is not told
		return string(b)
	}
	f.Kernel = strings.TrimSpace(read("sys/kernel/osrelease"))
	if b, err := os.ReadFile(release); err == nil {
		f.OS = strings.Trim(field(string(b), "PRETTY_NAME="), `"`)
	}
	_, _ = fmt.Sscan(read("loadavg"), &f.Load[0], &f.Load[1], &f.Load[2])
	stat := read("stat")
	if n, err := strconv.ParseInt(field(stat, "btime "), 10, 64); err == nil {
		f.Booted = time.Unix(n, 0)
	}
	var user, nice, system, idle int64
	if n, _ := fmt.Sscan(field(stat, "cpu "), &user, &nice, &system, &idle); n == 4 {
		f.Cycles = [3]int64{user + nice, system, idle}
	}
	memory := read("meminfo")
	f.Memory, f.MemoryFree = kib(memory, "MemTotal:"), kib(memory, "MemAvailable:")
	self := read("self/status")
	f.Resident, f.Virtual = kib(self, "VmRSS:"), kib(self, "VmSize:")
	f.Threads, _ = strconv.Atoi(field(self, "Threads:"))
	// The name of the program, which may contain anything, ends with the last parenthesis; the fields are counted from there.
	own := read("self/stat")
	if after := strings.Fields(own[strings.LastIndexByte(own, ')')+1:]); len(after) > 19 {
		ticks := func(i int) float64 { n, _ := strconv.ParseFloat(after[i], 64); return n / ticksPerSecond }
		f.ProcessCPU = ticks(11) + ticks(12)
		if !f.Booted.IsZero() {
			f.Started = f.Booted.Add(time.Duration(ticks(19) * float64(time.Second)))
		}
	}
}

// field is what follows a name at the beginning of a line.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if after, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(after)
		}
	}
	return ""
}

func kib(text, name string) uint64 {
	n, _, _ := strings.Cut(field(text, name), " ")
	k, _ := strconv.ParseUint(n, 10, 64)
	return k << 10
}

// figuresOf asks members that are heard for their figures, all at once.
func (s *Server) figuresOf(ctx context.Context, members []replica.MemberInfo) map[string]*management.Figures {
	ctx, cancel := context.WithTimeout(ctx, figuresPatience)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	out := map[string]*management.Figures{}
	for _, m := range members {
		switch {
		case m.ID == s.cfg.Node:
			mine := s.figures()
			mu.Lock()
			out[m.ID] = mine
			mu.Unlock()
		case m.API != "" && !m.Silent:
			asking.Go(func() {
				f, err := s.peers.figures(ctx, m.API)
				if err != nil {
					s.log.Debug("no figures of another coordinator", "coordinator", m.ID, "error", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				out[m.ID] = f
			})
		}
	}
	asking.Wait()
	return out
}

// figures asks another coordinator.
func (p *peers) figures(ctx context.Context, address string) (*management.Figures, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+figuresPath, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<24))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", address, res.Status, bytes.TrimSpace(b))
	}
	f := &management.Figures{}
	return f, json.Unmarshal(b, f)
}

// tellFigures answers another coordinator.
func (p *peers) tellFigures(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p.own()) // the other one has gone
}
