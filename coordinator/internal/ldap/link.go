package ldap

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// find gives the one entry of a user: below the base of searches, or with links, the one that is in some of them, which
// are told. nil where there is none, or where it is not clear which.
func (s Server) find(c *ldap.Conn, u User, links []*cloud.LDAPLink) (*Entry, []*cloud.LDAPLink, error) {
	if len(links) == 0 {
		e, err := s.search(c, s.Base, u)
		return e, nil, err
	}
	var (
		found *Entry
		in    []*cloud.LDAPLink
	)
	based := sync.OnceValues(func() (*Entry, error) { return s.search(c, s.Base, u) })
	for _, l := range links {
		var e *Entry
		var err error
		if !l.Group {
			e, err = s.search(c, l.DN, u)
		} else if e, err = based(); e != nil {
			e, err = s.member(c, l.DN, e)
		}
		if err != nil {
			return nil, nil, err
		}
		if e == nil {
			continue
		}
		if found != nil && found.DN != e.DN {
			return nil, nil, nil // two people of one name
		}
		found, in = e, append(in, l)
	}
	return found, in, nil
}

// search gives the one entry of a user below base; nil where there is none, or where there are several.
func (s Server) search(c *ldap.Conn, base string, u User) (*Entry, error) {
	res, err := c.Search(ldap.NewSearchRequest(
		base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, int(timeout/time.Second), false, s.filter(u), s.attributes(), nil,
	))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded), ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("search %s: %w: %w", s.address(), ErrUnreachable, err)
	case len(res.Entries) != 1 || res.Entries[0].DN == "":
		return nil, nil
	}
	e := s.entry(res.Entries[0])
	return &e, nil
}

// exists tells whether there is an entry of that name that fits the filter.
func (s Server) exists(c *ldap.Conn, dn, filter string) (bool, error) {
	res, err := c.Search(ldap.NewSearchRequest(
		dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, int(timeout/time.Second), false, filter, []string{"1.1"}, nil,
	))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("search %s of %s: %w: %w", dn, s.address(), ErrUnreachable, err)
	}
	return len(res.Entries) == 1, nil
}

// linksOf lists the links of which a user has to be in one; none: the domain has no links.
func linksOf(r store.Reader, u *cloud.User) []*cloud.LDAPLink {
	var own, all []*cloud.LDAPLink
	for l := range tables.LDAPLinks.By(r, "owner", store.K(u.DomainID)) {
		all = append(all, l)
		if l.AccountID.IsZero() || l.AccountID == u.AccountID {
			own = append(own, l)
		}
	}
	if len(own) > 0 {
		return own
	}
	return all
}

// Newcomer is a user of a directory whose first login it is.
type Newcomer struct {
	entry Entry
	link  *cloud.LDAPLink
}

// NewUser asks the directories of a domain with links for a user that the domain does not have. nil: none says that it is
// one, or it is not clear of which account. Directories take several spellings for one name; another than the entry's own
// is refused, since each would have its own count of wrong passwords.
func NewUser(ctx context.Context, r store.Reader, k Opener, domain cloud.ID, name string, p cloud.Secret) (*Newcomer, error) {
	var links []*cloud.LDAPLink
	for l := range tables.LDAPLinks.By(r, "owner", store.K(domain)) {
		links = append(links, l)
	}
	if len(links) == 0 || p == "" {
		return nil, nil
	}
	var out *Newcomer
	err := each(r, k, domain, func(s Server) (bool, error) {
		if strings.Contains(s.Filter, "%") && !strings.Contains(s.Filter, "%u") {
			return false, nil // it finds users by what nobody knows yet
		}
		e, in, err := s.Check(ctx, User{Name: name}, p, links)
		if e == nil || err != nil || !strings.EqualFold(e.Username, name) {
			return false, err
		}
		out, err = newcomer(*e, in)
		return true, err
	})
	return out, err
}

// newcomer chooses among the links that a user is in: that of an account, or else the domain's.
func newcomer(e Entry, in []*cloud.LDAPLink) (*Newcomer, error) {
	n := &Newcomer{entry: e}
	for _, l := range in {
		switch {
		case n.link == nil || n.link.AccountID.IsZero():
			n.link = l
		case !l.AccountID.IsZero():
			return nil, fmt.Errorf("%s is in %s and in %s, which are linked to two accounts", e.DN, n.link.DN, l.DN)
		}
	}
	return n, nil
}

