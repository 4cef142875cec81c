// Package apitest serves API commands in a test: a real store, real raft in memory, the real server and job engine,
// and a small world of domains, accounts and users to call from.
//
//	c := apitest.New(t, apitest.Config{Commands: zone.Commands(deps), Entities: zone.Entities()})
//	a := c.Call("root", "createZone", "name", "z1", "dns1", "192.0.2.1")
//	id := a.String("zone.id")
//	c.Golden("createZone", a)
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/asyncjob"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Config is what a test serves. queryAsyncJobResult and listAsyncJobs are always there, and the entities of package
// identity ("domain", "account", "user", "job").
type Config struct {
	Commands []api.Command
	Entities []api.Entity
	Settings [][]*settings.Def
	// Make, instead of Commands, makes them when the keeper exists.
	Make func(k *seal.Keeper) []api.Command
	// Kinds, when given, lists jobs that no command begins; it is called after Make.
	Kinds func() []job.Kind
	// Cut has the coordinator that runs jobs die at each of their transactions, before and after its commit.
	Cut bool
	// Throttle, when given, counts the calls of accounts.
	Throttle *api.Throttle
	// Log, when given, gets the server's log lines.
	Log io.Writer
}

// Cloud is a served world. Its users, by name: root (root admin); of domain ROOT/a: a-admin (domain admin), a-user and
// a-other (two accounts); of ROOT/a/x: x-user; of ROOT/b: b-admin (domain admin), b-user.
type Cloud struct {
	Replica  *replica.Replica
	Seal     *seal.Keeper
	Registry *api.Registry
	Settings *settings.Registry
	Server   *api.Server
	URL      string // of the endpoint, on loopback
	Users    map[string]*User
	Domains  map[string]*cloud.Domain // by path
	Clock    *Clock

	t     testing.TB
	names map[string]string // id -> placeholder, for golden answers
}

// User is one of the world's callers.
type User struct {
	User    *cloud.User
	Account *cloud.Account
	APIKey  string
	Secret  cloud.Secret
}

// Clock is the time of the world: it stands still but for Advance, and for a microsecond at each look, so that rows
// written one after the other are ordered.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now is the present time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// New serves commands until the test ends.
func New(t testing.TB, cfg Config) *Cloud {
	t.Helper()
	keeper, err := seal.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	c := &Cloud{
		t: t, Seal: keeper, Users: map[string]*User{}, Domains: map[string]*cloud.Domain{}, names: map[string]string{},
		Clock: &Clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	}
	c.Replica = replicatest.NewWith(t, 1, func(rc *replica.Config) { rc.Now = c.Clock.Now }, tables.Schema()...).Nodes[0]
	c.populate()
	c.serve(cfg)
	return c
}

