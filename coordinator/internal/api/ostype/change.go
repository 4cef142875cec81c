package ostype

import (
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func result(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	t, ok := tables.OSTypes.Get(r, j.InstanceID)
	if !ok {
		return nil, &store.NotFound{Table: "os_type", ID: j.InstanceID}
	}
	return view(r, t), nil
}

func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

func start(c *api.Call, t *cloud.OSType, err error) (*api.Start, error) {
	if err != nil {
		return nil, err
	}
	c.Describe(t.ID, "guest OS "+t.Description)
	return &api.Start{InstanceID: t.ID}, nil
}

type addParams struct {
	CategoryID  cloud.ID `api:"oscategoryid,required" ref:"oscategory" doc:"its category"`
	DisplayName string   `api:"osdisplayname,required" doc:"its name"`
	Name        string   `api:"name" doc:"accepted for older tools: the display name is its name"`
}

func add() api.Command {
	return api.Command{
		Name: "addGuestOs", Doc: "Adds a guest operating system.", Since: "4.4", Roles: api.AdminOnly, Event: "GUEST.OS.ADD", Entity: "GuestOs",
		Object: "ostype", Answer: reflect.TypeFor[Answer](), Result: result, Step: done,
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *addParams) (*api.Start, error) {
			t, err := infra.AddOSType(tx, p.CategoryID, p.DisplayName)
			return start(c, t, err)
		}),
	}
}

type updateParams struct {
	ID          cloud.ID `api:"id,required" ref:"ostype" doc:"the operating system"`
	DisplayName string   `api:"osdisplayname,required" doc:"its new name"`
	CategoryID  cloud.ID `api:"oscategoryid" ref:"oscategory" doc:"its new category"`
}

func update() api.Command {
	return api.Command{
		Name: "updateGuestOs", Doc: "Renames a guest operating system that was added.", Since: "4.4", Roles: api.AdminOnly, Event: "GUEST.OS.UPDATE", Entity: "GuestOs",
		Object: "ostype", Answer: reflect.TypeFor[Answer](), Result: result, Step: done,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateParams) (*api.Start, error) {
			t, err := infra.UpdateOSType(tx, p.ID, p.CategoryID, p.DisplayName)
			return start(c, t, err)
		}),
	}
}

type removeParams struct {
	ID cloud.ID `api:"id,required" ref:"ostype" doc:"the operating system"`
}

func remove() api.Command {
	return api.Command{
		Name: "removeGuestOs", Doc: "Removes a guest operating system that was added and that no template has.", Since: "4.4", Roles: api.AdminOnly,
		Event: "GUEST.OS.REMOVE", Entity: "GuestOs", Step: done,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			c.Describe(p.ID, "guest OS "+p.ID.String())
			return &api.Start{InstanceID: p.ID}, infra.RemoveOSType(tx, p.ID)
		}),
	}
}
