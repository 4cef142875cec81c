package tables

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/store"
)

var update = flag.Bool("update", false, "add what is new to the golden file")

// TestSchemaIsCompatible finds fields that were removed, renumbered or retyped, and
// indexes that were removed. Rows with them are on the disks of running clouds.
// New ones are added to the golden file with -update; lines that were released are
// never taken out of it.
func TestSchemaIsCompatible(t *testing.T) {
	name := filepath.Join("testdata", "schema.golden")
	var lines []string
	for _, table := range Schema() {
		lines = append(lines, store.Describe(table)...)
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(golden)) {
		if line = strings.TrimSuffix(line, "\n"); !slices.Contains(lines, line) {
			t.Errorf("gone or changed: %s", line)
		}
	}
}

// TestSchemaOpens shows that every table can be defined and that names are unique.
func TestSchemaOpens(t *testing.T) {
	db := store.NewDB(Schema()...)
	for _, table := range Schema() {
		if !db.Has(table) {
			t.Errorf("the schema lacks %s", table.Name())
		}
	}
}
