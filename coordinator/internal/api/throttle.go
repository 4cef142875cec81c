package api

import (
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
)

// Settings of throttling, with CloudStack's names.
var (
	throttlingEnabled = settings.Define(settings.Def{
		Name: "api.throttling.enabled", Category: "Advanced", Type: settings.Boolean, Default: "false",
		Doc: "Whether an account's calls are limited. Root admins are not limited.",
	})
	throttlingInterval = settings.Define(settings.Def{
		Name: "api.throttling.interval", Category: "Advanced", Type: settings.Seconds, Default: "1", Min: 1, Max: 86400,
		Doc: "Seconds in which api.throttling.max calls are allowed, counted from an account's first call.",
	})
	throttlingMax = settings.Define(settings.Def{
		Name: "api.throttling.max", Category: "Advanced", Type: settings.Integer, Default: "25", Min: 1, Max: 1e6,
		Doc: "Calls that an account may make in api.throttling.interval.",
	})
	throttlingCache = settings.Define(settings.Def{
		Name: "api.throttling.cachesize", Category: "Advanced", Type: settings.Integer, Default: "50000", Min: 100, Max: 1e7,
		Doc: "Most accounts whose calls are counted at once; calls of further ones are refused until an interval ends.",
	})
)

// CallLimit tells how many calls an account may make in how many seconds; zeros where calls are not limited.
func CallLimit(v settings.View) (calls, seconds int64) {
	if !v.Bool(throttlingEnabled.Name) {
		return 0, 0
	}
	return v.Int(throttlingMax.Name), v.Int(throttlingInterval.Name)
}

// Throttle counts the calls of accounts. One counter serves the whole cluster, because every call is carried out by the
// leader, to whichever coordinator it was sent: the limit holds exactly, and not once per coordinator. A new leader
// starts all intervals anew. Calls that are refused count, too. It is safe for concurrent use.
type Throttle struct {
	mu   sync.Mutex
	seen map[cloud.ID]window
	// swept is when ended intervals were last forgotten.
	swept time.Time
}

// window is an account's present interval.
type window struct {
	began  time.Time
	issued int64
}

// NewThrottle makes an empty counter.
func NewThrottle() *Throttle { return &Throttle{seen: map[cloud.ID]window{}} }

// Count counts one call of an account. wait is how long the account has to wait before its next call is allowed, zero
// where this one is.
func (t *Throttle) Count(account cloud.ID, now time.Time, v settings.View) (wait time.Duration) {
	interval, most := v.Duration(throttlingInterval.Name), v.Int(throttlingMax.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.seen[account]
	if !ok && int64(len(t.seen)) >= v.Int(throttlingCache.Name) {
		// An attacker needs that many accounts to get here. Sweeping at every call would be the next thing to attack.
		if now.Sub(t.swept) >= interval {
			t.sweep(now, interval)
		}
		if int64(len(t.seen)) >= v.Int(throttlingCache.Name) {
			return interval
		}
	}
	// A clock that was set back ends an interval, too.
	if age := now.Sub(w.began); !ok || age >= interval || age < 0 {
		w = window{began: now}
	}
	w.issued++
	t.seen[account] = w
	if w.issued > most {
		return w.began.Add(interval).Sub(now)
	}
	return 0
}

// sweep forgets intervals that have ended.
func (t *Throttle) sweep(now time.Time, interval time.Duration) {
	t.swept = now
	for id, w := range t.seen {
		if age := now.Sub(w.began); age >= interval || age < 0 {
			delete(t.seen, id)
		}
	}
}

// Issued tells how many calls an account has made in its present interval, and how long that still lasts.
func (t *Throttle) Issued(account cloud.ID, now time.Time, v settings.View) (issued int64, left time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.seen[account]
	left = w.began.Add(v.Duration(throttlingInterval.Name)).Sub(now)
	if !ok || left <= 0 {
		return 0, 0
	}
	return w.issued, left
}

// Allowed is how many calls an account may make in an interval.
func (t *Throttle) Allowed(v settings.View) int64 { return v.Int(throttlingMax.Name) }

// Reset lets an account start a new interval; the zero ID lets all.
func (t *Throttle) Reset(account cloud.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if account.IsZero() {
		clear(t.seen)
		return
	}
	delete(t.seen, account)
}

// throttle refuses a call of an account that has made too many.
func (s *Server) throttle(who *caller, v settings.View) error {
	if s.cfg.Throttle == nil || who.account.Type == cloud.RootAdminAccount || !v.Bool(throttlingEnabled.Name) {
		return nil
	}
	wait := s.cfg.Throttle.Count(who.account.ID, s.cfg.Now(), v)
	if wait <= 0 {
		return nil
	}
	return cloud.Errorf(cloud.TooManyRequests, "The given user has reached his/her account api limit, please retry after %d ms.",
		max(1, wait.Milliseconds()))
}
