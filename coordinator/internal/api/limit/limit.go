// Package limit holds the commands of resource limits, and the totals that accounts and domains show.
package limit

import (
	"iter"
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands.
func Commands() []api.Command { return []api.Command{list(), update(), recount()} }

// Whose names the owner of a limit or count: an account, a project, or a domain as a whole.
type Whose struct {
	Account    string   `json:"account,omitempty" doc:"the account it holds for"`
	ProjectID  cloud.ID `json:"projectid,omitempty" doc:"the project it holds for"`
	Project    string   `json:"project,omitempty" doc:"name of that project"`
	DomainID   cloud.ID `json:"domainid,omitempty" doc:"the account's domain, or the domain it holds for"`
	Domain     string   `json:"domain,omitempty" doc:"name of that domain"`
	DomainPath string   `json:"domainpath,omitempty" doc:"path of that domain"`
	Type       string   `json:"resourcetype" doc:"number of the kind of resource"`
	TypeName   string   `json:"resourcetypename" doc:"name of the kind of resource"`
}

// View is a limit in an answer.
type View struct {
	Whose
	Max int64 `json:"max" doc:"the limit; -1 is none"`
}

// CountView is a count in an answer.
type CountView struct {
	Whose
	Count int64 `json:"resourcecount" doc:"how much of the resource there is"`
}

// row is one kind of resource of an account, or of a domain where account is nil.
type row struct {
	account *cloud.Account
	domain  *cloud.Domain
	kind    identity.ResourceKind
}

func (w *row) whose(r store.Reader) Whose {
	v := Whose{
		Type: strconv.Itoa(int(w.kind.Type)), TypeName: w.kind.Name, DomainID: w.domain.ID, Domain: w.domain.Name, DomainPath: w.domain.Path,
	}
	if w.account == nil {
		return v
	}
	if p, ok := tables.Projects.First(r, "account", store.K(w.account.ID)); ok {
		v.ProjectID, v.Project = p.ID, p.Name
		return v
	}
	v.Account = w.account.Name
	return v
}

func (w *row) limit(r store.Reader) View {
	v := View{Whose: w.whose(r)}
	if w.account == nil {
		v.Max = identity.DomainLimit(r, w.domain.ID, w.kind.Type)
	} else {
		v.Max = identity.Limit(r, w.account, w.kind.Type)
	}
	return v
}

type params struct {
	api.ListParams
	api.OwnedParams
	ID   *int64 `api:"id" doc:"only of this kind of resource, by its number"`
	Type *int   `api:"resourcetype" min:"0" max:"11" doc:"only of this kind of resource, by its number"`
	Name string `api:"resourcetypename" since:"4.19" doc:"only of this kind of resource, by its name"`
}

func list() api.Command {
	return api.Command{
		Name: "listResourceLimits", Doc: "Lists what an account, or a domain as a whole, may have.", Roles: api.Everyone,
		Object: "resourcelimit",
		Run: api.List(api.Lister[params, row, View]{
			Rows:    rows,
			View:    func(c *api.Call, w *row) View { return w.limit(c.Read) },
			Keyword: func(w *row) string { return w.kind.Name },
		}),
	}
}

// rows follows 4.1: with domainid alone the domain's own limits, else those of one account.
func rows(c *api.Call, p *params) (iter.Seq[*row], error) {
	account, domain := c.Account, c.Domain
	if !p.DomainID.IsZero() && p.AccountName == "" {
		account = nil
		domain, _ = tables.Domains.Get(c.Read, p.DomainID)
		if !c.IsAdmin() {
			account, domain = c.Account, c.Domain
		}
	} else if id, ok := c.Scope.Account(); ok {
		account, _ = tables.Accounts.Get(c.Read, id)
		domain, _ = tables.Domains.Get(c.Read, account.DomainID)
	}
	return func(yield func(*row) bool) {
		for _, k := range identity.Kinds {
			if p.Type != nil && *p.Type != int(k.Type) || p.Name != "" && p.Name != k.Name || p.ID != nil && *p.ID != int64(k.Type) {
				continue
			}
			if !yield(&row{account, domain, k}) {
				return
			}
		}
	}, nil
}

type updateParams struct {
	Type      int      `api:"resourcetype,required" min:"0" max:"11" doc:"kind of resource, by its number: 0 user_vm, 1 public_ip, 2 volume, 3 snapshot, 4 template, 5 project, 6 network, 7 vpc, 8 cpu, 9 memory (MiB), 10 primary_storage (GiB), 11 secondary_storage (GiB)"`
	Account   string   `api:"account" doc:"account it holds for; with domainid"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account; without account the domain as a whole"`
	ProjectID cloud.ID `api:"projectid" doc:"project it holds for"`
	Max       *int64   `api:"max" doc:"the limit; -1, which stands for an absent one, is none"`
}

func update() api.Command {
	return api.Command{
		Name: "updateResourceLimit", Doc: "Limits what an account, a project, or a domain as a whole may have.", Roles: api.Admins,
		Event: "RESOURCE.LIMIT.UPDATE", Entity: "ResourceLimit", Object: "resourcelimit",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (View, error) {
			most := int64(identity.Unlimited)
			if p.Max != nil {
				most = *p.Max
			}
			if most < identity.Unlimited {
				return View{}, cloud.Errorf(cloud.Invalid, "Please specify either '-1' for an infinite limit, or a limit that is at least '0'.")
			}
			w := &row{kind: identity.Kinds[p.Type]}
			if p.Account == "" && p.ProjectID.IsZero() {
				return w.limitDomain(c, tx, p, most)
			}
			a, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
			if err != nil {
				return View{}, err
			}
			switch {
			case a.ID == c.Account.ID && !c.IsRoot():
				return View{}, cloud.Errorf(cloud.Denied, "Unable to update resource limit for his own account %s, permission denied", a.ID)
			case a.System:
				return View{}, cloud.Errorf(cloud.Invalid, "Can't update system account")
			case a.Type == cloud.RootAdminAccount && most != identity.Unlimited:
				return View{}, cloud.Errorf(cloud.Invalid, "Only %d limit is supported for Root Admin accounts", identity.Unlimited)
			}
			w.account = a
			w.domain, _ = tables.Domains.Get(tx, a.DomainID)
			c.Describe(a.ID, "limit of "+w.kind.Name+" of account "+a.Name)
			if err := identity.SetLimit(tx, a.ID, cloud.ID{}, w.kind.Type, most); err != nil {
				return View{}, err
			}
			return w.limit(tx), nil
		}),
	}
}

