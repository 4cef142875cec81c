package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

const (
	// maxInFlight is the number of entries replicated at a time. With two, one is
	// computed and written to the leader's disk while the other one is on its way.
	maxInFlight = 2
	// maxBatch bounds the closures of one entry, and with it how long the first of
	// them waits for the last.
	maxBatch = 1024
	// maxBatchBytes bounds the size of one entry: above it no further closure joins.
	maxBatchBytes = 1 << 20
	// maxBatchTime ends a batch of slow closures: above it no further one joins.
	maxBatchTime = 10 * time.Millisecond
	// mendPause keeps a leader that may not write for a moment (it is handing over)
	// from trying all the time.
	mendPause = 2 * time.Millisecond
)

// Update runs f as a transaction and returns once what it wrote is durable on a
// majority and applied here. Closures that wait are committed together; an error
// of f, or a panic, discards only its own writes and is returned.
//
// f may be run again, on another state, so it must do nothing but read and write
// through tx, except for setting variables that it sets anew each time. It runs
// alone and must not wait for anything.
//
// Errors beside f's own: *NotLeader, ErrClosed, or the context's error, nothing was
// done; ErrOutcomeUnknown (with the context's error, where that ended first), it may
// or may not have been committed. f is not running, and will not be run again, when
// Update returns.
func (r *Replica) Update(ctx context.Context, f func(tx *store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	t, err := r.ready()
	if err != nil {
		return err
	}
	q := &request{f: f, done: make(chan error, 1)}
	if !t.queue.add(q) {
		return r.notLeader()
	}
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
	}
	ran := q.abandon()
	select {
	case err := <-q.done: // in the same moment
		return err
	default:
	}
	if ran {
		return fmt.Errorf("update: %w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	}
	return fmt.Errorf("update: %w", context.Cause(ctx))
}

// request is one closure that waits.
type request struct {
	f    func(tx *store.Tx) error
	done chan error // takes one

	mu        sync.Mutex // held while f runs
	ran       bool
	abandoned bool // f must not be run again

	// Of the last run:
	err      error
	onCommit []func()
}

// run runs the closure, unless nobody waits for it any more.
func (q *request) run(b *store.Batch, now time.Time, newID func() cloud.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.abandoned {
		return false
	}
	q.ran = true
	q.onCommit, q.err = b.Run(q.f, now, newID)
	return true
}

// abandon waits until f does not run and sees to it that it never will. It tells
// whether it did.
func (q *request) abandon() (ran bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.abandoned = true
	return q.ran
}

// queue holds what waits for the proposer.
type queue struct {
	wake chan struct{}

	mu     sync.Mutex
	waits  []*request
	closed bool
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) add(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.waits = append(q.waits, r)
	q.signal()
	return true
}

// again puts requests back in front.
func (q *queue) again(rs []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waits = append(rs[:len(rs):len(rs)], q.waits...)
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) take(max int) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waits), max)
	rs := q.waits[:n:n]
	if q.waits = q.waits[n:]; len(q.waits) == 0 {
		q.waits = nil
	} else {
		q.signal()
	}
	return rs
}

func (q *queue) close() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	rs := q.waits
	q.waits = nil
	return rs
}

// flight is a batch on its way.
type flight struct {
	requests []*request
	future   raft.ApplyFuture // nil where nothing was written
}

// proposer turns requests into log entries, for one tenure.
type proposer struct {
	r       *Replica
	t       *tenure
	head    *store.View // what the next batch builds on
	flights chan flight
	slots   chan struct{} // one token per flight

	mu     sync.Mutex
	broken bool       // a flight failed: the ones behind it were built on sand
	retry  []*request // of failed flights, in order
}

// propose runs until the tenure ends, and answers everything that waits then.
func (r *Replica) propose(t *tenure) {
	p := &proposer{
		r: r, t: t, head: r.db.Current(),
		flights: make(chan flight, maxInFlight), slots: make(chan struct{}, maxInFlight),
	}
	var landing sync.WaitGroup
	landing.Go(p.land)
	p.run()
	close(p.flights)
	landing.Wait()
	not := r.notLeader()
	for _, q := range append(p.retry, t.queue.close()...) {
		q.done <- not
	}
}

