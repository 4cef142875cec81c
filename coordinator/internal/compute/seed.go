package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Seed writes the sizes of VMs and disks that every cloud has, by the names that scripts written for CloudStack look for.
// It may be called again, at each start of a leader: what an operator has deleted or renamed since stays so, as a row
// keeps the id that its first name gives. (The size of routers is package network's.)
func Seed(tx *store.Tx) error {
	if seededUnderOtherIDs(tx) {
		return nil
	}
	for _, o := range append(defaultSizes(), systemSizes()...) {
		o.ID, o.StorageType, o.Created = cloud.NameID("service_offering", o.Name), "shared", tx.Now()
		if tables.ServiceOfferings.Has(tx, o.ID) {
			continue
		}
		if err := tables.ServiceOfferings.Put(tx, &o); err != nil {
			return err
		}
	}
	for _, o := range []cloud.DiskOffering{
		{Name: "Small", DisplayText: "Small Disk, 5 GB", SizeBytes: 5 << 30},
		{Name: "Medium", DisplayText: "Medium Disk, 20 GB", SizeBytes: 20 << 30},
		{Name: "Large", DisplayText: "Large Disk, 100 GB", SizeBytes: 100 << 30},
		{Name: "Custom", DisplayText: "Custom Disk", Customized: true},
	} {
		o.ID, o.StorageType, o.Created = cloud.NameID("disk_offering", o.Name), "shared", tx.Now()
		if tables.DiskOfferings.Has(tx, o.ID) {
			continue
		}
		if err := tables.DiskOfferings.Put(tx, &o); err != nil {
			return err
		}
	}
	return nil
}

func defaultSizes() []cloud.ServiceOffering {
	return []cloud.ServiceOffering{
		{Name: "Small Instance", DisplayText: "Small Instance", CPUs: 1, CPUMHz: 500, MemoryMiB: 512},
		{Name: "Medium Instance", DisplayText: "Medium Instance", CPUs: 1, CPUMHz: 1000, MemoryMiB: 1024},
	}
}

// systemSizes are those of system VMs. They cannot be deleted.
func systemSizes() []cloud.ServiceOffering {
	all := []cloud.ServiceOffering{
		{Name: "System Offering For Console Proxy", SystemVM: "consoleproxy", CPUs: 1, CPUMHz: 500, MemoryMiB: 1024},
		{Name: "System Offering For Secondary Storage VM", SystemVM: "secondarystoragevm", CPUs: 1, CPUMHz: 500, MemoryMiB: 512},
		{Name: "System Offering For Internal LB VM", SystemVM: "internalloadbalancervm", CPUs: 1, CPUMHz: 256, MemoryMiB: 256},
		{Name: "System Offering For Elastic LB VM", SystemVM: "elasticloadbalancervm", CPUs: 1, CPUMHz: 128, MemoryMiB: 128},
	}
	for i := range all {
		all[i].DisplayText, all[i].System, all[i].Default, all[i].OfferHA = all[i].Name, true, true, true
	}
	return all
}

// seededUnderOtherIDs tells of a cloud that was made when these rows had ids of their own: it was given all of them, and
// what of them was deleted or renamed cannot be told from what was never there.
func seededUnderOtherIDs(r store.Reader) bool {
	for o := range tables.ServiceOfferings.All(r) {
		if o.Default && o.SystemVM == "consoleproxy" && o.ID != cloud.NameID("service_offering", systemSizes()[0].Name) {
			return true
		}
	}
	return false
}
