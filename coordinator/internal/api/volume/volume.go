// Package volume holds the commands of disks. What happens to disks is in package compute.
package volume

import (
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command { return []api.Command{list(), metrics()} }

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "volume",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			v, ok := tables.Volumes.Get(r, id)
			if !ok || hidden(v) {
				return api.Owner{}, false
			}
			return owner(nil, v), true
		},
	}}
}

func owner(_ *api.Call, v *cloud.Volume) api.Owner {
	return api.Owner{Account: v.AccountID, Domain: v.DomainID}
}

// hidden are tombstones: files to be removed that no VM has any more.
func hidden(v *cloud.Volume) bool { return v.State == cloud.VolumeExpunging && v.VMID.IsZero() }

type listParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	ID             cloud.ID   `api:"id" doc:"this volume only"`
	IDs            []cloud.ID `api:"ids" since:"4.9" doc:"these volumes only"`
	Name           string     `api:"name" doc:"volumes of this name"`
	Type           string     `api:"type" enum:"ROOT,DATADISK" doc:"ROOT or DATADISK"`
	State          string     `api:"state" since:"4.16" doc:"volumes in this state"`
	VMID           cloud.ID   `api:"virtualmachineid" ref:"virtualmachine" doc:"volumes of this VM"`
	ZoneID         cloud.ID   `api:"zoneid" ref:"zone" doc:"volumes of this zone"`
	PodID          cloud.ID   `api:"podid" ref:"pod" role:"admin" doc:"volumes on pools of this pod"`
	ClusterID      cloud.ID   `api:"clusterid" ref:"cluster" role:"admin" since:"4.18" doc:"volumes on pools of this cluster"`
	HostID         cloud.ID   `api:"hostid" ref:"host" role:"admin" doc:"volumes of VMs on this host"`
	StorageID      cloud.ID   `api:"storageid" ref:"storagepool" role:"admin" since:"4.11" doc:"volumes on this pool"`
	DiskOfferingID cloud.ID   `api:"diskofferingid" ref:"diskoffering,use" since:"4.4" doc:"volumes of this disk offering"`
}

func list() api.Command {
	return api.Command{
		Name: "listVolumes", Doc: "Lists the disks that the caller owns or may see.", Roles: api.Everyone, Object: "volume",
		Run: api.List(lister()),
	}
}

func metrics() api.Command {
	return api.Command{
		Name: "listVolumesMetrics", Doc: "Lists the disks that the caller owns or may see, with their sizes in GiB.", Since: "4.9.3",
		Roles: api.Everyone, Object: "volume",
		Run: api.List(api.Extend(lister(), func(_ *api.Call, _ *listParams, v *cloud.Volume, a Answer) MetricsAnswer {
			return MetricsAnswer{a, capacity.GiB(v.SizeBytes)}
		})),
	}
}

// lister is the list of volumes, however much it tells of them.
func lister() api.Lister[listParams, cloud.Volume, Answer] {
	return api.Lister[listParams, cloud.Volume, Answer]{
		Rows: rows, Ranked: ranked, Owner: owner, Table: tables.Volumes,
		Kept:    func(c *api.Call, _ *listParams) (uint8, bool) { return api.RootShape(c), true },
		Keyword: func(v *cloud.Volume) string { return v.Name },
		View:    func(c *api.Call, v *cloud.Volume) Answer { return View(c.Read, v, c.IsRoot()) },
	}
}

// ranked takes the whole list, and one's own, from an index.
func ranked(c *api.Call, p *listParams) (api.Ranked[cloud.Volume], bool) {
	if !api.Unfiltered(*p) {
		return api.Ranked[cloud.Volume]{}, false
	}
	return api.Order[cloud.Volume]{Table: tables.Volumes, Own: "account", ByID: true, Owner: "owner", Domain: "domain", Hidden: tombstones}.Rank(c)
}

// tombstones are the entries of hidden volumes: by their IDs, or in the index of one account.
func tombstones(r store.Reader, account cloud.ID) (out []store.Entry) {
	for v := range tables.Volumes.By(r, "state", store.K(cloud.VolumeExpunging)) {
		switch {
		case !hidden(v) || !account.IsZero() && v.AccountID != account:
		case account.IsZero():
			out = append(out, store.Entry(v.ID[:]))
		default:
			out = append(out, store.Entry(store.K(v.Name, v.ID)))
		}
	}
	return out
}

func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.Volume], error) {
	all := candidates(c, p)
	is := func(want, have cloud.ID) bool { return want.IsZero() || want == have }
	return func(yield func(*cloud.Volume) bool) {
		for v := range all {
			keep := !hidden(v) && is(p.ID, v.ID) && (len(p.IDs) == 0 || slices.Contains(p.IDs, v.ID)) && is(p.VMID, v.VMID) &&
				is(p.ZoneID, v.ZoneID) && is(p.StorageID, v.PoolID) && is(p.DiskOfferingID, v.OfferingID) &&
				(p.Name == "" || v.Name == p.Name) && (p.Type == "" || strings.EqualFold(p.Type, kind(v))) &&
				(p.State == "" || strings.EqualFold(p.State, v.State.String())) && placed(c.Read, p, v)
			if keep && !yield(v) {
				return
			}
		}
	}, nil
}

func candidates(c *api.Call, p *listParams) iter.Seq[*cloud.Volume] {
	ids := p.IDs
	if !p.ID.IsZero() {
		ids = []cloud.ID{p.ID}
	}
	switch {
	case len(ids) > 0:
		return func(yield func(*cloud.Volume) bool) {
			for _, id := range ids {
				if v, ok := tables.Volumes.Get(c.Read, id); ok && !yield(v) {
					return
				}
			}
		}
	case !p.VMID.IsZero():
		return tables.Volumes.By(c.Read, "vm", store.K(p.VMID))
	case !p.StorageID.IsZero():
		return tables.Volumes.By(c.Read, "pool", store.K(p.StorageID))
	}
	if account, ok := c.Scope.Account(); ok {
		return tables.Volumes.By(c.Read, "account", store.K(account))
	}
	if all, ok := (api.Order[cloud.Volume]{Table: tables.Volumes, Own: "account", ByID: true, Owner: "owner", Domain: "domain"}).Each(c); ok {
		return all
	}
	return tables.Volumes.All(c.Read)
}

// placed checks the filters that ask where a volume or its VM is.
func placed(r store.Reader, p *listParams, v *cloud.Volume) bool {
	if !p.PodID.IsZero() || !p.ClusterID.IsZero() {
		pool, ok := tables.StoragePools.Get(r, v.PoolID)
		if !ok || !p.PodID.IsZero() && pool.PodID != p.PodID || !p.ClusterID.IsZero() && pool.ClusterID != p.ClusterID {
			return false
		}
	}
	if p.HostID.IsZero() {
		return true
	}
	vm, ok := tables.VMs.Get(r, v.VMID)
	return ok && vm.HostID == p.HostID
}

func kind(v *cloud.Volume) string {
	if v.Root {
		return "ROOT"
	}
	return "DATADISK"
}
