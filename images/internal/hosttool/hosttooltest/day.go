// Package hosttooltest lets the tools of a build run on another day, for tests
// that two builds give the same bytes.
package hosttooltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// AnotherDay has tools run with a clock of more than a year ahead until the test
// ends. Seconds alone would not do: a date of FAT is a day. Left out are apt's
// tools, whose lists would be out of date, and Go, which takes no clock from a
// library; what Go writes of the time has seconds, so a later build shows it.
func AnotherDay(t *testing.T, tools []hosttool.Tool) {
	t.Helper()
	faketime, err := exec.LookPath("faketime")
	if err != nil {
		t.Fatalf("%v: install the Debian package faketime", err)
	}
	dir := t.TempDir()
	for _, tool := range append([]hosttool.Tool{{Name: "date"}}, tools...) {
		if tool.Name == "go" || tool.Package == "apt" {
			continue
		}
		path, err := hosttool.Path(tool.Name)
		if err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\nDONT_FAKE_MONOTONIC=1 exec " + faketime + " -f +401d '" + path + "' \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, tool.Name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	out, err := hosttool.Run(t.Context(), hosttool.Command{Name: "date", Args: []string{"+%s"}})
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if ahead := time.Until(time.Unix(seconds, 0)); err != nil || ahead < 400*24*time.Hour {
		t.Fatalf("the tools' clock is %s ahead, %v", ahead, err)
	}
}
