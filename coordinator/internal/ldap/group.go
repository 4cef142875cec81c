package ldap

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	// activeDirectory is among the capabilities of Active Directory, which follows nested groups itself by the rule inChain
	// (LDAP_MATCHING_RULE_IN_CHAIN).
	activeDirectory = "1.2.840.113556.1.4.800"
	inChain         = "1.2.840.113556.1.4.1941"
	// deepest and mostGroups bound the walk from a user up to a group: how many groups within each other, and how many
	// groups that a user is in.
	deepest    = 16
	mostGroups = 1000
)

// member gives the entry back where it is a member of the group, or with Nested, of a group that is. Groups that contain
// each other end the walk as any others; one that is too long is an error, since it is not known what is at its end.
func (s Server) member(c *ldap.Conn, group string, e *Entry) (*Entry, error) {
	is, err := s.exists(c, group, containing([]string{e.DN}))
	if is || err != nil || !s.Nested {
		return kept(e, is), err
	}
	root, err := s.about(c, group)
	if err != nil {
		return nil, err
	}
	if root.chains {
		is, err = s.exists(c, group, "(member:"+inChain+":="+ldap.EscapeFilter(e.DN)+")")
		return kept(e, is), err
	}
	seen, level := map[string]bool{}, []string{e.DN}
	for range deepest {
		if level, err = s.groupsOf(c, root.base, level, seen); len(level) == 0 || err != nil {
			return nil, err
		}
		if is, err = s.exists(c, group, containing(level)); is || err != nil {
			return kept(e, is), err
		}
	}
	return nil, fmt.Errorf("%w: %s is in groups of groups, more than %d deep", ErrUnreachable, e.DN, deepest)
}

func kept(e *Entry, is bool) *Entry {
	if !is {
		return nil
	}
	return e
}

// containing finds the groups that have one of these entries for a member.
func containing(members []string) string {
	var b strings.Builder
	b.WriteString("(|")
	for _, dn := range members {
		x := ldap.EscapeFilter(dn)
		b.WriteString("(member=" + x + ")(uniqueMember=" + x + ")")
	}
	b.WriteString(")")
	return b.String()
}

// groupsOf lists the groups below base that have one of these entries for a member and were not seen before.
func (s Server) groupsOf(c *ldap.Conn, base string, members []string, seen map[string]bool) ([]string, error) {
	var out []string
	for some := range slices.Chunk(members, 50) { // a filter of a thousand names is more than some servers take
		res, err := c.Search(ldap.NewSearchRequest(
			base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, mostGroups, int(timeout/time.Second), false, containing(some), []string{"1.1"}, nil,
		))
		if err != nil {
			return nil, fmt.Errorf("search groups of %s: %w: %w", s.address(), ErrUnreachable, err)
		}
		for _, e := range res.Entries {
			if key := strings.ToLower(e.DN); !seen[key] {
				seen[key] = true
				out = append(out, e.DN)
			}
		}
	}
	if len(seen) > mostGroups {
		return nil, fmt.Errorf("%w: %s has more than %d groups of one user", ErrUnreachable, s.address(), mostGroups)
	}
	return out, nil
}

// about is what a server says of itself: whether it follows nested groups by inChain, and the tree that holds an entry.
type about struct {
	chains bool
	base   string
}

// about asks a server for the tree that holds a group; the base of searches where it tells none, as groups often are beside
// the users and not below them.
func (s Server) about(c *ldap.Conn, group string) (about, error) {
	res, err := c.Search(ldap.NewSearchRequest(
		"", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, int(timeout/time.Second), false, "(objectClass=*)",
		[]string{"namingContexts", "supportedCapabilities"}, nil,
	))
	a := about{base: s.Base}
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject), ldap.IsErrorWithCode(err, ldap.LDAPResultInsufficientAccessRights):
		return a, nil
	case err != nil:
		return a, fmt.Errorf("ask %s about itself: %w: %w", s.address(), ErrUnreachable, err)
	case len(res.Entries) != 1:
		return a, nil
	}
	dn, err := ldap.ParseDN(group)
	if err != nil {
		return a, fmt.Errorf("read %s: %w", group, err)
	}
	for _, tree := range res.Entries[0].GetEqualFoldAttributeValues("namingContexts") {
		if top, err := ldap.ParseDN(tree); err == nil && (top.AncestorOfFold(dn) || top.EqualFold(dn)) {
			a.base = tree
		}
	}
	a.chains = slices.Contains(res.Entries[0].GetEqualFoldAttributeValues("supportedCapabilities"), activeDirectory)
	return a, nil
}
