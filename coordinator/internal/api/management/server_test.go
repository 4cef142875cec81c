package management_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/management"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
)

// newWorld has three coordinators: "one" leads, "three" is not heard. "two" tells little of itself, as one whose machine does
// not let it read more.
func newWorld(t *testing.T) *apitest.Cloud {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	host := cloud.NameID("test", "host")
	figures := map[string]*management.Figures{
		"one": {
			Version: "1.2", Taken: at, Started: at.Add(-100 * time.Second), Booted: at.Add(-time.Hour), Kernel: "6.1.0", OS: "Debian", Hosts: []cloud.ID{host},
			Processors: 4, Load: [3]float64{0.5, 0.25, 0}, Cycles: [3]int64{300, 200, 100}, ProcessCPU: 8, Threads: 12, HeapTotal: 2000, HeapUsed: 1000,
			Resident: 33 << 20, Virtual: 3 << 29, Memory: 16 << 30, MemoryFree: 1 << 30,
		},
		"two": {Version: "1.1", Taken: at},
	}
	d := management.Deps{
		Members: func() ([]replica.MemberInfo, error) {
			return []replica.MemberInfo{
				{ID: "two", Address: "192.0.2.2:8300", Row: cloud.NameID("member", "two")}, {ID: "three", Address: "192.0.2.3:8300", Row: cloud.NameID("member", "three"), Silent: true},
				{ID: "one", Address: "192.0.2.1:8300", Row: cloud.NameID("member", "one"), Leader: true},
			}, nil
		},
		Figures: func(_ context.Context, members []replica.MemberInfo) map[string]*management.Figures {
			out := map[string]*management.Figures{}
			for _, m := range members {
				if f, ok := figures[m.ID]; ok {
					out[m.ID] = f
				}
			}
			return out
		},
	}
	w := apitest.New(t, apitest.Config{Commands: management.Commands(d)})
	w.Name(host, "host")
	return w
}

func TestServers(t *testing.T) {
	w := newWorld(t)
	for _, command := range []string{"listManagementServers", "listManagementServersMetrics"} {
		a := w.Must("root", command)
		w.Golden(command, a)
		w.CheckSDK(command, a)
		for _, x := range []struct{ want, name, value string }{
			{"one", "version", "1.2"},
			{"", "version", "9"},
			{"three", "name", "three"},
			{"two", "id", cloud.NameID("member", "two").String()},
			{"one three", "keyword", "E"},
		} {
			var got []string
			rows, _ := w.Must("root", command, x.name, x.value).Object["managementserver"].([]any)
			for _, row := range rows {
				got = append(got, row.(map[string]any)["name"].(string))
			}
			if d := cmp.Diff(strings.Fields(x.want), append([]string{}, got...)); d != "" {
				t.Errorf("%s %s=%s: %s", command, x.name, x.value, d)
			}
		}
		if text, code := w.Call("a-admin", command).Error(); code != 432 {
			t.Errorf("%s by a domain admin: %d %s", command, code, text)
		}
	}
}
