package infra

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Below tells whether domain is top or under it.
func Below(r store.Reader, domain, top cloud.ID) bool {
	for range 256 {
		if domain == top {
			return true
		}
		d, ok := tables.Domains.Get(r, domain)
		if !ok || d.ParentID.IsZero() {
			return false
		}
		domain = d.ParentID
	}
	return false
}

// MayHave tells whether an account of a domain may use what is dedicated to ownerAccount, or else to ownerDomain and all
// below it; zero both is everybody's.
func MayHave(r store.Reader, account, domain, ownerAccount, ownerDomain cloud.ID) bool {
	switch {
	case !ownerAccount.IsZero():
		return ownerAccount == account
	case ownerDomain.IsZero():
		return true
	}
	return Below(r, domain, ownerDomain)
}

// site is a place with what lies around it.
type site struct {
	kind                   cloud.PlaceKind
	id, zone, pod, cluster cloud.ID
	name                   string
}

// siteOf finds a place. A pending host has none.
func siteOf(r store.Reader, kind cloud.PlaceKind, id cloud.ID) (site, error) {
	s := site{kind: kind, id: id}
	found := false
	switch kind {
	case cloud.ZonePlace:
		var z *cloud.Zone
		if z, found = tables.Zones.Get(r, id); found {
			s.zone, s.name = id, z.Name
		}
	case cloud.PodPlace:
		var p *cloud.Pod
		if p, found = tables.Pods.Get(r, id); found {
			s.zone, s.pod, s.name = p.ZoneID, id, p.Name
		}
	case cloud.ClusterPlace:
		var c *cloud.Cluster
		if c, found = tables.Clusters.Get(r, id); found {
			s.zone, s.pod, s.cluster, s.name = c.ZoneID, c.PodID, id, c.Name
		}
	case cloud.HostPlace:
		var h *cloud.Host
		if h, found = tables.Hosts.Get(r, id); found {
			if h.ResourceState == cloud.HostPending {
				return s, cloud.Errorf(cloud.Invalid, "Host %s is pending: adopt it with addHost first", h.Name)
			}
			s.zone, s.pod, s.cluster, s.name = h.ZoneID, h.PodID, h.ClusterID, h.Name
		}
	}
	if !found {
		return s, &store.NotFound{Table: kind.String(), ID: id}
	}
	return s, nil
}

// around tells whether a wider place is around s.
func (s *site) around(id cloud.ID) bool {
	return id != s.id && (id == s.zone || id == s.pod || id == s.cluster)
}

// PlaceName is the name of a dedicated place.
func PlaceName(r store.Reader, d *cloud.Dedication) string {
	s, err := siteOf(r, d.Kind, d.PlaceID)
	if err != nil {
		return ""
	}
	return s.name
}

// holds tells whether a place lies in s.
func (s *site) holds(inner *site) bool { return inner.around(s.id) }

// holdsHost tells whether a host lies in s.
func (s *site) holdsHost(h *cloud.Host) bool {
	return s.id == h.ID || s.id == h.ClusterID || s.id == h.PodID || s.id == h.ZoneID
}

// Dedicate gives a place to an account, or without one to a domain and all below it: from now on nobody else's VMs are
// placed there, and in a pod, cluster or host only VMs in the affinity group of the dedication, which is made where there
// is none. What lies in the place and was dedicated to the same owner goes up in the new dedication.
//
// Errors: cloud.Invalid where the place, or what is around or in it, is dedicated to somebody else; cloud.InUse while
// VMs of others run there.
func Dedicate(tx *store.Tx, kind cloud.PlaceKind, id, domain cloud.ID, account *cloud.Account) (*cloud.Dedication, error) {
	s, err := siteOf(tx, kind, id)
	if err != nil {
		return nil, err
	}
	d := &cloud.Dedication{ID: tx.NewID(), Kind: kind, PlaceID: id, ZoneID: s.zone, DomainID: domain, Created: tx.Now()}
	if account != nil {
		d.AccountID, d.DomainID = account.ID, account.DomainID
	}
	if err := checkNeighbours(tx, &s, d); err != nil {
		return nil, err
	}
	if err := checkNobodyElse(tx, &s, d); err != nil {
		return nil, err
	}
	g, err := dedicationGroup(tx, d, account)
	if err != nil {
		return nil, err
	}
	d.GroupID = g.ID
	if err := tables.Dedications.Put(tx, d); err != nil {
		return nil, wrap("dedicate", kind.String(), id, err)
	}
	if kind != cloud.ZonePlace {
		return d, nil
	}
	return d, wrap("dedicate", "zone", id, tables.Zones.Edit(tx, id, func(z *cloud.Zone) error {
		z.DomainID = d.DomainID
		return nil
	}))
}

