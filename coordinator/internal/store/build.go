package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// builder makes a tree of entries that come in order, at a fraction of what
// putting them one by one costs. Its pages are nearly full.
type builder struct {
	layout layout
	page   []byte
	in     int    // entries in page
	last   []byte // the last key
	total  int

	pages  []page
	seps   []string
	counts []uint32
	sep    string // before page
}

// add appends an entry. Its key must be above the last one's.
func (b *builder) add(key, val []byte) {
	shared := 0
	if b.total > 0 {
		n := min(len(key), len(b.last))
		for shared < n && key[shared] == b.last[shared] {
			shared++
		}
	}
	if b.in > 0 && len(b.page)+len(key)-shared+len(val) > b.layout.maxPage()*7/8 {
		b.flush()
		b.sep = string(key[:shared+1])
	}
	if b.in == 0 {
		shared = 0
	}
	b.page = b.layout.appendHead(b.page, shared, len(key)-shared, len(val))
	b.page = append(append(b.page, key[shared:]...), val...)
	b.last = append(b.last[:0], key...)
	b.in++
	b.total++
}

func (b *builder) flush() {
	if len(b.pages) > 0 {
		b.seps = append(b.seps, b.sep)
	}
	b.pages = append(b.pages, string(b.page))
	b.counts = append(b.counts, uint32(b.in))
	b.page, b.in = b.page[:0], 0
}

// tree returns the tree of what was added.
func (b *builder) tree() tree {
	t := tree{layout: b.layout, n: b.total}
	if b.in > 0 {
		b.flush()
	}
	if len(b.pages) <= 1 {
		for _, t.single = range b.pages {
		}
		return t
	}
	level := group(len(b.pages), func(from, to int) *branch {
		return &branch{
			seps:   pack(b.seps[from : to-1]...),
			counts: slices.Clone(b.counts[from:to]),
			pages:  slices.Clone(b.pages[from:to]),
		}
	})
	between := b.seps // separators between the pages, of which each level uses some
	first := starts(len(b.pages))
	for len(level) > 1 {
		// The separator before node i of this level is the one before its first child.
		seps := make([]string, len(level)-1)
		for i := range seps {
			seps[i] = between[first[i+1]-1]
		}
		nodes := level
		level = group(len(nodes), func(from, to int) *branch {
			n := &branch{seps: pack(seps[from : to-1]...), kids: slices.Clone(nodes[from:to])}
			for _, kid := range n.kids {
				n.counts = append(n.counts, uint32(kid.total()))
			}
			return n
		})
		between, first = seps, starts(len(nodes))
	}
	t.root = level[0]
	return t
}

// fullKids is how many children branches get: room for some more.
const fullKids = maxKids * 3 / 4

// starts are the first children of the branches over n nodes.
func starts(n int) []int {
	var out []int
	for i := 0; i < n; i += fullKids {
		out = append(out, i)
	}
	return out
}

func group(n int, f func(from, to int) *branch) []*branch {
	var out []*branch
	for _, i := range starts(n) {
		out = append(out, f(i, min(i+fullKids, n)))
	}
	return out
}

// sorter gathers the keys of an index in any order, for a builder.
type sorter struct {
	chunks  [][]byte // keys, none in two chunks
	items   []item
	longest int
}

// item is one key: where it is, and eight of its bytes, so that most comparisons
// need not look there.
type item struct {
	part uint64
	at   keyPlace
}

// keyPlace is a chunk, a place in it, and a length.
type keyPlace uint64

const (
	chunkBits = 24 // of places and lengths
	chunkSize = 1 << chunkBits
)

func (s *sorter) add(key, id []byte) {
	n := len(key) + len(id)
	if n >= chunkSize {
		panic(fmt.Sprintf("store: an index key of %d bytes", n)) // rows are bounded by the blocks they come in
	}
	last := len(s.chunks) - 1
	switch {
	case last < 0:
		s.chunks = append(s.chunks, nil) // grows: most indexes are small
		last++
	case len(s.chunks[last])+n > chunkSize:
		s.chunks = append(s.chunks, make([]byte, 0, chunkSize))
		last++
	}
	at := len(s.chunks[last])
	s.chunks[last] = append(append(s.chunks[last], key...), id...)
	s.items = append(s.items, item{at: keyPlace(last<<(2*chunkBits) | at<<chunkBits | n)})
	s.longest = max(s.longest, n)
}

func (s *sorter) key(p keyPlace) []byte {
	at, n := int(p>>chunkBits)&(chunkSize-1), int(p)&(chunkSize-1)
	return s.chunks[p>>(2*chunkBits)][at : at+n]
}

// tree sorts and builds.
func (s *sorter) tree() tree {
	s.sort(s.items, 0)
	b := builder{layout: keysOnly}
	for _, it := range s.items {
		b.add(s.key(it.at), nil)
	}
	return b.tree()
}

// sort orders items that agree in the first depth bytes, eight bytes at a time:
// index keys share long prefixes, and to compare them whole each time would mean
// to fetch them from memory each time.
func (s *sorter) sort(items []item, depth int) {
	if len(items) < 16 || depth >= s.longest {
		slices.SortFunc(items, func(x, y item) int { return bytes.Compare(s.key(x.at), s.key(y.at)) })
		return
	}
	for i := range items {
		items[i].part = partAt(s.key(items[i].at), depth)
	}
	slices.SortFunc(items, func(x, y item) int { return cmp.Compare(x.part, y.part) })
	for from := 0; from < len(items); {
		to := from + 1
		for to < len(items) && items[to].part == items[from].part {
			to++
		}
		if to > from+1 {
			s.sort(items[from:to], depth+8)
		}
		from = to
	}
}

// partAt is the big-endian number of eight bytes from depth on. A key that ends
// there is filled up with zeros: it differs from one that goes on with zeros only
// in its length, which the comparison of whole keys in the end tells.
func partAt(key []byte, depth int) uint64 {
	if depth+8 <= len(key) {
		return binary.BigEndian.Uint64(key[depth:])
	}
	var b [8]byte
	copy(b[:], key[min(depth, len(key)):])
	return binary.BigEndian.Uint64(b[:])
}
