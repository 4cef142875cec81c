package server

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Types of events that 4.1 did not have: what newer versions call the same, or commands of ours.
var newerTypes = regexp.MustCompile(`^[A-Z][A-Z0-9]*([._][A-Z0-9]+)+$`)

// quiet are the commands that change something and write no event of their own, as in CloudStack: groups are labels of
// their owner's, and each router that upgradeRouterTemplate has begun anew writes its own.
var quiet = []string{"createInstanceGroup", "updateInstanceGroup", "deleteInstanceGroup", "upgradeRouterTemplate"}

// Every command that changes something writes events, of a type whose name is of the form of all; what 4.1 had a name for
// has that name.
func TestCommandsWriteEvents(t *testing.T) {
	b, err := os.ReadFile("testdata/event-types-4.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Fields(string(b))
	var silent, odd []string
	used := map[string]bool{}
	for _, c := range registry(t).Commands() {
		used[c.Event] = true
		switch {
		case c.Event == "" && c.Changes() && !slices.Contains(quiet, c.Name):
			silent = append(silent, c.Name)
		case c.Event != "" && !slices.Contains(old, c.Event) && !newerTypes.MatchString(c.Event):
			odd = append(odd, c.Name+" "+c.Event)
		}
	}
	if d := cmp.Diff([]string(nil), silent); d != "" {
		t.Errorf("commands without events: %s", d)
	}
	if d := cmp.Diff([]string(nil), odd); d != "" {
		t.Errorf("event types of an odd form: %s", d)
	}
	for _, name := range []string{"VM.CREATE", "ZONE.CREATE", "MAINT.PREPARE", "STORAGE.IP.RANGE.CREATE", "CONFIGURATION.VALUE.EDIT"} {
		if !used[name] {
			t.Errorf("no command writes %s", name)
		}
	}
}
