package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Reader is something tables can be read from: a *View or a *Tx.
type Reader interface {
	// Index is the number of commits the state contains. A row's Version never
	// exceeds it, except for rows the transaction itself has written.
	Index() uint64
	table(*core) *tableState
}

// View is a consistent state. It may be kept as long as wanted and used from
// several goroutines; it costs the memory of what has changed since.
type View struct {
	db *DB
	s  *state
}

// Index implements Reader.
func (v *View) Index() uint64 { return v.s.index }

func (v *View) table(c *core) *tableState { return v.s.tables[v.db.slot(c)] }

// Tx is a write transaction. Reads see its own writes. It belongs to the
// goroutine that runs the closure and ends with it.
type Tx struct {
	db       *DB
	s        *state // private: the table list may be changed
	now      time.Time
	newID    func() cloud.ID
	ops      map[opKey]op
	onCommit []func()
}

// opKey names one written row.
type opKey struct {
	slot int
	id   cloud.ID
}

// op is the last write to one row: its encoding, or nil for a deletion.
type op struct{ row []byte }

// Index implements Reader: the commits the transaction builds on.
func (tx *Tx) Index() uint64 { return tx.s.index }

func (tx *Tx) table(c *core) *tableState { return tx.s.tables[tx.db.slot(c)] }

// Now is the transaction's time: UTC, whole microseconds, the same at each call.
func (tx *Tx) Now() time.Time { return tx.now }

// NewID makes an ID that no row has.
func (tx *Tx) NewID() cloud.ID { return tx.newID() }

// OnCommit has f called once after the transaction is durable and applied here.
// It is not called when the transaction fails. It must not wait for anything:
// other commits wait for it.
func (tx *Tx) OnCommit(f func()) { tx.onCommit = append(tx.onCommit, f) }

// emptyRow stands for a row without fields: nil means deleted.
var emptyRow = []byte{}

func (tx *Tx) put(c *core, id cloud.ID, row []byte, keys []Key) error {
	slot := tx.db.slot(c)
	ts := tx.s.tables[slot]
	if row == nil {
		row = emptyRow
	}
	var oldKeys []Key
	if _, old, ok := ts.row(id); ok {
		if string(old) == string(row) {
			return nil
		}
		var err error
		if oldKeys, err = c.keys(id, old); err != nil {
			return fmt.Errorf("put %s %s: %w", c.name, id, err)
		}
	}
	for i, x := range c.indexes {
		if !x.unique || keys[i] == nil || (oldKeys != nil && string(oldKeys[i]) == string(keys[i])) {
			continue
		}
		if other, taken := holder(ts.indexes[i], keys[i]); taken && other != id {
			return &Conflict{c.name, x.name, other}
		}
	}
	tx.s.tables[slot] = ts.write(id, tx.s.index+1, row, oldKeys, keys)
	tx.ops[opKey{slot, id}] = op{slices.Clip(row)}
	return nil
}

// holder is the row that holds exactly this key.
func holder(x tree, k Key) (id cloud.ID, taken bool) {
	prefix := string(k)
	x.ascend(prefix, func(key []byte, _ string) bool {
		if len(key) < len(prefix) || string(key[:len(prefix)]) != prefix {
			return false
		}
		if len(key) == len(prefix)+len(id) {
			id, taken = idOf(key), true
		}
		return !taken
	})
	return id, taken
}

func (tx *Tx) delete(c *core, id cloud.ID) error {
	slot := tx.db.slot(c)
	ts := tx.s.tables[slot]
	_, old, ok := ts.row(id)
	if !ok {
		return nil
	}
	keys, err := c.keys(id, old)
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", c.name, id, err)
	}
	tx.s.tables[slot] = ts.write(id, 0, nil, keys, nil)
	tx.ops[opKey{slot, id}] = op{}
	return nil
}

// Batch runs transactions one after the other on top of a state and gathers
// what the successful ones wrote into one write set. It belongs to one goroutine.
type Batch struct {
	db   *DB
	base *state
	s    *state
	ops  map[opKey]op
	size int
}

// NewBatch starts a batch on top of a view, or of the batch sealed before it.
func (db *DB) NewBatch(on *View) *Batch {
	return &Batch{db: db, base: on.s, s: on.s, ops: map[opKey]op{}}
}

// Run runs one transaction. If f returns an error or panics, nothing of it stays
// and Run returns the error. The functions given to OnCommit are returned; to
// call them once the batch is applied is up to the caller.
func (b *Batch) Run(f func(*Tx) error, now time.Time, newID func() cloud.ID) (onCommit []func(), err error) {
	tx := &Tx{db: b.db, s: b.s.edit(), now: now.UTC().Truncate(time.Microsecond), newID: newID, ops: map[opKey]op{}}
	if err := runSafely(f, tx); err != nil {
		return nil, err
	}
	b.s = tx.s
	for k, o := range tx.ops {
		b.ops[k] = o
		b.size += len(o.row) + 24
	}
	return tx.onCommit, nil
}

// Empty reports whether no transaction wrote anything.
func (b *Batch) Empty() bool { return len(b.ops) == 0 }

// Size is about the number of bytes the write set will have.
func (b *Batch) Size() int { return b.size }

// Seal ends the batch: the encoded write set to be replicated, and the state
// that applying it will give, for the next batch to build on. The database
// remembers that state until the write set is applied or Forget is called.
func (b *Batch) Seal() (WriteSet, *View) {
	ws := b.encode()
	b.s = b.s.edit()
	b.s.index++
	b.s.mark = ws.mark()
	next := &View{b.db, b.s}
	touched := make([]touch, 0, len(b.ops))
	for k := range b.ops {
		touched = append(touched, touch(k))
	}
	b.db.remember(b.base.mark, b.s, touched)
	return ws, next
}
