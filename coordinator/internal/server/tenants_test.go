package server

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// tenants is a growing cloud of random domains, accounts and projects, each account with one of everything, and a book
// of who may see what that shares nothing with the program: parents, members and owners as they were drawn.
type tenants struct {
	*world
	infra   estate
	parent  map[cloud.ID]cloud.ID          // domain -> the one above
	people  []tenant                       // accounts with a user
	members map[cloud.ID]map[cloud.ID]bool // project's account -> accounts that are members
	home    map[cloud.ID]cloud.ID          // account, also of a project -> domain
	owner   map[string]cloud.ID            // id of a row -> account that owns it
	project map[cloud.ID]cloud.ID          // account of a project -> project
	users   map[string]bool                // ids of users
	number  uint64
}

type tenant struct {
	name    string // as callers know it
	account cloud.ID
	domain  cloud.ID
	kind    cloud.AccountType
}

// grow adds a random tree below ROOT.
func (x *tenants) grow(rt *rapid.T) (people []tenant) {
	var domains []cloud.ID
	x.number++
	batch := x.number
	x.update(func(tx *store.Tx) error {
		domains = []cloud.ID{identity.Root(tx).ID}
		for i := range rapid.IntRange(1, 5).Draw(rt, "domains") {
			above := rapid.SampledFrom(domains).Draw(rt, "parent")
			d, err := identity.CreateDomain(tx, above, fmt.Sprintf("d%d-%d", batch, i), "")
			if err != nil {
				return err
			}
			x.parent[d.ID] = above
			domains = append(domains, d.ID)
		}
		return nil
	})
	for i := range rapid.IntRange(2, 5).Draw(rt, "accounts") {
		p := tenant{
			name: fmt.Sprintf("t%d-%d", batch, i), domain: rapid.SampledFrom(domains[1:]).Draw(rt, "domain"),
			kind: rapid.SampledFrom([]cloud.AccountType{cloud.UserAccount, cloud.UserAccount, cloud.DomainAdminAccount}).Draw(rt, "type"),
		}
		x.update(func(tx *store.Tx) error {
			d, _ := tables.Domains.Get(tx, p.domain)
			return x.person(tx, p.name, p.kind, d)
		})
		p.account = x.callers[p.name].AccountID
		x.home[p.account], x.users[x.callers[p.name].ID.String()] = p.domain, true
		x.owner[p.account.String()], x.owner[x.callers[p.name].ID.String()] = p.account, p.account
		x.furnish(p.name, holder{p.account, p.domain, x.callers[p.name].ID})
		people = append(people, p)
	}
	for i := range rapid.IntRange(0, 3).Draw(rt, "projects") {
		x.join(rt, people, fmt.Sprintf("p%d-%d", batch, i))
	}
	x.people = append(x.people, people...)
	return people
}

// pick draws one of people; the log of a failure tells its place only.
func pick(rt *rapid.T, what string, people []tenant) tenant {
	return people[rapid.IntRange(0, len(people)-1).Draw(rt, what)]
}

// furnish gives an account one of everything and writes down whose it is.
func (x *tenants) furnish(name string, h holder) {
	x.number++
	for entity, id := range x.belongings(name, h, x.number+300, x.infra) {
		if !slices.Contains(ofDomain, entity) {
			x.owner[id.String()] = h.account
		}
	}
}

// join makes a project with random members.
func (x *tenants) join(rt *rapid.T, people []tenant, name string) {
	owner := pick(rt, "owner", people)
	var p *cloud.Project
	x.update(func(tx *store.Tx) (err error) {
		a, _ := tables.Accounts.Get(tx, owner.account)
		p, err = identity.CreateProject(tx, a, name, "")
		return err
	})
	x.home[p.AccountID], x.project[p.AccountID] = owner.domain, p.ID
	x.owner[p.ID.String()] = p.AccountID
	x.owner[p.AccountID.String()] = p.AccountID
	x.members[p.AccountID] = map[cloud.ID]bool{owner.account: true}
	for _, m := range people {
		if rapid.IntRange(0, 2).Draw(rt, "member") > 0 {
			continue
		}
		x.members[p.AccountID][m.account] = true
		x.update(func(tx *store.Tx) error {
			if _, is := identity.Member(tx, p.ID, m.account, cloud.ID{}); is {
				return nil
			}
			return identity.AddMember(tx, p, m.account, cloud.ID{}, identity.Part{})
		})
	}
	x.furnish(name, holder{p.AccountID, owner.domain, x.callers[owner.name].ID})
}