// checkNeighbours compares a dedication with those of the place itself, around it and in it; those in it that it makes
// superfluous are removed.
func checkNeighbours(tx *store.Tx, s *site, d *cloud.Dedication) error {
	same := func(o *cloud.Dedication) bool { return o.AccountID == d.AccountID && o.DomainID == d.DomainID }
	for o := range tables.Dedications.By(tx, "zone", store.K(s.zone)) {
		other, err := siteOf(tx, o.Kind, o.PlaceID)
		if err != nil {
			return err
		}
		switch {
		case o.PlaceID == s.id:
			return cloud.Errorf(cloud.Invalid, "The %s %s is already dedicated", s.kind, s.name)
		case s.around(o.PlaceID):
			if !o.AccountID.IsZero() || !Below(tx, d.DomainID, o.DomainID) {
				return cloud.Errorf(cloud.Invalid, "Cannot dedicate the %s %s: its %s %s is already dedicated", s.kind, s.name, o.Kind, other.name)
			}
		case !s.holds(&other):
		case same(o):
			if err := tables.Dedications.Delete(tx, o.ID); err != nil {
				return err
			}
		case !d.AccountID.IsZero() || !Below(tx, o.DomainID, d.DomainID):
			return cloud.Errorf(cloud.Invalid, "Cannot dedicate the %s %s: the %s %s in it is dedicated to a different account or domain", s.kind, s.name, o.Kind, other.name)
		}
	}
	return nil
}

// checkNobodyElse refuses a dedication while VMs of others are in the place.
func checkNobodyElse(r store.Reader, s *site, d *cloud.Dedication) error {
	for h := range tables.Hosts.By(r, "zone", store.K(s.zone)) {
		if !s.holdsHost(h) {
			continue
		}
		for vm := range tables.VMs.By(r, "host", store.K(h.ID)) {
			if !MayHave(r, vm.AccountID, vm.DomainID, d.AccountID, d.DomainID) {
				return cloud.Errorf(cloud.InUse, "Cannot dedicate the %s %s: host %s runs VM %s of another account; move or stop it first",
					s.kind, s.name, h.Name, vm.InstanceName)
			}
		}
	}
	return nil
}

// dedicationGroup finds or makes the affinity group of all that is dedicated to the same owner.
func dedicationGroup(tx *store.Tx, d *cloud.Dedication, account *cloud.Account) (*cloud.AffinityGroup, error) {
	g := &cloud.AffinityGroup{
		ID: tx.NewID(), Type: cloud.ExplicitDedication, AccountID: d.AccountID, DomainID: d.DomainID, Created: tx.Now(),
		Description: "dedicated resources group",
	}
	owner := d.AccountID
	if account != nil {
		g.Name = "DedicatedGrp-" + account.Name
	} else {
		x, ok := tables.Domains.Get(tx, d.DomainID)
		if !ok {
			return nil, &store.NotFound{Table: "domain", ID: d.DomainID}
		}
		g.Name, owner = "DedicatedGrp-domain-"+x.Name, x.ID
	}
	if old, ok := tables.AffinityGroups.First(tx, "account", store.K(owner, g.Name)); ok {
		if old.Type != cloud.ExplicitDedication {
			return nil, cloud.Errorf(cloud.Invalid, "Account %s has an affinity group %s of type %s, which is the name of the group for its dedicated places; "+
				"remove that one first", account.Name, old.Name, old.Type)
		}
		return old, nil
	}
	return g, tables.AffinityGroups.Put(tx, g)
}

