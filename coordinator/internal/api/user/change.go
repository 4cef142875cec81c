package user

import (
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type updateParams struct {
	ID        cloud.ID     `api:"id,required" ref:"user" doc:"the user"`
	Username  string       `api:"username" doc:"new name"`
	Password  cloud.Secret `api:"password" len:"1024" doc:"new password; it ends the user's other logins"`
	Current   cloud.Secret `api:"currentpassword" since:"4.11" len:"1024" doc:"the password until now; plain users must tell it"`
	FirstName string       `api:"firstname" doc:"new first name"`
	LastName  string       `api:"lastname" doc:"new last name"`
	Email     string       `api:"email" doc:"new mail address"`
	Timezone  string       `api:"timezone" doc:"new time zone"`
	APIKey    string       `api:"userapikey" doc:"new API key; with usersecretkey"`
	SecretKey cloud.Secret `api:"usersecretkey" doc:"new secret key; with userapikey"`
}

// passwords is what updateUser has to do about passwords, done before the transaction.
type passwords struct {
	hash    string // of the new one
	checked string // the hash that the current one was found to fit
}

// prepare hashes only for a caller that may change the user, and looks at no password after too many wrong ones: whoever
// has a user's session must not find out its password.
func (d Deps) prepare(c *api.Call, p *updateParams) (passwords, error) {
	var x passwords
	if p.Current == "" && p.Password == "" {
		return x, nil
	}
	u, err := mayHold(c, p.ID)
	if err != nil {
		return x, err
	}
	err = d.Hashers.Do(c.Context(), func() error {
		if p.Current != "" {
			if err := d.check(c, u, p.Current); err != nil {
				return err
			}
			x.checked = u.PasswordHash
		}
		if p.Password != "" {
			x.hash = identity.HashPassword(p.Password)
		}
		return nil
	})
	return x, err
}

// check refuses a current password that is wrong.
func (d Deps) check(c *api.Call, u *cloud.User, current cloud.Secret) error {
	key := "user " + u.ID.String()
	if d.Attempts != nil && !d.Attempts.Allow(c.Now, key) {
		return cloud.Errorf(cloud.TooManyRequests, "Too many wrong passwords; try again later")
	}
	ok := identity.CheckPassword(u.PasswordHash, current)
	switch {
	case d.Attempts == nil:
	case ok:
		d.Attempts.Succeeded(key)
	default:
		d.Attempts.Failed(c.Now, api.LoginAttempts.Int(c.Read), key)
	}
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Current password is incorrect.")
	}
	return nil
}

// minKey is the shortest key that somebody may choose: 128 bits in hexadecimal.
const minKey = 32

func (d Deps) update() api.Command {
	return api.Command{
		Name: "updateUser", Doc: "Changes a user: its names, its password or its API keys.", Roles: api.Everyone,
		Event: "USER.UPDATE", Entity: "User", Object: "user",
		Run: api.ChangeWith(d.prepare, func(c *api.Call, tx *store.Tx, p *updateParams, x passwords) (View, error) {
			// Whoever sets a password or a key can become that user, and a mail address or a name is half of that.
			u, err := mayHold(c, p.ID)
			if err != nil {
				return View{}, err
			}
			c.Describe(u.ID, "updating User. User Name: "+u.Username)
			if err := p.setNames(u); err != nil {
				return View{}, err
			}
			if err := p.setPassword(c, tx, u, x); err != nil {
				return View{}, err
			}
			if err := d.setKeys(tx, u, p); err != nil {
				return View{}, err
			}
			if err := identity.PutUser(tx, u); err != nil {
				return View{}, err
			}
			return NewView(c, u), nil
		}),
	}
}

func (p *updateParams) setNames(u *cloud.User) error {
	for _, x := range []struct {
		to   *string
		text string
	}{{&u.Username, p.Username}, {&u.FirstName, p.FirstName}, {&u.LastName, p.LastName}, {&u.Email, p.Email}, {&u.Timezone, p.Timezone}} {
		if x.text != "" {
			*x.to = x.text
		}
	}
	return CheckTimezone(p.Timezone)
}

func (p *updateParams) setPassword(c *api.Call, tx *store.Tx, u *cloud.User, x passwords) error {
	switch {
	case p.Password == "" && p.Current == "":
		return nil
	case p.Password == "":
		return cloud.Errorf(cloud.Invalid, "Parameter currentpassword needs password")
	case p.Current == "" && !c.IsAdmin():
		return cloud.Errorf(cloud.Invalid, "To set a new password the current password must be provided.")
	case p.Current != "" && (x.checked == "" || x.checked != u.PasswordHash):
		return cloud.Errorf(cloud.Invalid, "Current password is incorrect.")
	case u.Directory:
		return cloud.Errorf(cloud.Invalid, "The password of user %s is kept in a directory and is changed there", u.Username)
	}
	if err := identity.CheckNewPassword(tx, u.DomainID, u.Username, p.Password); err != nil {
		return err
	}
	u.PasswordHash = x.hash
	return identity.EndSessions(tx, u.ID)
}

