package api

import (
	"math"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ListParams are the parameters of every list command; embed it.
type ListParams struct {
	Keyword  string `api:"keyword" doc:"only what contains this text"`
	Page     *int   `api:"page" doc:"number of the page, from 1; together with pagesize"`
	PageSize *int   `api:"pagesize" doc:"rows on a page, at most the setting default.page.size; -1 for all"`
}

func (l *ListParams) list() *ListParams { return l }

// OwnedParams are the parameters of lists of what accounts own; embed it beside ListParams.
type OwnedParams struct {
	AccountName string   `api:"account" doc:"only of this account; with domainid"`
	DomainID    cloud.ID `api:"domainid" ref:"domain,use" doc:"only of this domain"`
	ListAll     bool     `api:"listall" doc:"all that the caller may see, not only its own"`
	Recursive   *bool    `api:"isrecursive" doc:"with domainid or listall: also of the domains below"`
	ProjectID   string   `api:"projectid" doc:"only of this project; -1 for all projects" type:"uuid"`
}

// Owned implements Owned.
func (o *OwnedParams) Owned() *OwnedParams { return o }

// Owned is implemented by the parameters of lists that have a scope: by embedding OwnedParams, or by hand where a list
// has only some of them.
type Owned interface{ Owned() *OwnedParams }

// Scope is which owners a list shows.
type Scope struct {
	everything bool
	none       bool
	account    cloud.ID          // exactly this one, or
	domain     cloud.ID          // this domain, or with
	below      map[cloud.ID]bool // ... all of these
}

// Account is the only account of the scope, when there is only one.
func (s Scope) Account() (cloud.ID, bool) { return s.account, !s.account.IsZero() }

// Everything tells whether the scope leaves nothing out.
func (s Scope) Everything() bool { return s.everything }

// Has tells whether a row of this owner is shown.
func (s Scope) Has(o Owner) bool {
	switch {
	case s.everything:
		return true
	case s.none:
		return false
	case !s.account.IsZero():
		return o.Account == s.account
	case s.below != nil:
		return s.below[o.Domain]
	}
	return o.Domain == s.domain
}

// scope follows 4.1: by default the caller's own account; listall widens it to all the caller may see; account and
// domainid narrow it; an id (byID) is looked for in all the caller may see.
func (c *Call) scope(o *OwnedParams, byID bool) (Scope, error) {
	if o.ProjectID != "" {
		// There are no projects, and what belongs to none of them is not asked for, except by admins who list all.
		if o.ProjectID != "-1" {
			return Scope{}, noEntity("projectid", o.ProjectID)
		}
		if !o.ListAll {
			return Scope{none: true}, nil
		}
	}
	recursive := o.Recursive != nil && *o.Recursive
	switch {
	case o.AccountName != "":
		a, err := c.OwnerFor(o.AccountName, o.DomainID, cloud.ID{})
		if err != nil {
			return Scope{}, err
		}
		return Scope{account: a.ID}, nil
	case !o.DomainID.IsZero():
		if !c.InDomain(o.DomainID) && !c.IsRoot() {
			return Scope{}, noEntity("domainid", o.DomainID.String())
		}
		if !c.IsAdmin() {
			return Scope{account: c.Account.ID}, nil
		}
		if recursive {
			return c.subtree(o.DomainID), nil
		}
		return Scope{domain: o.DomainID}, nil
	case o.ListAll || byID:
		switch {
		case !c.IsAdmin():
			return Scope{account: c.Account.ID}, nil
		case c.IsRoot() && (o.Recursive == nil || recursive):
			return Scope{everything: true}, nil
		case o.Recursive != nil && !recursive && !byID:
			return Scope{domain: c.Domain.ID}, nil
		}
		return c.subtree(c.Domain.ID), nil
	}
	return Scope{account: c.Account.ID}, nil
}

// AllVisible is the scope of all that the caller may see, for lists that look something up by its name.
func (c *Call) AllVisible() Scope {
	switch {
	case c.IsRoot():
		return Scope{everything: true}
	case c.IsAdmin():
		return c.subtree(c.Domain.ID)
	}
	return Scope{account: c.Account.ID}
}

// subtree is a domain and all below it.
func (c *Call) subtree(top cloud.ID) Scope {
	below := map[cloud.ID]bool{top: true}
	for queue := []cloud.ID{top}; len(queue) > 0; {
		next := queue[0]
		queue = queue[1:]
		for id := range tables.Domains.IDs(c.Read, "parent", store.K(next)) {
			if !below[id] {
				below[id] = true
				queue = append(queue, id)
			}
		}
	}
	return Scope{domain: top, below: below}
}

// listing is what a list handler gives the encoder: Rows is a []R.
type listing[R any] struct {
	count int
	rows  []R
}

func (l *listing[R]) list() (count int, rows any) { return l.count, &l.rows }

type anyListing interface{ list() (count int, rows any) }

// pageRange is which rows of a result a page holds.
func (l *ListParams) pageRange(c *Call) (from, to int, err error) {
	max := int(c.Settings.Int(DefaultPageSize.Name))
	switch {
	case l.PageSize != nil && *l.PageSize == -1:
		if l.Page != nil {
			return 0, 0, cloud.Errorf(cloud.Invalid, `"page" parameter cannot be used with an unlimited "pagesize"`)
		}
		return 0, math.MaxInt, nil
	case l.Page == nil && l.PageSize == nil:
		return 0, max, nil
	case l.Page == nil:
		return 0, 0, cloud.Errorf(cloud.Invalid, `"page" parameter is required when "pagesize" is specified`)
	case l.PageSize == nil:
		return 0, 0, cloud.Errorf(cloud.Invalid, `"pagesize" parameter is required when "page" is specified`)
	}
	page, size := *l.Page, *l.PageSize
	switch {
	case size > max:
		return 0, 0, cloud.Errorf(cloud.Invalid, "Page size can not exceed max allowed page size value: %d", max)
	case size < 1:
		return 0, 0, cloud.Errorf(cloud.Invalid, `"pagesize" must be at least 1, or -1 for all`)
	case page < 1:
		return 0, 0, cloud.Errorf(cloud.Invalid, `"page" must be at least 1`)
	case page > 1<<31/size:
		return 1 << 31, 1 << 31, nil // past any end
	}
	return (page - 1) * size, page * size, nil
}

// page runs the list.
func (l Lister[P, Row, R]) page(c *Call, p *P) (any, error) {
	lp := listParamsOf(p)
	from, to, err := lp.pageRange(c)
	if err != nil {
		return nil, err
	}
	if l.Unpaged {
		from, to = 0, math.MaxInt
	}
	if o, ok := any(p).(Owned); ok {
		if c.Scope, err = c.scope(o.Owned(), hasID(p)); err != nil {
			return nil, err
		}
	}
	rows, err := l.Rows(c, p)
	if err != nil || rows == nil {
		return &listing[R]{}, err
	}
	keyword := strings.ToLower(lp.Keyword)
	out := &listing[R]{}
	var sorted []*Row
	for row := range rows {
		if !l.shows(c, row) || keyword != "" && l.Keyword != nil && !strings.Contains(strings.ToLower(l.Keyword(row)), keyword) {
			continue
		}
		if l.Less != nil {
			sorted = append(sorted, row)
		} else if out.count >= from && out.count < to {
			out.rows = append(out.rows, l.view(c, p, row))
		}
		out.count++
	}
	if l.Less != nil {
		slices.SortStableFunc(sorted, l.Less)
		for _, row := range sorted[min(from, len(sorted)):min(to, len(sorted))] {
			out.rows = append(out.rows, l.view(c, p, row))
		}
	}
	return out, nil
}

func (l Lister[P, Row, R]) view(c *Call, p *P, row *Row) R {
	if l.ViewFor != nil {
		return l.ViewFor(c, p, row)
	}
	return l.View(c, row)
}

func (l Lister[P, Row, R]) shows(c *Call, row *Row) bool {
	if l.Owner != nil && c.Scope.Has(l.Owner(c, row)) {
		return true
	}
	if l.Visible != nil {
		return l.Visible(c, row)
	}
	return l.Owner == nil
}

func listParamsOf(p any) *ListParams {
	if lp, ok := p.(interface{ list() *ListParams }); ok {
		return lp.list()
	}
	return &ListParams{}
}