// Release gives a dedicated place back to everybody. Its group goes with its last place; VMs of the group stay where they
// are.
func Release(tx *store.Tx, kind cloud.PlaceKind, id cloud.ID) error {
	d, ok := tables.Dedications.First(tx, "place", store.K(id))
	if !ok {
		s, err := siteOf(tx, kind, id)
		if err != nil {
			return err
		}
		return cloud.Errorf(cloud.Invalid, "The %s %s is not dedicated", kind, s.name)
	}
	return release(tx, d)
}

func release(tx *store.Tx, d *cloud.Dedication) error {
	if err := tables.Dedications.Delete(tx, d.ID); err != nil {
		return err
	}
	if d.Kind == cloud.ZonePlace {
		err := tables.Zones.Edit(tx, d.PlaceID, func(z *cloud.Zone) error {
			z.DomainID = cloud.ID{}
			return nil
		})
		if err != nil {
			return wrap("release", "zone", d.PlaceID, err)
		}
	}
	if tables.Dedications.Count(tx, "group", store.K(d.GroupID)) > 0 || !tables.AffinityGroups.Has(tx, d.GroupID) {
		return nil
	}
	return dropGroup(tx, d.GroupID)
}

// ReleaseGroup releases all places of a group, and thereby removes it.
func ReleaseGroup(tx *store.Tx, group cloud.ID) error {
	for d := range tables.Dedications.By(tx, "group", store.K(group)) {
		if err := release(tx, d); err != nil {
			return err
		}
	}
	if tables.AffinityGroups.Has(tx, group) {
		return dropGroup(tx, group)
	}
	return nil
}

func dropGroup(tx *store.Tx, id cloud.ID) error {
	for m := range tables.AffinityMembers.By(tx, "group", store.K(id)) {
		if err := tables.AffinityMembers.Delete(tx, m.ID); err != nil {
			return err
		}
	}
	return tables.AffinityGroups.Delete(tx, id)
}

// releaseRemoved ends the dedication of a place whose row goes.
func releaseRemoved(tx *store.Tx, id cloud.ID) error {
	if d, ok := tables.Dedications.First(tx, "place", store.K(id)); ok {
		return release(tx, d)
	}
	return nil
}

// ZoneOf finds a zone that is dedicated to the owner of a group, which therefore cannot go.
func ZoneOf(r store.Reader, owner cloud.ID) (*cloud.Zone, bool) {
	for g := range tables.AffinityGroups.By(r, "account", store.K(owner)) {
		for d := range tables.Dedications.By(r, "group", store.K(g.ID)) {
			if z, ok := tables.Zones.Get(r, d.PlaceID); ok {
				return z, true
			}
		}
	}
	return nil, false
}

// Claims gathers the dedications of a zone for what an account of a domain places; groups are the affinity groups of the
// VM. nil where nothing is dedicated and no group asks for it.
func Claims(r store.Reader, zone, account, domain cloud.ID, groups []*cloud.AffinityGroup) *place.Claims {
	c := &place.Claims{}
	chosen := map[cloud.ID]bool{}
	for _, g := range groups {
		if g.Type == cloud.ExplicitDedication {
			chosen[g.ID], c.Choosy = true, true
		}
	}
	for d := range tables.Dedications.By(r, "zone", store.K(zone)) {
		x := place.Dedicated{Mine: MayHave(r, account, domain, d.AccountID, d.DomainID), Chosen: chosen[d.GroupID]}
		if g, ok := tables.AffinityGroups.Get(r, d.GroupID); ok && x.Mine {
			x.Group = g.Name
		}
		if c.Of == nil {
			c.Of = map[cloud.ID]place.Dedicated{}
		}
		c.Of[d.PlaceID] = x
	}
	if len(c.Of) == 0 && !c.Choosy {
		return nil
	}
	return c
}

// RouterClaims is Claims for a router of an account: it may be wherever its owner may be.
func RouterClaims(r store.Reader, zone, account, domain cloud.ID) *place.Claims {
	c := Claims(r, zone, account, domain, nil)
	if c != nil {
		c.Router = true
	}
	return c
}
