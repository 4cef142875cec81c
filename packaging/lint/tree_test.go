package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/wispcloud/wisp"

// source is one Go file of ours.
type source struct {
	path  string // from the root, with slashes
	file  *ast.File
	fset  *token.FileSet
	lines int
}

func (s source) dir() string { return filepath.Dir(s.path) }

func (s source) generated() bool { return ast.IsGenerated(s.file) }

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// ours lists the packages of this module that the file imports, without the
// module's name.
func (s source) ours() []string {
	var all []string
	for _, i := range s.file.Imports {
		if rest, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module+"/"); ok {
			all = append(all, rest)
		}
	}
	return all
}

// root is the directory of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files lists what is in the repository or would be with the next commit.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list files of the repository: %v", err)
	}
	var all []string
	for name := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
		info, err := os.Lstat(filepath.Join(cmd.Dir, string(name)))
		if err == nil && info.Mode().IsRegular() {
			all = append(all, string(name))
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d files found in %s", len(all), cmd.Dir)
	}
	return all
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		all = append(all, source{path: name, file: file, fset: fset, lines: bytes.Count(text, []byte{'\n'})})
	}
	return all
}

// check compares what a rule found, as "subject: remark", with the exceptions
// of allow.txt.
func check(t *testing.T, rule string, found []string) {
	t.Helper()
	text, err := os.ReadFile("allow.txt")
	if err != nil {
		t.Fatal(err)
	}
	left, remarks := apply(rule, string(text), found)
	for _, remark := range append(left, remarks...) {
		t.Error(remark)
	}
}

// apply returns what no exception covers, and remarks about the exceptions.
func apply(rule, allow string, found []string) (left, remarks []string) {
	used := map[string]bool{}
	for line := range strings.Lines(allow) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") || fields[0] != rule {
			continue
		}
		if len(fields) < 4 {
			remarks = append(remarks, fmt.Sprintf("allow.txt: %q gives no reason", strings.TrimSpace(line)))
			continue
		}
		used[fields[1]] = false
	}
	for _, f := range found {
		subject, _, _ := strings.Cut(f, ": ")
		if _, ok := used[subject]; ok {
			used[subject] = true
			continue
		}
		left = append(left, f)
	}
	for subject, is := range used {
		if !is {
			remarks = append(remarks, fmt.Sprintf("allow.txt: %s %s is no longer needed", rule, subject))
		}
	}
	slices.Sort(remarks)
	return left, remarks
}

func TestApply(t *testing.T) {
	allow := "# comment\n\nsize a.go it is one table\nsize gone.go was split since\nsize bare.go\nname a.go is another rule's\n"
	left, remarks := apply("size", allow, []string{"a.go: 700 lines", "b.go: 601 lines"})
	if want := []string{"b.go: 601 lines"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	want := []string{`allow.txt: "size bare.go" gives no reason`, "allow.txt: size gone.go is no longer needed"}
	if !slices.Equal(remarks, want) {
		t.Errorf("remarks %q, want %q", remarks, want)
	}
}
