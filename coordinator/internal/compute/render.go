package compute

import (
	"cmp"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// stopGrace is how long a guest is given to shut down before it is stopped hard.
const stopGrace = 60

// Render writes the compute part of a host's spec into s: VMs, volumes, images and pools, each sorted by id. It is pure:
// the same rows give the same bytes.
func (a *Area) Render(r store.Reader, host *cloud.Host, s *hostspec.HostSpec) error {
	p := part{r: r, host: host, images: map[string]*hostspec.Image{}, pools: map[cloud.ID]*cloud.StoragePool{}}
	for pool := range tables.StoragePools.By(r, "host", store.K(host.ID)) {
		if err := p.localPool(pool); err != nil {
			return err
		}
	}
	for vm := range tables.VMs.By(r, "host", store.K(host.ID)) {
		m, err := a.renderVM(r, vm)
		if err != nil {
			return err
		}
		s.Vms = append(s.Vms, m)
		for _, v := range VolumesOf(r, vm.ID) {
			p.sharedVolume(v)
		}
	}
	if err := p.tombstones(); err != nil {
		return err
	}
	s.Volumes = p.volumes
	for _, i := range p.images {
		s.Images = append(s.Images, i)
	}
	for _, pool := range p.pools {
		s.Pools = append(s.Pools, renderPool(pool))
	}
	slices.SortFunc(s.Vms, func(a, b *hostspec.VirtualMachine) int { return cmp.Compare(a.Id, b.Id) })
	slices.SortFunc(s.Volumes, func(a, b *hostspec.Volume) int { return cmp.Compare(a.Id, b.Id) })
	slices.SortFunc(s.Images, func(a, b *hostspec.Image) int {
		return cmp.Or(cmp.Compare(a.PoolId, b.PoolId), cmp.Compare(a.Sha256, b.Sha256))
	})
	slices.SortFunc(s.Pools, func(a, b *hostspec.StoragePool) int { return cmp.Compare(a.Id, b.Id) })
	return nil
}

// part gathers the storage of one host's spec.
type part struct {
	r       store.Reader
	host    *cloud.Host
	volumes []*hostspec.Volume
	images  map[string]*hostspec.Image // by pool and checksum
	pools   map[cloud.ID]*cloud.StoragePool
}

// localPool lists every volume of a pool of this host, whether its VM runs or not.
func (p *part) localPool(pool *cloud.StoragePool) error {
	p.pools[pool.ID] = pool
	for v := range tables.Volumes.By(p.r, "pool", store.K(pool.ID)) {
		p.volume(v)
	}
	return nil
}

// sharedVolume lists a volume of a VM that runs here and lies on a shared pool.
func (p *part) sharedVolume(v *cloud.Volume) {
	if _, listed := p.pools[v.PoolID]; listed && !v.HostID.IsZero() {
		return
	}
	pool, ok := tables.StoragePools.Get(p.r, v.PoolID)
	if !ok || !pool.HostID.IsZero() {
		return
	}
	p.pools[pool.ID] = pool
	p.volume(v)
}

// tombstones lists the volumes to delete on shared pools with one host: the first enabled one that is up.
func (p *part) tombstones() error {
	for v := range tables.Volumes.By(p.r, "state", store.K(cloud.VolumeExpunging)) {
		if !v.HostID.IsZero() {
			continue
		}
		pool, ok := tables.StoragePools.Get(p.r, v.PoolID)
		if !ok || steward(p.r, pool) != p.host.ID {
			continue
		}
		p.pools[pool.ID] = pool
		p.volume(v)
	}
	return nil
}

// steward is the host that tidies a shared pool up.
func steward(r store.Reader, pool *cloud.StoragePool) cloud.ID {
	var first cloud.ID
	for h := range tables.Hosts.By(r, "zone", store.K(pool.ZoneID)) {
		if h.Status != cloud.HostUp || h.ResourceState != cloud.HostEnabled {
			continue
		}
		if !pool.ClusterID.IsZero() && h.ClusterID != pool.ClusterID {
			continue
		}
		if first.IsZero() || slices.Compare(h.ID[:], first[:]) < 0 {
			first = h.ID
		}
	}
	return first
}

func (p *part) volume(v *cloud.Volume) {
	out := &hostspec.Volume{Id: v.ID.String(), PoolId: v.PoolID.String(), SizeBytes: v.SizeBytes, Removed: v.State == cloud.VolumeExpunging}
	p.volumes = append(p.volumes, out)
	if v.SHA256 == "" {
		return
	}
	out.ImageSha256, out.ImageFormat = v.SHA256, "qcow2"
	t, ok := tables.Templates.First(p.r, "sha256", store.K(v.SHA256))
	if ok && t.Format == "RAW" {
		out.ImageFormat = "raw"
	}
	key := v.PoolID.String() + v.SHA256
	if out.Removed || p.images[key] != nil {
		return
	}
	i := &hostspec.Image{Sha256: v.SHA256, Format: out.ImageFormat, PoolId: v.PoolID.String()}
	if ok {
		i.SizeBytes, i.VirtualSizeBytes = t.FileBytes, t.SizeBytes
	}
	p.images[key] = i
}

func renderPool(p *cloud.StoragePool) *hostspec.StoragePool {
	kind := hostspec.PoolType_POOL_TYPE_LOCAL
	switch {
	case p.Kind == cloud.PoolNetworkFilesystem:
		kind = hostspec.PoolType_POOL_TYPE_NFS
	case p.Kind == cloud.PoolSharedMountPoint, p.HostID.IsZero():
		kind = hostspec.PoolType_POOL_TYPE_SHARED_MOUNT
	}
	return &hostspec.StoragePool{Id: p.ID.String(), Type: kind, Path: p.Path, Source: p.Source}
}

func (a *Area) renderVM(r store.Reader, vm *cloud.VM) (*hostspec.VirtualMachine, error) {
	vnc, err := a.Seal.Open(vm.VNCPassword)
	if err != nil {
		return nil, err
	}
	m := &hostspec.VirtualMachine{
		Id: vm.ID.String(), InstanceName: vm.InstanceName, Hostname: vm.Name, Power: hostspec.PowerState_POWER_STATE_RUNNING,
		BootEpoch: vm.BootEpoch, StartEpoch: vm.StartEpoch, Vcpus: vm.CPUs, CpuMhz: vm.CPUMHz, MemoryMib: vm.MemoryMiB,
		Ha: vm.HA, StopGraceSeconds: stopGrace, ForcedStop: vm.ForcedStop, VncPassword: vnc, Keymap: keymap(vm.Keyboard),
	}
	if vm.State == cloud.VMStopping || vm.Evicting {
		m.Power = hostspec.PowerState_POWER_STATE_STOPPED
		m.ForcedStop = m.ForcedStop || vm.Evicting
	}
	o, ok := tables.ServiceOfferings.Get(r, vm.OfferingID)
	if ok {
		m.CpuCap = o.LimitCPU
	} else {
		o = &cloud.ServiceOffering{}
	}
	if t, ok := tables.OSTypes.Get(r, vm.OSTypeID); ok {
		m.OsType = t.Description
	}
	for _, v := range VolumesOf(r, vm.ID) {
		m.Disks = append(m.Disks, renderDisk(r, o, v))
	}
	for nic := range tables.NICs.By(r, "vm", store.K(vm.ID)) {
		m.Nics = append(m.Nics, &hostspec.Nic{
			Id: nic.ID.String(), NetworkId: nic.NetworkID.String(), Mac: MACString(nic.MAC), Ip: addrString(nic), DefaultNic: nic.Default,
			RateMbit: rate(r, o, nic),
		})
	}
	return m, nil
}

// renderDisk is a volume in its VM, with the bounds of its offering: the service offering for the root disk.
func renderDisk(r store.Reader, o *cloud.ServiceOffering, v *cloud.Volume) *hostspec.Disk {
	b, cache := o.Rates, o.CacheMode
	if !v.Root {
		b, cache = cloud.DiskRates{}, ""
		if offered, ok := tables.DiskOfferings.Get(r, v.OfferingID); ok {
			b, cache = offered.Rates, offered.CacheMode
		}
	}
	return &hostspec.Disk{
		VolumeId: v.ID.String(), DeviceId: v.DeviceID, Cache: cache,
		ReadBytes: b.BytesRead, WriteBytes: b.BytesWrite, ReadIops: b.IOPSRead, WriteIops: b.IOPSWrite,
		ReadBytesMax: b.BytesReadMax, WriteBytesMax: b.BytesWriteMax, ReadIopsMax: b.IOPSReadMax, WriteIopsMax: b.IOPSWriteMax,
		ReadBytesMaxSeconds: b.BytesReadMaxSeconds, WriteBytesMaxSeconds: b.BytesWriteMaxSeconds,
		ReadIopsMaxSeconds: b.IOPSReadMaxSeconds, WriteIopsMaxSeconds: b.IOPSWriteMaxSeconds,
	}
}

// keymap is qemu's name of a keyboard that CloudStack names.
func keymap(keyboard string) string {
	switch keyboard {
	case "uk":
		return "en-gb"
	case "us":
		return "en-us"
	case "jp":
		return "ja"
	case "nl-be":
		return "nl"
	}
	return keyboard
}

// rate is what a NIC may send and receive in Mbit/s: the service offering's for the default NIC, else that of the
// network's offering, else what the settings say; 0 is no bound.
func rate(r store.Reader, o *cloud.ServiceOffering, nic *cloud.NIC) uint32 {
	if nic.Default {
		if rate := cmp.Or(o.NetworkRate, uint32(vmRate.Int(r))); rate > 0 {
			return rate
		}
	}
	n, ok := tables.Networks.Get(r, nic.NetworkID)
	if !ok {
		return 0
	}
	if offered, ok := tables.NetworkOfferings.Get(r, n.OfferingID); ok && offered.NetworkRate > 0 {
		return offered.NetworkRate
	}
	return uint32(networkRate.Int(r, n.ZoneID))
}

func addrString(nic *cloud.NIC) string {
	if !nic.IP.IsValid() {
		return ""
	}
	return nic.IP.String()
}

// MACString is the colon form of a 48-bit address.
func MACString(mac uint64) string {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for shift := 44; shift >= 0; shift -= 4 {
		if shift%8 == 4 && len(b) > 0 {
			b = append(b, ':')
		}
		b = append(b, hex[mac>>shift&15])
	}
	return string(b)
}