func (c *Cloud) serve(cfg Config) {
	c.t.Helper()
	c.Settings = settings.New(append(slices.Clone(cfg.Settings), api.Settings(), identity.Settings(), job.Settings())...)
	commands := append(slices.Clone(cfg.Commands), asyncjob.Commands(asyncjob.Deps{Seal: c.Seal})...)
	if cfg.Make != nil {
		commands = append(commands, cfg.Make(c.Seal)...)
	}
	var err error
	entities := append(slices.Clone(cfg.Entities), asyncjob.Entities()...)
	for _, e := range identityEntities() {
		if !slices.ContainsFunc(entities, func(x api.Entity) bool { return x.Name == e.Name }) {
			entities = append(entities, e)
		}
	}
	if c.Registry, err = api.NewRegistry(commands, entities); err != nil {
		c.t.Fatal(err)
	}
	w := cfg.Log
	if w == nil {
		w = io.Discard
	}
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.Server = api.New(api.Config{
		Registry: c.Registry, Cluster: c.Replica, Settings: c.Settings, Seal: c.Seal, Log: log, Now: c.Clock.Now,
		Throttle: cfg.Throttle,
	})
	mux := http.NewServeMux()
	mux.Handle("/client/api", c.Server)
	mux.Handle("/client/api/", c.Server)
	srv := httptest.NewUnstartedServer(mux)
	srv.Listener, srv.Config.ConnContext = api.Gather(srv.Listener), api.ConnContext
	srv.Start()
	c.URL = srv.URL + "/client/api"
	kinds := c.Registry.JobKinds(c.Settings, c.Seal)
	if cfg.Kinds != nil {
		kinds = append(kinds, cfg.Kinds()...)
	}
	jobs := job.Config{
		Cluster: c.Replica, Kinds: kinds, Seal: c.Seal, Log: log, Failure: api.JobFailure, Pass: 200 * time.Millisecond, Now: c.Clock.Now,
	}
	run := job.New(jobs).Run
	if cfg.Cut {
		run = func(ctx context.Context) error { return runCut(ctx, c.Replica, jobs) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Replica.RunOnLeader(ctx, "jobs", run)
	}()
	c.t.Cleanup(func() {
		srv.Close()
		cancel()
		<-done
	})
}

// populate makes domains, accounts and users.
func (c *Cloud) populate() {
	c.t.Helper()
	admin := identity.Admin{Username: "root"}
	admin.APIKey, admin.Secret = "root-key", "root-secret"
	c.Update(func(tx *store.Tx) error {
		if _, err := identity.Bootstrap(tx, admin, c.Seal); err != nil {
			return err
		}
		root := identity.Root(tx)
		a, err := identity.CreateDomain(tx, root.ID, "a", "")
		if err != nil {
			return err
		}
		x, err := identity.CreateDomain(tx, a.ID, "x", "")
		if err != nil {
			return err
		}
		b, err := identity.CreateDomain(tx, root.ID, "b", "")
		if err != nil {
			return err
		}
		for _, d := range []*cloud.Domain{root, a, x, b} {
			c.Domains[d.Path] = d
		}
		return errors.Join(
			c.user(tx, "a-admin", cloud.DomainAdminAccount, a), c.user(tx, "a-user", cloud.UserAccount, a),
			c.user(tx, "a-other", cloud.UserAccount, a), c.user(tx, "x-user", cloud.UserAccount, x),
			c.user(tx, "b-admin", cloud.DomainAdminAccount, b), c.user(tx, "b-user", cloud.UserAccount, b),
		)
	})
	r := c.Replica.DB().Current()
	for u := range tables.Users.All(r) {
		acct, _ := tables.Accounts.Get(r, u.AccountID)
		secret, _ := c.Seal.Open(u.SecretKey)
		c.Users[u.Username] = &User{User: u, Account: acct, APIKey: u.APIKey, Secret: cloud.Secret(secret)}
		c.Name(u.ID, "user:"+u.Username)
		c.Name(acct.ID, "account:"+acct.Name)
	}
	for path, d := range c.Domains {
		c.Name(d.ID, "domain:"+path)
	}
}

func (c *Cloud) user(tx *store.Tx, name string, t cloud.AccountType, d *cloud.Domain) error {
	a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: name, Type: t, DomainID: d.ID})
	if err != nil {
		return err
	}
	u, err := identity.CreateUser(tx, identity.UserSpec{AccountID: a.ID, Username: name, FirstName: name, LastName: "Test", Email: name + "@example.org"})
	if err != nil {
		return err
	}
	return identity.SetKeys(tx, c.Seal, u.ID, name+"-key", cloud.Secret(name+"-secret"))
}

// Update writes rows directly.
func (c *Cloud) Update(f func(tx *store.Tx) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Replica.Update(ctx, f); err != nil {
		c.t.Fatal(err)
	}
}

// Read is the present state.
func (c *Cloud) Read() store.Reader { return c.Replica.DB().Current() }

// Name gives an id a readable placeholder in golden answers.
func (c *Cloud) Name(id cloud.ID, name string) { c.names[id.String()] = name }

// Answer is what a call got.
type Answer struct {
	Status   int
	Header   http.Header
	Raw      []byte
	Envelope string         // the top-level key
	Object   map[string]any // what stands in it

	t testing.TB
	// xml asks the same once more for XML; nil where the call changes something.
	xml func() *Answer
	// got is Raw as it came; tests replace in Raw what differs from run to run.
	got []byte
}

// Call makes a signed call, with parameters as name, value, name, value. user "" makes none.
func (c *Cloud) Call(user, command string, params ...string) *Answer {
	c.t.Helper()
	return c.call(user, command, "json", params)
}

