package offering

import (
	"cmp"
	"iter"
	"maps"
	"strconv"
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
	State            string            `json:"state" doc:"Active, or Inactive for one that is kept but not offered"`
	Zone             string            `json:"zone,omitempty" doc:"names of the zones it is restricted to"`
	ZoneID           string            `json:"zoneid,omitempty" doc:"zones it is restricted to"`
	DynamicScaling   bool              `json:"dynamicscalingenabled" doc:"CPU and memory may change while a VM runs"`
	Rates
	api.Remarked `of:"serviceoffering"`
}

func viewService(r store.Reader, o *cloud.ServiceOffering) ServiceAnswer {
	a := ServiceAnswer{
		ID: o.ID, Name: o.Name, DisplayText: o.DisplayText, CPUNumber: int64(o.CPUs), CPUSpeed: int64(o.CPUMHz),
		Memory: int64(o.MemoryMiB), Created: api.Time(o.Created), StorageType: o.StorageType, ProvisioningType: "thin",
		OfferHA: o.OfferHA, LimitCPUUse: o.LimitCPU, IsVolatile: o.Volatile, Tags: strings.Join(o.StorageTags, ","),
		HostTags: strings.Join(o.HostTags, ","), IsSystem: o.System, DefaultUse: o.Default, SystemVMType: o.SystemVM,
		NetworkRate: int64(o.NetworkRate), IsCustomized: o.Customized, RootDiskSize: int64(o.RootDiskGiB), Details: o.Details,
		State: state(o.Inactive), DynamicScaling: o.DynamicScaling, Rates: viewRates(o.Rates, o.CacheMode),
	}
	if o.Customized {
		a.Details = maps.Clone(o.Details)
		for name, n := range map[string]uint32{"mincpunumber": o.MinCPUs, "maxcpunumber": o.MaxCPUs, "minmemory": o.MinMemoryMiB, "maxmemory": o.MaxMemoryMiB} {
			if n == 0 {
				continue
			}
			if a.Details == nil {
				a.Details = map[string]string{}
			}
			a.Details[name] = strconv.FormatUint(uint64(n), 10)
		}
	}
	a.StorageTags = a.Tags
	a.ZoneID, a.Zone = zoneNames(r, o.ZoneIDs)
	a.DomainID, a.Domain = names(r, o.DomainIDs)
	return a
}

type createServiceParams struct {
	Name         string            `api:"name,required" doc:"name of the offering"`
	DisplayText  string            `api:"displaytext,required" len:"4096" doc:"description of the offering"`
	CPUNumber    uint32            `type:"long" api:"cpunumber" max:"1024" doc:"number of vCPUs; without it and memory the offering is customized"`
	CPUSpeed     uint32            `type:"long" api:"cpuspeed" max:"100000" doc:"speed of each vCPU in MHz; needed unless customized"`
	Memory       uint32            `type:"long" api:"memory" max:"67108864" doc:"memory in MiB, at least 32"`
	Customized   bool              `api:"customized" since:"4.14" doc:"CPUs and memory are chosen at deployment"`
	MinCPUs      uint32            `api:"mincpunumber" max:"1024" since:"4.13" doc:"fewest vCPUs of a customized offering"`
	MaxCPUs      uint32            `api:"maxcpunumber" max:"1024" since:"4.13" doc:"most vCPUs of a customized offering"`
	MinMemory    uint32            `api:"minmemory" max:"67108864" since:"4.13" doc:"least memory in MiB of a customized offering"`
	MaxMemory    uint32            `api:"maxmemory" max:"67108864" since:"4.13" doc:"most memory in MiB of a customized offering"`
	OfferHA      bool              `api:"offerha" doc:"restart VMs that die by themselves"`
	LimitCPUUse  bool              `api:"limitcpuuse" doc:"never run vCPUs faster than cpuspeed"`
	Volatile     bool              `api:"isvolatile" since:"4.2" doc:"make the root disk anew at each start"`
	StorageType  string            `api:"storagetype" enum:"local,shared" doc:"local or shared (the default)"`
	Tags         string            `api:"tags" len:"4096" doc:"storage tags of the root disk, separated by commas"`
	HostTags     string            `api:"hosttags" doc:"host tags, separated by commas"`
	DomainID     []cloud.ID        `api:"domainid" ref:"domain" doc:"domains that may use it; all when absent"`
	ZoneID       []cloud.ID        `api:"zoneid" ref:"zone" since:"4.13" doc:"zones it can be used in; all when absent"`
	NetworkRate  uint32            `api:"networkrate" max:"1000000" doc:"Mbit/s of the default NIC"`
	RootDiskSize uint64            `api:"rootdisksize" max:"1048576" since:"4.15" doc:"least size of the root disk in GiB"`
	Scaling      bool              `api:"dynamicscalingenabled" since:"4.16" doc:"whether CPU and memory may change while a VM runs"`
	IsSystem     bool              `api:"issystem" doc:"it is for system VMs"`
	SystemVMType string            `api:"systemvmtype" enum:"domainrouter,consoleproxy,secondarystoragevm,internalloadbalancervm,elasticloadbalancervm" doc:"kind of system VM it is for"`
	Details      map[string]string `api:"serviceofferingdetails,map" since:"4.2" doc:"details to keep with it"`
	rateParams
}

