// Package management holds the commands that tell of the control plane itself: its coordinators, which CloudStack calls
// management servers, how much of everything there is, and how hosts are chosen.
package management

import (
	"context"
	"iter"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	// Members lists the coordinators, as the one that answers knows them.
	Members func() ([]replica.MemberInfo, error)
	// Figures asks those that are heard what they tell of themselves, and gives it by their names. One that does not answer
	// in time, or whose version does not know the question, is left out.
	Figures func(ctx context.Context, members []replica.MemberInfo) map[string]*Figures
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	return []api.Command{d.servers(), d.metrics(), d.infrastructure(), planners()}
}

// InfrastructureAnswer is how much of everything there is.
type InfrastructureAnswer struct {
	Zones        int `json:"zones" doc:"zones"`
	Pods         int `json:"pods" doc:"pods"`
	Clusters     int `json:"clusters" doc:"clusters"`
	Hosts        int `json:"hosts" doc:"hosts"`
	Pools        int `json:"storagepools" doc:"pools of primary storage"`
	ImageStores  int `json:"imagestores" doc:"secondary storage"`
	ObjectStores int `json:"objectstores" doc:"0: there are none"`
	SystemVMs    int `json:"systemvms" doc:"system VMs: routers that are VMs"`
	Routers      int `json:"routers" doc:"routers of networks, wherever they run"`
	Balancers    int `json:"ilbvms" doc:"0: there are no internal load balancers"`
	Alerts       int `json:"alerts" doc:"alerts that are not archived"`
	Servers      int `json:"managementservers" doc:"coordinators"`
	Repositories int `json:"backuprepositories" doc:"0: there are none"`
}

type noParams struct{}

func (d Deps) infrastructure() api.Command {
	return api.Command{
		Name: "listInfrastructure", Doc: "Tells how much of everything there is.", Since: "4.9", Roles: api.AdminOnly, Object: "infrastructure",
		Run: api.Query(func(c *api.Call, _ *noParams) (InfrastructureAnswer, error) {
			members, err := d.Members()
			if err != nil {
				return InfrastructureAnswer{}, err
			}
			a := InfrastructureAnswer{
				Zones: tables.Zones.Len(c.Read), Pods: tables.Pods.Len(c.Read), Clusters: tables.Clusters.Len(c.Read), Hosts: tables.Hosts.Len(c.Read), Pools: tables.StoragePools.Len(c.Read),
				ImageStores: tables.ImageStores.Len(c.Read), Servers: len(members),
			}
			for r := range tables.Routers.All(c.Read) {
				a.Routers++
				if r.Placement == cloud.InVM {
					a.SystemVMs++
				}
			}
			for x := range tables.Alerts.All(c.Read) {
				if !x.Archived && !x.Hidden {
					a.Alerts++
				}
			}
			return a, nil
		}),
	}
}

// PlannerAnswer is a way to choose hosts.
type PlannerAnswer struct {
	Name string `json:"name" doc:"name of the planner"`
}

type plannerParams struct {
	api.ListParams
}

func planners() api.Command {
	return api.Command{
		Name: "listDeploymentPlanners", Doc: "Lists the ways in which hosts are chosen for VMs: one, which leaves out what does not fit and takes the emptiest of the rest.",
		Since: "4.2", Roles: api.AdminOnly, Object: "deploymentPlanner",
		Run: api.List(api.Lister[plannerParams, PlannerAnswer, PlannerAnswer]{
			Rows: func(*api.Call, *plannerParams) (iter.Seq[*PlannerAnswer], error) {
				return slices.Values([]*PlannerAnswer{{"SpreadPlanner"}}), nil
			},
			Keyword: func(a *PlannerAnswer) string { return a.Name },
			View:    func(_ *api.Call, a *PlannerAnswer) PlannerAnswer { return *a },
		}),
	}
}
