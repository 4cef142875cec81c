package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/wispcloud/wisp/proto/netspec"
)

// TestExamples applies the example of each service's README.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../*/README.md")
	if err != nil || len(files) < 9 {
		t.Fatalf("found %d READMEs, %v", len(files), err)
	}
	l := newLab(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, example, _ := strings.Cut(string(text), "```textproto\n")
		example, _, found := strings.Cut(example, "```")
		if !found {
			t.Errorf("%s has no example", file)
			continue
		}
		var s netspec.NetSpec
		if err := prototext.Unmarshal([]byte(example), &s); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		l.apply(&s)
		t.Logf("%s: applied", file)
	}
}
