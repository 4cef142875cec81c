package compute

import (
	"fmt"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Candidates gathers the hosts of a zone for place.Choose: what they have, over-commitment included, and what is taken. What a
// root admin owns may be where allocation is disabled.
func Candidates(r store.Reader, zone, owner cloud.ID) *place.Fleet {
	all := infra.Factors{CPU: infra.CPUFactor.Float(r), Memory: infra.MemoryFactor.Float(r)}
	z, ok := tables.Zones.Get(r, zone)
	if !ok {
		return &place.Fleet{}
	}
	root := isRoot(r, owner)
	pools := poolsByReach(r, zone)
	clusters := map[cloud.ID]*cloud.Cluster{}
	pods := map[cloud.ID]*cloud.Pod{}
	factors := map[cloud.ID]infra.Factors{}
	taken := map[cloud.ID]*cloud.HostCapacity{} // in one go: to look each up costs as much as all else
	for c := range tables.HostCapacities.All(r) {
		taken[c.ID] = c
	}
	var hosts []place.Host
	for h := range tables.Hosts.By(r, "zone", store.K(zone)) {
		cluster, ok := clusters[h.ClusterID]
		if !ok {
			cluster, _ = tables.Clusters.Get(r, h.ClusterID)
			clusters[h.ClusterID] = cluster
		}
		pod, ok := pods[h.PodID]
		if !ok {
			pod, _ = tables.Pods.Get(r, h.PodID)
			pods[h.PodID] = pod
		}
		used := cloud.HostCapacity{}
		if c := taken[h.ID]; c != nil {
			used = *c
		}
		factor, ok := factors[h.ClusterID]
		if !ok {
			factor = infra.FactorsOf(r, h.ClusterID, all)
			factors[h.ClusterID] = factor
		}
		hosts = append(hosts, place.Host{
			ID: h.ID, Name: h.Name, Zone: h.ZoneID, Pod: h.PodID, Cluster: h.ClusterID,
			Refusal: whyClosed(z, pod, cluster, h, root), Tags: h.Tags, OSCategory: h.OSCategoryID, Features: h.Features,
			Cores: h.CPUs, CoreMHz: uint64(h.CPUMHz),
			CPUMHz: uint64(float64(h.CPUs) * float64(h.CPUMHz) * factor.CPU), CPUUsed: used.CPUMHz,
			MemoryMiB: uint64(float64(h.MemoryMiB) * factor.Memory), MemoryUsed: used.MemoryMiB,
			VMs:   used.VMs,
			Pools: slices.Concat(pools[h.ID], pools[h.ClusterID], pools[zone]),
		})
	}
	if most := infra.MaxGuests(r); most > 0 {
		for i := range hosts {
			if hosts[i].Refusal == "" && hosts[i].VMs >= most {
				hosts[i].Refusal = fmt.Sprintf("it has %d VMs, the most that its hypervisor capability allows", hosts[i].VMs)
			}
		}
	}
	return &place.Fleet{Hosts: hosts, Clusters: shares(r, hosts)}
}

// keepForHA closes the hosts that are kept for VMs whose host was lost, but for one that an administrator names.
func keepForHA(r store.Reader, fleet *place.Fleet, named cloud.ID) {
	kept := infra.KeptForHA(r)
	for i := range fleet.Hosts {
		if h := &fleet.Hosts[i]; h.Refusal == "" && h.ID != named && kept(h.Tags) {
			h.Refusal = "it is kept for highly available VMs whose host was lost (setting ha.tag)"
		}
	}
}

// shares sums up what the clusters of hosts have and how much of it may be allocated.
func shares(r store.Reader, hosts []place.Host) map[cloud.ID]*place.Cluster {
	clusters := map[cloud.ID]*place.Cluster{}
	for i := range hosts {
		h := &hosts[i]
		c := clusters[h.Cluster]
		if c == nil {
			c = &place.Cluster{
				CPU:    place.Share{Limit: cpuLimit.Float(r, h.Cluster), Setting: cpuLimit.Name},
				Memory: place.Share{Limit: memLimit.Float(r, h.Cluster), Setting: memLimit.Name},
			}
			clusters[h.Cluster] = c
		}
		c.CPU.Total, c.CPU.Used = c.CPU.Total+h.CPUMHz, c.CPU.Used+h.CPUUsed
		c.Memory.Total, c.Memory.Used = c.Memory.Total+h.MemoryMiB, c.Memory.Used+h.MemoryUsed
	}
	return clusters
}

// isRoot tells whether an account is a root admin's.
func isRoot(r store.Reader, account cloud.ID) bool {
	a, ok := tables.Accounts.Get(r, account)
	return ok && a.Type == cloud.RootAdminAccount
}

// whyClosed says why a host takes no VMs at all, or none but those of root admins; "" if it does.
func whyClosed(z *cloud.Zone, pod *cloud.Pod, cluster *cloud.Cluster, h *cloud.Host, root bool) string {
	switch {
	case z.AllocationState != cloud.AllocationEnabled && !root:
		return "its zone is disabled"
	case pod == nil || pod.AllocationState != cloud.AllocationEnabled && !root:
		return "its pod is disabled"
	case cluster == nil || cluster.AllocationState != cloud.AllocationEnabled && !root:
		return "its cluster is disabled"
	case h.ResourceState != cloud.HostEnabled:
		return "it is " + h.ResourceState.String()
	case h.Status != cloud.HostUp:
		return "it is " + h.Status.String()
	}
	return ""
}

// poolsByReach groups the pools of a zone that are up by who reaches them: a host, a cluster, or the zone.
func poolsByReach(r store.Reader, zone cloud.ID) map[cloud.ID][]place.Pool {
	pools := map[cloud.ID][]place.Pool{}
	for p := range tables.StoragePools.By(r, "zone", store.K(zone)) {
		if p.State != cloud.PoolUp {
			continue
		}
		total := uint64(float64(p.CapacityBytes) * infra.StorageFactor.Float(r, p.ID) * storageLimit.Float(r, p.ID, zone))
		free := uint64(0)
		full := p.CapacityBytes > 0 && float64(p.UsedBytes) > float64(p.CapacityBytes)*storageFull.Float(r, p.ID, zone)
		if total > p.AllocatedBytes && !full {
			free = total - p.AllocatedBytes
		}
		reach := p.HostID
		if reach.IsZero() {
			reach = p.ClusterID
		}
		if reach.IsZero() {
			reach = zone
		}
		pools[reach] = append(pools[reach], place.Pool{ID: p.ID, Name: p.Name, Local: !p.HostID.IsZero(), Tags: p.Tags, Free: free})
	}
	return pools
}

// request says what a start of vm needs.
func (a *Area) request(r store.Reader, vm *cloud.VM) *place.Request {
	req := &place.Request{
		Zone: vm.ZoneID, CPUs: vm.CPUs, CPUMHz: vm.CPUMHz, MemoryMiB: vm.MemoryMiB,
		Features: a.Net.Features(r, vm), Host: vm.WantedHostID, Prefer: vm.LastHostID,
	}
	offering, ok := tables.ServiceOfferings.Get(r, vm.OfferingID)
	if ok {
		req.HostTags = offering.HostTags
	}
	if t, ok := tables.Templates.Get(r, vm.TemplateID); ok && t.Tag != "" && !slices.Contains(req.HostTags, t.Tag) {
		req.HostTags = append(slices.Clone(req.HostTags), t.Tag)
	}
	if o, ok := tables.OSTypes.Get(r, vm.OSTypeID); ok {
		req.OSCategory = o.CategoryID
	}
	affinity(r, vm, req)
	for _, id := range vm.Avoid {
		if req.Avoid == nil {
			req.Avoid = map[cloud.ID]string{}
		}
		req.Avoid[id] = vm.Error
	}
	for _, v := range VolumesOf(r, vm.ID) {
		d := place.Disk{Volume: v.ID, Bytes: v.SizeBytes, Pool: v.PoolID}
		if v.Root && ok {
			d.Local, d.Tags = offering.StorageType == "local", offering.StorageTags
		} else if o, found := tables.DiskOfferings.Get(r, v.OfferingID); found {
			d.Local, d.Tags = o.StorageType == "local", o.Tags
		}
		req.Disks = append(req.Disks, d)
	}
	return req
}

// place chooses a host for a VM in Starting and writes the choice: host, pools, counters. The error of a full cloud is
// cloud.NoCapacity with every host's reason. emergency: the VM lost its host.
func (a *Area) place(tx *store.Tx, vm *cloud.VM, emergency bool) error {
	req := a.request(tx, vm)
	req.Emergency = emergency
	fleet := Candidates(tx, vm.ZoneID, vm.AccountID)
	if !emergency {
		keepForHA(tx, fleet, req.Host)
	}
	choice, err := place.Choose(fleet, req)
	if err != nil {
		return &cloud.Error{Code: cloud.NoCapacity, Text: "Unable to create a deployment for VM " + vm.InstanceName + ": " + err.Error()}
	}
	for i, d := range req.Disks {
		if !d.Pool.IsZero() {
			continue
		}
		if err := assignPool(tx, d.Volume, choice.Pools[i]); err != nil {
			return err
		}
	}
	h, ok := tables.Hosts.Get(tx, choice.Host)
	if !ok {
		return &store.NotFound{Table: "host", ID: choice.Host}
	}
	vm.HostID, vm.PodID = h.ID, h.PodID
	return editCapacity(tx, h.ID, func(c *cloud.HostCapacity) {
		c.CPUMHz += uint64(vm.CPUs) * uint64(vm.CPUMHz)
		c.MemoryMiB += uint64(vm.MemoryMiB)
		c.VMs++
	})
}

func assignPool(tx *store.Tx, volume, pool cloud.ID) error {
	var size uint64
	p, ok := tables.StoragePools.Get(tx, pool)
	if !ok {
		return &store.NotFound{Table: "storage_pool", ID: pool}
	}
	err := tables.Volumes.Edit(tx, volume, func(v *cloud.Volume) error {
		v.PoolID, v.HostID, v.State = pool, p.HostID, cloud.VolumeCreating
		size = v.SizeBytes
		return nil
	})
	if err != nil {
		return err
	}
	p.AllocatedBytes += size
	return tables.StoragePools.Put(tx, p)
}

// unplace takes the VM off its host: counters, and the pools of volumes that were never made. The caller has seen that
// the host does not run it any more, and writes the row.
func (a *Area) unplace(tx *store.Tx, vm *cloud.VM) error {
	if vm.HostID.IsZero() {
		return nil
	}
	err := editCapacity(tx, vm.HostID, func(c *cloud.HostCapacity) {
		c.CPUMHz -= min(c.CPUMHz, uint64(vm.CPUs)*uint64(vm.CPUMHz))
		c.MemoryMiB -= min(c.MemoryMiB, uint64(vm.MemoryMiB))
		c.VMs -= min(c.VMs, 1)
	})
	if err != nil {
		return err
	}
	if err := a.Net.Release(tx, vm); err != nil {
		return err
	}
	vm.LastHostID, vm.HostID = vm.HostID, cloud.ID{}
	return nil
}

func editCapacity(tx *store.Tx, host cloud.ID, f func(*cloud.HostCapacity)) error {
	c, ok := tables.HostCapacities.Get(tx, host)
	if !ok {
		c = &cloud.HostCapacity{ID: host}
	}
	f(c)
	return tables.HostCapacities.Put(tx, c)
}
