package network

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// HealthAnswer is how a router is.
type HealthAnswer struct {
	RouterID cloud.ID      `json:"routerid" doc:"the router"`
	Checks   []healthCheck `json:"healthchecks" doc:"its health checks; none while it has no host"`
}

type healthCheck struct {
	Name    string   `json:"checkname" doc:"host (its links and namespace, or its machine), services (they are heard), or one of its network services"`
	Type    string   `json:"checktype" doc:"basic: its host and its services look all the time, not when they are asked"`
	Success bool     `json:"success" doc:"it is as it shall be"`
	Status  string   `json:"status" doc:"SUCCESS, FAILED, or UNKNOWN while it starts or its host is silent"`
	Since   api.Time `json:"lastupdated" doc:"since when the result is this one"`
	Details string   `json:"details" doc:"what is wrong, in a sentence"`
}

func viewChecks(r store.Reader, rt *cloud.Router) []healthCheck {
	list := []healthCheck{}
	for _, c := range area.Checks(r, rt) {
		list = append(list, healthCheck{
			Name: c.Name, Type: "basic", Success: c.Status == cloud.CheckPassed, Status: c.Status.String(), Since: api.Time(c.Since),
			Details: c.Details,
		})
	}
	return list
}

type healthParams struct {
	ID cloud.ID `api:"routerid,required" ref:"router" doc:"the router"`
	// Agents ask services every three seconds and tell changes at once: there is nothing fresher to be had but from a
	// host that is heard.
	Fresh bool `api:"performfreshchecks" doc:"true: no result is better than one of a host that is silent now"`
}

func routerHealth() api.Command {
	return api.Command{
		Name: "getRouterHealthCheckResults", Doc: "Tells of each thing of a router whether it works, as its host and its network services have reported.",
		Since: "4.14", Roles: api.AdminOnly, Object: "routerhealthchecks",
		Run: api.Query(func(c *api.Call, p *healthParams) (HealthAnswer, error) {
			rt, ok := tables.Routers.Get(c.Read, p.ID)
			if !ok {
				return HealthAnswer{}, api.NoEntity("routerid", p.ID)
			}
			if p.Fresh {
				if err := area.Heard(c.Read, rt); err != nil {
					return HealthAnswer{}, err
				}
			}
			return HealthAnswer{RouterID: rt.ID, Checks: viewChecks(c.Read, rt)}, nil
		}),
	}
}
