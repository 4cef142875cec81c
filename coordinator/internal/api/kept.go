package api

import (
	"fmt"
	"reflect"
	"slices"
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
	if l.memo == nil || !c.json || !ok {
		return false
	}
	shape, ok := l.Kept(c, p)
	if !ok {
		return false
	}
	keys := make([]keptKey, n)
	for i := range keys {
		keys[i] = keptKey{id(i), shape}
	}
	rows := make([]keptRow, n)
	l.memo.rows.Look(view, keys, func(i int, r keptRow) { rows[i] = r })
	l.make(c, p, view, keys, rows)
	out.encoded = make([][]byte, 0, n)
	var b []byte // of all rows: what grows is copied, what was taken of it stays
	for i, r := range rows {
		if i == 0 {
			r.json, r.cut = r.json[1:], r.cut-1
		}
		var v any
		if l.Volatile != nil {
			v = l.Volatile(c, p, keys[i].id)
		}
		if v == nil {
			out.encoded = append(out.encoded, r.json)
			continue
		}
		at := len(b)
		if b = appendJSON(b, v); len(b) == at+len("{}") {
			out.encoded = append(out.encoded, r.json)
			continue
		}
		b[at] = ','
		out.encoded = append(out.encoded, r.json[:r.cut], b[at:len(b)-1], r.json[r.cut:])
	}
	return true
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
