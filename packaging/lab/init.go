package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The names under which the program runs as part of a lab. They are its first
// argument, the directory is its second: that is how the processes of a lab are
// found again.
const (
	roleSwitch = "wisp-lab-switch"
	roleHost   = "wisp-lab-host"

	hostSpecFile = "host.json"
	// Descriptors PID 1 is started with; the logs are in the services' order.
	cablesFile, reportFile, firstLog = 3, 4, 5

	// self is the program that runs now, even if its file was replaced.
	self = "/proc/self/exe"
)

// isMain is set by Main; without it the program cannot be a host's PID 1.
var isMain bool

// Main must be called first in main, or in TestMain, of a program that makes
// labs. When the program was started as part of one, it does that part and
// does not return.
func Main() {
	isMain = true
	if len(os.Args) != 2 {
		return
	}
	switch os.Args[0] {
	case roleSwitch:
		holdSwitch()
	case roleHost:
		if err := runHost(os.Args[1]); err != nil {
			slog.Error("host failed", "err", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// holdSwitch keeps its network namespace until it is killed.
func holdSwitch() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	for {
		_ = unix.Pause()
	}
}

// runHost is a host's PID 1: it makes the host out of the namespaces it was
// started in, then keeps the services running until it is killed.
func runHost(dir string) error {
	// Inherited by number, and of no concern to the services.
	unix.CloseOnExec(cablesFile)
	unix.CloseOnExec(reportFile)
	cables, report := os.NewFile(cablesFile, "cables"), os.NewFile(reportFile, "report")
	run, err := makeHost(dir, cables)
	if err != nil {
		_, _ = report.WriteString(err.Error())
		return err
	}
	if _, err := report.WriteString("ok"); err != nil {
		return fmt.Errorf("report that the host is up: %w", err)
	}
	if err := report.Close(); err != nil {
		return fmt.Errorf("report that the host is up: %w", err)
	}
	return run()
}

// makeHost returns the function that watches over the services it started.
func makeHost(dir string, cables *os.File) (run func() error, err error) {
	text, err := os.ReadFile(filepath.Join(dir, hostSpecFile))
	if err != nil {
		return nil, err
	}
	var spec hostSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", hostSpecFile, err)
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return nil, fmt.Errorf("set host name: %w", err)
	}
	logs := inheritedLogs(spec.Services)
	if err := mountAll(spec.Mounts); err != nil {
		return nil, err
	}
	// Nothing to read means that whoever powers the host on is gone.
	if n, err := cables.Read(make([]byte, 1)); n == 0 {
		return nil, fmt.Errorf("wait for network cards: %w", err)
	}
	if err := cables.Close(); err != nil {
		return nil, fmt.Errorf("wait for network cards: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := configureNetwork(ctx, spec); err != nil {
		return nil, err
	}
	s := newSupervisor(spec.Services, logs)
	// Before the first child, or its end could go unseen.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	// Caught and dropped, for ignored ones would stay ignored in the services.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	for _, svc := range spec.Services {
		if err := s.start(svc.Name); err != nil {
			return nil, err
		}
	}
	if err := s.serveControl(); err != nil {
		return nil, err
	}
	return func() error { return s.reap(ended) }, nil
}

// inheritedLogs are opened outside: a mount with a file open for writing could
// not become read-only.
func inheritedLogs(services []service) map[string]*os.File {
	logs := map[string]*os.File{}
	for i, svc := range services {
		fd := firstLog + i
		unix.CloseOnExec(fd)
		logs[svc.Name] = os.NewFile(uintptr(fd), svc.Name+".log")
	}
	return logs
}

// configureNetwork brings the two cards up in their bridges. A bridge gets its
// card's address, or it would change with every tap that joins.
func configureNetwork(ctx context.Context, spec hostSpec) error {
	lines := []string{"link set lo up"}
	for card, mac := range spec.MAC {
		bridge := fmt.Sprintf("cloudbr%d", card)
		lines = append(lines,
			fmt.Sprintf("link add %s address %s mtu %d type bridge stp_state 0 forward_delay 0 mcast_snooping 0", bridge, mac, spec.MTU),
			fmt.Sprintf("link set eth%d master %s up", card, bridge))
	}
	lines = append(lines, "addr add "+spec.Address+" dev cloudbr0", "link set cloudbr0 up", "link set cloudbr1 up")
	if err := ip(ctx, "", lines...); err != nil {
		return fmt.Errorf("configure network: %w", err)
	}
	return nil
}
