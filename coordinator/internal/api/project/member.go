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

// memberByName finds a member by the name of its account, or one user's own membership.
func memberByName(r store.Reader, p *cloud.Project, account string, user cloud.ID) (*cloud.ProjectMember, bool) {
	for m := range tables.ProjectMembers.By(r, "project", store.K(p.ID)) {
		if m.UserID == user && (account == "" || strings.EqualFold(accountName(r, m.AccountID), account)) {
			return m, true
		}
	}
	return nil, false
}

type addAccountParams struct {
	ProjectID     cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	Account       string   `api:"account" doc:"account of the project's domain that joins"`
	Email         string   `api:"email" doc:"mail address that an invitation is sent to"`
	RoleType      string   `api:"roletype" since:"4.15" enum:"Admin,Regular" doc:"Regular (the default); an account becomes admin by updateProject"`
	ProjectRoleID cloud.ID `api:"projectroleid" ref:"projectrole" since:"4.15" doc:"role of the project's own that the account gets; a member gets it instead of its own"`
}

func (h handlers) addAccount() api.Command {
	return api.Command{
		Name: "addAccountToProject", Doc: "Lets an account work on a project, or invites it to.", Roles: api.Everyone,
		Event: "PROJECT.ACCOUNT.ADD", Entity: "Project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *addAccountParams) (*api.Start, error) {
			project, err := active(c, p.ProjectID, "add account to")
			if err != nil {
				return nil, err
			}
			if role(p.RoleType) == cloud.ProjectAdmin {
				return nil, cloud.Errorf(cloud.Invalid, "Invalid value %s in parameter roletype: an account becomes a project's admin by updateProject", p.RoleType)
			}
			as := identity.Part{CustomRoleID: p.ProjectRoleID}
			if err := ofProject(tx, project.ID, p.ProjectRoleID); err != nil {
				return nil, err
			}
			var account *cloud.Account
			if p.Account != "" {
				if account, err = inDomain(tx, project, p.Account); err != nil {
					return nil, err
				}
				if m, member := identity.Member(tx, project.ID, account.ID, cloud.ID{}); member {
					return start(c, project, "adding account "+p.Account+" to project"), again(tx, project, m, as)
				}
			}
			if err := h.join(c, tx, project, account, cloud.ID{}, p.Email, as); err != nil {
				return nil, err
			}
			return start(c, project, "adding account "+p.Account+p.Email+" to project"), nil
		}),
		Step: done,
	}
}

// ofProject refuses a role of another project, as one that is not there.
func ofProject(r store.Reader, project, role cloud.ID) error {
	if _, ok := identity.ProjectRole(r, project, role); !ok && !role.IsZero() {
		return api.NoEntity("projectroleid", role)
	}
	return nil
}

// again is what adding somebody does who is a member already: a role that is named is theirs from now on.
func again(tx *store.Tx, p *cloud.Project, m *cloud.ProjectMember, as identity.Part) error {
	if as.CustomRoleID.IsZero() {
		return nil
	}
	return identity.AddMember(tx, p, m.AccountID, m.UserID, identity.Part{Role: m.Role, CustomRoleID: as.CustomRoleID})
}

// inDomain finds the account of a project's domain that is to join it.
func inDomain(r store.Reader, p *cloud.Project, name string) (*cloud.Account, error) {
	a, ok := tables.Accounts.First(r, "name", store.K(p.DomainID, strings.ToLower(name)))
	if !ok || a.System || a.Type == cloud.ProjectAccount || a.State != cloud.Enabled {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find account name=%s in domain id=%s", name, p.DomainID)
	}
	return a, nil
}

// join makes an account a member, or where it has to agree invites it; account is nil where there is only an address.
func (h handlers) join(c *api.Call, tx *store.Tx, p *cloud.Project, account *cloud.Account, user cloud.ID, email string, as identity.Part) error {
	if !identity.InviteRequired.Bool(tx) {
		if account == nil {
			return cloud.Errorf(cloud.Invalid, "Account information is required for assigning account to the project")
		}
		return identity.AddMember(tx, p, account.ID, user, as)
	}
	if account == nil && email == "" {
		return cloud.Errorf(cloud.Invalid, "Either account or email is required to invite somebody to the project")
	}
	if account != nil {
		if err := identity.Invite(tx, p, account.ID, user, as); err != nil {
			return err
		}
	}
	if email != "" {
		return identity.InviteByMail(tx, h.Seal, p, c.Account.ID, email, as)
	}
	return nil
}

