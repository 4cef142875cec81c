package identity

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Tally is an amount of each kind of resource, by its number.
type Tally [cloud.ResourceSecondaryStorage + 1]int64

// Recounted tells what an account's rows add up to, without looking at counters. It is what the counters must say
// after every transaction; updateResourceCount writes it, and the property tests compare.
func Recounted(r store.Reader, account cloud.ID) (n Tally) {
	for vm := range tables.VMs.By(r, "account", store.K(account)) {
		if VMCounts(vm) {
			n[cloud.ResourceVM]++
			n[cloud.ResourceCPU] += int64(vm.CPUs)
			n[cloud.ResourceMemory] += int64(vm.MemoryMiB)
		}
	}
	for v := range tables.Volumes.By(r, "account", store.K(account)) {
		if volumeCounts(r, v) {
			n[cloud.ResourceVolume]++
			n[cloud.ResourcePrimaryStorage] += GiB(v.SizeBytes)
		}
	}
	for t := range tables.Templates.By(r, "account", store.K(account)) {
		if t.State == cloud.TemplateRemoved {
			continue
		}
		n[cloud.ResourceTemplate]++
		if t.State == cloud.TemplateReady {
			n[cloud.ResourceSecondaryStorage] += GiB(t.FileBytes)
		}
	}
	n[cloud.ResourcePublicIP] = int64(tables.PublicIPs.Count(r, "account", store.K(account)))
	n[cloud.ResourceNetwork] = int64(tables.Networks.Count(r, "account", store.K(account)))
	for m := range tables.ProjectMembers.By(r, "account", store.K(account)) {
		if m.Role == cloud.ProjectAdmin && m.UserID.IsZero() {
			n[cloud.ResourceProject]++
		}
	}
	return n
}

// VMCounts tells whether a VM counts against limits.
func VMCounts(vm *cloud.VM) bool {
	return !vm.Uncounted && vm.State != cloud.VMDestroyed && vm.State != cloud.VMExpunging
}

// volumeCounts: a volume counts until it is to be deleted, and those of a VM until that is destroyed.
func volumeCounts(r store.Reader, v *cloud.Volume) bool {
	if v.State == cloud.VolumeDestroy || v.State == cloud.VolumeExpunging || v.State == cloud.VolumeExpunged {
		return false
	}
	vm, ok := tables.VMs.Get(r, v.VMID)
	return !ok || vm.State != cloud.VMDestroyed && vm.State != cloud.VMExpunging
}

// GiB is how storage is counted: begun GiB.
func GiB(bytes uint64) int64 { return int64((bytes + 1<<30 - 1) >> 30) }

// Recount writes the counters of an account anew from its rows, and carries the difference to its domains.
func Recount(tx *store.Tx, a *cloud.Account, kinds []cloud.ResourceType) (Tally, error) {
	n := Recounted(tx, a.ID)
	for _, t := range kinds {
		delta := n[t] - Counted(tx, a.ID, t)
		if delta == 0 {
			continue
		}
		if err := setCount(tx, a.ID, t, n[t]); err != nil {
			return n, err
		}
		for id := a.DomainID; !id.IsZero(); {
			d, ok := tables.Domains.Get(tx, id)
			if !ok {
				break
			}
			if err := setCount(tx, id, t, max(Counted(tx, id, t)+delta, 0)); err != nil {
				return n, err
			}
			id = d.ParentID
		}
	}
	return n, nil
}

// RecountDomain writes the counters of a domain, and of all domains and accounts below it, anew, and carries the
// difference to the domains above.
func RecountDomain(tx *store.Tx, d *cloud.Domain, kinds []cloud.ResourceType) (Tally, error) {
	before := tally(tx, d.ID)
	n, err := recountBelow(tx, d, kinds)
	if err != nil {
		return n, err
	}
	for id := d.ParentID; !id.IsZero(); {
		up, ok := tables.Domains.Get(tx, id)
		if !ok {
			break
		}
		for _, t := range kinds {
			if delta := n[t] - before[t]; delta != 0 {
				if err := setCount(tx, id, t, max(Counted(tx, id, t)+delta, 0)); err != nil {
					return n, err
				}
			}
		}
		id = up.ParentID
	}
	return n, nil
}

func tally(r store.Reader, owner cloud.ID) (n Tally) {
	for t := range n {
		n[t] = Counted(r, owner, cloud.ResourceType(t))
	}
	return n
}

func recountBelow(tx *store.Tx, d *cloud.Domain, kinds []cloud.ResourceType) (sum Tally, err error) {
	for _, a := range slices.Collect(tables.Accounts.By(tx, "name", store.K(d.ID))) {
		n := Recounted(tx, a.ID)
		for _, t := range kinds {
			if n[t] != Counted(tx, a.ID, t) {
				if err := setCount(tx, a.ID, t, n[t]); err != nil {
					return sum, err
				}
			}
			sum[t] += n[t]
		}
	}
	for _, child := range slices.Collect(tables.Domains.By(tx, "parent", store.K(d.ID))) {
		n, err := recountBelow(tx, child, kinds)
		if err != nil {
			return sum, err
		}
		for _, t := range kinds {
			sum[t] += n[t]
		}
	}
	for _, t := range kinds {
		if sum[t] != Counted(tx, d.ID, t) {
			if err := setCount(tx, d.ID, t, sum[t]); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}
