package compute_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/compute/computetest"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// counter counts without limits.
type counter struct{}

func (counter) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	c, ok := tables.ResourceCounts.First(tx, "account", store.K(account, t))
	if !ok {
		c = &cloud.ResourceCount{ID: tx.NewID(), AccountID: account, Type: t}
	}
	c.Count += delta
	return tables.ResourceCounts.Put(tx, c)
}

// world is a cloud of one zone with n hosts, and perfect agents that can be told to fail.
type world struct {
	r      *replica.Replica
	area   *compute.Area
	hosts  []*cloud.Host
	agents map[cloud.ID]*computetest.Agent
	dep    compute.Deployment
	jobs   map[cloud.ID]*cloud.Job // pending starts and stops by VM
}

func id(n byte) cloud.ID { return cloud.ID{14: 1, 15: n} }

func newWorld(t testing.TB, hosts int) *world {
	t.Helper()
	keeper, err := seal.New(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{r: replicatest.Single(t, tables.Schema()...), agents: map[cloud.ID]*computetest.Agent{}, jobs: map[cloud.ID]*cloud.Job{}}
	w.area = &compute.Area{Net: computetest.Networks{}, Seal: keeper, Counts: counter{}, Event: func(tx *store.Tx, e *cloud.Event) error {
		e.ID, e.Created = tx.NewID(), tx.Now()
		return tables.Events.Put(tx, e)
	}}
	zone := &cloud.Zone{ID: id(1), Name: "zone", AllocationState: cloud.AllocationEnabled}
	pod := &cloud.Pod{ID: id(2), ZoneID: zone.ID, Name: "pod", AllocationState: cloud.AllocationEnabled}
	cluster := &cloud.Cluster{ID: id(3), ZoneID: zone.ID, PodID: pod.ID, Name: "cluster", AllocationState: cloud.AllocationEnabled}
	account := &cloud.Account{ID: id(4), Name: "a", DomainID: id(5), Number: 2}
	template := &cloud.Template{ID: id(6), Name: "t", State: cloud.TemplateReady, SizeBytes: 1 << 30, SHA256: "abc", PasswordEnabled: true}
	offering := &cloud.ServiceOffering{ID: id(7), Name: "o", CPUs: 1, CPUMHz: 500, MemoryMiB: 1024, StorageType: "local"}
	network := &cloud.Network{ID: id(8), Name: "n", ZoneID: zone.ID, AccountID: account.ID}
	w.update(t, func(tx *store.Tx) error {
		put(t, tables.Zones.Put(tx, zone), tables.Pods.Put(tx, pod), tables.Clusters.Put(tx, cluster), tables.Accounts.Put(tx, account),
			tables.Templates.Put(tx, template), tables.ServiceOfferings.Put(tx, offering), tables.Networks.Put(tx, network))
		for i := range hosts {
			h := &cloud.Host{
				ID: id(byte(20 + i)), Name: fmt.Sprintf("h%d", i+1), Number: uint64(i + 1), ZoneID: zone.ID, PodID: pod.ID, ClusterID: cluster.ID,
				Status: cloud.HostUp, ResourceState: cloud.HostEnabled, CPUs: 4, CPUMHz: 2000, MemoryMiB: 4096,
			}
			pool := &cloud.StoragePool{
				ID: id(byte(40 + i)), Name: h.Name, ZoneID: zone.ID, ClusterID: cluster.ID, HostID: h.ID, State: cloud.PoolUp,
				CapacityBytes: 10 << 30, Path: "/var/lib/wisp/pool",
			}
			put(t, tables.Hosts.Put(tx, h), tables.StoragePools.Put(tx, pool))
			w.hosts = append(w.hosts, h)
			w.agents[h.ID] = computetest.NewAgent()
		}
		return nil
	})
	w.dep = compute.Deployment{
		Account: account, Zone: zone, Template: template, Offering: offering, Start: true,
		Networks: []compute.NetworkRequest{{Network: network, NICRequest: compute.NICRequest{Default: true}}},
	}
	return w
}

func put(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) update(t testing.TB, f func(tx *store.Tx) error) {
	t.Helper()
	if err := w.r.Update(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

// step runs a job's step in its own transaction, twice, as a crash between commit and answer would.
func (w *world) step(t testing.TB, vm cloud.ID, f func(*store.Tx, *job.State) (job.Outcome, error), args string) job.Outcome {
	t.Helper()
	var out job.Outcome
	for range 2 {
		w.update(t, func(tx *store.Tx) error {
			var err error
			out, err = f(tx, &job.State{Job: &cloud.Job{InstanceID: vm, Args: args}})
			return err
		})
	}
	return out
}

// render gives the host's spec and checks that rendering twice gives the same.
func (w *world) render(t testing.TB, host *cloud.Host) *hostspec.HostSpec {
	t.Helper()
	s := &hostspec.HostSpec{HostId: host.ID.String()}
	if err := w.area.Render(w.r.DB().Current(), host, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// settle lets every agent make its spec true and report, until nothing changes any more.
func (w *world) settle(t testing.TB) {
	t.Helper()
	for range 4 {
		for _, h := range w.hosts {
			o := w.agents[h.ID].Make(w.render(t, h))
			w.update(t, func(tx *store.Tx) error { return w.area.Fold(tx, h.ID, o) })
		}
	}
}

func (w *world) deploy(t testing.TB) (cloud.ID, error) {
	var vm cloud.ID
	err := w.r.Update(context.Background(), func(tx *store.Tx) error {
		v, err := w.area.Deploy(tx, &w.dep)
		if err == nil {
			vm = v.ID
		}
		return err
	})
	return vm, err
}

func (w *world) vm(t testing.TB, id cloud.ID) *cloud.VM {
	t.Helper()
	vm, ok := tables.VMs.Get(w.r.DB().Current(), id)
	if !ok {
		return nil
	}
	return vm
}

// check recounts every counter and looks for a VM that runs twice.
func (w *world) check(t testing.TB) {
	t.Helper()
	r := w.r.DB().Current()
	for _, h := range w.hosts {
		want := cloud.HostCapacity{ID: h.ID}
		for vm := range tables.VMs.By(r, "host", store.K(h.ID)) {
			want.CPUMHz += uint64(vm.CPUs) * uint64(vm.CPUMHz)
			want.MemoryMiB += uint64(vm.MemoryMiB)
			want.VMs++
		}
		got := cloud.HostCapacity{ID: h.ID}
		if c, ok := tables.HostCapacities.Get(r, h.ID); ok {
			got = *c
		}
		got.Unknown = nil
		if got.CPUMHz != want.CPUMHz || got.MemoryMiB != want.MemoryMiB || got.VMs != want.VMs {
			t.Fatalf("host %s counts %+v, its VMs sum up to %+v", h.Name, got, want)
		}
	}
	for p := range tables.StoragePools.All(r) {
		var sum uint64
		for v := range tables.Volumes.By(r, "pool", store.K(p.ID)) {
			sum += v.SizeBytes
		}
		if sum != p.AllocatedBytes {
			t.Fatalf("pool %s counts %d bytes, its volumes sum up to %d", p.Name, p.AllocatedBytes, sum)
		}
	}
	var vms, cpus, memory, volumes int64
	for vm := range tables.VMs.All(r) {
		if vm.State == cloud.VMDestroyed || vm.State == cloud.VMExpunging {
			continue
		}
		volumes += int64(len(compute.VolumesOf(r, vm.ID)))
		if vm.State != cloud.VMError { // which failed to deploy
			vms++
			cpus += int64(vm.CPUs)
			memory += int64(vm.MemoryMiB)
		}
	}
	for _, c := range []struct {
		t    cloud.ResourceType
		want int64
	}{{cloud.ResourceVM, vms}, {cloud.ResourceCPU, cpus}, {cloud.ResourceMemory, memory}, {cloud.ResourceVolume, volumes}, {cloud.ResourcePrimaryStorage, volumes}} {
		got := int64(0)
		if row, ok := tables.ResourceCounts.First(r, "account", store.K(w.dep.Account.ID, c.t)); ok {
			got = row.Count
		}
		if got != c.want {
			t.Fatalf("resource %d is counted %d times, there are %d", c.t, got, c.want)
		}
	}
	where := map[string]cloud.ID{}
	for host, a := range w.agents {
		for vm, o := range a.Runs {
			if o.State != hostspec.VmState_VM_STATE_RUNNING {
				continue
			}
			if other, twice := where[vm]; twice {
				t.Fatalf("VM %s runs on %s and on %s", vm, host, other)
			}
			where[vm] = host
		}
	}
}
