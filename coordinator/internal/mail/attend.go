package mail

import (
	"context"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Attend mails what waits until ctx ends: pass, which tells whether something could not be mailed, runs once at first, and
// then whenever rows changed. After a failure it waits for the clock, which ticks every retry (0: a minute), so that a mail
// server that is down is not asked at every change. then, if there is one, runs behind each of these, also while pass waits;
// its error ends all.
func Attend(ctx context.Context, db *store.DB, retry time.Duration, pass func(context.Context) (failed bool), then func(context.Context) error) error {
	if retry == 0 {
		retry = time.Minute
	}
	watch := db.Watch()
	defer watch.Close()
	tick := time.NewTicker(retry)
	defer tick.Stop()
	blocked := false
	for {
		if !blocked {
			blocked = pass(ctx)
		}
		if then != nil {
			if err := then(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-watch.C():
			watch.Touched()
		case <-tick.C:
			blocked = false
		}
	}
}
