package offering

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// DiskAnswer is a disk offering as clients see it.
type DiskAnswer struct {
	ID               cloud.ID `json:"id" doc:"the offering"`
	Name             string   `json:"name" doc:"its name"`
	DisplayText      string   `json:"displaytext" doc:"its description"`
	DiskSize         int64    `json:"disksize" doc:"size in GiB; 0 for a customized one"`
	Created          api.Time `json:"created" doc:"when it was made"`
	IsCustomized     bool     `json:"iscustomized" doc:"the size is chosen when a disk is made"`
	StorageType      string   `json:"storagetype" doc:"local or shared"`
	ProvisioningType string   `json:"provisioningtype" doc:"thin"`
	Tags             string   `json:"tags,omitempty" doc:"storage tags"`
	DomainID         string   `json:"domainid,omitempty" doc:"domains it is restricted to"`
	Domain           string   `json:"domain,omitempty" doc:"names of those domains"`
	DisplayOffering  bool     `json:"displayoffering" doc:"always true"`
	State            string   `json:"state" doc:"Active"`
}

func viewDisk(r store.Reader, o *cloud.DiskOffering) DiskAnswer {
	a := DiskAnswer{
		ID: o.ID, Name: o.Name, DisplayText: o.DisplayText, DiskSize: int64(o.SizeBytes >> 30), Created: api.Time(o.Created),
		IsCustomized: o.Customized, StorageType: o.StorageType, ProvisioningType: "thin", Tags: strings.Join(o.Tags, ","),
		DisplayOffering: true, State: "Active",
	}
	a.DomainID, a.Domain = names(r, o.DomainIDs)
	return a
}

type createDiskParams struct {
	Name        string     `api:"name,required" doc:"name of the offering"`
	DisplayText string     `api:"displaytext,required" len:"4096" doc:"description of the offering"`
	DiskSize    uint64     `api:"disksize" max:"1048576" doc:"size in GiB; needed unless customized"`
	Customized  bool       `api:"customized" doc:"the size is chosen when a disk is made"`
	StorageType string     `api:"storagetype" enum:"local,shared" doc:"local or shared (the default)"`
	Tags        string     `api:"tags" len:"4096" doc:"storage tags, separated by commas"`
	DomainID    []cloud.ID `api:"domainid" ref:"domain" doc:"domains that may use it; all when absent"`
}

func createDisk() api.Command {
	return api.Command{
		Name: "createDiskOffering", Doc: "Makes a size that data disks can have.", Roles: api.AdminOnly,
		Event: "DISK.OFFERING.CREATE", Entity: "DiskOffering", Object: "diskoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createDiskParams) (DiskAnswer, error) {
			if p.Customized == (p.DiskSize > 0) {
				return DiskAnswer{}, cloud.Errorf(cloud.Invalid, "Please specify a disk size (parameter disksize, in GiB) for an offering that is "+
					"not customized, and none for a customized one.")
			}
			o := &cloud.DiskOffering{
				ID: tx.NewID(), Name: p.Name, DisplayText: p.DisplayText, SizeBytes: p.DiskSize << 30, Customized: p.Customized,
				StorageType: strings.ToLower(p.StorageType), Tags: tags(p.Tags), DomainIDs: domainIDs(p.DomainID), Created: tx.Now(),
			}
			if o.StorageType == "" {
				o.StorageType = "shared"
			}
			c.Describe(o.ID, "Disk offering id="+o.ID.String())
			return viewDisk(tx, o), tables.DiskOfferings.Put(tx, o)
		}),
	}
}

type listDiskParams struct {
	api.ListParams
	ID       cloud.ID `api:"id" doc:"this offering only"`
	Name     string   `api:"name" doc:"the offerings of this name"`
	DomainID cloud.ID `api:"domainid" ref:"domain" doc:"offerings restricted to this domain"`
}

func listDisk() api.Command {
	return api.Command{
		Name: "listDiskOfferings", Doc: "Lists the sizes that data disks can have.", Roles: api.Everyone, Object: "diskoffering",
		Run: api.List(api.Lister[listDiskParams, cloud.DiskOffering, DiskAnswer]{
			Rows: func(c *api.Call, p *listDiskParams) (iter.Seq[*cloud.DiskOffering], error) {
				return func(yield func(*cloud.DiskOffering) bool) {
					for o := range tables.DiskOfferings.All(c.Read) {
						keep := o.Removed.IsZero() && (p.ID.IsZero() || o.ID == p.ID) && (p.Name == "" || o.Name == p.Name) &&
							(p.DomainID.IsZero() || contains(o.DomainIDs, p.DomainID))
						if keep && !yield(o) {
							return
						}
					}
				}, nil
			},
			Visible: func(c *api.Call, o *cloud.DiskOffering) bool { return inDomains(c, o.DomainIDs) },
			Keyword: func(o *cloud.DiskOffering) string { return o.Name + "\n" + o.DisplayText },
			Less:    func(a, b *cloud.DiskOffering) int { return older(a.Created, b.Created, a.Name, b.Name) },
			View:    func(c *api.Call, o *cloud.DiskOffering) DiskAnswer { return viewDisk(c.Read, o) },
		}),
	}
}

type deleteDiskParams struct {
	ID cloud.ID `api:"id,required" ref:"diskoffering" doc:"the offering"`
}

func deleteDisk() api.Command {
	return api.Command{
		Name: "deleteDiskOffering", Doc: "Takes an offering out of the choice; disks that have it keep it.", Roles: api.AdminOnly,
		Event: "DISK.OFFERING.DELETE", Entity: "DiskOffering",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *deleteDiskParams) error {
			c.Describe(p.ID, "Disk offering id="+p.ID.String())
			return tables.DiskOfferings.Edit(tx, p.ID, func(o *cloud.DiskOffering) error {
				o.Removed = tx.Now()
				return nil
			})
		}),
	}
}

func contains(ids []cloud.ID, id cloud.ID) bool { return slices.Contains(ids, id) }

// older orders by age, then by name.
func older(a, b time.Time, nameA, nameB string) int {
	return cmp.Or(a.Compare(b), strings.Compare(nameA, nameB))
}
