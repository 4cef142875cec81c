// Package user holds the commands of users and their API keys.
package user

import (
	"iter"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	Seal *seal.Keeper
	// Attempts, optional, counts wrong passwords together with those of login.
	Attempts Attempts
	// Hashers, optional, is shared with other commands that hash passwords.
	Hashers *identity.Hashers
}

// Attempts bounds guesses of passwords; *session.Limiter is one.
type Attempts interface {
	Allow(now time.Time, keys ...string) bool
	Failed(now time.Time, free int64, keys ...string)
	Succeeded(keys ...string)
}

// Entities lists the entity of users.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "user",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			u, ok := tables.Users.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: u.AccountID, Domain: u.DomainID}, true
		},
	}}
}

// Commands lists the commands.
func Commands(d Deps) []api.Command {
	if d.Hashers == nil {
		d.Hashers = identity.NewHashers()
	}
	return []api.Command{list(), get(), d.register(), d.keys(), d.create(), d.update(), remove(), move(), lock(), enable(), disable()}
}

// View is a user in an answer. It has no keys: those are told by getUserKeys and registerUserKeys, to whom they are.
type View struct {
	ID            cloud.ID `json:"id" doc:"the user"`
	Username      string   `json:"username" doc:"the name it logs in with"`
	FirstName     string   `json:"firstname" doc:"first name"`
	LastName      string   `json:"lastname" doc:"last name"`
	Email         string   `json:"email,omitempty" doc:"mail address"`
	Created       api.Time `json:"created" doc:"when it was made"`
	State         string   `json:"state" doc:"enabled, disabled or locked"`
	Account       string   `json:"account" doc:"its account"`
	AccountType   int      `json:"accounttype" doc:"type of its account"`
	AccountID     cloud.ID `json:"accountid" doc:"id of its account"`
	UserSource    string   `json:"usersource" doc:"where it is known from"`
	RoleID        cloud.ID `json:"roleid" doc:"its role"`
	RoleType      string   `json:"roletype" doc:"kind of its role"`
	RoleName      string   `json:"rolename" doc:"name of its role"`
	DomainID      cloud.ID `json:"domainid" doc:"its domain"`
	Domain        string   `json:"domain" doc:"name of its domain"`
	Timezone      string   `json:"timezone,omitempty" doc:"its time zone"`
	APIKey        string   `json:"apikey,omitempty" doc:"its API key, shown to whoever may have its keys; never the secret one"`
	InChildDomain bool     `json:"iscallerchilddomain" doc:"whether its domain is below the caller's"`
	IsDefault     bool     `json:"isdefault" doc:"whether it was there from the start"`
}

// NewView shows a user.
func NewView(c *api.Call, u *cloud.User) View {
	v := View{
		ID: u.ID, Username: u.Username, FirstName: u.FirstName, LastName: u.LastName, Email: u.Email,
		Created: api.Time(u.Created), State: u.State.String(), AccountID: u.AccountID, UserSource: "native",
		DomainID: u.DomainID, Timezone: u.Timezone,
	}
	if u.Directory {
		v.UserSource = "ldap"
	}
	if a, ok := tables.Accounts.Get(c.Read, u.AccountID); ok {
		r := identity.RoleOf(c.Read, a)
		v.Account, v.AccountType, v.IsDefault = a.Name, int(a.Type), identity.IsDefault(a)
		v.RoleID, v.RoleType, v.RoleName = r.ID, role.TypeName(r.Type), r.Name
	}
	if d, ok := tables.Domains.Get(c.Read, u.DomainID); ok {
		v.Domain = d.Name
	}
	if c.User != nil {
		v.InChildDomain = u.DomainID != c.Domain.ID && c.InDomain(u.DomainID)
		// Without it Ansible takes a user for one without keys, and replaces them with each run.
		if _, err := mayHold(c, u.ID); err == nil {
			v.APIKey = u.APIKey
		}
	}
	return v
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	ID       cloud.ID `api:"id" ref:"user" doc:"only this user"`
	Username string   `api:"username" doc:"only the user of this name"`
	Type     *int64   `api:"accounttype" doc:"only users of accounts of this type"`
	State    string   `api:"state" doc:"only in this state: enabled, disabled or locked"`
}

