package api

import (
	"container/heap"
	"iter"
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
	// Owner, with ByID, is an index that has the rows of one account by their IDs below the account. Without it, what projects
	// have is gathered and sorted for each page, and likewise where All is an index.
	Owner string
	// Descending: the last entry comes first.
	Descending bool
	// Domain is the index that has the rows of one domain below the domain and DomainKey, then what follows AllKey in All;
	// "": lists of domains are not ranked.
	Domain    string
	DomainKey store.Key
	// Narrow: AllKey leaves out rows that Own with OwnKey has.
	Narrow bool
	// Less, for lists of one account, is an index that has rows of Own that are not shown, below the account and one of
	// LessKeys, by what follows the account and OwnKey in Own.
	Less     string
	LessKeys []store.Key
	// Hidden gives rows that are in the indexes and not shown, which are few, as they stand below AllKey in All or, for
	// one account, below it and OwnKey in Own.
	Hidden func(r store.Reader, account cloud.ID) []store.Entry
}

// mostDomains bounds the indexes that are merged for one page. Beyond it, looking at every row is not slower.
const mostDomains = 1000

// Rank ranks the rows of a call's scope: all of them, those of one account, or those of some domains, with those of projects
// or without. false: the scope is another.
func (o Order[Row]) Rank(c *Call) (Ranked[Row], bool) {
	account, one := c.Scope.Account()
	s := section[Row]{t: o.Table, r: c.Read, descending: o.Descending, axis: run{index: o.All, key: o.AllKey}}
	domains := c.Scope.domains()
	switch {
	case one:
		s.axis = run{index: o.Own, key: store.K(account, o.OwnKey)}
		s.in = []run{s.axis}
		for _, k := range o.LessKeys {
			s.out = append(s.out, run{index: o.Less, key: store.K(account, k)})
		}
	case c.Scope.everything && len(c.Scope.also) == 0:
		s.in = []run{s.axis}
	case o.Domain != "" && len(domains) > 0 && len(domains) <= mostDomains:
		for d := range domains {
			s.in = append(s.in, run{index: o.Domain, key: store.K(d, o.DomainKey)})
		}
	default:
		return Ranked[Row]{}, false
	}
	var out []store.Entry
	if c.Scope.without != nil && !one {
		for p := range tables.Projects.All(c.Read) {
			if domains != nil && !domains[p.DomainID] {
				continue
			}
			own := run{index: o.Own, key: store.K(p.AccountID, o.OwnKey)}
			if o.ByID && o.Owner != "" && o.All == "" {
				own = run{index: o.Owner, key: store.K(p.AccountID)}
			}
			if !o.ByID || own.index == o.Owner {
				s.out = append(s.out, own)
				continue
			}
			for e := range o.Table.Entries(c.Read, own.index, own.key) {
				out = append(out, e[len(e)-len(cloud.ID{}):])
			}
		}
	}
	if o.Hidden != nil {
		out = append(out, o.Hidden(c.Read, account)...)
	}
	s.leaveOut(out, domains != nil || o.Narrow)
	return Ranked[Row]{
		Count: s.count(), Page: s.page,
		Get: func(id cloud.ID) (*Row, bool) { return o.Table.Get(c.Read, id) },
	}, true
}

// Each yields the rows of a call's scope in the order of the list; false where Rank does not know the scope.
func (o Order[Row]) Each(c *Call) (iter.Seq[*Row], bool) {
	ranked, ok := o.Rank(c)
	if !ok {
		return nil, false
	}
	return func(yield func(*Row) bool) {
		const some = 1000
		for from := 0; from < ranked.Count; from += some {
			for _, id := range ranked.Page(from, min(from+some, ranked.Count)) {
				if row, ok := ranked.Get(id); ok && !yield(row) {
					return
				}
			}
		}
	}, true
}

// run is entries in order: those of an index below a key, the IDs of a table, or a list.
type run struct {
	index string // "" without a list: the IDs
	key   store.Key
	list  []store.Entry
}

// section is the entries of some runs, which have none in common, but for those of others, each of which is in one of them.
type section[Row any] struct {
	t          *store.Table[Row]
	r          store.Reader
	axis       run // has all entries of in
	in, out    []run
	descending bool
}

// leaveOut leaves a list of entries out. They may be there twice, be in what is left out already, or, with some, not be in
// the section at all.
func (s *section[Row]) leaveOut(list []store.Entry, some bool) {
	s.out = slices.DeleteFunc(s.out, func(u run) bool { return s.len(u) == 0 })
	slices.Sort(list)
	list = slices.DeleteFunc(slices.Compact(list), func(e store.Entry) bool {
		has := func(u run) bool { return s.t.Count(s.r, u.index, store.K(u.key, store.Key(e))) > 0 }
		return some && !slices.ContainsFunc(s.in, has) || slices.ContainsFunc(s.out, has)
	})
	if len(list) > 0 {
		s.out = append(s.out, run{list: list})
	}
}

