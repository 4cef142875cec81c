package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const answer = `{"count":3,"api":[
 {"name":"listZones","description":"Lists zones.","params":[{"name":"id","type":"uuid","related":"listZones"},{"name":"tags","type":"map"},{"name":"page","type":"integer"}]},
 {"name":"deployVirtualMachine","isasync":true,"params":[{"name":"zoneid","type":"uuid","required":true,"description":"the zone"},{"name":"name","type":"string"}]},
 {"name":"login"}]}`

func parsed(t *testing.T) *Catalog {
	t.Helper()
	c, err := Parse([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMatch(t *testing.T) {
	c := parsed(t)
	for _, x := range []struct{ words, want, rest string }{
		{"list zones id=1", "listZones", "id=1"},
		{"listZones", "listZones", ""},
		{"LISTZONES page=1", "listZones", "page=1"},
		{"deploy virtual machine name=x", "deployVirtualMachine", "name=x"},
		{"list", "", ""},
		{"id=1 list zones", "", ""},
	} {
		cmd, rest := c.Match(strings.Fields(x.words))
		name := ""
		if cmd != nil {
			name = cmd.Name
		}
		if name != x.want || strings.Join(rest, " ") != x.rest {
			t.Errorf("%s: %s %q, want %s %q", x.words, name, rest, x.want, x.rest)
		}
	}
	if d := cmp.Diff([]string{"deploy", "list", "login"}, c.Verbs()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"listZones"}, c.Like([]string{"lst", "zone"})); d != "" {
		t.Error(d)
	}
}

func TestCheck(t *testing.T) {
	c := parsed(t)
	for _, x := range []struct {
		command string
		params  map[string]string
		want    string
	}{
		{"listZones", map[string]string{"tags[0].key": "a", "ID": "1"}, ""},
		{"listZones", map[string]string{"pge": "1"}, "did you mean page?"},
		{"listZones", map[string]string{"wholly-other": "1"}, "see wisp describe"},
		{"deployVirtualMachine", map[string]string{"name": "x"}, "needs zoneid (the zone)"},
		{"deployVirtualMachine", map[string]string{"zoneid": ""}, "needs zoneid (the zone)"},
		{"deployVirtualMachine", map[string]string{"ZoneId": "z"}, ""},
	} {
		err := c.Find(x.command).Check(x.params)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s %v: %v, want %q", x.command, x.params, err, x.want)
		}
	}
}

// A kept catalog is used for a day, belongs to one user of one cloud, and what is no catalog is none.
func TestCache(t *testing.T) {
	c, now := Cache{filepath.Join(t.TempDir(), "wisp")}, time.Now()
	if c.Load("http://a", "u", now) != nil {
		t.Error("a catalog out of nothing")
	}
	if err := c.Save("http://a", "u", []byte(answer)); err != nil {
		t.Fatal(err)
	}
	if got := c.Load("http://a", "u", now); got == nil || len(got.Commands) != 3 {
		t.Errorf("%v", got)
	}
	if c.Load("http://a", "v", now) != nil || c.Load("http://b", "u", now) != nil {
		t.Error("another user's catalog, or another cloud's")
	}
	if c.Load("http://a", "u", now.Add(25*time.Hour)) != nil {
		t.Error("an old catalog is believed")
	}
	if err := os.WriteFile(c.path("http://a", "u"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.Load("http://a", "u", now) != nil {
		t.Error("half a catalog is believed")
	}
}
