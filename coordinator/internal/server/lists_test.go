package server

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// lister is a list command with the parameters that it has, and values for those it requires.
type lister struct {
	*api.Command
	has      map[string]string // parameter -> type
	required []string          // name, value, ...
}

// listers are all list commands of the registry.
func (w *world) listers() (out []lister) {
	for _, d := range w.registry.Describe(api.Everyone) {
		c, _ := w.registry.Find(d.Name)
		if !c.Lists() {
			continue
		}
		l := lister{Command: c, has: map[string]string{}}
		for _, p := range d.Params {
			l.has[p.Name] = p.Type
		}
		out = append(out, l)
	}
	return out
}

// required fills a lister's required parameters for a caller.
func (w *world) required(l *lister, mine estate) {
	l.required = nil
	for _, i := range identifiers(w.registry) {
		if i.command != l.Command {
			continue
		}
		for name := range i.others {
			all := identifier{l.Command, "", "", i.roles, map[string]string{name: i.others[name]}}.parameters(mine, "")
			l.required = append(l.required, all[2:]...)
		}
		return
	}
	if l.has["templatefilter"] != "" {
		l.required = []string{"templatefilter", "executable"}
	}
	if l.Name == "listStorageProviders" {
		l.required = []string{"type", "primary"}
	}
}

// rowOf is one row of an answer.
type rowOf map[string]any

// key tells rows apart, also those without an id and templates, which stand once for each zone.
func (r rowOf) key() string {
	var parts []string
	for _, f := range []string{"id", "zoneid", "name", "key", "resourceid", "resourcetype", "accountid", "account", "type", "rule", "category"} {
		if v, ok := r[f]; ok {
			parts = append(parts, strings.TrimSpace(strings.ReplaceAll(strings.TrimSpace(f+"="+toText(v)), "\n", " ")))
		}
	}
	return strings.Join(parts, " ")
}

func toText(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(x)
	}
	return ""
}

// rows calls a list; ok is false where it was refused.
func (w *world) rowsOf(l *lister, caller string, params ...string) (rows []rowOf, count int, a answered) {
	w.t.Helper()
	a = w.call(caller, l.Name, append(slices.Clone(l.required), params...)...)
	for _, r := range a.list(l.Object) {
		rows = append(rows, r)
	}
	if n, ok := a.object["count"].(float64); ok {
		count = int(n)
	}
	return rows, count, a
}

func keys(rows []rowOf) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, r.key())
	}
	return out
}

func sortedKeys(rows []rowOf) []string {
	out := keys(rows)
	slices.Sort(out)
	return out
}

// within tells whether all of some is in all.
func within(some, all []rowOf) bool {
	have := map[string]bool{}
	for _, k := range keys(all) {
		have[k] = true
	}
	for _, k := range keys(some) {
		if !have[k] {
			return false
		}
	}
	return true
}

func where(rows []rowOf, f func(rowOf) bool) (out []rowOf) {
	for _, r := range rows {
		if f(r) {
			out = append(out, r)
		}
	}
	return out
}

// Lists of which something general does not hold, with the reason.
var (
	// Answered whole: they have no pages, and take no keyword.
	wholeLists = map[string]bool{"listApis": true, "listResourceLimits": true}
	// Beside what belongs to accounts these show what is for everybody (public templates), or by a rule of their own.
	sharedLists = map[string]bool{"listTemplates": true, "listIsos": true, "listAffinityGroupTypes": true}
	// Rows are numbered kinds, which id names.
	kindLists = map[string]bool{"listResourceLimits": true}
	// Rows have no text that a keyword could be part of: numbers, and words that the program knows.
	wordless = map[string]bool{"listCapacity": true, "listNetworkIsolationMethods": true, "listTrafficTypeImplementors": true, "listEventTypes": true, "listTimezones": true, "listHypervisors": true}
	// The id is that of the domain above the rows.
	idAbove = map[string]bool{"listDomainChildren": true}
	// The rows belong to whom they invite; the project is what they are about.
	aboutProjects = map[string]bool{"listProjectInvitations": true}
)

