package identity

import (
	"errors"
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// PermitsInProject tells whether a member may call a command on what its project owns: an Admin, and a member without a
// role of the project's own, may call all that their account may; of such a role the first rule that fits the command
// decides, and where none fits it takes nothing away.
func PermitsInProject(r store.Reader, m *cloud.ProjectMember, command string) bool {
	if m.Role == cloud.ProjectAdmin || m.CustomRoleID.IsZero() {
		return true
	}
	for p := range tables.RolePermissions.By(r, "role", store.K(m.CustomRoleID)) {
		if Fits(p.Rule, command) {
			return p.Allow
		}
	}
	return true
}

// What a project may hold of them: each call of a member walks the rules of its role.
const (
	maxProjectRoles = 100
	maxProjectRules = 200
)

// ProjectRole finds a role of a project; one of another project is not there.
func ProjectRole(r store.Reader, project, id cloud.ID) (*cloud.CustomProjectRole, bool) {
	role, ok := tables.CustomProjectRoles.Get(r, id)
	if !ok || role.ProjectID != project {
		return nil, false
	}
	return role, true
}

// PutProjectRole writes a new or changed role of a project; id and time are chosen here when they are zero.
func PutProjectRole(tx *store.Tx, role *cloud.CustomProjectRole) error {
	if err := checkName("project role", role.Name); err != nil {
		return err
	}
	if role.ID.IsZero() {
		if tables.CustomProjectRoles.Count(tx, "name", store.K(role.ProjectID)) >= maxProjectRoles {
			return cloud.Errorf(cloud.LimitExceeded, "The project id=%s has %d roles already, which is the most", role.ProjectID, maxProjectRoles)
		}
		role.ID, role.Created = tx.NewID(), tx.Now()
	}
	err := tables.CustomProjectRoles.Put(tx, role)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "Project role with name %s already exists in the project id=%s", role.Name, role.ProjectID)
	}
	if err != nil {
		return fmt.Errorf("write project role %s: %w", role.Name, err)
	}
	return nil
}

// DeleteProjectRole removes a role, with its rules, that no member has and no invitation promises.
func DeleteProjectRole(tx *store.Tx, role *cloud.CustomProjectRole) error {
	for m := range tables.ProjectMembers.By(tx, "project", store.K(role.ProjectID)) {
		if m.CustomRoleID == role.ID {
			return cloud.Errorf(cloud.Invalid, "Found users that have project role %s in use, won't allow to delete it: account id=%s", role.Name, m.AccountID)
		}
	}
	for i := range tables.ProjectInvitations.By(tx, "project", store.K(role.ProjectID)) {
		if i.CustomRoleID == role.ID && i.State == cloud.InvitationPending && !Expired(i, tx.Now()) {
			return cloud.Errorf(cloud.Invalid, "The invitation id=%s gives project role %s, won't allow to delete it", i.ID, role.Name)
		}
	}
	return dropProjectRole(tx, role)
}

func dropProjectRole(tx *store.Tx, role *cloud.CustomProjectRole) error {
	for id := range tables.RolePermissions.IDs(tx, "role", store.K(role.ID)) {
		if err := tables.RolePermissions.Delete(tx, id); err != nil {
			return fmt.Errorf("delete rule of project role %s: %w", role.Name, err)
		}
	}
	return tables.CustomProjectRoles.Delete(tx, role.ID)
}

// AddProjectRule puts a rule at the end of a project role's.
func AddProjectRule(tx *store.Tx, role *cloud.CustomProjectRole, rule string, allow bool, text string) (*cloud.RolePermission, error) {
	if tables.RolePermissions.Count(tx, "role", store.K(role.ID)) >= maxProjectRules {
		return nil, cloud.Errorf(cloud.LimitExceeded, "Project role %s has %d rules already, which is the most", role.Name, maxProjectRules)
	}
	return AddRule(tx, role.ID, rule, allow, text)
}
