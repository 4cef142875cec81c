package storagepool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagepool"
	"github.com/wispcloud/wisp/coordinator/internal/api/vm"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/compute/computetest"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

type counter struct{}

func (counter) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	return identity.Count(tx, account, t, delta)
}

// world is a cluster of two hosts whose agents work, and two shared pools: nfs1, which offering one puts disks on, and
// nfs2, with offering two.
type world struct {
	*apitest.Cloud
	t     *testing.T
	area  *compute.Area
	hosts []*cloud.Host

	mu     sync.Mutex
	agents map[cloud.ID]*computetest.Agent
}

func id(n byte) cloud.ID { return cloud.ID{0: 0xaa, 15: n} }

var nfs1, nfs2 = id(20), id(21)

func entity[T any](name string, table *store.Table[T]) api.Entity {
	return api.Entity{
		Name: name, Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) { return api.Owner{}, table.Has(r, id) },
		Usable: func(*api.Call, cloud.ID) bool { return true },
	}
}

// both runs a story twice: as it is, and with a coordinator that dies at each transaction of a job.
func both(t *testing.T, story func(t *testing.T, w *world)) {
	t.Run("undisturbed", func(t *testing.T) { story(t, newWorld(t, false)) })
	t.Run("cut", func(t *testing.T) { story(t, newWorld(t, true)) })
}

func newWorld(t *testing.T, cut bool) *world {
	t.Helper()
	w := &world{t: t, agents: map[cloud.ID]*computetest.Agent{}}
	w.Cloud = apitest.New(t, apitest.Config{
		Settings: [][]*settings.Def{compute.Settings(), infra.Settings(), storage.Settings(), network.Settings()},
		Entities: slices.Concat(vm.Entities(), storagepool.Entities(), event.Entities(), []api.Entity{
			entity("zone", tables.Zones), entity("pod", tables.Pods), entity("cluster", tables.Clusters), entity("host", tables.Hosts),
			entity("template", tables.Templates), entity("network", tables.Networks), entity("serviceoffering", tables.ServiceOfferings),
			entity("diskoffering", tables.DiskOfferings), entity("ostype", tables.OSTypes), entity("affinitygroup", tables.AffinityGroups),
			entity("instancegroup", tables.InstanceGroups), entity("userdata", tables.UserDatas),
		}),
		Make: func(k *seal.Keeper) []api.Command {
			w.area = &compute.Area{Net: computetest.Networks{}, Seal: k, Counts: counter{}, Event: func(tx *store.Tx, e *cloud.Event) error {
				_, err := job.WriteEvent(tx, *e)
				return err
			}}
			return slices.Concat(
				storagepool.Commands(storagepool.Deps{VMs: w.area, Routers: &network.Area{}}), capacity.Commands(), event.Commands(),
				vm.Commands(vm.Deps{
					Area: w.area, Usage: func(cloud.ID) (*hostspec.VmUsage, bool) { return nil, false },
					DefaultNetworks: func(store.Reader, *cloud.Account, *cloud.Zone) ([]*cloud.Network, error) { return nil, nil },
				}))
		},
		Cut:   cut,
		Kinds: func() []job.Kind { return []job.Kind{w.area.ReturnKind()} },
	})
	user := w.Users["a-user"].Account
	w.Update(func(tx *store.Tx) error {
		err := errors.Join(
			tables.Zones.Put(tx, &cloud.Zone{ID: id(1), Name: "z1", AllocationState: cloud.AllocationEnabled}),
			tables.Pods.Put(tx, &cloud.Pod{ID: id(2), ZoneID: id(1), Name: "p1", AllocationState: cloud.AllocationEnabled}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: id(4), ZoneID: id(1), PodID: id(2), Name: "c1", AllocationState: cloud.AllocationEnabled}),
			tables.OSTypes.Put(tx, &cloud.OSType{ID: id(6), Description: "Other Linux (64-bit)"}),
			tables.Templates.Put(tx, &cloud.Template{
				ID: id(7), Name: "tiny", ZoneID: id(1), OSTypeID: id(6), State: cloud.TemplateReady, Public: true, SizeBytes: 1 << 30,
				SHA256: strings.Repeat("ab", 32), Format: "QCOW2",
			}),
			tables.Networks.Put(tx, &cloud.Network{ID: id(9), Name: "n1", ZoneID: id(1), AccountID: user.ID, DomainID: user.DomainID, Number: 1}),
		)
		for i := range byte(2) {
			h := &cloud.Host{
				ID: id(30 + i), Name: fmt.Sprint("h", i+1), ZoneID: id(1), PodID: id(2), ClusterID: id(4), Number: uint64(i + 1), Status: cloud.HostUp,
				ResourceState: cloud.HostEnabled, CPUs: 16, CPUMHz: 2000, MemoryMiB: 16 << 10,
			}
			w.hosts = append(w.hosts, h)
			name := fmt.Sprint("nfs", i+1)
			err = errors.Join(err, tables.Hosts.Put(tx, h),
				tables.StoragePools.Put(tx, &cloud.StoragePool{
					ID: id(20 + i), Name: name, ZoneID: id(1), PodID: id(2), ClusterID: id(4), State: cloud.PoolUp, Kind: cloud.PoolNetworkFilesystem,
					Source: "nas:/" + name, Path: "/mnt/" + name, Tags: []string{name}, CapacityBytes: 100 << 30, UsedBytes: 1 << 30, Scope: "CLUSTER",
				}),
				tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{
					ID: id(10 + i), Name: name, CPUs: 1, CPUMHz: 500, MemoryMiB: 512, StorageType: "shared", StorageTags: []string{name},
				}))
		}
		return err
	})
	for _, h := range w.hosts {
		w.agents[h.ID] = computetest.NewAgent()
		w.agents[h.ID].Stuck = map[string]bool{}
	}
	w.runAgents()
	return w
}

