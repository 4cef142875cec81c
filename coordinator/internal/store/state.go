package store

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// state is the whole content at one commit. It never changes.
type state struct {
	index  uint64 // number of write sets applied so far
	mark   mark   // digest of all of them, in order: what the next one builds on
	tables []*tableState
	raw    map[string]tree // tables this program does not know, as (id, row)
}

// tableState is one table: its rows by ID, and per index the entries (key, ID).
type tableState struct {
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

func joinRow(version uint64, row []byte) string {
	b := make([]byte, 0, binary.MaxVarintLen64+len(row))
	b = binary.AppendUvarint(b, version)
	return string(append(b, row...))
}

// write puts (or, with row nil, deletes) one row and moves its index entries.
// oldKeys and newKeys are the keys of the row before and after.
func (t *tableState) write(id cloud.ID, version uint64, row []byte, oldKeys, newKeys []Key) *tableState {
	c := &tableState{rows: t.rows, indexes: t.indexes}
	if row == nil {
		c.rows = c.rows.delete(string(id[:]))
	} else {
		c.rows = c.rows.put(string(id[:]), joinRow(version, row))
	}
	cloned := false
	for i := range t.indexes {
		var was, is Key
		if oldKeys != nil {
			was = oldKeys[i]
		}
		if newKeys != nil {
			is = newKeys[i]
		}
		if (was == nil) == (is == nil) && string(was) == string(is) {
			continue
		}
		if !cloned {
			c.indexes, cloned = slices.Clone(t.indexes), true
		}
		if was != nil {
			c.indexes[i] = c.indexes[i].delete(string(was) + string(id[:]))
		}
		if is != nil {
			c.indexes[i] = c.indexes[i].put(string(is)+string(id[:]), "")
		}
	}
	return c
}
