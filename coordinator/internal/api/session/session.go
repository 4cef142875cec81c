// Package session holds login and logout.
//
// A wrong password is told slowly and like a wrong name. Failures are counted per user and per client address in the
// memory of the leader (a new leader starts at zero, which lets a guesser have a handful of tries more): after a few in a
// row further tries are refused for a while without looking at the password, so that neither guessing nor the cost of
// hashing can be used against the cloud. Nobody is locked out for good by somebody else's guesses.
package session

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// hashers bounds how many passwords are hashed at once; each takes 19 MiB for the time.
const hashers = 2

// asking bounds how many directories are asked at once.
const asking = 16

// Deps is what the commands need.
type Deps struct {
	// Limit, optional, is shared with other commands that look at passwords.
	Limit *Limiter
	// Directory, optional, asks the user's directories whether a password is right. It is asked where the password kept
	// here is another, or none is kept.
	Directory func(ctx context.Context, r store.Reader, u *cloud.User, a *cloud.Account, p cloud.Secret) (bool, error)
	// NewUser, optional, asks the directories of a domain about a user that the domain does not have. What it returns makes
	// the user; nil: the directories do not say that this is one.
	NewUser func(ctx context.Context, r store.Reader, d *cloud.Domain, name string, p cloud.Secret) (Enroll, error)
}

// Enroll makes a user at its first login.
type Enroll func(tx *store.Tx) (*cloud.User, error)

// Commands lists the commands. Their limiter is shared by all calls.
func Commands(d Deps) []api.Command {
	if d.Limit == nil {
		d.Limit = NewLimiter()
	}
	h := &handlers{Deps: d, limit: d.Limit, slots: make(chan struct{}, hashers), asks: make(chan struct{}, asking)}
	return []api.Command{h.login(), logout()}
}

type handlers struct {
	Deps
	limit *Limiter
	slots chan struct{}
	asks  chan struct{}
}

type loginParams struct {
	Username string       `api:"username,required" doc:"the user's name"`
	Password cloud.Secret `api:"password,required" doc:"the user's password"`
	Domain   string       `api:"domain" doc:"path of the user's domain; ROOT where absent"`
	DomainID string       `api:"domainid" doc:"id of the user's domain, instead of its path"`
}

// Login is the answer to login. Some of its numbers are texts, because clients take them so.
type Login struct {
	Timeout        int64    `json:"timeout" doc:"seconds without a request after which the login ends"`
	SessionKey     string   `json:"sessionkey" doc:"to be sent with each request"`
	Username       string   `json:"username" doc:"the user's name"`
	UserID         cloud.ID `json:"userid" doc:"the user"`
	Account        string   `json:"account" doc:"the user's account"`
	DomainID       cloud.ID `json:"domainid" doc:"the user's domain"`
	FirstName      string   `json:"firstname" doc:"first name"`
	LastName       string   `json:"lastname" doc:"last name"`
	Type           string   `json:"type" doc:"type of the account"`
	Registered     string   `json:"registered" doc:"always false"`
	Timezone       string   `json:"timezone,omitempty" doc:"the user's time zone"`
	TimezoneOffset string   `json:"timezoneoffset,omitempty" doc:"its distance from UTC in hours"`
}

// errLogin is told for every reason alike.
var errLogin = cloud.Errorf(cloud.LoginFailed, "Failed to authenticate user; are you sure the username and password are right?")

func (h *handlers) login() api.Command {
	return api.Command{
		Name: "login", Doc: "Logs a user in.", Roles: api.NoLogin,
		Run: api.Raw(func(c *api.Call, x *api.Exchange, p *loginParams) (Login, error) {
			u, a, d := find(c.Read, p)
			who := strings.ToLower(p.Username) + "\x00" + strings.ToLower(p.Domain) + "\x00" + p.DomainID
			if u != nil {
				who = u.ID.String()
			}
			keys := []string{"user " + who, "from " + clientHost(x.Request.RemoteAddr)}
			leave, err := h.limit.Enter(c.Context(), keys[0])
			if err != nil {
				return Login{}, errLogin // the client is gone
			}
			defer leave()
			if !h.limit.Allow(c.Now, keys...) {
				return Login{}, cloud.Errorf(cloud.TooManyRequests, "Too many failed logins; try again later")
			}
			known := h.check(c, u, p.Password, keys)
			var enroll Enroll
			if !known && h.limit.Allow(c.Now, keys...) {
				known, enroll = h.ask(c, u, a, d, p)
			}
			if !known {
				h.limit.Failed(c.Now, api.LoginAttempts.Int(c.Read), keys...)
				c.Log.Warn("login failed", "username", p.Username, "from", clientHost(x.Request.RemoteAddr))
				return Login{}, errLogin
			}
			h.limit.Succeeded(keys...)
			timeout := c.Settings.Duration(api.SessionTimeout.Name)
			secret, row := api.NewSession(cloud.ID{}, c.Now, timeout)
			err = x.Update(func(tx *store.Tx) error {
				if enroll != nil {
					if u, a, err = h.enroll(c, tx, enroll, p); err != nil {
						return err
					}
				}
				row.UserID = u.ID
				if err := expire(tx, u.ID); err != nil {
					return err
				}
				row.Created, row.LastUsed = tx.Now(), tx.Now()
				if err := tables.Sessions.Put(tx, row); err != nil {
					return err
				}
				_, err := job.WriteEvent(tx, cloud.Event{
					Type: "USER.LOGIN", Description: "user has logged in", UserID: u.ID, AccountID: a.ID, DomainID: d.ID,
					ResourceID: u.ID, RequestID: c.RequestID,
				})
				return err
			})
			if err != nil {
				return Login{}, err
			}
			api.SetSessionCookies(x, secret)
			return answer(u, a, d, secret, timeout, c.Now), nil
		}),
	}
}

