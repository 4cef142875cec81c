package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
)

type boundParams struct {
	List []string          `api:"list" doc:"a list"`
	Map  map[string]string `api:"map,map" doc:"a map"`
}

type boundAnswer struct {
	Items int `json:"items" doc:"how many"`
}

// One parameter of the size of a whole body holds no more than handlers can bear: they compare items with each other, and
// what they keep is kept by every coordinator.
func TestOneParameterIsBounded(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: []api.Command{{
		Name: "countItems", Doc: "Counts.", Roles: api.Everyone, Object: "count",
		Run: api.Query(func(_ *api.Call, p *boundParams) (boundAnswer, error) {
			return boundAnswer{len(p.List) + len(p.Map)}, nil
		}),
	}}})
	pairs := func(n, size int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("map[%d].key", i), fmt.Sprint("k", i), fmt.Sprintf("map[%d].value", i), strings.Repeat("v", size))
		}
		return out
	}
	items := func(n int) []string { return []string{"list", strings.TrimSuffix(strings.Repeat("x,", n), ",")} }
	for _, x := range []struct {
		what   string
		params []string
		want   string // of the refusal; empty: none
	}{
		{"a thousand items", items(1000), ""},
		{"one more", items(1001), "Parameter list names 1001 values; at most 1000 are accepted"},
		{"a body full", items(400000), "Parameter list names 400000 values"},
		{"200 pairs", pairs(200, 10), ""},
		{"201 pairs", pairs(201, 10), "Parameter map holds 201 pairs"},
		{"pairs of much text", pairs(40, 4000), "at most 200 pairs of 131072 bytes are accepted"},
	} {
		a := c.Call("a-user", "countItems", x.params...)
		text, code := a.Error()
		if x.want == "" && a.Status != 200 || x.want != "" && (code != 431 || !strings.Contains(text, x.want)) {
			t.Errorf("%s: %d %.200s", x.what, code, text)
		}
	}
}
