package store

import (
	"bytes"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Reader is something tables can be read from: a *View or a *Tx.
type Reader interface {
	// Index is the number of commits the state contains. A row's Version never
	// exceeds it, except for rows the transaction itself has written.
	Index() uint64
	// table returns the table as it is now; with lasting set, as it will stay.
	table(c *core, lasting bool) *tableState
}

// View is a consistent state. It may be kept as long as wanted and used from
// several goroutines; it costs the memory of what has changed since.
type View struct {
	db *DB
	s  *state
}

// Index implements Reader.
func (v *View) Index() uint64 { return v.s.index }

func (v *View) table(c *core, _ bool) *tableState { return v.s.tables[v.db.slot(c)] }

// Tx is a write transaction. Reads see its own writes. It belongs to the
// goroutine that runs the closure and ends with it.
type Tx struct {
	b        *Batch // nil when it has ended
	now      time.Time
	newID    func() cloud.ID
	ops      []op
	undo     []undo
	onCommit []func()
}

// op is a write to one row: its encoding, or nil for a deletion.
type op struct {
	touch
	row []byte
}

// undo is what a row was before a write.
type undo struct {
	touch
	version uint64
	row     []byte // nil: there was none
}

// Index implements Reader: the commits the transaction builds on.
func (tx *Tx) Index() uint64 { return tx.batch().s.index }

func (tx *Tx) batch() *Batch {
	if tx.b == nil {
		panic("store: a transaction is used after its end")
	}
	return tx.b
}

func (tx *Tx) table(c *core, lasting bool) *tableState {
	b := tx.batch()
	if lasting {
		b.freeze()
	}
	return b.s.tables[b.db.slot(c)]
}

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

// put writes an encoded row, which it copies.
func (tx *Tx) put(c *core, id cloud.ID, row []byte, keys []Key) error {
	b := tx.batch()
	at := touch{b.db.slot(c), id}
	ts := b.s.tables[at.slot]
	version, old, had := ts.row(id)
	var oldKeys []Key
	if had {
		if bytes.Equal(old, row) {
			return nil
		}
		oldKeys = c.mustKeys(id, old)
	}
	for i, x := range c.indexes {
		if !x.unique || keys[i] == nil || (had && bytes.Equal(oldKeys[i], keys[i]) && oldKeys[i] != nil) {
			continue
		}
		if other, taken := holder(ts.indexes[i], keys[i], id); taken {
			return &Conflict{c.name, x.name, other}
		}
	}
	row = append(emptyRow, row...)
	tx.wrote(undo{at, version, old}, row)
	b.write(at, b.s.index+1, row, oldKeys, keys)
	return nil
}

// holder is another row than id that holds exactly this key.
func holder(x tree, k Key, id cloud.ID) (other cloud.ID, taken bool) {
	x.ascend(string(k), func(key []byte, _ string) bool {
		if !bytes.HasPrefix(key, k) {
			return false
		}
		if len(key) == len(k)+len(id) {
			other = idOf(key)
			taken = other != id
		}
		return !taken
	})
	return other, taken
}

func (tx *Tx) delete(c *core, id cloud.ID) error {
	b := tx.batch()
	at := touch{b.db.slot(c), id}
	version, old, had := b.s.tables[at.slot].row(id)
	if !had {
		return nil
	}
	tx.wrote(undo{at, version, old}, nil)
	b.write(at, 0, nil, c.mustKeys(id, old), nil)
	return nil
}

func (tx *Tx) wrote(u undo, row []byte) {
	tx.undo = append(tx.undo, u)
	tx.ops = append(tx.ops, op{u.touch, row})
}

// rollback takes back what the transaction has written.
func (tx *Tx) rollback() {
	for _, u := range slices.Backward(tx.undo) {
		c := tx.b.db.tables[u.slot]
		var isKeys, wasKeys []Key
		if _, row, ok := tx.b.s.tables[u.slot].row(u.id); ok {
			isKeys = c.mustKeys(u.id, row)
		}
		if u.row != nil {
			wasKeys = c.mustKeys(u.id, u.row)
		}
		tx.b.write(u.touch, u.version, u.row, isKeys, wasKeys)
	}
}
