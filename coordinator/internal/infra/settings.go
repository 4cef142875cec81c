package infra

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// How far hosts and pools may be over-allocated.
var (
	CPUFactor = settings.Define(settings.Def{
		Name: "cpu.overprovisioning.factor", Category: "Advanced", Type: settings.Float, Default: "1", Min: 0.1, Max: 100,
		Scopes: settings.Cluster, Doc: "How many times the CPU of a host may be allocated.",
	})
	MemoryFactor = settings.Define(settings.Def{
		Name: "mem.overprovisioning.factor", Category: "Advanced", Type: settings.Float, Default: "1", Min: 0.1, Max: 100,
		Scopes: settings.Cluster, Doc: "How many times the memory of a host may be allocated.",
	})
	StorageFactor = settings.Define(settings.Def{
		Name: "storage.overprovisioning.factor", Category: "Storage", Type: settings.Float, Default: "2", Min: 0.1, Max: 100,
		Scopes: settings.Pool, Doc: "How many times the size of a storage pool may be allocated to thin volumes.",
	})
	haTag = settings.Define(settings.Def{
		Name: "ha.tag", Category: "Advanced", Type: settings.String,
		Doc: "The tag of hosts that are kept free for highly available VMs whose host was lost; empty keeps none.",
	})
	capacityCheck = settings.Define(settings.Def{
		Name: "capacity.check.period", Category: "Alert", Type: settings.Integer, Default: "300000", Min: 1000, Max: 86400000,
		Doc: "Milliseconds between looks at what is running full.",
	})
)

// KeptForHA tells of hosts with these tags whether they are kept free for VMs whose host was lost.
func KeptForHA(r store.Reader) func(tags []string) bool {
	tag := haTag.Text(r)
	return func(tags []string) bool { return tag != "" && slices.Contains(tags, tag) }
}

// notify makes a threshold above which an alert is raised.
func notify(name string, scopes settings.Scope, what string) *settings.Def {
	return settings.Define(settings.Def{
		Name: name + ".notificationthreshold", Category: "Alert", Type: settings.Float, Default: "0.75", Min: 0, Max: 1, Scopes: scopes,
		Doc: "The part of " + what + " from which on an alert is raised.",
	})
}

// thresholds by what is counted.
var thresholds = map[CapacityType]*settings.Def{
	CapacityMemory:         notify("cluster.memory.allocated.capacity", settings.Cluster, "a cluster's memory that is allocated"),
	CapacityCPU:            notify("cluster.cpu.allocated.capacity", settings.Cluster, "a cluster's CPU that is allocated"),
	CapacityStorage:        notify("cluster.storage.capacity", settings.Cluster, "a cluster's shared primary storage that is in use"),
	CapacityStorageAlloc:   notify("cluster.storage.allocated.capacity", settings.Cluster, "a cluster's shared primary storage that is allocated"),
	CapacityLocalStorage:   notify("cluster.localStorage.capacity", settings.Cluster, "the storage of a cluster's hosts that is allocated"),
	CapacityPublicIP:       notify("zone.virtualnetwork.publicip.capacity", settings.Zone, "a zone's public addresses that is in use"),
	CapacityDirectPublicIP: notify("zone.directnetwork.publicip.capacity", settings.Zone, "the addresses of a zone's shared networks that is in use"),
	CapacityVLAN:           notify("zone.vlan.capacity", settings.Zone, "a zone's VLANs and VNIs that is in use"),
	CapacitySecondary:      notify("zone.secstorage.capacity", settings.Zone, "a zone's secondary storage that is in use"),
	CapacityPrivateIP:      notify("pod.privateip.capacity", settings.Zone, "a pod's addresses that is in use"),
}

// Settings lists the settings of this area, for the registry.
func Settings() []*settings.Def {
	list := []*settings.Def{CPUFactor, MemoryFactor, StorageFactor, haTag, capacityCheck}
	for _, d := range thresholds {
		list = append(list, d)
	}
	return list
}
