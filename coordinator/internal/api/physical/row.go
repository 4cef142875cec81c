package physical

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// onRow starts the job of a command about one row, which f changes or removes.
func onRow[P, Row any](
	t *store.Table[Row], id func(*P) cloud.ID, f func(c *api.Call, tx *store.Tx, row *Row, p *P) error,
) api.Handler {
	return api.Async(func(c *api.Call, tx *store.Tx, p *P) (*api.Start, error) {
		row, err := get(tx, t, id(p))
		if err != nil {
			return nil, err
		}
		return &api.Start{InstanceID: id(p)}, f(c, tx, row, p)
	})
}

// below starts the job of a command that makes a row below another one; f gives the new row's id.
func below[P, Row any](
	t *store.Table[Row], id func(*P) cloud.ID, f func(c *api.Call, tx *store.Tx, parent *Row, p *P) (cloud.ID, error),
) api.Handler {
	return api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *P) (*api.Start, error) {
		parent, err := get(tx, t, id(p))
		if err != nil {
			return nil, err
		}
		made, err := f(c, tx, parent, p)
		if err != nil {
			return nil, err
		}
		return &api.Start{InstanceID: made}, nil
	})
}
