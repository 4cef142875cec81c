package store

import (
	"bytes"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Def describes a table of rows R. R is a struct whose fields carry `row:"N"`
// tags; field 1 is the row's ID. It needs a cloud.Unknown field without a tag.
type Def[R any] struct {
	Name    string
	ID      func(*R) cloud.ID
	Indexes []Index[R]
	// Deleted, when given, runs in the transaction that deletes a row, for what goes with it.
	Deleted func(tx *Tx, id cloud.ID) error
}

// Index orders the rows of a table by a key. Key must be a pure function of the
// row; a nil key leaves the row out. It must not keep the row it is given.
type Index[R any] struct {
	Name   string
	Unique bool
	Key    func(*R) Key
}

// Table is the typed door to one table. It holds no rows: the same Table serves
// every database whose schema names it.
type Table[R any] struct {
	core
	def Def[R]
}

// AnyTable is a table of any row type.
type AnyTable interface {
	Name() string
	base() *core
}

// core is the part of a table that does not depend on its row type.
type core struct {
	name    string
	plan    *plan
	indexes []indexCore
	byName  map[string]int
	// keys decodes a row and returns its key in each index.
	keys func(id cloud.ID, row []byte) ([]Key, error)
}

// mustKeys is keys for a row of the state, which was checked when it came in.
func (c *core) mustKeys(id cloud.ID, row []byte) []Key {
	keys, err := c.keys(id, row)
	if err != nil {
		panic(fmt.Sprintf("store: %s %s: %v", c.name, id, err))
	}
	return keys
}

type indexCore struct {
	name   string
	unique bool
}

// Name is the table's name, as in write sets, snapshots and messages.
func (c *core) Name() string { return c.name }

func (c *core) base() *core { return c }

// idField is the number of the field that holds the ID. It is not part of the
// encoded row, because the row is kept under it.
const idField protowire.Number = 1

// Define makes a table. It panics where the definition is wrong, because that is
// a mistake in the program that the first run of any test shows.
func Define[R any](d Def[R]) *Table[R] {
	pl, err := compile(reflect.TypeFor[R]())
	if err != nil {
		panic(fmt.Sprintf("store: table %s: %v", d.Name, err))
	}
	t := &Table[R]{def: d, core: core{name: d.Name, plan: pl, byName: map[string]int{}}}
	if err := t.checkID(); err != nil {
		panic(fmt.Sprintf("store: table %s: %v", d.Name, err))
	}
	for i, x := range d.Indexes {
		if _, dup := t.byName[x.Name]; dup || x.Name == "" || x.Key == nil {
			panic(fmt.Sprintf("store: table %s: index %q is incomplete or named twice", d.Name, x.Name))
		}
		t.byName[x.Name] = i
		t.indexes = append(t.indexes, indexCore{x.Name, x.Unique})
	}
	t.keys = func(id cloud.ID, row []byte) ([]Key, error) {
		r := new(R)
		if err := t.parse(id, row, r, passing); err != nil {
			return nil, err
		}
		return t.keysOf(r), nil
	}
	return t
}

// checkID makes sure that field 1 is what Def.ID returns.
func (t *Table[R]) checkID() error {
	if t.name == "" || t.def.ID == nil {
		return fmt.Errorf("a table needs a name and an ID")
	}
	sf, ok := t.plan.typ, false
	for i := range sf.NumField() {
		f := sf.Field(i)
		if f.Tag.Get("row") == "1" && f.Type == reflect.TypeFor[cloud.ID]() {
			probe := new(R)
			id := cloud.ID{1, 2, 3}
			reflect.ValueOf(probe).Elem().Field(i).Set(reflect.ValueOf(id))
			ok = t.def.ID(probe) == id
		}
	}
	if !ok {
		return fmt.Errorf("field 1 of %s must be the row's ID", t.plan.typ)
	}
	return nil
}

func (t *Table[R]) keysOf(r *R) []Key {
	keys := make([]Key, len(t.def.Indexes))
	for i := range t.def.Indexes {
		keys[i] = t.def.Indexes[i].Key(r)
	}
	return keys
}

func (t *Table[R]) parse(id cloud.ID, row []byte, r *R, c *reading) error {
	if err := t.plan.parseRow(row, unsafe.Pointer(r), c); err != nil {
		return err
	}
	f := t.plan.byNum[idField]
	*(*cloud.ID)(unsafe.Add(unsafe.Pointer(r), f.offset)) = id
	return nil
}

// decode makes a fresh row. Rows were checked when they came in, so a row that
// cannot be decoded means that memory is damaged.
func (t *Table[R]) decode(id cloud.ID, row []byte) *R {
	r := new(R)
	if err := t.parse(id, row, r, kept); err != nil {
		panic(fmt.Sprintf("store: %s %s: %v", t.name, id, err))
	}
	return r
}

// Get returns the row, a copy the caller may keep and change (but see Remember).
func (t *Table[R]) Get(r Reader, id cloud.ID) (*R, bool) {
	r = t.noteRow(r, id)
	if m, ok := r.(*remembering); ok {
		return remembered(t, m, id)
	}
	_, row, ok := r.table(&t.core, false).row(id)
	if !ok {
		return nil, false
	}
	return t.decode(id, row), true
}

// Has reports whether the row exists, without decoding it.
func (t *Table[R]) Has(r Reader, id cloud.ID) bool {
	_, _, ok := t.noteRow(r, id).table(&t.core, false).row(id)
	return ok
}

// Version is the commit that last wrote the row; 0 when there is none.
func (t *Table[R]) Version(r Reader, id cloud.ID) uint64 {
	v, _, _ := t.noteRow(r, id).table(&t.core, false).row(id)
	return v
}

// Len is the number of rows.
func (t *Table[R]) Len(r Reader) int { return noteAll(r).table(&t.core, false).rows.len() }

// Rank is the number of rows with smaller IDs. It takes logarithmic time.
func (t *Table[R]) Rank(r Reader, id cloud.ID) int {
	return noteAll(r).table(&t.core, false).rows.rank(string(id[:]))
}

// All yields every row in the order of the IDs, as of the call: rows written
// meanwhile are not seen.
func (t *Table[R]) All(r Reader) iter.Seq[*R] {
	rows := noteAll(r).table(&t.core, true).rows
	return func(yield func(*R) bool) {
		rows.ascend("", func(k []byte, v string) bool {
			_, row := splitRow(v)
			return yield(t.decode(cloud.ID(k), row))
		})
	}
}

// SkipAll yields the rows All would yield but for the first n, which it does not
// walk over.
func (t *Table[R]) SkipAll(r Reader, n int) iter.Seq[*R] {
	rows := noteAll(r).table(&t.core, true).rows
	return func(yield func(*R) bool) {
		rows.skip(n, func(k []byte, v string) bool {
			_, row := splitRow(v)
			return yield(t.decode(cloud.ID(k), row))
		})
	}
}

// By yields the rows whose key begins with k, in the order of (key, ID), as of
// the call. A key with fewer parts than the index has yields all rows below it,
// an empty key the whole index.
func (t *Table[R]) By(r Reader, index string, k Key) iter.Seq[*R] {
	r, rec := t.noteRange(r, t.position(index), k)
	ts := r.table(&t.core, true)
	ids := t.ids(ts, rec, index, k)
	return func(yield func(*R) bool) {
		for id := range ids {
			if !yield(t.decodeIn(ts, index, id)) {
				return
			}
		}
	}
}

// Skip yields the rows By would yield but for the first n, which it does not walk
// over: the last page of a long list costs no more than the first one.
func (t *Table[R]) Skip(r Reader, index string, k Key, n int) iter.Seq[*R] {
	ts := noteAll(r).table(&t.core, true)
	x := ts.indexes[t.position(index)]
	return func(yield func(*R) bool) {
		x.skip(x.rank(string(k))+n, func(key []byte, _ string) bool {
			return bytes.HasPrefix(key, k) && yield(t.decodeIn(ts, index, idOf(key)))
		})
	}
}

// decodeIn decodes a row that an index names.
func (t *Table[R]) decodeIn(ts *tableState, index string, id cloud.ID) *R {
	_, row, ok := ts.row(id)
	if !ok {
		panic(fmt.Sprintf("store: %s: index %s names %s, which does not exist", t.name, index, id))
	}
	return t.decode(id, row)
}

// First returns the first row whose key begins with k.
func (t *Table[R]) First(r Reader, index string, k Key) (*R, bool) {
	r, rec := t.noteRange(r, t.position(index), k)
	ts := r.table(&t.core, false)
	for id := range t.ids(ts, rec, index, k) {
		return t.decodeIn(ts, index, id), true
	}
	return nil, false
}

// IDs yields the IDs of the rows By would yield, without decoding them.
func (t *Table[R]) IDs(r Reader, index string, k Key) iter.Seq[cloud.ID] {
	r, rec := t.noteRange(r, t.position(index), k)
	return t.ids(r.table(&t.core, true), rec, index, k)
}

// SkipAllIDs yields the IDs of the rows SkipAll would yield.
func (t *Table[R]) SkipAllIDs(r Reader, n int) iter.Seq[cloud.ID] {
	rows := noteAll(r).table(&t.core, true).rows
	return func(yield func(cloud.ID) bool) {
		rows.skip(n, func(k []byte, _ string) bool { return yield(cloud.ID(k)) })
	}
}

// PageOfIDs gives the IDs of the first rows Skip would yield, at most so many.
func (t *Table[R]) PageOfIDs(r Reader, index string, k Key, n, most int) []cloud.ID {
	x := noteAll(r).table(&t.core, true).indexes[t.position(index)]
	return idPageOf(x, x.rank(string(k))+n, k, most)
}

// PageOfAllIDs gives the IDs of the first rows SkipAll would yield, at most so many.
func (t *Table[R]) PageOfAllIDs(r Reader, n, most int) []cloud.ID {
	return idPageOf(noteAll(r).table(&t.core, true).rows, n, nil, most)
}

func idPageOf(t tree, n int, prefix Key, most int) []cloud.ID {
	most = min(most, t.len()-n)
	if most <= 0 {
		return nil
	}
	return t.idsFrom(n, &idPage{prefix, make([]cloud.ID, 0, most), most})
}

// ids yields the IDs below k, and notes them in rec where that is given.
func (t *Table[R]) ids(ts *tableState, rec *Recording, index string, k Key) iter.Seq[cloud.ID] {
	x := ts.indexes[t.position(index)]
	prefix := string(k)
	return func(yield func(cloud.ID) bool) {
		x.ascend(prefix, func(key []byte, _ string) bool {
			if len(key) < len(prefix) || string(key[:len(prefix)]) != prefix {
				return false
			}
			id := idOf(key)
			if rec != nil {
				t.noteRow(rec, id)
			}
			return yield(id)
		})
	}
}

// idOf is the ID at the end of an index entry.
func idOf(key []byte) cloud.ID { return cloud.ID(key[len(key)-len(cloud.ID{}):]) }

// Count is the number of rows By would yield. It takes logarithmic time.
func (t *Table[R]) Count(r Reader, index string, k Key) int {
	x := noteAll(r).table(&t.core, false).indexes[t.position(index)]
	low := x.rank(string(k))
	if after, ok := successor(k); ok {
		return x.rank(after) - low
	}
	return x.len() - low
}

// successor is the smallest string above every string that begins with k.
func successor(k []byte) (string, bool) {
	for len(k) > 0 && k[len(k)-1] == 0xff {
		k = k[:len(k)-1]
	}
	if len(k) == 0 {
		return "", false
	}
	b := bytes.Clone(k)
	b[len(b)-1]++
	return string(b), true
}

func (t *Table[R]) position(index string) int {
	i, ok := t.byName[index]
	if !ok {
		panic(fmt.Sprintf("store: table %s has no index %q", t.name, index))
	}
	return i
}

// Put inserts the row or replaces the one with its ID. It returns a *Conflict
// where another row holds the place in a unique index. Writing what is there
// already changes nothing, not even the version.
func (t *Table[R]) Put(tx *Tx, r *R) error {
	id := t.def.ID(r)
	if id.IsZero() {
		return fmt.Errorf("put %s: the row has no id", t.name)
	}
	var buf [1024]byte
	b := t.plan.appendRow(buf[:0], unsafe.Pointer(r), idField)
	return tx.put(&t.core, id, b, t.keysOf(r))
}

// Edit changes a row: f gets a copy, and what it leaves there is put if it
// returns nil. It returns a *NotFound where there is no such row. f must not
// change the ID.
func (t *Table[R]) Edit(tx *Tx, id cloud.ID, f func(*R) error) error {
	r, ok := t.Get(tx, id)
	if !ok {
		return &NotFound{t.name, id}
	}
	if err := f(r); err != nil {
		return err
	}
	if now := t.def.ID(r); now != id {
		return fmt.Errorf("edit %s %s: its id was changed to %s", t.name, id, now)
	}
	return t.Put(tx, r)
}

// Delete removes a row. Deleting what is gone succeeds.
func (t *Table[R]) Delete(tx *Tx, id cloud.ID) error {
	if t.def.Deleted != nil {
		if err := t.def.Deleted(tx, id); err != nil {
			return err
		}
	}
	return tx.delete(&t.core, id)
}

// Indexes returns the definitions of the table's indexes.
func (t *Table[R]) Indexes() []Index[R] { return slices.Clone(t.def.Indexes) }