// Every list command with every general parameter, for the four kinds of callers. A list is compared with itself: what a
// parameter keeps is computed from the rows of the same list without it.
func TestEveryList(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *store.Tx) error {
		d, _ := tables.Domains.Get(tx, w.callers["user"].DomainID)
		return w.person(tx, "resource admin", cloud.ResourceDomainAdminAccount, d)
	})
	mine, _ := w.estates()
	mine["resource admin"] = mine["domain admin"]
	// The callers' projects have something of everything.
	for n, caller := range []string{"root", "domain admin", "user", "foreigner"} {
		p, _ := tables.Projects.Get(w.read(), mine[caller]["project"])
		w.belongings("project of "+caller, holder{p.AccountID, p.DomainID, w.callers[caller].ID}, uint64(200+n), mine["root"])
	}
	roles := map[string]api.Roles{"root": api.RootAdmin, "resource admin": api.ResourceAdmin, "domain admin": api.DomainAdmin, "user": api.User}
	tried := map[string]int{}
	for _, l := range w.listers() {
		for _, caller := range slices.Sorted(maps.Keys(roles)) {
			if l.Roles&roles[caller] == 0 {
				continue
			}
			w.required(&l, mine[caller])
			t.Run(l.Name+" by "+caller, func(t *testing.T) {
				c := listCase{w, t, &l, caller, mine, tried, nil}
				c.run()
			})
		}
	}
	for _, kind := range []string{"pages", "keyword", "id", "listall", "isrecursive", "account", "projectid", "tags"} {
		if tried[kind] < 10 {
			t.Errorf("%s was tried in %d lists only", kind, tried[kind])
		}
	}
	t.Logf("tried: %v", tried)
}

// listCase is one list by one caller.
type listCase struct {
	w      *world
	t      *testing.T
	l      *lister
	caller string
	mine   map[string]estate
	tried  map[string]int
	all    []rowOf // as wide as the list goes
}

func (c *listCase) call(params ...string) ([]rowOf, int) {
	c.t.Helper()
	rows, count, a := c.w.rowsOf(c.l, c.caller, params...)
	if a.code != 200 {
		c.t.Fatalf("%v: %s", params, a.raw)
	}
	return rows, count
}

func (c *listCase) is(what string, want, got []rowOf) {
	c.t.Helper()
	if d := diff.Diff(sortedKeys(want), sortedKeys(got)); d != "" {
		c.t.Errorf("%s (-want +got): %s", what, d)
	}
}

func (c *listCase) run() {
	var wide []string
	if c.l.has["listall"] != "" {
		wide = []string{"listall", "true"}
	}
	var count int
	c.all, count = c.call(append(wide, "pagesize", "-1")...)
	if count != len(c.all) {
		c.t.Errorf("count is %d of %d rows", count, len(c.all))
	}
	if c.l.has["page"] != "" && !wholeLists[c.l.Name] {
		c.pages(wide)
		if !wordless[c.l.Name] {
			c.keyword(wide)
		}
	}
	if c.l.has["id"] != "" && !kindLists[c.l.Name] && !idAbove[c.l.Name] {
		c.byID()
	}
	if c.l.has["listall"] != "" && !kindLists[c.l.Name] {
		c.owners()
	}
	if c.l.has["projectid"] != "" && c.l.has["listall"] != "" && !kindLists[c.l.Name] && !aboutProjects[c.l.Name] {
		c.projects()
	}
	if c.l.has["tags"] == "map" {
		c.tags(wide)
	}
}

// pages, put together, are the list; one without its size, and one too large, are refused.
func (c *listCase) pages(wide []string) {
	c.tried["pages"]++
	const size = 2
	var together []rowOf
	last := min(len(c.all)/size+1, 4)
	for page := 1; page <= last; page++ {
		rows, count := c.call(append(slices.Clone(wide), "page", strconv.Itoa(page), "pagesize", strconv.Itoa(size))...)
		if count != len(c.all) || len(rows) > size {
			c.t.Errorf("page %d has %d rows and says %d of %d", page, len(rows), count, len(c.all))
		}
		together = append(together, rows...)
	}
	if d := diff.Diff(keys(c.all[:min(len(c.all), last*size)]), keys(together)); d != "" {
		c.t.Errorf("the pages are not the list: %s", d)
	}
	if rows, _ := c.call(append(slices.Clone(wide), "page", "99999", "pagesize", "500")...); len(rows) != 0 {
		c.t.Errorf("a page past the end has %d rows", len(rows))
	}
	for _, bad := range [][]string{{"pagesize", "2"}, {"page", "1"}, {"page", "1", "pagesize", "501"}, {"page", "0", "pagesize", "2"}} {
		if _, _, a := c.w.rowsOf(c.l, c.caller, bad...); a.code != 431 {
			c.t.Errorf("%v: %s", bad, a.raw)
		}
	}
}

