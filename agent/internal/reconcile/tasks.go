package reconcile

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/agent/internal/desired"
)

const (
	firstPause = 500 * time.Millisecond
	lastPause  = 30 * time.Second
	// What only a changed spec mends is still tried now and then: an operator may have helped.
	permanentPause = 10 * time.Minute
	// A transient failure is reported as failure after so many in a row.
	patience = 3
)

// tasks runs at most one task per object, and a bounded number of them at a time.
type tasks struct {
	slots chan struct{}
	done  func()
	group sync.WaitGroup

	mu     sync.Mutex
	record map[desired.Key]*record
}

// record of an object's tasks.
type record struct {
	running bool
	// What the last task was for: another step or another want starts afresh.
	step string
	want proto.Message
	// Failures in a row, the last one, and when to go on.
	failures int
	err      error
	next     time.Time
}

func newTasks(parallel int, done func()) *tasks {
	return &tasks{slots: make(chan struct{}, parallel), done: done, record: map[desired.Key]*record{}}
}

// do runs f for an object, unless one is running for it or it is not time yet. f returns when to look again.
func (t *tasks) do(ctx context.Context, key desired.Key, step string, want proto.Message,
	f func(context.Context) (again time.Duration, err error),
) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.record[key]
	if r == nil {
		r = &record{}
		t.record[key] = r
	}
	if r.running {
		return
	}
	if r.step != step || !sameMessage(r.want, want) {
		r.step, r.want, r.failures, r.err, r.next = step, want, 0, nil, time.Time{}
	}
	if time.Now().Before(r.next) {
		return
	}
	r.running = true
	t.group.Go(func() {
		defer t.done()
		again, err := t.inSlot(ctx, f)
		t.finish(key, r, again, err)
	})
}

func sameMessage(a, b proto.Message) bool {
	if a == nil || b == nil {
		return a == b
	}
	return proto.Equal(a, b)
}

func (t *tasks) inSlot(ctx context.Context, f func(context.Context) (time.Duration, error)) (time.Duration, error) {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-t.slots }()
	return f(ctx)
}

func (t *tasks) finish(key desired.Key, r *record, again time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.running = false
	if err == nil {
		r.failures, r.err = 0, nil
		r.next = time.Now().Add(again)
		return
	}
	r.err = err
	pause := min(firstPause<<min(r.failures, 10), lastPause)
	if desired.IsPermanent(err) {
		pause = permanentPause
	}
	r.next = time.Now().Add(pause)
	r.failures++
}

// busy says whether a task runs for the object.
func (t *tasks) busy(key desired.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.record[key]
	return r != nil && r.running
}

// failed returns the error of the last task, and whether it is time to call it a failure.
func (t *tasks) failed(key desired.Key) (err error, final bool) { //nolint:revive // the error is a value here
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.record[key]
	if r == nil || r.err == nil {
		return nil, false
	}
	return r.err, r.failures >= patience || desired.IsPermanent(r.err)
}

// settle forgets the failures of an object that is as wanted.
func (t *tasks) settle(key desired.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.record[key]; r != nil && !r.running {
		delete(t.record, key)
	}
}

// next is how long until the first object is due again; 0 for none.
func (t *tasks) next() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first time.Time
	for _, r := range t.record {
		if !r.running && !r.next.IsZero() && (first.IsZero() || r.next.Before(first)) {
			first = r.next
		}
	}
	if first.IsZero() {
		return 0
	}
	return max(time.Until(first), time.Millisecond)
}

// forget drops records of objects nobody speaks of.
func (t *tasks) forget(known func(desired.Key) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, r := range t.record {
		if !r.running && !known(key) {
			delete(t.record, key)
		}
	}
}

func (t *tasks) wait() { t.group.Wait() }
