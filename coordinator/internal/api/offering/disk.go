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
	ID               cloud.ID          `json:"id" doc:"the offering"`
	Name             string            `json:"name" doc:"its name"`
	DisplayText      string            `json:"displaytext" doc:"its description"`
	DiskSize         int64             `json:"disksize" doc:"size in GiB; 0 for a customized one"`
	Created          api.Time          `json:"created" doc:"when it was made"`
	IsCustomized     bool              `json:"iscustomized" doc:"the size is chosen when a disk is made"`
	StorageType      string            `json:"storagetype" doc:"local or shared"`
	ProvisioningType string            `json:"provisioningtype" doc:"thin"`
	Tags             string            `json:"tags,omitempty" doc:"storage tags"`
	DomainID         string            `json:"domainid,omitempty" doc:"domains it is restricted to"`
	Domain           string            `json:"domain,omitempty" doc:"names of those domains"`
	DisplayOffering  bool              `json:"displayoffering" doc:"false where it is shown to root admins only"`
	State            string            `json:"state" doc:"Active, or Inactive for one that is kept but not offered"`
	Zone             string            `json:"zone,omitempty" doc:"names of the zones it is restricted to"`
	ZoneID           string            `json:"zoneid,omitempty" doc:"zones it is restricted to"`
	StrictSize       bool              `json:"disksizestrictness" doc:"the size of its disks cannot be changed"`
	Details          map[string]string `json:"details,omitempty" doc:"details"`
	Rates
	api.Remarked `of:"diskoffering"`
}

func viewDisk(r store.Reader, o *cloud.DiskOffering) DiskAnswer {
	a := DiskAnswer{
		ID: o.ID, Name: o.Name, DisplayText: o.DisplayText, DiskSize: int64(o.SizeBytes >> 30), Created: api.Time(o.Created),
		IsCustomized: o.Customized, StorageType: o.StorageType, ProvisioningType: "thin", Tags: strings.Join(o.Tags, ","),
		DisplayOffering: !o.Hidden, State: state(o.Inactive), StrictSize: o.StrictSize, Details: o.Details, Rates: viewRates(o.Rates, o.CacheMode),
	}
	a.ZoneID, a.Zone = zoneNames(r, o.ZoneIDs)
	a.DomainID, a.Domain = names(r, o.DomainIDs)
	return a
}

type createDiskParams struct {
	Name        string            `api:"name,required" doc:"name of the offering"`
	DisplayText string            `api:"displaytext,required" len:"4096" doc:"description of the offering"`
	DiskSize    uint64            `api:"disksize" max:"1048576" doc:"size in GiB; needed unless customized"`
	Customized  bool              `api:"customized" doc:"the size is chosen when a disk is made"`
	StorageType string            `api:"storagetype" enum:"local,shared" doc:"local or shared (the default)"`
	Tags        string            `api:"tags" len:"4096" doc:"storage tags, separated by commas"`
	DomainID    []cloud.ID        `api:"domainid" ref:"domain" doc:"domains that may use it; all when absent"`
	ZoneID      []cloud.ID        `api:"zoneid" ref:"zone" since:"4.13" doc:"zones it can be used in; all when absent"`
	Display     *bool             `api:"displayoffering" since:"4.2" doc:"false shows it to root admins only"`
	Strict      bool              `api:"disksizestrictness" since:"4.17" doc:"the size of its disks cannot be changed"`
	Details     map[string]string `api:"details,map" since:"4.16" doc:"details to keep with it"`
	rateParams
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
				ZoneIDs: domainIDs(p.ZoneID), Hidden: p.Display != nil && !*p.Display, StrictSize: p.Strict, Details: p.Details,
			}
			if err := p.apply(&o.Rates, &o.CacheMode); err != nil {
				return DiskAnswer{}, err
			}
			if o.StorageType == "" {
				o.StorageType = "shared"
			}
			c.Describe(o.ID, "Disk offering id="+o.ID.String())
			return viewDisk(tx, o), tables.DiskOfferings.Put(tx, o)
		}),
	}
}

