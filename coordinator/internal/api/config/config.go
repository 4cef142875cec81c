// Package config holds the commands of global settings.
package config

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Commands lists the commands over a registry of settings.
func Commands(g *settings.Registry) []api.Command { return []api.Command{list(g), update(g)} }

// View is a setting in an answer.
type View struct {
	Category    string `json:"category" doc:"group of settings it belongs to"`
	Name        string `json:"name" doc:"its name"`
	Value       string `json:"value" doc:"its value"`
	Default     string `json:"defaultvalue" doc:"its value where none is set"`
	Description string `json:"description" doc:"what it is for"`
	DisplayText string `json:"displaytext" doc:"its name for people"`
	Component   string `json:"component" doc:"the part of the cloud that reads it"`
	Type        string `json:"type" doc:"kind of its value"`
	IsDynamic   bool   `json:"isdynamic" doc:"whether a change holds at once"`
	Options     string `json:"options,omitempty" doc:"the values it may have"`
	Scope       string `json:"scope,omitempty" doc:"what it can be set for"`
}

func view(r store.Reader, d *settings.Def) View {
	return View{
		Category: d.Category, Name: d.Name, Value: d.Text(r), Default: d.Default, Description: d.Doc,
		DisplayText: strings.ReplaceAll(d.Name, ".", " "), Component: "coordinator", Type: d.Type.String(), IsDynamic: !d.Restart,
		Options: strings.Join(d.Enum, ","), Scope: "Global",
	}
}

type listParams struct {
	api.ListParams
	Category string `api:"category" doc:"only of this group"`
	Name     string `api:"name" doc:"only the setting of this name"`
}

func list(g *settings.Registry) api.Command {
	return api.Command{
		Name: "listConfigurations", Doc: "Lists the global settings.", Roles: api.AdminOnly, Object: "configuration",
		Run: api.List(api.Lister[listParams, settings.Def, View]{
			Rows: func(_ *api.Call, p *listParams) (iter.Seq[*settings.Def], error) {
				return func(yield func(*settings.Def) bool) {
					for _, d := range g.All() {
						if p.Category != "" && !strings.EqualFold(p.Category, d.Category) || p.Name != "" && p.Name != d.Name {
							continue
						}
						if !yield(d) {
							return
						}
					}
				}, nil
			},
			Keyword: func(d *settings.Def) string { return d.Name + "\n" + d.Doc },
			View:    func(c *api.Call, d *settings.Def) View { return view(c.Read, d) },
		}),
	}
}

type updateParams struct {
	Name  string  `api:"name,required" doc:"the setting's name"`
	Value *string `api:"value" len:"4095" doc:"its new value; the default where absent"`
}

func update(g *settings.Registry) api.Command {
	return api.Command{
		Name: "updateConfiguration", Doc: "Changes a global setting.", Roles: api.AdminOnly, Event: "CONFIGURATION.VALUE.EDIT",
		Entity: "Configuration", Object: "configuration",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (View, error) {
			d, ok := g.Get(p.Name)
			value := ""
			switch {
			case p.Value != nil:
				value = *p.Value
			case ok:
				value = d.Default
			}
			if err := g.Set(tx, p.Name, value); err != nil {
				return View{}, err
			}
			c.Describe(d.ID(), "updating configuration. Name: "+p.Name)
			return view(tx, d), nil
		}),
	}
}