func list() api.Command {
	return api.Command{
		Name: "listUsers", Doc: "Lists users; the caller's own user comes first.", Roles: api.Everyone, Object: "user",
		Run: api.List(api.Lister[listParams, cloud.User, View]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.User], error) {
				if p.Username != "" && p.AccountName == "" && p.DomainID.IsZero() {
					c.Scope = c.AllVisible()
				}
				return selfFirst(c, p), nil
			},
			Owner:   func(_ *api.Call, u *cloud.User) api.Owner { return api.Owner{Account: u.AccountID, Domain: u.DomainID} },
			Keyword: func(u *cloud.User) string { return u.Username },
			View:    NewView,
		}),
	}
}

// selfFirst yields the caller, then everybody else by domain and name: one client takes the first as itself.
func selfFirst(c *api.Call, p *listParams) iter.Seq[*cloud.User] {
	rows := tables.Users.By(c.Read, "username", nil)
	if a, ok := c.Scope.Account(); ok {
		rows = tables.Users.By(c.Read, "account", store.K(a))
	}
	return func(yield func(*cloud.User) bool) {
		if p.wants(c, c.User) && !yield(c.User) {
			return
		}
		for u := range rows {
			if u.ID != c.User.ID && p.wants(c, u) && !yield(u) {
				return
			}
		}
	}
}

func (p *listParams) wants(c *api.Call, u *cloud.User) bool {
	switch {
	case !p.ID.IsZero() && p.ID != u.ID,
		p.Username != "" && !strings.EqualFold(p.Username, u.Username),
		p.State != "" && !strings.EqualFold(p.State, u.State.String()):
		return false
	}
	if p.Type != nil {
		a, ok := tables.Accounts.Get(c.Read, u.AccountID)
		return ok && (*p.Type == -1 || *p.Type == int64(a.Type))
	}
	return true
}

type getParams struct {
	Key string `api:"userapikey,required" doc:"the user's API key"`
}

func get() api.Command {
	return api.Command{
		Name: "getUser", Doc: "Finds a user by its API key.", Roles: api.AdminOnly, Object: "user",
		Run: api.Query(func(c *api.Call, p *getParams) (View, error) {
			u, ok := tables.Users.First(c.Read, "apikey", store.K(p.Key))
			if !ok || u.APIKey != p.Key {
				return View{}, cloud.Errorf(cloud.Invalid, "User with this userapikey does not exist")
			}
			return NewView(c, u), nil
		}),
	}
}

// Keys is a pair of keys in an answer.
type Keys struct {
	APIKey    string `json:"apikey,omitempty" doc:"the API key, which a request names"`
	SecretKey string `json:"secretkey,omitempty" doc:"the secret key, which a request is signed with"`
}

type keysParams struct {
	ID cloud.ID `api:"id,required" ref:"user" doc:"the user"`
}

// mayHold refuses a user whose keys the caller may not have, like one that does not exist.
func mayHold(c *api.Call, id cloud.ID) (*cloud.User, error) {
	u, ok := tables.Users.Get(c.Read, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	a, ok := tables.Accounts.Get(c.Read, u.AccountID)
	if !ok || a.System || !identity.MayHoldKeys(c.User, c.Account.Type, u, a.Type, c.InDomain(u.DomainID)) {
		return nil, api.NoEntity("id", id)
	}
	if u.ID != c.User.ID && c.MayManage(a) != nil {
		return nil, api.NoEntity("id", id)
	}
	return u, nil
}

func (d Deps) register() api.Command {
	return api.Command{
		Name: "registerUserKeys", Doc: "Makes new API keys for a user; the old ones end at once.", Roles: api.Everyone,
		Event: "REGISTER.USER.KEY", Entity: "User", Object: "userkeys",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *keysParams) (Keys, error) {
			u, err := mayHold(c, p.ID)
			if err != nil {
				return Keys{}, err
			}
			key, secret := identity.NewKeys()
			c.Describe(u.ID, "registering API keys of user "+u.Username)
			return Keys{key, string(secret)}, identity.SetKeys(tx, d.Seal, u.ID, key, secret)
		}),
	}
}

func (d Deps) keys() api.Command {
	return api.Command{
		Name: "getUserKeys", Doc: "Tells a user's API keys.", Since: "4.10.0", Roles: api.Everyone, Object: "userkeys",
		Run: api.Query(func(c *api.Call, p *keysParams) (Keys, error) {
			u, err := mayHold(c, p.ID)
			if err != nil {
				return Keys{}, err
			}
			secret, err := d.Seal.Open(u.SecretKey)
			return Keys{u.APIKey, secret}, err
		}),
	}
}
