package api

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// mostKept bounds the JSON that one list command keeps: some 100,000 rows of VMs.
const mostKept = 128 << 20

// rowMemo keeps the JSON of rows as a list shows them.
type rowMemo struct {
	rows *store.Memo[keptKey, keptRow]
	enc  *encoder
	// The fields of enc from the first of these to before the second are volatile.
	from, to int
}

type keptKey struct {
	id    cloud.ID
	shape uint8
}

// keptRow is one row's JSON, after a comma. What is volatile comes between the first cut bytes and the others.
type keptRow struct {
	json []byte
	cut  int
}

// newRowMemo makes the memo of a list whose rows are shown as a type. What is volatile is the embedded struct with the
// tag `kept:"no"`.
func newRowMemo(complete bool, answer reflect.Type, volatile bool) *rowMemo {
	enc, err := encoderOf(answer)
	if !complete || err != nil {
		panic(fmt.Sprintf("api: rows of %s cannot be kept: the list has no table or its rows no ID (%v)", answer, err))
	}
	m := &rowMemo{enc: enc, rows: store.NewMemo[keptKey](mostKept, func(r keptRow) int { return len(r.json) })}
	m.from, m.to = len(enc.fields), len(enc.fields)
	for i := range answer.NumField() {
		f := answer.Field(i)
		if f.Tag.Get("kept") != "no" {
			continue
		}
		inside := func(a *answerField) bool { return a.offset >= f.Offset && a.offset < f.Offset+f.Type.Size() }
		m.from = slices.IndexFunc(enc.fields, inside)
		m.to = m.from
		for m.to < len(enc.fields) && inside(enc.fields[m.to]) {
			m.to++
		}
	}
	if volatile != (m.from < m.to) || m.from < 1 || enc.fields[0].omitempty {
		panic(fmt.Sprintf("api: %s and Volatile disagree, or it begins with what may be missing", answer))
	}
	return m
}

// RootShape tells the views of root admins from those of others, for Lister.Kept.
func RootShape(c *Call) uint8 {
	if c.IsRoot() {
		return 1
	}
	return 0
}

// fillKept shows the rows of a page by their JSON, made or kept. It tells whether it could.
func (l Lister[P, Row, R]) fillKept(c *Call, p *P, out *listing[R], n int, id func(int) cloud.ID) bool {
	view, ok := c.Read.(*store.View)
	if l.memo == nil || !c.json || !ok || n == 0 {
		return false
	}
	shape, ok := l.Kept(c, p)
	if !ok {
		return false
	}
	page := newKeptPage(n)
	for i := range page.keys {
		page.keys[i] = keptKey{id(i), shape}
	}
	l.memo.rows.Look(view, page.keys, func(i int, r keptRow) { page.rows[i] = r })
	l.make(c, p, view, page.keys, page.rows)
	for i, r := range page.rows {
		if i == 0 {
			r.json, r.cut = r.json[1:], r.cut-1
		}
		var v any
		if l.Volatile != nil {
			v = l.Volatile(c, p, page.keys[i].id)
		}
		if v == nil {
			page.add(r.json)
			continue
		}
		at := len(page.text)
		if page.text = appendJSON(page.text, v); len(page.text) == at+len("{}") {
			page.text = page.text[:at]
			page.add(r.json)
			continue
		}
		page.text[at] = ','
		page.add(r.json[:r.cut], page.text[at:len(page.text)-1], r.json[r.cut:])
	}
	out.kept = page
	return true
}

// keptPage is the JSON of a page's rows, in parts. Its memory is that of pages before.
type keptPage struct {
	// parts begins with ahead empty ones, for what is sent before the rows.
	parts net.Buffers
	size  int // bytes of the rows
	keys  []keptKey
	rows  []keptRow
	text  []byte // of what is volatile: what grows is copied, and parts that were taken of it stay
}

// ahead of the rows are sent the header and the beginning of the body.
const ahead = 2

var keptPages = sync.Pool{New: func() any { return new(keptPage) }}

func newKeptPage(n int) *keptPage {
	p := keptPages.Get().(*keptPage)
	p.parts = append(p.parts[:0], make(net.Buffers, ahead)...)
	p.size, p.text = 0, p.text[:0]
	p.keys = slices.Grow(p.keys[:0], n)[:n]
	p.rows = slices.Grow(p.rows[:0], n)[:n]
	return p
}

func (p *keptPage) add(parts ...[]byte) {
	p.parts = append(p.parts, parts...)
	for _, part := range parts {
		p.size += len(part)
	}
}

// done gives the page's memory to the next one. Nobody may use it any more.
func (p *keptPage) done() {
	clear(p.parts[:cap(p.parts)])
	clear(p.rows)
	keptPages.Put(p)
}

// make encodes the rows of a page that are not kept, and keeps them.
func (l Lister[P, Row, R]) make(c *Call, p *P, view *store.View, keys []keptKey, rows []keptRow) {
	var made []store.Made[keptKey, keptRow]
	read, recall := c.Read, c.recall
	defer func() { c.Read, c.recall = read, recall }()
	shared := store.Remember(view)
	for i := range rows {
		if rows[i].json != nil {
			continue
		}
		rec := store.Record(shared)
		c.Read, c.recall = rec, rec
		row, ok := l.Table.Get(rec, keys[i].id)
		if !ok {
			panic(fmt.Sprintf("api: %s lists %s, which is not in %s", c.Command.Name, keys[i].id, l.Table.Name()))
		}
		answer := l.view(c, p, row)
		rows[i] = l.memo.encode(unsafe.Pointer(&answer))
		made = append(made, store.Made[keptKey, keptRow]{Key: keys[i], Value: rows[i], From: rec})
	}
	if len(made) > 0 {
		l.memo.rows.Keep(view, made)
	}
}

// encode writes a row without what is volatile.
func (m *rowMemo) encode(row unsafe.Pointer) keptRow {
	b := buffer()
	defer recycle(b)
	*b = appendFields(append((*b)[:0], ",{"...), m.enc.fields[:m.from], row, true)
	cut := len(*b)
	*b = append(appendFields(*b, m.enc.fields[m.to:], row, false), '}')
	return keptRow{slices.Clone(*b), cut}
}
