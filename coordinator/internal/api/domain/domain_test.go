package domain_test

import (
	"fmt"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
)

func TestAnswers(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: domain.Commands(domain.Deps{})})
	a := c.Must("a-admin", "listDomains", "name", "x")
	c.Golden("listDomains", a)
	c.CheckSDK("listDomains", a)
	c.Golden("listDomains", c.CallXML("a-admin", "listDomains", "name", "x"))
	made := c.Must("root", "createDomain", "name", "new", "parentdomainid", c.Domains["ROOT/b"].ID.String(), "networkdomain", "new.example")
	c.Golden("createDomain", made)
	c.CheckSDK("createDomain", made)
	c.Golden("createDomain-taken", c.Call("root", "createDomain", "name", "NEW", "parentdomainid", c.Domains["ROOT/b"].ID.String()))
}

func TestWhoSeesWhich(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: domain.Commands(domain.Deps{})})
	for _, x := range []struct {
		user   string
		params []string
		want   string
	}{
		{"root", nil, "ROOT ROOT/a ROOT/a/x ROOT/b"},
		{"root", []string{"level", "1"}, "ROOT/a ROOT/b"},
		{"root", []string{"id", c.Domains["ROOT/b"].ID.String()}, "ROOT/b"},
		{"root", []string{"keyword", "X"}, "ROOT/a/x"},
		{"a-admin", []string{"listall", "true"}, "ROOT/a ROOT/a/x"},
		{"a-admin", []string{"id", c.Domains["ROOT/b"].ID.String()}, "431"},
		{"a-admin", []string{"id", c.Domains["ROOT"].ID.String()}, "431"},
		{"a-user", nil, "ROOT/a"},
		{"a-user", []string{"id", c.Domains["ROOT/a"].ID.String()}, "ROOT/a"},
		{"a-user", []string{"id", c.Domains["ROOT/a/x"].ID.String()}, "431"},
	} {
		a := c.Call(x.user, "listDomains", x.params...)
		got := ""
		rows, _ := a.Object["domain"].([]any)
		for i := range rows {
			if i > 0 {
				got += " "
			}
			got += a.String(fmt.Sprintf("domain.%d.path", i))
		}
		if a.Status != 200 {
			got = fmt.Sprint(a.Status)
		}
		if got != x.want {
			t.Errorf("%s %v: %q, want %q", x.user, x.params, got, x.want)
		}
	}
}
