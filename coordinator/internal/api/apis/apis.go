// Package apis holds the commands by which clients learn what the API can do.
package apis

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
)

// Commands lists the commands.
func Commands() []api.Command { return []api.Command{list(), capabilities()} }

type listParams struct {
	Name string `api:"name" doc:"only the command of this name"`
}

func list() api.Command {
	return api.Command{
		Name: "listApis", Doc: "Lists the commands that the caller may call, with parameters and answers.", Since: "4.1.0",
		Roles: api.Everyone, Object: "api",
		Run: api.List(api.Lister[listParams, api.Description, api.Description]{
			Unpaged: true,
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*api.Description], error) {
				all := c.Registry().Describe(api.RoleOf(c.Account.Type))
				if p.Name != "" {
					if cmd, ok := c.Registry().Find(p.Name); !ok || !c.Allowed(cmd) {
						return nil, cloud.Errorf(cloud.Invalid, "The API [%s] does not exist or is not available for the account Account [%s]", p.Name, c.Account.Name)
					}
				}
				return func(yield func(*api.Description) bool) {
					for i := range all {
						if p.Name != "" && !strings.EqualFold(p.Name, all[i].Name) {
							continue
						}
						if cmd, ok := c.Registry().Find(all[i].Name); !ok || !c.Allowed(cmd) {
							continue
						}
						if !yield(&all[i]) {
							return
						}
					}
				}, nil
			},
			View: func(_ *api.Call, d *api.Description) api.Description { return *d },
		}),
	}
}

// Capability is the answer of listCapabilities.
type Capability struct {
	SecurityGroups     bool   `json:"securitygroupsenabled" doc:"whether there are security groups"`
	DynamicRoles       bool   `json:"dynamicrolesenabled" doc:"whether roles can be defined"`
	Version            string `json:"cloudstackversion" doc:"version of the API"`
	PublicTemplates    bool   `json:"userpublictemplateenabled" doc:"whether users may make templates public"`
	SupportELB         string `json:"supportELB" doc:"whether there is elastic load balancing"`
	ProjectInvite      bool   `json:"projectinviterequired" doc:"whether accounts have to be invited to projects"`
	CreateProjects     bool   `json:"allowusercreateprojects" doc:"whether users may make projects"`
	MinDisk            int64  `json:"customdiskofferingminsize" doc:"smallest disk of a free size in GiB"`
	MaxDisk            int64  `json:"customdiskofferingmaxsize" doc:"greatest disk of a free size in GiB"`
	RegionSecondary    bool   `json:"regionsecondaryenabled" doc:"whether secondary storage is of a region"`
	KVMSnapshots       bool   `json:"kvmsnapshotenabled" doc:"whether KVM volumes can have snapshots"`
	APILimitMax        int64  `json:"apilimitmax,omitempty" doc:"most calls in an interval"`
	APILimitInterval   int64  `json:"apilimitinterval,omitempty" doc:"that interval in seconds"`
	ViewDestroyedVM    bool   `json:"allowuserviewdestroyedvm" doc:"whether users see their destroyed VMs"`
	ExpungeRecoverVM   bool   `json:"allowuserexpungerecovervm" doc:"whether users may expunge and recover VMs"`
	ExpungeRecoverDisk bool   `json:"allowuserexpungerecovervolume" doc:"whether users may expunge and recover volumes"`
	ViewAllAccounts    bool   `json:"allowuserviewalldomainaccounts" doc:"whether users see the other accounts of their domain"`
	Kubernetes         bool   `json:"kubernetesserviceenabled" doc:"whether there is a Kubernetes service"`
	KubernetesNew      bool   `json:"kubernetesclusterexperimentalfeaturesenabled" doc:"whether it has experimental features"`
	PageSize           int    `json:"defaultuipagesize" doc:"rows that a user interface shows on a page"`
}

type capabilityParams struct{}

func capabilities() api.Command {
	return api.Command{
		Name: "listCapabilities", Doc: "Tells what this cloud can do.", Roles: api.Everyone, Object: "capability",
		Run: api.Query(func(c *api.Call, _ *capabilityParams) (Capability, error) {
			v := Capability{
				Version: api.CompatVersion, DynamicRoles: true, SupportELB: "false", PageSize: 20, ViewDestroyedVM: true,
				ExpungeRecoverVM: compute.UsersMayExpunge(c.Read), PublicTemplates: storage.PublicTemplates.Bool(c.Read),
				CreateProjects: identity.UsersMayCreateProjects.Bool(c.Read), ProjectInvite: identity.InviteRequired.Bool(c.Read),
			}
			v.MinDisk, v.MaxDisk = compute.DiskSizes(c.Read)
			v.APILimitMax, v.APILimitInterval = api.CallLimit(c.Settings)
			return v, nil
		}),
	}
}
