package ldap_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	client "github.com/go-ldap/ldap/v3"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// add makes a group in the directory.
func (w *linked) add(dn string, members ...string) {
	w.t.Helper()
	a := client.NewAddRequest(dn, nil)
	a.Attribute("objectClass", []string{"groupOfNames"})
	a.Attribute("member", members)
	if err := w.directory.Add(a); err != nil {
		w.t.Fatal(err)
	}
}

// Members of a group's groups are the group's where the setting says so, however the groups contain each other; a group
// that cannot be followed to its end lets nobody in.
func TestNestedGroups(t *testing.T) {
	w := newLinked(t)
	set := func(name, value string) {
		w.Update(func(tx *store.Tx) error {
			return w.Settings.SetFor(tx, w.Domains["ROOT/a"].ID, name, value, w.Seal.Seal)
		})
	}
	in := func(name string) string { return "cn=" + name + ",dc=example,dc=org" }
	set("ldap.basedn", "ou=guests,dc=example,dc=org") // the groups are beside the users
	w.add(in("inner"), "uid=gil,"+guests)
	w.add("cn=middle (2),dc=example,dc=org", in("inner"))
	w.modify(unique, "uniqueMember", "uid=gil,"+guests, false)
	w.modify(unique, "uniqueMember", "cn=middle (2),dc=example,dc=org", true)
	w.add(in("other"), "uid=gil,"+guests)
	w.Must("root", "linkDomainToLdap", "domainid", w.domain, "accounttype", "0", "ldapdomain", unique)
	w.logins("a group of groups", map[string]bool{"gil": true, "gil:wrong": false, "eve": false, "a-user": false})
	set("ldap.nested.groups.enable", "false")
	w.logins("only the group itself", map[string]bool{"gil": false})
	set("ldap.nested.groups.enable", "true")
	w.modify(in("inner"), "member", unique, true)
	w.modify(in("inner"), "member", in("inner"), true)
	w.logins("groups in a circle", map[string]bool{"gil": true, "eve": false, "a-user": false})
	w.modify("cn=middle (2),dc=example,dc=org", "member", "uid=a-user,"+guests, true)
	w.modify(in("inner"), "member", "uid=gil,"+guests, false)
	w.logins("out of the inner group", map[string]bool{"gil": false, "a-user": true})

	below := "uid=eve," + guests
	for i := range 20 {
		w.add(in(fmt.Sprintf("deep%d", i)), below)
		below = in(fmt.Sprintf("deep%d", i))
	}
	w.modify(unique, "uniqueMember", below, true)
	w.logins("too deep to know", map[string]bool{"eve": false, "a-user": true})
}

// active is a directory that knows nested groups itself, as Active Directory does: it says so of itself, and answers the
// matching rule in chain. Its members are by group.
type active struct {
	t      *testing.T
	groups map[string][]string
}

const nia = "CN=Nia,DC=example,DC=org"

// has tells whether a group has a member, through other groups if deep.
func (d active) has(group, member string, deep bool) bool {
	for _, m := range d.groups[group] {
		if m == member || deep && d.has(m, member, true) {
			return true
		}
	}
	return false
}

// find answers a search with at most one entry.
func (d active) find(base, filter string) (string, map[string]string) {
	rule, direct := "(member:1.2.840.113556.1.4.1941:=", "(|(member="
	switch {
	case base == "":
		return "", map[string]string{"supportedCapabilities": "1.2.840.113556.1.4.800", "namingContexts": "DC=example,DC=org"}
	case base == "DC=example,DC=org" && filter == "(&(objectClass=user)(sAMAccountName=nia))":
		return nia, map[string]string{"sAMAccountName": "nia"}
	case filter == "(objectClass=*)" && d.groups[base] != nil,
		strings.HasPrefix(filter, rule) && d.has(base, strings.TrimSuffix(strings.TrimPrefix(filter, rule), ")"), true),
		strings.HasPrefix(filter, direct) && d.has(base, strings.SplitN(filter[len(direct):], ")", 2)[0], false):
		return base, map[string]string{}
	case strings.HasPrefix(filter, direct) && base == "DC=example,DC=org":
		d.t.Errorf("the groups of %s are walked, which the server would have done: %s", base, filter)
	}
	return "", nil
}

// serve answers binds, all of which it likes, and searches.
func (d active) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		answer := func(tag ber.Tag, fields ...*ber.Packet) {
			m := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
			m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, p.Children[0].Value, ""))
			op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
			for _, f := range fields {
				op.AppendChild(f)
			}
			m.AppendChild(op)
			_, _ = c.Write(m.Bytes()) // who does not listen any more sees nothing
		}
		text := func(s string) *ber.Packet {
			return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
		}
		done := []*ber.Packet{ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, 0, ""), text(""), text("")}
		switch op := p.Children[1]; op.Tag {
		case client.ApplicationBindRequest:
			answer(client.ApplicationBindResponse, done...)
		case client.ApplicationSearchRequest:
			filter, err := client.DecompileFilter(op.Children[6])
			if err != nil {
				d.t.Error(err)
			}
			if dn, found := d.find(op.Children[0].Data.String(), filter); found != nil {
				all := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
				for name, value := range found {
					one := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
					set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
					set.AppendChild(text(value))
					one.AppendChild(text(name))
					one.AppendChild(set)
					all.AppendChild(one)
				}
				answer(client.ApplicationSearchResultEntry, text(dn), all)
			}
			answer(client.ApplicationSearchResultDone, done...)
		default:
			return
		}
	}
}

// Active Directory is asked once for nested groups, by the rule that it has for them.
func TestNestedGroupsOfActiveDirectory(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := active{t, map[string][]string{"CN=All,DC=example,DC=org": {"CN=Some,DC=example,DC=org"}, "CN=Some,DC=example,DC=org": {nia}, "CN=None,DC=example,DC=org": {"CN=Nobody,DC=example,DC=org"}}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { d.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	_, number, _ := net.SplitHostPort(l.Addr().String())
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	s := directory.Server{
		Host: "127.0.0.1", Port: uint16(port), Base: "DC=example,DC=org", Filter: "(objectClass=user)", UserAttribute: "sAMAccountName",
		Object: "user", Mail: "mail", FirstName: "givenName", LastName: "sn", Nested: true,
	}
	var in []string
	for name := range d.groups {
		e, _, err := s.Check(t.Context(), directory.User{Name: "nia"}, "secret", []*cloud.LDAPLink{{Group: true, DN: name}})
		if err != nil {
			t.Fatal(err)
		}
		if e != nil {
			in = append(in, name)
		}
	}
	slices.Sort(in)
	if want := []string{"CN=All,DC=example,DC=org", "CN=Some,DC=example,DC=org"}; !slices.Equal(in, want) {
		t.Errorf("nia is in %q, want %q", in, want)
	}
}