type updateDiskParams struct {
	ID          cloud.ID `api:"id,required" ref:"diskoffering" doc:"the offering"`
	Name        string   `api:"name" doc:"its new name"`
	DisplayText string   `api:"displaytext" len:"4096" doc:"its new description"`
	SortKey     *int32   `type:"integer" api:"sortkey" doc:"its place in lists: higher ones first, or lower ones with sortkey.algorithm"`
	Display     *bool    `api:"displayoffering" since:"4.2" doc:"false shows it to root admins only"`
	DomainID    *string  `api:"domainid" len:"4096" since:"4.13" doc:"domains that may use it, separated by commas; public for all"`
	ZoneID      *string  `api:"zoneid" len:"4096" since:"4.13" doc:"zones it can be used in, separated by commas; all for all"`
	Tags        *string  `api:"tags" len:"4096" since:"4.15" doc:"its new storage tags, separated by commas"`
	State       string   `api:"state" enum:"Active,Inactive" since:"4.19" doc:"Active, or Inactive to keep it from users"`
	rateParams
}

func updateDisk() api.Command {
	return api.Command{
		Name: "updateDiskOffering", Doc: "Changes what a disk offering is called, who may use it, and what its disks may do.", Roles: api.AdminOnly,
		Event: "DISK.OFFERING.EDIT", Entity: "DiskOffering", Object: "diskoffering",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateDiskParams) (DiskAnswer, error) {
			o, ok := tables.DiskOfferings.Get(tx, p.ID)
			if !ok {
				return DiskAnswer{}, api.NoEntity("id", p.ID)
			}
			o.Name, o.DisplayText = cmp.Or(p.Name, o.Name), cmp.Or(p.DisplayText, o.DisplayText)
			if p.SortKey != nil {
				o.SortKey = *p.SortKey
			}
			if p.Display != nil {
				o.Hidden = !*p.Display
			}
			if p.Tags != nil {
				o.Tags = tags(*p.Tags)
			}
			if p.State != "" {
				o.Inactive = p.State == "Inactive"
			}
			if err := p.apply(&o.Rates, &o.CacheMode); err != nil {
				return DiskAnswer{}, err
			}
			if err := Restrict(tx, p.DomainID, p.ZoneID, &o.DomainIDs, &o.ZoneIDs); err != nil {
				return DiskAnswer{}, err
			}
			c.Describe(o.ID, "Disk offering id="+o.ID.String())
			return viewDisk(tx, o), tables.DiskOfferings.Put(tx, o)
		}),
	}
}

type listDiskParams struct {
	api.ListParams
	ZoneID      cloud.ID `api:"zoneid" ref:"zone,use" since:"4.13" doc:"offerings that can be used in this zone"`
	StorageType string   `api:"storagetype" since:"4.19" doc:"offerings of this kind of storage"`
	State       string   `api:"state" role:"admin" since:"4.19" doc:"Active (when absent), Inactive or all"`
	ID          cloud.ID `api:"id" doc:"this offering only"`
	Name        string   `api:"name" doc:"the offerings of this name"`
	DomainID    cloud.ID `api:"domainid" ref:"domain" doc:"offerings restricted to this domain"`
}

func listDisk() api.Command {
	return api.Command{
		Name: "listDiskOfferings", Doc: "Lists the sizes that data disks can have.", Roles: api.Everyone, Object: "diskoffering",
		Run: api.List(api.Lister[listDiskParams, cloud.DiskOffering, DiskAnswer]{
			Rows: func(c *api.Call, p *listDiskParams) (iter.Seq[*cloud.DiskOffering], error) {
				return func(yield func(*cloud.DiskOffering) bool) {
					for o := range tables.DiskOfferings.All(c.Read) {
						keep := o.Removed.IsZero() && (p.ID.IsZero() || o.ID == p.ID) && (p.Name == "" || o.Name == p.Name) &&
							(p.DomainID.IsZero() || contains(o.DomainIDs, p.DomainID)) && listed(p.State, o.Inactive, p.ID) &&
							(p.ZoneID.IsZero() || len(o.ZoneIDs) == 0 || contains(o.ZoneIDs, p.ZoneID)) &&
							(p.StorageType == "" || o.StorageType == p.StorageType) && (!o.Hidden || c.IsRoot())
						if keep && !yield(o) {
							return
						}
					}
				}, nil
			},
			Visible: func(c *api.Call, o *cloud.DiskOffering) bool { return inDomains(c, o.DomainIDs) },
			Keyword: func(o *cloud.DiskOffering) string { return o.Name + "\n" + o.DisplayText },
			Less: func(a, b *cloud.DiskOffering) int {
				return older(a.Created, b.Created, a.Name, b.Name)
			},
			SortKey: func(o *cloud.DiskOffering) int32 { return o.SortKey },
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
