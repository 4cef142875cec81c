// Package storagepool holds the commands of primary storage.
package storagepool

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	VMs     VMs
	Routers Routers
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	return []api.Command{create(), list(), metrics(), update(), remove(), enableMaintenance(d), cancelMaintenance(d), listTags()}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.FreeEntity("storagepool", tables.StoragePools)}
}

// name is what an event tells of a pool.
func name(p *cloud.StoragePool) (cloud.ID, string) { return p.ID, "storage pool " + p.Name }

// Answer is a pool as clients see it. Sizes are in bytes.
type Answer struct {
	ID                  cloud.ID          `json:"id" doc:"the pool"`
	Name                string            `json:"name" doc:"its name"`
	ZoneID              cloud.ID          `json:"zoneid" doc:"its zone"`
	ZoneName            string            `json:"zonename,omitempty" doc:"name of that zone"`
	PodID               cloud.ID          `json:"podid,omitempty" doc:"its pod"`
	PodName             string            `json:"podname,omitempty" doc:"name of that pod"`
	ClusterID           cloud.ID          `json:"clusterid,omitempty" doc:"its cluster"`
	ClusterName         string            `json:"clustername,omitempty" doc:"name of that cluster"`
	IPAddress           string            `json:"ipaddress,omitempty" doc:"server, or host whose own it is"`
	Path                string            `json:"path" doc:"directory, or export of the server"`
	Type                string            `json:"type" doc:"Filesystem, SharedMountPoint or NetworkFilesystem"`
	Scope               string            `json:"scope" doc:"who reaches it: HOST, CLUSTER or ZONE"`
	Hypervisor          string            `json:"hypervisor" doc:"hypervisor that uses it"`
	Provider            string            `json:"provider" doc:"what drives it"`
	State               string            `json:"state" doc:"Initial, Up, PrepareForMaintenance, Maintenance, ErrorInMaintenance or Down"`
	Tags                string            `json:"tags,omitempty" doc:"its tags"`
	DiskSizeTotal       uint64            `json:"disksizetotal" doc:"its size"`
	DiskSizeAllocated   uint64            `json:"disksizeallocated" doc:"what its volumes may grow to"`
	DiskSizeUsed        uint64            `json:"disksizeused" doc:"what is used of it"`
	OverProvisionFactor string            `json:"overprovisionfactor" doc:"how many times it may be allocated"`
	Details             map[string]string `json:"details,omitempty" doc:"further details"`
	Created             api.Time          `json:"created" doc:"when it was made"`
	api.Remarked        `of:"storagepool"`
}

func view(c *api.Call, p *cloud.StoragePool) Answer {
	return viewOf(c.Read, c.Settings.Float("storage.overprovisioning.factor", p.ID), p)
}

func viewOf(r store.Reader, factor float64, p *cloud.StoragePool) Answer {
	a := Answer{
		ID: p.ID, Name: p.Name, ZoneID: p.ZoneID, PodID: p.PodID, ClusterID: p.ClusterID, IPAddress: p.Source, Path: p.Path,
		Type: p.Kind.String(), Scope: p.Scope, Hypervisor: "KVM", Provider: "DefaultPrimary", State: p.State.String(), Tags: strings.Join(p.Tags, ","),
		DiskSizeTotal: p.CapacityBytes, DiskSizeAllocated: p.AllocatedBytes, DiskSizeUsed: p.UsedBytes, Details: p.Details,
		Created:             api.Time(p.Created),
		OverProvisionFactor: strconv.FormatFloat(factor, 'f', 1, 64),
	}
	if p.Kind == cloud.PoolNetworkFilesystem {
		if i := strings.LastIndex(p.Source, ":/"); i >= 0 {
			a.IPAddress, a.Path = p.Source[:i], p.Source[i+1:]
		}
	}
	if h, ok := tables.Hosts.Get(r, p.HostID); ok {
		a.IPAddress = h.IP.String()
	}
	if z, ok := tables.Zones.Get(r, p.ZoneID); ok {
		a.ZoneName = z.Name
	}
	if d, ok := tables.Pods.Get(r, p.PodID); ok {
		a.PodName = d.Name
	}
	if k, ok := tables.Clusters.Get(r, p.ClusterID); ok {
		a.ClusterName = k.Name
	}
	return a
}

type createParams struct {
	Name      string            `api:"name,required" doc:"name of the pool"`
	URL       string            `api:"url,required" doc:"nfs://server/export, SharedMountPoint:///directory or file:///directory"`
	ZoneID    cloud.ID          `api:"zoneid,required" ref:"zone" doc:"its zone"`
	PodID     cloud.ID          `api:"podid" ref:"pod" doc:"its pod; needed unless the scope is zone"`
	ClusterID cloud.ID          `api:"clusterid" ref:"cluster" doc:"its cluster; needed unless the scope is zone"`
	Scope     string            `api:"scope" since:"4.2" doc:"cluster (the default) or zone"`
	Tags      []string          `api:"tags" doc:"tags that offerings ask for"`
	Details   map[string]string `api:"details,map" doc:"further details"`
}

