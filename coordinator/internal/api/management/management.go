// Package management holds the commands that tell of the control plane itself: its coordinators, which CloudStack calls
// management servers, how much of everything there is, and how hosts are chosen.
package management

import (
	"iter"
	"net"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	// Members lists the coordinators, as the one that answers knows them.
	Members func() ([]replica.MemberInfo, error)
	// Node is the name of the one that answers, Version its program's version.
	Node, Version string
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	return []api.Command{d.servers(), d.infrastructure(), planners()}
}

// ServerAnswer is a coordinator as clients see it.
type ServerAnswer struct {
	ID        cloud.ID `json:"id" doc:"the coordinator"`
	Name      string   `json:"name" doc:"its name"`
	State     string   `json:"state" doc:"Up, or Down where the leader does not hear it"`
	Version   string   `json:"version,omitempty" doc:"version of its program; known of the leader, which answers"`
	IPAddress string   `json:"ipaddress" doc:"address at which the others reach it"`
	ServiceIP string   `json:"serviceip" doc:"the same"`
	Leader    bool     `json:"leader" doc:"whether it leads: calls that came to others are carried out there"`
	Pending   int      `json:"pendingjobscount" doc:"jobs that are not done yet; all are the leader's"`
}

type serverParams struct {
	api.ListParams
	ID      cloud.ID `api:"id" doc:"only this one"`
	Name    string   `api:"name" doc:"only the one of this name"`
	Version string   `api:"version" since:"4.20" doc:"only those of this version"`
}

func (d Deps) servers() api.Command {
	return api.Command{
		Name: "listManagementServers", Doc: "Lists the coordinators.", Since: "4.15", Roles: api.AdminOnly, Object: "managementserver",
		Run: api.List(api.Lister[serverParams, ServerAnswer, ServerAnswer]{
			Rows: func(c *api.Call, p *serverParams) (iter.Seq[*ServerAnswer], error) {
				members, err := d.Members()
				if err != nil {
					return nil, err
				}
				var rows []*ServerAnswer
				for _, m := range members {
					a := d.server(c.Read, m)
					if (p.ID.IsZero() || p.ID == a.ID) && (p.Name == "" || p.Name == a.Name) && (p.Version == "" || p.Version == a.Version) {
						rows = append(rows, &a)
					}
				}
				slices.SortFunc(rows, func(a, b *ServerAnswer) int { return strings.Compare(a.Name, b.Name) })
				return slices.Values(rows), nil
			},
			Keyword: func(a *ServerAnswer) string { return a.Name },
			View:    func(_ *api.Call, a *ServerAnswer) ServerAnswer { return *a },
		}),
	}
}

func (d Deps) server(r store.Reader, m replica.MemberInfo) ServerAnswer {
	host, _, err := net.SplitHostPort(m.Address)
	if err != nil {
		host = m.Address
	}
	a := ServerAnswer{ID: m.Row, Name: m.ID, State: "Up", IPAddress: host, ServiceIP: host, Leader: m.Leader}
	if m.Silent {
		a.State = "Down"
	}
	if m.ID == d.Node {
		a.Version = d.Version
	}
	if m.Leader {
		a.Pending = tables.Jobs.Count(r, "pending", nil)
	}
	return a
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