// find looks the user up; nil where there is none who may log in. The domain alone is given where it has no such user.
func find(r store.Reader, p *loginParams) (*cloud.User, *cloud.Account, *cloud.Domain) {
	d, ok := identity.Path(r, p.Domain)
	if p.DomainID != "" {
		id, err := cloud.ParseID(p.DomainID)
		if err != nil {
			return nil, nil, nil
		}
		d, ok = tables.Domains.Get(r, id)
	}
	if !ok || d.State != cloud.Enabled {
		return nil, nil, nil
	}
	u, ok := tables.Users.First(r, "username", store.K(d.ID, strings.ToLower(p.Username)))
	if !ok {
		return nil, nil, d
	}
	if u.State != cloud.Enabled {
		return nil, nil, nil
	}
	a, ok := tables.Accounts.Get(r, u.AccountID)
	if !ok || a.State != cloud.Enabled || a.System {
		return nil, nil, nil
	}
	return u, a, d
}

// check hashes, for a user that does not exist, too. It asks the limit again when its turn comes: of many tries at once,
// those behind the first wrong ones have been let in before these were counted.
func (h *handlers) check(c *api.Call, u *cloud.User, p cloud.Secret, keys []string) bool {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-c.Context().Done():
		return false
	}
	if !h.limit.Allow(c.Now, keys...) {
		return false
	}
	if u == nil {
		return identity.CheckPassword("", p)
	}
	return identity.CheckPassword(u.PasswordHash, p)
}

// ask asks the user's directories, or where the domain has no such user, the domain's; enroll then makes it. Servers that
// cannot be asked are told to the log; the caller learns nothing of them.
func (h *handlers) ask(c *api.Call, u *cloud.User, a *cloud.Account, d *cloud.Domain, p *loginParams) (known bool, enroll Enroll) {
	if d == nil || h.Directory == nil || u == nil && h.NewUser == nil || p.Password == "" {
		return false, nil
	}
	select {
	case h.asks <- struct{}{}:
		defer func() { <-h.asks }()
	case <-c.Context().Done():
		return false, nil
	}
	var err error
	if u != nil {
		known, err = h.Directory(c.Context(), c.Read, u, a, p.Password)
	} else {
		enroll, err = h.NewUser(c.Context(), c.Read, d, p.Username, p.Password)
		known = enroll != nil
	}
	if err != nil {
		c.Log.Warn("cannot ask a directory", "username", p.Username, "error", err)
	}
	return known, enroll
}

// enroll makes the user. Why it cannot be made is told to the log only, like why a login failed.
func (h *handlers) enroll(c *api.Call, tx *store.Tx, enroll Enroll, p *loginParams) (*cloud.User, *cloud.Account, error) {
	u, err := enroll(tx)
	var refused *cloud.Error
	if errors.As(err, &refused) {
		c.Log.Warn("cannot make the user of a directory", "username", p.Username, "error", err)
		return nil, nil, errLogin
	}
	if err != nil {
		return nil, nil, err
	}
	a, _ := tables.Accounts.Get(tx, u.AccountID)
	return u, a, nil
}

// maxSessions bounds what one user's logins keep.
const maxSessions = 100

// expire removes a user's sessions that are over, and the oldest where there are too many.
func expire(tx *store.Tx, user cloud.ID) error {
	var live []*cloud.Session
	for s := range tables.Sessions.By(tx, "user", store.K(user)) {
		if tx.Now().Sub(s.LastUsed) <= time.Duration(s.Timeout)*time.Second {
			live = append(live, s)
			continue
		}
		if err := tables.Sessions.Delete(tx, s.ID); err != nil {
			return err
		}
	}
	for len(live) >= maxSessions {
		oldest := 0
		for i, s := range live {
			if s.LastUsed.Before(live[oldest].LastUsed) {
				oldest = i
			}
		}
		if err := tables.Sessions.Delete(tx, live[oldest].ID); err != nil {
			return err
		}
		live = append(live[:oldest], live[oldest+1:]...)
	}
	return nil
}

func answer(u *cloud.User, a *cloud.Account, d *cloud.Domain, secret string, timeout time.Duration, now time.Time) Login {
	v := Login{
		Timeout: int64(timeout / time.Second), SessionKey: api.SessionKey(secret), Username: u.Username, UserID: u.ID,
		Account: a.Name, DomainID: d.ID, FirstName: u.FirstName, LastName: u.LastName, Type: strconv.Itoa(int(a.Type)),
		Registered: "false", Timezone: u.Timezone,
	}
	if loc, err := time.LoadLocation(u.Timezone); u.Timezone != "" && err == nil {
		_, offset := now.In(loc).Zone()
		v.TimezoneOffset = strconv.FormatFloat(float64(offset)/3600, 'f', 1, 64)
	}
	return v
}

// clientHost is the peer's address. What a client says about where it comes from is not believed.
func clientHost(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

type logoutParams struct{}

// Logout is the answer to logout.
type Logout struct {
	Description string `json:"description" doc:"success"`
}

// logout ends the session that the cookie names, whether or not the request shows more: whoever has the cookie may.
func logout() api.Command {
	return api.Command{
		Name: "logout", Doc: "Ends a login.", Roles: api.NoLogin,
		Run: api.Raw(func(_ *api.Call, x *api.Exchange, _ *logoutParams) (Logout, error) {
			if id, ok := api.SessionOf(x.Request); ok {
				if err := x.Update(func(tx *store.Tx) error { return tables.Sessions.Delete(tx, id) }); err != nil {
					return Logout{}, err
				}
			}
			api.SetSessionCookies(x, "")
			return Logout{"success"}, nil
		}),
	}
}
