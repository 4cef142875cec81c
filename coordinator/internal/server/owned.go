package server

import (
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// owned lists what accounts, those of projects among them, own: in the order in which it goes when they go.
func (a *areas) owned() []identity.Owned {
	return []identity.Owned{
		{Kind: "virtual machine", IDs: ofAccount(tables.VMs), Remove: func(tx *store.Tx, id cloud.ID) (bool, error) {
			return a.compute.RemoveVM(tx, id)
		}},
		{Kind: "volume", IDs: ofAccount(tables.Volumes), Remove: func(tx *store.Tx, id cloud.ID) (bool, error) {
			return a.compute.RemoveVolume(tx, id)
		}},
		{Kind: "network", IDs: ofAccount(tables.Networks), Remove: a.removeNetwork},
		{Kind: "public address", IDs: ofAccount(tables.PublicIPs), Remove: a.removeAddress},
		{Kind: "template", IDs: templatesOf, Remove: func(tx *store.Tx, id cloud.ID) (bool, error) {
			return true, storage.Remove(tx, id, identity.Count)
		}},
		{Kind: "SSH key pair", IDs: ofAccount(tables.SSHKeyPairs), Remove: remove(tables.SSHKeyPairs)},
		{Kind: "instance group", IDs: ofAccount(tables.InstanceGroups), Remove: remove(tables.InstanceGroups)},
		{Kind: "affinity group", IDs: ofAccount(tables.AffinityGroups), Remove: removeGroup, Refuse: keepZone("account")},
		{Kind: "user-data", IDs: ofAccount(tables.UserDatas), Remove: remove(tables.UserDatas)},
		{Kind: "tag", IDs: ofAccount(tables.Tags), Remove: remove(tables.Tags)},
		{Kind: "dedicated public range", Lent: true, IDs: dedicated(tables.VLANRanges, ofRange, false), Remove: a.releaseRange},
		{Kind: "dedicated guest range", Lent: true, IDs: dedicated(tables.GuestVLANRanges, ofGuestRange, false), Remove: remove(tables.GuestVLANRanges)},
		identity.OwnedInvitation, identity.OwnedMembership, identity.OwnedProject,
	}
}

// ofAccount finds an account's rows by the index that every table of what accounts own has.
func ofAccount[R any](t *store.Table[R]) func(store.Reader, cloud.ID) iter.Seq[cloud.ID] {
	return func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] { return t.IDs(r, "account", store.K(owner)) }
}

// remove is for rows that nothing else has to hear of.
func remove[R any](t *store.Table[R]) func(*store.Tx, cloud.ID) (bool, error) {
	return func(tx *store.Tx, id cloud.ID) (bool, error) { return true, t.Delete(tx, id) }
}

// dedicated finds the rows that are set aside for an account or, with wholeDomain, for a domain as a whole. Left to an
// owner that is gone they would be nobody's for ever.
func dedicated[R any](t *store.Table[R], of func(*R) (id, account, domain cloud.ID), wholeDomain bool) func(store.Reader, cloud.ID) iter.Seq[cloud.ID] {
	return func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] {
		return func(yield func(cloud.ID) bool) {
			for row := range t.All(r) {
				id, account, domain := of(row)
				if wholeDomain && (!account.IsZero() || domain != owner) || !wholeDomain && account != owner {
					continue
				}
				if !yield(id) {
					return
				}
			}
		}
	}
}

func ofRange(v *cloud.VLANRange) (id, account, domain cloud.ID) {
	return v.ID, v.AccountID, v.DomainID
}

func ofGuestRange(g *cloud.GuestVLANRange) (id, account, domain cloud.ID) {
	return g.ID, g.AccountID, g.DomainID
}

func (a *areas) releaseRange(tx *store.Tx, id cloud.ID) (bool, error) {
	v, ok := tables.VLANRanges.Get(tx, id)
	if !ok {
		return false, nil
	}
	return true, a.network.ReleaseRange(tx, v)
}

// removeGroup removes an affinity group and releases what is dedicated to its owner.
func removeGroup(tx *store.Tx, id cloud.ID) (bool, error) {
	return true, compute.DeleteAffinityGroup(tx, id)
}

// keepZone refuses to remove whom a zone is dedicated to: released, it would be everybody's.
func keepZone(owner string) func(store.Reader, cloud.ID) error {
	return func(r store.Reader, id cloud.ID) error {
		if z, ok := infra.ZoneOf(r, id); ok {
			return cloud.Errorf(cloud.Invalid, "Zone %s is dedicated to the %s; release or delete it first", z.Name, owner)
		}
		return nil
	}
}

// templatesOf leaves out templates that are gone for their owner: their rows wait for the last volume made of them.
func templatesOf(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] {
	return func(yield func(cloud.ID) bool) {
		for t := range tables.Templates.By(r, "account", store.K(owner)) {
			if t.State != cloud.TemplateRemoved && !yield(t.ID) {
				return
			}
		}
	}
}

func (a *areas) removeNetwork(tx *store.Tx, id cloud.ID) (bool, error) {
	n, ok := tables.Networks.Get(tx, id)
	if !ok || n.State == cloud.NetworkDestroy {
		return false, nil
	}
	return true, a.network.Delete(tx, n)
}

func (a *areas) removeAddress(tx *store.Tx, id cloud.ID) (bool, error) {
	ip, ok := tables.PublicIPs.Get(tx, id)
	if !ok || ip.State == cloud.IPReleasing || ip.SourceNAT {
		return false, nil
	}
	return true, a.network.Disassociate(tx, ip)
}
