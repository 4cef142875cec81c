// Package tree holds the files of an image in memory, with the owners and modes
// they shall have there.
//
// The build machine's file system never carries ownership, device nodes or time
// stamps of an image. That is why an image builds without root and does not
// depend on a umask, on the order of a directory or on the day of the build.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// ErrNotFound is returned for a path that is not in the tree.
var ErrNotFound = errors.New("no such file in tree")

// Kind is the type of an entry.
type Kind int

// The kinds of entries an image may hold.
const (
	File Kind = iota
	Dir
	Symlink
	CharDevice
)

// Entry is one file. Path is relative, slash-separated and clean; the root
// directory itself has no entry.
type Entry struct {
	Path  string
	Kind  Kind
	Perm  uint32 // permission bits with setuid, setgid and sticky, as chmod(2) takes them
	UID   int
	GID   int
	Data  []byte // File
	Link  string // Symlink: its target
	Major uint32 // CharDevice
	Minor uint32 // CharDevice
}

// Tree is a set of entries. Directories above an entry exist implicitly with
// mode 0755 and owner root unless added. The zero value is not usable: see New.
type Tree struct {
	entries map[string]*Entry
}

// New returns an empty tree.
func New() *Tree {
	return &Tree{entries: map[string]*Entry{}}
}

// Add puts an entry, replacing one of the same path. A directory added over a
// directory changes only its mode and owner.
func (t *Tree) Add(e Entry) error {
	e.Path = Clean(e.Path)
	if e.Path == "" {
		return nil
	}
	if !fs.ValidPath(e.Path) {
		return fmt.Errorf("add %q to tree: path leaves the tree", e.Path)
	}
	if err := t.addParents(e.Path); err != nil {
		return err
	}
	if old, ok := t.entries[e.Path]; ok && old.Kind == Dir && e.Kind != Dir && t.hasChildren(e.Path) {
		return fmt.Errorf("add %s to tree: a directory with files is in the way", e.Path)
	}
	t.entries[e.Path] = &e
	return nil
}

func (t *Tree) addParents(p string) error {
	dir := path.Dir(p)
	if dir == "." {
		return nil
	}
	if old, ok := t.entries[dir]; ok {
		if old.Kind != Dir {
			return fmt.Errorf("add %s to tree: %s is not a directory", p, dir)
		}
		return nil
	}
	return t.Add(Entry{Path: dir, Kind: Dir, Perm: 0o755})
}

func (t *Tree) hasChildren(p string) bool {
	for k := range t.entries {
		if strings.HasPrefix(k, p+"/") {
			return true
		}
	}
	return false
}

// Clean turns an absolute, dotted or relative path into the form of Entry.Path.
func Clean(p string) string {
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}

// Get returns the entry at a path, without following a link there.
func (t *Tree) Get(p string) (*Entry, error) {
	if e, ok := t.entries[Clean(p)]; ok {
		return e, nil
	}
	return nil, fmt.Errorf("look up /%s: %w", Clean(p), ErrNotFound)
}

// Resolve follows symbolic links, in directories above p too, and returns the
// entry they lead to.
func (t *Tree) Resolve(p string) (*Entry, error) {
	const limit = 40 // as many as Linux follows, see path_resolution(7)
	rest := strings.Split(Clean(p), "/")
	at, hops := "", 0
	for len(rest) > 0 {
		next := path.Join(at, rest[0])
		if rest[0] == ".." {
			next = path.Dir(at)
			if next == "." {
				next = ""
			}
		}
		rest = rest[1:]
		e, ok := t.entries[next]
		if !ok && next != "" {
			return nil, fmt.Errorf("look up /%s: %w", Clean(p), ErrNotFound)
		}
		if next == "" || e.Kind != Symlink {
			at = next
			continue
		}
		if hops++; hops > limit {
			return nil, fmt.Errorf("look up /%s: too many symbolic links", Clean(p))
		}
		target := strings.Split(strings.Trim(e.Link, "/"), "/")
		if strings.HasPrefix(e.Link, "/") {
			at = ""
		}
		rest = append(slices.Clone(target), rest...)
	}
	if e, ok := t.entries[at]; ok {
		return e, nil
	}
	return nil, fmt.Errorf("look up /%s: %w", Clean(p), ErrNotFound)
}

// All returns the entries sorted by path, so that a directory comes before what
// is in it.
func (t *Tree) All() []*Entry {
	var all []*Entry
	for _, p := range slices.Sorted(maps.Keys(t.entries)) {
		all = append(all, t.entries[p])
	}
	return all
}

// Len is the number of entries.
func (t *Tree) Len() int { return len(t.entries) }

// Glob returns the paths that match a pattern of path.Match, sorted.
func (t *Tree) Glob(pattern string) []string {
	var found []string
	for p := range t.entries {
		if ok, _ := path.Match(Clean(pattern), p); ok {
			found = append(found, p)
		}
	}
	slices.Sort(found)
	return found
}

// AddFile puts a file owned by root.
func (t *Tree) AddFile(p string, perm uint32, data []byte) error {
	return t.Add(Entry{Path: p, Kind: File, Perm: perm, Data: data})
}

// AddDir puts a directory owned by root.
func (t *Tree) AddDir(p string, perm uint32) error {
	return t.Add(Entry{Path: p, Kind: Dir, Perm: perm})
}

// AddLink puts a symbolic link.
func (t *Tree) AddLink(p, target string) error {
	return t.Add(Entry{Path: p, Kind: Symlink, Perm: 0o777, Link: target})
}

// mergedDirs are the top directories that are links into /usr on a merged
// system (Debian 12 and later); its packages still ship files in both places.
var mergedDirs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// Merged maps a package's path to where it lies on a merged-/usr system.
func Merged(p string) string {
	p = Clean(p)
	top, _, _ := strings.Cut(p, "/")
	if slices.Contains(mergedDirs, top) {
		return "usr/" + p
	}
	return p
}

// AddMergedLinks puts the links /bin, /sbin, /lib and /lib64 into /usr.
func (t *Tree) AddMergedLinks() error {
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := t.AddDir("usr/"+d, 0o755); err != nil {
			return err
		}
		if err := t.AddLink(d, "usr/"+d); err != nil {
			return err
		}
	}
	return nil
}