func (s *section[Row]) len(u run) int {
	switch {
	case u.list != nil:
		return len(u.list)
	case u.index == "":
		return s.t.Len(s.r)
	}
	return s.t.Count(s.r, u.index, u.key)
}

// below is how many entries of a run are before e.
func (s *section[Row]) below(u run, e store.Entry) int {
	switch {
	case u.list != nil:
		i, _ := slices.BinarySearch(u.list, e)
		return i
	case u.index == "":
		return s.t.Rank(s.r, store.IDOf(e))
	}
	return s.t.RankEntry(s.r, u.index, u.key, e)
}

// from yields the entries of a run that are not before e.
func (s *section[Row]) from(u run, e store.Entry) iter.Seq[store.Entry] {
	switch {
	case u.list != nil:
		return slices.Values(u.list[s.below(u, e):])
	case u.index == "":
		ids := s.t.SkipAllIDs(s.r, s.below(u, e))
		return func(yield func(store.Entry) bool) {
			for id := range ids {
				if !yield(store.Entry(id[:])) {
					return
				}
			}
		}
	}
	return s.t.EntriesFrom(s.r, u.index, u.key, e)
}

func (s *section[Row]) at(u run, n int) (e store.Entry) {
	if u.index != "" {
		return s.t.EntryAt(s.r, u.index, u.key, n)
	}
	for id := range s.t.SkipAllIDs(s.r, n) {
		return store.Entry(id[:])
	}
	return ""
}

func (s *section[Row]) count() int { return s.sum(s.len) }

func (s *section[Row]) sum(of func(run) int) (n int) {
	for _, u := range s.in {
		n += of(u)
	}
	for _, u := range s.out {
		n -= of(u)
	}
	return n
}

func (s *section[Row]) page(from, to int) []cloud.ID {
	if s.descending {
		n := s.count()
		from, to = n-to, n-from
	}
	var ids []cloud.ID
	if len(s.in) == 1 && len(s.out) == 0 {
		ids = s.ids(s.in[0], from, to-from)
	} else {
		ids = make([]cloud.ID, 0, to-from)
		for e := range s.shown(s.place(from)) {
			if ids = append(ids, store.IDOf(e)); len(ids) == to-from {
				break
			}
		}
	}
	if s.descending {
		slices.Reverse(ids)
	}
	return ids
}

// ids are those of the entries of a run but the first n, at most so many.
func (s *section[Row]) ids(u run, n, most int) []cloud.ID {
	if u.index == "" {
		return s.t.PageOfAllIDs(s.r, n, most)
	}
	return s.t.PageOfIDs(s.r, u.index, u.key, n, most)
}

// place is the entry before which stand n of those that are shown, of which there are more.
func (s *section[Row]) place(n int) store.Entry {
	// What is shown raises the count by one, what is not leaves it: the place is before the first with more than n.
	i := sort.Search(s.len(s.axis)-n, func(i int) bool {
		e := s.at(s.axis, n+i)
		return s.sum(func(u run) int { return s.below(u, e) }) > n
	})
	return s.at(s.axis, n+i-1)
}

// shown yields what is shown from e on.
func (s *section[Row]) shown(e store.Entry) iter.Seq[store.Entry] {
	merge := func(runs []run) iter.Seq[store.Entry] {
		all := make([]iter.Seq[store.Entry], 0, len(runs))
		for _, u := range runs {
			all = append(all, s.from(u, e))
		}
		return merged(all)
	}
	return func(yield func(store.Entry) bool) {
		next, stop := iter.Pull(merge(s.out))
		defer stop()
		not, ok := next()
		for e := range merge(s.in) {
			for ok && not < e {
				not, ok = next()
			}
			if (!ok || not != e) && !yield(e) {
				return
			}
		}
	}
}

// merged yields the entries of sequences that are in order, in order.
func merged(all []iter.Seq[store.Entry]) iter.Seq[store.Entry] {
	if len(all) == 1 {
		return all[0]
	}
	return func(yield func(store.Entry) bool) {
		var h heads
		for _, s := range all {
			next, stop := iter.Pull(s)
			defer stop()
			if e, ok := next(); ok {
				h = append(h, head{e, next})
			}
		}
		heap.Init(&h)
		for len(h) > 0 {
			if !yield(h[0].entry) {
				return
			}
			if e, ok := h[0].next(); ok {
				h[0].entry = e
				heap.Fix(&h, 0)
			} else {
				heap.Pop(&h)
			}
		}
	}
}

// head is the next entry of a sequence. heads implement heap.Interface.
type head struct {
	entry store.Entry
	next  func() (store.Entry, bool)
}

type heads []head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].entry < h[j].entry }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(head)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
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
