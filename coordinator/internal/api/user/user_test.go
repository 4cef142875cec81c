package user_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
)

func world(t *testing.T) *apitest.Cloud { return worldWith(t, nil) }

func worldWith(t *testing.T, a user.Attempts) *apitest.Cloud {
	return apitest.New(t, apitest.Config{
		Make: func(k *seal.Keeper) []api.Command { return user.Commands(user.Deps{Seal: k, Attempts: a}) },
	})
}

func TestAnswers(t *testing.T) {
	c := world(t)
	for _, x := range []struct {
		golden, user, command string
		params                []string
	}{
		{"listUsers-own", "a-user", "listUsers", nil},
		{"listUsers-subtree", "a-admin", "listUsers", []string{"listall", "true"}},
		{"getUser", "root", "getUser", []string{"userapikey", "b-user-key"}},
		{"getUserKeys", "a-user", "getUserKeys", []string{"id", c.Users["a-user"].User.ID.String()}},
		{"createUser", "root", "createUser", []string{
			"account", "b-user", "domainid", c.Domains["ROOT/b"].ID.String(), "username", "second", "password", "p",
			"firstname", "Sec", "lastname", "Ond", "email", "s@example.org",
		}},
	} {
		a := c.Must(x.user, x.command, x.params...)
		c.Golden(x.golden, a)
		c.CheckSDK(x.command, a)
	}
	keys := c.Must("a-user", "registerUserKeys", "id", c.Users["a-user"].User.ID.String())
	c.CheckSDK("registerUserKeys", keys)
	for _, f := range []string{"apikey", "secretkey"} {
		keys.Raw = bytes.ReplaceAll(keys.Raw, []byte(keys.String("userkeys."+f)), []byte("{secret}"))
	}
	c.Golden("registerUserKeys", keys)
	c.Golden("listUsers", c.CallXML("root", "listUsers", "username", "x-user"))
}

// Keys are for their user; an admin may have those of plain users below it (CVE-2016-6813, CVE-2024-42062,
// CVE-2025-47849, CVE-2025-47713).
func TestKeys(t *testing.T) {
	for _, x := range []struct {
		caller, of string
		want       int
	}{
		{"a-user", "a-user", 200},
		{"a-user", "a-other", 431},
		{"a-user", "root", 431},
		{"a-admin", "a-user", 200},
		{"a-admin", "x-user", 200},
		{"a-admin", "b-user", 431},
		{"a-admin", "root", 431},
		{"b-admin", "a-admin", 431},
		{"root", "a-admin", 200},
	} {
		c := world(t)
		id := c.Users[x.of].User.ID.String()
		a := c.Call(x.caller, "getUserKeys", "id", id)
		if a.Status != x.want {
			t.Errorf("getUserKeys of %s by %s: %d %s", x.of, x.caller, a.Status, a.Raw)
		}
		a = c.Call(x.caller, "registerUserKeys", "id", id)
		if a.Status != x.want {
			t.Errorf("registerUserKeys of %s by %s: %d %s", x.of, x.caller, a.Status, a.Raw)
		}
		// The old keys end at once where new ones were made, and only there.
		if after := c.Call(x.of, "listUsers").Status; after != map[bool]int{true: 401, false: 200}[x.want == 200] {
			t.Errorf("the old keys of %s after %s: %d", x.of, x.caller, after)
		}
		if x.want == 200 {
			c.CheckSDK("registerUserKeys", a)
			c.Users[x.of].APIKey, c.Users[x.of].Secret = a.String("userkeys.apikey"), cloud.Secret(a.String("userkeys.secretkey"))
			if after := c.Call(x.of, "listUsers"); after.Status != 200 {
				t.Errorf("the new keys: %s", after.Raw)
			}
		}
	}
}

// A list of users tells no secret key, and the API keys of those only whose keys the caller may have; the caller stands
// first in its own list.
func TestListTellsNoKeys(t *testing.T) {
	c := world(t)
	// Another user of an admin's account, whose keys that admin may not have.
	peer := c.Must("root", "createUser", "account", "a-admin", "domainid", c.Domains["ROOT/a"].ID.String(), "username", "peer",
		"password", "p", "firstname", "P", "lastname", "Eer", "email", "p@example.org")
	c.Must("root", "registerUserKeys", "id", peer.String("user.id"))
	a := c.Must("root", "listUsers", "listall", "true")
	if strings.Contains(string(a.Raw), "secret") || a.String("user.username") != "root" {
		t.Errorf("%s", a.Raw)
	}
	told, hidden := 0, 0
	for _, caller := range []string{"root", "a-admin", "a-user"} {
		users, _ := c.Must(caller, "listUsers", "listall", "true").Get("user").([]any)
		for _, u := range users {
			row := u.(map[string]any)
			_, tells := row["apikey"]
			may := c.Call(caller, "getUserKeys", "id", row["id"].(string)).Status == 200
			if tells != may {
				t.Errorf("%s sees an API key of %v: %v, may have it: %v", caller, row["username"], tells, may)
			}
			if tells {
				told++
			} else {
				hidden++
			}
		}
	}
	if told == 0 || hidden == 0 {
		t.Errorf("%d keys told, %d hidden: the test shows nothing", told, hidden)
	}
	for user, want := range map[string]string{"a-user": "a-user", "a-admin": "a-admin", "x-user": "x-user"} {
		if got := c.Must(user, "listUsers", "listall", "true").String("user.username"); got != want {
			t.Errorf("%s is listed %s first", user, got)
		}
	}
}
