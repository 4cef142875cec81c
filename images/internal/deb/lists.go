package deb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Lists answers Resolve from a file as long as apt's own state has not changed:
// asking apt takes the better part of a second, and most builds ask in vain.
type Lists struct {
	File string
}

// aptState is what candidates depend on: the archives' lists, what is installed,
// and the sources and pins.
var aptState = []string{"/var/lib/apt/lists", "/var/lib/dpkg/status", "/etc/apt"}

type answers struct {
	State    string
	Resolved map[string]answer
}

type answer struct {
	Package Package
	Depends []string
}

// Resolve is the function of that name, through the file.
func (l Lists) Resolve(ctx context.Context, names ...string) ([]Package, error) {
	state, err := fingerprint(aptState)
	if err != nil {
		return nil, fmt.Errorf("resolve packages: %w", err)
	}
	known := l.load(state)
	var unknown []string
	for _, n := range names {
		if _, ok := known.Resolved[n]; !ok {
			unknown = append(unknown, n)
		}
	}
	if unknown != nil {
		found, err := Resolve(ctx, unknown...)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			known.Resolved[p.Name] = answer{Package: p, Depends: p.Depends}
		}
		if err := l.save(known); err != nil {
			return nil, err
		}
	}
	var resolved []Package
	for _, n := range names {
		a := known.Resolved[n]
		a.Package.Depends = a.Depends
		resolved = append(resolved, a.Package)
	}
	return resolved, nil
}

// load returns no answers if the file is absent, damaged or of another state.
func (l Lists) load(state string) answers {
	empty := answers{State: state, Resolved: map[string]answer{}}
	b, err := os.ReadFile(l.File)
	if err != nil {
		return empty
	}
	var known answers
	if json.Unmarshal(b, &known) != nil || known.State != state || known.Resolved == nil {
		return empty
	}
	return known
}

func (l Lists) save(known answers) error {
	b, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.File), 0o755); err != nil {
		return fmt.Errorf("keep resolved packages: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(l.File), ".lists-")
	if err != nil {
		return fmt.Errorf("keep resolved packages: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), l.File)
	}
	if err != nil {
		return fmt.Errorf("keep resolved packages: %w", err)
	}
	return nil
}

// fingerprint changes when a file below paths comes, goes or is written.
func fingerprint(paths []string) (string, error) {
	h := sha256.New()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) || os.IsPermission(err) {
				return nil // such as lists/partial, which only apt may read
			}
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if os.IsNotExist(err) {
				return nil // apt is at work; the next look sees what it did
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(h, p, info.Size(), info.ModTime().UnixNano())
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