func create() api.Command {
	return api.Command{
		Name: "createStoragePool", Doc: "Makes a primary storage pool of hosts' directories or of a share.", Roles: api.AdminOnly,
		Event: "STORAGE.POOL.CREATE", Entity: "StoragePool", Object: "storagepool",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *createParams) (*cloud.StoragePool, error) {
			if !p.ClusterID.IsZero() && p.PodID.IsZero() {
				return nil, cloud.Errorf(cloud.Invalid, "Cluster id requires pod id")
			}
			return storage.CreatePool(tx, storage.NewPool{
				Name: p.Name, URL: p.URL, ZoneID: p.ZoneID, PodID: p.PodID, Cluster: p.ClusterID, Scope: p.Scope, Tags: p.Tags, Details: p.Details,
			})
		}),
	}
}

func remove() api.Command {
	return api.Command{
		Name: "deleteStoragePool", Doc: "Removes a primary storage pool without volumes.", Roles: api.AdminOnly,
		Event: "STORAGE.POOL.DELETE", Entity: "StoragePool",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			c.Describe(p.ID, "storage pool "+p.ID.String())
			return storage.DeletePool(tx, p.ID)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID        cloud.ID `api:"id" ref:"storagepool" doc:"this pool only"`
	Name      string   `api:"name" doc:"pools of this name"`
	Path      string   `api:"path" doc:"pools at this path"`
	IPAddress string   `api:"ipaddress" doc:"pools of this server"`
	ZoneID    cloud.ID `api:"zoneid" ref:"zone" doc:"pools of this zone"`
	PodID     cloud.ID `api:"podid" ref:"pod" doc:"pools of this pod"`
	ClusterID cloud.ID `api:"clusterid" ref:"cluster" doc:"pools of this cluster"`
	HostID    cloud.ID `api:"hostid" ref:"host" since:"4.11" doc:"pools of this host's own"`
	Scope     string   `api:"scope" since:"4.3" doc:"pools of this scope"`
	State     string   `api:"state" since:"4.3" doc:"pools in this state"`
	Status    string   `api:"status" since:"4.21" doc:"the same as state"`
}

func list() api.Command {
	return api.Command{
		Name: "listStoragePools", Doc: "Lists primary storage pools.", Roles: api.RootAdmin | api.ResourceAdmin, Object: "storagepool",
		Run: api.List(lister()),
	}
}

func metrics() api.Command {
	return api.Command{
		Name: "listStoragePoolsMetrics", Doc: "Lists primary storage pools, with their sizes in GiB and whether they run full.", Since: "4.9.3",
		Roles: api.AdminOnly, Object: "storagepool",
		Run: api.List(api.Extend(lister(), func(c *api.Call, _ *listParams, row *cloud.StoragePool, a Answer) MetricsAnswer {
			return metricsOf(c, row, a)
		})),
	}
}

// lister is the list of pools, however much it tells of them.
func lister() api.Lister[listParams, cloud.StoragePool, Answer] {
	return api.Lister[listParams, cloud.StoragePool, Answer]{
		Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.StoragePool], error) {
			if err := cmp.Or(checkState("state", p.State), checkState("status", p.Status)); err != nil {
				return nil, err
			}
			all := tables.StoragePools.By(c.Read, "name", nil)
			if !p.ZoneID.IsZero() {
				all = tables.StoragePools.By(c.Read, "name", store.K(p.ZoneID))
			}
			return api.Filter(all, func(pool *cloud.StoragePool) bool { return p.keeps(c, pool) }), nil
		},
		Keyword: func(p *cloud.StoragePool) string { return p.Name + "\n" + p.Kind.String() },
		View:    view,
	}
}

// checkState refuses a state that there is not.
func checkState(parameter, state string) error {
	names := cloud.PoolStates()
	if state == "" || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, state) }) {
		return nil
	}
	return cloud.Errorf(cloud.Invalid, "Invalid value %.100q in parameter %s: accepted are %s", state, parameter, strings.Join(names, ", "))
}

func (p *listParams) keeps(c *api.Call, pool *cloud.StoragePool) bool {
	is := func(want, have cloud.ID) bool { return want.IsZero() || want == have }
	same := func(want, have string) bool { return want == "" || strings.EqualFold(want, have) }
	if !is(p.ID, pool.ID) || !is(p.PodID, pool.PodID) || !is(p.ClusterID, pool.ClusterID) || !is(p.HostID, pool.HostID) ||
		p.Name != "" && p.Name != pool.Name || !same(p.Scope, pool.Scope) || !same(p.State, pool.State.String()) || !same(p.Status, pool.State.String()) {
		return false
	}
	if p.Path == "" && p.IPAddress == "" {
		return true
	}
	v := view(c, pool)
	return (p.Path == "" || p.Path == v.Path) && (p.IPAddress == "" || p.IPAddress == v.IPAddress)
}
