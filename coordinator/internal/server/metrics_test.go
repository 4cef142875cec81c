package server

import (
	"reflect"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
)

// metricsLists are the lists that tell more of the rows of another one, what selects the rows of a whole world that have
// everything, and what each row must tell beside.
var metricsLists = []struct {
	name, of string
	params   func(w *whole) []string
	more     map[string]any
}{
	{"listVirtualMachinesMetrics", "listVirtualMachines", ofProject, map[string]any{
		"cputotal": "0.5 Ghz", "memorytotal": "0.06 GiB", "networkread": "0.00 MiB", "networkwrite": "0.00 MiB", "diskread": "0.00 MiB",
		"diskwrite": "0.00 MiB", "diskiopstotal": 11.0,
	}},
	{"listVolumesMetrics", "listVolumes", ofProject, map[string]any{"sizegb": "0.00 GiB"}},
}

func ofProject(w *whole) []string { return []string{"projectid", w.user["project"].String()} }

// A metrics list takes the parameters of the list it is named after, and has its rows, each with more in it.
func TestMetricsLists(t *testing.T) {
	w := newWhole(t)
	described := map[string]api.Description{}
	for _, d := range w.registry.Describe(api.RootAdmin) {
		described[d.Name] = d
	}
	for _, x := range metricsLists {
		base, _ := w.registry.Find(x.of)
		c, ok := w.registry.Find(x.name)
		if !ok || c.Object != base.Object {
			t.Fatalf("%s is not there, or its rows are not called %s", x.name, base.Object)
		}
		if d := diff.Diff(described[x.of].Params, described[x.name].Params); d != "" {
			t.Errorf("parameters of %s (-%s): %s", x.name, x.of, d)
		}
		rows := w.golden("root", x.name+"-whole", x.params(w)...).list(c.Object)
		told := map[string]any{}
		for _, r := range rows {
			for name := range x.more {
				if r[name] != nil {
					told[name] = r[name]
				}
			}
		}
		if d := diff.Diff(x.more, told); d != "" {
			t.Errorf("what %s tells beside (-want +got): %s", x.name, d)
		}
		for _, caller := range []string{"root", "domain admin", "user"} {
			if c.Roles&rolesOf[caller] == 0 {
				continue
			}
			for _, params := range [][]string{nil, {"listall", "true"}, {"listall", "true", "page", "1", "pagesize", "2"}, {"keyword", "o"}, x.params(w)} {
				want, got := w.call(caller, x.of, params...), w.call(caller, x.name, params...)
				if want.code != got.code || want.object["count"] != got.object["count"] {
					t.Errorf("%s by %s with %q: %s, and %s %s", x.name, caller, params, got.raw, x.of, want.raw)
				}
				shorter := got.list(c.Object)
				for _, r := range shorter {
					for name := range x.more {
						delete(r, name)
					}
				}
				if wanted := want.list(c.Object); !reflect.DeepEqual(wanted, shorter) {
					t.Errorf("%s by %s with %q (-%s): %s", x.name, caller, params, x.of, diff.Diff(wanted, shorter))
				}
			}
		}
	}
}
