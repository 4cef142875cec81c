package gobuild

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestBuild(t *testing.T) {
	source := fstest.MapFS{
		"cmd/main.go":      {Data: []byte("package main\n\nimport \"example.org/m/text\"\n\nfunc main() { println(text.Hello) }\n")},
		"text/text.go":     {Data: []byte("package text\n\nconst Hello = \"hello\"\n")},
		"text/bad_test.go": {Data: []byte("does not compile")},
		"notes.txt":        {Data: []byte("not Go")},
	}
	p := Program{Module: "example.org/m", Source: source, Dir: "cmd"}
	first, err := Build(t.Context(), t.TempDir(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOFLAGS", "-ldflags=-X=main.x=y")
	t.Setenv("GOAMD64", "v3")
	scratch := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	second, err := Build(t.Context(), scratch, p)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two builds of the same source differ")
	}
	exe := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(exe, first, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(exe).CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("the program said %q, %v", out, err)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) != 0 {
		t.Errorf("scratch directory holds %v, %v", left, err)
	}
}

// TestBuildPackage builds one checkout in two places; the caller's settings do
// not reach the program, the version does.
func TestBuildPackage(t *testing.T) {
	checkout := func() string {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"go.mod":       "module example.org/m\n\ngo 1.26\n",
			"cmd/main.go":  "package main\n\nimport \"example.org/m/text\"\n\nvar version = \"devel\"\n\nfunc main() { println(text.Hello, version) }\n",
			"text/text.go": "package text\n\nconst Hello = \"hello\"\n",
		} {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	build := func() []byte {
		b, err := BuildPackage(t.Context(), t.TempDir(), Package{Source: checkout(), Dir: "cmd", Version: "v1.2-3-gabc"})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := build()
	t.Setenv("GOFLAGS", "-ldflags=-X=main.version=other")
	t.Setenv("GOAMD64", "v3")
	if !bytes.Equal(first, build()) {
		t.Error("two builds of the same source differ")
	}
	exe := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(exe, first, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(exe).CombinedOutput(); err != nil || string(out) != "hello v1.2-3-gabc\n" {
		t.Errorf("the program said %q, %v", out, err)
	}
	if _, err := BuildPackage(t.Context(), t.TempDir(), Package{Source: checkout(), Dir: "cmd", Version: "a -X main.b=c"}); err == nil {
		t.Error("a version with a blank, which the linker would take for another flag, was accepted")
	}
}

func TestBuildFails(t *testing.T) {
	p := Program{Module: "example.org/m", Source: fstest.MapFS{"cmd/main.go": {Data: []byte("package main\n\nfunc main() { nothing() }\n")}}, Dir: "cmd"}
	if _, err := Build(t.Context(), t.TempDir(), p); err == nil || !strings.Contains(err.Error(), "undefined: nothing") {
		t.Errorf("error %v", err)
	}
}
