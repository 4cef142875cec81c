package lab

import (
	"context"
	"fmt"
	"time"
)

// waitFor asks until it is true or the context ends; the error says what was
// last seen.
func waitFor(ctx context.Context, what string, ask func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := ask()
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, ctx.Err(), last)
		case <-tick.C:
		}
	}
}
