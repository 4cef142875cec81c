package store

import (
	"bytes"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// tree is an immutable ordered map of byte strings: a B+tree of packed pages.
// put and delete return a new tree that shares all pages but those on the way to
// the change. Branches know how many entries are below each child, so that
// counting a range takes logarithmic time.
//
// A writer that makes many changes passes an owner, with which it marks the
// branches it has made: nobody else can see those yet, so it changes them in
// place. Whoever hands out a tree must not use the owner any more.
//
// A tree without a root has only one page, possibly an empty one.
type tree struct {
	layout layout
	root   *branch
	single page
	n      int
}

// maxKids bounds the children of a branch.
const maxKids = 64

// branch is an inner node. Its children are either pages or branches, all of the
// same height. Child i holds the keys from seps[i-1] on and below seps[i].
type branch struct {
	owner  *owner
	seps   separators
	counts []uint32
	pages  []page
	kids   []*branch
}

// owner marks what a writer may change in place, by its address. It also lends the
// writer a buffer.
type owner struct{ buf []byte }

// own returns the branch if o may change it, else a copy.
func (b *branch) own(o *owner) *branch {
	if o != nil && b.owner == o {
		return b
	}
	n := &branch{owner: o, seps: b.seps, counts: slices.Clone(b.counts)}
	if b.kids != nil {
		n.kids = slices.Clone(b.kids)
	} else {
		n.pages = slices.Clone(b.pages)
	}
	return n
}

func (b *branch) len() int { return len(b.counts) }

// child is the position of the child that has or would have the key.
func (b *branch) child(key string) int {
	low, high := 0, b.seps.len()
	for low < high {
		mid := int(uint(low+high) >> 1)
		if b.seps.at(mid) <= key {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func (b *branch) total() int {
	n := 0
	for _, c := range b.counts {
		n += int(c)
	}
	return n
}

func (t tree) len() int { return t.n }

// leaf is the page that has or would have the key.
func (t tree) leaf(key string) page {
	b := t.root
	if b == nil {
		return t.single
	}
	for b.kids != nil {
		b = b.kids[b.child(key)]
	}
	return b.pages[b.child(key)]
}

// get returns the value of a key. It shares the page's memory: whoever keeps it
// for long keeps the page.
func (t tree) get(key string) (string, bool) {
	p := t.leaf(key)
	w := t.layout.find(p, key)
	if !w.found {
		return "", false
	}
	return p[w.val:w.end], true
}

// rank is the number of entries below key.
func (t tree) rank(key string) int {
	n := 0
	b := t.root
	if b == nil {
		return t.layout.find(t.single, key).n
	}
	for {
		i := b.child(key)
		for _, c := range b.counts[:i] {
			n += int(c)
		}
		if b.kids == nil {
			return n + t.layout.find(b.pages[i], key).n
		}
		b = b.kids[i]
	}
}

// ascend calls f for the entries from key on, in order, until f returns false. The
// key is valid during the call only, the value as long as get's.
func (t tree) ascend(from string, f func(key []byte, val string) bool) {
	w := walk{layout: t.layout, f: f, key: make([]byte, 0, 64)}
	if t.root == nil {
		w.page(t.single, from)
		return
	}
	w.branch(t.root, from)
}

// skip calls f for the entries but the first n, like ascend.
func (t tree) skip(n int, f func(key []byte, val string) bool) {
	w := walk{layout: t.layout, f: f, key: make([]byte, 0, 64), skip: n}
	if t.root == nil {
		w.page(t.single, "")
		return
	}
	w.branch(t.root, "")
}

type walk struct {
	layout layout
	f      func(key []byte, val string) bool
	ids    *idPage // instead of f
	key    []byte
	skip   int
}

// idPage takes the IDs of entries that begin with prefix, until there are most.
type idPage struct {
	prefix Key
	ids    []cloud.ID
	most   int
}

func (p *idPage) take(key []byte) bool {
	if !bytes.HasPrefix(key, p.prefix) {
		return false
	}
	p.ids = append(p.ids, idOf(key))
	return len(p.ids) < p.most
}

// idsFrom gives the IDs at the ends of the entries but the first n.
func (t tree) idsFrom(n int, page *idPage) []cloud.ID {
	w := walk{layout: t.layout, ids: page, key: make([]byte, 0, 64), skip: n}
	if t.root == nil {
		w.page(t.single, "")
	} else {
		w.branch(t.root, "")
	}
	return page.ids
}

func (w *walk) branch(b *branch, from string) bool {
	i := b.child(from)
	for ; i < b.len(); i++ {
		if n := int(b.counts[i]); w.skip >= n && w.skip > 0 {
			w.skip -= n
			continue
		}
		if b.kids != nil {
			if !w.branch(b.kids[i], from) {
				return false
			}
		} else if !w.page(b.pages[i], from) {
			return false
		}
		from = ""
	}
	return true
}

func (w *walk) page(p page, from string) bool {
	for at := 0; at < len(p); {
		e := w.layout.entry(p, at)
		at = e.end
		w.key = append(w.key[:e.shared], p[e.key:e.val]...)
		if from != "" {
			if string(w.key) < from {
				continue
			}
			from = ""
		}
		if w.skip > 0 {
			w.skip--
			continue
		}
		if w.ids != nil {
			if !w.ids.take(w.key) {
				return false
			}
		} else if !w.f(w.key, p[e.val:e.end]) {
			return false
		}
	}
	return true
}

// change is what writing below a node has made of it: one or two nodes, and by
// how many entries there are more.
type change[N any] struct {
	node  N
	right N      // if split
	sep   string // separates the two; "" if not split
	added int
}

// put returns the tree with key set to val. Both are copied.
func (t tree) put(o *owner, key, val string) tree {
	if t.root == nil {
		c := t.layout.putPage(t.single, key, val, true)
		t.n += c.added
		if c.sep == "" {
			t.single = c.node
			return t
		}
		t.single = ""
		t.root = &branch{
			owner: o, seps: pack(c.sep), pages: []page{c.node, c.right},
			counts: []uint32{uint32(t.layout.count(c.node)), uint32(t.layout.count(c.right))},
		}
		return t
	}
	c := t.root.put(o, t.layout, key, val, true)
	t.n += c.added
	t.root = c.node
	if c.sep != "" {
		t.root = &branch{
			owner: o, seps: pack(c.sep), kids: []*branch{c.node, c.right},
			counts: []uint32{uint32(c.node.total()), uint32(c.right.total())},
		}
	}
	return t
}

func (l layout) putPage(p page, key, val string, last bool) change[page] {
	w := l.find(p, key)
	var c change[page]
	if w.found {
		c.node = l.replace(p, w, val)
	} else {
		c.node = l.insert(p, w, key, val)
		c.added = 1
	}
	if len(c.node) > l.maxPage() && l.entry(c.node, 0).end < len(c.node) {
		// Rows are mostly added behind all others. Splitting there in the middle would
		// leave every page half empty.
		atEnd := last && !w.found && w.at == len(p)
		c.node, c.right, c.sep = l.split(c.node, atEnd)
	}
	return c
}

// put writes below b, which is the last node of its height if last is set.
func (b *branch) put(o *owner, l layout, key, val string, last bool) change[*branch] {
	i := b.child(key)
	last = last && i == b.len()-1
	n := b.own(o)
	var added int
	if n.kids == nil {
		c := l.putPage(n.pages[i], key, val, last)
		added = c.added
		n.pages[i] = c.node
		n.counts[i] += uint32(c.added)
		if c.sep == "" {
			return change[*branch]{node: n, added: added}
		}
		n.pages = slices.Insert(n.pages, i+1, c.right)
		n.divided(i, c.sep, uint32(l.count(c.right)))
	} else {
		c := n.kids[i].put(o, l, key, val, last)
		added = c.added
		n.kids[i] = c.node
		n.counts[i] += uint32(c.added)
		if c.sep == "" {
			return change[*branch]{node: n, added: added}
		}
		n.kids = slices.Insert(n.kids, i+1, c.right)
		n.divided(i, c.sep, uint32(c.right.total()))
	}
	if n.len() <= maxKids {
		return change[*branch]{node: n, added: added}
	}
	at := n.len() / 2
	if last {
		at = n.len() - 1
	}
	left, right := n.slice(o, 0, at), n.slice(o, at, n.len())
	return change[*branch]{node: left, right: right, sep: strings.Clone(n.seps.at(at - 1)), added: added}
}

// divided does the books after child i gave away its upper entries to a new child
// i+1.
func (b *branch) divided(i int, sep string, right uint32) {
	b.counts[i] -= right
	b.counts = slices.Insert(b.counts, i+1, right)
	b.seps = b.seps.insert(i, sep)
}

// slice is a branch of some children, in memory of its own.
func (b *branch) slice(o *owner, from, to int) *branch {
	n := &branch{owner: o, seps: pack(b.seps.some(from, to-1)...), counts: slices.Clone(b.counts[from:to])}
	if b.kids != nil {
		n.kids = slices.Clone(b.kids[from:to])
	} else {
		n.pages = slices.Clone(b.pages[from:to])
	}
	return n
}

// delete returns the tree without key.
func (t tree) delete(o *owner, key string) tree {
	if t.root == nil {
		if w := t.layout.find(t.single, key); w.found {
			t.single = t.layout.remove(t.single, w)
			t.n--
		}
		return t
	}
	if _, there := t.get(key); !there {
		return t
	}
	t.n--
	t.root = t.root.delete(o, t.layout, key)
	for t.root != nil && t.root.len() == 1 {
		if t.root.kids == nil {
			t.single, t.root = t.root.pages[0], nil
		} else {
			t.root = t.root.kids[0]
		}
	}
	return t
}

// delete takes out a key that is there. The branch it returns may be left with a
// single child, but not with none.
func (b *branch) delete(o *owner, l layout, key string) *branch {
	i := b.child(key)
	n := b.own(o)
	n.counts[i]--
	if n.kids == nil {
		n.pages[i] = l.remove(n.pages[i], l.find(n.pages[i], key))
		if len(n.pages[i]) < l.maxPage()/4 {
			n.mergePages(l, i)
		}
		return n
	}
	n.kids[i] = n.kids[i].delete(o, l, key)
	if n.kids[i].len() < maxKids/4 {
		n.mergeKids(o, i)
	}
	return n
}

// mergePages joins page i, which has become short, with a neighbour, if the two
// then leave room for more, or if nothing is left of it.
func (b *branch) mergePages(l layout, i int) {
	for _, left := range []int{i - 1, i} {
		if left < 0 || left+1 >= b.len() {
			continue
		}
		if len(b.pages[left])+len(b.pages[left+1]) > l.maxPage()*3/4 && b.counts[i] > 0 {
			continue
		}
		b.pages[left] = l.join(b.pages[left], b.pages[left+1])
		b.pages = slices.Delete(b.pages, left+1, left+2)
		b.merged(left)
		return
	}
}

// mergeKids does the same for branches.
func (b *branch) mergeKids(o *owner, i int) {
	for _, left := range []int{i - 1, i} {
		if left < 0 || left+1 >= b.len() {
			continue
		}
		x, y := b.kids[left], b.kids[left+1]
		if x.len()+y.len() > maxKids*3/4 {
			continue
		}
		b.kids[left] = &branch{
			owner:  o,
			seps:   pack(slices.Concat(x.seps.some(0, x.seps.len()), []string{b.seps.at(left)}, y.seps.some(0, y.seps.len()))...),
			counts: slices.Concat(x.counts, y.counts),
			pages:  slices.Concat(x.pages, y.pages),
			kids:   slices.Concat(x.kids, y.kids),
		}
		b.kids = slices.Delete(b.kids, left+1, left+2)
		b.merged(left)
		return
	}
}

// merged does the books after child left+1 went into child left.
func (b *branch) merged(left int) {
	b.counts[left] += b.counts[left+1]
	b.counts = slices.Delete(b.counts, left+1, left+2)
	b.seps = b.seps.remove(left)
}
