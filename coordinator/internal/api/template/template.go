// Package template holds the commands of templates.
package template

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	Count storage.Counter
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command { return []api.Command{register(d), list(), remove(d)} }

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "template",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			t, ok := tables.Templates.Get(r, id)
			if !ok || t.ISO || t.State == cloud.TemplateRemoved {
				return api.Owner{}, false
			}
			return ownerOf(t), true
		},
		Usable: func(c *api.Call, id cloud.ID) bool {
			t, ok := tables.Templates.Get(c.Read, id)
			return ok && t.Public
		},
	}}
}

func ownerOf(t *cloud.Template) api.Owner { return api.Owner{Account: t.AccountID, Domain: t.DomainID} }

type registerParams struct {
	Name            string            `api:"name,required" doc:"name of the template"`
	DisplayText     string            `api:"displaytext,required" len:"4096" doc:"what it is, for people"`
	URL             string            `api:"url,required" len:"2048" doc:"http or https URL of the image"`
	Format          string            `api:"format,required" doc:"QCOW2, RAW, or SYSTEMVM: a system-VM image (root admins)"`
	Hypervisor      string            `api:"hypervisor,required" doc:"hypervisor it is for: KVM"`
	OSTypeID        cloud.ID          `api:"ostypeid,required" ref:"ostype" doc:"its operating system"`
	ZoneID          string            `api:"zoneid" type:"uuid" doc:"zone it is for; -1 for all zones (root admins)"`
	ZoneIDs         []string          `api:"zoneids" since:"4.10" type:"list" doc:"instead of zoneid: one zone, or -1"`
	Account         string            `api:"account" doc:"account it belongs to; needs domainid"`
	DomainID        cloud.ID          `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID       cloud.ID          `api:"projectid" doc:"project it belongs to"`
	Bits            *int              `api:"bits" doc:"32 or 64 (the default)"`
	Checksum        string            `api:"checksum" doc:"hexadecimal checksum of the file, of an algorithm told by its length or by {SHA-256} before it"`
	Public          bool              `api:"ispublic" doc:"whether everybody may use it"`
	Featured        bool              `api:"isfeatured" doc:"whether it is recommended; root admins"`
	Extractable     bool              `api:"isextractable" doc:"whether its file may be taken out again"`
	PasswordEnabled bool              `api:"passwordenabled" doc:"whether guests take their password from the cloud"`
	SSHKeyEnabled   bool              `api:"sshkeyenabled" doc:"whether guests take their SSH key from the cloud"`
	RequiresHVM     *bool             `api:"requireshvm" doc:"whether it needs hardware virtualisation; true when absent"`
	DynamicScaling  bool              `api:"isdynamicallyscalable" since:"4.3" doc:"whether guests take CPU and memory while they run"`
	Tag             string            `api:"templatetag" doc:"tag of hosts it runs on"`
	Details         map[string]string `api:"details,map" doc:"further details"`
}

// zone reads the zone of a registration; the zero zone is all of them.
func (p *registerParams) zone(c *api.Call) (cloud.ID, error) {
	text := p.ZoneID
	if text == "" && len(p.ZoneIDs) == 1 {
		text = p.ZoneIDs[0]
	}
	switch {
	case len(p.ZoneIDs) > 1:
		return cloud.ID{}, cloud.Errorf(cloud.Invalid, "Parameter zoneids takes one zone, or -1 for all zones")
	case text == "":
		return cloud.ID{}, cloud.Errorf(cloud.Invalid, "Unable to execute API command registerTemplate due to missing parameter zoneid")
	case text == "-1":
		if !c.IsRoot() {
			return cloud.ID{}, cloud.Errorf(cloud.Invalid, "Please specify a valid zone Id.")
		}
		return cloud.ID{}, nil
	}
	id, err := cloud.ParseID(text)
	if err != nil {
		return id, cloud.Errorf(cloud.Invalid, "Invalid parameter zoneid value=%s due to incorrect long value format, or entity does not exist", text)
	}
	z, ok := tables.Zones.Get(c.Read, id)
	if !ok || !c.IsRoot() && (z.AllocationState != cloud.AllocationEnabled || !usable(c, z)) {
		return id, api.NoEntity("zoneid", id)
	}
	return id, nil
}

func register(d Deps) api.Command {
	return api.Command{
		Name: "registerTemplate", Doc: "Makes a template of an image that is downloaded from a URL.", Roles: api.Everyone,
		Event: "TEMPLATE.CREATE", Entity: "Template", Object: "template",
		Run: api.ChangeList(func(c *api.Call, tx *store.Tx, p *registerParams) ([]Answer, error) {
			account, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
			if err != nil {
				return nil, err
			}
			zone, err := p.zone(c)
			if err != nil {
				return nil, err
			}
			reg := storage.Registration{
				Owner: account, Admin: c.IsRoot(), ZoneID: zone, Name: p.Name, DisplayText: p.DisplayText, URL: p.URL, Checksum: p.Checksum,
				Format: p.Format, Hypervisor: p.Hypervisor, OSTypeID: p.OSTypeID, Bits: 64, Public: p.Public, Featured: p.Featured,
				Extractable: p.Extractable, PasswordEnabled: p.PasswordEnabled, SSHKeyEnabled: p.SSHKeyEnabled, RequiresHVM: true,
				DynamicScaling: p.DynamicScaling, Tag: p.Tag, Details: p.Details,
			}
			if p.Bits != nil {
				if *p.Bits != 32 && *p.Bits != 64 {
					return nil, cloud.Errorf(cloud.Invalid, "bits must be 32 or 64")
				}
				reg.Bits = uint8(*p.Bits)
			}
			if p.RequiresHVM != nil {
				reg.RequiresHVM = *p.RequiresHVM
			}
			t, err := storage.Register(tx, reg, d.Count)
			if err != nil {
				return nil, err
			}
			c.Describe(t.ID, "template "+t.Name)
			c.EventOwner(ownerOf(t))
			return views(c, t), nil
		}),
	}
}

type removeParams struct {
	ID     cloud.ID `api:"id,required" ref:"template" doc:"the template"`
	ZoneID cloud.ID `api:"zoneid" ref:"zone,use" doc:"the zone it is removed from; must be its only one"`
}

func remove(d Deps) api.Command {
	return api.Command{
		Name: "deleteTemplate", Doc: "Removes a template; disks that were made of it stay.", Roles: api.Everyone,
		Event: "TEMPLATE.DELETE", Entity: "Template",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			t, _ := tables.Templates.Get(tx, p.ID)
			switch {
			case t.Type == "BUILTIN", t.Type == cloud.TemplateSystem && (!c.IsRoot() || tables.Routers.Count(tx, "template", store.K(t.ID)) > 0):
				return nil, cloud.Errorf(cloud.Invalid, "Unable to delete template %s: it is part of the cloud", t.Name)
			case !p.ZoneID.IsZero() && !t.ZoneID.IsZero() && p.ZoneID != t.ZoneID:
				return nil, cloud.Errorf(cloud.Invalid, "Template %s is not in zone %s", t.Name, p.ZoneID)
			case !p.ZoneID.IsZero() && t.ZoneID.IsZero() && tables.Zones.Len(tx) > 1:
				return nil, cloud.Errorf(cloud.Invalid, "Template %s is in all zones: leave zoneid out to remove it from all", t.Name)
			}
			if err := storage.Remove(tx, p.ID, d.Count); err != nil {
				return nil, err
			}
			c.Describe(t.ID, "template "+t.Name)
			return &api.Start{InstanceID: t.ID, Owner: ownerOf(t)}, nil
		}),
		// The call has done it all; its file goes when nothing is made of it any more.
		Step: func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
	}
}

// usable tells whether the caller's accounts may use a zone.
func usable(c *api.Call, z *cloud.Zone) bool {
	if z.DomainID.IsZero() || c.IsRoot() {
		return true
	}
	for id := c.Account.DomainID; !id.IsZero(); {
		if id == z.DomainID {
			return true
		}
		d, ok := tables.Domains.Get(c.Read, id)
		if !ok {
			return false
		}
		id = d.ParentID
	}
	return false
}

func same(want, have string) bool { return want == "" || strings.EqualFold(want, have) }
