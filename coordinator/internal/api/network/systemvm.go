package network

import (
	"cmp"
	"iter"
	"net/netip"
	"reflect"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// routerVM is the type of the only system VMs there are: routers. Clients that ask for another type find none.
const routerVM = "domainrouter"

// SystemVMAnswer is a system VM as clients see it.
type SystemVMAnswer struct {
	ID               cloud.ID   `json:"id" doc:"the system VM"`
	SystemVMType     string     `json:"systemvmtype" doc:"domainrouter"`
	ZoneID           cloud.ID   `json:"zoneid" doc:"its zone"`
	ZoneName         string     `json:"zonename" doc:"name of the zone"`
	DNS1             netip.Addr `json:"dns1,omitempty" doc:"resolver it forwards to"`
	DNS2             netip.Addr `json:"dns2,omitempty" doc:"the second one"`
	NetworkDomain    string     `json:"networkdomain,omitempty" doc:"DNS domain of its network"`
	Gateway          netip.Addr `json:"gateway,omitempty" doc:"gateway on its public side"`
	Name             string     `json:"name" doc:"its name"`
	PodID            cloud.ID   `json:"podid,omitempty" doc:"pod of its host"`
	PodName          string     `json:"podname,omitempty" doc:"name of the pod"`
	HostID           cloud.ID   `json:"hostid,omitempty" doc:"host it runs on"`
	HostName         string     `json:"hostname,omitempty" doc:"name of that host"`
	HostControlState string     `json:"hostcontrolstate,omitempty" doc:"Enabled, Disabled, Offline or Maintenance: its host"`
	Error            string     `json:"error,omitempty" doc:"what its host last said is wrong with it"`
	Hypervisor       string     `json:"hypervisor" doc:"KVM"`
	LinkLocalIP      netip.Addr `json:"linklocalip,omitempty" doc:"control address, of its host only"`
	LinkLocalMAC     string     `json:"linklocalmacaddress,omitempty" doc:"MAC address of its control leg"`
	LinkLocalNetmask string     `json:"linklocalnetmask,omitempty" doc:"netmask of control addresses"`
	PublicIP         netip.Addr `json:"publicip,omitempty" doc:"its source NAT address"`
	PublicMAC        string     `json:"publicmacaddress,omitempty" doc:"MAC address of its public side"`
	PublicNetmask    string     `json:"publicnetmask,omitempty" doc:"netmask of its public side"`
	TemplateID       cloud.ID   `json:"templateid,omitempty" doc:"image it was booted from"`
	TemplateName     string     `json:"templatename,omitempty" doc:"name of that image"`
	OfferingID       cloud.ID   `json:"serviceofferingid,omitempty" doc:"its size"`
	OfferingName     string     `json:"serviceofferingname,omitempty" doc:"name of that size"`
	Version          string     `json:"version,omitempty" doc:"version of its image"`
	Created          api.Time   `json:"created" doc:"when it was made"`
	State            string     `json:"state" doc:"Starting, Running, Stopping or Stopped"`
	api.Remarked     `of:"router"`
}

func viewSystemVM(r store.Reader, rt *cloud.Router) SystemVMAnswer {
	v := viewRouter(r, rt)
	return SystemVMAnswer{
		ID: v.ID, SystemVMType: routerVM, ZoneID: v.ZoneID, ZoneName: v.ZoneName, DNS1: v.DNS1, DNS2: v.DNS2, NetworkDomain: v.NetworkDomain,
		Gateway: v.Gateway, Name: v.Name, PodID: v.PodID, PodName: v.PodName, HostID: v.HostID, HostName: v.HostName,
		HostControlState: v.HostControlState, Error: v.Error, Hypervisor: v.Hypervisor, LinkLocalIP: v.LinkLocalIP, LinkLocalMAC: v.LinkLocalMAC,
		LinkLocalNetmask: v.LinkLocalNetmask, PublicIP: v.PublicIP, PublicMAC: v.PublicMAC, PublicNetmask: v.PublicNetmask,
		TemplateID: v.TemplateID, TemplateName: v.TemplateName, OfferingID: v.OfferingID, OfferingName: v.OfferingName, Version: v.Version,
		Created: v.Created, State: v.State,
	}
}

type listSystemVMsParams struct {
	api.ListParams
	ID        cloud.ID `api:"id" doc:"this system VM only"`
	Name      string   `api:"name" doc:"the system VM of this name"`
	HostID    cloud.ID `api:"hostid" ref:"host" doc:"system VMs on this host"`
	PodID     cloud.ID `api:"podid" ref:"pod" doc:"system VMs in this pod"`
	State     string   `api:"state" doc:"system VMs in this state"`
	StorageID cloud.ID `api:"storageid" ref:"storagepool" doc:"system VMs whose image is in this storage pool"`
	Type      string   `api:"systemvmtype" doc:"domainrouter; there are no others"`
	ZoneID    cloud.ID `api:"zoneid" ref:"zone" doc:"system VMs of this zone"`
}

func listSystemVMs() api.Command {
	return api.Command{
		Name: "listSystemVms", Doc: "Lists system VMs: routers that are VMs of their own.", Roles: api.RootAdmin | api.ResourceAdmin,
		Object: "systemvm",
		Run: api.List(api.Lister[listSystemVMsParams, cloud.Router, SystemVMAnswer]{
			Rows: func(c *api.Call, p *listSystemVMsParams) (iter.Seq[*cloud.Router], error) {
				rows := tables.Routers.All(c.Read)
				if !p.HostID.IsZero() {
					rows = tables.Routers.By(c.Read, "host", store.K(p.HostID))
				}
				return filter(rows, p.keeps), nil
			},
			Keyword: func(rt *cloud.Router) string { return rt.Name },
			Less:    func(a, b *cloud.Router) int { return cmp.Compare(a.Number, b.Number) },
			View:    func(c *api.Call, rt *cloud.Router) SystemVMAnswer { return viewSystemVM(c.Read, rt) },
		}),
	}
}

func (p *listSystemVMsParams) keeps(rt *cloud.Router) bool {
	id := func(want, has cloud.ID) bool { return want.IsZero() || want == has }
	text := func(want, has string) bool { return want == "" || strings.EqualFold(want, has) }
	return rt.Placement == cloud.InVM && id(p.ID, rt.ID) && id(p.HostID, rt.HostID) && id(p.PodID, rt.PodID) && id(p.ZoneID, rt.ZoneID) &&
		id(p.StorageID, rt.PoolID) && text(p.State, rt.State.String()) && text(p.Type, routerVM) && (p.Name == "" || p.Name == rt.Name)
}

type systemVMParams struct {
	ID cloud.ID `api:"id,required" ref:"systemvm" doc:"the system VM"`
}

type stopSystemVMParams struct {
	ID     cloud.ID `api:"id,required" ref:"systemvm" doc:"the system VM"`
	Forced bool     `api:"forced" doc:"true: it is not asked to power off first"`
}

type rebootSystemVMParams struct {
	ID     cloud.ID `api:"id,required" ref:"systemvm" doc:"the system VM"`
	Forced bool     `api:"forced" since:"4.16" doc:"true: it loses its power without being asked"`
}

func systemVMResult(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	rt, err := routerOf(r, j)
	if err != nil {
		return nil, err
	}
	return viewSystemVM(r, rt), nil
}

func (h handlers) startSystemVM() api.Command {
	return api.Command{
		Name: "startSystemVm", Doc: "Starts a stopped system VM.", Roles: api.AdminOnly, Event: "ROUTER.START", Entity: "SystemVm", Object: "systemvm",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *systemVMParams) (*api.Start, error) {
			return begin(c, tx, p.ID, h.Area.StartRouter)
		}),
		Step: h.Area.StartRouterStep, Answer: reflect.TypeFor[SystemVMAnswer](), Result: systemVMResult,
	}
}

