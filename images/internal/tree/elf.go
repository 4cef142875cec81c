package tree

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"strings"
)

// libraryDirs are where the dynamic linker of Debian's amd64 looks, merged /usr.
var libraryDirs = []string{"usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"}

// CopyBinary copies a program from pool and, with it, its dynamic linker and
// every shared library it needs, all under their names on a merged system.
// Nothing is executed: the closure is read from the ELF headers, so a foreign
// root needs no chroot. What a program opens by name at run time (plugins) must
// be added by the caller.
func (t *Tree) CopyBinary(pool *Tree, p string) error {
	e, err := pool.Resolve(p)
	if err != nil {
		return fmt.Errorf("copy binary /%s: %w", Clean(p), err)
	}
	c := *e
	c.Path = Clean(p)
	if err := t.Add(c); err != nil {
		return err
	}
	if err := t.copyNeeded(pool, e); err != nil {
		return fmt.Errorf("copy binary /%s: %w", Clean(p), err)
	}
	return nil
}

func (t *Tree) copyNeeded(pool *Tree, e *Entry) error {
	f, err := elf.NewFile(bytes.NewReader(e.Data))
	if err != nil {
		var bad *elf.FormatError
		if errors.As(err, &bad) {
			return nil // a script: its interpreter is the recipe's business
		}
		return err
	}
	defer f.Close()
	interp, err := interpreter(f)
	if err != nil {
		return err
	}
	if interp != "" {
		if err := t.copyLibrary(pool, Merged(interp)); err != nil {
			return err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read needed libraries: %w", err)
	}
	dirs, err := searchDirs(f, e.Path)
	if err != nil {
		return err
	}
	for _, name := range needed {
		at, err := findLibrary(pool, dirs, name)
		if err != nil {
			return err
		}
		if err := t.copyLibrary(pool, at); err != nil {
			return err
		}
	}
	return nil
}

// copyLibrary copies what p leads to under the name p, once.
func (t *Tree) copyLibrary(pool *Tree, p string) error {
	if _, err := t.Get(p); err == nil {
		return nil
	}
	e, err := pool.Resolve(p)
	if err != nil {
		return err
	}
	c := *e
	c.Path = p
	if err := t.Add(c); err != nil {
		return err
	}
	return t.copyNeeded(pool, e)
}

func findLibrary(pool *Tree, dirs []string, name string) (string, error) {
	for _, d := range dirs {
		p := path.Join(d, name)
		if _, err := pool.Resolve(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("library %s: %w (is its package in the recipe?)", name, ErrNotFound)
}

func interpreter(f *elf.File) (string, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return "", fmt.Errorf("read interpreter: %w", err)
		}
		return strings.TrimRight(string(b), "\x00"), nil
	}
	return "", nil
}

// searchDirs is the library path of one object: its RPATH and RUNPATH, then the
// system's directories.
func searchDirs(f *elf.File, at string) ([]string, error) {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, err := f.DynString(tag)
		if err != nil && f.Section(".dynamic") != nil {
			return nil, fmt.Errorf("read library path: %w", err)
		}
		for _, v := range values {
			for _, d := range strings.Split(v, ":") {
				d = strings.NewReplacer("${ORIGIN}", "/"+path.Dir(at), "$ORIGIN", "/"+path.Dir(at)).Replace(d)
				dirs = append(dirs, Merged(d))
			}
		}
	}
	return append(dirs, libraryDirs...), nil
}
