package user_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestLifeOfAUser(t *testing.T) {
	c := world(t)
	id := c.Users["a-user"].User.ID.String()
	for _, x := range []string{"lockUser", "enableUser"} {
		a := c.Must("root", x, "id", id)
		c.Golden(x, a)
		c.CheckSDK(x, a)
	}
	up := c.Must("root", "updateUser", "id", id, "firstname", "New", "timezone", "Europe/Berlin", "password", "another one")
	c.Golden("updateUser", up)
	c.CheckSDK("updateUser", up)
	for _, x := range [][]string{
		{"a-user", "updateUser", "id", id, "password", "x2"},                                        // without the current one
		{"a-user", "updateUser", "id", id, "password", "x2", "currentpassword", "wrong"},            //
		{"root", "updateUser", "id", id, "password", "a-user"},                                      // the name
		{"root", "updateUser", "id", id, "timezone", "Nowhere/At all"},                              //
		{"a-admin", "updateUser", "id", c.Users["a-other"].User.ID.String(), "userapikey", "short"}, //
		{"a-user", "updateUser", "id", c.Users["a-other"].User.ID.String(), "firstname", "x"},       //
		{"root", "deleteUser", "id", c.Users["root"].User.ID.String()},                              // itself
	} {
		if a := c.Call(x[0], x[1], x[2:]...); a.Status == 200 {
			t.Errorf("%v: %s", x, a.Raw)
		}
	}
	c.Must("a-user", "updateUser", "id", id, "password", "a third", "currentpassword", "another one")
	a := c.Call("root", "disableUser", "id", id)
	c.Golden("disableUser", c.Job("root", a.String("jobid")))
	if a := c.Call("a-user", "listUsers"); a.Status != 401 {
		t.Errorf("a disabled user calls: %s", a.Raw)
	}
	gone := c.Must("root", "deleteUser", "id", id)
	c.Golden("deleteUser", gone)
}

// attempts is a limit that is told what to allow.
type attempts struct {
	refuse bool
	failed []string
}

func (a *attempts) Allow(time.Time, ...string) bool             { return !a.refuse }
func (a *attempts) Failed(_ time.Time, _ int64, keys ...string) { a.failed = append(a.failed, keys...) }
func (a *attempts) Succeeded(...string)                         { a.failed = nil }

// Whoever has a session of a user does not find out its password by updateUser: wrong ones count as those of login do.
func TestCurrentPasswordIsNotGuessed(t *testing.T) {
	var limit attempts
	c := worldWith(t, &limit)
	id := c.Users["a-user"].User.ID.String()
	c.Must("root", "updateUser", "id", id, "password", "the first")
	change := func(current string, want int) {
		t.Helper()
		if a := c.Call("a-user", "updateUser", "id", id, "password", "the second", "currentpassword", current); a.Status != want {
			t.Errorf("current password %q: %s, want %d", current, a.Raw, want)
		}
	}
	change("wrong", 431)
	change("wrong too", 431)
	if want := []string{"user " + id, "user " + id}; !slices.Equal(limit.failed, want) {
		t.Errorf("counted %v, want %v", limit.failed, want)
	}
	// Of a user that the caller may not change nothing is looked at.
	c.Call("a-user", "updateUser", "id", c.Users["a-other"].User.ID.String(), "password", "x", "currentpassword", "y")
	if len(limit.failed) != 2 {
		t.Errorf("counted %v", limit.failed)
	}
	limit.refuse = true
	change("the first", 429)
	limit.refuse = false
	change("the first", 200)
	if limit.failed != nil {
		t.Errorf("still counted: %v", limit.failed)
	}
}

// A user who is moved calls as the other account, with the keys and the password it had, and its logins end.
func TestMoveUser(t *testing.T) {
	c := world(t)
	id := c.Users["a-user"].User.ID.String()
	other := c.Users["a-other"].User
	for _, x := range []struct {
		name, says string
		params     []string
	}{
		{"no account", "Parameter account or accountid", nil},
		{"two accounts", "Parameter account or accountid", []string{"account", "a-other", "accountid", other.AccountID.String()}},
		{"an account of another domain", "another domain", []string{"accountid", c.Users["b-user"].User.AccountID.String()}},
		{"a name of another domain", "Unable to find account b-user", []string{"account", "b-user"}},
		{"its own account", "already", []string{"account", "a-user"}},
	} {
		if a := c.Call("root", "moveUser", append([]string{"id", id}, x.params...)...); a.Status != 431 || !strings.Contains(string(a.Raw), x.says) {
			t.Errorf("%s: %s", x.name, a.Raw)
		}
	}
	first := c.Users["root"].User
	c.Update(func(tx *store.Tx) error {
		a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: "second", Type: cloud.RootAdminAccount, DomainID: first.DomainID})
		if err != nil {
			return err
		}
		u, err := identity.CreateUser(tx, identity.UserSpec{AccountID: a.ID, Username: "second", FirstName: "S", LastName: "T", Email: "s@example.org"})
		if err != nil {
			return err
		}
		c.Users["second"] = &apitest.User{User: u, Account: a, APIKey: "second-key", Secret: "second-secret"}
		return identity.SetKeys(tx, c.Seal, u.ID, "second-key", "second-secret")
	})
	if a := c.Call("second", "moveUser", "id", first.ID.String(), "account", "second"); a.Status != 431 || !strings.Contains(string(a.Raw), "the only one") {
		t.Errorf("the first administrator's only user: %s", a.Raw)
	}
	c.Update(func(tx *store.Tx) error {
		return tables.Sessions.Put(tx, &cloud.Session{ID: cloud.NameID("move", "session"), UserID: c.Users["a-user"].User.ID})
	})
	c.Golden("moveUser", c.Must("root", "moveUser", "id", id, "account", "A-Other"))
	if got := c.Must("a-user", "listUsers", "id", id).String("user.accountid"); got != other.AccountID.String() {
		t.Errorf("the user's account is %s, want %s", got, other.AccountID)
	}
	if tables.Sessions.Has(c.Read(), cloud.NameID("move", "session")) {
		t.Error("it is still logged in as the old account")
	}
}
