package store

import "github.com/wispcloud/wisp/coordinator/internal/cloud"

// Remember gives a reader of the same state whose tables decode a row that Get
// asks for once, however often it is asked for: a list of 500 VMs names one zone
// 500 times. The rows are shared, so they must not be changed, and the reader
// belongs to one goroutine.
func Remember(r Reader) Reader {
	return &remembering{Reader: r, rows: map[remembrance]any{}}
}

type remembering struct {
	Reader
	rows map[remembrance]any
}

type remembrance struct {
	table *core
	id    cloud.ID
}

// mostRemembered bounds what one list holds in memory.
const mostRemembered = 10_000

func remembered[R any](t *Table[R], m *remembering, id cloud.ID) (*R, bool) {
	key := remembrance{&t.core, id}
	if row, ok := m.rows[key]; ok {
		r := row.(*R)
		return r, r != nil
	}
	r, ok := t.Get(m.Reader, id)
	if len(m.rows) < mostRemembered {
		m.rows[key] = r // nil: it is not there
	}
	return r, ok
}