// Make makes the user, and where its link says so, its account. The link must not have changed since it was asked about.
// Of two first logins at once the second meets the user that the first made.
func (n *Newcomer) Make(tx *store.Tx) (*cloud.User, error) {
	l, ok := tables.LDAPLinks.Get(tx, n.link.ID)
	if !ok || l.DN != n.link.DN || l.Group != n.link.Group {
		return nil, cloud.Errorf(cloud.Invalid, "The link to %s is gone", n.link.DN)
	}
	e := n.entry
	if u, ok := tables.Users.First(tx, "username", store.K(l.DomainID, strings.ToLower(e.Username))); ok {
		a, _ := tables.Accounts.Get(tx, u.AccountID)
		mine := l.AccountID == u.AccountID || l.AccountID.IsZero() && strings.EqualFold(a.Name, u.Username)
		if !mine || !u.Directory || u.State != cloud.Enabled || a.State != cloud.Enabled || a.Type == cloud.RootAdminAccount {
			return nil, cloud.Errorf(cloud.Invalid, "The user %s exists already", e.Username)
		}
		return u, nil
	}
	a, ok := tables.Accounts.Get(tx, l.AccountID)
	switch {
	case l.AccountID.IsZero():
		var err error
		a, err = identity.CreateAccount(tx, identity.AccountSpec{
			Name: e.Username, Type: l.AccountType, Role: identity.DefaultRole(l.AccountType), DomainID: l.DomainID,
		})
		if err != nil {
			return nil, err
		}
	case !ok || a.State != cloud.Enabled || a.Type == cloud.RootAdminAccount:
		return nil, cloud.Errorf(cloud.Invalid, "The account that %s is linked to is disabled, or a root admin's", l.DN)
	}
	u, err := identity.CreateUser(tx, e.Spec(a.ID))
	if err != nil {
		return nil, err
	}
	_, err = job.WriteEvent(tx, cloud.Event{
		Type: "USER.CREATE", Description: "made user " + u.Username + " of " + e.DN + " at its first login", UserID: u.ID,
		AccountID: a.ID, DomainID: a.DomainID, ResourceID: u.ID,
	})
	return u, err
}

// Spec is the entry as a user of an account.
func (e Entry) Spec(account cloud.ID) identity.UserSpec {
	return identity.UserSpec{
		AccountID: account, Username: e.Username, FirstName: cmp.Or(e.FirstName, e.Username), LastName: cmp.Or(e.LastName, e.Username),
		Email: e.Email, Directory: true,
	}
}

// CheckLink refuses a link to what no directory of the domain has, and gives the entry of the user that is named, if one
// is, which has to be in the link.
func CheckLink(ctx context.Context, r store.Reader, k Opener, l *cloud.LDAPLink, name string) (*Entry, error) {
	if len(For(r, l.DomainID)) == 0 {
		return nil, cloud.Errorf(cloud.Invalid, "The domain has no LDAP server: add one with addLdapConfiguration")
	}
	var out *Entry
	there := false
	err := each(r, k, l.DomainID, func(s Server) (bool, error) {
		c, err := s.open(ctx)
		if err != nil {
			return false, err
		}
		defer func() { _ = c.Close() }()
		is, err := s.exists(c, l.DN, "(objectClass=*)")
		if !is || err != nil {
			return false, err
		}
		there = true
		if name == "" {
			return true, nil
		}
		out, _, err = s.find(c, User{Name: name}, []*cloud.LDAPLink{l})
		return out != nil && out.Username != "", err
	})
	switch {
	case err != nil:
		return nil, cloud.Errorf(cloud.Unavailable, "The LDAP servers cannot be asked about %s: %v", l.DN, err)
	case !there:
		return nil, cloud.Errorf(cloud.Invalid, "Invalid ldapdomain %q: no LDAP server of the domain has it", l.DN)
	case name != "" && (out == nil || !strings.EqualFold(out.Username, name)):
		return nil, cloud.Errorf(cloud.Invalid, "Invalid admin %q: %s has no such user", name, l.DN)
	}
	return out, nil
}
