package api

import (
	"context"
	"sync"
)

// gate makes reads linearizable at little cost: a read must begin after a barrier that began after the request came.
// Requests that come while a barrier is under way share the next one.
type gate struct {
	barrier func(context.Context) error

	mu   sync.Mutex
	busy bool
	next *round
}

// round is one barrier and who waits for it.
type round struct {
	done chan struct{}
	err  error
}

// pass returns when reads are fresh.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	if !g.busy {
		g.busy = true
		g.mu.Unlock()
		err := g.barrier(ctx)
		g.release()
		return err
	}
	if g.next == nil {
		g.next = &round{done: make(chan struct{})}
	}
	r := g.next
	g.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release lets the round that gathered meanwhile run its barrier.
func (g *gate) release() {
	g.mu.Lock()
	r := g.next
	g.next = nil
	if r == nil {
		g.busy = false
	}
	g.mu.Unlock()
	if r == nil {
		return
	}
	// The round belongs to several requests, so it must not end with one of them.
	go func() {
		r.err = g.barrier(context.Background())
		close(r.done)
		g.release()
	}()
}
