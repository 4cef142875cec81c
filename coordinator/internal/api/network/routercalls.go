package network

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type routerParams struct {
	ID cloud.ID `api:"id,required" ref:"router" doc:"the router"`
}

type stopRouterParams struct {
	ID     cloud.ID `api:"id,required" ref:"router" doc:"the router"`
	Forced bool     `api:"forced" doc:"true: a system VM is not asked to power off first"`
}

type rebootRouterParams struct {
	ID     cloud.ID `api:"id,required" ref:"router" doc:"the router"`
	Forced bool     `api:"forced" since:"4.16" doc:"true: a system VM loses its power without being asked, a namespace is replaced by a new one"`
}

// begin writes what a call wants of a router, and how its job is found.
func begin(c *api.Call, tx *store.Tx, id cloud.ID, do func(*store.Tx, *cloud.Router) error) (*api.Start, error) {
	rt, ok := tables.Routers.Get(tx, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	return startOf(c, tx, rt), do(tx, rt)
}

// startOf is the job of a call about a router.
func startOf(c *api.Call, r store.Reader, rt *cloud.Router) *api.Start {
	c.Describe(rt.ID, "router "+rt.Name)
	return &api.Start{
		InstanceID: rt.ID, Args: area.ArgsOf(rt), Deadline: area.ReplaceWait(r), Owner: api.Owner{Account: rt.AccountID, Domain: rt.DomainID},
	}
}

// routerOf is the router that a job was about.
func routerOf(r store.Reader, j *cloud.Job) (*cloud.Router, error) {
	var args area.RouterArgs
	if err := (&job.State{Job: j}).Args(&args); err != nil {
		return nil, err
	}
	return args.Router(r, j.InstanceID), nil
}

func routerResult(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	rt, err := routerOf(r, j)
	if err != nil {
		return nil, err
	}
	return viewRouter(r, rt), nil
}

func (h handlers) startRouter() api.Command {
	return api.Command{
		Name: "startRouter", Doc: "Starts a stopped router.", Roles: api.Admins, Event: "ROUTER.START", Entity: "DomainRouter", Object: "router",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *routerParams) (*api.Start, error) {
			return begin(c, tx, p.ID, h.Area.StartRouter)
		}),
		Step: h.Area.StartRouterStep, Answer: reflect.TypeFor[RouterAnswer](), Result: routerResult,
	}
}

func (h handlers) stopRouter() api.Command {
	return api.Command{
		Name: "stopRouter", Doc: "Stops a router until it, or a VM of its network, is started.", Roles: api.Admins, Event: "ROUTER.STOP",
		Entity: "DomainRouter", Object: "router",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *stopRouterParams) (*api.Start, error) {
			return begin(c, tx, p.ID, func(tx *store.Tx, rt *cloud.Router) error { return h.Area.StopRouter(tx, rt, p.Forced) })
		}),
		Step: h.Area.StopRouterStep, Answer: reflect.TypeFor[RouterAnswer](), Result: routerResult,
	}
}

func (h handlers) rebootRouter() api.Command {
	return api.Command{
		Name: "rebootRouter", Doc: "Reboots a router; one whose image is not the present one is replaced by one that runs it.",
		Roles: api.Admins, Event: "ROUTER.REBOOT", Entity: "DomainRouter", Object: "router",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *rebootRouterParams) (*api.Start, error) {
			return begin(c, tx, p.ID, func(tx *store.Tx, rt *cloud.Router) error { return h.Area.RebootRouter(tx, rt, p.Forced) })
		}),
		Step: h.Area.RebootRouterStep, Answer: reflect.TypeFor[RouterAnswer](), Result: routerResult,
	}
}

func (h handlers) destroyRouter() api.Command {
	return api.Command{
		Name: "destroyRouter", Doc: "Removes a router; its network gets another one when a VM of it starts or it is restarted.",
		Roles: api.Admins, Event: "ROUTER.DESTROY", Entity: "DomainRouter", Object: "router",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *routerParams) (*api.Start, error) {
			return begin(c, tx, p.ID, h.Area.DestroyRouter)
		}),
		Step: h.Area.StopRouterStep, Answer: reflect.TypeFor[RouterAnswer](), Result: routerResult,
	}
}

type resizeParams struct {
	ID         cloud.ID `api:"id,required" ref:"router" doc:"the router, stopped"`
	OfferingID cloud.ID `api:"serviceofferingid,required" ref:"serviceoffering" doc:"its new size, a system offering for routers"`
}