func (h handlers) stopSystemVM() api.Command {
	return api.Command{
		Name: "stopSystemVm", Doc: "Stops a system VM.", Roles: api.AdminOnly, Event: "ROUTER.STOP", Entity: "SystemVm", Object: "systemvm",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *stopSystemVMParams) (*api.Start, error) {
			return begin(c, tx, p.ID, func(tx *store.Tx, rt *cloud.Router) error { return h.Area.StopRouter(tx, rt, p.Forced) })
		}),
		Step: h.Area.StopRouterStep, Answer: reflect.TypeFor[SystemVMAnswer](), Result: systemVMResult,
	}
}

func (h handlers) rebootSystemVM() api.Command {
	return api.Command{
		Name: "rebootSystemVm", Doc: "Reboots a system VM; one whose image is not the present one is replaced by one that runs it.",
		Roles: api.AdminOnly, Event: "ROUTER.REBOOT", Entity: "SystemVm", Object: "systemvm",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *rebootSystemVMParams) (*api.Start, error) {
			return begin(c, tx, p.ID, func(tx *store.Tx, rt *cloud.Router) error { return h.Area.RebootRouter(tx, rt, p.Forced) })
		}),
		Step: h.Area.RebootRouterStep, Answer: reflect.TypeFor[SystemVMAnswer](), Result: systemVMResult,
	}
}