// runAgents lets the hosts work in the background as their agents would.
func (w *world) runAgents() {
	watch := w.Replica.DB().Watch(tables.VMs, tables.Volumes)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer watch.Close()
		for {
			for _, h := range w.hosts {
				if err := w.work(ctx, h); err != nil && ctx.Err() == nil {
					w.t.Errorf("agent: %v", err)
					return
				}
			}
			select {
			case <-watch.C():
			case <-ctx.Done():
				return
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) work(ctx context.Context, h *cloud.Host) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	spec := &hostspec.HostSpec{}
	if err := w.area.Render(w.Read(), h, spec); err != nil {
		return err
	}
	o := w.agents[h.ID].Make(spec)
	return w.Replica.Update(ctx, func(tx *store.Tx) error { return w.area.Fold(tx, h.ID, o) })
}

// stick has the hosts of a VM unable to stop it, or able again.
func (w *world) stick(vm string, stuck bool) {
	w.mu.Lock()
	for _, a := range w.agents {
		a.Stuck[vm] = stuck
	}
	w.mu.Unlock()
	for _, h := range w.hosts { // as the agents' own slow pass does
		if err := w.work(w.t.Context(), h); err != nil {
			w.t.Error(err)
		}
	}
}

// deploy makes a VM that runs with its disk on the n-th pool.
func (w *world) deploy(name string, n byte) string {
	w.t.Helper()
	return w.Must("a-user", "deployVirtualMachine", "zoneid", id(1).String(), "templateid", id(7).String(), "serviceofferingid", id(9+n).String(),
		"networkids", id(9).String(), "name", name).String("virtualmachine.id")
}

func (w *world) is(vm, state string) {
	w.t.Helper()
	if got := w.Must("root", "listVirtualMachines", "id", vm).Get("virtualmachine.state"); got != state {
		w.t.Errorf("VM %s is %v, want %s", vm, got, state)
	}
}

func (w *world) pool(id cloud.ID, state string) {
	w.t.Helper()
	if got := w.Must("root", "listStoragePools", "id", id.String()).String("storagepool.state"); got != state {
		w.t.Errorf("pool %s is %s, want %s", id, got, state)
	}
}

func (w *world) refused(user, command string, code int, text string, params ...string) {
	w.t.Helper()
	a := w.Call(user, command, params...)
	if got, n := a.Error(); n != code || !strings.Contains(got, text) {
		w.t.Errorf("%s: %d %q, want %d %q", command, n, got, code, text)
	}
}

// enable begins the maintenance of nfs1 and gives its job.
func (w *world) enable() string {
	w.t.Helper()
	a := w.Call("root", "enableStorageMaintenance", "id", nfs1.String())
	if a.Status != 200 {
		w.t.Fatalf("enableStorageMaintenance: %s", a.Raw)
	}
	return a.String("jobid")
}

// failed waits for a job to fail with texts.
func (w *world) failed(job string, texts ...string) {
	w.t.Helper()
	a := w.Job("root", job)
	got, _ := a.Get("jobresult.errortext").(string)
	for _, text := range texts {
		if a.Object["jobstatus"] != 2.0 || !strings.Contains(got, text) {
			w.t.Errorf("the job ended with %s, want %q", a.Raw, text)
		}
	}
}

// until waits for the state of a VM's row.
func (w *world) until(vm string, state cloud.VMState) {
	w.t.Helper()
	id, _ := cloud.ParseID(vm)
	replicatest.Wait(w.t, 20*time.Second, "VM "+vm+" "+state.String(), func() error {
		if row, ok := tables.VMs.Get(w.Read(), id); !ok || row.State != state {
			return fmt.Errorf("%+v", row)
		}
		return nil
	})
}

func (w *world) cancel(want string) {
	w.t.Helper()
	a := w.Must("root", "cancelStorageMaintenance", "id", nfs1.String())
	if got := a.String("storagepool.displaytext"); got != want {
		w.t.Errorf("the answer says  %s\nand not %s", got, want)
	}
	w.CheckSDK("cancelStorageMaintenance", a)
}

// total is what listCapacity has of a type.
func (w *world) total(name string) float64 {
	w.t.Helper()
	for _, c := range w.Must("root", "listCapacity", "zoneid", id(1).String()).Get("capacity").([]any) {
		if c := c.(map[string]any); c["name"] == name {
			return c["capacitytotal"].(float64)
		}
	}
	w.t.Fatalf("no capacity %s", name)
	return 0
}

// TestMaintenance walks VMs through a maintenance: one that runs, one of another pool, one that was stopped before, and
// those about which somebody decides meanwhile.
func TestMaintenance(t *testing.T) { both(t, meanwhile) }

func meanwhile(t *testing.T, w *world) {
	web, other, before := w.deploy("web", 1), w.deploy("other", 2), w.deploy("before", 1)
	started, stopped, destroyed, expunged := w.deploy("started", 1), w.deploy("stopped", 1), w.deploy("destroyed", 1), w.deploy("expunged", 1)
	w.Must("a-user", "stopVirtualMachine", "id", before)
	w.refused("root", "cancelStorageMaintenance", 431, "is not in maintenance: it is Up, and must be Maintenance or ErrorInMaintenance", "id", nfs1.String())
	all := w.total("STORAGE")

	if got := w.Must("root", "enableStorageMaintenance", "id", nfs1.String()); got.String("storagepool.state") != "Maintenance" {
		t.Errorf("%s", got.Raw)
	}
	for vm, state := range map[string]string{web: "Stopped", other: "Running", before: "Stopped", started: "Stopped", stopped: "Stopped", destroyed: "Stopped", expunged: "Stopped"} {
		w.is(vm, state)
	}
	for _, by := range []string{"state", "status"} {
		if got := w.Must("root", "listStoragePools", by, "maintenance"); got.Get("count") != 1.0 || got.String("storagepool.name") != "nfs1" {
			t.Errorf("pools in maintenance by %s: %s", by, got.Raw)
		}
		w.refused("root", "listStoragePools", 431, `Invalid value "broken" in parameter `+by+`: accepted are Initial, Up, Maintenance`, by, "broken")
	}
	w.mounted("nfs2")
	if got := w.total("STORAGE"); got != all/2 {
		t.Errorf("the capacity is %v during maintenance, %v before", got, all)
	}
	w.refused("root", "enableStorageMaintenance", 431, "it is Maintenance, and must be Up, Down or ErrorInMaintenance", "id", nfs1.String())
	w.refused("a-user", "startVirtualMachine", 534, "is on primary storage nfs1, which is Maintenance", "id", web)
	a := w.Call("a-user", "deployVirtualMachine", "zoneid", id(1).String(), "templateid", id(7).String(), "serviceofferingid", id(10).String(), "networkids", id(9).String())
	w.failed(a.String("jobid"), "no shared storage pool with tags nfs1")

	w.Must("a-user", "stopVirtualMachine", "id", stopped) // it is, and shall stay so
	w.Must("a-user", "destroyVirtualMachine", "id", destroyed)
	w.Must("root", "destroyVirtualMachine", "id", expunged, "expunge", "true")
	w.cancel("virtual machines started again: 2")
	w.pool(nfs1, "Up")
	w.mounted("nfs1", "nfs2")
	for vm, state := range map[string]string{web: "Running", other: "Running", before: "Stopped", started: "Running", stopped: "Stopped", destroyed: "Destroyed"} {
		w.is(vm, state)
	}
	if got := w.total("STORAGE"); got != all {
		t.Errorf("the capacity is %v after maintenance, %v before", got, all)
	}
	w.told(web, "VM.STOP", "Stopping VM web (i-", "its primary storage nfs1 goes into maintenance")
	w.told(web, "VM.START", "Successfully completed starting VM web (i-", "the maintenance of primary storage nfs1 is over")

	// A second maintenance remembers nothing of the first one.
	w.Must("a-user", "stopVirtualMachine", "id", started)
	w.Must("root", "enableStorageMaintenance", "id", nfs1.String())
	w.cancel("virtual machines started again: 1")
	w.is(started, "Stopped")
	w.is(web, "Running")
}

// mounted checks which pools hosts are told of.
func (w *world) mounted(want ...string) {
	w.t.Helper()
	for _, h := range w.hosts {
		var got []string
		for _, p := range storage.RenderPools(w.Read(), h) {
			got = append(got, strings.TrimPrefix(p.GetSource(), "nas:/"))
		}
		if !slices.Equal(got, want) {
			w.t.Errorf("host %s is told of %v, want %v", h.Name, got, want)
		}
	}
}

// A pool that a router boots from is not deleted, though it has no volumes.
func TestDeletePoolOfARouter(t *testing.T) {
	w := newWorld(t, false)
	w.Update(func(tx *store.Tx) error {
		return tables.Routers.Put(tx, &cloud.Router{ID: id(78), Name: "r-9-VM", NetworkID: id(9), HostID: w.hosts[0].ID, PoolID: nfs2, State: cloud.VMRunning})
	})
	w.refused("root", "deleteStoragePool", 536, "Cannot delete pool nfs2: router r-9-VM runs from it", "id", nfs2.String())
	w.Update(func(tx *store.Tx) error { return tables.Routers.Delete(tx, id(78)) })
	w.Must("root", "deleteStoragePool", "id", nfs2.String())
}

// told checks that a VM's owner sees an event.
func (w *world) told(vm, kind string, texts ...string) {
	w.t.Helper()
	events := w.Must("a-user", "listEvents", "type", kind, "pagesize", "100", "page", "1")
	list, _ := events.Get("event").([]any)
	for _, e := range list {
		text, _ := e.(map[string]any)["description"].(string)
		if !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(text, t) }) {
			return
		}
	}
	w.t.Errorf("no event %s with %q about VM %s: %s", kind, texts, vm, events.Raw)
}

