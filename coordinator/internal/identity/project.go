package identity

import (
	"errors"
	"fmt"
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// projectAccountPrefix begins the names of projects' accounts, as clients know them. An ID follows, so that nobody can
// take the name of a project's account before the project is there.
const projectAccountPrefix = "PrjAcct-"

// CreateProject makes a project whose admin is the owner, with the account that will own its resources.
func CreateProject(tx *store.Tx, owner *cloud.Account, name, text string) (*cloud.Project, error) {
	if err := checkName("project", name); err != nil {
		return nil, err
	}
	if err := Count(tx, owner.ID, cloud.ResourceProject, 1); err != nil {
		return nil, err
	}
	p := &cloud.Project{ID: tx.NewID(), Name: name, DisplayText: text, DomainID: owner.DomainID, Created: tx.Now()}
	d, ok := tables.Domains.Get(tx, owner.DomainID)
	if !ok {
		return nil, fmt.Errorf("create project %s: domain %s is gone", name, owner.DomainID)
	}
	own, err := CreateAccount(tx, AccountSpec{
		Name: projectAccountPrefix + p.ID.String(), Type: cloud.ProjectAccount, DomainID: d.ID, NetworkDomain: d.Network,
	})
	if err != nil {
		return nil, err
	}
	p.AccountID = own.ID
	if err := PutProject(tx, p); err != nil {
		return nil, err
	}
	return p, AddMember(tx, p, owner.ID, cloud.ID{}, Part{Role: cloud.ProjectAdmin})
}

// PutProject writes a new or changed project.
func PutProject(tx *store.Tx, p *cloud.Project) error {
	if err := checkName("project", p.Name); err != nil {
		return err
	}
	err := tables.Projects.Put(tx, p)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "Project with name %s already exists in domain id=%s", p.Name, p.DomainID)
	}
	if err != nil {
		return fmt.Errorf("write project %s: %w", p.Name, err)
	}
	return nil
}

// Member finds how an account as a whole (user zero), or one user of it alone, works on a project.
func Member(r store.Reader, project, account, user cloud.ID) (*cloud.ProjectMember, bool) {
	return tables.ProjectMembers.First(r, "project", store.K(project, account, user))
}

// Part is what a member may do: everything as an Admin, else what a role of the project's own does not deny.
type Part struct {
	Role         cloud.ProjectRole
	CustomRoleID cloud.ID
}

// AddMember lets an account, or one user of it alone, work on a project; one that does already gets the role.
func AddMember(tx *store.Tx, p *cloud.Project, account, user cloud.ID, as Part) error {
	m, ok := Member(tx, p.ID, account, user)
	if !ok {
		m = &cloud.ProjectMember{ID: tx.NewID(), ProjectID: p.ID, AccountID: account, UserID: user, OwnerID: p.AccountID, Created: tx.Now()}
	}
	m.Role, m.CustomRoleID = as.Role, as.CustomRoleID
	if err := tables.ProjectMembers.Put(tx, m); err != nil {
		return fmt.Errorf("add account %s to project %s: %w", account, p.Name, err)
	}
	return nil
}

// OwnerOf is the account that a project counts for: its first admin.
func OwnerOf(r store.Reader, p *cloud.Project) (*cloud.ProjectMember, bool) {
	for m := range tables.ProjectMembers.By(r, "project", store.K(p.ID)) {
		if m.Role == cloud.ProjectAdmin && m.UserID.IsZero() {
			return m, true
		}
	}
	return nil, false
}

// ChangeOwner makes another member the project's admin, and the one until then a regular member.
func ChangeOwner(tx *store.Tx, p *cloud.Project, account *cloud.Account) error {
	next, ok := Member(tx, p.ID, account.ID, cloud.ID{})
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Account %s is not assigned to the project id=%s", account.Name, p.ID)
	}
	// One that is being removed would take the project's last admin with it.
	if account.State != cloud.Enabled {
		return cloud.Errorf(cloud.Denied, "The account %s is %s", account.Name, account.State)
	}
	was, ok := OwnerOf(tx, p)
	if ok && was.AccountID == account.ID {
		return nil
	}
	if err := Count(tx, account.ID, cloud.ResourceProject, 1); err != nil {
		return err
	}
	if ok {
		if err := Count(tx, was.AccountID, cloud.ResourceProject, -1); err != nil {
			return err
		}
		was.Role = cloud.ProjectRegular
		if err := tables.ProjectMembers.Put(tx, was); err != nil {
			return fmt.Errorf("change owner of project %s: %w", p.Name, err)
		}
	}
	next.Role, next.CustomRoleID = cloud.ProjectAdmin, cloud.ID{}
	return tables.ProjectMembers.Put(tx, next)
}

