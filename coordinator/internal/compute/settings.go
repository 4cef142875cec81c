package compute

import "github.com/wispcloud/wisp/coordinator/internal/settings"

// The settings that this area honours.
var (
	cpuFactor = settings.Define(settings.Def{
		Name: "cpu.overprovisioning.factor", Category: "Advanced", Type: settings.Float, Default: "1", Min: 0.1, Max: 100,
		Doc: "How many times the CPU of a host may be allocated; a cluster's own factor wins.",
	})
	memFactor = settings.Define(settings.Def{
		Name: "mem.overprovisioning.factor", Category: "Advanced", Type: settings.Float, Default: "1", Min: 0.1, Max: 100,
		Doc: "How many times the memory of a host may be allocated; a cluster's own factor wins.",
	})
	storageFactor = settings.Define(settings.Def{
		Name: "storage.overprovisioning.factor", Category: "Storage", Type: settings.Float, Default: "2", Min: 0.1, Max: 100,
		Doc: "How many times the size of a storage pool may be allocated to thin volumes.",
	})
	storageLimit = settings.Define(settings.Def{
		Name: "pool.storage.allocated.capacity.disablethreshold", Category: "Alert", Type: settings.Float, Default: "0.85", Min: 0, Max: 1,
		Doc: "The part of a pool's (over-provisioned) size up to which volumes are allocated on it.",
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
	instanceName = settings.Define(settings.Def{
		Name: "instance.name", Category: "Advanced", Type: settings.String, Default: "VM",
		Doc: "The last part of the names that VMs have on their hosts.",
	})
)

// Settings lists the settings of this area, for the registry.
func Settings() []*settings.Def {
	return []*settings.Def{cpuFactor, memFactor, storageFactor, storageLimit, expungeDelay, expungeInterval, allowUserExpunge, instanceName}
}
