package compute

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// CreateInstanceGroup makes an instance group. Errors: cloud.Invalid where the account has one of that name,
// cloud.LimitExceeded.
func CreateInstanceGroup(tx *store.Tx, account *cloud.Account, name string) (*cloud.InstanceGroup, error) {
	if err := Room(tx, InstanceGroups, account); err != nil {
		return nil, err
	}
	g := &cloud.InstanceGroup{ID: tx.NewID(), Name: name, AccountID: account.ID, DomainID: account.DomainID, Created: tx.Now()}
	return g, putInstanceGroup(tx, g, account.Name)
}

// RenameInstanceGroup gives a group another name.
func RenameInstanceGroup(tx *store.Tx, g *cloud.InstanceGroup, name string) error {
	g.Name = name
	owner := g.AccountID.String()
	if a, ok := tables.Accounts.Get(tx, g.AccountID); ok {
		owner = a.Name
	}
	return putInstanceGroup(tx, g, owner)
}

func putInstanceGroup(tx *store.Tx, g *cloud.InstanceGroup, owner string) error {
	err := tables.InstanceGroups.Put(tx, g)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "Unable to create vm group, a group with name %s already exists for account %s", g.Name, owner)
	}
	return err
}

// DeleteInstanceGroup removes a group; its VMs stay, without one.
func DeleteInstanceGroup(tx *store.Tx, id cloud.ID) error {
	for vm := range tables.VMs.By(tx, "group", store.K(id)) {
		vm.GroupID = cloud.ID{}
		if err := tables.VMs.Put(tx, vm); err != nil {
			return err
		}
	}
	return tables.InstanceGroups.Delete(tx, id)
}

// SetGroup puts a VM into the group of that name of its account, which is made where there is none; "" takes it out of
// its group. The caller writes the row.
func SetGroup(tx *store.Tx, vm *cloud.VM, name string) error {
	vm.Group, vm.GroupID = "", cloud.ID{}
	if name == "" {
		return nil
	}
	g, ok := tables.InstanceGroups.First(tx, "account", store.K(vm.AccountID, name))
	if !ok {
		a, found := tables.Accounts.Get(tx, vm.AccountID)
		if !found {
			return &store.NotFound{Table: "account", ID: vm.AccountID}
		}
		var err error
		if g, err = CreateInstanceGroup(tx, a, name); err != nil {
			return err
		}
	}
	vm.GroupID = g.ID
	return nil
}

// CreateAffinityGroup makes an affinity group. Errors: cloud.Invalid, cloud.LimitExceeded.
func CreateAffinityGroup(tx *store.Tx, account *cloud.Account, name, description, kind string) (*cloud.AffinityGroup, error) {
	i := slices.IndexFunc(cloud.AffinityTypes, func(t cloud.AffinityType) bool { return strings.EqualFold(t.String(), kind) })
	if i < 0 {
		var known []string
		for _, t := range cloud.AffinityTypes {
			known = append(known, t.String())
		}
		return nil, cloud.Errorf(cloud.Invalid, "Unable to create affinity group, invalid affinity group type %q; accepted are %s", kind, strings.Join(known, ", "))
	}
	if err := Room(tx, AffinityGroups, account); err != nil {
		return nil, err
	}
	g := &cloud.AffinityGroup{
		ID: tx.NewID(), Name: name, Description: description, Type: cloud.AffinityTypes[i],
		AccountID: account.ID, DomainID: account.DomainID, Created: tx.Now(),
	}
	err := tables.AffinityGroups.Put(tx, g)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to create affinity group, a group with name %s already exists.", name)
	}
	return g, err
}

// DeleteAffinityGroup removes a group and releases what is dedicated to it; its VMs stay where they are.
func DeleteAffinityGroup(tx *store.Tx, id cloud.ID) error { return infra.ReleaseGroup(tx, id) }

// MayJoin tells whether VMs of an account may be in a group: its own, or that of what is dedicated to a domain above.
func MayJoin(r store.Reader, account, domain cloud.ID, g *cloud.AffinityGroup) bool {
	return g.AccountID == account || g.AccountID.IsZero() && infra.Below(r, domain, g.DomainID)
}