// SetProjectState suspends or activates a project: nothing is made for a suspended one. Whoever suspends it stops its
// virtual machines.
func SetProjectState(tx *store.Tx, p *cloud.Project, s cloud.ProjectState) error {
	a, ok := tables.Accounts.Get(tx, p.AccountID)
	if !ok {
		return fmt.Errorf("change project %s: its account is gone", p.Name)
	}
	state := cloud.Disabled
	if s == cloud.ProjectActive {
		state = cloud.Enabled
	}
	if err := SetAccountState(tx, a, state); err != nil {
		return err
	}
	p.State = s
	return PutProject(tx, p)
}

// BeginProjectRemoval shuts a project that is to be removed. RemoveAccount of its account then removes it, with
// OwnedProject among the kinds.
func BeginProjectRemoval(tx *store.Tx, p *cloud.Project) error {
	a, ok := tables.Accounts.Get(tx, p.AccountID)
	if !ok {
		return fmt.Errorf("remove project %s: its account is gone", p.Name)
	}
	p.State = cloud.ProjectDisabled
	if err := tables.Projects.Put(tx, p); err != nil {
		return fmt.Errorf("remove project %s: %w", p.Name, err)
	}
	return BeginRemoval(tx, a)
}

// OwnedProject is the project of a project's account: it goes last, when nothing is left that belongs to it.
var OwnedProject = Owned{
	Kind: "project",
	IDs: func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] {
		return tables.Projects.IDs(r, "account", store.K(owner))
	},
	Remove: func(tx *store.Tx, id cloud.ID) (bool, error) {
		p, ok := tables.Projects.Get(tx, id)
		if !ok {
			return false, nil
		}
		return true, dropProject(tx, p)
	},
}

// dropProject removes a project's rows but for its account.
func dropProject(tx *store.Tx, p *cloud.Project) error {
	if m, ok := OwnerOf(tx, p); ok && tables.Accounts.Has(tx, m.AccountID) {
		if err := Count(tx, m.AccountID, cloud.ResourceProject, -1); err != nil {
			return err
		}
	}
	for id := range tables.ProjectMembers.IDs(tx, "project", store.K(p.ID)) {
		if err := tables.ProjectMembers.Delete(tx, id); err != nil {
			return fmt.Errorf("remove members of project %s: %w", p.Name, err)
		}
	}
	for id := range tables.ProjectInvitations.IDs(tx, "project", store.K(p.ID)) {
		if err := tables.ProjectInvitations.Delete(tx, id); err != nil {
			return fmt.Errorf("remove invitations to project %s: %w", p.Name, err)
		}
	}
	for role := range tables.CustomProjectRoles.By(tx, "name", store.K(p.ID)) {
		if err := dropProjectRole(tx, role); err != nil {
			return err
		}
	}
	return tables.Projects.Delete(tx, p.ID)
}

// OwnedMembership is an account's part in projects. An account that is a project's admin is not removed before it.
var OwnedMembership = Owned{
	Kind: "project membership",
	IDs: func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] {
		return tables.ProjectMembers.IDs(r, "account", store.K(owner))
	},
	Remove: func(tx *store.Tx, id cloud.ID) (bool, error) { return true, tables.ProjectMembers.Delete(tx, id) },
	Refuse: func(r store.Reader, owner cloud.ID) error {
		for m := range tables.ProjectMembers.By(r, "account", store.K(owner)) {
			if m.Role == cloud.ProjectAdmin && m.UserID.IsZero() {
				return cloud.Errorf(cloud.InUse, "The account id=%s manages project(s) with ids %s and can't be removed", owner, m.ProjectID)
			}
		}
		return nil
	},
}

// OwnedInvitation is what an account was invited to.
var OwnedInvitation = Owned{
	Kind: "project invitation",
	IDs: func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] {
		return tables.ProjectInvitations.IDs(r, "account", store.K(owner))
	},
	Remove: func(tx *store.Tx, id cloud.ID) (bool, error) { return true, tables.ProjectInvitations.Delete(tx, id) },
}
