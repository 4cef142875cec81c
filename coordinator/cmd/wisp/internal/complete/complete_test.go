package complete

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/catalog"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
)

const answer = `{"api":[
 {"name":"listZones","description":"Lists zones.","params":[{"name":"id","type":"uuid"},{"name":"available","type":"boolean"}]},
 {"name":"listTemplates","params":[{"name":"templatefilter","type":"string","required":true},{"name":"zoneid","type":"uuid","related":"listZones"}]},
 {"name":"listNetworks","params":[{"name":"zoneid","type":"uuid"},{"name":"listall","type":"boolean"}]},
 {"name":"listSecrets","params":[{"name":"key","type":"string","required":true}]},
 {"name":"deployVirtualMachine","params":[{"name":"zoneid","type":"uuid","required":true,"related":"listZones"},{"name":"templateid","type":"uuid","related":"listTemplates"},
  {"name":"networkids","type":"list","related":"listNetworks"},{"name":"secretid","type":"uuid","related":"listSecrets"},{"name":"name","type":"string"}]},
 {"name":"deleteZone","params":[{"name":"id","type":"uuid","required":true,"description":"the zone"}]}]}`

func TestWords(t *testing.T) {
	known, err := catalog.Parse([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	var asked string
	c := Completer{Catalog: known, Call: func(_ context.Context, command string, params map[string]string) (client.Object, error) {
		b, _ := json.Marshal(params)
		asked = command + " " + string(b)
		switch command {
		case "listZones":
			return client.Object{"count": 2, "zone": []any{map[string]any{"id": "z1", "name": "north"}, map[string]any{"id": "z2", "name": "south"}}}, nil
		case "listTemplates":
			return client.Object{"template": []any{map[string]any{"id": "t1", "displayname": "Debian"}}}, nil
		case "listNetworks":
			return client.Object{"network": []any{map[string]any{"id": "n1", "name": "blue"}, map[string]any{"id": "n2", "name": "red"}}}, nil
		}
		return nil, errors.New("no")
	}}
	for _, x := range []struct{ before, begun, want, asked string }{
		{"", "", "delete| deploy| list|", ""},
		{"", "de", "delete| deploy|", ""},
		{"", "listZ", "listZones|Lists zones.", ""},
		{"list", "z", "zones|Lists zones.", ""},
		{"delete zone", "", "id=|(needed) the zone", ""},
		{"delete zone", "id=", "id=z1|north id=z2|south", `listZones {}`},
		{"delete zone", "id=z2", "id=z2|south", `listZones {}`},
		{"list zones", "available=", "available=true| available=false|", ""},
		{"deploy virtualmachine zoneid=z1", "templateid=", "templateid=t1|Debian", `listTemplates {"templatefilter":"executable","zoneid":"z1"}`},
		{"deployVirtualMachine", "networkids=n1,", "networkids=n1,n1|blue networkids=n1,n2|red", `listNetworks {"listall":"true"}`},
		{"deployVirtualMachine zoneid=z1", "z", "", ""},
		{"deployVirtualMachine", "secretid=", "", ""},
		{"deployVirtualMachine", "name=", "", ""},
		{"no such thing", "", "", ""},
	} {
		asked = ""
		var got []string
		for _, w := range c.Words(context.Background(), strings.Fields(x.before), x.begun) {
			got = append(got, w.Word+"|"+w.About)
		}
		if d := cmp.Diff(x.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%q %q: %s", x.before, x.begun, d)
		}
		if asked != x.asked && !(x.asked == "" && len(got) == 0) {
			t.Errorf("%q %q asked %s, want %s", x.before, x.begun, asked, x.asked)
		}
	}
}
