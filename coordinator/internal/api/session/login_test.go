package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/session"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// login tries to log in.
func login(c *apitest.Cloud, name, password string) *apitest.Answer {
	form := url.Values{"command": {"login"}, "response": {"json"}, "username": {name}, "password": {password}, "domain": {"/a"}}
	r := httptest.NewRequest(http.MethodPost, "/client/api", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.Do(r)
}

// Guesses that come all at once are not all looked at before the first wrong ones are counted: no more than the free
// tries and as many that were under way. Right passwords that come all at once are all let in.
func TestGuessesAtOnce(t *testing.T) {
	const atOnce = 20
	var looked atomic.Int64
	begun := make(chan struct{}, atOnce)
	c := apitest.New(t, apitest.Config{Commands: session.Commands(session.Deps{
		Directory: func(_ context.Context, _ store.Reader, _ *cloud.User, _ *cloud.Account, p cloud.Secret) (bool, error) {
			looked.Add(1)
			begun <- struct{}{}
			return p == "right", nil
		},
	})})
	all := func(user, password string) (codes map[int]int) {
		var mu sync.Mutex
		var calls sync.WaitGroup
		codes = map[int]int{}
		for range atOnce {
			calls.Go(func() {
				code := login(c, user, password).Status
				mu.Lock()
				defer mu.Unlock()
				codes[code]++
			})
		}
		calls.Wait()
		return codes
	}
	if codes := all("a-other", "right"); codes[200] != atOnce {
		t.Errorf("right passwords: %v", codes)
	}
	for range atOnce {
		<-begun
	}
	looked.Store(0)
	codes := all("a-user", "wrong")
	// The address of all is one, so that its failures count, too; they are as many.
	if n := looked.Load(); n < 5 || n > 9 || codes[531] > 9 || codes[429] != atOnce-codes[531] {
		t.Errorf("%d wrong passwords were looked at, answers %v", n, codes)
	}
}

// The setting says how many wrong passwords in a row cost nothing, from the next one on.
func TestAttemptsAllowed(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: session.Commands(session.Deps{})})
	c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, "incorrect.login.attempts.allowed", "2") })
	var codes []int
	for range 3 {
		codes = append(codes, login(c, "a-user", "wrong").Status)
	}
	if !slices.Equal(codes, []int{531, 531, 429}) {
		t.Errorf("wrong passwords in a row are answered with %v", codes)
	}
}