// TestMaintenanceWithAVMThatWillNotStop meets second calls, the failure, and both ways on from there.
func TestMaintenanceWithAVMThatWillNotStop(t *testing.T) { both(t, willNotStop) }

func willNotStop(t *testing.T, w *world) {
	web, stuck := w.deploy("web", 1), w.deploy("stuck", 1)
	expire := func(job string) {
		t.Helper()
		w.until(stuck, cloud.VMStopping)
		w.until(web, cloud.VMStopped)
		w.Clock.Advance(31 * time.Minute)
		w.failed(job, "Primary storage nfs1 cannot be taken into maintenance: virtual machine stuck (i-", ") is Stopping, and its host h",
			"which is Up, has not reported it stopped. ", "call declareHostAsDegraded for one that is dead for good; then call enableStorageMaintenance again, or cancelStorageMaintenance")
		w.pool(nfs1, "ErrorInMaintenance")
	}
	w.stick(stuck, true)
	job := w.enable()
	w.until(web, cloud.VMStopped)
	w.pool(nfs1, "PrepareForMaintenance")
	w.refused("root", "enableStorageMaintenance", 431, "it is PrepareForMaintenance", "id", nfs1.String())
	w.refused("root", "cancelStorageMaintenance", 536, "cannot be cancelled while it is being prepared", "id", nfs1.String())
	w.refused("root", "enableStorageMaintenance", 536, "Only one primary storage of a cluster can be in PrepareForMaintenance: nfs1 (", "id", nfs2.String())
	w.refused("a-user", "startVirtualMachine", 534, "is on primary storage nfs1, which is PrepareForMaintenance", "id", web)
	expire(job)
	w.alert(true)
	w.refused("a-user", "startVirtualMachine", 534, "is on primary storage nfs1, which is ErrorInMaintenance", "id", web)

	// A failed one is not in the way of another pool's.
	w.Must("root", "enableStorageMaintenance", "id", nfs2.String())
	w.Must("root", "cancelStorageMaintenance", "id", nfs2.String())

	// The second try fails as well, the third finds it stopped.
	expire(w.enable())
	w.stick(stuck, false)
	w.until(stuck, cloud.VMStopped)
	w.Must("root", "enableStorageMaintenance", "id", nfs1.String())
	w.pool(nfs1, "Maintenance")
	w.alert(false)
	w.cancel("virtual machines started again: 2")

	// Cancelled while it is still stopping: it starts when it has stopped.
	w.stick(stuck, true)
	expire(w.enable())
	a := w.Call("root", "cancelStorageMaintenance", "id", nfs1.String())
	w.until(web, cloud.VMRunning)
	w.is(stuck, "Stopping")
	w.pool(nfs1, "Up")
	w.alert(false)
	w.stick(stuck, false)
	if got := w.Job("root", a.String("jobid")); got.Get("jobresult.storagepool.displaytext") != "virtual machines started again: 2" {
		t.Errorf("%s", got.Raw)
	}
	w.is(stuck, "Running")

	// Stopped by its owner while maintenance stops it: it is the owner's.
	w.stick(stuck, true)
	expire(w.enable())
	stop := w.Call("a-user", "stopVirtualMachine", "id", stuck, "forced", "true").String("jobid")
	w.stick(stuck, false)
	w.Job("a-user", stop)
	w.cancel("virtual machines started again: 1")
	w.is(stuck, "Stopped")
}

