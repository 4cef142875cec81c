package api

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// membership is how the caller works on the project whose account this is: by itself, else as one of its account.
func (c *Call) membership(account cloud.ID) (found *cloud.ProjectMember) {
	if account.IsZero() || c.User == nil {
		return nil
	}
	for m := range tables.ProjectMembers.By(c.Read, "account", store.K(c.Account.ID, account)) {
		switch m.UserID {
		case c.User.ID:
			return m
		case cloud.ID{}:
			found = m
		}
	}
	return found
}

// member tells whether account is that of a project which the caller works on, with a role there that does not deny the
// command.
func (c *Call) member(account cloud.ID) bool {
	m := c.membership(account)
	return m != nil && identity.PermitsInProject(c.Read, m, c.Command.Name)
}

// barred is the refusal of a command that the caller's role in a project denies. A member may know that the project is
// there; nil for all others.
func (c *Call) barred(account cloud.ID) error {
	if m := c.membership(account); m != nil && !identity.PermitsInProject(c.Read, m, c.Command.Name) {
		return cloud.Errorf(cloud.Denied, "The API %s is denied by the role that you have in the project id=%s", c.Command.Name, m.ProjectID)
	}
	return nil
}

// about notes whom the row belongs to that a parameter names, where that is a project.
func (c *Call) about(param string, o Owner) {
	if c.Account == nil || o.Account.IsZero() || o.Account == c.Account.ID || !c.Command.Changes() || c.project != (Owner{}) && param != "id" {
		return
	}
	if a, ok := tables.Accounts.Get(c.Read, o.Account); ok && a.Type == cloud.ProjectAccount {
		c.project = o
	}
}

// memberships are the accounts of the caller's projects in which its role does not deny the command; nil where there are
// none.
func (c *Call) memberships() map[cloud.ID]bool {
	var out map[cloud.ID]bool
	for m := range tables.ProjectMembers.By(c.Read, "account", store.K(c.Account.ID)) {
		if out[m.OwnerID] || !c.member(m.OwnerID) {
			continue
		}
		if out == nil {
			out = map[cloud.ID]bool{}
		}
		out[m.OwnerID] = true
	}
	return out
}

// Project finds a project that the caller may see; one that it may not is told like one that is not there.
func (c *Call) Project(param, id string) (*cloud.Project, error) {
	parsed, err := cloud.ParseID(id)
	if err != nil {
		return nil, noEntity(param, id)
	}
	p, ok := tables.Projects.Get(c.Read, parsed)
	if !ok {
		return nil, noEntity(param, id)
	}
	if !c.May(Owner{p.AccountID, p.DomainID}) {
		if err := c.barred(p.AccountID); err != nil {
			return nil, err
		}
		return nil, noEntity(param, id)
	}
	return p, nil
}

// projectOwner is OwnerFor of a project.
func (c *Call) projectOwner(account string, id cloud.ID) (*cloud.Account, error) {
	p, err := c.Project("projectid", id.String())
	if err != nil {
		return nil, err
	}
	if account != "" {
		return nil, cloud.Errorf(cloud.Invalid, "Account and projectId can't be specified together")
	}
	if p.State != cloud.ProjectActive {
		return nil, cloud.Errorf(cloud.Denied, "Can't add resources to the project id=%s in state=%s as it's no longer active", p.ID, p.State)
	}
	a, ok := tables.Accounts.Get(c.Read, p.AccountID)
	if !ok {
		return nil, noEntity("projectid", id.String())
	}
	c.project = Owner{a.ID, a.DomainID}
	return a, nil
}

// everyProject is what projectid=-1 says.
const everyProject = "-1"

// projectScope is the scope of one project, or of all that the caller may see.
func (c *Call) projectScope(o *OwnedParams, byID bool) (Scope, error) {
	if o.ProjectID != everyProject {
		p, err := c.Project("projectid", o.ProjectID)
		if err != nil {
			return Scope{}, err
		}
		if o.AccountName != "" {
			return Scope{}, cloud.Errorf(cloud.Invalid, "Account and projectId can't be specified together")
		}
		return Scope{account: p.AccountID}, nil
	}
	s := Scope{none: true}
	if o.ListAll || byID {
		s = c.AllVisible()
	}
	s.also = c.memberships()
	if s.also == nil {
		s.also = map[cloud.ID]bool{}
	}
	if c.IsAdmin() && !s.everything {
		for p := range tables.Projects.All(c.Read) {
			if c.May(Owner{p.AccountID, p.DomainID}) {
				s.also[p.AccountID] = true
			}
		}
	}
	return s, nil
}

// InProject says in an answer which project a row belongs to; embed it beside the field of the account.
type InProject struct {
	ProjectID cloud.ID `json:"projectid,omitempty" doc:"project it belongs to"`
	Project   string   `json:"project,omitempty" doc:"name of that project"`
}

// OwnerNames gives what an answer tells of the account that owns a row: its name, or instead of it the project.
func OwnerNames(r store.Reader, account cloud.ID) (name string, in InProject) {
	a, ok := tables.Accounts.Get(r, account)
	if !ok {
		return "", in
	}
	if a.Type == cloud.ProjectAccount {
		if p, ok := tables.Projects.First(r, "account", store.K(account)); ok {
			return "", InProject{ProjectID: p.ID, Project: p.Name}
		}
	}
	return a.Name, in
}
