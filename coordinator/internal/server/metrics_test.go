package server

import (
	"maps"
	"reflect"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
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
	{"listHostsMetrics", "listHosts", its("host"), with(thresholds, map[string]any{
		"instances": "1 / 1", "systeminstances": "1 / 1", "cputotalghz": "8.00 Ghz", "cpuusedghz": "1.00 Ghz", "cpuallocatedghz": "6.40 Ghz",
		"memorytotalgb": "1.00 GiB", "memoryusedgb": "0.50 GiB", "memoryallocatedgb": "0.90 GiB", "networkread": "0.00 GiB", "networkwrite": "0.00 GiB",
	})},
	{"listClustersMetrics", "listClusters", its("cluster"), with(thresholds, sums, map[string]any{"state": "Enabled", "hosts": "1 / 1"})},
	{"listZonesMetrics", "listZones", its("zone"), with(thresholds, sums, map[string]any{"state": "Enabled", "clusters": "1 / 1"})},
	{"listStoragePoolsMetrics", "listStoragePools", func(*whole) []string { return []string{"name", "pool"} }, map[string]any{
		"disksizetotalgb": "8.00 GiB (x2.0)", "disksizeusedgb": "7.00 GiB", "disksizeallocatedgb": "14.00 GiB", "disksizeunallocatedgb": "2.00 GiB",
		"storageusagethreshold": true, "storageusagedisablethreshold": true, "storageallocatedthreshold": true, "storageallocateddisablethreshold": true,
	}},
}

// thresholds and sums are of the one host that the whole world has.
var (
	thresholds = map[string]any{
		"cpuallocatedthreshold": true, "cpuallocateddisablethreshold": false, "memoryallocatedthreshold": true, "memoryallocateddisablethreshold": true,
	}
	sums = map[string]any{
		"cputotal": "8.00 Ghz", "cpuused": "12.50%", "cpuallocated": "80.00%", "memorytotal": "1.00 GiB", "memoryused": "50.00%", "memoryallocated": "90.04%",
	}
)

func with(all ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// its gives the id of one thing of the infrastructure.
func its(entity string) func(*whole) []string {
	return func(w *whole) []string { return []string{"id", w.infra[entity].String()} }
}

func ofProject(w *whole) []string { return []string{"projectid", w.user["project"].String()} }

// allocate gives the host memory, and of it and its CPU so much to VMs that some thresholds are crossed; and the pool likewise.
func (w *whole) allocate() {
	w.t.Helper()
	edit(w.world, tables.Hosts, w.infra["host"], func(h *cloud.Host) { h.MemoryMiB = 1024 })
	edit(w.world, tables.Clusters, w.infra["cluster"], func(k *cloud.Cluster) { k.Managed, k.AllocationState = true, cloud.AllocationEnabled })
	edit(w.world, tables.StoragePools, cloud.NameID("whole", "pool"), func(p *cloud.StoragePool) {
		p.CapacityBytes, p.UsedBytes, p.AllocatedBytes = 8<<30, 7<<30, 14<<30
	})
	w.update(func(tx *store.Tx) error {
		return tables.HostCapacities.Put(tx, &cloud.HostCapacity{ID: w.infra["host"], CPUMHz: 6400, MemoryMiB: 922})
	})
}

// A metrics list takes the parameters of the list it is named after, and has its rows, each with more in it.
func TestMetricsLists(t *testing.T) {
	w := newWhole(t)
	w.allocate()
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
