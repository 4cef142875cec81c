package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/systemvm/internal/module"
)

// modprobe answers as modprobe(8) does to the kernel ("-q -- NAME") and to iptables ("-q NAME"): 0 when the module is
// there. Names nobody knows are quiet failures with -q, and are most of what the kernel asks for.
func modprobe(args []string) int {
	names, quiet := modprobeArgs(args)
	fail := func(err error) int {
		if !quiet {
			fmt.Fprintln(os.Stderr, "modprobe:", err)
		}
		return 1
	}
	l, err := openModules()
	if err != nil {
		return fail(err)
	}
	if err := l.LoadAll(names...); err != nil {
		return fail(err)
	}
	return 0
}

// modprobeArgs takes the names of modules and whether to be quiet. A first name's parameters ("ip_tables debug=1") are
// dropped: nobody gives any here.
func modprobeArgs(args []string) (names []string, quiet bool) {
	options := true
	for _, a := range args {
		switch {
		case options && a == "--":
			options = false
		case options && strings.HasPrefix(a, "-"):
			quiet = quiet || a == "--quiet" || !strings.HasPrefix(a, "--") && strings.Contains(a, "q")
		case strings.Contains(a, "="):
		default:
			names = append(names, a)
		}
	}
	return names, quiet
}

// openModules opens the modules of the running kernel.
func openModules() (*module.Loader, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("read kernel release: %w", err)
	}
	l, err := module.Open("/lib/modules/" + unix.ByteSliceToString(uts.Release[:]))
	if err != nil {
		return nil, err
	}
	if list, err := os.ReadFile("/proc/modules"); err == nil {
		l.MarkLoaded(string(list))
	}
	return l, nil
}
