package compute

import "github.com/wispcloud/wisp/coordinator/internal/settings"

// The settings that this area honours.
var (
	storageLimit = settings.Define(settings.Def{
		Name: "pool.storage.allocated.capacity.disablethreshold", Category: "Alert", Type: settings.Float, Default: "0.85", Min: 0, Max: 1, Scopes: settings.Zone | settings.Pool,
		Doc: "The part of a pool's (over-provisioned) size up to which volumes are allocated on it.",
	})
	storageFull = settings.Define(settings.Def{
		Name: "pool.storage.capacity.disablethreshold", Category: "Alert", Type: settings.Float, Default: "0.85", Min: 0, Max: 1,
		Scopes: settings.Zone | settings.Pool, Doc: "The part of a pool's real size that may be in use before it takes no more volumes.",
	})
	cpuLimit = settings.Define(settings.Def{
		Name: "cluster.cpu.allocated.capacity.disablethreshold", Category: "Alert", Type: settings.Float, Default: "0.85", Min: 0, Max: 1,
		Scopes: settings.Cluster, Doc: "The part of a cluster's CPU, over-provisioning included, up to which VMs are started on it. The rest is for VMs that start again on their last host, or where an administrator says, and for highly available ones that lost theirs.",
	})
	memLimit = settings.Define(settings.Def{
		Name: "cluster.memory.allocated.capacity.disablethreshold", Category: "Alert", Type: settings.Float, Default: "0.85", Min: 0, Max: 1,
		Scopes: settings.Cluster, Doc: "The part of a cluster's memory, over-provisioning included, up to which VMs are started on it. The rest is kept for the same as that of the CPU.",
	})
	customMin = settings.Define(settings.Def{
		Name: "custom.diskoffering.size.min", Category: "Advanced", Type: settings.Integer, Default: "1", Min: 1, Max: 1 << 20,
		Doc: "The smallest disk of an offering with a free size, in GiB.",
	})
	customMax = settings.Define(settings.Def{
		Name: "custom.diskoffering.size.max", Category: "Advanced", Type: settings.Integer, Default: "1024", Min: 1, Max: 1 << 20,
		Doc: "The largest disk of an offering with a free size, in GiB.",
	})
	volumeMax = settings.Define(settings.Def{
		Name: "storage.max.volume.size", Category: "Storage", Type: settings.Integer, Default: "2000", Min: 1, Max: 1 << 20,
		Doc: "The largest disk that is made, in GiB; those that are there stay as they are.",
	})
	vmRate = settings.Define(settings.Def{
		Name: "vm.network.throttling.rate", Category: "Network", Type: settings.Integer, Default: "0", Min: 0, Max: 1e6,
		Doc: "Mbit/s of a VM's default NIC where its service offering says none; 0, which CloudStack's 200 is not, leaves it to the network.",
	})
	networkRate = settings.Define(settings.Def{
		Name: "network.throttling.rate", Category: "Network", Type: settings.Integer, Default: "0", Min: 0, Max: 1e6, Scopes: settings.Zone,
		Doc: "Mbit/s of a VM's NIC where no offering says any; 0, which CloudStack's 200 is not, is no bound.",
	})
	expungeDelay = settings.Define(settings.Def{
		Name: "expunge.delay", Category: "Advanced", Type: settings.Seconds, Default: "86400", Min: 0, Max: 31536000,
		Doc: "How long, in seconds, a destroyed VM can still be recovered before its disks and addresses are freed.",
	})
	expungeInterval = settings.Define(settings.Def{
		Name: "expunge.interval", Category: "Advanced", Type: settings.Seconds, Default: "60", Min: 1, Max: 86400,
		Doc: "How often, in seconds, destroyed VMs are looked at.",
	})
	allowUserExpunge = settings.Define(settings.Def{
		Name: "allow.user.expunge.recover.vm", Category: "Advanced", Type: settings.Boolean, Default: "false",
		Doc: "Whether users may expunge and recover their own VMs.",
	})
	runningOnly = settings.Define(settings.Def{
		Name: "resource.count.running.vms.only", Category: "Advanced", Type: settings.Boolean, Default: "false",
		Doc: "Whether running VMs alone count against limits of virtual machines, processors and memory, from the next start or stop of each on; otherwise they count from deployment until they are destroyed.",
	})
	instanceName = settings.Define(settings.Def{
		Name: "instance.name", Category: "Advanced", Type: settings.String, Default: "VM",
		Doc: "The last part of the names that VMs have on their hosts.",
	})
)

// Settings lists the settings of this area, for the registry.
func Settings() []*settings.Def {
	return []*settings.Def{
		storageLimit, storageFull, cpuLimit, memLimit, customMin, customMax, volumeMax, vmRate, networkRate,
		expungeDelay, expungeInterval, allowUserExpunge, runningOnly, instanceName, restartRetry,
		KeyPairs.limit, InstanceGroups.limit, AffinityGroups.limit, KeptUserData.limit,
	}
}
