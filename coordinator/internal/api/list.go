package api

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
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

// listing is what a list handler gives the encoder: the rows, or their JSON.
type listing[R any] struct {
	count int
	rows  []R
	kept  *keptPage // nil where rows has them
}

func (l *listing[R]) list() (count int, rows any, kept *keptPage) {
	return l.count, &l.rows, l.kept
}

type anyListing interface {
	list() (count int, rows any, kept *keptPage)
}

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
	if out, ok := l.ranked(c, p, lp, from, to); ok {
		return out, nil
	}
	rows, err := l.Rows(c, p)
	if err != nil || rows == nil {
		return &listing[R]{}, err
	}
	keyword := strings.ToLower(lp.Keyword)
	var tags map[string]string
	if t, ok := any(p).(tagged); ok {
		tags = t.tags()
	}
	out := &listing[R]{}
	var page []*Row // with Less all rows, until they are sorted
	for row := range rows {
		if !l.shows(c, row) || keyword != "" && l.Keyword != nil && !strings.Contains(strings.ToLower(l.Keyword(row)), keyword) {
			continue
		}
		if len(tags) > 0 && !c.taggedWith(l.ID(row), tags) {
			continue
		}
		if l.Less != nil || out.count >= from && out.count < to {
			page = append(page, row)
		}
		out.count++
	}
	if l.Less != nil {
		slices.SortStableFunc(page, l.order(c))
		page = page[min(from, len(page)):min(to, len(page))]
	}
	l.fill(c, p, out, len(page), func(i int) cloud.ID { return l.ID(page[i]) }, func(i int) (*Row, bool) { return page[i], true })
	return out, nil
}

// order is Less, behind the sort keys.
func (l Lister[P, Row, R]) order(c *Call) func(a, b *Row) int {
	if l.SortKey == nil {
		return l.Less
	}
	ascending := sortAscending.Bool(c.Read)
	return func(a, b *Row) int {
		first, second := l.SortKey(a), l.SortKey(b)
		if !ascending {
			first, second = second, first
		}
		return cmp.Or(cmp.Compare(first, second), l.Less(a, b))
	}
}

// ranked makes a page of rows that can be skipped.
func (l Lister[P, Row, R]) ranked(c *Call, p *P, lp *ListParams, from, to int) (any, bool) {
	if t, ok := any(p).(tagged); l.Ranked == nil || lp.Keyword != "" || ok && len(t.tags()) > 0 {
		return nil, false
	}
	rows, ok := l.Ranked(c, p)
	if !ok {
		return nil, false
	}
	out := &listing[R]{count: rows.Count}
	if from >= rows.Count {
		return out, true
	}
	ids := rows.Page(from, min(to, rows.Count))
	l.fill(c, p, out, len(ids), func(i int) cloud.ID { return ids[i] }, func(i int) (*Row, bool) { return rows.Get(ids[i]) })
	return out, true
}

// fill shows the n rows of a page.
func (l Lister[P, Row, R]) fill(c *Call, p *P, out *listing[R], n int, id func(int) cloud.ID, row func(int) (*Row, bool)) {
	if l.fillKept(c, p, out, n, id) {
		return
	}
	out.rows = make([]R, 0, n)
	for i := range n {
		if r, ok := row(i); ok {
			out.rows = append(out.rows, l.view(c, p, r))
		}
	}
}

func (l Lister[P, Row, R]) view(c *Call, p *P, row *Row) (answer R) {
	if l.ViewFor != nil {
		answer = l.ViewFor(c, p, row)
	} else {
		answer = l.View(c, row)
	}
	c.remark(l.remarks, unsafe.Pointer(&answer))
	return answer
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