func (h handlers) destroySystemVM() api.Command {
	return api.Command{
		Name: "destroySystemVm", Doc: "Removes a system VM; what it served gets another one when it is needed.", Roles: api.AdminOnly,
		Event: "ROUTER.DESTROY", Entity: "SystemVm", Object: "systemvm",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *systemVMParams) (*api.Start, error) {
			return begin(c, tx, p.ID, h.Area.DestroyRouter)
		}),
		Step: h.Area.StopRouterStep, Answer: reflect.TypeFor[SystemVMAnswer](), Result: systemVMResult,
	}
}

func (h handlers) changeServiceForSystemVM() api.Command {
	return api.Command{
		Name: "changeServiceForSystemVm", Doc: "Gives a stopped system VM another size.", Roles: api.AdminOnly, Event: "ROUTER.UPGRADE",
		Entity: "SystemVm", Object: "systemvm",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *scaleSystemVMParams) (SystemVMAnswer, error) {
			rt, o, err := p.find(tx)
			if err != nil {
				return SystemVMAnswer{}, err
			}
			c.Describe(rt.ID, "router "+rt.Name)
			c.EventOwner(api.Owner{Account: rt.AccountID, Domain: rt.DomainID})
			if err := h.Area.ResizeRouter(tx, rt, o); err != nil {
				return SystemVMAnswer{}, err
			}
			return viewSystemVM(tx, rt), nil
		}),
	}
}

type scaleSystemVMParams struct {
	ID         cloud.ID `api:"id,required" ref:"systemvm" doc:"the system VM"`
	OfferingID cloud.ID `api:"serviceofferingid,required" ref:"serviceoffering" doc:"its new size, a system offering for routers"`
}

func (p *scaleSystemVMParams) find(r store.Reader) (*cloud.Router, *cloud.ServiceOffering, error) {
	rt, ok := tables.Routers.Get(r, p.ID)
	if !ok {
		return nil, nil, api.NoEntity("id", p.ID)
	}
	o, ok := tables.ServiceOfferings.Get(r, p.OfferingID)
	if !ok {
		return nil, nil, api.NoEntity("serviceofferingid", p.OfferingID)
	}
	return rt, o, nil
}

func (h handlers) scaleSystemVM() api.Command {
	return api.Command{
		Name: "scaleSystemVm", Doc: "Gives a system VM another size: a stopped one at once, one that runs by another one of that size that takes its place.",
		Since: "4.3", Roles: api.AdminOnly, Event: "ROUTER.UPGRADE", Entity: "SystemVm", Object: "systemvm",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *scaleSystemVMParams) (*api.Start, error) {
			rt, o, err := p.find(tx)
			if err != nil {
				return nil, err
			}
			start := startOf(c, tx, rt)
			args := area.ArgsOf(rt)
			args.OfferingID = o.ID
			start.Args = args
			return start, h.Area.ScaleRouter(tx, rt, o)
		}),
		Step: h.Area.ScaleRouterStep, Answer: reflect.TypeFor[SystemVMAnswer](), Result: systemVMResult,
	}
}

// MovedAnswer is a system VM after migrateSystemVm, whose answer has a name of its own.
type MovedAnswer struct {
	SystemVMAnswer
	Role string `json:"role" doc:"VIRTUAL_ROUTER"`
}

type migrateSystemVMParams struct {
	ID     cloud.ID `api:"virtualmachineid,required" ref:"systemvm" doc:"the system VM, which runs"`
	HostID cloud.ID `api:"hostid" ref:"host" doc:"host to move it to; or autoselect"`
	Auto   bool     `api:"autoselect" since:"4.16" doc:"true: any other host that can take it"`
}

func (h handlers) migrateSystemVM() api.Command {
	return api.Command{
		Name: "migrateSystemVm", Doc: "Has another host run a system VM: one with its addresses is made ready there and takes its place. It has another id and name.",
		Roles: api.AdminOnly, Event: "VM.MIGRATE", Entity: "SystemVm", Object: "systemvminstance",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *migrateSystemVMParams) (*api.Start, error) {
			if p.HostID.IsZero() && !p.Auto {
				return nil, cloud.Errorf(cloud.Invalid, "Either parameter hostid or autoselect=true is needed")
			}
			rt, ok := tables.Routers.Get(tx, p.ID)
			if !ok {
				return nil, api.NoEntity("virtualmachineid", p.ID)
			}
			return startOf(c, tx, rt), h.Area.MoveRouter(tx, rt, p.HostID)
		}),
		Step: h.Area.MoveRouterStep, Answer: reflect.TypeFor[MovedAnswer](),
		Result: func(r store.Reader, c *api.ResultContext, j *cloud.Job) (any, error) {
			rt, err := routerOf(r, j)
			if err != nil {
				return nil, err
			}
			return MovedAnswer{viewSystemVM(r, rt), viewRouter(r, rt).Role}, nil
		},
	}
}
