// Package storagerange holds the commands of the storage network's address ranges.
package storagerange

import (
	"iter"
	"net/netip"
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{create(), list(), update(), remove()}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.FreeEntity("storagerange", tables.StorageRanges)}
}

// Answer is a range as clients see it.
type Answer struct {
	ID      cloud.ID   `json:"id" doc:"the range"`
	VLAN    *uint16    `json:"vlan,omitempty" doc:"its VLAN"`
	PodID   cloud.ID   `json:"podid" doc:"its pod"`
	ZoneID  cloud.ID   `json:"zoneid" doc:"its zone"`
	StartIP netip.Addr `json:"startip" doc:"first address"`
	EndIP   netip.Addr `json:"endip" doc:"last address"`
	Gateway netip.Addr `json:"gateway" doc:"gateway of the subnet"`
	Netmask string     `json:"netmask" doc:"netmask of the subnet"`
}

func view(r *cloud.StorageRange) Answer {
	a := Answer{ID: r.ID, PodID: r.PodID, ZoneID: r.ZoneID, StartIP: r.Start, EndIP: r.End, Gateway: r.Gateway, Netmask: r.Netmask}
	if r.VLAN != 0 {
		a.VLAN = &r.VLAN
	}
	return a
}

func result(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	row, ok := tables.StorageRanges.Get(r, j.InstanceID)
	if !ok {
		return nil, &store.NotFound{Table: "storage_range", ID: j.InstanceID}
	}
	return view(row), nil
}

func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

func start(c *api.Call, r *cloud.StorageRange, err error) (*api.Start, error) {
	if err != nil {
		return nil, err
	}
	c.Describe(r.ID, "Storage range "+r.Start.String()+"-"+r.End.String())
	return &api.Start{InstanceID: r.ID}, nil
}

type createParams struct {
	PodID   cloud.ID `api:"podid,required" ref:"pod" doc:"its pod"`
	Gateway string   `api:"gateway,required" doc:"gateway of the subnet"`
	Netmask string   `api:"netmask,required" doc:"netmask of the subnet"`
	StartIP string   `api:"startip,required" doc:"first address"`
	EndIP   string   `api:"endip" doc:"last address; the first one when absent"`
	VLAN    *int     `api:"vlan" doc:"its VLAN; untagged when absent"`
}

func create() api.Command {
	return api.Command{
		Name: "createStorageNetworkIpRange", Doc: "Adds a range of the storage network to a pod.", Roles: api.AdminOnly, Event: "STORAGE.IP.RANGE.CREATE",
		Entity: "StorageNetworkIpRange", Object: "storagenetworkiprange", Answer: reflect.TypeFor[Answer](), Result: result, Step: done,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *createParams) (*api.Start, error) {
			r, err := infra.CreateStorageRange(tx, p.PodID, infra.StorageRangeValues{Gateway: p.Gateway, Netmask: p.Netmask, Start: p.StartIP, End: p.EndIP, VLAN: p.VLAN})
			return start(c, r, err)
		}),
	}
}

type updateParams struct {
	ID      cloud.ID `api:"id,required" ref:"storagerange" doc:"the range"`
	Netmask string   `api:"netmask" doc:"netmask of the subnet"`
	StartIP string   `api:"startip" doc:"first address"`
	EndIP   string   `api:"endip" doc:"last address"`
	VLAN    *int     `api:"vlan" doc:"its VLAN"`
}

func update() api.Command {
	return api.Command{
		Name: "updateStorageNetworkIpRange", Doc: "Changes a range of the storage network.", Roles: api.AdminOnly, Event: "STORAGE.IP.RANGE.UPDATE",
		Entity: "StorageNetworkIpRange", Object: "storagenetworkiprange", Answer: reflect.TypeFor[Answer](), Result: result, Step: done,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateParams) (*api.Start, error) {
			r, err := infra.UpdateStorageRange(tx, p.ID, infra.StorageRangeValues{Netmask: p.Netmask, Start: p.StartIP, End: p.EndIP, VLAN: p.VLAN})
			return start(c, r, err)
		}),
	}
}

type removeParams struct {
	ID cloud.ID `api:"id,required" ref:"storagerange" doc:"the range"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteStorageNetworkIpRange", Doc: "Removes a range of the storage network.", Roles: api.AdminOnly, Event: "STORAGE.IP.RANGE.DELETE",
		Entity: "StorageNetworkIpRange", Step: done,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			c.Describe(p.ID, "Storage range "+p.ID.String())
			return &api.Start{InstanceID: p.ID}, tables.StorageRanges.Delete(tx, p.ID)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID     cloud.ID `api:"id" ref:"storagerange" doc:"this range only"`
	PodID  cloud.ID `api:"podid" ref:"pod" doc:"ranges of this pod"`
	ZoneID cloud.ID `api:"zoneid" ref:"zone" doc:"ranges of this zone"`
}

func list() api.Command {
	return api.Command{
		Name: "listStorageNetworkIpRange", Doc: "Lists ranges of the storage network.", Roles: api.AdminOnly, Object: "storagenetworkiprange",
		Run: api.List(api.Lister[listParams, cloud.StorageRange, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.StorageRange], error) {
				is := func(want, have cloud.ID) bool { return want.IsZero() || want == have }
				return api.Filter(tables.StorageRanges.By(c.Read, "zone", nil), func(r *cloud.StorageRange) bool {
					return is(p.ID, r.ID) && is(p.PodID, r.PodID) && is(p.ZoneID, r.ZoneID)
				}), nil
			},
			View: func(_ *api.Call, r *cloud.StorageRange) Answer { return view(r) },
		}),
	}
}