type removeAccountParams struct {
	ProjectID cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	Account   string   `api:"account,required" doc:"account that leaves"`
}

func (h handlers) removeAccount() api.Command {
	return api.Command{
		Name: "deleteAccountFromProject", Doc: "Ends an account's work on a project.", Roles: api.Everyone,
		Event: "PROJECT.ACCOUNT.REMOVE", Entity: "Project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeAccountParams) (*api.Start, error) {
			project, err := changeable(c, p.ProjectID)
			if err != nil {
				return nil, err
			}
			m, ok := memberByName(tx, project, p.Account, cloud.ID{})
			if !ok {
				return nil, cloud.Errorf(cloud.Invalid, "Account %s is not assigned to the project with specified id", p.Account)
			}
			if m.Role == cloud.ProjectAdmin {
				return nil, cloud.Errorf(cloud.Invalid, "Unable to delete account %s from the project id=%s as the account is the owner of the project", p.Account, project.ID)
			}
			return start(c, project, "removing account "+p.Account+" from project"), tables.ProjectMembers.Delete(tx, m.ID)
		}),
		Step: done,
	}
}

type addUserParams struct {
	ProjectID     cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	Username      string   `api:"username,required" doc:"user of the project's domain that joins alone, without the rest of its account"`
	Email         string   `api:"email" doc:"mail address that an invitation is sent to, where one is required"`
	RoleType      string   `api:"roletype" enum:"Admin,Regular" doc:"Admin or Regular (the default)"`
	ProjectRoleID cloud.ID `api:"projectroleid" ref:"projectrole" doc:"role of the project's own that the user gets; a member gets it instead of its own"`
}

func (h handlers) addUser() api.Command {
	return api.Command{
		Name: "addUserToProject", Doc: "Lets one user work on a project, or invites it to.", Roles: api.Everyone, Since: "4.15",
		Event: "PROJECT.ACCOUNT.ADD", Entity: "Project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *addUserParams) (*api.Start, error) {
			project, err := active(c, p.ProjectID, "add user to")
			if err != nil {
				return nil, err
			}
			as := identity.Part{Role: role(p.RoleType), CustomRoleID: p.ProjectRoleID}
			if err := ofProject(tx, project.ID, p.ProjectRoleID); err != nil {
				return nil, err
			}
			u, ok := tables.Users.First(tx, "username", store.K(project.DomainID, strings.ToLower(p.Username)))
			if !ok {
				return nil, cloud.Errorf(cloud.Invalid, "Unable to find user %s in domain id=%s", p.Username, project.DomainID)
			}
			a, ok := tables.Accounts.Get(tx, u.AccountID)
			if !ok || a.System || a.State != cloud.Enabled {
				return nil, cloud.Errorf(cloud.Invalid, "Unable to find user %s in domain id=%s", p.Username, project.DomainID)
			}
			if m, member := identity.Member(tx, project.ID, a.ID, u.ID); member {
				err = again(tx, project, m, as)
			} else {
				err = h.join(c, tx, project, a, u.ID, p.Email, as)
			}
			if err != nil {
				return nil, err
			}
			return start(c, project, "adding user "+p.Username+" to project"), nil
		}),
		Step: done,
	}
}

type removeUserParams struct {
	ProjectID cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	UserID    cloud.ID `api:"userid,required" doc:"user that leaves"`
}

func (h handlers) removeUser() api.Command {
	return api.Command{
		Name: "deleteUserFromProject", Doc: "Ends a user's work on a project.", Roles: api.Everyone, Since: "4.15",
		Event: "PROJECT.ACCOUNT.REMOVE", Entity: "Project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeUserParams) (*api.Start, error) {
			project, err := changeable(c, p.ProjectID)
			if err != nil {
				return nil, err
			}
			m, ok := memberByName(tx, project, "", p.UserID)
			if !ok || p.UserID.IsZero() {
				return nil, api.NoEntity("userid", p.UserID)
			}
			return start(c, project, "removing a user from project"), tables.ProjectMembers.Delete(tx, m.ID)
		}),
		Step: done,
	}
}

