package api

import (
	"iter"
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

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
