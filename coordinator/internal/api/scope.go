package api

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Scope is which owners a list shows.
type Scope struct {
	everything bool
	none       bool
	account    cloud.ID          // exactly this one, or
	domain     cloud.ID          // this domain, or with
	below      map[cloud.ID]bool // ... all of these
	// also are accounts shown beside: those of projects.
	also map[cloud.ID]bool
	// without, when given, leaves out what belongs to projects.
	without *projectAccounts
}

// Account is the only account of the scope, when there is only one.
func (s Scope) Account() (cloud.ID, bool) {
	return s.account, !s.account.IsZero() && len(s.also) == 0
}

// Everything tells whether the scope leaves nothing out.
func (s Scope) Everything() bool { return s.everything && s.without == nil }

// domains are those whose rows the scope shows, where it is nothing but rows of domains; nil otherwise.
func (s Scope) domains() map[cloud.ID]bool {
	switch {
	case s.everything || s.none || !s.account.IsZero() || len(s.also) > 0:
		return nil
	case s.below != nil:
		return s.below
	}
	return map[cloud.ID]bool{s.domain: true}
}

// Has tells whether a row of this owner is shown.
func (s Scope) Has(o Owner) bool {
	switch {
	case s.also[o.Account]:
		return true
	case s.none:
		return false
	case !s.account.IsZero():
		return o.Account == s.account
	case s.without.has(o.Account):
		return false
	case s.everything:
		return true
	case s.below != nil:
		return s.below[o.Domain]
	}
	return o.Domain == s.domain
}

// projectAccounts tells accounts of projects from others. A list has many rows of few accounts: each is looked up once.
type projectAccounts struct {
	read  store.Reader
	known map[cloud.ID]bool
}

func (p *projectAccounts) has(account cloud.ID) bool {
	if p == nil || account.IsZero() {
		return false
	}
	is, ok := p.known[account]
	if !ok {
		is = tables.Projects.Count(p.read, "account", store.K(account)) > 0
		p.known[account] = is
	}
	return is
}

// withoutProjects is what leaves out the rows of projects; nil where there is no project.
func (c *Call) withoutProjects() *projectAccounts {
	if tables.Projects.Len(c.Read) == 0 {
		return nil
	}
	return &projectAccounts{c.Read, map[cloud.ID]bool{}}
}

// WithoutProjects leaves what belongs to projects out of a scope.
func (s Scope) WithoutProjects(c *Call) Scope {
	s.also, s.without = nil, c.withoutProjects()
	return s
}

// scope follows 4.1: by default the caller's own account; listall widens it to all the caller may see; account and
// domainid narrow it; an id (byID) is looked for in all the caller may see. What belongs to projects is left out unless
// a project or an id is named; projectid=-1 names all projects, and with listall everything else as well.
func (c *Call) scope(o *OwnedParams, byID bool) (Scope, error) {
	if o.ProjectID != "" {
		return c.projectScope(o, byID)
	}
	recursive := o.Recursive != nil && *o.Recursive
	switch {
	case o.AccountName != "":
		a, err := c.OwnerFor(o.AccountName, o.DomainID, cloud.ID{})
		if err != nil {
			return Scope{}, err
		}
		return Scope{account: a.ID}, nil
	case !o.DomainID.IsZero():
		if !c.InDomain(o.DomainID) && !c.IsRoot() {
			return Scope{}, noEntity("domainid", o.DomainID.String())
		}
		if !c.IsAdmin() {
			return Scope{account: c.Account.ID}, nil
		}
		s := Scope{domain: o.DomainID}
		if recursive {
			s = c.subtree(o.DomainID)
		}
		if !byID {
			s.without = c.withoutProjects()
		}
		return s, nil
	case byID:
		return c.AllVisible(), nil
	case o.ListAll:
		s := Scope{domain: c.Domain.ID, without: c.withoutProjects()}
		switch {
		case !c.IsAdmin():
			return Scope{account: c.Account.ID}, nil
		case c.IsRoot() && (o.Recursive == nil || recursive):
			s.everything = true
		case o.Recursive == nil || recursive:
			s.below = c.subtree(c.Domain.ID).below
		}
		return s, nil
	}
	return Scope{account: c.Account.ID}, nil
}

// AllVisible is the scope of all that the caller may see, that of its projects included, for lists that look something
// up by its name.
func (c *Call) AllVisible() Scope {
	switch {
	case c.IsRoot():
		return Scope{everything: true}
	case c.IsAdmin():
		s := c.subtree(c.Domain.ID)
		s.also = c.memberships()
		return s
	}
	return Scope{account: c.Account.ID, also: c.memberships()}
}

// subtree is a domain and all below it.
func (c *Call) subtree(top cloud.ID) Scope {
	below := map[cloud.ID]bool{top: true}
	for queue := []cloud.ID{top}; len(queue) > 0; {
		next := queue[0]
		queue = queue[1:]
		for id := range tables.Domains.IDs(c.Read, "parent", store.K(next)) {
			if !below[id] {
				below[id] = true
				queue = append(queue, id)
			}
		}
	}
	return Scope{domain: top, below: below}
}
