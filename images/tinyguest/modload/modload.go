// Package modload loads kernel modules in the tiny guest: by name with their
// dependencies, and by the aliases devices ask for.
//
// It reads the indexes modules.dep and modules.alias that the image builder
// wrote. Loading in-process costs a fraction of starting modprobe for each of
// the dozen modules of a boot, which is noticeable under emulation. Both
// programs of the guest use it: the first stage in the initial root file system
// and the init process on the disk.
package modload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

const sysFinitModule = 313 // x86-64, see syscall(2)'s asm/unistd_64.h

// Loader loads modules of one directory. It is for one goroutine at a time.
type Loader struct {
	dir     string
	needs   map[string][]string // module path to the paths it needs, nearest first
	paths   map[string]string   // module name to its path
	aliases []alias
	loaded  map[string]bool
	insert  func(file string) error
}

type alias struct{ pattern, module string }

// Open reads the indexes of dir, such as /lib/modules/6.1.0.
func Open(dir string) (*Loader, error) {
	l := &Loader{dir: dir, needs: map[string][]string{}, paths: map[string]string{}, loaded: map[string]bool{}, insert: insert}
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("open modules: %w", err)
	}
	for line := range strings.Lines(string(dep)) {
		p, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		l.needs[p] = strings.Fields(rest)
		l.paths[nameOf(p)] = p
	}
	al, err := os.ReadFile(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("open modules: %w", err)
	}
	for line := range strings.Lines(string(al)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			l.aliases = append(l.aliases, alias{f[1], f[2]})
		}
	}
	l.markLoaded("/proc/modules")
	return l, nil
}

// markLoaded notes what is loaded already: the kernel would read and verify the
// whole file before it said so.
func (l *Loader) markLoaded(list string) {
	b, err := os.ReadFile(list)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, " ")
		if p, ok := l.paths[name]; ok {
			l.loaded[p] = true
		}
	}
}

func nameOf(p string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(p), ".ko"), "-", "_")
}

// Load loads a module after those it needs. A loaded module is no error.
func (l *Loader) Load(name string) error {
	p, ok := l.paths[strings.ReplaceAll(name, "-", "_")]
	if !ok {
		return fmt.Errorf("load module %s: %w", name, fs.ErrNotExist)
	}
	needs := l.needs[p]
	for i := len(needs) - 1; i >= 0; i-- {
		if err := l.load(needs[i]); err != nil {
			return err
		}
	}
	return l.load(p)
}

func (l *Loader) load(p string) error {
	if l.loaded[p] {
		return nil
	}
	if err := l.insert(filepath.Join(l.dir, p)); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("load module %s: %w", nameOf(p), err)
	}
	l.loaded[p] = true
	return nil
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	params := [1]byte{}
	if _, _, errno := syscall.Syscall(sysFinitModule, f.Fd(), uintptr(unsafe.Pointer(&params[0])), 0); errno != 0 {
		return errno
	}
	return nil
}

// LoadAlias loads every module whose aliases match a device's modalias, and
// says how many there are. A modalias nobody knows is no error: most belong to
// devices the image has no driver for.
func (l *Loader) LoadAlias(modalias string) (int, error) {
	n := 0
	var errs []error
	for _, a := range l.aliases {
		// modalias patterns are fnmatch(3)'s; only * and [] occur and no slash, as in path.Match.
		if ok, _ := path.Match(a.pattern, modalias); !ok || modalias == "" {
			continue
		}
		n++
		errs = append(errs, l.Load(a.module))
	}
	return n, errors.Join(errs...)
}

// Coldplug loads the modules of the devices on all buses of sysfs (/sys/bus) whose
// modalias want accepts; nil accepts all. Loading one makes new devices appear,
// so it goes on until a pass finds nothing new. Going by bus instead of walking
// /sys/devices saves reading thousands of directories.
func (l *Loader) Coldplug(sysfs string, want func(modalias string) bool) error {
	seen := map[string]bool{}
	var errs []error
	for {
		before := len(seen)
		paths, err := filepath.Glob(filepath.Join(sysfs, "*", "devices", "*", "modalias"))
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			m := strings.TrimSpace(string(b))
			if err != nil || seen[m] {
				continue // devices may vanish meanwhile
			}
			seen[m] = true
			if want != nil && !want(m) {
				continue
			}
			if _, err := l.LoadAlias(m); err != nil {
				errs = append(errs, err)
			}
		}
		if len(seen) == before {
			return errors.Join(errs...)
		}
	}
}
