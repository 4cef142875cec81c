package process

import (
	"context"
	"syscall"
	"time"
)

const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 10 * time.Second
	// steady is how long a program must have run for its end to count as the first again.
	steady = 30 * time.Second
	// grace is given to a program that was asked to end.
	grace = 5 * time.Second
)

// Backoff says how long to wait before the next start: the more often it ended early, the longer.
type Backoff struct{ delay time.Duration }

// Next is the wait after a run of that length.
func (b *Backoff) Next(ran time.Duration) time.Duration {
	if b.delay == 0 || ran >= steady {
		b.delay = firstDelay
		return b.delay
	}
	b.delay = min(2*b.delay, maxDelay)
	return b.delay
}

// Keeper keeps one program running.
type Keeper struct {
	// Start starts it once.
	Start func() (pid int, ended <-chan syscall.WaitStatus, err error)
	// Say tells a person.
	Say func(format string, args ...any)
	// Kill sends a signal; syscall.Kill.
	Kill func(pid int, sig syscall.Signal) error
	// After is time.After.
	After func(time.Duration) <-chan time.Time
	Now   func() time.Time
}

// Run keeps the program running until ctx ends, then asks it to end and, if it does not, makes it.
func (k Keeper) Run(ctx context.Context) {
	var backoff Backoff
	for {
		begun := k.Now()
		pid, ended, err := k.Start()
		if err != nil {
			k.Say("%v", err)
		} else {
			select {
			case status := <-ended:
				k.Say("pid %d %s after %s", pid, Describe(status), k.Now().Sub(begun).Round(time.Millisecond))
			case <-ctx.Done():
				k.stop(pid, ended)
				return
			}
		}
		delay := backoff.Next(k.Now().Sub(begun))
		k.Say("starts again in %s", delay)
		select {
		case <-k.After(delay):
		case <-ctx.Done():
			return
		}
	}
}

func (k Keeper) stop(pid int, ended <-chan syscall.WaitStatus) {
	_ = k.Kill(pid, syscall.SIGTERM)
	select {
	case <-ended:
	case <-k.After(grace):
		_ = k.Kill(pid, syscall.SIGKILL)
		<-ended
	}
}
