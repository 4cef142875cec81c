package tag

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Details are pairs of texts like tags, but root admins' alone to keep: programs note there what people need not see.

type detailParams struct {
	Type     string   `api:"resourcetype,required" doc:"kind of the resource: UserVm, Volume, Network, Zone, ..."`
	Resource cloud.ID `api:"resourceid,required" doc:"the resource"`
}

// own are the details that a resource's row has of its own, which its own commands change.
func own(r store.Reader, kind string, id cloud.ID) map[string]string {
	switch kind {
	case "UserVm":
		if vm, ok := tables.VMs.Get(r, id); ok {
			return vm.Details
		}
	case "Zone":
		if z, ok := tables.Zones.Get(r, id); ok {
			return z.Details
		}
	}
	return nil
}

// resolve finds the resource that a call of a root admin names.
func (p *detailParams) resolve(c *api.Call) (name string, owner api.Owner, err error) {
	name, entities, err := find(c.Registry(), p.Type)
	if err != nil {
		return "", owner, err
	}
	owner, ok := seen(c, entities, p.Resource)
	if !ok {
		return "", owner, api.NoEntity("resourceid", p.Resource)
	}
	return name, owner, nil
}

// seen finds the owner of a resource whose details the caller may see. Those of what is no account's are for root admins.
func seen(c *api.Call, entities []api.Entity, id cloud.ID) (api.Owner, bool) {
	for _, e := range entities {
		if o, ok := e.Lookup(c.Read, id); ok && (c.IsRoot() || !o.Account.IsZero() && c.May(o)) {
			return o, true
		}
	}
	return api.Owner{}, false
}

type addDetailParams struct {
	detailParams
	Details map[string]string `api:"details,map,required" doc:"the details: details[0].key=..&details[0].value=.."`
	Display *bool             `api:"fordisplay" since:"4.3" doc:"false: shown to root admins alone"`
}

func addDetail() api.Command {
	return api.Command{
		Name: "addResourceDetail", Doc: "Keeps details at a resource, in the place of those with the same keys.", Since: "4.2", Roles: api.AdminOnly,
		Event: "CREATE_RESOURCE_DETAILS", Entity: "ResourceDetail",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *addDetailParams) (*api.Start, error) {
			kind, owner, err := p.resolve(c)
			if err != nil {
				return nil, err
			}
			fixed := own(tx, kind, p.Resource)
			for _, key := range slices.Sorted(maps.Keys(p.Details)) {
				if _, ok := fixed[key]; ok {
					return nil, cloud.Errorf(cloud.Invalid, "The %s %s has the detail %s of its own, which its update command changes", kind, p.Resource, key)
				}
				if err := putDetail(tx, kind, p.Resource, key, p.Details[key], p.Display != nil && !*p.Display); err != nil {
					return nil, err
				}
			}
			return start(c, p.Resource, owner, "creating resource details"), nil
		}),
		Step: done,
	}
}

func putDetail(tx *store.Tx, kind string, id cloud.ID, key, value string, hidden bool) error {
	switch {
	case key == "" || len(key) > 255:
		return cloud.Errorf(cloud.Invalid, "A key of parameter details has 1 to 255 bytes")
	case len(value) > 4096:
		return cloud.Errorf(cloud.Invalid, "The value of the detail %s has %d bytes; at most 4096 are accepted", key, len(value))
	}
	d, ok := tables.ResourceDetails.First(tx, "resource", store.K(id, key))
	if !ok {
		if tables.ResourceDetails.Count(tx, "resource", store.K(id)) >= most {
			return cloud.Errorf(cloud.Invalid, "The %s %s has %d details already, which is the most", kind, id, most)
		}
		d = &cloud.ResourceDetail{ID: tx.NewID(), ResourceType: kind, ResourceID: id, Key: key}
	}
	d.Value, d.Hidden = value, hidden
	return tables.ResourceDetails.Put(tx, d)
}

type removeDetailParams struct {
	detailParams
	Key string `api:"key" doc:"the detail with this key; all where absent"`
}

