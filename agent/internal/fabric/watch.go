package fabric

import (
	"context"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
)

// Watch calls wake when links came, went or changed, until ctx ends. What was missed is found by the slow pass.
func Watch(ctx context.Context, log *slog.Logger, wake func()) {
	for ctx.Err() == nil {
		if err := watchOnce(ctx, log, wake); err != nil {
			log.Warn("link events are interrupted", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func watchOnce(ctx context.Context, log *slog.Logger, wake func()) error {
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) { log.Debug("link events lost", "error", err) },
	})
	if err != nil {
		return err
	}
	// The subscription's goroutine ends only when somebody takes its last message.
	defer func() {
		go func() {
			for range updates {
				continue
			}
		}()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-updates:
			if !ok {
				return nil
			}
			wake()
		}
	}
}
