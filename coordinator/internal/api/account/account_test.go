package account_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

func TestAnswers(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: account.Commands(account.Deps{})})
	c.Update(func(tx *store.Tx) error {
		return identity.Count(tx, c.Users["a-user"].Account.ID, cloud.ResourceVM, 3)
	})
	own := c.Must("a-user", "listAccounts")
	c.Golden("listAccounts", own)
	c.CheckSDK("listAccounts", own)
	c.Golden("listAccounts", c.CallXML("a-user", "listAccounts"))
	made := c.Must("root", "createAccount", "accounttype", "2", "username", "new", "password", "p", "firstname", "N", "lastname", "W",
		"email", "n@example.org", "domainid", c.Domains["ROOT/b"].ID.String())
	c.Golden("createAccount", made)
	c.CheckSDK("createAccount", made)
	c.Golden("createAccount-taken", c.Call("root", "createAccount", "username", "new", "password", "p", "firstname", "N", "lastname", "W",
		"email", "n@example.org", "domainid", c.Domains["ROOT/b"].ID.String()))
}

func TestWhoIsListed(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: account.Commands(account.Deps{})})
	for _, x := range []struct {
		user   string
		params []string
		want   int // rows; a refusal is -1
	}{
		{"root", nil, 1},
		{"root", []string{"listall", "true"}, 7},
		{"root", []string{"listall", "true", "accounttype", "2"}, 2},
		{"root", []string{"name", "x-user"}, 1},
		{"root", []string{"name", "system", "listall", "true"}, 0}, // the cloud's own account is nobody's business
		{"root", []string{"domainid", c.Domains["ROOT/a"].ID.String(), "isrecursive", "true"}, 4},
		{"root", []string{"listall", "true", "state", "disabled"}, 0},
		{"a-admin", []string{"listall", "true"}, 4},
		{"a-admin", []string{"name", "b-user"}, 0},
		{"a-admin", []string{"id", c.Users["b-user"].Account.ID.String()}, -1},
		{"a-user", []string{"listall", "true"}, 1},
		{"a-user", []string{"id", c.Users["a-other"].Account.ID.String()}, -1},
		{"a-user", []string{"name", "a-other"}, 0},
	} {
		a := c.Call(x.user, "listAccounts", x.params...)
		rows, _ := a.Object["account"].([]any)
		got := len(rows)
		if a.Status != 200 {
			got = -1
		}
		if got != x.want {
			t.Errorf("%s %v: %d rows, want %d: %s", x.user, x.params, got, x.want, a.Raw)
		}
	}
}

func TestWhoMayCreate(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: account.Commands(account.Deps{})})
	params := func(kind, domain string) []string {
		return []string{
			"accounttype", kind, "username", "n" + kind, "password", "p", "firstname", "N", "lastname", "W", "email", "n@example.org",
			"domainid", c.Domains[domain].ID.String(),
		}
	}
	for _, x := range []struct {
		user, kind, domain string
		want               int
	}{
		{"root", "0", "ROOT/a", 200},
		{"root", "1", "ROOT/a", 431}, // a root admin outside ROOT
		{"root", "5", "ROOT/a", 431},
		{"a-admin", "0", "ROOT/a", 432},
		{"a-user", "0", "ROOT/a", 432},
	} {
		if a := c.Call(x.user, "createAccount", params(x.kind, x.domain)...); a.Status != x.want {
			t.Errorf("type %s in %s by %s: %d %s, want %d", x.kind, x.domain, x.user, a.Status, a.Raw, x.want)
		}
	}
}
