package infra_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// What runs full raises one alert and ends it some way below the threshold; thresholds differ between clusters.
func TestConditions(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	zone, pod, one, two := cloud.ID{1}, cloud.ID{2}, cloud.ID{3}, cloud.ID{4}
	g := settings.New(infra.Settings())
	update := func(f func(tx *store.Tx) error) {
		t.Helper()
		if err := r.Update(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
	put := func(errs ...error) error {
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
	update(func(tx *store.Tx) error {
		return put(
			tables.Zones.Put(tx, &cloud.Zone{ID: zone, Name: "z"}), tables.Pods.Put(tx, &cloud.Pod{ID: pod, ZoneID: zone, Name: "p"}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: one, ZoneID: zone, PodID: pod, Name: "one"}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: two, ZoneID: zone, PodID: pod, Name: "two"}),
			g.SetFor(tx, two, "cluster.memory.allocated.capacity.notificationthreshold", "0.9", nil),
			tables.StoragePools.Put(tx, &cloud.StoragePool{ID: cloud.ID{9}, ZoneID: zone, Name: "nfs", State: cloud.PoolUp, CapacityBytes: 100, UsedBytes: 97}),
		)
	})
	fill := func(percent uint64) {
		t.Helper()
		update(func(tx *store.Tx) error {
			for n, cluster := range []cloud.ID{one, two} {
				id := cloud.ID{byte(20 + n)}
				err := put(
					tables.Hosts.Put(tx, &cloud.Host{
						ID: id, Name: "h", Number: uint64(n + 1), ZoneID: zone, PodID: pod, ClusterID: cluster, CPUs: 1, CPUMHz: 1000,
						MemoryMiB: 100, ResourceState: cloud.HostEnabled,
					}),
					tables.HostCapacities.Put(tx, &cloud.HostCapacity{ID: id, MemoryMiB: percent}),
				)
				if err != nil {
					return err
				}
			}
			return alert.Sync(tx, "watch/", infra.Conditions(tx))
		})
	}
	open := func() []string {
		var out []string
		for a := range tables.Alerts.By(r.DB().Current(), "condition", nil) {
			out = append(out, a.Subject)
		}
		slices.Sort(out)
		return out
	}
	const pool, first, second = "Storage pool nfs is full", "MEMORY of cluster one is running out", "MEMORY of cluster two is running out"
	for _, x := range []struct {
		percent uint64
		want    []string
	}{
		{10, []string{pool}},
		{74, []string{pool}},
		{75, []string{first, pool}},
		{91, []string{first, second, pool}},
		{74, []string{first, pool}}, // the first is not far enough below its threshold
		{72, []string{pool}},
		{74, []string{pool}},
	} {
		fill(x.percent)
		if d := cmp.Diff(x.want, open()); d != "" {
			t.Errorf("at %d %%: %s", x.percent, d)
		}
	}
	if n := tables.Alerts.Len(r.DB().Current()); n != 3 {
		t.Errorf("%d alerts were raised, want 3", n)
	}
}
