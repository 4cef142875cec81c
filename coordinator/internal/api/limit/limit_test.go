package limit_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/limit"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestAnswers(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: limit.Commands()})
	a := c.Must("a-user", "listResourceLimits")
	c.Golden("listResourceLimits", a)
	c.CheckSDK("listResourceLimits", a)
	c.Golden("listResourceLimits", c.CallXML("a-user", "listResourceLimits", "resourcetype", "0"))
}

func TestWhoseLimits(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: limit.Commands()})
	a, b := c.Domains["ROOT/a"].ID, c.Domains["ROOT/b"].ID
	c.Update(func(tx *store.Tx) error {
		if err := tables.ResourceLimits.Put(tx, &cloud.ResourceLimit{ID: tx.NewID(), DomainID: a, Max: 33}); err != nil {
			return err
		}
		return tables.ResourceLimits.Put(tx, &cloud.ResourceLimit{ID: tx.NewID(), AccountID: c.Users["a-other"].Account.ID, Max: 44})
	})
	for _, x := range []struct {
		user   string
		params []string
		want   any // max of the VMs
	}{
		{"a-user", nil, 20.0},
		{"a-other", nil, 44.0},
		{"root", nil, -1.0},
		{"root", []string{"domainid", a.String()}, 33.0},
		{"root", []string{"domainid", b.String()}, -1.0},
		{"root", []string{"domainid", a.String(), "account", "a-other"}, 44.0},
		{"a-admin", []string{"account", "a-other"}, 44.0},
		{"a-admin", []string{"domainid", b.String()}, nil},
		{"a-user", []string{"account", "a-other"}, nil},
		{"a-user", []string{"domainid", a.String()}, 20.0}, // its own, not the domain's
	} {
		got := c.Call(x.user, "listResourceLimits", append(x.params, "resourcetype", "0")...)
		if got.Get("resourcelimit.max") != x.want {
			t.Errorf("%s %v: %s, want %v", x.user, x.params, got.Raw, x.want)
		}
	}
}
