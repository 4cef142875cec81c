// Package region holds the commands of regions, this cloud and others that users are told of, and of its identifier.
package region

import (
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{list(), add(), update(), remove(), identifier()}
}

// Answer is a region as clients see it.
type Answer struct {
	ID          uint32 `json:"id" doc:"number of the region"`
	Name        string `json:"name" doc:"its name"`
	Endpoint    string `json:"endpoint" doc:"URL of its API"`
	GSLB        bool   `json:"gslbserviceenabled" doc:"false: there is no load balancing between regions"`
	PortableIPs bool   `json:"portableipserviceenabled" doc:"false: addresses belong to one zone"`
}

func view(r *cloud.Region) Answer { return Answer{ID: r.Number, Name: r.Name, Endpoint: r.Endpoint} }

type listParams struct {
	api.ListParams
	ID   *int   `api:"id" doc:"this region only"`
	Name string `api:"name" doc:"the region of this name"`
}

func list() api.Command {
	return api.Command{
		Name: "listRegions", Doc: "Lists regions.", Roles: api.Everyone, Object: "region",
		Run: api.List(api.Lister[listParams, cloud.Region, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Region], error) {
				return func(yield func(*cloud.Region) bool) {
					for r := range tables.Regions.By(c.Read, "number", nil) {
						if (p.ID == nil || uint32(*p.ID) == r.Number) && (p.Name == "" || p.Name == r.Name) && !yield(r) {
							return
						}
					}
				}, nil
			},
			Keyword: func(r *cloud.Region) string { return r.Name },
			View:    func(_ *api.Call, r *cloud.Region) Answer { return view(r) },
		}),
	}
}

type addParams struct {
	ID       *int   `api:"id,required" min:"1" max:"65535" doc:"number of the region"`
	Name     string `api:"name,required" doc:"its name"`
	Endpoint string `api:"endpoint,required" doc:"URL of its API"`
}

type updateParams struct {
	ID       *int   `api:"id,required" min:"1" max:"65535" doc:"number of the region"`
	Name     string `api:"name" doc:"new name"`
	Endpoint string `api:"endpoint" doc:"new URL of its API"`
}

func put(c *api.Call, tx *store.Tx, number int, name, endpoint string, isNew bool) (Answer, error) {
	r, err := infra.PutRegion(tx, uint32(number), name, endpoint, isNew)
	if err != nil {
		return Answer{}, err
	}
	c.Describe(r.ID, "region "+r.Name)
	return view(r), nil
}

func add() api.Command {
	return api.Command{
		Name: "addRegion", Doc: "Adds another cloud to the regions.", Roles: api.AdminOnly, Event: "REGION.CREATE", Entity: "Region", Object: "region",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *addParams) (Answer, error) {
			return put(c, tx, *p.ID, p.Name, p.Endpoint, true)
		}),
	}
}

func update() api.Command {
	return api.Command{
		Name: "updateRegion", Doc: "Changes a region.", Roles: api.AdminOnly, Event: "REGION.UPDATE", Entity: "Region", Object: "region",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (Answer, error) {
			return put(c, tx, *p.ID, p.Name, p.Endpoint, false)
		}),
	}
}

type removeParams struct {
	ID *int `api:"id,required" doc:"number of the region"`
}

func remove() api.Command {
	return api.Command{
		Name: "removeRegion", Doc: "Takes another cloud out of the regions.", Roles: api.AdminOnly, Event: "REGION.DELETE", Entity: "Region",
		Run: api.Delete(func(_ *api.Call, tx *store.Tx, p *removeParams) error {
			if *p.ID < 1 {
				return cloud.Errorf(cloud.Invalid, "Region with id: %d does not exist", *p.ID)
			}
			return infra.RemoveRegion(tx, uint32(*p.ID))
		}),
	}
}
