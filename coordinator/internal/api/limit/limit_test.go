package limit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/limit"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestAnswers(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: limit.Commands()})
	a := c.Must("a-user", "listResourceLimits")
	c.Golden("listResourceLimits", a)
	c.CheckSDK("listResourceLimits", a)
	c.Golden("listResourceLimits", c.CallXML("a-user", "listResourceLimits", "resourcetype", "0"))
	a = c.Must("a-admin", "updateResourceLimit", "account", "a-user", "domainid", c.Domains["ROOT/a"].ID.String(), "resourcetype", "8", "max", "77")
	c.Golden("updateResourceLimit", a)
	c.CheckSDK("updateResourceLimit", a)
	a = c.Must("root", "updateResourceCount", "domainid", c.Domains["ROOT/a"].ID.String(), "resourcetype", "0")
	c.Golden("updateResourceCount", a)
	c.CheckSDK("updateResourceCount", a)
}

// Who may set which limit, and what a value may be.
func TestSetLimits(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: limit.Commands()})
	id := func(path string) string { return c.Domains[path].ID.String() }
	for _, x := range []struct {
		user   string
		params []string
		code   int
		text   string
	}{
		{"root", []string{"domainid", id("ROOT/a"), "max", "10"}, 200, ""},
		{"root", []string{"domainid", id("ROOT"), "max", "10"}, 531, "Cannot update resource limit for ROOT domain"},
		{"a-admin", []string{"domainid", id("ROOT/a"), "max", "11"}, 531, "Unable to update resource limit for domain"},
		{"a-admin", []string{"domainid", id("ROOT/a/x"), "max", "11"}, 431, "has maximum allowed resource limit 10 for user_vm, please specify a value less than or equal to 10"},
		{"a-admin", []string{"domainid", id("ROOT/a/x"), "max", "9"}, 200, ""},
		{"a-admin", []string{"domainid", id("ROOT/b"), "max", "9"}, 431, "Invalid parameter domainid value="},
		{"a-admin", []string{"domainid", id("ROOT/a"), "account", "a-user", "max", "3"}, 200, ""},
		{"a-admin", []string{"domainid", id("ROOT/a"), "account", "a-admin", "max", "3"}, 531, "Unable to update resource limit for his own account"},
		{"a-admin", []string{"max", "3"}, 431, "AccountId or domainId have to be specified"},
		{"root", []string{"domainid", id("ROOT"), "account", "root", "max", "3"}, 431, "Only -1 limit is supported for Root Admin accounts"},
		{"root", []string{"domainid", id("ROOT"), "account", "root"}, 200, ""},
		{"root", []string{"domainid", id("ROOT/a"), "max", "-2"}, 431, "Please specify either '-1' for an infinite limit, or a limit that is at least '0'."},
		{"root", []string{"domainid", id("ROOT/a"), "resourcetype", "12", "max", "1"}, 431, "resourcetype"},
		{"a-user", []string{"domainid", id("ROOT/a"), "account", "a-user", "max", "3"}, 432, ""},
	} {
		params := x.params
		if !slices.Contains(params, "resourcetype") {
			params = append(params, "resourcetype", "0")
		}
		if got := c.Call(x.user, "updateResourceLimit", params...); got.Status != x.code || !strings.Contains(string(got.Raw), x.text) {
			t.Errorf("%s %v: %d %s, want %d %s", x.user, x.params, got.Status, got.Raw, x.code, x.text)
		}
	}
}

// A counter that does not agree with the rows is put right, in the domains above as well.
func TestRecount(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: limit.Commands()})
	x := c.Users["x-user"].Account
	c.Update(func(tx *store.Tx) error {
		if err := identity.Count(tx, x.ID, cloud.ResourceVM, 5); err != nil {
			return err
		}
		return tables.VMs.Put(tx, &cloud.VM{ID: tx.NewID(), AccountID: x.ID, DomainID: x.DomainID, Name: "vm", CPUs: 2, MemoryMiB: 64})
	})
	told := func(owner cloud.ID) (n []int64) {
		for _, k := range []cloud.ResourceType{cloud.ResourceVM, cloud.ResourceCPU, cloud.ResourceMemory} {
			n = append(n, identity.Counted(c.Replica.DB().Current(), owner, k))
		}
		return n
	}
	c.Must("a-admin", "updateResourceCount", "domainid", x.DomainID.String(), "account", "x-user", "resourcetype", "0")
	if got := told(c.Domains["ROOT/a"].ID); !slices.Equal(got, []int64{1, 0, 0}) {
		t.Errorf("domain a counts %v after its VMs were counted", got)
	}
	c.Must("a-admin", "updateResourceCount", "domainid", x.DomainID.String())
	for path := range map[string]bool{"ROOT": true, "ROOT/a": true, "ROOT/a/x": true} {
		if got := told(c.Domains[path].ID); !slices.Equal(got, []int64{1, 2, 64}) {
			t.Errorf("domain %s counts %v", path, got)
		}
	}
	if a := c.Call("a-user", "updateResourceCount", "domainid", x.DomainID.String()); a.Status != 432 {
		t.Errorf("by a user: %s", a.Raw)
	}
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
		{"root", []string{"domainid", b.String()}, 40.0}, // max.domain.user.vms
		{"root", []string{"domainid", c.Domains["ROOT"].ID.String()}, -1.0},
		{"root", []string{"domainid", c.Domains["ROOT/a/x"].ID.String()}, 33.0}, // of the domain above
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
