package api_test

import (
	"crypto/md5" //nolint:gosec // what old clients send
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

const password = "correct horse"

// withPassword gives users of the world a password.
func withPassword(t *testing.T, users ...string) *apitest.Cloud {
	t.Helper()
	c := world(t, nil)
	hash := identity.HashPassword(password)
	c.Update(func(tx *store.Tx) error {
		for _, u := range users {
			if err := tables.Users.Edit(tx, c.Users[u].User.ID, func(r *cloud.User) error { r.PasswordHash = hash; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func post(c *apitest.Cloud, v url.Values, change func(r *http.Request)) *apitest.Answer {
	v.Set("response", "json")
	r := httptest.NewRequest("POST", "http://cloud.example:8080/client/api", strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", form)
	if change != nil {
		change(r)
	}
	return c.Do(r)
}

func logIn(c *apitest.Cloud, user, pass, domain string) (*apitest.Answer, []*http.Cookie) {
	a := post(c, url.Values{"command": {"login"}, "username": {user}, "password": {pass}, "domain": {domain}}, nil)
	return a, (&http.Response{Header: a.Header}).Cookies()
}

func TestLogin(t *testing.T) {
	c := withPassword(t, "root", "a-user", "x-user")
	a, cookies := logIn(c, "root", password, "/")
	c.CheckSDK("login", a)
	key := a.String("sessionkey")
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{40,}$`).MatchString(key) {
		t.Errorf("a client that encodes the session key %q twice would break it", key)
	}
	a.Raw = []byte(strings.ReplaceAll(string(a.Raw), key, "KEY"))
	c.Golden("login", a)
	byName := map[string]*http.Cookie{}
	for _, k := range cookies {
		byName[k.Name] = k
		if k.Path != "/client" || k.SameSite != http.SameSiteLaxMode || k.Secure {
			t.Errorf("cookie %s", k)
		}
	}
	if byName["sessionkey"].Value != key || byName["sessionkey"].HttpOnly || !byName["JSESSIONID"].HttpOnly || len(byName["JSESSIONID"].Value) != 64 {
		t.Errorf("cookies %v", cookies)
	}
	for _, x := range []struct {
		user, pass, domain string
		code               int
	}{
		{"ROOT", password, "", 200},
		{"a-user", password, "a", 200},
		{"a-user", password, "/a/", 200},
		{"a-user", password, "ROOT/A", 200},
		{"x-user", password, "/a/x", 200},
		{"a-user", password, "/", 531},
		{"a-user", password, "/nowhere", 531},
		{"a-user", password + " ", "/a", 531},
		{"nobody", password, "/", 531},
		{"system", "", "/", 431},
		{"b-user", "", "/b", 431},           // no password is no password: 4.1 asks for one
		{"b-user", "anything", "/b", 531},   // it has no password set
		{"root", md5Of(password), "/", 531}, // the MD5 of a password is not the password
	} {
		c.Clock.Advance(20 * time.Minute) // failures are forgotten
		if a, _ := logIn(c, x.user, x.pass, x.domain); a.Status != x.code {
			t.Errorf("%s in %s: %d %s, want %d", x.user, x.domain, a.Status, a.Raw, x.code)
		}
	}
}

func md5Of(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) } //nolint:gosec // what old clients send

// What of cookies and parameter makes a session, and from where.
func TestSession(t *testing.T) {
	c := withPassword(t, "a-user")
	a, cookies := logIn(c, "a-user", password, "/a")
	key := a.String("sessionkey")
	id := cookies[0]
	cookie := &http.Cookie{Name: "sessionkey", Value: key}
	wrong := &http.Cookie{Name: "sessionkey", Value: key[1:] + "x"}
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for _, x := range []struct {
		name      string
		cookies   []*http.Cookie
		parameter string
		change    func(*http.Request)
		code      int
	}{
		{"both cookies (Primate)", []*http.Cookie{id, cookie}, "", nil, 200},
		{"cookie and parameter (CloudMonkey, jQuery UI)", []*http.Cookie{id, cookie}, key, nil, 200},
		{"parameter without its cookie", []*http.Cookie{id}, key, nil, 200},
		{"no session cookie", []*http.Cookie{cookie}, key, nil, 401},
		{"no key", []*http.Cookie{id}, "", nil, 401},
		{"wrong key cookie", []*http.Cookie{id, wrong}, "", nil, 401},
		{"wrong key parameter", []*http.Cookie{id}, key[1:] + "x", nil, 401},
		{"old cookie of the same name first", []*http.Cookie{id, wrong, cookie}, "", nil, 200},
		{"nothing", nil, "", nil, 401},
		{"CVE-2024-45693: cookies from another origin", []*http.Cookie{id, cookie}, "", header("Origin", "https://evil.example"), 401},
		{"CVE-2024-45693: cookies from a sandboxed page", []*http.Cookie{id, cookie}, "", header("Origin", "null"), 401},
		{"CVE-2024-45693: cookies from another site", []*http.Cookie{id, cookie}, "", header("Sec-Fetch-Site", "cross-site"), 401},
		{"CVE-2024-45693: cookies from a sister host", []*http.Cookie{id, cookie}, "", header("Sec-Fetch-Site", "same-site"), 401},
		{"CVE-2024-45693: a link on another site", []*http.Cookie{id, cookie}, "", header("Referer", "https://evil.example/x"), 401},
		{"cookies from another port", []*http.Cookie{id, cookie}, "", header("Origin", "http://cloud.example:9090"), 401},
		{"cookies from our own pages", []*http.Cookie{id, cookie}, "", header("Origin", "http://cloud.example:8080"), 200},
		{"cookies from our own pages, by Referer", []*http.Cookie{id, cookie}, "", header("Referer", "http://cloud.example:8080/client/"), 200},
		{"typed by the user", []*http.Cookie{id, cookie}, "", header("Sec-Fetch-Site", "none"), 200},
		{"the parameter, from anywhere", []*http.Cookie{id, cookie}, key, header("Origin", "https://other.example"), 200},
	} {
		t.Run(x.name, func(t *testing.T) {
			v := url.Values{"command": {"listThings"}}
			if x.parameter != "" {
				v.Set("sessionkey", x.parameter)
			}
			a := post(c, v, func(r *http.Request) {
				for _, k := range x.cookies {
					r.AddCookie(k)
				}
				if x.change != nil {
					x.change(r)
				}
			})
			if a.Status != x.code {
				t.Errorf("%d %s, want %d", a.Status, a.Raw, x.code)
			}
		})
	}
}

func withCookies(cookies []*http.Cookie) func(*http.Request) {
	return func(r *http.Request) {
		for _, k := range cookies {
			r.AddCookie(k)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	c := withPassword(t, "a-user")
	list := func(cookies []*http.Cookie) int {
		return post(c, url.Values{"command": {"listThings"}}, withCookies(cookies)).Status
	}
	_, cookies := logIn(c, "a-user", password, "/a")
	_, other := logIn(c, "a-user", password, "/a")
	for range 5 {
		c.Clock.Advance(25 * time.Minute) // each use keeps it alive
		if got := list(cookies); got != 200 {
			t.Fatalf("a session in use ended: %d", got)
		}
	}
	if got := list(other); got != 401 {
		t.Errorf("an idle session lives on: %d", got)
	}
	a := post(c, url.Values{"command": {"logout"}}, withCookies(cookies))
	c.Golden("logout", a)
	if got := list(cookies); got != 401 {
		t.Errorf("CVE-2024-45462: after logout: %d", got)
	}
	_, cookies = logIn(c, "a-user", password, "/a")
	c.Clock.Advance(31 * time.Minute)
	if got := list(cookies); got != 401 {
		t.Errorf("after half an hour: %d", got)
	}
	_, cookies = logIn(c, "a-user", password, "/a")
	c.Update(func(tx *store.Tx) error {
		return tables.Users.Edit(tx, c.Users["a-user"].User.ID, func(r *cloud.User) error { r.State = cloud.Disabled; return nil })
	})
	if got := list(cookies); got != 401 {
		t.Errorf("of a disabled user: %d", got)
	}
	n := tables.Sessions.Len(c.Read())
	if n != 1 {
		t.Errorf("%d sessions are kept", n)
	}
}

// Guessing is slowed down, for a name and for an address, and does not keep the owner out for long.
func TestLoginLimit(t *testing.T) {
	c := withPassword(t, "a-user", "a-other")
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	try := func(user, pass, addr string) int {
		return post(c, url.Values{"command": {"login"}, "username": {user}, "password": {pass}, "domain": {"/a"}}, from(addr)).Status
	}
	for i := range 5 {
		if got := try("a-user", "guess", "192.0.2.1:1"); got != 531 {
			t.Fatalf("guess %d: %d", i, got)
		}
	}
	if got := try("a-user", "guess", "192.0.2.2:1"); got != 429 {
		t.Errorf("the same user from another address: %d", got)
	}
	if got := try("a-other", password, "192.0.2.1:9"); got != 429 {
		t.Errorf("the same address, another user: %d", got)
	}
	if got := try("a-other", password, "192.0.2.3:1"); got != 200 {
		t.Errorf("somebody else elsewhere: %d", got)
	}
	c.Clock.Advance(2 * time.Second)
	if got := try("a-user", password, "192.0.2.1:1"); got != 200 {
		t.Errorf("the owner, a moment later: %d", got)
	}
}
