// Command deps installs the Debian packages that `make sandbox` and
// `make test` need, on a machine that has only Go, make and git.
//
// It is the one place that names them. It does nothing, and needs neither
// network nor root, when all is there; it starts no service: while packages
// are installed, a policy-rc.d that forbids starting is in place (see
// invoke-rc.d(8)) unless the machine has its own.
//
// With -sandbox it leaves out what only the tests need.
// With -n it only says what is missing and exits 1 if something is.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	dry := flag.Bool("n", false, "only say what is missing")
	sandbox := flag.Bool("sandbox", false, "only what the sandbox needs")
	flag.Parse()
	all := dependencies
	if !*sandbox {
		all = slices.Concat(dependencies, testDependencies)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, all, *dry, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "deps:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, all []dependency, dry bool, out io.Writer) error {
	missing := findMissing(all, exists)
	if len(missing) == 0 {
		fmt.Fprintln(out, "deps: nothing to install")
		return nil
	}
	for _, d := range missing {
		fmt.Fprintf(out, "deps: missing %s (%s)\n", d.packages[0], d.why)
	}
	if dry {
		return fmt.Errorf("%d packages are missing, run `make deps` as root", len(missing))
	}
	if os.Geteuid() != 0 {
		return errors.New("installing packages needs root")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("no apt-get here: install by hand what is listed above")
	}
	return install(ctx, missing, out)
}

// findMissing lists what has none of its files.
func findMissing(all []dependency, has func(pattern string) bool) []dependency {
	var missing []dependency
	for _, d := range all {
		if !slices.ContainsFunc(d.files, has) {
			missing = append(missing, d)
		}
	}
	return missing
}

func exists(pattern string) bool {
	found, err := filepath.Glob(pattern)
	return err == nil && len(found) > 0
}

func install(ctx context.Context, missing []dependency, out io.Writer) error {
	unguard, err := forbidServices("/usr/sbin/policy-rc.d")
	if err != nil {
		return err
	}
	defer unguard()
	if err := apt(ctx, out, "update", "-q"); err != nil {
		return err
	}
	names, err := choose(missing, func(name string) bool { return candidate(ctx, name) })
	if err != nil {
		return err
	}
	args := append([]string{
		"install", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold",
		"-o", "Dpkg::Use-Pty=0",
	}, names...)
	if err := apt(ctx, out, args...); err != nil {
		return err
	}
	if left := findMissing(missing, exists); len(left) > 0 {
		return fmt.Errorf("package %s is installed but none of %s exists", left[0].packages[0],
			strings.Join(left[0].files, ", "))
	}
	return nil
}

// choose picks each dependency's first package that the archive has.
func choose(missing []dependency, known func(name string) bool) ([]string, error) {
	var names []string
	for _, d := range missing {
		i := slices.IndexFunc(d.packages, known)
		if i < 0 {
			return nil, fmt.Errorf("find package %s (%s): the archive has none of this name",
				strings.Join(d.packages, " or "), d.why)
		}
		names = append(names, d.packages[i])
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// candidate tells whether apt could install the package now.
func candidate(ctx context.Context, name string) bool {
	text, err := exec.CommandContext(ctx, "apt-cache", "policy", name).Output()
	return err == nil && bytes.Contains(text, []byte("Candidate:")) &&
		!bytes.Contains(text, []byte("Candidate: (none)"))
}

func apt(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	// RUNLEVEL=1 tells maintainer scripts which ask for it that this is no
	// moment to start things; see invoke-rc.d(8).
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "NEEDRESTART_SUSPEND=1")
	cmd.Stdout, cmd.Stderr = out, out
	// A killed dpkg leaves half-configured packages: let it come to an end.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run apt-get %s: %w", args[0], err)
	}
	return nil
}

// policy makes invoke-rc.d refuse to start anything.
const policy = "#!/bin/sh\n# Placed by Wisp's `make deps` while it installs packages.\nexit 101\n"

// forbidServices puts the policy at path until the returned function is
// called. A policy of the machine's own stays; ours, left behind by a run
// that was killed, is taken over.
func forbidServices(path string) (undo func(), err error) {
	if old, err := os.ReadFile(path); err == nil && string(old) != policy {
		return func() {}, nil
	}
	// WriteFile leaves the mode to the umask, and a policy that is not
	// executable forbids nothing.
	if err := errors.Join(os.WriteFile(path, []byte(policy), 0o755), os.Chmod(path, 0o755)); err != nil {
		return nil, errors.Join(fmt.Errorf("forbid starting services: %w", err), os.Remove(path))
	}
	return func() { _ = os.Remove(path) }, nil
}
