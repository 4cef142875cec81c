package user_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
)

func world(t *testing.T) *apitest.Cloud {
	return apitest.New(t, apitest.Config{
		Make: func(k *seal.Keeper) []api.Command { return user.Commands(user.Deps{Seal: k}) },
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
	c.Golden("listUsers", c.CallXML("root", "listUsers", "username", "x-user"))
}
