package offering

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ServiceAnswer is a service offering as clients see it.
type ServiceAnswer struct {
	ID               cloud.ID          `json:"id" doc:"the offering"`
	Name             string            `json:"name" doc:"its name"`
	DisplayText      string            `json:"displaytext" doc:"its description"`
	CPUNumber        int64             `json:"cpunumber" doc:"number of vCPUs"`
	CPUSpeed         int64             `json:"cpuspeed" doc:"speed of each vCPU in MHz"`
	Memory           int64             `json:"memory" doc:"memory in MiB"`
	Created          api.Time          `json:"created" doc:"when it was made"`
	StorageType      string            `json:"storagetype" doc:"local or shared"`
	ProvisioningType string            `json:"provisioningtype" doc:"thin"`
	OfferHA          bool              `json:"offerha" doc:"VMs are restarted when they die by themselves"`
	LimitCPUUse      bool              `json:"limitcpuuse" doc:"vCPUs never run faster than cpuspeed"`
	IsVolatile       bool              `json:"isvolatile" doc:"the root disk is made anew at each start"`
	Tags             string            `json:"tags,omitempty" doc:"storage tags of the root disk"`
	StorageTags      string            `json:"storagetags,omitempty" doc:"storage tags of the root disk"`
	HostTags         string            `json:"hosttags,omitempty" doc:"host tags"`
	DomainID         string            `json:"domainid,omitempty" doc:"domains it is restricted to"`
	Domain           string            `json:"domain,omitempty" doc:"names of those domains"`
	IsSystem         bool              `json:"issystem" doc:"for system VMs"`
	DefaultUse       bool              `json:"defaultuse" doc:"the default of its kind"`
	SystemVMType     string            `json:"systemvmtype,omitempty" doc:"kind of system VM it is for"`
	NetworkRate      int64             `json:"networkrate,omitempty" doc:"Mbit/s of each NIC"`
	IsCustomized     bool              `json:"iscustomized" doc:"CPUs and memory are chosen at deployment"`
	RootDiskSize     int64             `json:"rootdisksize,omitempty" doc:"least size of the root disk in GiB"`
	Details          map[string]string `json:"serviceofferingdetails,omitempty" doc:"details"`
	State            string            `json:"state" doc:"Active"`
}

func viewService(r store.Reader, o *cloud.ServiceOffering) ServiceAnswer {
	a := ServiceAnswer{
		ID: o.ID, Name: o.Name, DisplayText: o.DisplayText, CPUNumber: int64(o.CPUs), CPUSpeed: int64(o.CPUMHz),
		Memory: int64(o.MemoryMiB), Created: api.Time(o.Created), StorageType: o.StorageType, ProvisioningType: "thin",
		OfferHA: o.OfferHA, LimitCPUUse: o.LimitCPU, IsVolatile: o.Volatile, Tags: strings.Join(o.StorageTags, ","),
		HostTags: strings.Join(o.HostTags, ","), IsSystem: o.System, DefaultUse: o.Default, SystemVMType: o.SystemVM,
		NetworkRate: int64(o.NetworkRate), IsCustomized: o.Customized, RootDiskSize: int64(o.RootDiskGiB), Details: o.Details,
		State: "Active",
	}
	a.StorageTags = a.Tags
	a.DomainID, a.Domain = names(r, o.DomainIDs)
	return a
}

type createServiceParams struct {
	Name         string            `api:"name,required" doc:"name of the offering"`
	DisplayText  string            `api:"displaytext,required" doc:"description of the offering"`
	CPUNumber    uint32            `type:"long" api:"cpunumber,required" min:"1" max:"1024" doc:"number of vCPUs"`
	CPUSpeed     uint32            `type:"long" api:"cpuspeed,required" min:"1" max:"100000" doc:"speed of each vCPU in MHz"`
	Memory       uint32            `type:"long" api:"memory,required" min:"32" max:"67108864" doc:"memory in MiB, at least 32"`
	OfferHA      bool              `api:"offerha" doc:"restart VMs that die by themselves"`
	LimitCPUUse  bool              `api:"limitcpuuse" doc:"never run vCPUs faster than cpuspeed"`
	StorageType  string            `api:"storagetype" enum:"local,shared" doc:"local or shared (the default)"`
	Tags         string            `api:"tags" len:"4096" doc:"storage tags of the root disk, separated by commas"`
	HostTags     string            `api:"hosttags" doc:"host tags, separated by commas"`
	DomainID     []cloud.ID        `api:"domainid" ref:"domain" doc:"domains that may use it; all when absent"`
	NetworkRate  uint32            `api:"networkrate" doc:"Mbit/s of each NIC"`
	RootDiskSize uint64            `api:"rootdisksize" since:"4.15" doc:"least size of the root disk in GiB"`
	Details      map[string]string `api:"serviceofferingdetails,map" since:"4.2" doc:"details to keep with it"`
}

