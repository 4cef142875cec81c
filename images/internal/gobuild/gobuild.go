// Package gobuild compiles the programs that go into an image.
//
// A program of the test guest uses the standard library alone, and its source is
// embedded in the builder, so it builds wherever a Go tool chain is: no checkout,
// no module download. The product's own programs are built from a checkout. Flags
// that vary between machines are fixed in both, therefore the same source and
// tool chain give the same bytes in any directory.
package gobuild

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// Tools are the programs this package runs.
var Tools = []hosttool.Tool{{Name: "go", Package: "golang-go"}}

// Version is the tool chain's version, an input of every build.
func Version(ctx context.Context) (string, error) {
	out, err := hosttool.Run(ctx, hosttool.Command{Name: "go", Args: []string{"env", "GOVERSION"}, Env: []string{"GOTOOLCHAIN=local"}})
	if err != nil {
		return "", fmt.Errorf("ask go version: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Program is a main package.
type Program struct {
	Module string // import path of the module whose root is the root of Source
	Source fs.FS
	Dir    string // of the main package, in Source
}

// Build compiles p for linux/amd64 without cgo and returns the stripped binary.
// Work happens in a new directory below scratch.
func Build(ctx context.Context, scratch string, p Program) ([]byte, error) {
	dir, err := os.MkdirTemp(scratch, "go-")
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", p.Dir, err)
	}
	defer os.RemoveAll(dir)
	if err := stage(dir, p); err != nil {
		return nil, fmt.Errorf("build %s: %w", p.Dir, err)
	}
	out := filepath.Join(dir, "program.out")
	_, err = hosttool.Run(ctx, hosttool.Command{
		Name: "go", Dir: dir, Env: append(environment("GOCACHE", "GOROOT", "XDG_CACHE_HOME"), "GOPROXY=off", "GOENV=off"),
		Args: []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "./" + p.Dir},
	})
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", p.Dir, err)
	}
	return os.ReadFile(out)
}

// Package is a main package of a checkout.
type Package struct {
	Source  string // root of the checkout
	Dir     string // of the main package, below Source
	Version string // becomes main.version
}

// BuildPackage compiles p as Build does. Modules come from the caller's cache or
// proxy, and are those that the checkout's go.sum names: it is never changed.
func BuildPackage(ctx context.Context, scratch string, p Package) ([]byte, error) {
	if strings.ContainsAny(p.Version, " \t\n'\"") {
		return nil, fmt.Errorf("build %s: version %q has blanks or quotes", p.Dir, p.Version)
	}
	dir, err := os.MkdirTemp(scratch, "go-")
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", p.Dir, err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program.out")
	// Where modules come from does not matter to the bytes, for go.sum says what they are.
	env := environment("GOCACHE", "GOROOT", "XDG_CACHE_HOME", "GOPATH", "GOMODCACHE",
		"GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOENV")
	_, err = hosttool.Run(ctx, hosttool.Command{
		Name: "go", Dir: p.Source, Env: env,
		Args: []string{
			"build", "-mod=readonly", "-trimpath", "-buildvcs=false",
			"-ldflags=-s -w -buildid= -X main.version=" + p.Version, "-o", out, "./" + p.Dir,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", p.Dir, err)
	}
	return os.ReadFile(out)
}

// environment fixes all that changes a program, and takes the named variables
// from the caller.
func environment(inherit ...string) []string {
	env := []string{
		"GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_ENABLED=0",
		"GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local", "GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off",
	}
	for _, name := range inherit {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// stage writes the sources without their tests, and a go.mod.
func stage(dir string, p Program) error {
	err := fs.WalkDir(p.Source, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		b, err := fs.ReadFile(p.Source, name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+p.Module+"\n\ngo 1.26\n"), 0o644)
}
