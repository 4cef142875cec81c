package template

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Answer is a template in a zone, as clients see it. Sizes are in bytes.
type Answer struct {
	ID          cloud.ID `json:"id" doc:"the template"`
	Name        string   `json:"name" doc:"its name"`
	DisplayText string   `json:"displaytext" doc:"what it is, for people"`
	Public      bool     `json:"ispublic" doc:"whether everybody may use it"`
	Featured    bool     `json:"isfeatured" doc:"whether it is recommended"`
	Ready       bool     `json:"isready" doc:"whether VMs can be made of it"`
	Status      string   `json:"status,omitempty" doc:"how far its download is, or why it failed; told to its owner and admins"`
	Format      string   `json:"format" doc:"format of its file"`
	Hypervisor  string   `json:"hypervisor" doc:"hypervisor it is for"`
	OSTypeID    cloud.ID `json:"ostypeid,omitempty" doc:"its operating system"`
	OSTypeName  string   `json:"ostypename" doc:"name of that"`
	ZoneID      cloud.ID `json:"zoneid,omitempty" doc:"the zone"`
	ZoneName    string   `json:"zonename,omitempty" doc:"name of the zone"`
	CrossZones  bool     `json:"crossZones" doc:"whether it is in all zones"`
	AccountID   cloud.ID `json:"accountid" doc:"owning account"`
	Account     string   `json:"account,omitempty" doc:"name of that account"`
	api.InProject
	DomainID        cloud.ID          `json:"domainid" doc:"domain of the owner"`
	Domain          string            `json:"domain" doc:"name of that domain"`
	Size            uint64            `json:"size,omitempty" doc:"size of disks made of it"`
	PhysicalSize    uint64            `json:"physicalsize,omitempty" doc:"size of its file"`
	Checksum        string            `json:"checksum,omitempty" doc:"checksum of its file"`
	TemplateType    string            `json:"templatetype" doc:"USER, SYSTEM or BUILTIN"`
	TemplateTag     string            `json:"templatetag,omitempty" doc:"tag of hosts it runs on"`
	Extractable     bool              `json:"isextractable" doc:"whether its file may be taken out again"`
	Bootable        bool              `json:"bootable" doc:"whether it boots"`
	Bits            uint8             `json:"bits" doc:"32 or 64"`
	PasswordEnabled bool              `json:"passwordenabled" doc:"whether guests take their password from the cloud"`
	SSHKeyEnabled   bool              `json:"sshkeyenabled" doc:"whether guests take their SSH key from the cloud"`
	RequiresHVM     bool              `json:"requireshvm" doc:"whether it needs hardware virtualisation"`
	DynamicScaling  bool              `json:"isdynamicallyscalable" doc:"whether guests take CPU and memory while they run"`
	URL             string            `json:"url,omitempty" doc:"where it came from; told to its owner and admins"`
	Details         map[string]string `json:"details,omitempty" doc:"further details"`
	UserDataID      cloud.ID          `json:"userdataid,omitempty" doc:"user-data that its VMs are deployed with"`
	UserDataName    string            `json:"userdataname,omitempty" doc:"name of that user-data"`
	UserDataParams  string            `json:"userdataparams,omitempty" doc:"names of the variables of that user-data"`
	UserDataPolicy  string            `json:"userdatapolicy,omitempty" doc:"what becomes of it where a deployment brings its own"`
	Created         api.Time          `json:"created" doc:"when it was registered"`
	Tags            []api.Tag         `json:"tags" doc:"tags"`
	api.Remarked    `of:"template"`
}