// may is the rule: one's own, one's projects', and for a domain admin what is in the domain and below.
func (x *tenants) may(p tenant, account cloud.ID) bool {
	if p.account == account || x.members[account][p.account] {
		return true
	}
	if p.kind != cloud.DomainAdminAccount {
		return false
	}
	for d := x.home[account]; !d.IsZero(); d = x.parent[d] {
		if d == p.domain {
			return true
		}
	}
	return false
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// parameters draws what narrows or widens a list, with ids of this tenant, of others, and of nobody.
func (x *tenants) parameters(rt *rapid.T, l *lister, people []tenant) []string {
	other := pick(rt, "about", people)
	var params []string
	for _, name := range slices.Sorted(maps.Keys(l.has)) {
		var value string
		switch name {
		case "listall", "isrecursive":
			value = rapid.SampledFrom([]string{"", "true", "false"}).Draw(rt, name)
		case "projectid":
			var ids []string
			for _, account := range slices.SortedFunc(maps.Keys(x.project), func(a, b cloud.ID) int { return slices.Compare(a[:], b[:]) }) {
				ids = append(ids, x.project[account].String())
			}
			value = rapid.SampledFrom(append([]string{"", "", "-1"}, ids...)).Draw(rt, name)
		case "domainid":
			value = rapid.SampledFrom([]string{"", "", other.domain.String()}).Draw(rt, name)
		case "account":
			value = rapid.SampledFrom([]string{"", "", other.name}).Draw(rt, name)
		case "id":
			ids := []string{"", "", ""}
			if e, ok := x.someOf(other, l.Object); ok {
				ids = append(ids, e.String())
			}
			value = rapid.SampledFrom(ids).Draw(rt, name)
		case "tags":
			if l.has[name] == "map" && rapid.IntRange(0, 3).Draw(rt, name) == 0 {
				params = append(params, "tags[0].key", "of", "tags[0].value", other.name)
			}
		}
		if value != "" {
			params = append(params, name, value)
		}
	}
	return append(params, "pagesize", "-1")
}

// someOf is the id of another's row, as belongings made it.
func (x *tenants) someOf(p tenant, entity string) (cloud.ID, bool) {
	id := cloud.NameID(p.name, entity)
	_, ok := x.owner[id.String()]
	return id, ok
}

// bounded is how long the property is tried; it has no least number of tries, so a slow machine tries less.
const bounded = 5 * time.Second

// No list shows a row of another tenant, whatever it is asked: every id in an answer belongs to an account, or to a
// project, that the caller may see (CVE-2013-4317, CVE-2014-0031, CVE-2025-30675, CVE-2025-59454).
func TestCVE_2013_4317_NoListShowsOtherTenants(t *testing.T) {
	w := newWorld(t)
	x := &tenants{
		world: w, infra: w.infrastructure(), parent: map[cloud.ID]cloud.ID{}, members: map[cloud.ID]map[cloud.ID]bool{},
		home: map[cloud.ID]cloud.ID{}, owner: map[string]cloud.ID{}, project: map[cloud.ID]cloud.ID{}, users: map[string]bool{},
	}
	roles := map[cloud.AccountType]api.Roles{cloud.UserAccount: api.User, cloud.DomainAdminAccount: api.DomainAdmin}
	listers := w.listers()
	began := time.Now()
	calls, shown := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(began) > bounded {
			return
		}
		people := x.grow(rt)
		for range 150 {
			caller := pick(rt, "caller", people)
			l := listers[rapid.IntRange(0, len(listers)-1).Draw(rt, "list")]
			if l.Roles&roles[caller.kind] == 0 {
				continue
			}
			w.required(&l, estate{"project": x.anyProject(caller)})
			params := x.parameters(rt, &l, people)
			_, _, a := w.rowsOf(&l, caller.name, params...)
			calls++
			if a.code == http.StatusOK {
				shown += x.check(rt, caller, l.Name, params, a)
			} else if a.code != 431 && a.code != 531 {
				rt.Fatalf("%s %v: %s", l.Name, params, a.raw)
			}
		}
	})
	if shown == 0 {
		t.Error("the lists showed nothing at all")
	}
	t.Logf("%d calls showed %d ids of %d rows", calls, shown, len(x.owner))
}

// anyProject is one that the caller may see, where there is one.
func (x *tenants) anyProject(p tenant) cloud.ID {
	for account, project := range x.project {
		if x.may(p, account) {
			return project
		}
	}
	return cloud.NameID("nobody's", "project")
}

// mates tells whether an id names somebody, account or user, who works on a project that p may see: rows of the project
// may say who they are. What is theirs alone they keep.
func (x *tenants) mates(p tenant, id string, account cloud.ID) bool {
	if id != account.String() && !x.users[id] {
		return false
	}
	for project, members := range x.members {
		if members[account] && x.may(p, project) {
			return true
		}
	}
	return false
}

// check looks at every id of an answer, and tells how many it knew.
func (x *tenants) check(rt *rapid.T, p tenant, list string, params []string, a answered) (known int) {
	for _, id := range anyID.FindAllString(a.raw, -1) {
		account, ok := x.owner[id]
		if !ok {
			continue
		}
		known++
		if !x.may(p, account) && !x.mates(p, id, account) {
			rt.Fatalf("%s (type %d) sees %s, which is not its own, in %s %v: %s", p.name, p.kind, id, list, params, a.raw)
		}
	}
	return known
}