func removeDetail() api.Command {
	return api.Command{
		Name: "removeResourceDetail", Doc: "Takes details away from a resource.", Since: "4.2", Roles: api.AdminOnly,
		Event: "DELETE_RESOURCE_DETAILS", Entity: "ResourceDetail",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeDetailParams) (*api.Start, error) {
			_, owner, err := p.resolve(c)
			if err != nil {
				return nil, err
			}
			gone := 0
			for d := range tables.ResourceDetails.By(tx, "resource", store.K(p.Resource)) {
				if p.Key != "" && d.Key != p.Key {
					continue
				}
				gone++
				if err := tables.ResourceDetails.Delete(tx, d.ID); err != nil {
					return nil, err
				}
			}
			if gone == 0 {
				return nil, cloud.Errorf(cloud.Invalid, "The %s %s has no such detail that could be removed (parameter key: %q)", p.Type, p.Resource, p.Key)
			}
			return start(c, p.Resource, owner, "deleting resource details"), nil
		}),
		Step: done,
	}
}

// DetailAnswer is a detail as clients see it.
type DetailAnswer struct {
	Key          string   `json:"key" doc:"the detail's key"`
	Value        string   `json:"value" doc:"its value"`
	ResourceType string   `json:"resourcetype" doc:"kind of the resource"`
	ResourceID   cloud.ID `json:"resourceid" doc:"the resource"`
	Account      string   `json:"account,omitempty" doc:"owner of the resource"`
	api.InProject
	DomainID   cloud.ID `json:"domainid,omitempty" doc:"domain of the owner"`
	Domain     string   `json:"domain,omitempty" doc:"name of that domain"`
	DomainPath string   `json:"domainpath,omitempty" doc:"path of that domain"`
}

type listDetailParams struct {
	api.ListParams
	api.OwnedParams
	Type     string   `api:"resourcetype,required" doc:"kind of the resources"`
	Resource cloud.ID `api:"resourceid" doc:"details of this resource only"`
	Key      string   `api:"key" doc:"only details with this key"`
	Value    string   `api:"value" since:"4.4" doc:"only details with this value"`
	Display  *bool    `api:"fordisplay" since:"4.3" doc:"whether those for root admins alone are left out (true), or those for all (false); theirs to say"`
}

// ownerOf is whose the resource of a detail is now.
func ownerOf(c *api.Call, d *cloud.ResourceDetail) api.Owner {
	_, entities, err := find(c.Registry(), d.ResourceType)
	if err != nil {
		return api.Owner{}
	}
	o, _ := seen(c, entities, d.ResourceID)
	return o
}

func listDetails() api.Command {
	return api.Command{
		Name: "listResourceDetails", Doc: "Lists the details of resources.", Since: "4.2", Roles: api.Everyone, Object: "resourcedetail",
		Run: api.List(api.Lister[listDetailParams, cloud.ResourceDetail, DetailAnswer]{
			Rows:  detailRows,
			Owner: func(c *api.Call, d *cloud.ResourceDetail) api.Owner { return ownerOf(c, d) },
			// A resource that nobody owns is in no account's scope; root admins see its details where they name it or list all.
			Visible: func(c *api.Call, d *cloud.ResourceDetail) bool {
				return c.IsRoot() && ownerOf(c, d).Account.IsZero()
			},
			Keyword: func(d *cloud.ResourceDetail) string { return d.Key + "\n" + d.Value },
			Less: func(a, b *cloud.ResourceDetail) int {
				return cmp.Or(slices.Compare(a.ResourceID[:], b.ResourceID[:]), cmp.Compare(a.Key, b.Key))
			},
			View: viewDetail,
		}),
	}
}

func viewDetail(c *api.Call, d *cloud.ResourceDetail) DetailAnswer {
	a := DetailAnswer{Key: d.Key, Value: d.Value, ResourceType: d.ResourceType, ResourceID: d.ResourceID}
	if o := ownerOf(c, d); !o.Account.IsZero() {
		a.Account, a.InProject = api.OwnerNames(c.Read, o.Account)
		in := api.NameDomain(c.Read, o.Domain)
		a.DomainID, a.Domain, a.DomainPath = in.DomainID, in.Domain, in.DomainPath
	}
	return a
}