// MemberAnswer is a member as clients see it.
type MemberAnswer struct {
	ProjectID     cloud.ID     `json:"projectid" doc:"the project"`
	Project       string       `json:"project" doc:"name of the project"`
	AccountID     cloud.ID     `json:"accountid" doc:"the member's account"`
	Account       string       `json:"account" doc:"name of that account"`
	AccountType   int          `json:"accounttype" doc:"type of that account"`
	UserID        cloud.ID     `json:"userid,omitempty" doc:"the only user of the account that works on the project"`
	Username      string       `json:"username,omitempty" doc:"name of that user"`
	Role          string       `json:"role" doc:"Admin or Regular"`
	ProjectRoleID cloud.ID     `json:"projectroleid,omitempty" doc:"role of the project's own that it has"`
	DomainID      cloud.ID     `json:"domainid" doc:"domain of the account"`
	Domain        string       `json:"domain" doc:"name of that domain"`
	Users         []UserAnswer `json:"user" doc:"users that work on the project"`
}

// UserAnswer is a user as the other members of a project see it: no address and no keys.
type UserAnswer struct {
	ID        cloud.ID `json:"id" doc:"the user"`
	Username  string   `json:"username" doc:"its name"`
	FirstName string   `json:"firstname" doc:"first name"`
	LastName  string   `json:"lastname" doc:"last name"`
	State     string   `json:"state" doc:"enabled, disabled or locked"`
	Account   string   `json:"account" doc:"its account"`
}

func viewMember(c *api.Call, m *cloud.ProjectMember) MemberAnswer {
	v := MemberAnswer{ProjectID: m.ProjectID, AccountID: m.AccountID, UserID: m.UserID, Role: m.Role.String(), ProjectRoleID: m.CustomRoleID, Users: []UserAnswer{}}
	if p, ok := tables.Projects.Get(c.Read, m.ProjectID); ok {
		v.Project = p.Name
	}
	if a, ok := tables.Accounts.Get(c.Read, m.AccountID); ok {
		v.Account, v.AccountType, v.DomainID = a.Name, int(a.Type), a.DomainID
	}
	if d, ok := tables.Domains.Get(c.Read, v.DomainID); ok {
		v.Domain = d.Name
	}
	for u := range tables.Users.By(c.Read, "account", store.K(m.AccountID)) {
		if u.ID == m.UserID {
			v.Username = u.Username
		}
		if m.UserID.IsZero() || u.ID == m.UserID {
			v.Users = append(v.Users, UserAnswer{u.ID, u.Username, u.FirstName, u.LastName, u.State.String(), v.Account})
		}
	}
	return v
}

type listAccountsParams struct {
	api.ListParams
	ProjectID     cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	Account       string   `api:"account" doc:"only the member of this name"`
	Role          string   `api:"role" doc:"only of this role: Admin or Regular"`
	UserID        cloud.ID `api:"userid" since:"4.15" doc:"only this user"`
	ProjectRoleID cloud.ID `api:"projectroleid" since:"4.15" doc:"only with this role of the project's own"`
}

func (h handlers) listAccounts() api.Command {
	return api.Command{
		Name: "listProjectAccounts", Doc: "Lists who works on a project.", Roles: api.Everyone, Object: "projectaccount",
		Run: api.List(api.Lister[listAccountsParams, memberRow, MemberAnswer]{
			Rows: func(c *api.Call, p *listAccountsParams) (iter.Seq[*memberRow], error) {
				return func(yield func(*memberRow) bool) {
					for m := range tables.ProjectMembers.By(c.Read, "project", store.K(p.ProjectID)) {
						row := &memberRow{m, accountName(c.Read, m.AccountID)}
						if (p.Account == "" || strings.EqualFold(p.Account, row.name)) && (p.Role == "" || strings.EqualFold(p.Role, m.Role.String())) &&
							(p.UserID.IsZero() || p.UserID == m.UserID) && (p.ProjectRoleID.IsZero() || p.ProjectRoleID == m.CustomRoleID) && !yield(row) {
							return
						}
					}
				}, nil
			},
			Keyword: func(m *memberRow) string { return m.name },
			Less:    func(a, b *memberRow) int { return a.Created.Compare(b.Created) },
			View:    func(c *api.Call, m *memberRow) MemberAnswer { return viewMember(c, m.ProjectMember) },
		}),
	}
}

// memberRow is a member with the name of its account, which keyword= searches.
type memberRow struct {
	*cloud.ProjectMember
	name string
}
