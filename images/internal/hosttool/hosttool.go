// Package hosttool runs the programs an image recipe borrows from the build
// machine (mke2fs, mcopy, qemu-img ...).
//
// The builder installs nothing. When a program is absent, every absent one is
// named at once together with the Debian package that brings it, so that a
// person has to act only once. The versions of those packages are part of a
// build's inputs: another mke2fs may lay out the same files differently.
package hosttool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Tool is a program and the Debian package that installs it.
type Tool struct {
	Name    string
	Package string
}

// MissingError names the programs that were looked for and not found.
type MissingError struct {
	Tools []Tool
}

func (e *MissingError) Error() string {
	var names, packages []string
	for _, t := range e.Tools {
		names = append(names, t.Name)
		if !slices.Contains(packages, t.Package) {
			packages = append(packages, t.Package)
		}
	}
	return fmt.Sprintf("missing programs: %s; install the Debian packages: apt-get install %s",
		strings.Join(names, " "), strings.Join(packages, " "))
}

// Need returns a *MissingError unless all tools are there.
func Need(tools ...Tool) error {
	var missing []Tool
	for _, t := range tools {
		if _, err := Path(t.Name); err != nil {
			missing = append(missing, t)
		}
	}
	if missing != nil {
		return &MissingError{Tools: missing}
	}
	return nil
}

// Path finds a program. The sbin directories are searched also when PATH lacks
// them, as it does for ordinary users on Debian.
func Path(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return filepath.Abs(p)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("find program %s: %w", name, exec.ErrNotFound)
}

// Command is one call of a tool.
type Command struct {
	Name  string
	Args  []string
	Dir   string
	Env   []string // added to a fixed environment: C locale, UTC, PATH and HOME of the caller
	Stdin io.Reader
}

// Run runs the command and returns what it wrote to standard output. The error
// of a failing command carries the last lines of its standard error.
func Run(ctx context.Context, c Command) ([]byte, error) {
	out, _, err := RunBoth(ctx, c)
	return out, err
}

// RunBoth is Run for tools that report failures only as text, such as debugfs.
func RunBoth(ctx context.Context, c Command) (stdout, stderr []byte, err error) {
	path, err := Path(c.Name)
	if err != nil {
		return nil, nil, err
	}
	var o, e bytes.Buffer
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(environment(), c.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &o, &e
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return o.Bytes(), e.Bytes(), fmt.Errorf("run %s %s: %w: %s", c.Name, strings.Join(c.Args, " "), err, tail(e.String()))
	}
	return o.Bytes(), e.Bytes(), nil
}

// environment keeps what a tool needs to work here and drops what could change
// its output: locale, time zone, file creation defaults in dot files.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC", "MTOOLSRC=/dev/null", "DEBIAN_FRONTEND=noninteractive"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "APT_CONFIG"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if n := len(lines); n > 5 {
		lines = lines[n-5:]
	}
	return strings.Join(lines, "; ")
}

// Version is an installed Debian package and its version.
type Version struct {
	Package string `json:"package"`
	Version string `json:"version"`
}

// Versions asks dpkg for the installed versions of packages, in the order given.
// "a|b" is the first of the two that is installed: libraries change their names
// between releases of Debian.
func Versions(ctx context.Context, packages ...string) ([]Version, error) {
	args := []string{"-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"}
	for _, p := range packages {
		args = append(args, strings.Split(p, "|")...)
	}
	// It fails if one of them is unknown, after it has listed the others.
	out, err := Run(ctx, Command{Name: "dpkg-query", Args: args})
	if err != nil && len(out) == 0 {
		return nil, fmt.Errorf("ask installed versions: %w", err)
	}
	have := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "installed" {
			have[f[0]] = f[1]
		}
	}
	var versions []Version
	for _, p := range packages {
		names := strings.Split(p, "|")
		i := slices.IndexFunc(names, func(n string) bool { return have[n] != "" })
		if i < 0 {
			return nil, fmt.Errorf("ask installed versions: package %s is not installed: apt-get install %s", names[0], names[0])
		}
		versions = append(versions, Version{Package: names[i], Version: have[names[i]]})
	}
	return versions, nil
}
