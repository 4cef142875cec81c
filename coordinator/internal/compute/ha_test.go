package compute_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// share gives all hosts one pool instead of their own, and the next VMs are on it.
func (w *world) share(t testing.TB, ha bool) {
	t.Helper()
	w.update(t, func(tx *store.Tx) error {
		for p := range tables.StoragePools.All(tx) {
			put(t, tables.StoragePools.Delete(tx, p.ID))
		}
		w.dep.Offering.StorageType, w.dep.Offering.OfferHA = "shared", ha
		put(t, tables.ServiceOfferings.Put(tx, w.dep.Offering))
		return tables.StoragePools.Put(tx, &cloud.StoragePool{
			ID: id(60), Name: "shared", ZoneID: w.dep.Zone.ID, State: cloud.PoolUp, CapacityBytes: 100 << 30, Kind: cloud.PoolSharedMountPoint, Path: "/srv",
		})
	})
}

// running deploys a VM and lets it run.
func (w *world) running(t testing.TB) *cloud.VM {
	t.Helper()
	vm, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	w.step(t, vm, w.area.StartStep, "")
	w.settle(t)
	v := mustVM(t, w.r.DB().Current(), vm)
	if v.State != cloud.VMRunning {
		t.Fatalf("VM is %s: %s", v.State, v.Error)
	}
	return v
}

func (w *world) status(t testing.TB, host cloud.ID, s cloud.HostStatus) {
	t.Helper()
	w.update(t, func(tx *store.Tx) error { return infra.SetStatus(tx, host, s) })
}

// declare is what declareHostAsDegraded does.
func (w *world) declare(host cloud.ID) error {
	return w.r.Update(context.Background(), func(tx *store.Tx) error {
		h, err := infra.DeclareDegraded(tx, host)
		if err != nil {
			return err
		}
		return w.area.HostDied(tx, h)
	})
}

// haJobs lists the VMs that are being started again.
func (w *world) haJobs() (vms []cloud.ID) {
	for j := range tables.Jobs.All(w.r.DB().Current()) {
		if j.Command == compute.HACommand {
			vms = append(vms, j.InstanceID)
		}
	}
	return vms
}

// A host that is only silent loses nothing; one that is declared dead loses all, and what is highly available runs
// elsewhere, once. When the dead host comes back it is told of none of it.
func TestHostDies(t *testing.T) {
	for _, ha := range []bool{true, false} {
		t.Run(map[bool]string{true: "highly available", false: "not"}[ha], func(t *testing.T) {
			w := newWorld(t, 2)
			w.share(t, ha)
			vm := w.running(t)
			dead := vm.HostID
			if err := w.declare(dead); cloud.CodeOf(err) != cloud.Invalid {
				t.Errorf("a host that is Up was declared dead: %v", err)
			}
			w.status(t, dead, cloud.HostAlert)
			if v := mustVM(t, w.r.DB().Current(), vm.ID); v.HostID != dead || v.State != cloud.VMRunning || len(w.haJobs()) > 0 {
				t.Fatalf("a silent host lost its VM: %s on %s, jobs %v", v.State, v.HostID, w.haJobs())
			}
			if err := w.declare(dead); err != nil {
				t.Fatal(err)
			}
			if c, _ := tables.HostCapacities.Get(w.r.DB().Current(), dead); c.VMs != 0 || c.MemoryMiB != 0 {
				t.Errorf("the dead host counts %d VMs, %d MiB", c.VMs, c.MemoryMiB)
			}
			if !ha {
				if v := mustVM(t, w.r.DB().Current(), vm.ID); v.State != cloud.VMStopped || len(w.haJobs()) > 0 {
					t.Errorf("VM is %s, jobs %v", v.State, w.haJobs())
				}
				return
			}
			if d := cmp.Diff([]cloud.ID{vm.ID}, w.haJobs()); d != "" {
				t.Fatal(d)
			}
			w.step(t, vm.ID, w.area.HAStep, "")
			w.settle(t)
			if over, err := w.step(t, vm.ID, w.area.HAStep, "").Final(); !over || err != nil {
				t.Errorf("the restart has not ended well: %v %v", over, err)
			}
			v := mustVM(t, w.r.DB().Current(), vm.ID)
			if v.State != cloud.VMRunning || v.HostID == dead || v.HostID.IsZero() {
				t.Errorf("VM is %s on %s", v.State, v.HostID)
			}
			for _, h := range w.hosts {
				if runs := len(w.agents[h.ID].Runs); runs != map[bool]int{true: 0, false: 1}[h.ID == dead] {
					t.Errorf("host %s runs %d", h.Name, runs)
				}
			}
		})
	}
}

