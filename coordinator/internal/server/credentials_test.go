package server

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// No command does anything for a request that is signed wrongly, was signed for a time that is over, or says no time
// where it says version 3: not even as far as looking at its parameters.
func TestEveryCommandNeedsGoodSignature(t *testing.T) {
	w := newWorld(t)
	sign := func(secret string, pairs ...string) url.Values {
		v := url.Values{"response": {"json"}, "apiKey": {"root key"}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		v.Set("signature", api.Sign(v, cloud.Secret(secret)))
		return v
	}
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	before := w.read().Index()
	for _, c := range w.registry.Commands() {
		if c.Roles&api.NoLogin != 0 {
			continue
		}
		replaced := sign("root secret", "command", "listZones")
		replaced.Set("command", c.Name)
		extended := sign("root secret", "command", c.Name, "signatureversion", "3", "expires", at(-time.Minute))
		extended.Set("expires", at(time.Hour))
		unsigned := sign("root secret", "command", c.Name)
		unsigned.Del("signature")
		bad := map[string]url.Values{
			"another's secret":          sign("user secret", "command", c.Name),
			"no signature":              unsigned,
			"a replay that has expired": sign("root secret", "command", c.Name, "signatureversion", "3", "expires", at(-time.Minute)),
			"an expiry made later":      extended,
			"version 3 and no expiry":   sign("root secret", "command", c.Name, "signatureversion", "3"),
			"version 3 and no time":     sign("root secret", "command", c.Name, "signatureversion", "3", "expires", "tomorrow"),
		}
		if c.Name != "listZones" {
			bad["the signature of another command"] = replaced
		}
		for name, v := range bad {
			a := w.send(v)
			if a.code != 401 || a.text() != "unable to verify user credentials and/or request signature" {
				t.Errorf("%s with %s: %d %s", c.Name, name, a.code, a.raw)
			}
		}
	}
	if got := w.read().Index(); got != before {
		t.Errorf("refused calls made %d commits", got-before)
	}
	good := sign("root secret", "command", "listZones", "signatureversion", "3", "expires", at(time.Minute))
	if a := w.send(good); a.code != 200 {
		t.Errorf("a good request: %s", a.raw)
	}
}

// Keys are for the user and for those above: a domain admin has neither a root admin's nor another domain's, in ROOT
// neither, and nobody learns whether such a user exists.
func TestCVE_2024_42062_CVE_2025_47849_CVE_2016_6813_KeysOfOthers(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *store.Tx) error {
		peer, _ := tables.Domains.Get(tx, w.callers["domain admin"].DomainID)
		return errors.Join(
			w.person(tx, "admin of ROOT", cloud.DomainAdminAccount, identity.Root(tx)),
			w.person(tx, "second admin", cloud.DomainAdminAccount, peer),
		)
	})
	for _, x := range []struct {
		caller, of string
		may        bool
	}{
		{"user", "user", true},
		{"user", "neighbour", false},
		{"user", "domain admin", false},
		{"user", "root", false},
		{"domain admin", "foreigner", false},
		{"domain admin", "root", false},
		{"admin of ROOT", "root", false},
		{"admin of ROOT", "domain admin", false},
		{"admin of ROOT", "admin of ROOT", true},
		{"domain admin", "second admin", false},
		{"domain admin", "neighbour", true},
		{"root", "foreigner", true},
	} {
		for _, command := range []string{"getUserKeys", "registerUserKeys"} {
			if command == "registerUserKeys" && x.may {
				continue // it would end the keys that this test calls with
			}
			id := w.callers[x.of].ID.String()
			a := w.call(x.caller, command, "id", id)
			if x.may {
				if keys, _ := a.object["userkeys"].(map[string]any); keys["secretkey"] != x.of+" secret" {
					t.Errorf("%s of %s by %s: %s", command, x.of, x.caller, a.raw)
				}
				continue
			}
			want := "Invalid parameter id value=" + id + " due to incorrect long value format, or entity does not exist"
			if a.code != 431 || a.text() != want {
				t.Errorf("%s of %s by %s: %s", command, x.of, x.caller, a.raw)
			}
		}
		if a := w.call(x.caller, "listUsers", "id", w.callers[x.of].ID.String()); strings.Contains(a.raw, "secret") {
			t.Errorf("listUsers tells %s a secret of %s: %s", x.caller, x.of, a.raw)
		}
	}
}

// browser is a client that keeps cookies.
type browser struct {
	t        *testing.T
	client   *http.Client
	endpoint string
}

func newBrowser(t *testing.T, endpoint string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar, Timeout: 20 * time.Second}, endpoint}
}