func (h handlers) changeServiceForRouter() api.Command {
	return api.Command{
		Name: "changeServiceForRouter", Doc: "Gives a stopped router another size, for when it runs as a system VM.", Roles: api.Admins,
		Event: "ROUTER.UPGRADE", Entity: "DomainRouter", Object: "router",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *resizeParams) (RouterAnswer, error) {
			rt, ok := tables.Routers.Get(tx, p.ID)
			if !ok {
				return RouterAnswer{}, api.NoEntity("id", p.ID)
			}
			o, ok := tables.ServiceOfferings.Get(tx, p.OfferingID)
			if !ok {
				return RouterAnswer{}, api.NoEntity("serviceofferingid", p.OfferingID)
			}
			c.Describe(rt.ID, "router "+rt.Name)
			c.EventOwner(api.Owner{Account: rt.AccountID, Domain: rt.DomainID})
			if err := h.Area.ResizeRouter(tx, rt, o); err != nil {
				return RouterAnswer{}, err
			}
			return viewRouter(tx, rt), nil
		}),
	}
}

type upgradeParams struct {
	ID        cloud.ID `api:"id" ref:"router" doc:"this router only"`
	ZoneID    cloud.ID `api:"zoneid" ref:"zone" doc:"routers of this zone"`
	PodID     cloud.ID `api:"podid" ref:"pod" doc:"routers in this pod"`
	ClusterID cloud.ID `api:"clusterid" ref:"cluster" doc:"routers in this cluster"`
	Account   string   `api:"account" doc:"routers of this account; with domainid"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account"`
}

// upgradeAnswer names the job of one router.
type upgradeAnswer struct {
	JobID     cloud.ID `json:"jobid" doc:"the job that upgrades a router"`
	JobStatus int32    `json:"jobstatus" doc:"0: it goes on"`
}

func (h handlers) upgradeRouterTemplate() api.Command {
	return api.Command{
		Name: "upgradeRouterTemplate", Doc: "Replaces routers that do not run the present image, each by a job of its own.", Since: "4.4",
		Roles: api.AdminOnly, Object: "asyncjobs",
		Run: api.ChangeList(func(c *api.Call, tx *store.Tx, p *upgradeParams) ([]upgradeAnswer, error) {
			answers := []upgradeAnswer{}
			for rt := range tables.Routers.All(tx) {
				if !p.matches(tx, rt) || !area.RequiresUpgrade(tx, rt) || rt.State != cloud.VMRunning || rt.Standby {
					continue
				}
				if err := h.Area.RebootRouter(tx, rt, false); err != nil {
					if !p.ID.IsZero() {
						return nil, err
					}
					continue // one that cannot now does not keep others from it; requiresupgrade still tells of it
				}
				args, err := json.Marshal(area.ArgsOf(rt))
				if err != nil {
					return nil, fmt.Errorf("upgrade router %s: %w", rt.ID, err)
				}
				j := &cloud.Job{
					ID: tx.NewID(), Command: "rebootRouter", UserID: c.User.ID, AccountID: rt.AccountID, DomainID: rt.DomainID,
					InstanceType: "DomainRouter", InstanceID: rt.ID, Created: tx.Now(), Args: string(args),
					Deadline: tx.Now().Add(area.ReplaceWait(tx)), RequestID: c.RequestID,
				}
				if err := tables.Jobs.Put(tx, j); err != nil {
					return nil, fmt.Errorf("submit job: %w", err)
				}
				answers = append(answers, upgradeAnswer{JobID: j.ID})
			}
			return answers, nil
		}),
	}
}

func (p *upgradeParams) matches(r store.Reader, rt *cloud.Router) bool {
	id := func(want, has cloud.ID) bool { return want.IsZero() || want == has }
	if !id(p.ID, rt.ID) || !id(p.ZoneID, rt.ZoneID) || !id(p.PodID, rt.PodID) || !id(p.DomainID, rt.DomainID) {
		return false
	}
	if !p.ClusterID.IsZero() {
		if host, ok := tables.Hosts.Get(r, rt.HostID); !ok || host.ClusterID != p.ClusterID {
			return false
		}
	}
	o, ok := tables.Accounts.Get(r, rt.AccountID)
	return p.Account == "" || ok && o.Name == p.Account
}
