package project

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// InvitationAnswer is an invitation as clients see it. Its token is told by mail alone.
type InvitationAnswer struct {
	ID         cloud.ID `json:"id" doc:"the invitation"`
	ProjectID  cloud.ID `json:"projectid" doc:"the project"`
	Project    string   `json:"project" doc:"name of the project"`
	DomainID   cloud.ID `json:"domainid" doc:"domain of the project"`
	Domain     string   `json:"domain" doc:"name of that domain"`
	DomainPath string   `json:"domainpath" doc:"path of that domain"`
	Account    string   `json:"account,omitempty" doc:"account that is invited"`
	UserID     cloud.ID `json:"userid,omitempty" doc:"the only user of the account that is invited"`
	Email      string   `json:"email,omitempty" doc:"address that the invitation is mailed to"`
	State      string   `json:"state" doc:"Pending, Completed, Expired or Declined"`
}

func viewInvitation(c *api.Call, i *cloud.ProjectInvitation) InvitationAnswer {
	v := InvitationAnswer{ID: i.ID, ProjectID: i.ProjectID, DomainID: i.DomainID, UserID: i.UserID, Email: i.Email, State: state(c, i)}
	if p, ok := tables.Projects.Get(c.Read, i.ProjectID); ok {
		v.Project = p.Name
	}
	if d, ok := tables.Domains.Get(c.Read, i.DomainID); ok {
		v.Domain, v.DomainPath = d.Name, d.Path
	}
	v.Account = accountName(c.Read, i.AccountID)
	return v
}

func state(c *api.Call, i *cloud.ProjectInvitation) string {
	if identity.Expired(i, c.Now) {
		return cloud.InvitationExpired.String()
	}
	return i.State.String()
}

type answerParams struct {
	ProjectID cloud.ID     `api:"projectid,required" doc:"project that the invitation is to"`
	Account   string       `api:"account" doc:"account of the project's domain that is invited; the caller's when absent"`
	Token     cloud.Secret `api:"token" doc:"token of an invitation by mail"`
	UserID    cloud.ID     `api:"userid" ref:"user" since:"4.15" doc:"user that is invited; the caller when absent"`
	Accept    *bool        `api:"accept" doc:"true (the default) to join, false to decline"`
}

func (h handlers) answerInvitation() api.Command {
	return api.Command{
		Name: "updateProjectInvitation", Doc: "Takes an invitation to a project up, or declines it.", Roles: api.Everyone,
		Event: "PROJECT.INVITATION.UPDATE", Entity: "ProjectInvitation",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *answerParams) (*api.Start, error) {
			account, user := c.Account, c.User.ID
			if u, ok := tables.Users.Get(tx, p.UserID); ok {
				if u.ID != user && !c.IsAdmin() { // an invitation of one user is that user's to take up
					return nil, api.NoEntity("userid", p.UserID)
				}
				if account, ok = tables.Accounts.Get(tx, u.AccountID); !ok {
					return nil, api.NoEntity("userid", p.UserID)
				}
				user = u.ID
			}
			project, known := tables.Projects.Get(tx, p.ProjectID)
			if known && p.Account != "" {
				a, ok := tables.Accounts.First(tx, "name", store.K(project.DomainID, strings.ToLower(p.Account)))
				if known = ok && c.May(api.Owner{Account: a.ID, Domain: a.DomainID}); known && a.ID != account.ID {
					account, user = a, cloud.ID{}
				}
			}
			var i *cloud.ProjectInvitation
			if known {
				i, known = identity.FindInvitation(tx, project, account, user, p.Token)
			}
			// Whoever is not invited learns nothing of the project, not even that it is there.
			if !known {
				return nil, api.NoEntity("projectid", p.ProjectID)
			}
			if err := identity.Answer(tx, i, account, p.Accept == nil || *p.Accept); err != nil {
				return nil, err
			}
			c.Describe(project.ID, "updating the invitation to project "+project.Name)
			return &api.Start{InstanceID: i.ID}, nil
		}),
		Step: done,
	}
}

type removeInvitationParams struct {
	ID cloud.ID `api:"id,required" ref:"projectinvitation" doc:"the invitation"`
}

func (h handlers) removeInvitation() api.Command {
	return api.Command{
		Name: "deleteProjectInvitation", Doc: "Takes an invitation to a project back.", Roles: api.Everyone,
		Event: "PROJECT.INVITATION.REMOVE", Entity: "ProjectInvitation",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeInvitationParams) (*api.Start, error) {
			i, ok := tables.ProjectInvitations.Get(tx, p.ID)
			if !ok {
				return nil, api.NoEntity("id", p.ID)
			}
			project, err := changeable(c, i.ProjectID)
			if err != nil {
				return nil, err
			}
			s := start(c, project, "removing an invitation to project")
			s.InstanceID = i.ID
			return s, tables.ProjectInvitations.Delete(tx, i.ID)
		}),
		Step: done,
	}
}

