package store

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unsafe"
)

// A page is a run of entries in order, packed into one immutable string:
//
//	uvarint shared    bytes of the key that are those of the entry before
//	uvarint rest      length of the rest of the key
//	uvarint size      length of the value, in pages with values only
//	rest of the key, value
//
// The first entry shares nothing. A page holds no pointers, so that the garbage
// collector has nothing to look at, and has no room to spare: changing a page
// means to write it anew, which costs less than it looks, as it is short.
type page = string

// layout says whether the entries of a tree have values.
type layout bool

const (
	keysOnly   layout = false
	withValues layout = true
)

// maxPage is the length above which a page with more than one entry is split.
// Index entries are short and looked through one by one, rows are long.
func (l layout) maxPage() int {
	if l == withValues {
		return 4096
	}
	return 768
}

// entry is one entry of a page, by positions.
type entry struct {
	at     int // start
	shared int
	key    int // start of the rest of the key
	val    int // start of the value, end of the key
	end    int
}

func (l layout) entry(p page, at int) entry {
	e := entry{at: at}
	var rest, size int
	e.shared, at = uvarint(p, at)
	rest, at = uvarint(p, at)
	if l == withValues {
		size, at = uvarint(p, at)
	}
	e.key = at
	e.val = at + rest
	e.end = e.val + size
	return e
}

func uvarint(p page, at int) (int, int) {
	if c := p[at]; c < 0x80 {
		return int(c), at + 1
	}
	v, shift := 0, 0
	for {
		c := p[at]
		at++
		v |= int(c&0x7f) << shift
		if c < 0x80 {
			return v, at
		}
		shift += 7
	}
}

func (l layout) appendHead(b []byte, shared, rest, size int) []byte {
	b = binary.AppendUvarint(b, uint64(shared))
	b = binary.AppendUvarint(b, uint64(rest))
	if l == withValues {
		b = binary.AppendUvarint(b, uint64(size))
	}
	return b
}

// headLen is the length of what appendHead appends. Pages are allocated in their
// exact length.
func (l layout) headLen(shared, rest, size int) int {
	n := uvarintLen(shared) + uvarintLen(rest)
	if l == withValues {
		n += uvarintLen(size)
	}
	return n
}

func uvarintLen(v int) int { return (bits.Len64(uint64(v)|1) + 6) / 7 }

// place is where a key stands in a page, or would stand.
type place struct {
	entry      // the first one not below the key; at is the page's end if there is none
	found bool // it has the key
	n     int  // number of entries below the key
	prev  int  // bytes the key shares with the entry before
	next  int  // bytes the key shares with the entry
}

