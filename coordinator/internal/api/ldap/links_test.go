package ldap_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/go-ldap/ldap/v3"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/api/session"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

const (
	staff  = "ou=staff,dc=example,dc=org"
	guests = "ou=guests,dc=example,dc=org"
	ops    = "cn=ops,dc=example,dc=org"
	unique = "cn=unique,dc=example,dc=org"
)

// company has users sam, sue and eve of staff, gil and another eve of guests; sam, sue and a-user are ops, gil is unique.
func company() string {
	text := `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ou=staff,dc=example,dc=org
objectClass: organizationalUnit
ou: staff

dn: ou=guests,dc=example,dc=org
objectClass: organizationalUnit
ou: guests

`
	for _, x := range []string{
		"uid=sam," + staff, "uid=sue," + staff, "uid=eve," + staff, "uid=gil," + guests, "uid=eve," + guests, "uid=a-user," + guests,
		"uid=boss," + staff, "uid=a-admin," + staff,
	} {
		name, _, _ := strings.Cut(strings.TrimPrefix(x, "uid="), ",")
		text += fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\nuid: %s\ncn: %[2]s\ngivenName: Given\nsn: Sur\nmail: %[2]s@example.org\nuserPassword: in the directory\n\n", x, name)
	}
	return text + fmt.Sprintf(`dn: %s
objectClass: groupOfNames
cn: ops
member: uid=sam,%[2]s
member: uid=sue,%[2]s
member: uid=boss,%[2]s
member: uid=a-admin,%[2]s
member: uid=a-user,%[3]s

dn: %[4]s
objectClass: groupOfUniqueNames
cn: unique
uniqueMember: uid=gil,%[3]s
uniqueMember: uid=sue,%[2]s
`, ops, staff, guests, unique)
}

// linked is a world whose domain a has a directory of the company.
type linked struct {
	*apitest.Cloud
	t         *testing.T
	directory *client.Conn
	domain    string // domain a
}

func newLinked(t *testing.T) *linked {
	d := slapd(t, company())
	c := apitest.New(t, apitest.Config{
		Entities: ldap.Entities(),
		Settings: [][]*settings.Def{directory.Settings()},
		Make: func(k *seal.Keeper) []api.Command {
			return append(ldap.Commands(ldap.Deps{Seal: k}), session.Commands(asking(k))...)
		},
	})
	c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, "ldap.basedn", "dc=example,dc=org") })
	w := &linked{Cloud: c, t: t, domain: c.Domains["ROOT/a"].ID.String()}
	c.Must("root", "addLdapConfiguration", "hostname", "127.0.0.1", "port", strconv.Itoa(d.port), "domainid", w.domain)
	var err error
	if w.directory, err = client.DialURL("ldap://127.0.0.1:" + strconv.Itoa(d.port)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.directory.Close() })
	if err := w.directory.Bind("cn=admin,dc=example,dc=org", "bindsecret"); err != nil {
		t.Fatal(err)
	}
	return w
}

// logins tries names with the directory's password, or with one behind a colon, and wants who gets in and who does not.
func (w *linked) logins(when string, want map[string]bool) {
	w.t.Helper()
	for x, in := range want {
		w.Clock.Advance(time.Hour) // wrong passwords of before are forgotten
		name, password, other := strings.Cut(x, ":")
		if !other {
			password = "in the directory"
		}
		code := login(w.Cloud, name, password)
		if in != (code == 200) || !in && code != 531 && password != "" {
			w.t.Errorf("%s: %q: %d", when, x, code)
		}
	}
}

// of is the user of a name, with its account.
func (w *linked) of(name string) (*cloud.User, *cloud.Account) {
	u, ok := tables.Users.First(w.Read(), "username", store.K(w.Domains["ROOT/a"].ID, name))
	if !ok {
		return nil, nil
	}
	a, _ := tables.Accounts.Get(w.Read(), u.AccountID)
	return u, a
}

func (w *linked) modify(dn, attribute, value string, add bool) {
	w.t.Helper()
	m := client.NewModifyRequest(dn, nil)
	if add {
		m.Add(attribute, []string{value})
	} else {
		m.Delete(attribute, []string{value})
	}
	if err := w.directory.Modify(m); err != nil {
		w.t.Fatal(err)
	}
}

