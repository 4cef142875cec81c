package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

const form = "application/x-www-form-urlencoded"

// request makes a signed request, split between query and body after the first n parameters.
func request(c *apitest.Cloud, method, path string, n int, contentType string, pairs ...string) *http.Request {
	u := c.Users["a-user"]
	v := url.Values{"apiKey": {u.APIKey}}
	order := []string{"apiKey"}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		order = append(order, pairs[i])
	}
	v.Set("signature", api.Sign(v, u.Secret))
	order = append(order, "signature")
	var parts []string
	for _, k := range order {
		parts = append(parts, url.QueryEscape(k)+"="+url.QueryEscape(v.Get(k)))
	}
	r := httptest.NewRequest(method, path+"?"+strings.Join(parts[:n], "&"), strings.NewReader(strings.Join(parts[n:], "&")))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

func TestRequestForms(t *testing.T) {
	c := world(t, nil)
	for _, x := range []struct {
		name, method, path string
		n                  int
		contentType        string
		pairs              []string
	}{
		{"GET", "GET", "/client/api", 4, "", []string{"command", "listThings", "response", "json"}},
		{"GET with a slash and a content type", "GET", "/client/api/", 4, form + ";charset=utf-8", []string{"command", "listThings", "response", "json"}},
		{"POST", "POST", "/client/api", 0, form, []string{"command", "listThings", "response", "json"}},
		{"POST without a content type", "POST", "/client/api", 0, "", []string{"command", "listThings", "response", "json"}},
		{"mixed", "POST", "/client/api/", 2, form + "; charset=UTF-8", []string{"command", "listThings", "response", "json"}},
		{"names and values in other cases", "GET", "/client/api", 5, "", []string{"COMMAND", "listthings", "RESPONSE", "JSON", "listAll", "False"}},
		{"parameters of other versions", "GET", "/client/api", 6, "", []string{"command", "listThings", "response", "json", "filter", "name,id", "vpc_id", "1"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := c.Do(request(c, x.method, x.path, x.n, x.contentType, x.pairs...))
			if a.Status != 200 || a.Envelope != "listthingsresponse" || strings.Join(names(a, "thing"), "") != "a-user" {
				t.Errorf("%d %s", a.Status, a.Raw)
			}
			if got := a.Header.Get("Content-Type"); got != "application/json; charset=UTF-8" {
				t.Errorf("content type %s", got)
			}
			if a.Header.Get("Set-Cookie") != "" {
				t.Error("a call with an API key opens a session")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	c := world(t, nil)
	own := cloud.NameID("thing", "a-user").String()
	for _, x := range []struct {
		name, user, command string
		params              []string
		want                string // envelope code cserrorcode text
	}{
		{"no command", "a-user", "", nil, "errorresponse 432 9999 No command is given"},
		{"unknown command", "a-user", "listUnicorns", nil, "errorresponse 432 9999 The API [listUnicorns] does not exist or is not available for the account"},
		{"unknown command, nobody", "", "listIdps", nil, "errorresponse 432 9999 The API [listIdps] does not exist or is not available for the account"},
		{"of other roles", "a-user", "inspectThing", []string{"id", own}, "errorresponse 432 9999 The API [inspectThing] does not exist or is not available for the account Account [a-user]"},
		{"nobody", "", "listThings", nil, "listthingsresponse 401 4290 unable to verify user credentials and/or request signature"},
		{"missing parameter", "a-user", "createThing", nil, "createthingresponse 431 4350 Unable to execute API command creatething due to missing parameter name"},
		{"no such thing", "a-user", "deleteThing", []string{"id", own[:35] + "0"}, "deletethingresponse 431 4350 Invalid parameter id value=" + own[:35] + "0 due to incorrect long value format, or entity does not exist"},
		{"malformed", "a-user", "deleteThing", []string{"id", own, "ID", "x"}, "errorresponse 430 9999 Parameter id is given twice with different values"},
		{"taken by a bug", "a-user", "createThing", []string{"name", "broken"}, "createthingresponse 530 4250 Internal error (request *)"},
		{"panic", "a-user", "createThing", []string{"name", "panic"}, "createthingresponse 530 4250 Internal error (request *)"},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := c.Call(x.user, x.command, x.params...)
			text, code := a.Error()
			request := a.Header.Get("X-Request-Id")
			got := fmt.Sprintf("%s %d %v %s", a.Envelope, code, a.Object["cserrorcode"], strings.ReplaceAll(text, request, "*"))
			if got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
			if a.Status != code || a.Header.Get("X-Description") != text {
				t.Errorf("status %d, X-Description %q", a.Status, a.Header.Get("X-Description"))
			}
			if l, ok := a.Object["uuidList"].([]any); !ok || len(l) != 0 {
				t.Errorf("uuidList is %v", a.Object["uuidList"])
			}
			xml := c.CallXML(x.user, x.command, x.params...)
			if xml.Status != code || !strings.Contains(string(xml.Raw), fmt.Sprintf("<errorcode>%d</errorcode>", code)) {
				t.Errorf("XML: %d %s", xml.Status, xml.Raw)
			}
		})
	}
}

// A text of the caller's cannot begin another header, nor reach the body as anything but a text.
func TestHeaderInjection(t *testing.T) {
	c := world(t, nil)
	evil := "x\r\nSet-Cookie: a=b\r\n\r\n<script>"
	a := c.Call("a-user", evil)
	if d := a.Header.Get("X-Description"); strings.ContainsAny(d, "\r\n") || a.Header.Get("Set-Cookie") != "" {
		t.Errorf("headers %q", a.Header)
	}
	if bytes.Contains(a.Raw, []byte("<script>")) {
		t.Errorf("markup in %s", a.Raw)
	}
}

func TestRefusedBodies(t *testing.T) {
	c := world(t, nil)
	for name, r := range map[string]*http.Request{
		"too long":      httptest.NewRequest("POST", "/client/api", strings.NewReader("a="+strings.Repeat("x", 5<<20))),
		"JSON":          request(c, "POST", "/client/api", 0, "application/json", "command", "listThings"),
		"PUT":           httptest.NewRequest("PUT", "/client/api?command=listThings", nil),
		"bad encoding":  httptest.NewRequest("GET", "/client/api?command=%zz", nil),
		"many parts":    httptest.NewRequest("GET", "/client/api?"+strings.Repeat("a=&", 3000), nil),
		"odd separator": httptest.NewRequest("GET", "/client/api?command=listThings;response=json", nil),
	} {
		if a := c.Do(r); a.Status < 400 {
			t.Errorf("%s: %d", name, a.Status)
		}
	}
	long := strings.Repeat("x", 1<<20)
	if a := c.Call("a-user", "listThings", "unknown", long); a.Status != 200 {
		t.Errorf("a body of 1 MiB: %d", a.Status)
	}
}

// Whoever may not log in any more may not call either, from the next request on.
func TestCVE_2012_4501_CallersThatAreNotInUse(t *testing.T) {
	var secrets *seal.Keeper
	for name, change := range map[string]func(tx *store.Tx, u *apitest.User) error{
		"user disabled": func(tx *store.Tx, u *apitest.User) error {
			return tables.Users.Edit(tx, u.User.ID, func(r *cloud.User) error { r.State = cloud.Disabled; return nil })
		},
		"user locked": func(tx *store.Tx, u *apitest.User) error {
			return tables.Users.Edit(tx, u.User.ID, func(r *cloud.User) error { r.State = cloud.Locked; return nil })
		},
		"account disabled": func(tx *store.Tx, u *apitest.User) error {
			return tables.Accounts.Edit(tx, u.Account.ID, func(r *cloud.Account) error { r.State = cloud.Disabled; return nil })
		},
		"CVE-2012-4501: account of the system": func(tx *store.Tx, u *apitest.User) error {
			return tables.Accounts.Edit(tx, u.Account.ID, func(r *cloud.Account) error { r.System = true; return nil })
		},
		"domain inactive": func(tx *store.Tx, u *apitest.User) error {
			return tables.Domains.Edit(tx, u.Account.DomainID, func(r *cloud.Domain) error { r.State = cloud.Inactive; return nil })
		},
		"new secret": func(tx *store.Tx, u *apitest.User) error {
			return tables.Users.Edit(tx, u.User.ID, func(r *cloud.User) error { r.SecretKey = secrets.Seal("another"); return nil })
		},
		"new key": func(tx *store.Tx, u *apitest.User) error {
			return tables.Users.Edit(tx, u.User.ID, func(r *cloud.User) error { r.APIKey = "another"; return nil })
		},
		"user gone": func(tx *store.Tx, u *apitest.User) error { return tables.Users.Delete(tx, u.User.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			c := world(t, nil)
			secrets = c.Seal
			if a := c.Call("a-user", "listThings"); a.Status != 200 {
				t.Fatalf("before: %s", a.Raw)
			}
			c.Update(func(tx *store.Tx) error { return change(tx, c.Users["a-user"]) })
			if a := c.Call("a-user", "listThings"); a.Status != 401 {
				t.Errorf("after: %d %s", a.Status, a.Raw)
			}
		})
	}
}

// A signed request says until when it is good; it cannot be used later, nor can that be changed.
func TestReplay(t *testing.T) {
	c := world(t, nil)
	pairs := []string{"command", "createThing", "response", "json", "name", "r", "signatureversion", "3", "expires", c.Clock.Now().Add(10 * time.Minute).Format(time.RFC3339)}
	good := request(c, "GET", "/client/api", 7, "", pairs...)
	if a := c.Do(good.Clone(t.Context())); a.Status != 200 {
		t.Fatalf("in time: %s", a.Raw)
	}
	c.Clock.Advance(11 * time.Minute)
	if a := c.Do(good.Clone(t.Context())); a.Status != 401 {
		t.Errorf("too late: %d", a.Status)
	}
	later := good.Clone(t.Context())
	later.URL.RawQuery = strings.Replace(later.URL.RawQuery, "03%3A14", "04%3A14", 1)
	if later.URL.RawQuery == good.URL.RawQuery {
		t.Fatal("the test changes nothing")
	}
	if a := c.Do(later); a.Status != 401 {
		t.Errorf("with another expiry: %d", a.Status)
	}
}

// With limits, exactly so many of many calls at once succeed.
func TestCVE_2025_69233_LimitUnderConcurrency(t *testing.T) {
	c := world(t, nil)
	c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, "max.account.user.vms", "7") })
	var wg sync.WaitGroup
	codes := make(chan int, 40)
	for i := range cap(codes) {
		wg.Go(func() { codes <- c.Call("a-user", "createThing", "name", fmt.Sprint("t", i)).Status })
	}
	wg.Wait()
	close(codes)
	got := map[int]int{}
	for code := range codes {
		got[code]++
	}
	if got[200] != 7 || got[535] != 33 {
		t.Errorf("statuses %v, want 7 of 200 and 33 of 535", got)
	}
	if n := identity.Counted(c.Read(), c.Users["a-user"].Account.ID, cloud.ResourceVM); n != 7 {
		t.Errorf("%d are counted", n)
	}
	text, _ := c.Call("a-user", "createThing", "name", "more").Error()
	if want := "Maximum number of resources of type 'user_vm' for account name=a-user in domain id=" + c.Domains["ROOT/a"].ID.String() + " has been exceeded."; text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestJobs(t *testing.T) {
	c := world(t, nil)
	own := cloud.NameID("thing", "a-user").String()
	for _, x := range []struct{ mode, golden string }{{"", "job-done"}, {"fail", "job-failed"}, {"broken", "job-broken"}} {
		a := c.Call("a-user", "workThing", "id", own, "mode", x.mode)
		if a.Status != 200 || len(a.Object) != 1 {
			t.Fatalf("start: %d %s", a.Status, a.Raw)
		}
		j := c.Job("a-user", a.String("jobid"))
		c.Golden(x.golden, j)
		c.CheckSDK("queryAsyncJobResult", j)
		for _, user := range []string{"a-other", "b-admin"} {
			if a := c.Call(user, "queryAsyncJobResult", "jobid", a.String("jobid")); a.Status != 431 {
				t.Errorf("%s may ask about a foreign job: %s", user, a.Raw)
			}
		}
	}
	c.Golden("events", c.Must("a-user", "listEvents", "type", "THING.WORK", "pagesize", "6", "page", "1"))
	if a := c.Call("a-user", "workThing", "id", own); c.CallXML("a-user", "queryAsyncJobResult", "jobid", a.String("jobid")).Status != 200 {
		t.Error("a job that was just started is not known")
	}
}

