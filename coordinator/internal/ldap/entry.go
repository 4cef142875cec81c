package ldap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Entry is a user as a directory knows it.
type Entry struct {
	DN, Username, FirstName, LastName, Email string
}

func (s Server) attributes() []string {
	return []string{s.UserAttribute, s.FirstName, s.LastName, s.Mail}
}

func (s Server) entry(e *ldap.Entry) Entry {
	return Entry{
		DN: e.DN, Username: e.GetEqualFoldAttributeValue(s.UserAttribute), FirstName: e.GetEqualFoldAttributeValue(s.FirstName),
		LastName: e.GetEqualFoldAttributeValue(s.LastName), Email: e.GetEqualFoldAttributeValue(s.Mail),
	}
}

// listMost bounds the entries that one listing takes from a server.
const listMost = 1000

// List gives the users of a server: all, or the one of a name.
func (s Server) List(ctx context.Context, name string) ([]Entry, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	which := "*"
	if name != "" {
		which = ldap.EscapeFilter(name)
	}
	filter := fmt.Sprintf("(&(objectClass=%s)(%s=%s))", s.Object, s.UserAttribute, which)
	res, err := c.Search(ldap.NewSearchRequest(
		s.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, listMost, int(timeout/time.Second), false, filter,
		s.attributes(), nil,
	))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return nil, nil
	case err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, fmt.Errorf("list users of %s: %w: %w", s.address(), ErrUnreachable, err)
	}
	var out []Entry
	for _, e := range res.Entries {
		x := s.entry(e)
		if x.Username != "" {
			out = append(out, x)
		}
	}
	return out, nil
}

// Users lists the users that the directories of a domain know: all, or those of a name. Of two with one name the first
// counts, which is the one that Authenticate asks first.
func Users(ctx context.Context, r store.Reader, k Opener, domain cloud.ID, name string) ([]Entry, error) {
	var out []Entry
	seen := map[string]bool{}
	for _, row := range For(r, domain) {
		s, err := Of(r, k, row)
		if err != nil {
			return nil, err
		}
		entries, err := s.List(ctx, name)
		if err != nil {
			return nil, cloud.Errorf(cloud.Unavailable, "The LDAP server %s cannot be asked: %v", row.Hostname, err)
		}
		for _, e := range entries {
			if key := strings.ToLower(e.Username); !seen[key] {
				seen[key] = true
				out = append(out, e)
			}
		}
	}
	return out, nil
}