// CallXML is Call for the XML answer; only Status and Raw are set.
func (c *Cloud) CallXML(user, command string, params ...string) *Answer {
	c.t.Helper()
	return c.call(user, command, "xml", params)
}

func (c *Cloud) call(user, command, format string, params []string) *Answer {
	c.t.Helper()
	if len(params)%2 != 0 {
		c.t.Fatalf("%s: parameters come in pairs: %q", command, params)
	}
	v := url.Values{"command": {command}, "response": {format}}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	if user != "" {
		u := c.Users[user]
		if u == nil {
			c.t.Fatalf("there is no user %q", user)
		}
		v.Set("apiKey", u.APIKey)
		v.Set("signature", api.Sign(v, u.Secret))
	}
	r := httptest.NewRequest(http.MethodPost, "/client/api", strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a := c.Do(r)
	a.got = slices.Clone(a.Raw)
	c.checkEvents(user, command, a)
	if format == "json" && asks(command) {
		a.xml = func() *Answer { return c.call(user, command, "xml", params) }
	}
	return a
}

// asks tells whether a command only reads, by its name.
func asks(command string) bool {
	return strings.HasPrefix(command, "list") || strings.HasPrefix(command, "query")
}

// Do serves any request.
func (c *Cloud) Do(r *http.Request) *Answer {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.Server.ServeHTTP(w, r)
	a := &Answer{Status: w.Code, Header: w.Result().Header, Raw: w.Body.Bytes(), t: c.t}
	if strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") && len(a.Raw) > 0 {
		var top map[string]map[string]any
		if err := json.Unmarshal(a.Raw, &top); err != nil || len(top) != 1 {
			c.t.Fatalf("the answer is not one JSON object in an envelope (%v): %s", err, a.Raw)
		}
		for a.Envelope, a.Object = range top { //nolint:revive // the only one
		}
	}
	return a
}

// Must is Call that fails the test unless it succeeds; it waits for the job of an asynchronous command and then
// returns the jobresult as the Object.
func (c *Cloud) Must(user, command string, params ...string) *Answer {
	c.t.Helper()
	a := c.Call(user, command, params...)
	if a.Status != http.StatusOK {
		c.t.Fatalf("%s by %s: %s", command, user, a.Raw)
	}
	if id, ok := a.Object["jobid"].(string); ok && a.Envelope != "queryasyncjobresultresponse" {
		if a = c.Job(user, id); a.Object["jobstatus"] != 1.0 {
			c.t.Fatalf("%s by %s: job failed: %s", command, user, a.Raw)
		}
		a.Object, _ = a.Object["jobresult"].(map[string]any)
	}
	return a
}

// Job waits until a job has ended and returns what queryAsyncJobResult answers.
func (c *Cloud) Job(user, id string) *Answer {
	c.t.Helper()
	var a *Answer
	replicatest.Wait(c.t, 20*time.Second, "job "+id, func() error {
		if a = c.Call(user, "queryAsyncJobResult", "jobid", id); a.Status != http.StatusOK {
			c.t.Fatalf("job %s: %s", id, a.Raw)
		}
		if a.Object["jobstatus"] == 0.0 {
			return errors.New(string(a.Raw))
		}
		return nil
	})
	c.checkJobEvents(id, a.Object["jobstatus"])
	return a
}

// Get walks the answer by a path such as "zone.0.id" ("zone.id" takes the first of a list); nil where there is nothing.
func (a *Answer) Get(path string) any {
	var v any = a.Object
	for _, step := range strings.Split(path, ".") {
		if l, ok := v.([]any); ok {
			n, err := strconv.Atoi(step)
			if err != nil {
				if len(l) == 0 {
					return nil
				}
				v = l[0]
			} else {
				if n >= len(l) {
					return nil
				}
				v = l[n]
				continue
			}
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[step]
	}
	return v
}

// String is Get for texts; it fails the test where there is none.
func (a *Answer) String(path string) string {
	a.t.Helper()
	s, ok := a.Get(path).(string)
	if !ok {
		a.t.Fatalf("no text at %s of %s", path, a.Raw)
	}
	return s
}

// Error is errortext and errorcode of a refusal.
func (a *Answer) Error() (text string, code int) {
	text, _ = a.Object["errortext"].(string)
	n, _ := a.Object["errorcode"].(float64)
	return text, int(n)
}
