package domain_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestLifeOfADomain(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: domain.Commands(domain.Deps{})})
	a := c.Domains["ROOT/a"].ID
	for _, x := range [][]string{
		{"updateDomain", "id", a.String(), "name", "renamed", "networkdomain", "a.example.org"},
		{"listDomainChildren", "listall", "true"},
	} {
		got := c.Must("root", x[0], x[1:]...)
		c.Golden(x[0], got)
		c.CheckSDK(x[0], got)
	}
	if x, _ := tables.Domains.Get(c.Read(), c.Domains["ROOT/a/x"].ID); x.Path != "ROOT/renamed/x" {
		t.Errorf("the domain below is %s", x.Path)
	}
	if got := c.Call("root", "deleteDomain", "id", a.String()); got.Status == 200 {
		t.Errorf("a domain with accounts went: %s", got.Raw)
	}
	got := c.Call("root", "deleteDomain", "id", a.String(), "cleanup", "true")
	c.Golden("deleteDomain", c.Job("root", got.String("jobid")))
	r := c.Read()
	if tables.Domains.Len(r) != 2 || tables.Accounts.Has(r, c.Users["x-user"].Account.ID) || !tables.Accounts.Has(r, c.Users["b-user"].Account.ID) {
		t.Errorf("%d domains are left", tables.Domains.Len(r))
	}
}