// What a keyword keeps is part of the list: nothing of what nobody has, and a row by its own name.
func (c *listCase) keyword(wide []string) {
	if c.l.has["keyword"] == "" {
		c.t.Error("the list takes no keyword")
		return
	}
	c.tried["keyword"]++
	if rows, _ := c.call(append(slices.Clone(wide), "keyword", "no text that a row has")...); len(rows) != 0 {
		c.t.Errorf("a keyword that nothing has shows %d rows", len(rows))
	}
	for _, r := range c.all {
		name, _ := r["name"].(string)
		if name == "" {
			continue
		}
		rows, _ := c.call(append(slices.Clone(wide), "pagesize", "-1", "keyword", strings.ToUpper(name))...)
		if !within([]rowOf{r}, rows) || !within(rows, c.all) {
			c.t.Errorf("keyword %q shows %q of %q", name, keys(rows), keys(c.all))
		}
		return
	}
}

// An id shows its row and no other; what somebody else has, nothing or a refusal.
func (c *listCase) byID() {
	c.tried["id"]++
	for _, r := range c.all[:min(len(c.all), 3)] {
		id, ok := r["id"].(string)
		if !ok {
			continue
		}
		rows, _ := c.call("id", id)
		c.is("id="+id, where(c.all, func(x rowOf) bool { return x["id"] == id }), rows)
	}
	if c.caller == "root" {
		return
	}
	for entity, id := range c.mine["foreigner"] {
		if _, infra := c.mine["root"][entity]; infra && c.mine["root"][entity] == id {
			continue
		}
		rows, _, a := c.w.rowsOf(c.l, c.caller, "id", id.String())
		if a.code == 200 && len(rows) > 0 && slices.Contains(ownedEntities, entity) {
			c.t.Errorf("id of the foreigner's %s shows %s", entity, a.raw)
		}
	}
}

// ownedEntities are what an estate has that belongs to an account.
var ownedEntities = strings.Fields(`account user project virtualmachine volume network router ipaddress firewallrule egressfirewallrule
portforwardingrule ipforwardingrule template sshkeypair asyncjobs event projectinvitation`)

// personal tells whether a list's rows tell the account they belong to.
func (c *listCase) personal() bool {
	return len(c.all) > 0 && c.all[0]["account"] != nil && !sharedLists[c.l.Name] && c.l.has["account"] != ""
}

// owners tries listall, isrecursive, account and domainid.
func (c *listCase) owners() {
	c.tried["listall"]++
	me := c.w.callers[c.caller]
	own, _ := c.call("pagesize", "-1")
	if !within(own, c.all) {
		c.t.Errorf("without listall: %q, which is not part of %q", keys(own), keys(c.all))
	}
	for _, r := range c.all {
		if r["projectid"] != nil && !aboutProjects[c.l.Name] {
			c.t.Errorf("listall shows what belongs to a project: %v", r)
		}
	}
	if !c.personal() {
		return
	}
	c.is("without listall", where(c.all, func(r rowOf) bool { return r["account"] == c.caller }), own)
	if c.l.has["domainid"] == "" {
		return
	}
	domain := me.DomainID.String()
	rows, _ := c.call("pagesize", "-1", "account", c.caller, "domainid", domain)
	c.is("account and domainid", where(c.all, func(r rowOf) bool { return r["account"] == c.caller }), rows)
	c.tried["account"]++
	if c.caller == "user" {
		for _, other := range []string{"neighbour", "foreigner", "root"} {
			params := []string{"account", other, "domainid", c.w.callers[other].DomainID.String()}
			if _, _, a := c.w.rowsOf(c.l, c.caller, params...); a.code != 431 {
				c.t.Errorf("%v: %s", params, a.raw)
			}
		}
		return
	}
	inDomain := where(c.all, func(r rowOf) bool { return r["domainid"] == domain })
	rows, _ = c.call("pagesize", "-1", "domainid", domain)
	c.is("domainid", inDomain, rows)
	rows, _ = c.call("pagesize", "-1", "domainid", domain, "isrecursive", "false")
	c.is("domainid, not recursive", inDomain, rows)
	if c.l.has["isrecursive"] != "" {
		c.tried["isrecursive"]++
		rows, _ = c.call("pagesize", "-1", "domainid", domain, "isrecursive", "true")
		c.is("domainid, recursive", c.all, rows)
		rows, _ = c.call("pagesize", "-1", "listall", "true", "isrecursive", "false")
		c.is("listall, not recursive", inDomain, rows)
	}
	if c.caller != "root" {
		if _, _, a := c.w.rowsOf(c.l, c.caller, "domainid", c.w.callers["foreigner"].DomainID.String()); a.code != 431 {
			c.t.Errorf("another domain: %s", a.raw)
		}
	}
}

