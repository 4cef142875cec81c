package output

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func decode(t *testing.T, s string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPrint(t *testing.T) {
	const list = `{"count":2,"zone":[{"id":"1","name":"n\u00f6rd","size":12345678901,"nic":[{"a":1}]},{"id":"2","name":"s\u001b[31mx"}]}`
	for _, x := range []struct{ name, answer, format, columns, want string }{
		{"table", list, "table", "", "ID  NAME     NIC        SIZE\n1   nörd     [{\"a\":1}]  12345678901\n2   s [31mx\n"},
		{"chosen", list, "table", "size,id", "SIZE         ID\n12345678901  1\n             2\n"},
		{"csv", list, "csv", "name,nic", "name,nic\nnörd,\"[{\"\"a\"\":1}]\"\ns [31mx,\n"},
		{"text", list, "text", "id,size", "id = 1\nsize = 12345678901\n\nid = 2\n"},
		{"yaml", `{"zone":{"id":"1","n":3,"f":1.5}}`, "yaml", "", "zone:\n  f: 1.5\n  id: \"1\"\n  \"n\": 3\n"},
		{"one object", `{"zone":{"id":"1","name":"x"}}`, "table", "", "ID  NAME\n1   x\n"},
		{"flat", `{"success":"true"}`, "table", "", "SUCCESS\ntrue\n"},
		{"nothing", `{}`, "table", "", ""},
		{"empty list", `{"count":0}`, "csv", "", ""},
		{"object with a list", `{"id":"1","names":["a"]}`, "text", "", "id = 1\nnames = [\"a\"]\n"},
		{"json, chosen", list, "json", "id", "{\n  \"count\": 2,\n  \"zone\": [\n    {\n      \"id\": \"1\"\n    },\n    {\n      \"id\": \"2\"\n    }\n  ]\n}\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var columns []string
			if x.columns != "" {
				columns = strings.Split(x.columns, ",")
			}
			var b strings.Builder
			if err := Print(&b, x.format, decode(t, x.answer), columns); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(x.want, b.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

// A table that nobody chose columns for has the usual ones, not all eighty.
func TestUsualColumns(t *testing.T) {
	row := map[string]any{}
	for _, k := range []string{"id", "name", "state", "zonename", "a", "b", "c", "d", "e", "f"} {
		row[k] = "x"
	}
	if d := cmp.Diff([]string{"id", "name", "state", "zonename"}, fields([]map[string]any{row}, true)); d != "" {
		t.Error(d)
	}
}
