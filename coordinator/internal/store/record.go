package store

import "github.com/wispcloud/wisp/coordinator/internal/cloud"

// Recording is a reader that notes what is read through it: rows by their IDs, and ranges of indexes. It belongs to one
// goroutine.
type Recording struct {
	Reader
	deps []dependency
	seen map[dependency]struct{}
	// broad: something was read that depends on a whole table.
	broad bool
}

// dependency is a row (index -1, key its ID) or the entries of an index that begin with key.
type dependency struct {
	table *core
	index int
	key   string
}

// Record gives a reader of the same state that notes what is read.
func Record(r Reader) *Recording {
	return &Recording{Reader: r, seen: map[dependency]struct{}{}}
}

func (r *Recording) note(d dependency) {
	if _, ok := r.seen[d]; !ok {
		r.seen[d] = struct{}{}
		r.deps = append(r.deps, d)
	}
}

// noteRow is called before a row is read; it gives the reader to read from.
func (c *core) noteRow(r Reader, id cloud.ID) Reader {
	rec, ok := r.(*Recording)
	if !ok {
		return r
	}
	rec.note(dependency{c, -1, string(id[:])})
	return rec.Reader
}

// noteRange is called before a range of an index is read; the rows that are found in it are noted by the second result.
func (c *core) noteRange(r Reader, index int, k Key) (Reader, *Recording) {
	rec, ok := r.(*Recording)
	if !ok {
		return r, nil
	}
	rec.note(dependency{c, index, string(k)})
	return rec.Reader, rec
}

// noteAll is called before something is read that depends on the whole table.
func noteAll(r Reader) Reader {
	rec, ok := r.(*Recording)
	if !ok {
		return r
	}
	rec.broad = true
	return rec.Reader
}
