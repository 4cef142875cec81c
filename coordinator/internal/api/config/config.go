// Package config holds the commands of settings.
package config

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Commands lists the commands over a registry of settings.
func Commands(g *settings.Registry) []api.Command {
	return []api.Command{list(g), update(g), reset(g), groups(g)}
}

// View is a setting in an answer.
type View struct {
	Category    string `json:"category" doc:"group of settings it belongs to"`
	Name        string `json:"name" doc:"its name"`
	Value       string `json:"value" doc:"its value; never that of a secret"`
	Default     string `json:"defaultvalue" doc:"its value where none is set"`
	Description string `json:"description" doc:"what it is for"`
	DisplayText string `json:"displaytext" doc:"its name for people"`
	Component   string `json:"component" doc:"the part of the cloud that reads it"`
	Type        string `json:"type" doc:"kind of its value"`
	IsDynamic   bool   `json:"isdynamic" doc:"whether a change holds at once"`
	Options     string `json:"options,omitempty" doc:"the values it may have"`
	Scope       string `json:"scope,omitempty" doc:"what it can be set for"`
	Group       string `json:"group" doc:"group of settings it belongs to"`
}

// hidden stands for a secret that is set.
const hidden = "********"

func view(r store.Reader, d *settings.Def, scope cloud.ID) View {
	v := View{
		Category: d.Category, Name: d.Name, Value: d.Text(r, scope), Default: d.Default, Description: d.Doc,
		DisplayText: strings.ReplaceAll(d.Name, ".", " "), Component: "coordinator", Type: d.Type.String(), IsDynamic: !d.Restart,
		Options: strings.Join(d.Enum, ","), Scope: d.Scopes.String(), Group: d.Category,
	}
	if _, set := d.Sealed(r); d.Secret && set {
		v.Value = hidden
	}
	return v
}

// ScopeParams say what a value is for; at most one of them. Embed it.
type ScopeParams struct {
	ZoneID    cloud.ID `api:"zoneid" ref:"zone" since:"4.2" doc:"the value for this zone"`
	ClusterID cloud.ID `api:"clusterid" ref:"cluster" since:"4.2" doc:"the value for this cluster"`
	StorageID cloud.ID `api:"storageid" ref:"storagepool" since:"4.2" doc:"the value for this storage pool"`
	AccountID cloud.ID `api:"accountid" ref:"account" since:"4.2" doc:"the value for this account"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" since:"4.4" doc:"the value for this domain"`
}

// scope is the row that the parameters name, and its kind; zero is everything.
func (p *ScopeParams) scope() (id cloud.ID, kind settings.Scope, err error) {
	for _, x := range []struct {
		id   cloud.ID
		kind settings.Scope
	}{
		{p.ZoneID, settings.Zone},
		{p.ClusterID, settings.Cluster},
		{p.StorageID, settings.Pool},
		{p.AccountID, settings.Account},
		{p.DomainID, settings.Domain},
	} {
		if x.id.IsZero() {
			continue
		}
		if kind != 0 {
			return id, kind, cloud.Errorf(cloud.Invalid, "cannot handle multiple IDs, provide only one ID corresponding to the scope")
		}
		id, kind = x.id, x.kind
	}
	return id, kind, nil
}

// find gives a setting that can be set for the kind of row.
func find(g *settings.Registry, name string, kind settings.Scope) (*settings.Def, error) {
	d, ok := g.Get(name)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Config parameter with name %s doesn't exist", name)
	}
	if d.Scopes&kind != kind {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid scope for the parameter %s: it can be set for %s", name, d.Scopes)
	}
	return d, nil
}

type listParams struct {
	api.ListParams
	ScopeParams
	Category string `api:"category" doc:"only of this group"`
	Group    string `api:"group" since:"4.18" doc:"only of this group"`
	Name     string `api:"name" doc:"only the setting of this name"`
}

