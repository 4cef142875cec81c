package compute_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Every cloud has the sizes that CloudStack has; a later start brings back none that an operator deleted or renamed.
func TestSeed(t *testing.T) {
	r := replicatest.New(t, 1, tables.Schema()...).Nodes[0]
	do := func(f func(tx *store.Tx) error) {
		t.Helper()
		if err := r.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (all []string) {
		at := r.DB().Current()
		for o := range tables.ServiceOfferings.By(at, "name", nil) {
			all = append(all, o.Name)
		}
		for o := range tables.DiskOfferings.By(at, "name", nil) {
			all = append(all, "disk "+o.Name)
		}
		slices.Sort(all)
		return all
	}
	do(compute.Seed)
	fresh := []string{
		"Medium Instance", "Small Instance", "System Offering For Console Proxy", "System Offering For Elastic LB VM",
		"System Offering For Internal LB VM", "System Offering For Secondary Storage VM", "disk Custom", "disk Large", "disk Medium", "disk Small",
	}
	if d := cmp.Diff(fresh, names()); d != "" {
		t.Error(d)
	}
	index := r.DB().Current().Index()
	do(compute.Seed)
	if r.DB().Current().Index() != index {
		t.Error("a second seed wrote")
	}
	small, _ := tables.ServiceOfferings.First(r.DB().Current(), "name", store.K("Small Instance"))
	disk, _ := tables.DiskOfferings.First(r.DB().Current(), "name", store.K("Large"))
	do(func(tx *store.Tx) error {
		small.Removed, disk.Name = tx.Now(), "Big"
		if err := tables.DiskOfferings.Put(tx, disk); err != nil {
			return err
		}
		return tables.ServiceOfferings.Put(tx, small)
	})
	changed := names()
	do(compute.Seed)
	if d := cmp.Diff(changed, names()); d != "" {
		t.Errorf("a later start undid what an operator did: %s", d)
	}
}

// A cloud of the time when these rows had ids of their own gets no second set.
func TestSeedOfAnOlderCloud(t *testing.T) {
	r := replicatest.New(t, 1, tables.Schema()...).Nodes[0]
	err := r.Update(t.Context(), func(tx *store.Tx) error {
		return tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{ID: tx.NewID(), Name: "renamed", System: true, Default: true, SystemVM: "consoleproxy"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Update(t.Context(), compute.Seed); err != nil {
		t.Fatal(err)
	}
	if at := r.DB().Current(); tables.ServiceOfferings.Len(at) != 1 || tables.DiskOfferings.Len(at) != 0 {
		t.Errorf("%d sizes and %d of disks", tables.ServiceOfferings.Len(at), tables.DiskOfferings.Len(at))
	}
}
