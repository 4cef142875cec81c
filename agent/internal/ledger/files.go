package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

// Files is where an agent keeps what must outlive it. Names are relative and may hold one directory level.
type Files interface {
	// Read returns fs.ErrNotExist for a name never written.
	Read(name string) ([]byte, error)
	// Replace puts data under name so that after a crash at any point either the old or the new content is there, and
	// after it returned the new one is on the disk. What name held before stays readable as keep, unless keep is "".
	Replace(name, keep string, data []byte) error
	// Remove succeeds when the name is not there.
	Remove(name string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
}

// Dir keeps files in a directory of mode 0700; files are 0600, for they hold passwords.
type Dir struct {
	path string
	mu   sync.Mutex
}

// OpenDir makes the directory when missing.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	return &Dir{path: path}, nil
}

// Read implements Files.
func (d *Dir) Read(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(d.path, name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// Replace implements Files: write and sync a temporary file, keep the old one by a second link, rename, sync the
// directory. The old name is never absent in between.
func (d *Dir) Replace(name, keep string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	target := filepath.Join(d.path, name)
	if err := d.replace(target, keep, data); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return nil
}

func (d *Dir) replace(target, keep string, data []byte) error {
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := target + ".tmp"
	if err := writeSynced(temp, data); err != nil {
		return err
	}
	if keep != "" {
		if err := d.keep(target, filepath.Join(d.path, keep)); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, target); err != nil {
		return err
	}
	return syncDir(dir)
}

func (d *Dir) keep(target, kept string) error {
	temp := kept + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(target, temp); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return os.Rename(temp, kept)
}

func writeSynced(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(path string) (err error) {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// Remove implements Files.
func (d *Dir) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	target := filepath.Join(d.path, name)
	switch err := os.Remove(target); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return syncDir(filepath.Dir(target))
}

// List implements Files.
func (d *Dir) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasSuffix(e.Name(), ".tmp") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Memory is Files for a simulated host: it survives its agent, not its process.
type Memory struct {
	mu    sync.Mutex
	files map[string][]byte
}

// Read implements Files.
func (m *Memory) Read(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	return append([]byte(nil), data...), nil
}

// Replace implements Files.
func (m *Memory) Replace(name, keep string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = map[string][]byte{}
	}
	if old, ok := m.files[name]; ok && keep != "" {
		m.files[keep] = old
	}
	m.files[name] = append([]byte(nil), data...)
	return nil
}

// Remove implements Files.
func (m *Memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

// List implements Files.
func (m *Memory) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.files {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	sort.Strings(names)
	return names, nil
}
