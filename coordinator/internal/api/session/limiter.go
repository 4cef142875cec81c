package session

import (
	"context"
	"sync"
	"time"
)

// Limits of failed logins.
const (
	mostAtOnce = 5                // tries of a key that are looked at
	forget     = 15 * time.Minute // after the last failure
	maxPause   = 5 * time.Minute
	maxKeys    = 10000 // beyond which the oldest are forgotten first
)

// Limiter counts failed logins by any text: a user, an address. It is safe for concurrent use.
type Limiter struct {
	mu   sync.Mutex
	seen map[string]*failures
	lane map[string]*lane
}

// lane is the tries of one key that are under way.
type lane struct {
	places chan struct{}
	users  int
}

type failures struct {
	n     int
	last  time.Time
	until time.Time
}

// NewLimiter makes an empty one.
func NewLimiter() *Limiter { return &Limiter{seen: map[string]*failures{}, lane: map[string]*lane{}} }

// Enter waits until fewer than mostAtOnce tries of a key are under way, so that many at once are not all let in before the
// first wrong ones are counted. leave is to be called when the try's outcome has been. Right passwords only wait.
func (l *Limiter) Enter(ctx context.Context, key string) (leave func(), err error) {
	l.mu.Lock()
	x := l.lane[key]
	if x == nil {
		x = &lane{places: make(chan struct{}, mostAtOnce)}
		l.lane[key] = x
	}
	x.users++
	l.mu.Unlock()
	drop := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if x.users--; x.users == 0 {
			delete(l.lane, key)
		}
	}
	select {
	case x.places <- struct{}{}:
		return func() { <-x.places; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, ctx.Err()
	}
}

// Allow tells whether a login may be tried now.
func (l *Limiter) Allow(now time.Time, keys ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if f := l.seen[k]; f != nil && now.Before(f.until) {
			return false
		}
	}
	return true
}

// Failed counts a failure. From that of the number free in a row on each doubles the pause, from one second.
func (l *Limiter) Failed(now time.Time, free int64, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) >= maxKeys {
		l.clean(now)
	}
	for _, k := range keys {
		f := l.seen[k]
		if f == nil || now.Sub(f.last) > forget {
			f = &failures{}
			l.seen[k] = f
		}
		f.n++
		f.last = now
		if over := f.n - int(free); over >= 0 {
			f.until = now.Add(min(time.Second<<min(over, 10), maxPause))
		}
	}
}

// Succeeded forgets failures.
func (l *Limiter) Succeeded(keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		delete(l.seen, k)
	}
}

// clean forgets what is old, or everything where nothing is.
func (l *Limiter) clean(now time.Time) {
	for k, f := range l.seen {
		if now.Sub(f.last) > forget {
			delete(l.seen, k)
		}
	}
	if len(l.seen) >= maxKeys {
		for k, f := range l.seen {
			if !now.Before(f.until) {
				delete(l.seen, k)
			}
		}
	}
	if len(l.seen) >= maxKeys {
		clear(l.seen)
	}
}
