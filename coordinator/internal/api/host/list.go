package host

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type listParams struct {
	api.ListParams
	ID               cloud.ID `api:"id" ref:"host" doc:"this host only"`
	Name             string   `api:"name" doc:"the host of this name, pending or not"`
	ZoneID           cloud.ID `api:"zoneid" ref:"zone" doc:"hosts of this zone"`
	PodID            cloud.ID `api:"podid" ref:"pod" doc:"hosts of this pod"`
	ClusterID        cloud.ID `api:"clusterid" ref:"cluster" doc:"hosts of this cluster"`
	VirtualMachineID cloud.ID `api:"virtualmachineid" ref:"virtualmachine" doc:"the host this VM is on"`
	Type             string   `api:"type" doc:"hosts of this type; all are Routing"`
	State            string   `api:"state" doc:"hosts in this state"`
	ResourceState    string   `api:"resourcestate" doc:"hosts in this resource state; Pending shows those that wait for addHost"`
	Hypervisor       string   `api:"hypervisor" since:"4.11" doc:"hosts with this hypervisor"`
	HAHost           *bool    `api:"hahost" doc:"true: only hosts kept for restarted VMs"`
	Details          []string `api:"details" doc:"which parts to show: all (the default), capacity, events, stats, min"`
}

// detailsOf reads details=.
func detailsOf(list []string) (parts, error) {
	if len(list) == 0 {
		return everything, nil
	}
	var d parts
	for _, s := range list {
		switch strings.ToLower(s) {
		case "all":
			d = everything
		case "capacity":
			d.capacity = true
		case "stats":
			d.stats = true
		case "events":
			d.events = true
		case "min":
		default:
			return d, cloud.Errorf(cloud.Invalid, "The details parameter contains a non permitted value. The allowed values are [all, capacity, events, stats, min]")
		}
	}
	return d, nil
}

func list() api.Command {
	return api.Command{
		Name: "listHosts", Doc: "Lists hosts.", Roles: api.RootAdmin | api.ResourceAdmin, Object: "host",
		Run: api.List(lister()),
	}
}

func metrics() api.Command {
	return api.Command{
		Name: "listHostsMetrics", Doc: "Lists hosts, with what they have and use in larger units.", Since: "4.9.3",
		Roles: api.AdminOnly, Object: "host",
		Run: api.List(api.Extend(lister(), func(c *api.Call, _ *listParams, row *cloud.Host, a Answer) MetricsAnswer {
			return metricsOf(c, row, a)
		})),
	}
}

// lister is the list of hosts, however much it tells of them.
func lister() api.Lister[listParams, cloud.Host, Answer] {
	return api.Lister[listParams, cloud.Host, Answer]{
		Rows:    rows,
		Keyword: func(h *cloud.Host) string { return h.Name + "\n" + h.Status.String() + "\nRouting\n" + h.IP.String() },
		ViewFor: func(c *api.Call, p *listParams, h *cloud.Host) Answer {
			d, _ := detailsOf(p.Details) // checked in rows
			return view(c, h, d)
		},
	}
}

func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.Host], error) {
	if _, err := detailsOf(p.Details); err != nil {
		return nil, err
	}
	if p.Type != "" && !strings.EqualFold(p.Type, "Routing") {
		return nil, nil
	}
	on := cloud.ID{}
	if !p.VirtualMachineID.IsZero() {
		vm, ok := tables.VMs.Get(c.Read, p.VirtualMachineID)
		if !ok || vm.HostID.IsZero() {
			return nil, nil
		}
		on = vm.HostID
	}
	all := tables.Hosts.By(c.Read, "number", nil)
	switch {
	case !p.ClusterID.IsZero():
		all = tables.Hosts.By(c.Read, "cluster", store.K(p.ClusterID))
	case !p.ZoneID.IsZero():
		all = tables.Hosts.By(c.Read, "zone", store.K(p.ZoneID))
	}
	forHA := infra.KeptForHA(c.Read)
	return func(yield func(*cloud.Host) bool) {
		for h := range all {
			if p.keeps(h) && (p.HAHost == nil || *p.HAHost == forHA(h.Tags)) && (on.IsZero() || on == h.ID) && (h.ResourceState != cloud.HostPending || p.asksForPending() && c.IsRoot()) && !yield(h) {
				return
			}
		}
	}, nil
}

// asksForPending tells whether hosts that belong to no cluster yet are shown: when asked for, or asked for by name. Tools
// that list all hosts take each for one that works.
func (p *listParams) asksForPending() bool {
	return strings.EqualFold(p.ResourceState, cloud.HostPending.String()) || p.ResourceState == "" && (p.Name != "" || !p.ID.IsZero())
}

func (p *listParams) keeps(h *cloud.Host) bool {
	is := func(want, have cloud.ID) bool { return want.IsZero() || want == have }
	same := func(want, have string) bool { return want == "" || strings.EqualFold(want, have) }
	return is(p.ID, h.ID) && is(p.ZoneID, h.ZoneID) && is(p.PodID, h.PodID) && is(p.ClusterID, h.ClusterID) &&
		(p.Name == "" || p.Name == h.Name) && same(p.State, h.Status.String()) && same(p.ResourceState, h.ResourceState.String()) &&
		same(p.Hypervisor, "KVM")
}