func (w *world) alert(open bool) {
	w.t.Helper()
	a, ok := tables.Alerts.First(w.Read(), "condition", store.K("poolmaintenance/"+nfs1.String()))
	if ok != open || open && (a.Name != "STORAGE_MISC" || a.Subject != "Storage pool nfs1 cannot be taken into maintenance" || a.ResourceID != nfs1) {
		w.t.Errorf("alert: %+v, open: %v", a, open)
	}
}

// A host that is not heard from cannot stop anything: the job does not wait for its deadline.
func TestMaintenanceWithASilentHost(t *testing.T) { both(t, silentHost) }

func silentHost(t *testing.T, w *world) {
	web := w.deploy("web", 1)
	w.stick(web, true)
	w.Update(func(tx *store.Tx) error {
		for _, h := range w.hosts {
			if err := infra.SetStatus(tx, h.ID, cloud.HostAlert); err != nil {
				return err
			}
		}
		return nil
	})
	w.failed(w.enable(), "which is Alert, has not reported it stopped")
	w.pool(nfs1, "ErrorInMaintenance")
}

// TestMaintenanceCancelledWithTrouble starts what can be started, and says what cannot.
func TestMaintenanceCancelledWithTrouble(t *testing.T) { both(t, trouble) }

func trouble(t *testing.T, w *world) {
	web, big, both := w.deploy("web", 1), w.deploy("big", 1), w.deploy("both", 1)
	w.Update(func(tx *store.Tx) error { // it has a data disk on the other pool
		vm, _ := cloud.ParseID(both)
		row, _ := tables.VMs.Get(tx, vm)
		return tables.Volumes.Put(tx, &cloud.Volume{
			ID: id(77), Name: "DATA-1", VMID: vm, PoolID: nfs2, DeviceID: 1, State: cloud.VolumeReady, AccountID: row.AccountID, DomainID: row.DomainID, ZoneID: id(1),
		})
	})
	w.Must("root", "enableStorageMaintenance", "id", nfs1.String())
	w.Must("root", "enableStorageMaintenance", "id", nfs2.String())
	w.Update(func(tx *store.Tx) error {
		vm, _ := cloud.ParseID(big)
		return tables.VMs.Edit(tx, vm, func(vm *cloud.VM) error { vm.MemoryMiB = 1 << 20; return nil })
	})
	a := w.Must("root", "cancelStorageMaintenance", "id", nfs1.String())
	got := a.String("storagepool.displaytext")
	for _, text := range []string{
		"virtual machines started again: 1; not started: 2: ", "big (i-", "MiB memory are wanted", "both (i-",
		"has volume DATA-1 on primary storage nfs2, which is Maintenance; it starts when that maintenance is cancelled",
	} {
		if !strings.Contains(got, text) {
			t.Errorf("the answer %q does not say %q", got, text)
		}
	}
	events := w.Must("root", "listEvents", "type", "MAINT.CANCEL.PS", "level", "WARN")
	if text, _ := events.Get("event.description").(string); text != "Successfully completed storage pool nfs1, but: "+strings.SplitN(got, "; ", 2)[1] {
		t.Errorf("the event is %s", events.Raw)
	}
	w.is(web, "Running")
	w.is(big, "Stopped")
	w.is(both, "Stopped")
	w.Must("root", "cancelStorageMaintenance", "id", nfs2.String())
	w.is(both, "Running")
	w.is(big, "Stopped") // it had its chance
}

