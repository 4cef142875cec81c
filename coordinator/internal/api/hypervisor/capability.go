package hypervisor

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{{Name: "hypervisorcapability", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		return api.Owner{}, tables.HypervisorCapabilities.Has(r, id)
	}}}
}

// Capability is what a hypervisor can do, as clients see it.
type Capability struct {
	ID             cloud.ID `json:"id" doc:"the capability"`
	Hypervisor     string   `json:"hypervisor" doc:"the hypervisor"`
	Version        string   `json:"hypervisorversion" doc:"its version"`
	MaxGuests      int64    `json:"maxguestslimit" doc:"VMs on one host; 0 is any number"`
	SecurityGroups bool     `json:"securitygroupenabled" doc:"whether security groups are used"`
	MaxDataVolumes int32    `json:"maxdatavolumeslimit" doc:"data disks of one VM"`
	StorageMotion  bool     `json:"storagemotionenabled" doc:"false: disks do not move with a running VM"`
	VMSnapshot     bool     `json:"vmsnapshotenabled" doc:"false: VMs are not snapshotted as a whole"`
}

func viewCapability(k *cloud.HypervisorCapability) Capability {
	return Capability{
		ID: k.ID, Hypervisor: k.Hypervisor, Version: k.Version, MaxGuests: int64(k.MaxGuests), SecurityGroups: k.SecurityGroups,
		MaxDataVolumes: int32(k.MaxDataVolumes),
	}
}

type listParams struct {
	api.ListParams
	ID         cloud.ID `api:"id" ref:"hypervisorcapability" doc:"this capability only"`
	Hypervisor string   `api:"hypervisor" doc:"capabilities of this hypervisor"`
}

func listCapabilities() api.Command {
	return api.Command{
		Name: "listHypervisorCapabilities", Doc: "Lists what is expected of hypervisors.", Roles: api.AdminOnly, Object: "hypervisorCapabilities",
		Run: api.List(api.Lister[listParams, cloud.HypervisorCapability, Capability]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.HypervisorCapability], error) {
				return func(yield func(*cloud.HypervisorCapability) bool) {
					for k := range tables.HypervisorCapabilities.By(c.Read, "hypervisor", nil) {
						if (p.ID.IsZero() || p.ID == k.ID) && (p.Hypervisor == "" || strings.EqualFold(p.Hypervisor, k.Hypervisor)) && !yield(k) {
							return
						}
					}
				}, nil
			},
			Keyword: func(k *cloud.HypervisorCapability) string { return k.Hypervisor },
			View:    func(_ *api.Call, k *cloud.HypervisorCapability) Capability { return viewCapability(k) },
		}),
	}
}

type updateParams struct {
	ID        cloud.ID `api:"id" ref:"hypervisorcapability" doc:"the capability"`
	MaxGuests *int64   `api:"maxguestslimit" min:"0" max:"100000" doc:"VMs that a host takes; 0 is any number"`
}

func updateCapability() api.Command {
	return api.Command{
		Name: "updateHypervisorCapabilities", Doc: "Changes what is expected of a hypervisor.", Roles: api.AdminOnly,
		Event: "HYPERVISOR.CAPABILITIES.UPDATE", Entity: "HypervisorCapabilities", Object: "hypervisorcapabilities",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (Capability, error) {
			k, ok := tables.HypervisorCapabilities.Get(tx, p.ID)
			if !ok {
				return Capability{}, cloud.Errorf(cloud.Invalid, "Please give the id of the hypervisor capability")
			}
			if p.MaxGuests != nil {
				k.MaxGuests = uint32(*p.MaxGuests)
			}
			c.Describe(k.ID, "hypervisor capability "+k.Hypervisor)
			return viewCapability(k), tables.HypervisorCapabilities.Put(tx, k)
		}),
	}
}
