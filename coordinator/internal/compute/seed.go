package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RouterOffering is the service offering of routers that run as system VMs, where their network offering names none.
const RouterOffering = "System Offering For Software Router"

// Seed writes the offerings that a fresh cloud has, by the names that scripts written for CloudStack look for. It is
// called once, in the transaction that makes the cloud; an operator may delete them.
func Seed(tx *store.Tx) error {
	for _, o := range []cloud.ServiceOffering{
		{Name: "Small Instance", DisplayText: "Small Instance", CPUs: 1, CPUMHz: 500, MemoryMiB: 512},
		{Name: "Medium Instance", DisplayText: "Medium Instance", CPUs: 1, CPUMHz: 1000, MemoryMiB: 1024},
	} {
		o.ID, o.StorageType, o.Created = tx.NewID(), "shared", tx.Now()
		if err := tables.ServiceOfferings.Put(tx, &o); err != nil {
			return err
		}
	}
	for _, o := range []cloud.ServiceOffering{
		{Name: RouterOffering, SystemVM: "domainrouter", CPUs: 1, CPUMHz: 500, MemoryMiB: 256},
		{Name: "System Offering For Console Proxy", SystemVM: "consoleproxy", CPUs: 1, CPUMHz: 500, MemoryMiB: 1024},
		{Name: "System Offering For Secondary Storage VM", SystemVM: "secondarystoragevm", CPUs: 1, CPUMHz: 500, MemoryMiB: 512},
		{Name: "System Offering For Internal LB VM", SystemVM: "internalloadbalancervm", CPUs: 1, CPUMHz: 256, MemoryMiB: 256},
		{Name: "System Offering For Elastic LB VM", SystemVM: "elasticloadbalancervm", CPUs: 1, CPUMHz: 128, MemoryMiB: 128},
	} {
		o.ID, o.DisplayText, o.StorageType, o.Created = tx.NewID(), o.Name, "shared", tx.Now()
		o.System, o.Default, o.OfferHA = true, true, true
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
		o.ID, o.StorageType, o.Created = tx.NewID(), "shared", tx.Now()
		if err := tables.DiskOfferings.Put(tx, &o); err != nil {
			return err
		}
	}
	return nil
}