// A restart waits for the maintenance of a pool that the VM needs, and does not fail by it.
func TestRestartWaitsForPool(t *testing.T) {
	w := newWorld(t, 2)
	w.share(t, true)
	vm := w.running(t)
	w.status(t, vm.HostID, cloud.HostAlert)
	if err := w.declare(vm.HostID); err != nil {
		t.Fatal(err)
	}
	pool := func(s cloud.PoolState) {
		w.update(t, func(tx *store.Tx) error {
			return tables.StoragePools.Edit(tx, id(60), func(p *cloud.StoragePool) error { p.State = s; return nil })
		})
	}
	pool(cloud.PoolMaintenance)
	out := w.step(t, vm.ID, w.area.HAStep, "")
	if over, err := out.Final(); over || out.String() != "wait"+fmt.Sprint([]cloud.ID{id(60)}) {
		t.Errorf("%v %v", out, err)
	}
	pool(cloud.PoolUp)
	w.step(t, vm.ID, w.area.HAStep, "")
	w.settle(t)
	if v := mustVM(t, w.r.DB().Current(), vm.ID); v.State != cloud.VMRunning {
		t.Errorf("VM is %s: %s", v.State, v.Error)
	}
}

// A restart that finds no room says so once, and goes on when there is.
func TestRestartWaitsForRoom(t *testing.T) {
	w := newWorld(t, 2)
	w.share(t, true)
	vm := w.running(t)
	other := w.hosts[slices.IndexFunc(w.hosts, func(h *cloud.Host) bool { return h.ID != vm.HostID })].ID
	w.status(t, other, cloud.HostDisconnected)
	w.status(t, vm.HostID, cloud.HostAlert)
	if err := w.declare(vm.HostID); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if over, err := w.step(t, vm.ID, w.area.HAStep, "").Final(); over {
			t.Fatalf("the restart ended: %v", err)
		}
	}
	open := func() (n int) {
		for range tables.Alerts.By(w.r.DB().Current(), "condition", store.K("vm/"+vm.ID.String())) {
			n++
		}
		return n
	}
	if n := open(); n != 1 {
		t.Errorf("%d alerts, want 1", n)
	}
	w.status(t, other, cloud.HostUp)
	w.step(t, vm.ID, w.area.HAStep, "")
	w.settle(t)
	w.step(t, vm.ID, w.area.HAStep, "")
	if v := mustVM(t, w.r.DB().Current(), vm.ID); v.State != cloud.VMRunning || v.HostID != other || open() != 0 {
		t.Errorf("VM is %s on %s, %d alerts", v.State, v.HostID, open())
	}
}

// A start under way goes on elsewhere by its own job.
func TestHostDiesDuringStart(t *testing.T) {
	w := newWorld(t, 2)
	vm, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	w.step(t, vm, w.area.StartStep, "")
	dead := mustVM(t, w.r.DB().Current(), vm).HostID
	w.status(t, dead, cloud.HostDisconnected)
	if err := w.declare(dead); err != nil {
		t.Fatal(err)
	}
	w.step(t, vm, w.area.StartStep, "")
	w.settle(t)
	if v := mustVM(t, w.r.DB().Current(), vm); v.State != cloud.VMRunning || v.HostID == dead {
		t.Errorf("VM is %s on %s: %s", v.State, v.HostID, v.Error)
	}
}

func TestMaintenance(t *testing.T) {
	prepare := func(w *world, host cloud.ID) error {
		return w.r.Update(context.Background(), func(tx *store.Tx) error {
			h, err := infra.PrepareMaintenance(tx, host)
			if err != nil {
				return err
			}
			return w.area.Evacuate(tx, h)
		})
	}
	t.Run("what cannot leave is in the way", func(t *testing.T) {
		w := newWorld(t, 2)
		vm := w.running(t)
		if err := prepare(w, vm.HostID); cloud.CodeOf(err) != cloud.InUse {
			t.Error(err)
		}
		if h, _ := tables.Hosts.Get(w.r.DB().Current(), vm.HostID); h.ResourceState != cloud.HostEnabled {
			t.Errorf("the host is %s", h.ResourceState)
		}
	})
	t.Run("highly available VMs move", func(t *testing.T) {
		w := newWorld(t, 2)
		w.share(t, true)
		vm := w.running(t)
		if err := prepare(w, vm.HostID); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			w.step(t, vm.ID, w.area.HAStep, "")
			w.settle(t)
		}
		if v := mustVM(t, w.r.DB().Current(), vm.ID); v.State != cloud.VMRunning || v.HostID == vm.HostID {
			t.Errorf("VM is %s on %s: %s", v.State, v.HostID, v.Error)
		}
	})
}
