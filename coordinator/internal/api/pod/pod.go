// Package pod holds the commands of pods.
package pod

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command { return []api.Command{create(), list(), update(), remove()} }

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.FreeEntity("pod", tables.Pods)}
}

// name is what an event tells of a pod.
func name(pod *cloud.Pod) (cloud.ID, string) { return pod.ID, "pod " + pod.Name }

// Answer is a pod as clients see it. Start and end are lists, as newer clients want them.
type Answer struct {
	ID              cloud.ID        `json:"id" doc:"the pod"`
	Name            string          `json:"name" doc:"its name"`
	ZoneID          cloud.ID        `json:"zoneid" doc:"its zone"`
	ZoneName        string          `json:"zonename,omitempty" doc:"name of that zone"`
	Gateway         netip.Addr      `json:"gateway" doc:"gateway of its management network"`
	Netmask         string          `json:"netmask" doc:"netmask of its management network"`
	StartIP         []netip.Addr    `json:"startip" doc:"first address of its range"`
	EndIP           []netip.Addr    `json:"endip" doc:"last address of its range"`
	IPRanges        []Range         `json:"ipranges" doc:"its ranges"`
	AllocationState string          `json:"allocationstate" doc:"whether new things are placed in it: Enabled or Disabled"`
	Capacity        []capacity.View `json:"capacity,omitempty" doc:"how much of it is used"`
	api.Remarked    `of:"pod"`
}

// Range is one range of a pod's addresses.
type Range struct {
	StartIP      netip.Addr `json:"startip" doc:"first address"`
	EndIP        netip.Addr `json:"endip" doc:"last address"`
	ForSystemVMs string     `json:"forsystemvms" doc:"1 when it is for system VMs only"`
}

func view(c *api.Call, p *cloud.Pod) Answer {
	a := Answer{
		ID: p.ID, Name: p.Name, ZoneID: p.ZoneID, Gateway: p.Gateway, Netmask: p.Netmask, StartIP: []netip.Addr{p.StartIP},
		EndIP: []netip.Addr{p.EndIP}, IPRanges: []Range{{p.StartIP, p.EndIP, "0"}}, AllocationState: p.AllocationState.String(),
	}
	if z, ok := tables.Zones.Get(c.Read, p.ZoneID); ok {
		a.ZoneName = z.Name
	}
	return a
}

type createParams struct {
	ZoneID          cloud.ID `api:"zoneid,required" ref:"zone" doc:"zone it is in"`
	Name            string   `api:"name,required" doc:"name of the pod, one of a kind in its zone"`
	Gateway         string   `api:"gateway,required" doc:"gateway of its management network"`
	Netmask         string   `api:"netmask,required" doc:"netmask of its management network"`
	StartIP         string   `api:"startip,required" doc:"first address of its range"`
	EndIP           string   `api:"endip" doc:"last address of its range; the end of the subnet when absent"`
	AllocationState string   `api:"allocationstate" doc:"Enabled (the default) or Disabled"`
}

func create() api.Command {
	return api.Command{
		Name: "createPod", Doc: "Makes a pod in a zone.", Roles: api.AdminOnly, Event: "POD.CREATE", Entity: "Pod", Object: "pod",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *createParams) (*cloud.Pod, error) {
			return infra.CreatePod(tx, p.ZoneID, infra.PodValues{
				Name: p.Name, Gateway: p.Gateway, Netmask: p.Netmask, StartIP: p.StartIP, EndIP: p.EndIP, AllocationState: p.AllocationState,
			})
		}),
	}
}

type updateParams struct {
	ID              cloud.ID `api:"id,required" ref:"pod" doc:"the pod"`
	Name            string   `api:"name" doc:"new name"`
	Gateway         string   `api:"gateway" doc:"gateway of its management network"`
	Netmask         string   `api:"netmask" doc:"netmask of its management network"`
	StartIP         string   `api:"startip" doc:"first address of its range"`
	EndIP           string   `api:"endip" doc:"last address of its range"`
	AllocationState string   `api:"allocationstate" doc:"Enabled or Disabled"`
}

func update() api.Command {
	return api.Command{
		Name: "updatePod", Doc: "Changes a pod.", Roles: api.AdminOnly, Event: "POD.EDIT", Entity: "Pod", Object: "pod",
		Run: api.ChangeRow(name, view, func(tx *store.Tx, p *updateParams) (*cloud.Pod, error) {
			return infra.UpdatePod(tx, p.ID, infra.PodValues{
				Name: p.Name, Gateway: p.Gateway, Netmask: p.Netmask, StartIP: p.StartIP, EndIP: p.EndIP, AllocationState: p.AllocationState,
			})
		}),
	}
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"pod" doc:"the pod"`
}

func remove() api.Command {
	return api.Command{
		Name: "deletePod", Doc: "Removes a pod that holds nothing any more.", Roles: api.AdminOnly, Event: "POD.DELETE", Entity: "Pod",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			c.Describe(p.ID, "pod "+p.ID.String())
			return infra.DeletePod(tx, p.ID)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID              cloud.ID `api:"id" ref:"pod" doc:"this pod only"`
	Name            string   `api:"name" doc:"pods of this name"`
	ZoneID          cloud.ID `api:"zoneid" ref:"zone" doc:"pods of this zone"`
	AllocationState string   `api:"allocationstate" doc:"pods in this state"`
	ShowCapacities  bool     `api:"showcapacities" doc:"show how much is used"`
}

func list() api.Command {
	return api.Command{
		Name: "listPods", Doc: "Lists pods.", Roles: api.RootAdmin | api.ResourceAdmin, Object: "pod",
		Run: api.List(api.Lister[listParams, cloud.Pod, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Pod], error) {
				key := store.Key(nil)
				if !p.ZoneID.IsZero() {
					key = store.K(p.ZoneID)
				}
				return api.Filter(tables.Pods.By(c.Read, "zone", key), func(pod *cloud.Pod) bool {
					return (p.ID.IsZero() || p.ID == pod.ID) && (p.Name == "" || p.Name == pod.Name) &&
						(p.AllocationState == "" || strings.EqualFold(p.AllocationState, pod.AllocationState.String()))
				}), nil
			},
			Keyword: func(p *cloud.Pod) string { return p.Name },
			ViewFor: func(c *api.Call, p *listParams, pod *cloud.Pod) Answer {
				a := view(c, pod)
				if p.ShowCapacities {
					a.Capacity = capacity.Of(c, pod.ZoneID, pod.ID, cloud.ID{})
				}
				return a
			},
		}),
	}
}
