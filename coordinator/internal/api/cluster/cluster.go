// Package cluster holds the commands of clusters.
package cluster

import (
	"iter"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command { return []api.Command{create(), list(), metrics(), update(), remove()} }

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.FreeEntity("cluster", tables.Clusters)}
}

// name is what an event tells of a cluster.
func name(k *cloud.Cluster) (cloud.ID, string) { return k.ID, "cluster " + k.Name }

// Answer is a cluster as clients see it.
type Answer struct {
	ID                    cloud.ID        `json:"id" doc:"the cluster"`
	Name                  string          `json:"name" doc:"its name"`
	PodID                 cloud.ID        `json:"podid" doc:"its pod"`
	PodName               string          `json:"podname,omitempty" doc:"name of that pod"`
	ZoneID                cloud.ID        `json:"zoneid" doc:"its zone"`
	ZoneName              string          `json:"zonename,omitempty" doc:"name of that zone"`
	HypervisorType        string          `json:"hypervisortype" doc:"hypervisor of its hosts"`
	ClusterType           string          `json:"clustertype" doc:"who manages its hosts"`
	AllocationState       string          `json:"allocationstate" doc:"whether VMs are placed in it: Enabled or Disabled"`
	ManagedState          string          `json:"managedstate" doc:"Managed or Unmanaged"`
	CPUOvercommitRatio    string          `json:"cpuovercommitratio" doc:"how many times its CPU may be allocated"`
	MemoryOvercommitRatio string          `json:"memoryovercommitratio" doc:"how many times its memory may be allocated"`
	Capacity              []capacity.View `json:"capacity,omitempty" doc:"how much of it is used"`
	api.Remarked          `of:"cluster"`
}

func view(c *api.Call, k *cloud.Cluster) Answer {
	f := infra.FactorsOf(c.Read, k.ID, capacity.Factors(c))
	a := Answer{
		ID: k.ID, Name: k.Name, PodID: k.PodID, ZoneID: k.ZoneID, HypervisorType: k.Hypervisor, ClusterType: k.Type,
		AllocationState: k.AllocationState.String(), ManagedState: "Unmanaged",
		CPUOvercommitRatio:    strconv.FormatFloat(f.CPU, 'f', 1, 64),
		MemoryOvercommitRatio: strconv.FormatFloat(f.Memory, 'f', 1, 64),
	}
	if k.Managed {
		a.ManagedState = "Managed"
	}
	if p, ok := tables.Pods.Get(c.Read, k.PodID); ok {
		a.PodName = p.Name
	}
	if z, ok := tables.Zones.Get(c.Read, k.ZoneID); ok {
		a.ZoneName = z.Name
	}
	return a
}

type createParams struct {
	ZoneID          cloud.ID     `api:"zoneid,required" ref:"zone" doc:"zone it is in"`
	PodID           cloud.ID     `api:"podid,required" ref:"pod" doc:"pod it is in"`
	Name            string       `api:"clustername,required" doc:"name of the cluster, one of a kind in its pod"`
	Hypervisor      string       `api:"hypervisor,required" doc:"hypervisor of its hosts: KVM"`
	Type            string       `api:"clustertype,required" doc:"who manages its hosts: CloudManaged"`
	AllocationState string       `api:"allocationstate" doc:"Enabled (the default) or Disabled"`
	URL             string       `api:"url" doc:"accepted for older tools; of no meaning on KVM"`
	Username        string       `api:"username" doc:"accepted for older tools; of no meaning on KVM"`
	Password        cloud.Secret `api:"password" doc:"accepted for older tools; of no meaning on KVM, and not kept"`
}

func create() api.Command {
	return api.Command{
		Name: "addCluster", Doc: "Makes a cluster in a pod.", Roles: api.AdminOnly, Event: "CLUSTER.CREATE", Entity: "Cluster", Object: "cluster",
		Run: api.ChangeList(func(c *api.Call, tx *store.Tx, p *createParams) ([]Answer, error) {
			k, err := infra.CreateCluster(tx, p.ZoneID, p.PodID, infra.ClusterValues{
				Name: p.Name, Hypervisor: p.Hypervisor, Type: p.Type, AllocationState: p.AllocationState,
			})
			if err != nil {
				return nil, err
			}
			c.Describe(k.ID, "cluster "+k.Name)
			return []Answer{view(c, k)}, nil
		}),
	}
}