func (d Deps) setKeys(tx *store.Tx, u *cloud.User, p *updateParams) error {
	switch {
	case (p.APIKey == "") != (p.SecretKey == ""):
		return cloud.Errorf(cloud.Invalid, "Please specify both userapikey and usersecretkey")
	case p.APIKey == "":
		return nil
	case len(p.APIKey) < minKey || len(p.SecretKey) < minKey:
		return cloud.Errorf(cloud.Invalid, "Parameters userapikey and usersecretkey must have at least %d characters each; registerUserKeys makes good ones", minKey)
	}
	u.APIKey, u.SecretKey = p.APIKey, d.Seal.Seal(string(p.SecretKey))
	return nil
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"user" doc:"the user"`
}

// managed is a user that the caller may disable or remove, and that is not the caller: nobody locks itself out, and the
// first administrator stays.
func managed(c *api.Call, id cloud.ID, verb string) (*cloud.User, error) {
	u, ok := tables.Users.Get(c.Read, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	a, ok := tables.Accounts.Get(c.Read, u.AccountID)
	if !ok || a.System {
		return nil, api.NoEntity("id", id)
	}
	if err := c.MayManage(a); err != nil {
		return nil, err
	}
	if u.ID == c.User.ID {
		return nil, cloud.Errorf(cloud.Denied, "User %s cannot %s itself", u.Username, verb)
	}
	return u, nil
}

func remove() api.Command {
	return api.Command{
		Name: "deleteUser", Doc: "Removes a user; its account stays, with all that it owns.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "USER.DELETE", Entity: "User",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			u, err := managed(c, p.ID, "delete")
			if err != nil {
				return err
			}
			if err := keepFirst(tx, u, "deleted"); err != nil {
				return err
			}
			c.Describe(u.ID, "deleting User. User Name: "+u.Username)
			return identity.RemoveUser(tx, u)
		}),
	}
}

// keepFirst refuses to leave the first administrator's account without users.
func keepFirst(r store.Reader, u *cloud.User, verb string) error {
	if a, ok := tables.Accounts.Get(r, u.AccountID); ok && identity.IsDefault(a) && tables.Users.Count(r, "account", store.K(a.ID)) == 1 {
		return cloud.Errorf(cloud.Invalid, "User %s is the only one of the first administrator's account, and cannot be %s", u.Username, verb)
	}
	return nil
}

func setState(name, doc, event, verb string, s cloud.Lifecycle) api.Command {
	return api.Command{
		Name: name, Doc: doc, Roles: api.Admins, Event: event, Entity: "User", Object: "user",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *idParams) (View, error) {
			u, err := managed(c, p.ID, verb)
			if err != nil {
				return View{}, err
			}
			c.Describe(u.ID, verb+" User. User Name: "+u.Username)
			if err := identity.SetUserState(tx, u, s); err != nil {
				return View{}, err
			}
			return NewView(c, u), nil
		}),
	}
}

func lock() api.Command {
	return setState("lockUser", "Locks a user out for a while.", "USER.LOCK", "lock", cloud.Locked)
}

func enable() api.Command {
	return setState("enableUser", "Lets a disabled or locked user in again.", "USER.ENABLE", "enable", cloud.Enabled)
}

func disable() api.Command {
	return api.Command{
		Name: "disableUser", Doc: "Lets a user in no more, by login or key.", Roles: api.Admins, Event: "USER.DISABLE", Entity: "User", Object: "user",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *idParams) (*api.Start, error) {
			u, err := managed(c, p.ID, "disable")
			if err != nil {
				return nil, err
			}
			c.Describe(u.ID, "disable User. User Name: "+u.Username)
			return &api.Start{InstanceID: u.ID}, identity.SetUserState(tx, u, cloud.Disabled)
		}),
		// The call has done it all.
		Step:   func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
		Answer: reflect.TypeFor[View](),
		Result: func(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
			u, ok := tables.Users.Get(r, j.InstanceID)
			if !ok {
				return nil, cloud.Errorf(cloud.Invalid, "User %s was removed meanwhile", j.InstanceID)
			}
			return NewView(&api.Call{Read: r}, u), nil
		},
	}
}
