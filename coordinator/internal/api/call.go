package api

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Owner is whose a row is. The zero Owner is nobody's: infrastructure, which roles guard.
type Owner struct {
	Account cloud.ID
	Domain  cloud.ID
}

// Call is one API call. It belongs to the goroutine that serves it. In a Change or Async handler it is made anew for
// each run of the closure, so what a handler notes in it does not leak into the next run.
type Call struct {
	Command *Command
	// User, Account and Domain are the caller's, as of Read; copies. nil in commands with NoLogin.
	User    *cloud.User
	Account *cloud.Account
	Domain  *cloud.Domain
	// Read is the state to answer from; in a Change or Async handler it is the transaction.
	Read store.Reader
	// Now is the time of the call; in a Change or Async handler tx.Now().
	Now       time.Time
	RequestID string
	Settings  settings.View
	Seal      *seal.Keeper
	Log       *slog.Logger
	// Scope is what a list shows; set before Lister.Rows.
	Scope Scope
	// Prepared is what the first function of ChangeWith has made.
	Prepared any

	ctx      context.Context
	registry *Registry
	note     eventNote
	project  Owner // of what the call is about, where that belongs to a project
	recall   store.Reader
	json     bool // the answer is wanted as JSON
	reads    bool // the state does not change during the call
}

// eventNote is what a handler says about its event.
type eventNote struct {
	text     string
	resource cloud.ID
	owner    Owner
}

// Remember is Read for views: rows that many rows of a list refer to are decoded once. They are shared; see
// store.Remember.
func (c *Call) Remember() store.Reader {
	if c.recall == nil {
		c.recall = store.Remember(c.Read)
	}
	return c.recall
}

// looking is what references are looked up in: a handler that asks Remember for what one names has it decoded already.
func (c *Call) looking() store.Reader {
	if c.reads {
		return c.Remember()
	}
	return c.Read
}

// Context is cancelled when the client goes away.
func (c *Call) Context() context.Context { return c.ctx }

// Registry lists the commands that exist.
func (c *Call) Registry() *Registry { return c.registry }

// Describe gives the call's event its text and resource; without it the text is the command's Doc. No secrets.
func (c *Call) Describe(resource cloud.ID, text string) {
	c.note.resource, c.note.text = resource, text
}

// EventOwner writes the call's event to another account than the caller's. What is a domain's and no account's leaves it
// with the caller.
func (c *Call) EventOwner(o Owner) { c.note.owner = o }

// eventOwner is whose the call's events are: whose the handler says; else the project's that owns what the call is about,
// so that its members see them; else the caller's. The caller is named in each of them.
func (c *Call) eventOwner() Owner {
	switch {
	case !c.note.owner.Account.IsZero():
		return c.note.owner
	case c.project != Owner{}:
		return c.project
	}
	return c.Own()
}

// IsRoot tells whether the caller is a root admin.
func (c *Call) IsRoot() bool { return c.Account != nil && c.Account.Type == cloud.RootAdminAccount }

// IsAdmin tells whether the caller is an admin of any kind.
func (c *Call) IsAdmin() bool { return c.Account != nil && RoleOf(c.Account.Type)&Admins != 0 }

// Own is the caller's own account as an owner.
func (c *Call) Own() Owner { return Owner{c.Account.ID, c.Account.DomainID} }

// InDomain tells whether domain is the caller's or below it.
func (c *Call) InDomain(domain cloud.ID) bool {
	for range maxDepth {
		if domain == c.Domain.ID {
			return true
		}
		d, ok := tables.Domains.Get(c.Read, domain)
		if !ok || d.ParentID.IsZero() {
			return false
		}
		domain = d.ParentID
	}
	return false
}

// maxDepth bounds walks up the tree of domains.
const maxDepth = 256

// May tells whether the caller may operate on what o owns: everything for a root admin, its domain and below for a
// domain admin, its own for a user, and what belongs to the caller's projects for all. What nobody owns is free for all who may call the command.
func (c *Call) May(o Owner) bool {
	switch {
	case c.Account == nil:
		return false
	case o == Owner{} || c.IsRoot() || o.Account == c.Account.ID && !o.Account.IsZero():
		return true
	case c.IsAdmin() && c.InDomain(o.Domain):
		return true
	}
	return c.member(o.Account)
}

// MayUse is May as an error, for handlers that find rows otherwise than by a reference parameter.
func (c *Call) MayUse(o Owner) error {
	if c.May(o) {
		return nil
	}
	return cloud.Errorf(cloud.Denied, "%s does not have permission to operate with this resource", c.Account.Name)
}

// OwnerFor gives the account that a new or named resource belongs to, from the parameters account, domainid and
// projectid as they came (zero where absent): the caller's own account by default.
func (c *Call) OwnerFor(account string, domain, project cloud.ID) (*cloud.Account, error) {
	if !project.IsZero() {
		return c.projectOwner(account, project)
	}
	if account == "" {
		if !domain.IsZero() && domain != c.Account.DomainID {
			return nil, cloud.Errorf(cloud.Invalid, "Account name and domain id must be specified together")
		}
		return c.Account, nil
	}
	if domain.IsZero() {
		domain = c.Account.DomainID
	}
	a, ok := tables.Accounts.First(c.Read, "name", store.K(domain, strings.ToLower(account)))
	// An account that the caller may not act for is told like one that is not there.
	if !ok || a.Type == cloud.ProjectAccount || !c.May(Owner{a.ID, a.DomainID}) {
		d, _ := tables.Domains.Get(c.Read, domain)
		if d == nil || !c.May(Owner{Domain: domain}) && domain != c.Account.DomainID {
			return nil, cloud.Errorf(cloud.Invalid, "Unable to find account %s in the specified domain", account)
		}
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find account %s in domain %s", account, d.Name)
	}
	if a.State != cloud.Enabled {
		return nil, cloud.Errorf(cloud.Denied, "The account %s is %s", a.Name, a.State)
	}
	return a, nil
}

// ResultContext is what Command.Result may use beside the state.
type ResultContext struct {
	Settings settings.View
	Seal     *seal.Keeper
	Now      time.Time
}

// IsRoot tells whether the one who started the job is a root admin: such answers tell hosts and internal names.
func (c *ResultContext) IsRoot(r store.Reader, j *cloud.Job) bool {
	if j.UserID == SystemUser {
		return true
	}
	u, ok := tables.Users.Get(r, j.UserID)
	if !ok {
		return false
	}
	a, ok := tables.Accounts.Get(r, u.AccountID)
	return ok && a.Type == cloud.RootAdminAccount
}