// detailRows are the kept details of a kind of resources, and those that rows have of their own.
func detailRows(c *api.Call, p *listDetailParams) (iter.Seq[*cloud.ResourceDetail], error) {
	kind, entities, err := find(c.Registry(), p.Type)
	if err != nil {
		return nil, err
	}
	all := tables.ResourceDetails.All(c.Read)
	if !p.Resource.IsZero() {
		if _, ok := seen(c, entities, p.Resource); !ok {
			return nil, api.NoEntity("resourceid", p.Resource)
		}
		if p.AccountName == "" && p.ProjectID == "" && p.DomainID.IsZero() {
			c.Scope = c.AllVisible()
		}
		all = tables.ResourceDetails.By(c.Read, "resource", store.K(p.Resource))
	}
	return api.Filter(joined(all, ownRows(c, kind, p.Resource)), func(d *cloud.ResourceDetail) bool {
		return d.ResourceType == kind && (p.Key == "" || d.Key == p.Key) && (p.Value == "" || d.Value == p.Value) &&
			(!d.Hidden || c.IsRoot()) && (p.Display == nil || !c.IsRoot() || *p.Display == !d.Hidden)
	}), nil
}

func joined[T any](parts ...iter.Seq[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, part := range parts {
			for x := range part {
				if !yield(x) {
					return
				}
			}
		}
	}
}

// ownRows are the details that VMs and zones have of their own, as if they were kept: of one, or of all.
func ownRows(c *api.Call, kind string, one cloud.ID) iter.Seq[*cloud.ResourceDetail] {
	return func(yield func(*cloud.ResourceDetail) bool) {
		ids := func(yield func(cloud.ID) bool) { yield(one) }
		if one.IsZero() {
			ids = owners(c, kind)
		}
		for id := range ids {
			for key, value := range own(c.Read, kind, id) {
				if !yield(&cloud.ResourceDetail{ResourceType: kind, ResourceID: id, Key: key, Value: value}) {
					return
				}
			}
		}
	}
}

// owners are the rows of a kind that have details of their own.
func owners(c *api.Call, kind string) iter.Seq[cloud.ID] {
	return func(yield func(cloud.ID) bool) {
		switch kind {
		case "UserVm":
			for vm := range api.OwnedRows(c, tables.VMs) {
				if !yield(vm.ID) {
					return
				}
			}
		case "Zone":
			for z := range tables.Zones.All(c.Read) {
				if !yield(z.ID) {
					return
				}
			}
		}
	}
}

// OptionsAnswer tells which details mean something.
type OptionsAnswer struct {
	Details any `json:"details" doc:"the details that mean something at such a resource, each with the values it can have; none for any"`
}

// sizeOptions are the details of a VM of a customized offering.
type sizeOptions struct {
	CPUs   []string `json:"cpuNumber"`
	MHz    []string `json:"cpuSpeed"`
	Memory []string `json:"memory"`
}

type optionsParams struct {
	Type     string   `api:"resourcetype,required" doc:"kind of the resource"`
	Resource cloud.ID `api:"resourceid" doc:"the resource"`
}

func detailOptions() api.Command {
	return api.Command{
		Name: "listDetailOptions", Doc: "Tells which details mean something at a kind of resources.", Since: "4.13", Roles: api.Everyone,
		Object: "detailoptions",
		Run: api.Query(func(c *api.Call, p *optionsParams) (OptionsAnswer, error) {
			name, entities, err := find(c.Registry(), p.Type)
			if err != nil {
				return OptionsAnswer{}, err
			}
			if !p.Resource.IsZero() {
				if _, ok := seen(c, entities, p.Resource); !ok {
					return OptionsAnswer{}, api.NoEntity("resourceid", p.Resource)
				}
			}
			if name == "UserVm" {
				return OptionsAnswer{Details: sizeOptions{[]string{}, []string{}, []string{}}}, nil
			}
			return OptionsAnswer{Details: struct{}{}}, nil
		}),
	}
}