// find looks for a key. What an entry shares with the one before tells, for most
// entries, how it compares to the key without looking at its bytes.
func (l layout) find(p page, key string) place {
	prev, n, at := 0, 0, 0
	for at < len(p) {
		var shared, rest, size, from int
		if l == keysOnly && at+1 < len(p) && p[at]|p[at+1] < 0x80 { // nearly always
			shared, rest, from = int(p[at]), int(p[at+1]), at+2
		} else if l == withValues && at+2 < len(p) && p[at]|p[at+1]|p[at+2] < 0x80 { // short rows, of which a page has many
			shared, rest, size, from = int(p[at]), int(p[at+1]), int(p[at+2]), at+3
		} else {
			e := l.entry(p, at)
			shared, rest, size, from = e.shared, e.val-e.key, e.end-e.val, e.key
		}
		to := from + rest
		if shared <= prev {
			e := entry{at: at, shared: shared, key: from, val: to, end: to + size}
			if shared < prev {
				return place{entry: e, n: n, prev: prev, next: shared}
			}
			i := commonPrefix(p[from:to], key[prev:])
			m := prev + i
			if i == rest && m == len(key) {
				return place{entry: e, found: true, n: n, prev: prev, next: m}
			}
			if m == len(key) || (i < rest && p[from+i] > key[m]) {
				return place{entry: e, n: n, prev: prev, next: m}
			}
			prev = m
		}
		n++
		at = to + size
	}
	end := entry{at: len(p), key: len(p), val: len(p), end: len(p)}
	return place{entry: end, n: n, prev: prev}
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// insert writes the page with a new entry at w, where it was not found.
func (l layout) insert(p page, w place, key, val string) page {
	rest := len(key) - w.prev
	size := len(p) + l.headLen(w.prev, rest, len(val)) + rest + len(val)
	skip := w.next - w.shared // what the follower shares with the new entry beyond its old neighbour
	if w.at < len(p) {
		size += l.headLen(w.next, w.val-w.key-skip, w.end-w.val) - (w.key - w.at) - skip
	}
	b := make([]byte, 0, size)
	b = append(b, p[:w.at]...)
	b = l.appendHead(b, w.prev, rest, len(val))
	b = append(append(b, key[w.prev:]...), val...)
	if w.at < len(p) {
		b = l.appendHead(b, w.next, w.val-w.key-skip, w.end-w.val)
		b = append(b, p[w.key+skip:]...)
	}
	return pageOf(b)
}

// replace writes the page with another value at w, where the key was found.
func (l layout) replace(p page, w place, val string) page {
	head := l.headLen(w.shared, w.val-w.key, len(val))
	b := make([]byte, 0, len(p)-(w.end-w.at)+head+(w.val-w.key)+len(val))
	b = append(b, p[:w.at]...)
	b = l.appendHead(b, w.shared, w.val-w.key, len(val))
	b = append(b, p[w.key:w.val]...)
	b = append(append(b, val...), p[w.end:]...)
	return pageOf(b)
}

// remove writes the page without the entry at w.
func (l layout) remove(p page, w place) page {
	if w.end == len(p) {
		return strings.Clone(p[:w.at])
	}
	f := l.entry(p, w.end)
	shared, lent := f.shared, 0 // the follower's key gets back what it had of the removed one's
	if shared > w.shared {
		shared, lent = w.shared, f.shared-w.shared
	}
	head := l.headLen(shared, lent+f.val-f.key, f.end-f.val)
	b := make([]byte, 0, w.at+head+lent+len(p)-f.key)
	b = append(b, p[:w.at]...)
	b = l.appendHead(b, shared, lent+f.val-f.key, f.end-f.val)
	b = append(b, p[w.key:w.key+lent]...)
	b = append(b, p[f.key:]...)
	return pageOf(b)
}

// split cuts a page of more than one entry in two, as evenly as it goes, or
// before the last entry, and returns a separator: above all keys on the left,
// not above any on the right, and short.
func (l layout) split(p page, beforeLast bool) (left, right page, sep string) {
	var key []byte
	var cut entry
	for at := 0; ; {
		e := l.entry(p, at)
		if e.at > 0 && (e.end == len(p) || !beforeLast && e.at+e.end > len(p)) {
			cut = e
			break
		}
		key = append(key[:e.shared], p[e.key:e.val]...)
		at = e.end
	}
	key = append(key[:cut.shared], p[cut.key:cut.val]...)
	b := make([]byte, 0, l.headLen(0, len(key), cut.end-cut.val)+len(key)+len(p)-cut.val)
	b = l.appendHead(b, 0, len(key), cut.end-cut.val)
	b = append(append(b, key...), p[cut.val:]...)
	// The first byte in which the keys differ decides.
	return strings.Clone(p[:cut.at]), pageOf(b), string(key[:cut.shared+1])
}

// join writes two neighbouring pages as one.
func (l layout) join(left, right page) page {
	if left == "" {
		return right
	}
	if right == "" {
		return left
	}
	var last []byte
	for at := 0; at < len(left); {
		e := l.entry(left, at)
		last = append(last[:e.shared], left[e.key:e.val]...)
		at = e.end
	}
	e := l.entry(right, 0)
	shared := commonPrefix(string(last), right[e.key:e.val])
	head := l.headLen(shared, e.val-e.key-shared, e.end-e.val)
	b := make([]byte, 0, len(left)+head+len(right)-e.key-shared)
	b = append(b, left...)
	b = l.appendHead(b, shared, e.val-e.key-shared, e.end-e.val)
	b = append(b, right[e.key+shared:]...)
	return pageOf(b)
}

// count is the number of entries.
func (l layout) count(p page) int {
	n := 0
	for at := 0; at < len(p); n++ {
		at = l.entry(p, at).end
	}
	return n
}

// pageOf makes a page of bytes that nobody else has.
func pageOf(b []byte) page {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
