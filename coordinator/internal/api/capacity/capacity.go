// Package capacity holds listCapacity, and the capacity figures that zones, pods and clusters show.
package capacity

import (
	"cmp"
	"iter"
	"slices"
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// View is one figure as clients see it.
type View struct {
	Type        int      `json:"type" doc:"what is counted: 0 memory, 1 CPU, 2 storage used, 3 storage allocated, 4 public addresses, 5 private addresses, 6 secondary storage, 7 VLANs, 8 addresses of shared networks, 9 local storage"`
	Name        string   `json:"name" doc:"name of the type"`
	ZoneID      cloud.ID `json:"zoneid,omitempty" doc:"the zone"`
	ZoneName    string   `json:"zonename,omitempty" doc:"name of the zone"`
	PodID       cloud.ID `json:"podid,omitempty" doc:"the pod"`
	PodName     string   `json:"podname,omitempty" doc:"name of the pod"`
	ClusterID   cloud.ID `json:"clusterid,omitempty" doc:"the cluster"`
	ClusterName string   `json:"clustername,omitempty" doc:"name of the cluster"`
	Used        uint64   `json:"capacityused" doc:"used or allocated"`
	Allocated   uint64   `json:"capacityallocated" doc:"allocated"`
	Total       uint64   `json:"capacitytotal" doc:"all there is, over-provisioning included"`
	Percent     string   `json:"percentused" doc:"percentage of the total that is used"`
}

// view shows a figure.
func view(r store.Reader, f *infra.Capacity) View {
	v := View{
		Type: int(f.Type), Name: infra.CapacityNames[f.Type], ZoneID: f.ZoneID, PodID: f.PodID, ClusterID: f.ClusterID,
		Used: f.Used, Allocated: f.Used, Total: f.Total, Percent: Percent(f.Percent()),
	}
	if z, ok := tables.Zones.Get(r, f.ZoneID); ok {
		v.ZoneName = z.Name
	}
	if p, ok := tables.Pods.Get(r, f.PodID); ok {
		v.PodName = p.Name
	}
	if k, ok := tables.Clusters.Get(r, f.ClusterID); ok {
		v.ClusterName = k.Name
	}
	return v
}

// Percent writes a percentage with at most two decimals.
func Percent(p float64) string {
	s := strconv.FormatFloat(p, 'f', 2, 64)
	for s[len(s)-1] == '0' {
		s = s[:len(s)-1]
	}
	if s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	return s
}

// GiB writes a number of bytes in GiB, with two decimals and the unit.
func GiB(bytes uint64) string {
	return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', 2, 64) + " GiB"
}

// Factors reads how far hosts and pools may be over-allocated.
func Factors(c *api.Call) infra.Factors {
	return infra.Factors{
		CPU: c.Settings.Float("cpu.overprovisioning.factor"), Memory: c.Settings.Float("mem.overprovisioning.factor"),
		Storage: c.Settings.Float("storage.overprovisioning.factor"),
	}
}

// Of lists the figures of a zone, or of a pod or cluster in it, for views that show them.
func Of(c *api.Call, zone, pod, cluster cloud.ID) []View {
	var out []View
	for _, f := range infra.Capacities(c.Read, zone, pod, cluster, Factors(c)) {
		out = append(out, view(c.Read, &f))
	}
	return out
}

type params struct {
	api.ListParams
	ZoneID      cloud.ID `api:"zoneid" ref:"zone" doc:"figures of this zone"`
	PodID       cloud.ID `api:"podid" ref:"pod" doc:"figures of this pod"`
	ClusterID   cloud.ID `api:"clusterid" ref:"cluster" since:"3.0.0" doc:"figures of this cluster"`
	Type        *int     `api:"type" doc:"figures of this type only"`
	SortBy      string   `api:"sortby" since:"3.0.0" enum:"usage" doc:"usage puts the fullest first"`
	FetchLatest bool     `api:"fetchlatest" since:"3.0.0" doc:"accepted for older tools: figures are always the latest"`
}

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{{
		Name: "listCapacity", Doc: "Lists how much of the cloud is used.", Roles: api.RootAdmin | api.ResourceAdmin, Object: "capacity",
		Run: api.List(api.Lister[params, infra.Capacity, View]{
			Rows: rows,
			View: func(c *api.Call, f *infra.Capacity) View { return view(c.Read, f) },
		}),
	}}
}

func rows(c *api.Call, p *params) (iter.Seq[*infra.Capacity], error) {
	var all []infra.Capacity
	add := func(zone, pod, cluster cloud.ID) {
		for _, f := range infra.Capacities(c.Read, zone, pod, cluster, Factors(c)) {
			if p.Type == nil || int(f.Type) == *p.Type {
				all = append(all, f)
			}
		}
	}
	switch {
	case !p.ClusterID.IsZero():
		k, ok := tables.Clusters.Get(c.Read, p.ClusterID)
		if !ok || !p.ZoneID.IsZero() && p.ZoneID != k.ZoneID || !p.PodID.IsZero() && p.PodID != k.PodID {
			return nil, nil
		}
		add(k.ZoneID, k.PodID, k.ID)
	case !p.PodID.IsZero():
		d, ok := tables.Pods.Get(c.Read, p.PodID)
		if !ok || !p.ZoneID.IsZero() && p.ZoneID != d.ZoneID {
			return nil, nil
		}
		add(d.ZoneID, d.ID, cloud.ID{})
	case !p.ZoneID.IsZero():
		add(p.ZoneID, cloud.ID{}, cloud.ID{})
	default:
		for z := range tables.Zones.By(c.Read, "name", nil) {
			add(z.ID, cloud.ID{}, cloud.ID{})
		}
	}
	if p.SortBy != "" {
		slices.SortStableFunc(all, func(a, b infra.Capacity) int { return cmp.Compare(b.Percent(), a.Percent()) })
	}
	return func(yield func(*infra.Capacity) bool) {
		for i := range all {
			if !yield(&all[i]) {
				return
			}
		}
	}, nil
}
