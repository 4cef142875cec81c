package server

import (
	"iter"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ownedByDomains is owned for what belongs to a domain itself: it goes after the domain's accounts.
func (a *areas) ownedByDomains() []identity.Owned {
	return []identity.Owned{
		{
			Kind: "zone", IDs: func(store.Reader, cloud.ID) iter.Seq[cloud.ID] { return func(func(cloud.ID) bool) {} },
			Refuse: func(r store.Reader, domain cloud.ID) error {
				for z := range tables.Zones.All(r) {
					if z.DomainID == domain {
						return cloud.Errorf(cloud.Invalid, "Zone %s is dedicated to the domain; release or delete it first", z.Name)
					}
				}
				return nil
			},
		},
		{Kind: "dedicated public range", IDs: dedicated(tables.VLANRanges, ofRange, true), Remove: a.releaseRange},
		{Kind: "dedicated guest range", IDs: dedicated(tables.GuestVLANRanges, ofGuestRange, true), Remove: remove(tables.GuestVLANRanges)},
		{Kind: "group of dedicated places", IDs: ofAccount(tables.AffinityGroups), Remove: removeGroup},
		{
			Kind: "service offering", Remove: loseDomains(tables.ServiceOfferings, func(tx *store.Tx, o *cloud.ServiceOffering) {
				if o.DomainIDs = withoutGone(tx, o.DomainIDs); len(o.DomainIDs) == 0 && o.Removed.IsZero() {
					o.Removed = tx.Now()
				}
			}),
			IDs: restricted(tables.ServiceOfferings, func(o *cloud.ServiceOffering) (cloud.ID, []cloud.ID) { return o.ID, o.DomainIDs }),
		},
		{
			Kind: "disk offering", Remove: loseDomains(tables.DiskOfferings, func(tx *store.Tx, o *cloud.DiskOffering) {
				if o.DomainIDs = withoutGone(tx, o.DomainIDs); len(o.DomainIDs) == 0 && o.Removed.IsZero() {
					o.Removed = tx.Now()
				}
			}),
			IDs: restricted(tables.DiskOfferings, func(o *cloud.DiskOffering) (cloud.ID, []cloud.ID) { return o.ID, o.DomainIDs }),
		},
		{
			Kind: "network offering", Remove: loseDomains(tables.NetworkOfferings, func(tx *store.Tx, o *cloud.NetworkOffering) {
				if o.DomainIDs = withoutGone(tx, o.DomainIDs); len(o.DomainIDs) == 0 && o.Removed.IsZero() {
					o.Removed, o.State = tx.Now(), cloud.OfferingDisabled
				}
			}),
			IDs: restricted(tables.NetworkOfferings, func(o *cloud.NetworkOffering) (cloud.ID, []cloud.ID) { return o.ID, o.DomainIDs }),
		},
	}
}

// loseDomains takes domains that go out of a row that is for some domains only.
func loseDomains[R any](t *store.Table[R], f func(tx *store.Tx, row *R)) func(*store.Tx, cloud.ID) (bool, error) {
	return func(tx *store.Tx, id cloud.ID) (bool, error) {
		return true, t.Edit(tx, id, func(row *R) error {
			f(tx, row)
			return nil
		})
	}
}

// withoutGone leaves domains out that are gone or going. An offering that loses its last domain has to be removed: with
// none it would become everybody's.
func withoutGone(r store.Reader, domains []cloud.ID) []cloud.ID {
	return slices.DeleteFunc(slices.Clone(domains), func(id cloud.ID) bool {
		d, ok := tables.Domains.Get(r, id)
		return !ok || d.State == cloud.Inactive
	})
}

// restricted finds the rows that are for a domain.
func restricted[R any](t *store.Table[R], of func(*R) (cloud.ID, []cloud.ID)) func(store.Reader, cloud.ID) iter.Seq[cloud.ID] {
	return func(r store.Reader, domain cloud.ID) iter.Seq[cloud.ID] {
		return func(yield func(cloud.ID) bool) {
			for row := range t.All(r) {
				if id, domains := of(row); slices.Contains(domains, domain) && !yield(id) {
					return
				}
			}
		}
	}
}
