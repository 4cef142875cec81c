package api

import (
	"iter"
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// FreeEntity is the entity of infrastructure, which nobody owns.
func FreeEntity[Row any](name string, t *store.Table[Row]) Entity {
	return Entity{Name: name, Lookup: func(r store.Reader, id cloud.ID) (Owner, bool) { return Owner{}, t.Has(r, id) }}
}

// ChangeRow is the handler of a command that makes or changes one row and answers with it; name gives what the event
// tells of the row.
func ChangeRow[P, Row, R any](
	name func(*Row) (cloud.ID, string), view func(*Call, *Row) R, f func(tx *store.Tx, p *P) (*Row, error),
) Handler {
	return Change(func(c *Call, tx *store.Tx, p *P) (answer R, err error) {
		row, err := f(tx, p)
		if err != nil {
			return answer, err
		}
		c.Describe(name(row))
		return view(c, row), nil
	})
}

// ShowRow completes an asynchronous command whose result shows the row its job is about.
func ShowRow[Row, R any](t *store.Table[Row], view func(store.Reader, *Row) R, c Command) Command {
	c.Answer = reflect.TypeFor[R]()
	c.Result = func(r store.Reader, _ *ResultContext, j *cloud.Job) (any, error) {
		row, ok := t.Get(r, j.InstanceID)
		if !ok {
			return nil, NoEntity("id", j.InstanceID)
		}
		return view(r, row), nil
	}
	return c
}

// Filter leaves out rows.
func Filter[Row any](rows iter.Seq[*Row], keep func(*Row) bool) iter.Seq[*Row] {
	return func(yield func(*Row) bool) {
		for row := range rows {
			if keep(row) && !yield(row) {
				return
			}
		}
	}
}