// Users of the group that a domain is linked to get in, made at the first login with the type that the link says, and
// nobody else of the directory; no more when they have left the group. CVE-2014-7807: nor does an empty password.
func TestCVE_2014_7807_LinkedDomain(t *testing.T) {
	w := newLinked(t)
	w.logins("without a link", map[string]bool{"sam": false, "a-user": true, "a-admin": true})
	golden := func(command string, params ...string) {
		t.Helper()
		a := w.Must("root", command, params...)
		w.Golden(command, a)
		w.CheckSDK(command, a)
	}
	link := []string{"domainid", w.domain, "type", "GROUP", "accounttype", "0", "ldapdomain"}
	for _, x := range [][]string{
		append(link, "cn=nothing,dc=example,dc=org"), append(link, "ops"), append(link, ops, "admin", "gil"), append(link, ops, "admin", "*"),
		append(link, ops, "admin", "a-user"),
		{"domainid", w.domain, "accounttype", "1", "ldapdomain", ops},
		{"domainid", w.domain, "accounttype", "0", "ldapdomain", ops, "type", "CN"},
		{"domainid", w.Domains["ROOT/b"].ID.String(), "accounttype", "0", "ldapdomain", ops}, // no directory is b's
	} {
		if a := w.Call("root", "linkDomainToLdap", x...); a.Status != 431 {
			t.Errorf("%q: %s", x, a.Raw)
		}
	}
	if n := tables.LDAPLinks.Count(w.Read(), "owner", nil); n != 0 {
		t.Errorf("%d links of refused calls", n)
	}
	golden("linkDomainToLdap", append(link, ops, "admin", "boss")...)
	if _, a := w.of("boss"); a == nil || a.Type != cloud.DomainAdminAccount || a.Name != "boss" {
		t.Errorf("the admin: %+v", a)
	}
	w.logins("linked", map[string]bool{
		"sam": true, "SAM": true, "boss": true, "a-user": true, "sam:wrong": false, "sue:wrong": false, "sue:": false, "gil": false, "*": false,
		"su*": false, "nobody)(uid=sue": false, "sue)(objectClass=*": false, "eve": false, "nobody": false,
	})
	u, a := w.of("sam")
	if u == nil || !u.Directory || u.FirstName != "Given" || u.Email != "sam@example.org" || a.Name != "sam" || a.Type != cloud.UserAccount {
		t.Errorf("the first login made %+v of %+v", u, a)
	}
	for _, name := range []string{"sue", "gil", "*", "eve"} {
		if u, _ := w.of(name); u != nil {
			t.Errorf("a refused login made %s", name)
		}
	}
	w.atOnce("sue")
	w.modify(ops, "member", "uid=sam,"+staff, false)
	w.modify(ops, "member", "uid=a-user,"+guests, false)
	w.logins("out of the group", map[string]bool{"sam": false, "a-user": false, "sue": true})
	w.modify(ops, "member", "uid=sam,"+staff, true)
	w.logins("back in the group", map[string]bool{"sam": true})
	w.Update(func(tx *store.Tx) error {
		return tables.Users.Edit(tx, u.ID, func(u *cloud.User) error {
			u.State = cloud.Disabled
			return nil
		})
	})
	w.logins("disabled here", map[string]bool{"sam": false})
	w.Must("root", "linkDomainToLdap", "domainid", w.domain, "accounttype", "2", "name", guests, "type", "OU")
	w.logins("linked to a unit instead", map[string]bool{"gil": true, "eve": true, "sue": false, "boss": false, "a-user": true})
	if _, a := w.of("gil"); a == nil || a.Type != cloud.DomainAdminAccount {
		t.Errorf("account type of the link: %+v", a)
	}
	w.Update(func(tx *store.Tx) error {
		d, _ := tables.Domains.Get(tx, w.Domains["ROOT/a"].ID)
		return identity.BeginDomainRemoval(tx, d)
	})
	w.logins("the domain goes", map[string]bool{"gil": false})
	for done := false; !done; {
		w.Update(func(tx *store.Tx) error {
			p, err := identity.RemoveDomain(tx, nil, nil, w.Domains["ROOT/a"].ID)
			done = p.Done
			return err
		})
	}
	if n := tables.LDAPLinks.Count(w.Read(), "owner", nil); n != 0 {
		t.Errorf("%d links are left of a domain that is gone", n)
	}
}

