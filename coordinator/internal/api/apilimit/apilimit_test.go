package apilimit_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/apilimit"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

func world(t *testing.T, settings ...string) *apitest.Cloud {
	t.Helper()
	throttle := api.NewThrottle()
	c := apitest.New(t, apitest.Config{
		Commands: append(apilimit.Commands(throttle), account.Commands(account.Deps{})...), Entities: account.Entities(), Throttle: throttle,
	})
	c.Update(func(tx *store.Tx) error {
		for i := 0; i < len(settings); i += 2 {
			if err := c.Settings.Set(tx, settings[i], settings[i+1]); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// An account may make so many calls in an interval, not one more, whatever it calls; others are not concerned, and root
// admins are not limited.
func TestLimit(t *testing.T) {
	c := world(t, "api.throttling.enabled", "true", "api.throttling.interval", "60", "api.throttling.max", "3")
	for i := range 3 {
		if a := c.Call("a-user", "listAccounts"); a.Status != http.StatusOK {
			t.Fatalf("call %d: %s", i+1, a.Raw)
		}
	}
	a := c.Call("a-user", "getApiLimit")
	text, code := a.Error()
	if a.Status != http.StatusTooManyRequests || code != 429 ||
		!strings.HasPrefix(text, "The given user has reached his/her account api limit, please retry after ") {
		t.Errorf("the fourth call: %d %s", a.Status, a.Raw)
	}
	for _, other := range []string{"a-other", "a-admin"} {
		if a := c.Call(other, "listAccounts"); a.Status != http.StatusOK {
			t.Errorf("%s pays for a-user: %s", other, a.Raw)
		}
	}
	for range 10 {
		c.Must("root", "listAccounts")
	}
	c.Clock.Advance(time.Minute)
	if got := c.Must("a-user", "getApiLimit"); got.Get("apilimit.apiIssued") != 1.0 || got.Get("apilimit.apiAllowed") != 3.0 {
		t.Errorf("in the next interval: %s", got.Raw)
	}
}

// However many calls come at once, exactly so many are carried out.
func TestLimitIsExact(t *testing.T) {
	c := world(t, "api.throttling.enabled", "true", "api.throttling.interval", "3600", "api.throttling.max", "40")
	var ok, refused atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				switch a := c.Call("a-user", "getApiLimit"); a.Status {
				case http.StatusOK:
					ok.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
				default:
					t.Errorf("%d %s", a.Status, a.Raw)
				}
			}
		})
	}
	wg.Wait()
	if ok.Load() != 40 || refused.Load() != 40 {
		t.Errorf("%d calls were carried out and %d refused, want 40 and 40", ok.Load(), refused.Load())
	}
}

func TestReset(t *testing.T) {
	c := world(t, "api.throttling.enabled", "true", "api.throttling.interval", "3600", "api.throttling.max", "1")
	spend := func() {
		t.Helper()
		for _, u := range []string{"a-user", "a-other"} {
			if a := c.Call(u, "listAccounts"); a.Status != http.StatusOK {
				t.Fatalf("%s: %s", u, a.Raw)
			}
			if a := c.Call(u, "listAccounts"); a.Status != http.StatusTooManyRequests {
				t.Fatalf("%s: %s", u, a.Raw)
			}
		}
	}
	spend()
	c.Golden("resetApiLimit", c.Must("root", "resetApiLimit", "account", c.Users["a-user"].Account.ID.String()))
	if a := c.Call("a-other", "listAccounts"); a.Status != http.StatusTooManyRequests {
		t.Errorf("the reset of one account freed another: %s", a.Raw)
	}
	c.Golden("getApiLimit", c.Must("a-user", "getApiLimit"))
	c.Must("root", "resetApiLimit")
	spend()
}

// Off by default: nothing is counted.
func TestOff(t *testing.T) {
	c := world(t)
	for range 60 {
		c.Must("a-user", "listAccounts")
	}
	a := c.Must("a-user", "getApiLimit")
	if a.Get("apilimit.apiIssued") != 0.0 || a.Get("apilimit.apiAllowed") != 25.0 || a.Get("apilimit.expireAfter") != 0.0 {
		t.Errorf("%s", a.Raw)
	}
	c.CheckSDK("getApiLimit", a)
}

// Accounts beyond the bound are refused, not let through, and do not push others out.
func TestBound(t *testing.T) {
	c := world(t, "api.throttling.interval", "60", "api.throttling.max", "5", "api.throttling.cachesize", "100")
	throttle, now := api.NewThrottle(), c.Clock.Now()
	id := func(n int) cloud.ID { return cloud.ID{1, 14: byte(n >> 8), 15: byte(n)} }
	v := c.Settings.View(c.Read())
	for i := range 100 {
		if wait := throttle.Count(id(i), now, v); wait != 0 {
			t.Fatalf("account %d has to wait %v", i, wait)
		}
	}
	if throttle.Count(id(200), now, v) == 0 {
		t.Error("an account beyond the bound is let through")
	}
	if throttle.Count(id(0), now, v) != 0 {
		t.Error("an account within the bound is refused")
	}
	if wait := throttle.Count(id(200), now.Add(2*time.Minute), v); wait != 0 {
		t.Errorf("after the interval it has to wait %v", wait)
	}
}
