// Package kmod chooses kernel modules for an image and writes the indexes that
// programs in the guest load them by.
//
// A Debian kernel package ships the modules but not their indexes: depmod makes
// those on the machine where the package is installed. Here they are made from
// the .modinfo section of the modules that were chosen, so nothing has to be
// installed, and an index names only modules that are in the image.
package kmod

import (
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/images/internal/tree"
)

// Module is one kernel module.
type Module struct {
	Name    string // with underscores, as /proc/modules shows it
	Path    string // below the release's directory: kernel/net/...
	Data    []byte
	Depends []string // names, as modinfo gives them
	Soft    []string // names to load before, where they exist
	Aliases []string
}

// Modules are the modules of one kernel release.
type Modules struct {
	Release string
	byName  map[string]*Module
	builtin map[string]bool
}

// Dir is where the modules of a release lie in a merged-/usr tree.
func Dir(release string) string {
	return "usr/lib/modules/" + release
}

// Releases lists the kernel releases t has modules of.
func Releases(t *tree.Tree) []string {
	var releases []string
	for _, p := range t.Glob("usr/lib/modules/*") {
		releases = append(releases, path.Base(p))
	}
	return releases
}

// Find indexes the modules of a release in t by name.
func Find(t *tree.Tree, release string) (*Modules, error) {
	m := &Modules{Release: release, byName: map[string]*Module{}, builtin: map[string]bool{}}
	dir := Dir(release) + "/"
	for _, e := range t.All() {
		rel, ok := strings.CutPrefix(e.Path, dir)
		if !ok || e.Kind != tree.File || !strings.HasSuffix(rel, ".ko") {
			continue
		}
		m.byName[name(rel)] = &Module{Name: name(rel), Path: rel, Data: e.Data}
	}
	if len(m.byName) == 0 {
		return nil, fmt.Errorf("find modules of kernel %s: none under /%s", release, dir)
	}
	b, err := t.Get(dir + "modules.builtin")
	if err != nil {
		return nil, fmt.Errorf("find built-in modules of kernel %s: %w", release, err)
	}
	for line := range strings.Lines(string(b.Data)) {
		m.builtin[name(strings.TrimSpace(line))] = true
	}
	return m, nil
}

// name turns a file name into the module's name.
func name(p string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(p), ".ko"), "-", "_")
}

// Match lists the modules whose names match patterns of path.Match, sorted. A
// pattern that none matches is an error: the kernel has changed.
func (m *Modules) Match(patterns ...string) ([]string, error) {
	var names []string
	for _, p := range patterns {
		before := len(names)
		for n := range m.byName {
			if ok, err := path.Match(p, n); err != nil {
				return nil, fmt.Errorf("choose modules %s: %w", p, err)
			} else if ok {
				names = append(names, n)
			}
		}
		if len(names) == before {
			return nil, fmt.Errorf("choose modules %s: kernel %s has none of such a name", p, m.Release)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Closure returns the named modules and all they depend on, each after its
// dependencies. Names of built-in modules are accepted and add nothing.
func (m *Modules) Closure(names ...string) ([]*Module, error) {
	var order []*Module
	state := map[string]int{} // 1 = being visited, 2 = done
	var visit func(n string, soft bool) error
	visit = func(n string, soft bool) error {
		n = strings.ReplaceAll(n, "-", "_")
		if m.builtin[n] || state[n] == 2 {
			return nil
		}
		mod, ok := m.byName[n]
		if !ok {
			if soft {
				return nil
			}
			return fmt.Errorf("choose module %s: kernel %s has none of that name", n, m.Release)
		}
		if state[n] == 1 {
			if soft {
				return nil
			}
			return fmt.Errorf("choose module %s: it depends on itself", n)
		}
		state[n] = 1
		if err := mod.readInfo(); err != nil {
			return err
		}
		for _, d := range mod.Soft {
			if err := visit(d, true); err != nil {
				return err
			}
		}
		for _, d := range mod.Depends {
			if err := visit(d, false); err != nil {
				return err
			}
		}
		state[n] = 2
		order = append(order, mod)
		return nil
	}
	for _, n := range names {
		if err := visit(n, false); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// readInfo parses the NUL-separated key=value pairs that modinfo(8) shows.
func (m *Module) readInfo() error {
	f, err := elf.NewFile(bytes.NewReader(m.Data))
	if err != nil {
		return fmt.Errorf("read module %s: %w", m.Name, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return fmt.Errorf("read module %s: no .modinfo section", m.Name)
	}
	info, err := section.Data()
	if err != nil {
		return fmt.Errorf("read module %s: %w", m.Name, err)
	}
	m.Depends, m.Soft, m.Aliases = nil, nil, nil
	for pair := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(pair), "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, strings.ReplaceAll(d, "-", "_"))
				}
			}
		case "softdep":
			if pre, ok := strings.CutPrefix(value, "pre:"); ok {
				pre, _, _ = strings.Cut(pre, "post:")
				m.Soft = append(m.Soft, strings.Fields(pre)...)
			}
		case "alias":
			m.Aliases = append(m.Aliases, value)
		}
	}
	return nil
}

// InstallAt adds modules with the indexes modules.dep and modules.alias
// (depmod(8)) to t below dir, for modprobe and the guest programs. list is in
// load order, as Closure returns it.
func (m *Modules) InstallAt(t *tree.Tree, dir string, list []*Module) error {
	dir += "/"
	chosen := map[string]*Module{}
	for _, mod := range list {
		chosen[mod.Name] = mod
		if err := t.AddFile(dir+mod.Path, 0o644, mod.Data); err != nil {
			return fmt.Errorf("install module %s: %w", mod.Name, err)
		}
	}
	var dep, alias bytes.Buffer
	for _, mod := range list {
		fmt.Fprintf(&dep, "%s:", mod.Path)
		for _, d := range needs(chosen, mod) {
			fmt.Fprintf(&dep, " %s", d.Path)
		}
		dep.WriteByte('\n')
		for _, a := range mod.Aliases {
			fmt.Fprintf(&alias, "alias %s %s\n", a, mod.Name)
		}
	}
	if err := t.AddFile(dir+"modules.dep", 0o644, dep.Bytes()); err != nil {
		return err
	}
	return t.AddFile(dir+"modules.alias", 0o644, alias.Bytes())
}

// needs lists all modules mod depends on, direct and indirect, nearest first:
// modprobe loads a line of modules.dep from its end.
func needs(chosen map[string]*Module, mod *Module) []*Module {
	var order []*Module
	var visit func(x *Module)
	visit = func(x *Module) {
		for _, n := range slices.Concat(x.Soft, x.Depends) {
			d, ok := chosen[strings.ReplaceAll(n, "-", "_")]
			if !ok || d == mod || slices.Contains(order, d) {
				continue
			}
			visit(d)
			order = append(order, d)
		}
	}
	visit(mod)
	slices.Reverse(order)
	return order
}
