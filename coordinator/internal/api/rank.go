package api

import (
	"bytes"
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
	// Skip yields the IDs of the rows but for the first n.
	Skip func(n int) iter.Seq[cloud.ID]
	Get  func(id cloud.ID) (*Row, bool)
}

// RankAll ranks all rows of a table, in the order of their IDs.
func RankAll[Row any](r store.Reader, t *store.Table[Row]) Ranked[Row] {
	return Ranked[Row]{
		Count: t.Len(r), Skip: func(n int) iter.Seq[cloud.ID] { return t.SkipAllIDs(r, n) },
		Get: func(id cloud.ID) (*Row, bool) { return t.Get(r, id) },
	}
}

// RankBy ranks the rows that an index has below a key.
func RankBy[Row any](r store.Reader, t *store.Table[Row], index string, k store.Key) Ranked[Row] {
	return Ranked[Row]{
		Count: t.Count(r, index, k), Skip: func(n int) iter.Seq[cloud.ID] { return t.SkipIDs(r, index, k, n) },
		Get: func(id cloud.ID) (*Row, bool) { return t.Get(r, id) },
	}
}

// RankOwned ranks the rows of a scope in a table whose index begins with the account: all of them, all that are not of
// projects, or those of one account. false: the scope is another.
func RankOwned[Row any](c *Call, t *store.Table[Row], index string) (Ranked[Row], bool) {
	switch account, one := c.Scope.Account(); {
	case one:
		return RankBy(c.Read, t, index, store.K(account)), true
	case c.Scope.Everything():
		return RankAll(c.Read, t), true
	case c.Scope.everything && len(c.Scope.also) == 0:
		return rankWithoutProjects(c.Read, t, index), true
	}
	return Ranked[Row]{}, false
}

// rankWithoutProjects ranks all rows but those of projects, in the order of their IDs. It looks at the IDs of the rows of
// projects, which are few beside all.
func rankWithoutProjects[Row any](r store.Reader, t *store.Table[Row], index string) Ranked[Row] {
	var out []cloud.ID
	for p := range tables.Projects.All(r) {
		out = slices.AppendSeq(out, t.IDs(r, index, store.K(p.AccountID)))
	}
	slices.SortFunc(out, func(a, b cloud.ID) int { return bytes.Compare(a[:], b[:]) })
	return Ranked[Row]{
		Count: t.Len(r) - len(out),
		Get:   func(id cloud.ID) (*Row, bool) { return t.Get(r, id) },
		Skip: func(n int) iter.Seq[cloud.ID] {
			// Before out[i] stand t.Rank(out[i])-i rows that are not left out: the page begins before the first with more than n.
			i := sort.Search(len(out), func(i int) bool { return t.Rank(r, out[i])-i > n })
			return func(yield func(cloud.ID) bool) {
				left := out[i:]
				for id := range t.SkipAllIDs(r, n+i) {
					if len(left) > 0 && left[0] == id {
						left = left[1:]
					} else if !yield(id) {
						return
					}
				}
			}
		},
	}
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
