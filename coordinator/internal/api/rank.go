package api

import (
	"reflect"
	"slices"
	"sort"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Ranked are rows that can be counted and skipped without looking at them.
type Ranked[Row any] struct {
	Count int
	// Page gives the IDs of the rows from one place to before another, neither above Count.
	Page func(from, to int) []cloud.ID
	Get  func(id cloud.ID) (*Row, bool)
}

// Order says which indexes have the rows of a list in the order of the list.
type Order[Row any] struct {
	Table *store.Table[Row]
	// All is the index that has the rows of everybody below AllKey; "": the rows by their IDs.
	All    string
	AllKey store.Key
	// Own is the index that has the rows of one account below the account and OwnKey. What follows that in its entries is
	// what follows AllKey in those of All; or where ByID says so, All has nothing but the ID there.
	Own    string
	OwnKey store.Key
	ByID   bool
	// Descending: the last entry comes first.
	Descending bool
	// Hidden gives rows that are in the indexes and not shown, which are few, as they stand below AllKey in All or, for
	// one account, below it and OwnKey in Own.
	Hidden func(r store.Reader, account cloud.ID) []store.Entry
}

// Rank ranks the rows of a call's scope: all of them, all that are not of projects, or those of one account. false: the
// scope is another.
func (o Order[Row]) Rank(c *Call) (Ranked[Row], bool) {
	account, one := c.Scope.Account()
	s := section[Row]{t: o.Table, r: c.Read, index: o.All, key: o.AllKey, descending: o.Descending}
	switch {
	case one:
		s.index, s.key = o.Own, store.K(account, o.OwnKey)
	case !c.Scope.everything || len(c.Scope.also) > 0:
		return Ranked[Row]{}, false
	case c.Scope.without != nil:
		for p := range tables.Projects.All(c.Read) {
			for e := range o.Table.Entries(c.Read, o.Own, store.K(p.AccountID, o.OwnKey)) {
				if o.ByID {
					e = e[len(e)-len(cloud.ID{}):]
				}
				s.out = append(s.out, e)
			}
		}
	}
	if o.Hidden != nil {
		s.out = append(s.out, o.Hidden(c.Read, account)...)
	}
	slices.Sort(s.out)
	s.out = slices.Compact(s.out)
	return Ranked[Row]{
		Count: s.count(), Page: s.page,
		Get: func(id cloud.ID) (*Row, bool) { return o.Table.Get(c.Read, id) },
	}, true
}

// section is the entries of an index below a key, but for some.
type section[Row any] struct {
	t          *store.Table[Row]
	r          store.Reader
	index      string
	key        store.Key
	descending bool
	out        []store.Entry // what follows key in the entries that are left out, in order
}

func (s *section[Row]) count() int {
	if s.index == "" {
		return s.t.Len(s.r) - len(s.out)
	}
	return s.t.Count(s.r, s.index, s.key) - len(s.out)
}

// place is how many entries of the section, those that are left out included, are before the i-th of those.
func (s *section[Row]) place(i int) int {
	if s.index == "" {
		return s.t.Rank(s.r, store.IDOf(s.out[i]))
	}
	return s.t.RankEntry(s.r, s.index, s.key, s.out[i])
}

func (s *section[Row]) page(from, to int) []cloud.ID {
	if s.descending {
		n := s.count()
		from, to = n-to, n-from
	}
	// Before out[i] stand place(i)-i entries that are not left out: the page begins before the first with more than from.
	i := sort.Search(len(s.out), func(i int) bool { return s.place(i)-i > from })
	all := s.t.SkipAllIDs(s.r, from+i)
	if s.index != "" {
		all = s.t.SkipIDs(s.r, s.index, s.key, from+i)
	}
	at, next := from+i, -1
	if i < len(s.out) {
		next = s.place(i)
	}
	ids := make([]cloud.ID, 0, to-from)
	for id := range all {
		if len(ids) == to-from {
			break
		}
		if at == next {
			if i++; i < len(s.out) {
				next = s.place(i)
			}
		} else {
			ids = append(ids, id)
		}
		at++
	}
	if s.descending {
		slices.Reverse(ids)
	}
	return ids
}

// Unfiltered tells whether the parameters of a list say nothing but whose rows, and which page: p is a copy.
func Unfiltered(p any) bool {
	v := reflect.ValueOf(p)
	for i := range v.NumField() {
		switch v.Type().Field(i).Type {
		case reflect.TypeFor[ListParams](), reflect.TypeFor[OwnedParams](), reflect.TypeFor[TagParams]():
		default:
			if !v.Field(i).IsZero() {
				return false
			}
		}
	}
	return true
}
