package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Who sees whose things, by every parameter that says so.
func TestScope(t *testing.T) {
	c := world(t, nil)
	id := func(name string) string { return cloud.NameID("thing", name).String() }
	dom := func(path string) string { return c.Domains[path].ID.String() }
	const all = "a-admin a-other a-user b-admin b-user root x-user"
	const below = "a-admin a-other a-user x-user" // ROOT/a
	for _, x := range []struct{ user, params, want string }{
		{"root", "", "root"},
		{"root", "listall=true", all},
		{"root", "listall=true isrecursive=false", "root"},
		{"root", "listall=true isrecursive=true", all},
		{"root", "domainid=" + dom("ROOT/a"), "a-admin a-other a-user"},
		{"root", "domainid=" + dom("ROOT/a") + " isrecursive=true", below},
		{"root", "domainid=" + dom("ROOT/a") + " account=a-user", "a-user"},
		{"root", "account=A-User domainid=" + dom("ROOT/a"), "a-user"},
		{"root", "id=" + id("x-user"), "x-user"},
		{"root", "projectid=-1", ""},
		{"root", "projectid=-1 listall=true", all},
		{"a-admin", "", "a-admin"},
		{"a-admin", "listall=true", below},
		{"a-admin", "listall=true isrecursive=false", "a-admin a-other a-user"},
		{"a-admin", "domainid=" + dom("ROOT/a/x"), "x-user"},
		{"a-admin", "account=a-other", "a-other"},
		{"a-admin", "id=" + id("x-user"), "x-user"},
		{"a-admin", "id=" + id("b-user"), "431"},
		{"a-admin", "domainid=" + dom("ROOT/b"), "431"},
		{"a-admin", "domainid=" + dom("ROOT"), "431"},
		{"a-admin", "domainid=" + dom("ROOT/b") + " account=b-user", "431"},
		{"a-user", "", "a-user"},
		{"a-user", "listall=true", "a-user"},
		{"a-user", "listall=true isrecursive=true", "a-user"},
		{"a-user", "domainid=" + dom("ROOT/a"), "a-user"},
		{"a-user", "domainid=" + dom("ROOT/a") + " isrecursive=true", "a-user"},
		{"a-user", "account=a-user", "a-user"},
		{"a-user", "account=a-other", "431"},
		{"a-user", "domainid=" + dom("ROOT/a") + " account=a-other", "431"},
		{"a-user", "id=" + id("a-user"), "a-user"},
		{"a-user", "id=" + id("a-other"), "431"},
		{"a-user", "id=" + id("b-user"), "431"},
		{"a-user", "id=" + id("nobody"), "431"},
		{"a-user", "projectid=" + id("nobody"), "431"},
		{"x-user", "domainid=" + dom("ROOT/a"), "431"},
		{"b-admin", "listall=true", "b-admin b-user"},
	} {
		t.Run(x.user+" "+x.params, func(t *testing.T) {
			var params []string
			for _, p := range strings.Fields(x.params) {
				k, v, _ := strings.Cut(p, "=")
				params = append(params, k, v)
			}
			a := c.Call(x.user, "listThings", params...)
			got := strings.Join(names(a, "thing"), " ")
			if a.Status != 200 {
				got = fmt.Sprint(a.Status)
			}
			if got != x.want {
				t.Errorf("got %q, want %q: %s", got, x.want, a.Raw)
			}
		})
	}
}

// An id of somebody else's and one that nobody has are told alike, for every command and caller.
func TestForeignReadsLikeMissing(t *testing.T) {
	c := world(t, nil)
	foreign, missing := cloud.NameID("thing", "b-user").String(), cloud.NameID("thing", "nobody").String()
	for _, user := range []string{"a-user", "a-admin", "x-user"} {
		for _, command := range []string{"listThings", "workThing", "deleteThing"} {
			a, b := c.Call(user, command, "id", foreign), c.Call(user, command, "id", missing)
			if d := cmp.Diff(strings.ReplaceAll(string(a.Raw), foreign, "X"), strings.ReplaceAll(string(b.Raw), missing, "X")); d != "" || a.Status != 431 {
				t.Errorf("%s by %s: %d\n%s", command, user, a.Status, d)
			}
		}
	}
	if !tables.SSHKeyPairs.Has(c.Read(), cloud.NameID("thing", "b-user")) {
		t.Error("a foreign thing was removed")
	}
}

func TestPaging(t *testing.T) {
	c := world(t, nil)
	for _, x := range []struct{ params, want string }{
		{"", "7 a-admin a-other a-user b-admin b-user root x-user"},
		{"page=1 pagesize=3", "7 a-admin a-other a-user"},
		{"page=3 pagesize=3", "7 x-user"},
		{"page=4 pagesize=3", "7 "},
		{"page=2000000000 pagesize=500", "7 "},
		{"pagesize=-1", "7 a-admin a-other a-user b-admin b-user root x-user"},
		{"keyword=USER", "3 a-user b-user x-user"},
		{"keyword=user page=2 pagesize=2", "3 x-user"},
		{"keyword=nothing", "none"},
		{"page= pagesize=", "7 a-admin a-other a-user b-admin b-user root x-user"},
		{"pagesize=3", `431 "page" parameter is required when "pagesize" is specified`},
		{"page=1", `431 "pagesize" parameter is required when "page" is specified`},
		{"page=0 pagesize=3", `431 "page" must be at least 1`},
		{"page=-1 pagesize=3", `431 "page" must be at least 1`},
		{"page=1 pagesize=0", `431 "pagesize" must be at least 1, or -1 for all`},
		{"page=1 pagesize=501", "431 Page size can not exceed max allowed page size value: 500"},
		{"page=x pagesize=5", "431 Unable to execute API command listthings due to invalid value x for parameter page"},
	} {
		t.Run(x.params, func(t *testing.T) {
			params := []string{"listall", "true"}
			for _, p := range strings.Fields(x.params) {
				k, v, _ := strings.Cut(p, "=")
				params = append(params, k, v)
			}
			a := c.Call("root", "listThings", params...)
			got := fmt.Sprint(a.Object["count"], " ", strings.Join(names(a, "thing"), " "))
			if a.Status != 200 {
				text, code := a.Error()
				got = fmt.Sprint(code, " ", text)
			} else if len(a.Object) == 0 {
				got = "none"
			}
			if got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
	// The default page is the setting's; cs reads lists in pages of 500 until it has count rows.
	c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, "default.page.size", "2") })
	if a := c.Call("root", "listThings", "listall", "true"); a.Object["count"] != 7.0 || len(names(a, "thing")) != 2 {
		t.Errorf("with a page size of 2: %s", a.Raw)
	}
}
