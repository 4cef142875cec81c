package store

import (
	"slices"
	"sync"
)

// Memo keeps values that were made from rows, each until one of the rows or index ranges it was made from changes. What
// those are is not declared but noted while the value is made (Record), so it cannot be forgotten. A value must be a pure
// function of its key and of what was read. Any number of goroutines may use a Memo.
//
// It takes no part in commits: whoever looks into it brings it up to the state it reads, by the rows that the commits in
// between have touched. A row that was touched ends the values that have read it and those that have read an index range
// in which it stands now; those in whose range it stood before have read it.
type Memo[K comparable, V any] struct {
	most int
	size func(V) int

	mu      sync.RWMutex
	db      *DB
	epoch   uint64
	index   uint64     // the state the values agree with
	checked [16]uint64 // the last such states: commits between them were not looked at one by one
	held    int        // bytes
	kept    map[K]*memory[K, V]
	nodes   map[dependency]*node[K, V]
	ranges  map[*core]map[rangeShape]struct{}
}

// rangeShape is an index and the length of the prefixes that were read of it.
type rangeShape struct{ index, length int }

// memory is one value.
type memory[K comparable, V any] struct {
	key   K
	value V
	from  uint64 // the state it was made from, or a later one that it agrees with
	size  int
	gone  bool
	nodes []*node[K, V]
}

// node is a dependency and the values that have it, some of which may be gone.
type node[K comparable, V any] struct {
	dep   dependency
	users []*memory[K, V]
	gone  int
}

// NewMemo makes a Memo of at most so many bytes, as size counts them; what it needs to find values comes on top of that.
func NewMemo[K comparable, V any](most int, size func(V) int) *Memo[K, V] {
	m := &Memo[K, V]{most: most, size: size}
	m.clear()
	return m
}

func (m *Memo[K, V]) clear() {
	m.kept, m.nodes, m.ranges = map[K]*memory[K, V]{}, map[dependency]*node[K, V]{}, map[*core]map[rangeShape]struct{}{}
	m.held = 0
}

// Made is a value, its key, and what it was made from.
type Made[K comparable, V any] struct {
	Key   K
	Value V
	From  *Recording
}

// Look calls found for the keys that have a value which is right in the state of v.
func (m *Memo[K, V]) Look(v *View, keys []K, found func(i int, value V)) {
	m.mu.RLock()
	if m.db != v.db || m.epoch != v.s.epoch || m.index < v.s.index {
		m.mu.RUnlock()
		m.mu.Lock()
		m.advance(v)
		m.mu.Unlock()
		m.mu.RLock()
	}
	defer m.mu.RUnlock()
	if m.db != v.db || m.epoch != v.s.epoch || !slices.Contains(m.checked[:], v.s.index) {
		return
	}
	for i, k := range keys {
		if e, ok := m.kept[k]; ok && e.from <= v.s.index {
			found(i, e.value)
		}
	}
}

// Keep takes values that were made from the state of v.
func (m *Memo[K, V]) Keep(v *View, made []Made[K, V]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := v.db.Current()
	if now.s.epoch != v.s.epoch {
		return
	}
	m.advance(now)
	since, ok := v.db.log.between(v.s.epoch, v.s.index, now.s.index)
	if m.db != v.db || m.epoch != now.s.epoch || m.index != now.s.index || !ok {
		return
	}
	for _, n := range made {
		if n.From.broad {
			continue
		}
		m.add(&memory[K, V]{key: n.Key, value: n.Value, from: now.s.index, size: m.size(n.Value)}, n.From.deps)
	}
	for _, t := range since {
		m.end(now, t)
	}
	for _, e := range m.kept { // any will do
		if m.held <= m.most {
			break
		}
		m.drop(e)
	}
}

func (m *Memo[K, V]) add(e *memory[K, V], deps []dependency) {
	if old, ok := m.kept[e.key]; ok {
		m.drop(old)
	}
	m.kept[e.key] = e
	m.held += e.size
	e.nodes = make([]*node[K, V], 0, len(deps))
	for _, d := range deps {
		n, ok := m.nodes[d]
		if !ok {
			n = &node[K, V]{dep: d}
			m.nodes[d] = n
		}
		n.users = append(n.users, e)
		e.nodes = append(e.nodes, n)
		if d.index < 0 {
			continue
		}
		if m.ranges[d.table] == nil {
			m.ranges[d.table] = map[rangeShape]struct{}{}
		}
		m.ranges[d.table][rangeShape{d.index, len(d.key)}] = struct{}{}
	}
}

// advance brings the memo up to the state of v, unless it is beyond that already.
func (m *Memo[K, V]) advance(v *View) {
	same := m.db == v.db && m.epoch == v.s.epoch
	if same && m.index >= v.s.index {
		return
	}
	if m.db == v.db && m.epoch > v.s.epoch {
		return // v is of a state that was replaced
	}
	touched, ok := v.db.log.between(v.s.epoch, m.index, v.s.index)
	if !same || !ok {
		m.clear()
		m.checked = [16]uint64{}
		touched = nil
	}
	for _, t := range touched {
		m.end(v, t)
	}
	m.db, m.epoch, m.index = v.db, v.s.epoch, v.s.index
	copy(m.checked[1:], m.checked[:])
	m.checked[0] = m.index
}

// end drops the values that a touched row is part of, or has become part of in the state of v.
func (m *Memo[K, V]) end(v *View, t touch) {
	c := v.db.tables[t.slot]
	m.cut(dependency{c, -1, string(t.id[:])})
	shapes := m.ranges[c]
	if len(shapes) == 0 {
		return
	}
	_, row, ok := v.s.tables[t.slot].row(t.id)
	if !ok {
		return
	}
	keys := c.mustKeys(t.id, row)
	for s := range shapes {
		if keys[s.index] == nil {
			continue
		}
		entry := string(keys[s.index]) + string(t.id[:])
		if s.length <= len(entry) {
			m.cut(dependency{c, s.index, entry[:s.length]})
		}
	}
}

// cut drops all values with a dependency.
func (m *Memo[K, V]) cut(d dependency) {
	n, ok := m.nodes[d]
	if !ok {
		return
	}
	users := n.users
	n.users = nil
	delete(m.nodes, d)
	for _, e := range users {
		if !e.gone {
			m.drop(e)
		}
	}
}

// drop forgets one value. Nodes forget those that are gone once they are the half, so that dropping stays cheap where
// many values share a node.
func (m *Memo[K, V]) drop(e *memory[K, V]) {
	e.gone = true
	delete(m.kept, e.key)
	m.held -= e.size
	for _, n := range e.nodes {
		if n.gone++; n.gone*2 <= len(n.users) {
			continue
		}
		n.users = slices.DeleteFunc(n.users, func(e *memory[K, V]) bool { return e.gone })
		n.gone = 0
		if len(n.users) == 0 && m.nodes[n.dep] == n {
			delete(m.nodes, n.dep)
		}
	}
	e.nodes = nil
}