// TestMaintenanceOfADisabledOwner refuses to start anything of theirs, and does not start it when they are enabled again.
func TestMaintenanceOfADisabledOwner(t *testing.T) { both(t, disabledOwner) }

func disabledOwner(t *testing.T, w *world) {
	web := w.deploy("web", 1)
	set := func(s cloud.Lifecycle) {
		w.Update(func(tx *store.Tx) error {
			return tables.Accounts.Edit(tx, w.Users["a-user"].Account.ID, func(a *cloud.Account) error { a.State = s; return nil })
		})
	}
	w.Must("root", "enableStorageMaintenance", "id", nfs1.String())
	set(cloud.Disabled)
	a := w.Must("root", "cancelStorageMaintenance", "id", nfs1.String())
	if got := a.String("storagepool.displaytext"); !strings.HasPrefix(got, "virtual machines started again: 0; not started: 1: web (i-") || !strings.HasSuffix(got, "): The owner of VM web is disabled or, where that is a project, suspended") {
		t.Errorf("the answer says %s", got)
	}
	set(cloud.Enabled)
	w.Must("root", "enableStorageMaintenance", "id", nfs1.String())
	w.cancel("virtual machines started again: 0")
	w.is(web, "Stopped")
}

// A pool whose preparation was undone by a fault has no job; both ways on are open.
func TestMaintenanceThatLostItsJob(t *testing.T) {
	w := newWorld(t, false)
	lose := func() {
		w.Update(func(tx *store.Tx) error {
			return tables.StoragePools.Edit(tx, nfs1, func(p *cloud.StoragePool) error { p.State = cloud.PoolPrepareForMaintenance; return nil })
		})
	}
	lose()
	w.cancel("virtual machines started again: 0")
	w.pool(nfs1, "Up")
	lose()
	w.Must("root", "enableStorageMaintenance", "id", nfs1.String())
	w.pool(nfs1, "Maintenance")
}