type listInvitationsParams struct {
	api.ListParams
	Account    string   `api:"account" doc:"only those of this account; with domainid"`
	DomainID   cloud.ID `api:"domainid" ref:"domain,use" doc:"only of this domain"`
	ListAll    bool     `api:"listall" doc:"all that the caller may see, not only its own"`
	Recursive  *bool    `api:"isrecursive" doc:"with domainid or listall: also of the domains below"`
	ProjectID  cloud.ID `api:"projectid" doc:"only to this project; its admins see all of them"`
	ID         cloud.ID `api:"id" doc:"only this invitation"`
	ActiveOnly bool     `api:"activeonly" doc:"only those that can be taken up"`
	State      string   `api:"state" doc:"only in this state: Pending, Completed, Expired or Declined"`
	UserID     cloud.ID `api:"userid" since:"4.15" doc:"only those of this user alone"`
}

// Owned implements api.Owned. Invitations belong to whom they invite, not to the project.
func (p *listInvitationsParams) Owned() *api.OwnedParams {
	return &api.OwnedParams{AccountName: p.Account, DomainID: p.DomainID, ListAll: p.ListAll, Recursive: p.Recursive}
}

func (h handlers) listInvitations() api.Command {
	return api.Command{
		Name: "listProjectInvitations", Doc: "Lists invitations to projects.", Roles: api.Everyone, Object: "projectinvitation",
		Run: api.List(api.Lister[listInvitationsParams, invitationRow, InvitationAnswer]{
			Rows: func(c *api.Call, p *listInvitationsParams) (iter.Seq[*invitationRow], error) {
				adminOf := cloud.ID{}
				if !p.ProjectID.IsZero() {
					project, ok := tables.Projects.Get(c.Read, p.ProjectID)
					if ok && c.May(ownerOf(project)) && isAdmin(c, project) {
						adminOf = project.ID
					} else if !ok || !c.May(ownerOf(project)) && !invited(c, project.ID) {
						return nil, api.NoEntity("projectid", p.ProjectID)
					}
				}
				return func(yield func(*invitationRow) bool) {
					for i := range tables.ProjectInvitations.By(c.Read, "project", p.key()) {
						row := &invitationRow{i, adminOf == i.ProjectID && p.Account == "", ""}
						if project, ok := tables.Projects.Get(c.Read, i.ProjectID); ok {
							row.project = project.Name
						}
						if p.wants(c, i) && !yield(row) {
							return
						}
					}
				}, nil
			},
			Owner: func(_ *api.Call, i *invitationRow) api.Owner {
				return api.Owner{Account: i.AccountID, Domain: i.DomainID}
			},
			Visible: func(_ *api.Call, i *invitationRow) bool { return i.ours },
			Keyword: func(i *invitationRow) string { return i.project + "\n" + i.Email },
			Less:    func(a, b *invitationRow) int { return a.Created.Compare(b.Created) },
			View:    func(c *api.Call, i *invitationRow) InvitationAnswer { return viewInvitation(c, i.ProjectInvitation) },
		}),
	}
}

// invited tells whether the caller's account has an invitation to a project.
func invited(c *api.Call, project cloud.ID) bool {
	return tables.ProjectInvitations.Count(c.Read, "project", store.K(project, c.Account.ID)) > 0
}

// invitationRow is an invitation, with whether it is shown as the caller is the project's admin.
type invitationRow struct {
	*cloud.ProjectInvitation
	ours    bool
	project string
}

// key is the part of the index to walk.
func (p *listInvitationsParams) key() store.Key {
	if p.ProjectID.IsZero() {
		return nil
	}
	return store.K(p.ProjectID)
}

func (p *listInvitationsParams) wants(c *api.Call, i *cloud.ProjectInvitation) bool {
	s := state(c, i)
	return (p.ID.IsZero() || p.ID == i.ID) && (!p.ActiveOnly || s == cloud.InvitationPending.String()) &&
		(p.State == "" || strings.EqualFold(p.State, s)) && (p.UserID.IsZero() || p.UserID == i.UserID) &&
		(i.UserID.IsZero() || i.UserID == c.User.ID || i.AccountID != c.Account.ID)
}