// FindAffinityGroup finds a group that VMs of an account may be in by its name: the account's own first.
func FindAffinityGroup(r store.Reader, account *cloud.Account, name string) (*cloud.AffinityGroup, bool) {
	if g, ok := tables.AffinityGroups.First(r, "account", store.K(account.ID, name)); ok {
		return g, true
	}
	for g := range DomainGroups(r, account.DomainID) {
		if g.Name == name {
			return g, true
		}
	}
	return nil, false
}

// DomainGroups are the groups of what is dedicated to a domain and those above it.
func DomainGroups(r store.Reader, domain cloud.ID) iter.Seq[*cloud.AffinityGroup] {
	return func(yield func(*cloud.AffinityGroup) bool) {
		for !domain.IsZero() {
			for g := range tables.AffinityGroups.By(r, "account", store.K(domain)) {
				if !yield(g) {
					return
				}
			}
			d, ok := tables.Domains.Get(r, domain)
			if !ok {
				return
			}
			domain = d.ParentID
		}
	}
}

// AffinityOf lists the affinity groups of a VM.
func AffinityOf(r store.Reader, vm cloud.ID) (groups []*cloud.AffinityGroup) {
	for m := range tables.AffinityMembers.By(r, "vm", store.K(vm)) {
		if g, ok := tables.AffinityGroups.Get(r, m.GroupID); ok {
			groups = append(groups, g)
		}
	}
	slices.SortFunc(groups, func(a, b *cloud.AffinityGroup) int { return strings.Compare(a.Name, b.Name) })
	return groups
}

// SetAffinity makes a VM a member of exactly these groups of its account. Where it is placed follows at its next start.
func SetAffinity(tx *store.Tx, vm *cloud.VM, groups []*cloud.AffinityGroup) error {
	if err := leaveAffinity(tx, vm.ID); err != nil {
		return err
	}
	for _, g := range groups {
		if !MayJoin(tx, vm.AccountID, vm.DomainID, g) {
			return cloud.Errorf(cloud.Denied, "Affinity Group: %s does not belong to the account of VM %s", g.Name, vm.ID)
		}
		m := &cloud.AffinityMember{ID: cloud.NameID("affinity", g.ID.String()+"/"+vm.ID.String()), GroupID: g.ID, VMID: vm.ID}
		if err := tables.AffinityMembers.Put(tx, m); err != nil {
			return err
		}
	}
	return nil
}

// leaveAffinity takes a VM out of its affinity groups.
func leaveAffinity(tx *store.Tx, vm cloud.ID) error {
	for m := range tables.AffinityMembers.By(tx, "vm", store.K(vm)) {
		if err := tables.AffinityMembers.Delete(tx, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// softBias outweighs any fill and the preference of the last host: a wish is given up only where no host grants it.
const softBias = 8

// affinity tells placement what a VM's groups say about hosts: where other members are, or are to be, and what is dedicated.
func affinity(r store.Reader, vm *cloud.VM, req *place.Request) {
	groups := AffinityOf(r, vm.ID)
	req.Claims = infra.Claims(r, vm.ZoneID, vm.AccountID, vm.DomainID, groups)
	for _, g := range groups {
		var together map[cloud.ID]bool
		for m := range tables.AffinityMembers.By(r, "group", store.K(g.ID)) {
			other, ok := tables.VMs.Get(r, m.VMID)
			if !ok || other.ID == vm.ID || other.HostID.IsZero() {
				continue
			}
			switch g.Type {
			case cloud.HostAntiAffinity:
				req.Forbid(other.HostID, fmt.Sprintf("VM %s of its anti-affinity group %s is there", other.InstanceName, g.Name))
			case cloud.SoftHostAntiAffinity:
				req.Weigh(other.HostID, softBias)
			case cloud.SoftHostAffinity:
				req.Weigh(other.HostID, -softBias)
			case cloud.HostAffinity:
				if together == nil {
					together = map[cloud.ID]bool{}
				}
				together[other.HostID] = true
			}
		}
		if together != nil {
			req.Together = append(req.Together, place.Together{Hosts: together, Reason: fmt.Sprintf("no other VM of its affinity group %s is there", g.Name)})
		}
	}
}
