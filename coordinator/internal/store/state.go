package store

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// state is the whole content at one commit. It never changes.
type state struct {
	index  uint64 // number of write sets applied so far
	epoch  uint64 // how often the content was replaced as a whole in this process
	mark   mark   // digest of all of them, in order: what the next one builds on
	tables []*tableState
	raw    map[string]tree // tables this program does not know, as (id, row)
}

// tableState is one table: its rows by ID, and per index the entries (key, ID).
type tableState struct {
	owner   *owner
	rows    tree // id -> uvarint version, row
	indexes []tree
}

// edit returns a state whose table list may be changed.
func (s *state) edit() *state {
	c := *s
	c.tables = slices.Clone(s.tables)
	return &c
}

// row finds the version and the encoded row.
func (t *tableState) row(id cloud.ID) (version uint64, row []byte, ok bool) {
	v, ok := t.rows.get(string(id[:]))
	if !ok {
		return 0, nil, false
	}
	version, row = splitRow(v)
	return version, row, true
}

// splitRow takes a kept value apart. The row must not be written to.
func splitRow(v string) (uint64, []byte) {
	b := unsafe.Slice(unsafe.StringData(v), len(v))
	version, n := binary.Uvarint(b)
	return version, b[n:]
}

// newTableState is an empty table.
func newTableState(indexes int) *tableState {
	return &tableState{rows: tree{layout: withValues}, indexes: make([]tree, indexes)}
}

func joinRow(b []byte, version uint64, row []byte) []byte {
	return append(binary.AppendUvarint(b, version), row...)
}

// own returns the table if o may change it, else a copy.
func (t *tableState) own(o *owner) *tableState {
	if t.owner == o {
		return t
	}
	return &tableState{owner: o, rows: t.rows, indexes: slices.Clone(t.indexes)}
}

// write puts (or, with row nil, deletes) one row and moves its index entries.
// oldKeys and newKeys are the keys of the row before and after, nil for no row. The
// trees copy what they keep.
func (t *tableState) write(o *owner, id cloud.ID, version uint64, row []byte, oldKeys, newKeys []Key) *tableState {
	c := t.own(o)
	var buf [256]byte
	if row == nil {
		c.rows = c.rows.delete(o, string(id[:]))
	} else {
		o.buf = joinRow(o.buf[:0], version, row)
		c.rows = c.rows.put(o, string(id[:]), pageOf(o.buf))
	}
	for i := range c.indexes {
		was, is := keyAt(oldKeys, i), keyAt(newKeys, i)
		if (was == nil) == (is == nil) && bytes.Equal(was, is) {
			continue
		}
		if was != nil {
			c.indexes[i] = c.indexes[i].delete(o, pageOf(append(append(buf[:0], was...), id[:]...)))
		}
		if is != nil {
			c.indexes[i] = c.indexes[i].put(o, pageOf(append(append(buf[:0], is...), id[:]...)), "")
		}
	}
	return c
}

func keyAt(keys []Key, i int) Key {
	if keys == nil {
		return nil
	}
	return keys[i]
}
