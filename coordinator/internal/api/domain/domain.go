// Package domain holds the commands of domains.
package domain

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/limit"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Entities lists the entity of domains. A user may name its own domain, an admin those below it, too.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "domain",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			return api.Owner{Domain: id}, tables.Domains.Has(r, id)
		},
		Usable: func(c *api.Call, id cloud.ID) bool { return id == c.Domain.ID },
	}}
}

// Commands lists the commands.
func Commands() []api.Command { return []api.Command{list(), create()} }

// View is a domain in an answer.
type View struct {
	ID            cloud.ID `json:"id" doc:"the domain"`
	Name          string   `json:"name" doc:"its name"`
	Level         int      `json:"level" doc:"how far it is from ROOT"`
	ParentID      cloud.ID `json:"parentdomainid,omitempty" doc:"the domain above it"`
	ParentName    string   `json:"parentdomainname,omitempty" doc:"name of the domain above it"`
	HasChild      bool     `json:"haschild" doc:"whether domains are below it"`
	NetworkDomain string   `json:"networkdomain,omitempty" doc:"DNS domain of its guest networks"`
	Path          string   `json:"path" doc:"the names from ROOT down to it"`
	State         string   `json:"state" doc:"Active or Inactive"`
	Created       api.Time `json:"created,omitempty" doc:"when it was made"`
	limit.Totals
}

// NewView shows a domain.
func NewView(r store.Reader, d *cloud.Domain) View {
	v := View{
		ID: d.ID, Name: d.Name, Level: int(d.Level), ParentID: d.ParentID, NetworkDomain: d.Network, Path: d.Path,
		State: "Active", Created: api.Time(d.Created), HasChild: tables.Domains.Count(r, "parent", store.K(d.ID)) > 0,
		Totals: limit.OfDomain(r, d),
	}
	if d.State != cloud.Enabled {
		v.State = "Inactive"
	}
	if p, ok := tables.Domains.Get(r, d.ParentID); ok {
		v.ParentName = p.Name
	}
	return v
}

type listParams struct {
	api.ListParams
	ID      cloud.ID `api:"id" ref:"domain,use" doc:"only this domain"`
	Name    string   `api:"name" doc:"only domains of this name"`
	Level   *int     `api:"level" doc:"only domains this far from ROOT"`
	ListAll bool     `api:"listall" doc:"all domains the caller may see; it makes no difference"`
}

func list() api.Command {
	return api.Command{
		Name: "listDomains", Doc: "Lists the caller's domain and the domains below it.", Roles: api.Everyone, Object: "domain",
		Run: api.List(api.Lister[listParams, cloud.Domain, View]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Domain], error) {
				return func(yield func(*cloud.Domain) bool) {
					for d := range tables.Domains.By(c.Read, "path", nil) {
						if !p.ID.IsZero() && d.ID != p.ID || p.Name != "" && !strings.EqualFold(d.Name, p.Name) || p.Level != nil && int(d.Level) != *p.Level {
							continue
						}
						if !yield(d) {
							return
						}
					}
				}, nil
			},
			Visible: func(c *api.Call, d *cloud.Domain) bool {
				return d.ID == c.Domain.ID || c.IsAdmin() && c.InDomain(d.ID)
			},
			Keyword: func(d *cloud.Domain) string { return d.Name },
			View:    func(c *api.Call, d *cloud.Domain) View { return NewView(c.Read, d) },
		}),
	}
}

type createParams struct {
	Name          string   `api:"name,required" doc:"name of the new domain"`
	ParentID      cloud.ID `api:"parentdomainid" ref:"domain" doc:"the domain above it; ROOT where absent"`
	NetworkDomain string   `api:"networkdomain" doc:"DNS domain of its guest networks"`
}

func create() api.Command {
	return api.Command{
		Name: "createDomain", Doc: "Makes a domain.", Roles: api.AdminOnly, Event: "DOMAIN.CREATE", Entity: "Domain", Object: "domain",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (View, error) {
			if p.ParentID.IsZero() {
				p.ParentID = identity.Root(tx).ID
			}
			d, err := identity.CreateDomain(tx, p.ParentID, p.Name, p.NetworkDomain)
			if err != nil {
				return View{}, err
			}
			c.Describe(d.ID, "creating Domain. Domain Name: "+d.Name)
			return NewView(tx, d), nil
		}),
	}
}
