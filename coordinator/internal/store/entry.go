package store

import (
	"bytes"
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// An Entry is what an index holds for a row: its key and then its ID. As bytes, entries are in the order of the index.
type Entry = string

// Entries yields what follows k in each entry of an index that begins with k, in order.
func (t *Table[R]) Entries(r Reader, index string, k Key) iter.Seq[Entry] {
	x := noteAll(r).table(&t.core, true).indexes[t.position(index)]
	return func(yield func(Entry) bool) {
		x.ascend(string(k), func(key []byte, _ string) bool {
			return bytes.HasPrefix(key, k) && yield(Entry(key[len(k):]))
		})
	}
}

// EntriesFrom yields those of the Entries that are not below e.
func (t *Table[R]) EntriesFrom(r Reader, index string, k Key, e Entry) iter.Seq[Entry] {
	x := noteAll(r).table(&t.core, true).indexes[t.position(index)]
	return func(yield func(Entry) bool) {
		x.ascend(string(k)+e, func(key []byte, _ string) bool {
			return bytes.HasPrefix(key, k) && yield(Entry(key[len(k):]))
		})
	}
}

// EntryAt is the n-th of the Entries, from 0. There must be one. It takes logarithmic time.
func (t *Table[R]) EntryAt(r Reader, index string, k Key, n int) (e Entry) {
	x := noteAll(r).table(&t.core, false).indexes[t.position(index)]
	x.skip(x.rank(string(k))+n, func(key []byte, _ string) bool {
		e = Entry(key[len(k):])
		return false
	})
	return e
}

// RankEntry is the number of entries of an index that begin with k and are below k and e. It takes logarithmic time.
func (t *Table[R]) RankEntry(r Reader, index string, k Key, e Entry) int {
	x := noteAll(r).table(&t.core, false).indexes[t.position(index)]
	return x.rank(string(k)+e) - x.rank(string(k))
}

// IDOf is the ID of an entry.
func IDOf(e Entry) cloud.ID { return cloud.ID([]byte(e[len(e)-len(cloud.ID{}):])) }
