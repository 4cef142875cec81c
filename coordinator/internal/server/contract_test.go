package server

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
)

// rolesOf are the roles that calls come with.
var rolesOf = map[string]api.Roles{"root": api.RootAdmin, "domain admin": api.DomainAdmin, "user": api.User}

// What listApis tells each role is exactly what that role may call: everything else is refused with 432, in the envelope
// of a command that does not exist, whether it is another role's or one that is not there at all.
func TestListApisTellsWhatCanBeCalled(t *testing.T) {
	w := newWorld(t)
	facts := apitest.Facts()
	for role, bit := range rolesOf {
		told := map[string]bool{}
		for _, x := range w.must(role, "listApis").list("api") {
			told[x["name"].(string)] = true
		}
		for _, c := range w.registry.Commands() {
			if want := c.Roles&bit != 0; told[c.Name] != want {
				t.Errorf("listApis of a %s has %s: %v, want %v", role, c.Name, told[c.Name], want)
			}
		}
		if role == "root" {
			for _, name := range strings.Fields(wanted) {
				if !told[name] {
					t.Errorf("listApis does not tell %s", name)
				}
			}
		}
		names := apitest.SDKCommands()
		for name := range facts {
			names = append(names, name)
		}
		for _, c := range w.registry.Commands() {
			names = append(names, c.Name)
		}
		for _, name := range names {
			c, ok := w.registry.Find(name)
			if told[name] || ok && c.Roles&api.NoLogin != 0 {
				continue
			}
			if a := w.call(role, name); a.code != 432 || a.envelope != "errorresponse" {
				t.Errorf("%s by a %s, which it may not call: %d %s", name, role, a.code, a.raw)
			}
		}
	}
}

// golden are the kept answers of all packages by command: files are named <command>.json or <command>-<case>.json.
func golden(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(filepath.Dir(path)) != "golden" || filepath.Ext(path) != ".json" {
			return err
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		out[name] = append(out[name], path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Every command has an answer whose bytes are reviewed, and today's SDK decodes all of them.
func TestEveryCommandHasGoldenAnswer(t *testing.T) {
	files := golden(t)
	var without []string
	for _, c := range registry(t).Commands() {
		answered := false
		for _, path := range files[c.Name] {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var top map[string]map[string]any
			if err := json.Unmarshal(b, &top); err != nil || len(top) != 1 {
				t.Fatalf("%s is no answer: %v", path, err)
			}
			for envelope, object := range top {
				if object["errorcode"] != nil {
					continue
				}
				if envelope == "queryasyncjobresultresponse" && c.Name != "queryAsyncJobResult" {
					result, ok := object["jobresult"].(map[string]any)
					if !ok || object["jobstatus"] != 1.0 || object["cmd"] != c.Name {
						continue
					}
					object = result
				} else if c.Async() {
					continue // the answer to the call; the job's matters
				}
				answered = true
				for _, bad := range apitest.DecodeSDK(c.Name, object) {
					t.Errorf("%s: the SDK cannot decode it: %s", path, bad)
				}
			}
		}
		if !answered {
			without = append(without, c.Name)
		}
	}
	slices.Sort(without)
	if d := cmp.Diff([]string(nil), without); d != "" {
		t.Errorf("commands without a golden answer: %s", d)
	}
}