// atOnce has first logins of a user at once: all get in, and it is one user.
func (w *linked) atOnce(name string) {
	w.t.Helper()
	w.Clock.Advance(time.Hour)
	codes := make([]int, 5)
	var all sync.WaitGroup
	for i := range codes {
		all.Go(func() { codes[i] = login(w.Cloud, name, "in the directory") })
	}
	all.Wait()
	for _, code := range codes {
		if code != 200 {
			w.t.Errorf("first logins of %s at once: %v", name, codes)
			return
		}
	}
}

// Users of the group or unit that an account is linked to become users of the account; who would be of two, of none.
func TestLinkedAccounts(t *testing.T) {
	w := newLinked(t)
	in := func(account, dn, kind string, more ...string) []string {
		return append([]string{"domainid", w.domain, "account", account, "ldapdomain", dn, "type", kind}, more...)
	}
	for who, x := range map[string][]string{
		"a-admin": in("a-user", ops, "GROUP", "accounttype", "2"), // which it is not
		"root":    in("new", ops, "GROUP", "accounttype", "1"),
	} {
		if a := w.Call(who, "linkAccountToLdap", x...); a.Status != 431 {
			t.Errorf("%s: %q: %s", who, x, a.Raw)
		}
	}
	for _, who := range []string{"a-user", "b-admin"} {
		if a := w.Call(who, "linkAccountToLdap", in("a-user", ops, "GROUP")...); a.Status == 200 {
			t.Errorf("by %s: %s", who, a.Raw)
		}
	}
	a := w.Must("a-admin", "linkAccountToLdap", in("team", ops, "", "accounttype", "0")...)
	w.Golden("linkAccountToLdap", a)
	w.CheckSDK("linkAccountToLdap", a)
	w.Must("root", "linkAccountToLdap", in("a-other", unique, "GROUP")...)
	if a := w.Call("root", "linkAccountToLdap", in("third", strings.ToUpper(ops), "GROUP")...); a.Status != 431 {
		t.Errorf("a group for two accounts: %s", a.Raw)
	}
	w.logins("linked", map[string]bool{"sam": true, "gil": true, "sue": false, "eve": false, "a-user": true})
	for name, want := range map[string]string{"sam": "team", "gil": "a-other"} {
		if u, a := w.of(name); u == nil || a.Name != want || a.Type != cloud.UserAccount {
			t.Errorf("%s is of %+v", name, a)
		}
	}
	w.modify(unique, "uniqueMember", "uid=gil,"+guests, false)
	w.modify(ops, "member", "uid=gil,"+guests, true)
	w.modify(ops, "member", "uid=sue,"+staff, false)
	w.logins("of another account's group", map[string]bool{"gil": false, "sue": true})
	w.Must("root", "linkDomainToLdap", "domainid", w.domain, "accounttype", "0", "ldapdomain", guests, "type", "OU")
	w.logins("the domain is linked, too", map[string]bool{"gil": true, "sam": true})
	w.Must("root", "linkAccountToLdap", in("third", staff, "OU")...)
	w.logins("two people of one name", map[string]bool{"eve": false})
	_, team := w.of("sam")
	w.Update(func(tx *store.Tx) error {
		_, err := identity.RemoveAccount(tx, nil, team.ID)
		return err
	})
	if n := tables.LDAPLinks.Count(w.Read(), "account", store.K(team.ID)); n != 0 {
		t.Errorf("%d links of an account that is gone", n)
	}
	w.logins("the account is gone", map[string]bool{"gil": true})
	c := w.Cloud
	c.Update(func(tx *store.Tx) error {
		return c.Settings.Set(tx, "ldap.bind.principal", "cn=admin,dc=example,dc=org")
	})
	w.logins("a directory that cannot be asked", map[string]bool{"gil": false, "new": false})
}