func createService() api.Command {
	return api.Command{
		Name: "createServiceOffering", Doc: "Makes a size that VMs can be deployed with.", Roles: api.AdminOnly,
		Event: "SERVICE.OFFERING.CREATE", Entity: "ServiceOffering", Object: "serviceoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createServiceParams) (ServiceAnswer, error) {
			o := &cloud.ServiceOffering{
				ID: tx.NewID(), Name: p.Name, DisplayText: p.DisplayText, CPUs: p.CPUNumber, CPUMHz: p.CPUSpeed, MemoryMiB: p.Memory,
				OfferHA: p.OfferHA, LimitCPU: p.LimitCPUUse, Volatile: p.Volatile, StorageType: cmp.Or(strings.ToLower(p.StorageType), "shared"),
				StorageTags: tags(p.Tags), HostTags: tags(p.HostTags), DomainIDs: domainIDs(p.DomainID), ZoneIDs: domainIDs(p.ZoneID),
				NetworkRate: p.NetworkRate, RootDiskGiB: p.RootDiskSize, DynamicScaling: p.Scaling, System: p.IsSystem,
				SystemVM: p.SystemVMType, Details: p.Details, Created: tx.Now(),
				Customized: p.Customized || p.CPUNumber == 0 && p.Memory == 0,
				MinCPUs:    p.MinCPUs, MaxCPUs: p.MaxCPUs, MinMemoryMiB: p.MinMemory, MaxMemoryMiB: p.MaxMemory,
			}
			if err := checkService(o); err != nil {
				return ServiceAnswer{}, err
			}
			if err := p.apply(&o.Rates, &o.CacheMode); err != nil {
				return ServiceAnswer{}, err
			}
			c.Describe(o.ID, "Service offering id="+o.ID.String())
			return viewService(tx, o), tables.ServiceOfferings.Put(tx, o)
		}),
	}
}

func checkService(o *cloud.ServiceOffering) error {
	switch {
	case o.System != (o.SystemVM != ""):
		return cloud.Errorf(cloud.Invalid, "Please specify systemvmtype for a system offering (issystem), and for no other")
	case o.Customized && o.System:
		return cloud.Errorf(cloud.Invalid, "A system offering cannot be customized: please specify cpunumber, cpuspeed and memory")
	case o.Customized && (o.CPUs != 0 || o.MemoryMiB != 0):
		return cloud.Errorf(cloud.Invalid, "For creating a custom compute offering cpunumber and memory must be left out; mincpunumber, maxcpunumber, minmemory and maxmemory bound them")
	case o.MaxCPUs > 0 && o.MinCPUs > o.MaxCPUs, o.MaxMemoryMiB > 0 && o.MinMemoryMiB > o.MaxMemoryMiB:
		return cloud.Errorf(cloud.Invalid, "Invalid bounds: mincpunumber and minmemory must not be above maxcpunumber and maxmemory")
	case o.Customized:
		return nil
	case o.MinCPUs+o.MaxCPUs+o.MinMemoryMiB+o.MaxMemoryMiB > 0:
		return cloud.Errorf(cloud.Invalid, "mincpunumber, maxcpunumber, minmemory and maxmemory are for customized offerings")
	case o.CPUs == 0:
		return cloud.Errorf(cloud.Invalid, "Failed to create service offering %s: specify the cpu number value between 1 and 1024 (parameter cpunumber)", o.Name)
	case o.CPUMHz == 0:
		return cloud.Errorf(cloud.Invalid, "Failed to create service offering %s: specify the cpu speed value between 1 and 100000 (parameter cpuspeed)", o.Name)
	case o.MemoryMiB < 32:
		return cloud.Errorf(cloud.Invalid, "Failed to create service offering %s: specify the memory value between 32 and 67108864 MB (parameter memory)", o.Name)
	}
	return nil
}

