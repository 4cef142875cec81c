package compute_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

const memoryThreshold = "cluster.memory.allocated.capacity.disablethreshold"

// A cluster of one host takes new VMs up to its thresholds; what is left is for one that comes back, and a cluster may
// have thresholds of its own. Over-provisioning counts as memory does.
func TestThresholds(t *testing.T) {
	w := newWorld(t, 1) // 4096 MiB, of which 3481 may be allocated; VMs have 1024
	g := settings.New(append(compute.Settings(), infra.Settings()...))
	first := w.running(t)
	w.running(t)
	w.running(t)
	refused := func(want string) {
		t.Helper()
		vm, err := w.deploy(t)
		if err != nil {
			t.Fatal(err)
		}
		over, err := w.step(t, vm, w.area.StartStep, "").Final()
		if !over || err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("over %v, error %v; want %q", over, err, want)
		}
	}
	refused("host h1: 1024 MiB memory are wanted and 409 of the 3481 are free that may be allocated of its cluster's 4096 (setting " + memoryThreshold + ")")

	w.update(t, func(tx *store.Tx) error { return w.area.Stop(tx, mustVM(t, tx, first.ID), true) })
	w.settle(t)
	w.running(t)
	w.update(t, func(tx *store.Tx) error { return w.area.Start(tx, mustVM(t, tx, first.ID), cloud.ID{}) })
	w.step(t, first.ID, w.area.StartStep, "")
	w.settle(t)
	if v := mustVM(t, w.r.DB().Current(), first.ID); v.State != cloud.VMRunning {
		t.Fatalf("a VM that comes back to its host is %s: %s", v.State, v.Error)
	}
	w.update(t, func(tx *store.Tx) error { return w.area.Destroy(tx, mustVM(t, tx, first.ID), true) })
	w.settle(t)

	w.update(t, func(tx *store.Tx) error { return g.SetFor(tx, id(3), memoryThreshold, "1", nil) })
	w.running(t)
	refused("1024 MiB memory are wanted and 0 of 4096 MiB are free")

	// Twice the memory, at 0.85 again: 6963 MiB.
	w.update(t, func(tx *store.Tx) error {
		if err := g.SetFor(tx, id(3), memoryThreshold, "0.85", nil); err != nil {
			return err
		}
		return tables.Clusters.Edit(tx, id(3), func(c *cloud.Cluster) error { c.MemOvercommit = 2; return nil })
	})
	w.running(t)
	w.running(t)
	refused("1024 MiB memory are wanted and 819 of the 6963 are free")
	w.check(t)
}

// A highly available VM that lost its host may have what clusters keep free for that.
func TestThresholdsSpareRestarts(t *testing.T) {
	w := newWorld(t, 2) // 8192 MiB, of which 6963 may be allocated
	w.share(t, true)
	var vms []cloud.ID
	for range 4 {
		vms = append(vms, w.running(t).ID)
	}
	lost := mustVM(t, w.r.DB().Current(), vms[0]).HostID
	// Of the other host's 4096 MiB two VMs have 2048; as if half of the cluster were gone, its threshold is crossed by more.
	g := settings.New(compute.Settings())
	w.update(t, func(tx *store.Tx) error { return g.SetFor(tx, id(3), memoryThreshold, "0.2", nil) })
	w.status(t, lost, cloud.HostAlert)
	if err := w.declare(lost); err != nil {
		t.Fatal(err)
	}
	for _, vm := range w.haJobs() {
		w.step(t, vm, w.area.HAStep, "")
	}
	w.settle(t)
	for _, vm := range vms {
		if v := mustVM(t, w.r.DB().Current(), vm); v.State != cloud.VMRunning || v.HostID == lost {
			t.Errorf("VM is %s on %s: %s", v.State, v.HostID, v.Error)
		}
	}
}

// A host with the tag of ha.tag takes VMs whose host was lost, what an administrator sends there, and nothing else.
func TestHostsKeptForHA(t *testing.T) {
	w := newWorld(t, 2)
	w.share(t, true)
	g := settings.New(infra.Settings())
	kept := w.hosts[1].ID
	w.update(t, func(tx *store.Tx) error {
		return errors.Join(g.Set(tx, "ha.tag", "spare"), tables.Hosts.Edit(tx, kept, func(h *cloud.Host) error {
			h.Tags = []string{"fast", "spare"}
			return nil
		}))
	})
	var vms []cloud.ID
	for range 2 {
		vm := w.running(t)
		if vm.HostID == kept {
			t.Error("a VM is placed on the host that is kept")
		}
		vms = append(vms, vm.ID)
	}
	w.dep.Host = kept
	if vm := w.running(t); vm.HostID != kept {
		t.Error("what an administrator sends to the kept host is not placed there")
	}
	w.dep.Host = cloud.ID{}
	w.status(t, w.hosts[0].ID, cloud.HostAlert)
	if err := w.declare(w.hosts[0].ID); err != nil {
		t.Fatal(err)
	}
	for _, vm := range w.haJobs() {
		w.step(t, vm, w.area.HAStep, "")
	}
	w.settle(t)
	for _, vm := range vms {
		if v := mustVM(t, w.r.DB().Current(), vm); v.State != cloud.VMRunning || v.HostID != kept {
			t.Errorf("VM is %s on %s: %s", v.State, v.HostID, v.Error)
		}
	}
	vm, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	if out := w.step(t, vm, w.area.StartStep, ""); !strings.Contains(fmt.Sprint(out.Final()), "setting ha.tag") {
		t.Errorf("a VM with only the kept host left: %+v", out)
	}
	w.check(t)
}