// do sends the query, or where there is one the form, with headers as name, value, ...
func (b *browser) do(query, form string, headers ...string) (int, map[string]any) {
	b.t.Helper()
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	q, err := http.NewRequestWithContext(b.t.Context(), method, b.endpoint+query, strings.NewReader(form))
	if err != nil {
		b.t.Fatal(err)
	}
	// One client says so on requests without a body, too.
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=utf-8")
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.client.Do(q)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var top map[string]map[string]any
	if err := json.Unmarshal(body, &top); err != nil {
		b.t.Fatalf("%s: %v: %s", query, err, body)
	}
	for _, object := range top {
		return res.StatusCode, object
	}
	return res.StatusCode, nil
}

func (b *browser) cookie(name string) string {
	b.t.Helper()
	u, err := url.Parse(b.endpoint)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func loginForm(env map[string]string, password string) string {
	return url.Values{
		"command": {"login"}, "username": {env["WISP_ADMIN_USER"]}, "password": {password}, "domain": {"/"}, "response": {"json"},
	}.Encode()
}

// CloudMonkey without keys: the key is read from its cookie, encoded once more, and sent as a parameter.
func TestSessionOfCloudMonkey_CVE_2024_45462(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	env := admin(t, r.cfg)
	b := newBrowser(t, "http://"+r.cfg.Plain[0]+"/client/api")
	if code, a := b.do("", loginForm(env, "wrong")); code != 531 || b.cookie("sessionkey") != "" {
		t.Errorf("with a wrong password: %d %v", code, a)
	}
	if code, a := b.do("", loginForm(env, env["WISP_ADMIN_PASSWORD"])); code != 200 || a["sessionkey"] != b.cookie("sessionkey") {
		t.Fatalf("login: %d %v, cookie %q", code, a, b.cookie("sessionkey"))
	}
	key := url.QueryEscape(b.cookie("sessionkey"))
	list := "?command=listUsers&listall=true&response=json&sessionkey=" + url.QueryEscape(key)
	if code, a := b.do(list, ""); code != 200 || a["count"] != 1.0 {
		t.Errorf("listUsers: %d %v", code, a)
	}
	old := newBrowser(t, b.endpoint)
	u, err := url.Parse(b.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	old.client.Jar.SetCookies(u, b.client.Jar.Cookies(u))
	if code, a := old.do(list, ""); code != 200 {
		t.Fatalf("the copied session: %d %v", code, a)
	}
	if code, a := b.do("?command=logout&response=json&sessionkey="+key, ""); code != 200 || a["description"] != "success" {
		t.Errorf("logout: %d %v", code, a)
	}
	if b.cookie("JSESSIONID") != "" || b.cookie("sessionkey") != "" {
		t.Error("the client keeps its cookies")
	}
	// Who kept them has nothing.
	if code, _ := old.do(list, ""); code != 401 {
		t.Errorf("the session after logout: %d", code)
	}
}

// Primate: only cookies, from its own pages; it posts with the command in the query. With the cookies a page elsewhere
// gets nothing done, by no command.
func TestSessionOfPrimate_CVE_2024_45693(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	env := admin(t, r.cfg)
	origin := "http://" + r.cfg.Plain[0]
	b := newBrowser(t, origin+"/client/api/")
	code, a := b.do("", loginForm(env, env["WISP_ADMIN_PASSWORD"]), "Origin", origin)
	if code != 200 {
		t.Fatalf("login: %d %v", code, a)
	}
	for _, f := range []string{"account", "domainid", "type", "firstname", "lastname", "userid", "username", "sessionkey"} {
		if text, ok := a[f].(string); !ok || text == "" {
			t.Errorf("the login tells no %s: %v", f, a)
		}
	}
	own := []string{"Origin", origin, "Referer", origin + "/client/", "Sec-Fetch-Site", "same-origin"}
	for _, q := range []string{"listall=true&command=listZones", "command=listApis", "command=listUsers&username=admin", "command=listCapabilities"} {
		if code, a := b.do("?"+q+"&response=json", "", own...); code != 200 {
			t.Errorf("%s: %d %v", q, code, a)
		}
	}
	if code, a := b.do("?command=createDomain&response=json", "name=made+by+a+form", own...); code != 200 {
		t.Errorf("a form with the command in the query: %d %v", code, a)
	}
	if code, _ := b.do("?command=listIdps&response=json", "", own...); code != 432 {
		t.Errorf("a command that is not there: %d", code)
	}
	before := rows(r.replica.DB().Current())
	for _, c := range r.registry.Commands() {
		if c.Roles&api.NoLogin != 0 {
			continue
		}
		query := "?response=json&command=" + c.Name
		if code, a := b.do(query, "name=x", "Origin", "https://evil.example"); code != 401 {
			t.Errorf("%s from another origin: %d %v", c.Name, code, a)
		}
		if code, a := b.do(query, "", "Sec-Fetch-Site", "cross-site"); code != 401 {
			t.Errorf("%s by a link elsewhere: %d %v", c.Name, code, a)
		}
	}
	if d := cmp.Diff(before, rows(r.replica.DB().Current())); d != "" {
		t.Errorf("refused calls changed: %s", d)
	}
}