func list(g *settings.Registry) api.Command {
	return api.Command{
		Name: "listConfigurations", Doc: "Lists settings, with a scope those that can be set for it.", Roles: api.AdminOnly, Object: "configuration",
		Run: api.List(api.Lister[listParams, settings.Def, View]{
			Rows: func(_ *api.Call, p *listParams) (iter.Seq[*settings.Def], error) {
				_, kind, err := p.scope()
				if err != nil {
					return nil, err
				}
				return func(yield func(*settings.Def) bool) {
					for _, d := range g.All() {
						if p.Category != "" && !strings.EqualFold(p.Category, d.Category) || p.Name != "" && p.Name != d.Name ||
							p.Group != "" && !strings.EqualFold(p.Group, d.Category) || d.Scopes&kind != kind {
							continue
						}
						if !yield(d) {
							return
						}
					}
				}, nil
			},
			Keyword: func(d *settings.Def) string { return d.Name + "\n" + d.Doc },
			ViewFor: func(c *api.Call, p *listParams, d *settings.Def) View {
				id, _, _ := p.scope() // checked in Rows
				return view(c.Read, d, id)
			},
		}),
	}
}

type updateParams struct {
	ScopeParams
	Name  string  `api:"name,required" doc:"the setting's name"`
	Value *string `api:"value" len:"4095" doc:"its new value; the default where absent"`
}

func update(g *settings.Registry) api.Command {
	return api.Command{
		Name: "updateConfiguration", Doc: "Changes a setting, at once.", Roles: api.AdminOnly, Event: "CONFIGURATION.VALUE.EDIT",
		Entity: "Configuration", Object: "configuration",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (View, error) {
			return change(c, tx, g, &p.ScopeParams, p.Name, p.Value)
		}),
	}
}

// change stores a value, or without one removes what is stored.
func change(c *api.Call, tx *store.Tx, g *settings.Registry, s *ScopeParams, name string, value *string) (View, error) {
	id, kind, err := s.scope()
	if err != nil {
		return View{}, err
	}
	d, err := find(g, name, kind)
	if err != nil {
		return View{}, err
	}
	if value == nil {
		err = g.Reset(tx, id, name)
	} else {
		err = g.SetFor(tx, id, name, *value, c.Seal.Seal)
	}
	if err != nil {
		return View{}, err
	}
	c.Describe(d.ID(), "updating configuration. Name: "+name)
	return view(tx, d, id), nil
}

type resetParams struct {
	ScopeParams
	Name string `api:"name,required" doc:"the setting's name"`
}

func reset(g *settings.Registry) api.Command {
	return api.Command{
		Name: "resetConfiguration", Doc: "Takes a setting's value back: what holds then is the next wider one, at last the default.", Since: "4.16",
		Roles: api.AdminOnly, Event: "CONFIGURATION.VALUE.EDIT", Entity: "Configuration", Object: "configuration",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *resetParams) (View, error) {
			return change(c, tx, g, &p.ScopeParams, p.Name, nil)
		}),
	}
}

// Group is a group of settings.
type Group struct {
	Name        string     `json:"name" doc:"its name"`
	Description string     `json:"description" doc:"what is in it"`
	Precedence  int        `json:"precedence" doc:"its place among the groups"`
	Subgroup    []Subgroup `json:"subgroup" doc:"its parts; always one"`
}

// Subgroup is a part of a group.
type Subgroup struct {
	Name       string `json:"name" doc:"its name"`
	Precedence int    `json:"precedence" doc:"its place in the group"`
}

type groupParams struct {
	api.ListParams
	Group string `api:"group" doc:"this group only"`
}

func groups(g *settings.Registry) api.Command {
	var all []*Group
	for _, d := range g.All() {
		if !slices.ContainsFunc(all, func(x *Group) bool { return x.Name == d.Category }) {
			all = append(all, &Group{Name: d.Category, Description: "Settings: " + d.Category, Subgroup: []Subgroup{{"Others", 1}}})
		}
	}
	slices.SortFunc(all, func(a, b *Group) int { return cmp.Compare(a.Name, b.Name) })
	for i, x := range all {
		x.Precedence = i + 1
	}
	return api.Command{
		Name: "listConfigurationGroups", Doc: "Lists the groups that settings belong to.", Since: "4.18", Roles: api.AdminOnly,
		Object: "configurationgroup",
		Run: api.List(api.Lister[groupParams, Group, Group]{
			Rows: func(_ *api.Call, p *groupParams) (iter.Seq[*Group], error) {
				return func(yield func(*Group) bool) {
					for _, x := range all {
						if (p.Group == "" || strings.EqualFold(p.Group, x.Name)) && !yield(x) {
							return
						}
					}
				}, nil
			},
			Keyword: func(x *Group) string { return x.Name },
			View:    func(_ *api.Call, x *Group) Group { return *x },
		}),
	}
}