// projects tries projectid.
func (c *listCase) projects() {
	c.tried["projectid"]++
	own := c.mine[c.caller]["project"].String()
	rows, _ := c.call("pagesize", "-1", "projectid", own)
	for _, r := range rows {
		if p := r["projectid"]; p != nil && p != own || p == nil && c.personal() {
			c.t.Errorf("a list of one project shows %v", r)
		}
	}
	if len(rows) == 0 && c.personal() && !slices.Contains(emptyOfProjects, c.l.Name) {
		c.t.Error("the project is empty")
	}
	every, _ := c.call("pagesize", "-1", "projectid", "-1")
	if !within(rows, every) {
		c.t.Errorf("all projects show %q, not %q of one of them", keys(every), keys(rows))
	}
	for _, r := range every {
		if r["projectid"] == nil && c.personal() {
			c.t.Errorf("a list of all projects shows %v", r)
		}
	}
	both, _ := c.call("pagesize", "-1", "projectid", "-1", "listall", "true")
	if !within(every, both) || !within(c.all, both) {
		c.t.Errorf("all projects and everything else: %q", keys(both))
	}
	if c.caller == "root" {
		return
	}
	foreign := c.mine["foreigner"]["project"].String()
	unknown := cloud.NameID("nobody's", "project").String()
	_, _, a := c.w.rowsOf(c.l, c.caller, "projectid", foreign)
	_, _, b := c.w.rowsOf(c.l, c.caller, "projectid", unknown)
	if a.code != 431 || strings.ReplaceAll(a.raw, foreign, unknown) != b.raw {
		c.t.Errorf("another's project: %s, and one that is not there: %s", a.raw, b.raw)
	}
}

// emptyOfProjects are lists of what the estates of projects do not have.
var emptyOfProjects = []string{"listUsers", "listProjectInvitations"}

// tags keeps what has the tag.
func (c *listCase) tags(wide []string) {
	c.tried["tags"]++
	// Everything of an account is tagged with its name.
	for _, x := range []struct{ value, account string }{{c.caller, c.caller}, {"nobody", ""}} {
		rows, _ := c.call(append(slices.Clone(wide), "pagesize", "-1", "tags[0].key", "of", "tags[0].value", x.value)...)
		c.is("tag of="+x.value, where(c.all, func(r rowOf) bool {
			tags, _ := r["tags"].([]any)
			return slices.ContainsFunc(tags, func(t any) bool { return t.(map[string]any)["value"] == x.value })
		}), rows)
		if x.account == "" && len(rows) > 0 {
			c.t.Errorf("nobody's tag shows %q", keys(rows))
		}
	}
	found, _ := c.call("pagesize", "-1", "projectid", c.mine[c.caller]["project"].String(), "tags[0].key", "of", "tags[0].value", "project of "+c.caller)
	if len(found) == 0 && c.l.has["projectid"] != "" && c.caller != "resource admin" {
		c.t.Error("what the project has is not found by its tag")
	}
}
