// Package module loads kernel modules in a system VM: by name after those they need, by the aliases of devices, and
// by the names the kernel itself asks /sbin/modprobe for.
//
// kmod's tools are left out of the image: loading in this process costs a fraction of starting a program for each of
// the dozen modules of a boot, which is noticeable under emulation, and one program less is one thing less to mend.
// The indexes are depmod's: modules.dep and modules.alias (modules.dep(5)).
package module

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrUnknown means that no module has the name, and none its alias. A module that is built into the kernel has none
// either, for the image has no index of those.
var ErrUnknown = errors.New("no such module")

// Index knows which modules there are and what they need.
type Index struct {
	needs   map[string][]string // path to the paths it needs, nearest first
	paths   map[string]string   // name to path
	aliases []alias
}

type alias struct{ pattern, module string }

// ParseIndex reads the texts of modules.dep and modules.alias.
func ParseIndex(dep, aliases string) *Index {
	x := &Index{needs: map[string][]string{}, paths: map[string]string{}}
	for line := range strings.Lines(dep) {
		p, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(p, "#") {
			continue
		}
		x.needs[p] = strings.Fields(rest)
		x.paths[Name(p)] = p
	}
	for line := range strings.Lines(aliases) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			x.aliases = append(x.aliases, alias{f[1], canonical(f[2])})
		}
	}
	return x
}

// Name is the name of the module in a file, as /proc/modules shows it.
func Name(file string) string { return canonical(strings.TrimSuffix(path.Base(file), ".ko")) }

// canonical is how the kernel spells a name: the tools take dashes for underscores.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Order lists the files to load for a module, each after those it needs.
func (x *Index) Order(name string) ([]string, error) {
	p, ok := x.paths[canonical(name)]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	needs := x.needs[p]
	order := make([]string, 0, len(needs)+1)
	for i := len(needs) - 1; i >= 0; i-- { // depmod lists the nearest first
		order = append(order, needs[i])
	}
	return append(order, p), nil
}

// Resolve names the modules meant by what somebody asks for: a module's own name, or an alias such as
// "virtio:d00000001v00001AF4", "nft-expr-match" or "net-pf-16-proto-12".
func (x *Index) Resolve(wanted string) []string {
	if _, ok := x.paths[canonical(wanted)]; ok {
		return []string{canonical(wanted)}
	}
	var names []string
	seen := map[string]bool{}
	for _, a := range x.aliases {
		if seen[a.module] || !match(a.pattern, wanted) {
			continue
		}
		seen[a.module] = true
		names = append(names, a.module)
	}
	return names
}

// match is fnmatch(3) as modprobe uses it: dashes and underscores are one, and a slash is a character as any other.
func match(pattern, s string) bool {
	if pattern == s {
		return true
	}
	// Nearly all of the thousand patterns differ before their first special character.
	for i := 0; i < len(pattern) && strings.IndexByte(special, pattern[i]) < 0; i++ {
		if i == len(s) || pattern[i] != s[i] && canonical(pattern[i:i+1]) != canonical(s[i:i+1]) {
			return false
		}
	}
	const slash = "\x00" // path.Match would stop a star at it
	ok, err := path.Match(strings.ReplaceAll(canonicalPattern(pattern), "/", slash), strings.ReplaceAll(canonical(s), "/", slash))
	return ok && err == nil
}

// special are the characters of a pattern that stand for others.
const special = "*?[\\"

// canonicalPattern leaves dashes inside brackets, which are ranges.
func canonicalPattern(p string) string {
	if !strings.Contains(p, "[") {
		return canonical(p)
	}
	inside := false
	return strings.Map(func(r rune) rune {
		switch {
		case r == '[':
			inside = true
		case r == ']':
			inside = false
		case r == '-' && !inside:
			return '_'
		}
		return r
	}, p)
}

// Loader loads modules of one directory into the running kernel.
type Loader struct {
	dir    string
	index  *Index
	insert func(file string) error

	mu     sync.Mutex
	loaded map[string]bool // by path
}

// Open reads the indexes of a directory such as /lib/modules/6.1.0.
func Open(dir string) (*Loader, error) {
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("open modules: %w", err)
	}
	aliases, err := os.ReadFile(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("open modules: %w", err)
	}
	return newLoader(dir, ParseIndex(string(dep), string(aliases)), Insert), nil
}

func newLoader(dir string, x *Index, insert func(string) error) *Loader {
	return &Loader{dir: dir, index: x, insert: insert, loaded: map[string]bool{}}
}

// MarkLoaded notes what is loaded already, from a text such as /proc/modules: the kernel would read and verify a whole
// file before it said so.
func (l *Loader) MarkLoaded(list string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(line, " ")
		if p, ok := l.index.paths[name]; ok {
			l.loaded[p] = true
		}
	}
}

// Load loads what is asked for by name or alias, with all it needs. What is loaded already is no error.
func (l *Loader) Load(wanted string) error {
	names := l.index.Resolve(wanted)
	if len(names) == 0 {
		return fmt.Errorf("load module %s: %w", wanted, ErrUnknown)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, l.load(name))
	}
	return errors.Join(errs...)
}

// LoadAll loads what several names ask for. One that fails does not keep the others out.
func (l *Loader) LoadAll(wanted ...string) error {
	var errs []error
	for _, w := range wanted {
		errs = append(errs, l.Load(w))
	}
	return errors.Join(errs...)
}

func (l *Loader) load(name string) error {
	order, err := l.index.Order(name)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	for _, p := range order {
		if l.loaded[p] {
			continue
		}
		if err := l.insert(filepath.Join(l.dir, p)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("load module %s: %w", Name(p), err)
		}
		l.loaded[p] = true
	}
	return nil
}

// Coldplug loads the modules of all devices below sysfs that say what they are. Loading one makes new devices appear,
// so it goes on until a pass finds nothing new. Devices nobody has a driver for are no error.
//
// Processors are left out, by which udev loads every cipher that has a version for their instructions: the kernel asks for
// those by the cipher's name when one is wanted, and tests each of them at length as it comes in.
func (l *Loader) Coldplug(sysfs string) error {
	seen := map[string]bool{}
	var errs []error
	for {
		before := len(seen)
		for _, pattern := range []string{"bus/*/devices/*/modalias", "class/input/*/modalias"} {
			files, err := filepath.Glob(filepath.Join(sysfs, pattern))
			if err != nil {
				return fmt.Errorf("list devices: %w", err)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				m := strings.TrimSpace(string(b))
				if err != nil || m == "" || seen[m] || strings.HasPrefix(m, "cpu:") {
					continue // devices may vanish meanwhile
				}
				seen[m] = true
				if err := l.Load(m); err != nil && !errors.Is(err, ErrUnknown) {
					errs = append(errs, err)
				}
			}
		}
		if len(seen) == before {
			return errors.Join(errs...)
		}
	}
}

// Insert loads one file into the kernel, finit_module(2).
func Insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// Find locates modules given by name or by path below dir, in the order given: a boot that knows its list needs no
// index.
func Find(dir string, wanted []string) ([]string, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".ko") {
			paths[Name(p)] = p
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find modules: %w", err)
	}
	files := make([]string, 0, len(wanted))
	for _, w := range wanted {
		p, ok := paths[Name(w)]
		if !ok {
			return nil, fmt.Errorf("find module %s: %w", w, ErrUnknown)
		}
		files = append(files, p)
	}
	return files, nil
}

// ParseList reads a list of modules: one a line, "#" begins a comment.
func ParseList(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		names = append(names, strings.Fields(line)...)
	}
	return names
}