func view(c *api.Call, t *cloud.Template, z *cloud.Zone) Answer {
	a := Answer{
		ID: t.ID, Name: t.Name, DisplayText: t.DisplayText, Public: t.Public, Featured: t.Featured, Ready: t.State == cloud.TemplateReady,
		Format: t.Format, Hypervisor: t.Hypervisor, OSTypeID: t.OSTypeID, CrossZones: t.ZoneID.IsZero(), AccountID: t.AccountID,
		DomainID: t.DomainID, Size: t.SizeBytes, PhysicalSize: t.FileBytes, Checksum: t.Checksum, TemplateType: t.Type, TemplateTag: t.Tag,
		Extractable: t.Extractable, Bootable: t.Bootable, Bits: t.Bits, PasswordEnabled: t.PasswordEnabled, SSHKeyEnabled: t.SSHKeyEnabled,
		RequiresHVM: t.RequiresHVM, DynamicScaling: t.DynamicScaling, Details: t.Details, Created: api.Time(t.Created), Tags: api.TagsOf(c.Read, t.ID),
	}
	if z != nil {
		a.ZoneID, a.ZoneName = z.ID, z.Name
	}
	if t.Checksum == "" && t.SHA256 != "" {
		a.Checksum = "{SHA-256}" + t.SHA256
	}
	if o, ok := tables.OSTypes.Get(c.Read, t.OSTypeID); ok {
		a.OSTypeName = o.Description
	}
	a.Account, a.InProject = api.OwnerNames(c.Read, t.AccountID)
	if d, ok := tables.Domains.Get(c.Read, t.DomainID); ok {
		a.Domain = d.Name
	}
	if u, ok := tables.UserDatas.Get(c.Read, t.UserDataID); ok {
		a.UserDataID, a.UserDataName = u.ID, u.Name
		a.UserDataParams, a.UserDataPolicy = strings.Join(u.Params, ","), t.UserDataPolicy.String()
	}
	if c.May(ownerOf(t)) {
		a.Status, a.URL = status(t), t.URL
	}
	return a
}

// View shows a template in the first zone that it is in and the caller may use.
func View(c *api.Call, t *cloud.Template) Answer { return views(c, t)[0] }

// status is how far a download is, in 4.1's words.
func status(t *cloud.Template) string {
	switch t.State {
	case cloud.TemplateReady:
		return "Download Complete"
	case cloud.TemplateDownloading:
		return strconv.Itoa(int(t.Progress)) + "% Downloaded"
	case cloud.TemplateFailed:
		return t.Error
	default:
		return "Not Downloaded"
	}
}

// views shows a template in each zone it is in, as registerTemplate answers.
func views(c *api.Call, t *cloud.Template) []Answer {
	var out []Answer
	for e := range spread(c, t, cloud.ID{}) {
		out = append(out, view(c, e.template, e.zone))
	}
	if len(out) == 0 {
		out = append(out, view(c, t, nil)) // for all zones, of which there are none yet
	}
	return out
}

// entry is a template in one zone.
type entry struct {
	template *cloud.Template
	zone     *cloud.Zone
}

// spread yields a template once per zone that it is in and the caller may use.
func spread(c *api.Call, t *cloud.Template, only cloud.ID) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		if !t.ZoneID.IsZero() {
			z, ok := tables.Zones.Get(c.Read, t.ZoneID)
			if ok && (only.IsZero() || only == z.ID) {
				yield(&entry{t, z})
			}
			return
		}
		for z := range tables.Zones.By(c.Read, "name", nil) {
			if (only.IsZero() || only == z.ID) && usable(c, z) && !yield(&entry{t, z}) {
				return
			}
		}
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	Filter     string     `api:"templatefilter,required" enum:"featured,self,selfexecutable,sharedexecutable,executable,community,all" doc:"which templates: featured, self, selfexecutable, sharedexecutable, executable, community, or all (admins)"`
	ID         cloud.ID   `api:"id" ref:"template,use" doc:"this template only"`
	IDs        []cloud.ID `api:"ids" since:"4.9" doc:"these templates only"`
	Name       string     `api:"name" doc:"templates of this name"`
	ZoneID     cloud.ID   `api:"zoneid" ref:"zone,use" doc:"templates of this zone"`
	Hypervisor string     `api:"hypervisor" doc:"templates for this hypervisor"`
	ShowUnique bool       `api:"showunique" since:"4.13" doc:"show a template of many zones once"`
}

