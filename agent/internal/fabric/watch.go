package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls wake when links or named namespaces came, went or changed, until ctx ends. What was missed is found by
// the slow pass.
func Watch(ctx context.Context, log *slog.Logger, wake func()) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		if err := watchNames(ctx, wake); err != nil {
			log.Warn("namespace names are not watched; the slow pass looks after them", "error", err)
		}
	})
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

// watchNames calls wake when a name below NamespaceDir goes (inotify(7)).
func watchNames(ctx context.Context, wake func()) error {
	if err := os.MkdirAll(NamespaceDir, 0o755); err != nil {
		return fmt.Errorf("make namespace directory: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, NamespaceDir, unix.IN_DELETE|unix.IN_MOVED_FROM); err != nil {
		return errors.Join(fmt.Errorf("watch namespaces: %w", err), unix.Close(fd))
	}
	// A non-blocking file is waited for by the runtime, so Close ends Read.
	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	buffer := make([]byte, 4096)
	for {
		if _, err := f.Read(buffer); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(fmt.Errorf("watch namespaces: %w", err), f.Close())
		}
		wake()
	}
}