type updateParams struct {
	ID              cloud.ID `api:"id,required" ref:"cluster" doc:"the cluster"`
	Name            string   `api:"clustername" doc:"new name"`
	Hypervisor      string   `api:"hypervisor" doc:"hypervisor of its hosts: KVM"`
	Type            string   `api:"clustertype" doc:"who manages its hosts: CloudManaged"`
	AllocationState string   `api:"allocationstate" doc:"Enabled or Disabled"`
	ManagedState    string   `api:"managedstate" doc:"Managed or Unmanaged"`
}

func update() api.Command {
	return api.Command{
		Name: "updateCluster", Doc: "Changes a cluster.", Roles: api.AdminOnly, Event: "CLUSTER.EDIT", Entity: "Cluster", Object: "cluster",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *updateParams) (*cloud.Cluster, error) {
			return infra.UpdateCluster(tx, p.ID, infra.ClusterValues{
				Name: p.Name, Hypervisor: p.Hypervisor, Type: p.Type, AllocationState: p.AllocationState, ManagedState: p.ManagedState,
			})
		}),
	}
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"cluster" doc:"the cluster"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteCluster", Doc: "Removes a cluster that holds nothing any more.", Roles: api.AdminOnly, Event: "CLUSTER.DELETE", Entity: "Cluster",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			c.Describe(p.ID, "cluster "+p.ID.String())
			return infra.DeleteCluster(tx, p.ID)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID              cloud.ID `api:"id" ref:"cluster" doc:"this cluster only"`
	Name            string   `api:"name" doc:"clusters of this name"`
	ZoneID          cloud.ID `api:"zoneid" ref:"zone" doc:"clusters of this zone"`
	PodID           cloud.ID `api:"podid" ref:"pod" doc:"clusters of this pod"`
	Hypervisor      string   `api:"hypervisor" doc:"clusters with this hypervisor"`
	Type            string   `api:"clustertype" doc:"clusters managed so"`
	AllocationState string   `api:"allocationstate" doc:"clusters in this state"`
	ManagedState    string   `api:"managedstate" doc:"clusters in this state"`
	ShowCapacities  bool     `api:"showcapacities" doc:"show how much is used"`
}

func list() api.Command {
	return api.Command{
		Name: "listClusters", Doc: "Lists clusters.", Roles: api.RootAdmin | api.ResourceAdmin, Object: "cluster",
		Run: api.List(lister()),
	}
}

func metrics() api.Command {
	return api.Command{
		Name: "listClustersMetrics", Doc: "Lists clusters, with what their hosts have and use together.", Since: "4.9.3",
		Roles: api.AdminOnly, Object: "cluster",
		Run: api.List(api.Extend(lister(), func(c *api.Call, _ *listParams, row *cloud.Cluster, a Answer) MetricsAnswer {
			return metricsOf(c, row, a)
		})),
	}
}

// lister is the list of clusters, however much it tells of them.
func lister() api.Lister[listParams, cloud.Cluster, Answer] {
	return api.Lister[listParams, cloud.Cluster, Answer]{
		Rows:    rows,
		Keyword: func(k *cloud.Cluster) string { return k.Name },
		ViewFor: func(c *api.Call, p *listParams, k *cloud.Cluster) Answer {
			a := view(c, k)
			if p.ShowCapacities {
				a.Capacity = capacity.Of(c, k.ZoneID, k.PodID, k.ID)
			}
			return a
		},
	}
}

func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.Cluster], error) {
	all := tables.Clusters.By(c.Read, "pod", nil)
	switch {
	case !p.PodID.IsZero():
		all = tables.Clusters.By(c.Read, "pod", store.K(p.PodID))
	case !p.ZoneID.IsZero():
		all = tables.Clusters.By(c.Read, "zone", store.K(p.ZoneID))
	}
	same := func(want, is string) bool { return want == "" || strings.EqualFold(want, is) }
	return func(yield func(*cloud.Cluster) bool) {
		for k := range all {
			managed := "Unmanaged"
			if k.Managed {
				managed = "Managed"
			}
			keep := (p.ID.IsZero() || p.ID == k.ID) && (p.ZoneID.IsZero() || p.ZoneID == k.ZoneID) && (p.Name == "" || p.Name == k.Name) &&
				same(p.Hypervisor, k.Hypervisor) && same(p.Type, k.Type) && same(p.AllocationState, k.AllocationState.String()) &&
				same(p.ManagedState, managed)
			if keep && !yield(k) {
				return
			}
		}
	}, nil
}
