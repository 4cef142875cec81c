package user

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type createParams struct {
	Account   string       `api:"account,required" doc:"the account of the new user"`
	DomainID  cloud.ID     `api:"domainid" ref:"domain,use" doc:"the account's domain; the caller's where absent"`
	Username  string       `api:"username,required" doc:"the name it logs in with"`
	Password  cloud.Secret `api:"password,required" len:"1024" doc:"its password"`
	FirstName string       `api:"firstname,required" doc:"first name"`
	LastName  string       `api:"lastname,required" doc:"last name"`
	Email     string       `api:"email,required" doc:"mail address"`
	Timezone  string       `api:"timezone" doc:"its time zone, as Europe/Berlin"`
	UserID    string       `api:"userid" doc:"the id it gets; chosen at random where absent"`
}

// hash is made before the transaction.
func (d Deps) hash(c *api.Call, p *createParams) (string, error) {
	return d.Hashers.Hash(c.Context(), p.Password)
}

// CheckTimezone refuses a time zone that nobody knows; empty is none.
func CheckTimezone(name string) error {
	if name == "" {
		return nil
	}
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		return cloud.Errorf(cloud.Invalid, "Invalid time zone %q: it must be a name as Europe/Berlin or UTC", name)
	}
	return nil
}

// NewID reads the id that a caller chose for a new row; zero is none.
func NewID(param, text string, taken func(cloud.ID) bool) (cloud.ID, error) {
	if text == "" {
		return cloud.ID{}, nil
	}
	id, err := cloud.ParseID(text)
	if err != nil || id.IsZero() {
		return cloud.ID{}, cloud.Errorf(cloud.Invalid, "Invalid parameter %s: it must be a UUID in lower case", param)
	}
	if taken(id) {
		return cloud.ID{}, cloud.Errorf(cloud.Invalid, "Invalid parameter %s: the id is in use", param)
	}
	return id, nil
}

func (d Deps) create() api.Command {
	return api.Command{
		Name: "createUser", Doc: "Makes a user of an account.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "USER.CREATE", Entity: "User", Object: "user",
		Run: api.ChangeWith(d.hash, func(c *api.Call, tx *store.Tx, p *createParams, hash string) (View, error) {
			a, err := c.OwnerFor(p.Account, p.DomainID, cloud.ID{})
			if err != nil {
				return View{}, err
			}
			if err := c.MayManage(a); err != nil {
				return View{}, err
			}
			if err := identity.CheckNewPassword(tx, a.DomainID, p.Username, p.Password); err != nil {
				return View{}, err
			}
			if err := CheckTimezone(p.Timezone); err != nil {
				return View{}, err
			}
			id, err := NewID("userid", p.UserID, func(id cloud.ID) bool { return tables.Users.Has(tx, id) })
			if err != nil {
				return View{}, err
			}
			u, err := identity.CreateUser(tx, identity.UserSpec{
				ID: id, AccountID: a.ID, Username: p.Username, PasswordHash: hash, FirstName: p.FirstName,
				LastName: p.LastName, Email: p.Email, Timezone: p.Timezone,
			})
			if err != nil {
				return View{}, err
			}
			c.Describe(u.ID, "creating User. User Name: "+u.Username)
			return NewView(c, u), nil
		}),
	}
}
