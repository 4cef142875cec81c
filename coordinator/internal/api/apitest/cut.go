package apitest

import (
	"context"
	"errors"
	"sync"

	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

var errCut = errors.New("the coordinator died")

// cutter is the replica to one life of a job engine, which ends with the first transaction of a step: undone as by a
// crash before its commit, or kept, with nobody told.
type cutter struct {
	*replica.Replica
	undo bool
	die  context.CancelFunc

	mu   sync.Mutex
	dead bool
}

// Update implements job.Cluster.
func (c *cutter) Update(ctx context.Context, f func(tx *store.Tx) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errCut
	}
	stepped := false
	err := c.Replica.Update(ctx, func(tx *store.Tx) error {
		err := f(tx)
		if stepped = err == nil; stepped && c.undo {
			return errCut
		}
		return err
	})
	if !stepped {
		return err // the step failed, and the engine tells the job so in a transaction of its own
	}
	c.dead = true
	c.die()
	return errCut
}

// runCut steps jobs with one engine after the other until ctx ends: what a step keeps in memory is lost each time.
func runCut(ctx context.Context, r *replica.Replica, cfg job.Config) error {
	for life := 0; ctx.Err() == nil; life++ {
		one, die := context.WithCancel(ctx)
		cfg.Cluster = &cutter{Replica: r, undo: life%2 == 0, die: die}
		err := job.New(cfg).Run(one)
		die()
		if err != nil {
			return err
		}
	}
	return nil
}
