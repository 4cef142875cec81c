package volume

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Answer is a disk as clients see it.
type Answer struct {
	ID            cloud.ID `json:"id" doc:"the volume"`
	Name          string   `json:"name" doc:"its name"`
	ZoneID        cloud.ID `json:"zoneid" doc:"the zone"`
	ZoneName      string   `json:"zonename" doc:"name of the zone"`
	Type          string   `json:"type" doc:"ROOT or DATADISK"`
	DeviceID      int64    `json:"deviceid" doc:"position among the VM's disks"`
	VMID          cloud.ID `json:"virtualmachineid,omitempty" doc:"VM it is attached to"`
	VMName        string   `json:"vmname,omitempty" doc:"name of that VM"`
	VMDisplayName string   `json:"vmdisplayname,omitempty" doc:"name of that VM for people"`
	VMState       string   `json:"vmstate,omitempty" doc:"state of that VM"`
	Size          int64    `json:"size" doc:"size in bytes"`
	VirtualSize   int64    `json:"virtualsize,omitempty" doc:"size in bytes"`
	PhysicalSize  int64    `json:"physicalsize,omitempty" doc:"bytes it takes on its pool"`
	Created       api.Time `json:"created" doc:"when it was made"`
	Attached      api.Time `json:"attached,omitempty" doc:"when it was attached"`
	State         string   `json:"state" doc:"Allocated, Creating, Ready, Destroy, Expunging or Expunged"`
	Destroyed     bool     `json:"destroyed" doc:"true for a volume that is being removed"`
	Account       string   `json:"account,omitempty" doc:"owning account"`
	api.InProject
	DomainID            cloud.ID  `json:"domainid" doc:"domain of the owner"`
	Domain              string    `json:"domain" doc:"name of that domain"`
	DomainPath          string    `json:"domainpath" doc:"path of that domain"`
	StorageType         string    `json:"storagetype" doc:"local or shared"`
	Hypervisor          string    `json:"hypervisor" doc:"kind of hypervisor"`
	DiskOfferingID      cloud.ID  `json:"diskofferingid,omitempty" doc:"disk offering of a data disk"`
	DiskOfferingName    string    `json:"diskofferingname,omitempty" doc:"name of the disk offering"`
	DiskOfferingText    string    `json:"diskofferingdisplaytext,omitempty" doc:"description of the disk offering"`
	ServiceOfferingID   cloud.ID  `json:"serviceofferingid,omitempty" doc:"service offering of a root disk"`
	ServiceOfferingName string    `json:"serviceofferingname,omitempty" doc:"name of the service offering"`
	ServiceOfferingText string    `json:"serviceofferingdisplaytext,omitempty" doc:"description of the service offering"`
	Storage             string    `json:"storage,omitempty" doc:"name of its pool (admins)"`
	StorageID           cloud.ID  `json:"storageid,omitempty" doc:"its pool (admins)"`
	Path                string    `json:"path,omitempty" doc:"file on the pool (admins)"`
	TemplateID          cloud.ID  `json:"templateid,omitempty" doc:"template it was made from"`
	TemplateName        string    `json:"templatename,omitempty" doc:"name of the template"`
	TemplateText        string    `json:"templatedisplaytext,omitempty" doc:"description of the template"`
	ProvisioningType    string    `json:"provisioningtype" doc:"thin"`
	Extractable         bool      `json:"isextractable" doc:"true where it may be downloaded"`
	DisplayVolume       bool      `json:"displayvolume" doc:"always true"`
	Tags                []api.Tag `json:"tags" doc:"tags"`
	api.Remarked        `of:"volume"`
}

// MetricsAnswer is a disk with its size in a larger unit. What a disk does on its own nobody measures.
type MetricsAnswer struct {
	Answer
	SizeGB string `json:"sizegb" doc:"size in GiB"`
}

// View makes the answer of one volume; root says whether the caller is a root admin.
func View(r store.Reader, v *cloud.Volume, root bool) Answer {
	a := Answer{
		ID: v.ID, Name: v.Name, ZoneID: v.ZoneID, Type: kind(v), DeviceID: int64(v.DeviceID), VMID: v.VMID,
		Size: int64(v.SizeBytes), VirtualSize: int64(v.SizeBytes), PhysicalSize: int64(v.AllocatedBytes),
		Created: api.Time(v.Created), Attached: api.Time(v.Attached), State: v.State.String(),
		Destroyed: v.State >= cloud.VolumeDestroy, DomainID: v.DomainID, StorageType: "shared", Hypervisor: "KVM",
		TemplateID: v.TemplateID, ProvisioningType: "thin", DisplayVolume: true, Tags: api.TagsOf(r, v.ID),
	}
	a.Account, a.InProject = api.OwnerNames(r, v.AccountID)
	if d, ok := tables.Domains.Get(r, v.DomainID); ok {
		a.Domain, a.DomainPath = d.Name, d.Path
	}
	if z, ok := tables.Zones.Get(r, v.ZoneID); ok {
		a.ZoneName = z.Name
	}
	if vm, ok := tables.VMs.Get(r, v.VMID); ok {
		a.VMName, a.VMDisplayName, a.VMState = vm.Name, vm.DisplayName, vm.State.String()
	}
	if t, ok := tables.Templates.Get(r, v.TemplateID); ok {
		a.TemplateName, a.TemplateText, a.Extractable = t.Name, t.DisplayText, t.Extractable
	}
	a.addOffering(r, v)
	if p, ok := tables.StoragePools.Get(r, v.PoolID); ok {
		if !p.HostID.IsZero() {
			a.StorageType = "local"
		}
		if root {
			a.Storage, a.StorageID, a.Path = p.Name, p.ID, v.ID.String()
		}
	}
	return a
}

func (a *Answer) addOffering(r store.Reader, v *cloud.Volume) {
	if v.Root {
		if o, ok := tables.ServiceOfferings.Get(r, v.OfferingID); ok {
			a.ServiceOfferingID, a.ServiceOfferingName, a.ServiceOfferingText = o.ID, o.Name, o.DisplayText
			if v.PoolID.IsZero() {
				a.StorageType = o.StorageType
			}
		}
		return
	}
	if o, ok := tables.DiskOfferings.Get(r, v.OfferingID); ok {
		a.DiskOfferingID, a.DiskOfferingName, a.DiskOfferingText = o.ID, o.Name, o.DisplayText
		if v.PoolID.IsZero() {
			a.StorageType = o.StorageType
		}
	}
}
