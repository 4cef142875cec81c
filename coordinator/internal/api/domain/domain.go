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

// Deps is what the commands need.
type Deps struct {
	// Owned are the kinds of things that accounts own, and OfDomains those of domains, in the order in which they go.
	Owned, OfDomains []identity.Owned
}

// Commands lists the commands.
func Commands(d Deps) []api.Command {
	return []api.Command{list(), children(), create(), update(), d.remove()}
}

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
	api.Remarked `of:"domain"`
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

type childrenParams struct {
	api.ListParams
	ID        cloud.ID `api:"id" ref:"domain,use" doc:"the domain; the caller's where absent"`
	Name      string   `api:"name" doc:"only domains of this name"`
	Recursive bool     `api:"isrecursive" doc:"all domains below it, not only those right below"`
	ListAll   bool     `api:"listall" doc:"the same, where id is absent"`
}

func children() api.Command {
	return api.Command{
		Name: "listDomainChildren", Doc: "Lists the domains below a domain.", Roles: api.Admins, Object: "domain",
		Run: api.List(api.Lister[childrenParams, cloud.Domain, View]{
			Rows: func(c *api.Call, p *childrenParams) (iter.Seq[*cloud.Domain], error) {
				top := c.Domain
				if !p.ID.IsZero() {
					top, _ = tables.Domains.Get(c.Read, p.ID)
				}
				all := identity.Subtree(c.Read, top)[1:]
				return func(yield func(*cloud.Domain) bool) {
					for _, d := range all {
						below := p.Recursive || p.ListAll && p.ID.IsZero() || d.ParentID == top.ID
						if below && (p.Name == "" || strings.EqualFold(p.Name, d.Name)) && !yield(d) {
							return
						}
					}
				}, nil
			},
			Visible: func(c *api.Call, d *cloud.Domain) bool { return c.InDomain(d.ID) },
			Keyword: func(d *cloud.Domain) string { return d.Name },
			View:    func(c *api.Call, d *cloud.Domain) View { return NewView(c.Read, d) },
		}),
	}
}
