package report

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// Machine reads what the kernel says of a host.
type Machine struct {
	mu               sync.Mutex
	busy, total      uint64
	Hostname, Kernel string
	CPUModel         string
	MHz              uint32
	MemoryMiB        uint64
	CPUs             uint32
}

// ReadMachine reads what does not change while the host is up.
func ReadMachine() (*Machine, error) {
	m := &Machine{CPUs: uint32(runtime.NumCPU())}
	var err error
	if m.Hostname, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("read hostname: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("read kernel version: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(uts.Release[:])
	total, _, err := memory()
	if err != nil {
		return nil, err
	}
	m.MemoryMiB = total >> 10
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, fmt.Errorf("read cpus: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name":
			m.CPUModel = strings.TrimSpace(value)
		case "cpu MHz":
			if f, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && m.MHz == 0 {
				m.MHz = uint32(f)
			}
		}
	}
	// The rated speed, where the kernel knows it, does not depend on what the CPU does this moment.
	if data, err := os.ReadFile("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"); err == nil {
		if kHz, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32); err == nil {
			m.MHz = uint32(kHz / 1000)
		}
	}
	return m, nil
}

// BootID names this boot of the host. The kernel's id alone would not do where a host is a set of namespaces, so the
// start time of process 1 is part of it.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return "", fmt.Errorf("read start of process 1: %w", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state, start = 3, 22 // proc_pid_stat(5)
	if len(fields) <= start-state {
		return "", fmt.Errorf("read start of process 1: %q is too short", stat)
	}
	return strings.TrimSpace(string(data)) + "-" + fields[start-state], nil
}

// memory in KiB, from /proc/meminfo.
func memory() (total, available uint64, err error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = n
		case "MemAvailable:":
			available = n
		}
	}
	return total, available, nil
}

// Usage of the host; the CPU's is since the call before.
func (m *Machine) Usage() (*hostspec.HostUsage, error) {
	total, available, err := memory()
	if err != nil {
		return nil, err
	}
	u := &hostspec.HostUsage{MemoryUsedMib: (total - min(available, total)) >> 10}
	busy, all, err := cpuTicks()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.total != 0 && all > m.total && busy >= m.busy {
		u.CpuPercent = 100 * float64(busy-m.busy) / float64(all-m.total)
	}
	m.busy, m.total = busy, all
	m.mu.Unlock()
	u.NetworkRxKib, u.NetworkTxKib, err = traffic()
	return u, err
}

// cpuTicks reads the first line of /proc/stat: user nice system idle iowait irq softirq steal.
func cpuTicks() (busy, all uint64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read cpu usage: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil || i > 8 {
			continue
		}
		all += n
		if i != 4 && i != 5 {
			busy += n
		}
	}
	return busy, all, nil
}

// ourLinks are the prefixes of links an agent makes: their bytes are counted on the uplink already.
var ourLinks = []string{"wbr", "wvx", "wvl", "wpi", "wpo", "wlg", "wpb", "wpv", "wtp"}

// traffic sums the links that are not ours, from /proc/net/dev.
func traffic() (rx, tx uint64, err error) {
	f, err := os.Open("/proc/net/dev")
	if err != nil {
		return 0, 0, fmt.Errorf("read traffic: %w", err)
	}
	defer func() { _ = f.Close() }()
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		name, rest, ok := strings.Cut(scanner.Text(), ":")
		name = strings.TrimSpace(name)
		fields := strings.Fields(rest)
		ours := slices.ContainsFunc(ourLinks, func(p string) bool { return strings.HasPrefix(name, p) })
		if !ok || len(fields) < 9 || name == "lo" || ours {
			continue
		}
		r, err1 := strconv.ParseUint(fields[0], 10, 64)
		t, err2 := strconv.ParseUint(fields[8], 10, 64)
		if err1 == nil && err2 == nil {
			rx, tx = rx+r>>10, tx+t>>10
		}
	}
	return rx, tx, nil
}

// CPUGroups is the version of the cgroup hierarchy that can share out CPUs here, 0 for none.
func CPUGroups() int {
	if data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		for _, name := range strings.Fields(string(data)) {
			if name == "cpu" {
				return 2
			}
		}
		return 0
	}
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.shares"); err == nil {
		return 1
	}
	return 0
}