// Nothing that is secret is logged, at any level, whatever goes wrong (and issue 13311).
func TestCVE_2012_5616_NoSecretIsLogged(t *testing.T) {
	var log safeBuffer
	c := world(t, &log)
	const canary = "CANARY-7f3a9c"
	c.Call("a-user", "createThing", "name", "n", "password", canary)
	c.Call("a-user", "createThing", "name", "broken", "password", canary)
	c.Call("a-user", "createThing", "name", "panic", "password", canary)
	c.Call("a-user", "createThing", "name", "n", "password", canary, "PASSWORD", canary+"2")
	c.Call("a-user", "createThing", "name", "n", "password", canary+"%zz\xff")
	c.Call("", "login", "username", "a-user", "password", canary)
	c.Do(httptest.NewRequest("GET", "/client/api?command=login&username=x&password="+canary+"&password="+canary+"x", nil))
	c.Do(httptest.NewRequest("GET", "/client/api?command=login&username=x&password="+canary+"%zz", nil))
	c.Do(httptest.NewRequest("GET", "/client/api?command=listThings&apiKey=a-user-key&signature="+canary, nil))
	c.Do(httptest.NewRequest("GET", "/client/api?command=listThings&sessionkey="+canary, nil))
	keys := c.Must("root", "registerUserKeys", "id", c.Users["a-other"].User.ID.String())
	got := log.String()
	for _, secret := range []string{canary, keys.String("userkeys.secretkey"), "a-user-secret"} {
		if strings.Contains(got, secret) {
			t.Errorf("%s is in the log:\n%s", secret, got)
		}
	}
	if !strings.Contains(got, "refused") {
		t.Errorf("nothing was logged at all: %s", got)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// An admin's parameters are nothing to others: not used, not shown.
func TestParametersOfAdmins(t *testing.T) {
	c := world(t, nil)
	if got := c.Must("a-user", "createThing", "name", "n", "hostid", "h").String("thing.name"); got != "n" {
		t.Errorf("a user's hostid was used: %s", got)
	}
	if got := c.Must("root", "createThing", "name", "n", "hostid", "h").String("thing.name"); got != "nh" {
		t.Errorf("an admin's hostid was not used: %s", got)
	}
	for user, want := range map[string]bool{"a-user": false, "root": true} {
		a := c.Must(user, "listApis", "name", "createThing")
		if got := bytes.Contains(a.Raw, []byte(`"hostid"`)); got != want {
			t.Errorf("listApis of %s shows hostid: %v", user, got)
		}
	}
	c.Golden("listApis", c.Must("a-user", "listApis", "name", "workThing"))
	if a := c.Call("a-user", "listApis", "name", "inspectThing"); a.Status != 431 {
		t.Errorf("listApis of a command that is not there: %d", a.Status)
	}
}

// Registration finds mistakes in literals.
func TestRegistryRefusals(t *testing.T) {
	commands, entities := things()
	for name, change := range map[string]func(c *api.Command){
		"no doc":          func(c *api.Command) { c.Doc = "" },
		"no roles":        func(c *api.Command) { c.Roles = 0 },
		"no handler":      func(c *api.Command) { c.Run = api.Handler{} },
		"list, no object": func(c *api.Command) { c.Object = "" },
		"step, not async": func(c *api.Command) { c.Step = commands[2].Step },
		"bad ref": func(c *api.Command) {
			c.Run = api.Query(func(*api.Call, *struct {
				ID cloud.ID `api:"id" ref:"unicorn"`
			},
			) (thing, error) {
				return thing{}, errors.New("never")
			})
		},
	} {
		c := commands[0]
		change(&c)
		if _, err := api.NewRegistry([]api.Command{c}, entities); err == nil {
			t.Errorf("%s: registered", name)
		}
	}
	if _, err := api.NewRegistry([]api.Command{commands[0], commands[0]}, entities); err == nil {
		t.Error("a command is registered twice")
	}
}
