package store

import (
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Batch runs transactions one after the other on top of a state and gathers
// what the successful ones wrote into one write set. It belongs to one goroutine.
type Batch struct {
	db   *DB
	base *state
	s    *state // the batch's own
	o    *owner // of what the batch has made and nobody else can see
	used bool   // something belongs to o
	ops  []op
	size int
}

// NewBatch starts a batch on top of a view, which may be that of a sealed batch.
func (db *DB) NewBatch(on *View) *Batch {
	return &Batch{db: db, base: on.s, s: on.s.edit(), o: new(owner)}
}

// Run runs one transaction. If f returns an error or panics, nothing of it stays
// and Run returns the error. The functions given to OnCommit are returned; to
// call them once the batch is applied is up to the caller.
func (b *Batch) Run(f func(*Tx) error, now time.Time, newID func() cloud.ID) (onCommit []func(), err error) {
	tx := &Tx{b: b, now: now.UTC().Truncate(time.Microsecond), newID: newID}
	if err = runSafely(f, tx); err != nil {
		tx.rollback()
		tx.b = nil
		return nil, err
	}
	tx.b = nil
	for _, o := range tx.ops {
		b.size += len(o.row) + 24
	}
	b.ops = append(b.ops, tx.ops...)
	return tx.onCommit, nil
}

func (b *Batch) write(at touch, version uint64, row []byte, oldKeys, newKeys []Key) {
	b.used = true
	b.s.tables[at.slot] = b.s.tables[at.slot].write(b.o, at.id, version, row, oldKeys, newKeys)
}

// freeze makes what is there now stay as it is, for an iterator.
func (b *Batch) freeze() {
	if b.used {
		b.o, b.used = new(owner), false
	}
}

// Empty reports whether no transaction wrote anything.
func (b *Batch) Empty() bool { return len(b.ops) == 0 }

// Size is about the number of bytes the write set will have.
func (b *Batch) Size() int { return b.size }

// Seal ends the batch: the encoded write set to be replicated, and the state
// that applying it will give, for the next batch to build on. The database
// remembers that state until the write set is applied or Forget is called.
func (b *Batch) Seal() (WriteSet, *View) {
	ops := lastOps(b.ops)
	ws := encode(b.base.mark, b.db.tables, ops)
	b.s.index++
	b.s.mark = ws.mark()
	touched := make([]touch, len(ops))
	for i, o := range ops {
		touched[i] = o.touch
	}
	b.db.remember(b.base.mark, b.s, touched)
	next := &View{b.db, b.s}
	*b = Batch{}
	return ws, next
}

// lastOps keeps the last write to each row, in the order of table and ID.
func lastOps(ops []op) []op {
	slices.SortStableFunc(ops, func(x, y op) int { return x.compare(y.touch) })
	out := ops[:0]
	for i, o := range ops {
		if i+1 == len(ops) || ops[i+1].touch != o.touch {
			out = append(out, o)
		}
	}
	return out
}