// limitDomain sets a domain's limit: never above that of the domain above it, and not by an admin of the domain itself.
func (w *row) limitDomain(c *api.Call, tx *store.Tx, p *updateParams, most int64) (View, error) {
	var ok bool
	if w.domain, ok = tables.Domains.Get(tx, p.DomainID); !ok {
		return View{}, cloud.Errorf(cloud.Invalid, "AccountId or domainId have to be specified in order to update resource limit")
	}
	d, t := w.domain, w.kind.Type
	switch {
	case d.ParentID.IsZero():
		return View{}, cloud.Errorf(cloud.Denied, "Cannot update resource limit for ROOT domain %s, permission denied", d.ID)
	case d.ID == c.Domain.ID && !c.IsRoot():
		return View{}, cloud.Errorf(cloud.Denied, "Unable to update resource limit for domain %s, permission denied", d.ID)
	}
	if above := identity.DomainLimit(tx, d.ParentID, t); above != identity.Unlimited && most > above {
		up, _ := tables.Domains.Get(tx, d.ParentID)
		return View{}, cloud.Errorf(cloud.Invalid, "Domain %s(id: %s) has maximum allowed resource limit %d for %s, please specify a value less than or equal to %d",
			up.Name, up.ID, above, w.kind.Name, above)
	}
	c.Describe(d.ID, "limit of "+w.kind.Name+" of domain "+d.Name)
	if err := identity.SetLimit(tx, cloud.ID{}, d.ID, t, most); err != nil {
		return View{}, err
	}
	return w.limit(tx), nil
}

type recountParams struct {
	DomainID  cloud.ID `api:"domainid,required" ref:"domain" doc:"domain to count in, with all below it; or the account's"`
	Account   string   `api:"account" doc:"count what this account of the domain has"`
	ProjectID cloud.ID `api:"projectid" doc:"count what this project has"`
	Type      *int     `api:"resourcetype" min:"0" max:"11" doc:"only this kind of resource, by its number"`
}

func recount() api.Command {
	return api.Command{
		Name: "updateResourceCount", Doc: "Counts anew what an account, a project, or a domain with all below it has.", Roles: api.Admins,
		Event: "RESOURCE.COUNT.UPDATE", Entity: "ResourceCount", Object: "resourcecount",
		Run: api.ChangeList(func(c *api.Call, tx *store.Tx, p *recountParams) ([]CountView, error) {
			var kinds []cloud.ResourceType
			for _, k := range identity.Kinds {
				if p.Type == nil || *p.Type == int(k.Type) {
					kinds = append(kinds, k.Type)
				}
			}
			w := &row{}
			var n identity.Tally
			var err error
			if p.Account == "" && p.ProjectID.IsZero() {
				w.domain, _ = tables.Domains.Get(tx, p.DomainID)
				c.Describe(w.domain.ID, "counting resources of domain "+w.domain.Name)
				n, err = identity.RecountDomain(tx, w.domain, kinds)
			} else {
				if w.account, err = c.OwnerFor(p.Account, p.DomainID, p.ProjectID); err != nil {
					return nil, err
				}
				w.domain, _ = tables.Domains.Get(tx, w.account.DomainID)
				c.Describe(w.account.ID, "counting resources of account "+w.account.Name)
				n, err = identity.Recount(tx, w.account, kinds)
			}
			if err != nil {
				return nil, err
			}
			out := make([]CountView, 0, len(kinds))
			for _, t := range kinds {
				w.kind = identity.Kinds[t]
				out = append(out, CountView{Whose: w.whose(tx), Count: n[t]})
			}
			return out, nil
		}),
	}
}
