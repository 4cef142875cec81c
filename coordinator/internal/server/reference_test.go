package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/reference"
)

const referenceDir = "../../../docs/api"

// The pages of the reference are those of the commands. go test -update writes them.
func TestReferenceIsFresh(t *testing.T) {
	pages := reference.Pages(registry(t))
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.RemoveAll(referenceDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(referenceDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range pages {
			if err := os.WriteFile(filepath.Join(referenceDir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var stale []string
	for name, text := range pages {
		if b, err := os.ReadFile(filepath.Join(referenceDir, name)); err != nil || string(b) != text {
			stale = append(stale, name)
		}
	}
	kept, err := filepath.Glob(filepath.Join(referenceDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if _, ok := pages[filepath.Base(path)]; !ok {
			stale = append(stale, filepath.Base(path))
		}
	}
	slices.Sort(stale)
	if len(stale) > 0 {
		t.Errorf("docs/api is not what the commands say: %s; go test ./coordinator/internal/server -run Reference -update writes it", strings.Join(stale, " "))
	}
}

// The OpenAPI document names every command of listApis, refers to nothing that it does not hold, and is the same each
// time.
func TestOpenAPI(t *testing.T) {
	g := registry(t)
	b, err := reference.OpenAPI(g, "test")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := reference.OpenAPI(g, "test"); !bytes.Equal(b, again) {
		t.Error("two documents of the same commands differ")
	}
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ OperationID string }
		Components struct{ Schemas, Responses map[string]json.RawMessage }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi %q", doc.OpenAPI)
	}
	all := g.Describe(api.Everyone | api.NoLogin)
	if len(doc.Paths) != len(all) {
		t.Errorf("%d paths, want %d", len(doc.Paths), len(all))
	}
	for _, d := range all {
		if got := doc.Paths["/client/api/"+d.Name]["post"].OperationID; got != d.Name {
			t.Errorf("%s: operation %q", d.Name, got)
		}
	}
	for _, part := range strings.Split(string(b), `"$ref": "#/components/`)[1:] {
		ref, _, _ := strings.Cut(part, `"`)
		kind, name, _ := strings.Cut(ref, "/")
		held := map[string]map[string]json.RawMessage{"schemas": doc.Components.Schemas, "responses": doc.Components.Responses}
		if held[kind][name] == nil {
			t.Errorf("the document refers to %s, which it does not hold", ref)
		}
	}
	t.Logf("%d bytes, %d schemas", len(b), len(doc.Components.Schemas))
}

// What is served is what is made, packed or not; the path of a command in it works as an endpoint.
func TestOpenAPIIsServed(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	want, err := reference.OpenAPI(r.registry, "test")
	if err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, "http://"+r.cfg.Plain[0]+"/client/api/openapi.json"); code != 200 || body != string(want) {
		t.Errorf("%d, %d bytes, want %d", code, len(body), len(want))
	}
	if code, body := get(t, "http://"+r.cfg.Plain[0]+"/client/api/listZones?command=listZones&response=json"); code != 401 {
		t.Errorf("a command's path: %d %s", code, body)
	}
}
