package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// DB holds the state of one replica. Any number of goroutines may read; Apply
// and Restore are called by one at a time.
type DB struct {
	tables  []*core
	slots   map[*core]int
	byName  map[string]int
	current atomic.Pointer[state]
	log     commitLog

	mu       sync.Mutex // guards what follows
	prepared map[mark]prepared
	watches  map[*Watch]struct{}
}

// prepared is the outcome of a write set that was computed here.
type prepared struct {
	base    mark
	s       *state
	touched []touch
}

// touch names a row by the slot of its table.
type touch struct {
	slot int
	id   cloud.ID
}

func (t touch) compare(u touch) int {
	return cmp.Or(cmp.Compare(t.slot, u.slot), bytes.Compare(t.id[:], u.id[:]))
}

// NewDB makes an empty database with the given tables. It panics where two have
// the same name.
func NewDB(schema ...AnyTable) *DB {
	db := &DB{slots: map[*core]int{}, byName: map[string]int{}, prepared: map[mark]prepared{}, watches: map[*Watch]struct{}{}}
	for i, t := range schema {
		c := t.base()
		if _, dup := db.byName[c.name]; dup {
			panic(fmt.Sprintf("store: two tables are named %s", c.name))
		}
		db.tables = append(db.tables, c)
		db.slots[c], db.byName[c.name] = i, i
	}
	db.current.Store(db.empty())
	return db
}

func (db *DB) empty() *state {
	s := &state{raw: map[string]tree{}}
	for _, c := range db.tables {
		s.tables = append(s.tables, newTableState(len(c.indexes)))
	}
	return s
}

func (db *DB) slot(c *core) int {
	i, ok := db.slots[c]
	if !ok {
		panic(fmt.Sprintf("store: table %s is not part of this database", c.name))
	}
	return i
}

// Current returns the state as it is now.
func (db *DB) Current() *View { return &View{db, db.current.Load()} }

// View calls f with the state as it is now; it does not change under f.
func (db *DB) View(f func(r Reader) error) error { return f(db.Current()) }

// ErrRefused is returned by Apply for a write set that was computed from another
// state than the present one. Nothing of it was applied.
var ErrRefused = errors.New("write set refused: the state has moved since it was computed")

// Apply applies a write set, as plain row writes: whether they make sense was
// decided where they were computed. It returns ErrRefused where the state is not
// the one it was computed from. Both outcomes depend on nothing but the state and
// the write set, so all replicas agree. Any other error means that the write set
// is damaged or newer than this program, and that this replica must stop.
func (db *DB) Apply(ws WriteSet) error {
	s := db.current.Load()
	m := ws.mark()
	if p, ok := db.take(m); ok {
		if p.base != s.mark {
			return ErrRefused
		}
		db.publish(p.s, p.touched)
		return nil
	}
	base, ops, err := ws.decode()
	if err != nil {
		return err
	}
	if base != s.mark {
		return ErrRefused
	}
	next, err := db.write(s, ops)
	if err != nil {
		return err
	}
	next.mark = m
	db.publish(next, db.touches(ops))
	return nil
}

// write makes the successor of a state.
func (db *DB) write(s *state, ops []rowOp) (*state, error) {
	o := new(owner)
	next := s.edit()
	next.index++
	rawCloned := false
	for _, op := range ops {
		slot, known := db.byName[op.table]
		if !known {
			if !rawCloned {
				next.raw, rawCloned = maps.Clone(s.raw), true
			}
			next.raw[op.table] = writeRaw(o, rawTable(next.raw, op.table), op, next.index)
			continue
		}
		c, ts := db.tables[slot], next.tables[slot]
		var oldKeys, newKeys []Key
		var err error
		_, old, had := ts.row(op.id)
		if had {
			if oldKeys, err = c.keys(op.id, old); err != nil {
				return nil, err
			}
		} else if op.row == nil {
			continue
		}
		if op.row != nil {
			if newKeys, err = c.keys(op.id, op.row); err != nil {
				return nil, err
			}
		}
		next.tables[slot] = ts.write(o, op.id, next.index, op.row, oldKeys, newKeys)
	}
	return next, nil
}

func rawTable(raw map[string]tree, name string) tree {
	if t, ok := raw[name]; ok {
		return t
	}
	return tree{layout: withValues}
}

// writeRaw keeps the rows of a table of a newer version.
func writeRaw(o *owner, t tree, op rowOp, version uint64) tree {
	if op.row == nil {
		return t.delete(o, string(op.id[:]))
	}
	return t.put(o, string(op.id[:]), pageOf(joinRow(nil, version, op.row)))
}

// remember keeps the outcome of a write set until it is applied.
func (db *DB) remember(base mark, s *state, touched []touch) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.prepared[s.mark] = prepared{base, s, touched}
}

func (db *DB) take(m mark) (prepared, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	p, ok := db.prepared[m]
	delete(db.prepared, m)
	return p, ok
}

// Forget drops the outcomes of batches that were sealed and not applied, when
// they will not be or when another leader decides about it. Should such a write
// set be applied after all, it is decoded like any other.
func (db *DB) Forget() {
	db.mu.Lock()
	defer db.mu.Unlock()
	clear(db.prepared)
}

func (db *DB) touches(ops []rowOp) []touch {
	out := make([]touch, 0, len(ops))
	for _, o := range ops {
		if slot, ok := db.byName[o.table]; ok {
			out = append(out, touch{slot, o.id})
		}
	}
	return out
}

// publish makes a state the present one and wakes who watches.
func (db *DB) publish(s *state, touched []touch) {
	db.log.add(s, touched)
	db.current.Store(s)
	db.mu.Lock()
	watches := slices.Collect(maps.Keys(db.watches))
	db.mu.Unlock()
	for _, w := range watches {
		w.note(touched)
	}
}

// Has reports whether a table is part of the schema.
func (db *DB) Has(t AnyTable) bool {
	_, ok := db.slots[t.base()]
	return ok
}
