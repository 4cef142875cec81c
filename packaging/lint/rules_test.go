package lint

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Beyond these a second noun has usually appeared.
const (
	maxFileLines     = 600
	maxFunctionLines = 80
)

func TestFileLength(t *testing.T) {
	var found []string
	for _, s := range sources(t) {
		if s.lines > maxFileLines && !s.generated() {
			found = append(found, fmt.Sprintf("%s: %d lines, split it at the second noun (at most %d)", s.path, s.lines, maxFileLines))
		}
	}
	check(t, "file-length", found)
}

// Tests are left out: a long table is easier to read than two half ones.
func TestFunctionLength(t *testing.T) {
	var found []string
	for _, s := range sources(t) {
		if s.generated() || s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if lines > maxFunctionLines {
				found = append(found, fmt.Sprintf("%s:%s: %d lines (at most %d)", s.path, f.Name.Name, lines, maxFunctionLines))
			}
		}
	}
	check(t, "function-length", found)
}

func TestPackageDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		documented[s.dir()] = documented[s.dir()] || s.file.Doc != nil
	}
	var found []string
	for dir, is := range documented {
		if !is {
			found = append(found, dir+": no file has a package comment that says what the package is for and why")
		}
	}
	slices.Sort(found)
	check(t, "package-doc", found)
}

// Packages are nouns for what they hold.
func TestPackageName(t *testing.T) {
	empty := []string{"util", "utils", "common", "manager", "helper", "helpers", "misc", "base", "shared"}
	var found []string
	for _, s := range sources(t) {
		if name := strings.TrimSuffix(s.file.Name.Name, "_test"); slices.Contains(empty, name) {
			found = append(found, fmt.Sprintf("%s: package %s says nothing", s.dir(), name))
		}
	}
	slices.Sort(found)
	check(t, "package-name", slices.Compact(found))
}

// TestSiblings: one network service imports no other; what several need is the
// kernel door or the contract.
func TestSiblings(t *testing.T) {
	// What is in netsvc without being a service of a namespace.
	frame := []string{"cmd", "namespace", "specsource", "kernel", "netsvctest"}
	var found []string
	for _, s := range sources(t) {
		parts := strings.Split(s.path, "/")
		if parts[0] != "netsvc" || len(parts) < 3 || slices.Contains(frame, parts[1]) || s.test() {
			continue
		}
		for _, i := range s.ours() {
			to := strings.Split(i, "/")
			if i == "proto/netspec" || to[0] == "netsvc" && len(to) > 1 && (to[1] == parts[1] || to[1] == "kernel") {
				continue
			}
			found = append(found, fmt.Sprintf("%s: imports %s, a service knows only netsvc/kernel and proto/netspec", s.path, i))
		}
	}
	check(t, "sibling", found)
}

// TestTopLevel: the rooms are fixed; a new one is a decision.
func TestTopLevel(t *testing.T) {
	rooms := []string{
		"agent", "coordinator", "systemvm", "netsvc", "proto", "packaging", "images", "docs",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "buf.yaml", "buf.gen.yaml",
	}
	var found []string
	for _, f := range files(t) {
		top, _, _ := strings.Cut(f, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(rooms, top) {
			found = append(found, f+": the top level holds the rooms of the house only")
		}
	}
	check(t, "top-level", found)
}

// TestForbiddenText: nothing in the tree may depend on where it was written or
// on who serves its modules and packages.
func TestForbiddenText(t *testing.T) {
	// Cut in two so that the rule does not find itself.
	words := []string{
		"proxy.gol" + "ang.org", "sum.gol" + "ang.org", "gopr" + "oxy.", "registry.np" + "mjs", "pypi" + ".org",
		"files.python" + "hosted", "deb.deb" + "ian.org", "docker" + ".io/", "ghcr" + ".io/", "quay" + ".io/",
		"/work" + "/main", "/work" + "/shared", "/tmp" + "/w/", "/root/." + "cache", "farm" + "-",
	}
	var found []string
	for _, f := range files(t) {
		if base := path.Base(f); base == "go.mod" || base == "go.sum" || base == "LICENSE" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root(t), f))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if i := strings.Index(string(text), w); i >= 0 {
				line := 1 + strings.Count(string(text[:i]), "\n")
				found = append(found, fmt.Sprintf("%s: line %d holds %q", f, line, w))
			}
		}
	}
	check(t, "text", found)
}

// TestPrograms: main packages stand in <room>/cmd/<binary>, where make build
// looks for them, or are run by make with go run.
func TestPrograms(t *testing.T) {
	var found []string
	for _, s := range sources(t) {
		if s.file.Name.Name != "main" || s.test() {
			continue
		}
		parts := strings.Split(s.dir(), "/")
		n := len(parts)
		if n >= 3 && n <= 4 && parts[n-2] == "cmd" {
			continue
		}
		found = append(found, s.dir()+": a program's place is <room>/cmd/<binary>")
	}
	slices.Sort(found)
	check(t, "program", slices.Compact(found))
}