func list() api.Command {
	return api.Command{
		Name: "listTemplates", Doc: "Lists templates, one row for each zone they are in.", Roles: api.Everyone, Object: "template",
		Run: api.List(api.Lister[listParams, entry, Answer]{
			Rows:    rows,
			ID:      func(e *entry) cloud.ID { return e.template.ID },
			Keyword: func(e *entry) string { return e.template.Name + "\n" + e.template.DisplayText },
			View:    func(c *api.Call, e *entry) Answer { return view(c, e.template, e.zone) },
		}),
	}
}

// rows follows 4.1: an id shows a template that the caller may see whatever the filter; else the filter decides, and
// account, domainid and listall say whose templates are meant by "self".
func rows(c *api.Call, p *listParams) (iter.Seq[*entry], error) {
	if p.Filter == "all" && !c.IsAdmin() {
		return nil, cloud.Errorf(cloud.Invalid, "Filter all can be specified by admin only")
	}
	keep := chosen(c, p)
	return func(yield func(*entry) bool) {
		for _, t := range candidates(c, p) {
			if t.ISO || t.State == cloud.TemplateRemoved || !p.matches(t) || !keep(t) {
				continue
			}
			for e := range spread(c, t, p.ZoneID) {
				if !yield(e) {
					return
				}
				if p.ShowUnique {
					break
				}
			}
		}
	}, nil
}

func (p *listParams) matches(t *cloud.Template) bool {
	return (p.ID.IsZero() || p.ID == t.ID) && (len(p.IDs) == 0 || slices.Contains(p.IDs, t.ID)) && (p.Name == "" || p.Name == t.Name) &&
		same(p.Hypervisor, t.Hypervisor)
}

// candidates reads the templates that may be shown, newest last.
func candidates(c *api.Call, p *listParams) []*cloud.Template {
	var out []*cloud.Template
	if !p.ID.IsZero() {
		if t, ok := tables.Templates.Get(c.Read, p.ID); ok {
			out = append(out, t)
		}
		return out
	}
	all := tables.Templates.All(c.Read)
	if account, ok := c.Scope.Account(); ok && p.AccountName != "" && strings.HasPrefix(p.Filter, "self") {
		all = tables.Templates.By(c.Read, "account", store.K(account))
	}
	for t := range all {
		out = append(out, t)
	}
	slices.SortStableFunc(out, func(a, b *cloud.Template) int { return a.Created.Compare(b.Created) })
	return out
}

// chosen is what the filter shows.
func chosen(c *api.Call, p *listParams) func(*cloud.Template) bool {
	// No guest is made of a system-VM image: those that are for deploying leave it out.
	ready := func(t *cloud.Template) bool { return t.State == cloud.TemplateReady && t.Type != cloud.TemplateSystem }
	mine := func(t *cloud.Template) bool { return c.Scope.Has(ownerOf(t)) }
	if p.AccountName == "" && p.DomainID.IsZero() && p.ProjectID == "" {
		mine = func(t *cloud.Template) bool { return t.AccountID == c.Account.ID } // listall means nothing here
	}
	if !p.ID.IsZero() {
		return func(t *cloud.Template) bool { return t.Public || c.May(ownerOf(t)) }
	}
	switch p.Filter {
	case "featured":
		return func(t *cloud.Template) bool { return t.Public && t.Featured && ready(t) }
	case "community":
		return func(t *cloud.Template) bool { return t.Public && !t.Featured && ready(t) }
	case "self":
		return mine
	case "selfexecutable":
		return func(t *cloud.Template) bool { return mine(t) && ready(t) }
	case "executable":
		return func(t *cloud.Template) bool { return (t.Public || mine(t)) && ready(t) }
	case "all":
		// Without a word about whose: all that the admin may see.
		if p.AccountName == "" && p.DomainID.IsZero() && p.ProjectID == "" {
			all := c.AllVisible().WithoutProjects(c)
			return func(t *cloud.Template) bool { return all.Has(ownerOf(t)) }
		}
		return mine
	}
	// sharedexecutable: what other accounts have granted this one; nothing can be granted yet.
	return func(*cloud.Template) bool { return false }
}