func createService() api.Command {
	return api.Command{
		Name: "createServiceOffering", Doc: "Makes a size that VMs can be deployed with.", Roles: api.AdminOnly,
		Event: "SERVICE.OFFERING.CREATE", Entity: "ServiceOffering", Object: "serviceoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createServiceParams) (ServiceAnswer, error) {
			o := &cloud.ServiceOffering{
				ID: tx.NewID(), Name: p.Name, DisplayText: p.DisplayText, CPUs: p.CPUNumber, CPUMHz: p.CPUSpeed, MemoryMiB: p.Memory,
				OfferHA: p.OfferHA, LimitCPU: p.LimitCPUUse, StorageType: strings.ToLower(p.StorageType), StorageTags: tags(p.Tags),
				HostTags: tags(p.HostTags), DomainIDs: domainIDs(p.DomainID), NetworkRate: p.NetworkRate, RootDiskGiB: p.RootDiskSize,
				Details: p.Details, Created: tx.Now(),
			}
			if o.StorageType == "" {
				o.StorageType = "shared"
			}
			c.Describe(o.ID, "Service offering id="+o.ID.String())
			return viewService(tx, o), tables.ServiceOfferings.Put(tx, o)
		}),
	}
}

type listServiceParams struct {
	api.ListParams
	ID           cloud.ID `api:"id" doc:"this offering only"`
	Name         string   `api:"name" doc:"the offerings of this name"`
	IsSystem     bool     `api:"issystem" role:"admin" doc:"offerings for system VMs instead of users' VMs"`
	SystemVMType string   `api:"systemvmtype" doc:"kind of system VM"`
	DomainID     cloud.ID `api:"domainid" ref:"domain" doc:"offerings restricted to this domain"`
	VMID         cloud.ID `api:"virtualmachineid" ref:"virtualmachine" doc:"offerings that this VM can change to"`
	CPUNumber    uint32   `type:"long" api:"cpunumber" since:"4.15" doc:"offerings with this number of vCPUs"`
	Memory       uint32   `type:"long" api:"memory" since:"4.15" doc:"offerings with this much memory in MiB"`
}

func listService() api.Command {
	return api.Command{
		Name: "listServiceOfferings", Doc: "Lists the sizes that VMs can be deployed with.", Roles: api.Everyone, Object: "serviceoffering",
		Run: api.List(api.Lister[listServiceParams, cloud.ServiceOffering, ServiceAnswer]{
			Rows: func(c *api.Call, p *listServiceParams) (iter.Seq[*cloud.ServiceOffering], error) {
				var present *cloud.VM
				if !p.VMID.IsZero() {
					present, _ = tables.VMs.Get(c.Read, p.VMID)
				}
				return func(yield func(*cloud.ServiceOffering) bool) {
					for o := range tables.ServiceOfferings.All(c.Read) {
						if keepService(p, present, o) && !yield(o) {
							return
						}
					}
				}, nil
			},
			Visible: func(c *api.Call, o *cloud.ServiceOffering) bool { return inDomains(c, o.DomainIDs) },
			Keyword: func(o *cloud.ServiceOffering) string { return o.Name + "\n" + o.DisplayText },
			Less:    func(a, b *cloud.ServiceOffering) int { return older(a.Created, b.Created, a.Name, b.Name) },
			View:    func(c *api.Call, o *cloud.ServiceOffering) ServiceAnswer { return viewService(c.Read, o) },
		}),
	}
}

func keepService(p *listServiceParams, vm *cloud.VM, o *cloud.ServiceOffering) bool {
	switch {
	case !o.Removed.IsZero(), o.System != p.IsSystem, !p.ID.IsZero() && o.ID != p.ID, p.Name != "" && o.Name != p.Name:
		return false
	case p.SystemVMType != "" && o.SystemVM != p.SystemVMType, !p.DomainID.IsZero() && !contains(o.DomainIDs, p.DomainID):
		return false
	case p.CPUNumber != 0 && o.CPUs != p.CPUNumber, p.Memory != 0 && o.MemoryMiB != p.Memory:
		return false
	}
	return vm == nil || o.ID != vm.OfferingID
}

type deleteServiceParams struct {
	ID cloud.ID `api:"id,required" ref:"serviceoffering" doc:"the offering"`
}

func deleteService() api.Command {
	return api.Command{
		Name: "deleteServiceOffering", Doc: "Takes an offering out of the choice; VMs that have it keep it.", Roles: api.AdminOnly,
		Event: "SERVICE.OFFERING.DELETE", Entity: "ServiceOffering",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *deleteServiceParams) error {
			c.Describe(p.ID, "Service offering id="+p.ID.String())
			return tables.ServiceOfferings.Edit(tx, p.ID, func(o *cloud.ServiceOffering) error {
				if o.Default {
					return cloud.Errorf(cloud.Invalid, "Default service offerings cannot be deleted.")
				}
				o.Removed = tx.Now()
				return nil
			})
		}),
	}
}
