// Package host holds the commands of hypervisor hosts and of the tokens with which they join.
package host

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	// Authority opens the cluster's certificate authority, for join tokens.
	Authority func() (*pki.Authority, error)
	// DropVolume gives up a volume whose host leaves: its row and its counts.
	DropVolume func(tx *store.Tx, v *cloud.Volume) error
	// Evacuate moves the VMs off a host, or says which of them is in the way.
	Evacuate func(tx *store.Tx, h *cloud.Host) error
	// HostDied frees the VMs of a host that is dead.
	HostDied func(tx *store.Tx, h *cloud.Host) error
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	return []api.Command{
		add(), list(), metrics(), update(), reconnect(), remove(d), createToken(d), listTokens(), deleteToken(),
		prepare(d), cancelMaintenance(), declareDegraded(d), cancelDegraded(), updatePassword(), listTags(),
	}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{
		{Name: "host", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) { return api.Owner{}, tables.Hosts.Has(r, id) }},
		{Name: "hostjointoken", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) { return api.Owner{}, tables.JoinTokens.Has(r, id) }},
	}
}

type addParams struct {
	ZoneID          cloud.ID     `api:"zoneid,required" ref:"zone" doc:"zone it goes to"`
	PodID           cloud.ID     `api:"podid,required" ref:"pod" doc:"pod it goes to"`
	ClusterID       cloud.ID     `api:"clusterid" ref:"cluster" doc:"cluster it goes to"`
	ClusterName     string       `api:"clustername" doc:"instead of clusterid: cluster of this name in the pod, made when there is none"`
	Hypervisor      string       `api:"hypervisor,required" doc:"hypervisor of the host: KVM"`
	URL             string       `api:"url,required" doc:"the pending host: http:// and its name, address or id"`
	Username        string       `api:"username" doc:"accepted for older tools: the agent is on the host already and has joined by token"`
	Password        cloud.Secret `api:"password" doc:"accepted for older tools, and not kept"`
	HostTags        []string     `api:"hosttags" doc:"tags that offerings ask for"`
	AllocationState string       `api:"allocationstate" doc:"Enabled (the default) or Disabled"`
}

func add() api.Command {
	return api.Command{
		Name: "addHost", Doc: "Adopts a host whose agent has joined with a token.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "HOST.ADD", Entity: "Host", Object: "host",
		Run: api.ChangeList(func(c *api.Call, tx *store.Tx, p *addParams) ([]Answer, error) {
			h, err := infra.AdoptHost(tx, infra.Adoption{
				ZoneID: p.ZoneID, PodID: p.PodID, ClusterID: p.ClusterID, ClusterName: p.ClusterName, Hypervisor: p.Hypervisor,
				URL: p.URL, Tags: p.HostTags, AllocationState: p.AllocationState,
			})
			if err != nil {
				return nil, err
			}
			c.Describe(h.ID, "host "+h.Name)
			return []Answer{view(c, h, everything)}, nil
		}),
	}
}

type updateParams struct {
	ID              cloud.ID `api:"id,required" ref:"host" doc:"the host"`
	AllocationState string   `api:"allocationstate" doc:"Enable or Disable"`
	HostTags        []string `api:"hosttags" doc:"tags that offerings ask for, instead of those it has"`
	OSCategoryID    cloud.ID `api:"oscategoryid" ref:"oscategory" doc:"guest OS category preferred on it; that of the name None takes the preference back"`
	URL             string   `api:"url" doc:"new URL to note"`
	Annotation      string   `api:"annotation" since:"4.11" len:"4096" doc:"a remark to leave at it, as addAnnotation does"`
}

func update() api.Command {
	return api.Command{
		Name: "updateHost", Doc: "Changes a host.", Roles: api.AdminOnly, Event: "HOST.EDIT", Entity: "Host", Object: "host",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (Answer, error) {
			h, err := infra.UpdateHost(tx, p.ID, infra.HostValues{
				AllocationState: p.AllocationState, Tags: p.HostTags, SetTags: p.HostTags != nil, OSCategoryID: p.OSCategoryID, URL: p.URL,
			})
			if err != nil {
				return Answer{}, err
			}
			if p.Annotation != "" {
				if _, err := infra.Annotate(tx, c.User, infra.HostNote, h.ID, p.Annotation, false); err != nil {
					return Answer{}, err
				}
			}
			c.Describe(h.ID, "host "+h.Name)
			return view(c, h, everything), nil
		}),
	}
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"host" doc:"the host"`
}

// reconnectArgs is the state of a reconnectHost job: when the host was linked last before it.
type reconnectArgs struct {
	Connected int64 `json:"connected"` // microseconds since 1970
}

func reconnect() api.Command {
	return api.Command{
		Name: "reconnectHost", Doc: "Ends the link of a host's agent, which then links anew.", Roles: api.AdminOnly,
		Event: "HOST.RECONNECT", Entity: "Host", Object: "host", Answer: answerType,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *idParams) (*api.Start, error) {
			h, _ := tables.Hosts.Get(tx, p.ID)
			if err := infra.Reconnect(tx, p.ID); err != nil {
				return nil, err
			}
			c.Describe(h.ID, "host "+h.Name)
			return &api.Start{InstanceID: p.ID, Args: reconnectArgs{h.Connected.UnixMicro()}, Deadline: reconnectWithin}, nil
		}),
		Step: func(tx *store.Tx, j *job.State) (job.Outcome, error) {
			var a reconnectArgs
			if err := j.Args(&a); err != nil {
				return job.Outcome{}, err
			}
			h, ok := tables.Hosts.Get(tx, j.InstanceID())
			switch {
			case !ok:
				return job.Fail(cloud.Errorf(cloud.Unavailable, "The host was removed meanwhile")), nil
			case h.Status == cloud.HostUp && h.Connected.UnixMicro() > a.Connected:
				return job.Done(), nil
			case j.Expired:
				return job.Fail(cloud.Errorf(cloud.Unavailable, "Host %s has not linked again; look at its agent (wisp-agent) and its network", h.Name)), nil
			}
			return job.Wait(), nil
		},
		Result: hostResult,
	}
}

type removeParams struct {
	ID           cloud.ID `api:"id,required" ref:"host" doc:"the host"`
	Forced       bool     `api:"forced" doc:"remove it although virtual routers are on it: they start elsewhere"`
	DestroyLocal bool     `api:"forcedestroylocalstorage" doc:"lose the volumes that are left on its own storage"`
}

func remove(d Deps) api.Command {
	return api.Command{
		Name: "deleteHost", Doc: "Takes a host out of the cloud and revokes its certificate.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "HOST.DELETE", Entity: "Host",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *removeParams) error {
			if h, ok := tables.Hosts.Get(tx, p.ID); ok {
				c.Describe(h.ID, "host "+h.Name)
			}
			return infra.RemoveHost(tx, p.ID, p.Forced, p.DestroyLocal, d.DropVolume)
		}),
	}
}

func split(list []string) string { return strings.Join(list, ",") }
