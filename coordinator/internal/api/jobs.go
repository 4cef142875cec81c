package api

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// JobKinds gives the job engine what it needs to know of the asynchronous commands.
func (g *Registry) JobKinds(all *settings.Registry, keeper *seal.Keeper) []job.Kind {
	var kinds []job.Kind
	for _, c := range g.commands {
		if !c.Async() {
			continue
		}
		k := job.Kind{Command: c.Name, Step: c.Step, Event: c.Event, Doc: c.Doc}
		if c.Result != nil {
			k.Result = func(tx *store.Tx, j *cloud.Job) ([]byte, error) {
				x := &ResultContext{Settings: all.View(tx), Seal: keeper, Now: tx.Now()}
				v, err := c.Result(tx, x, j)
				if err != nil {
					return nil, err
				}
				return appendResult(c, remarkResult(tx, x, j, v))
			}
		}
		kinds = append(kinds, k)
	}
	return kinds
}

// appendResult writes a jobresult. A Success becomes the boolean one that job results need.
func appendResult(c *Command, v any) ([]byte, error) {
	switch s := v.(type) {
	case nil, Success:
		return appendJSON(nil, JobSuccess{Success: true}), nil
	case JobSuccess:
		return appendJSON(nil, s), nil
	}
	e, err := jobAnswer(v)
	if err != nil {
		return nil, fmt.Errorf("result of %s: %w", c.Name, err)
	}
	b := append(appendString([]byte{'{'}, c.Object), ':')
	return append(append(b, e...), '}'), nil
}

func jobAnswer(v any) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("encode %T: %v", v, r)
		}
	}()
	return appendJSON(nil, v), nil
}

// JobFailure gives the result code and jobresult of a failed job.
func JobFailure(err error, requestID string) (code int32, result []byte, text string) {
	a := errorOf(err, requestID)
	return int32(a.Code), appendJSON(nil, jobError{a.Code, a.Text}), a.Text
}