func (p *proposer) run() {
	for {
		select {
		case <-p.t.queue.wake:
		case <-p.t.ctx.Done():
			return
		}
		// Wait for a slot before taking anything: what comes meanwhile joins this batch.
		select {
		case p.slots <- struct{}{}:
		case <-p.t.ctx.Done():
			return
		}
		p.mend()
		requests := p.t.queue.take(maxBatch)
		if len(requests) == 0 {
			<-p.slots
			continue
		}
		p.flights <- p.launch(requests)
	}
}

// mend starts again from what is committed after a flight has failed. The caller
// holds one slot.
func (p *proposer) mend() {
	p.mu.Lock()
	broken := p.broken
	p.mu.Unlock()
	if !broken {
		return
	}
	for range maxInFlight - 1 { // until all have landed
		p.slots <- struct{}{}
	}
	for range maxInFlight - 1 {
		<-p.slots
	}
	select {
	case <-time.After(mendPause):
	case <-p.t.ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
	p.r.db.Forget()
	p.head = p.r.db.Current()
	p.t.queue.again(p.retry)
	p.retry = nil
}

// launch runs the requests and proposes what they wrote.
func (p *proposer) launch(requests []*request) flight {
	b := p.r.db.NewBatch(p.head)
	ran := make([]*request, 0, len(requests))
	start := time.Now()
	for i, q := range requests {
		if q.run(b, p.r.cfg.Now(), p.r.cfg.NewID) {
			ran = append(ran, q)
		}
		if b.Size() >= maxBatchBytes || time.Since(start) >= maxBatchTime {
			p.t.queue.again(requests[i+1:])
			break
		}
	}
	if b.Empty() {
		return flight{requests: ran}
	}
	ws, head := b.Seal()
	p.head = head
	return flight{ran, p.r.raft.Apply(ws, 0)}
}

// land answers the requests of the flights, in their order.
func (p *proposer) land() {
	for f := range p.flights {
		p.landOne(f)
		<-p.slots
	}
}

// outcome waits for a log entry. An entry handed to raft while it shuts down may never be answered.
func (p *proposer) outcome(f raft.ApplyFuture) error {
	c := make(chan error, 1)
	go func() {
		err := f.Error()
		if err == nil {
			err, _ = f.Response().(error)
		}
		c <- err
	}()
	select {
	case err := <-c:
		return err
	case <-p.r.down:
	}
	select {
	case err := <-c:
		return err
	default:
		return ErrOutcomeUnknown
	}
}

func (p *proposer) landOne(f flight) {
	p.mu.Lock()
	broken := p.broken
	p.mu.Unlock()
	var err error
	switch {
	case f.future != nil:
		err = p.outcome(f.future)
	case broken:
		err = store.ErrRefused // what it read may never have happened
	default:
		// Nothing to commit, but what was read must be true.
		err = p.r.verify(p.t.ctx)
		if err != nil {
			err = raft.ErrNotLeader
		}
	}
	switch {
	case err == nil:
		for _, q := range f.requests {
			if q.err == nil {
				for _, done := range q.onCommit {
					done()
				}
			}
			q.done <- q.err
		}
	case errors.Is(err, store.ErrRefused), definitelyNotLeader(err):
		// Nothing of it happened: run it again, here or (see propose) elsewhere.
		p.mu.Lock()
		p.broken = true
		p.retry = append(p.retry, f.requests...)
		p.mu.Unlock()
		p.t.queue.signal()
	default:
		p.mu.Lock()
		p.broken = true
		p.mu.Unlock()
		p.r.log.Warn("outcome of a log entry is unknown", "error", err)
		for _, q := range f.requests {
			q.done <- ErrOutcomeUnknown
		}
	}
}