type updateServiceParams struct {
	ID          cloud.ID `api:"id,required" ref:"serviceoffering" doc:"the offering"`
	Name        string   `api:"name" doc:"its new name"`
	DisplayText string   `api:"displaytext" len:"4096" doc:"its new description"`
	SortKey     *int32   `type:"integer" api:"sortkey" doc:"its place in lists: higher ones first, or lower ones with sortkey.algorithm"`
	DomainID    *string  `api:"domainid" len:"4096" since:"4.13" doc:"domains that may use it, separated by commas; public for all"`
	ZoneID      *string  `api:"zoneid" len:"4096" since:"4.13" doc:"zones it can be used in, separated by commas; all for all"`
	HostTags    *string  `api:"hosttags" since:"4.16" doc:"its new host tags, separated by commas"`
	StorageTags *string  `api:"storagetags" since:"4.16" doc:"its new storage tags, separated by commas"`
	State       string   `api:"state" enum:"Active,Inactive" since:"4.19" doc:"Active, or Inactive to keep it from users"`
}

func updateService() api.Command {
	return api.Command{
		Name: "updateServiceOffering", Doc: "Changes what a service offering is called, who may use it, and where its VMs are placed.", Roles: api.AdminOnly,
		Event: "SERVICE.OFFERING.EDIT", Entity: "ServiceOffering", Object: "serviceoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateServiceParams) (ServiceAnswer, error) {
			o, ok := tables.ServiceOfferings.Get(tx, p.ID)
			if !ok {
				return ServiceAnswer{}, api.NoEntity("id", p.ID)
			}
			o.Name, o.DisplayText = cmp.Or(p.Name, o.Name), cmp.Or(p.DisplayText, o.DisplayText)
			if p.SortKey != nil {
				o.SortKey = *p.SortKey
			}
			if p.HostTags != nil {
				o.HostTags = tags(*p.HostTags)
			}
			if p.StorageTags != nil {
				o.StorageTags = tags(*p.StorageTags)
			}
			if p.State != "" {
				o.Inactive = p.State == "Inactive"
			}
			if err := Restrict(tx, p.DomainID, p.ZoneID, &o.DomainIDs, &o.ZoneIDs); err != nil {
				return ServiceAnswer{}, err
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
	ZoneID       cloud.ID `api:"zoneid" ref:"zone,use" since:"4.13" doc:"offerings that can be used in this zone"`
	CPUSpeed     uint32   `type:"long" api:"cpuspeed" since:"4.15" doc:"offerings with this speed in MHz"`
	StorageType  string   `api:"storagetype" since:"4.19" doc:"offerings of this kind of storage"`
	State        string   `api:"state" role:"admin" since:"4.19" doc:"Active (when absent), Inactive or all"`
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
			Less: func(a, b *cloud.ServiceOffering) int {
				return older(a.Created, b.Created, a.Name, b.Name)
			},
			SortKey: func(o *cloud.ServiceOffering) int32 { return o.SortKey },
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
	case !listed(p.State, o.Inactive, p.ID), !p.ZoneID.IsZero() && len(o.ZoneIDs) > 0 && !contains(o.ZoneIDs, p.ZoneID):
		return false
	case p.CPUSpeed != 0 && o.CPUMHz != p.CPUSpeed, p.StorageType != "" && o.StorageType != p.StorageType:
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
