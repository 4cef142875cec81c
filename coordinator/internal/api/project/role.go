package project

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	rules "github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RoleAnswer is a role of a project's own as clients see it.
type RoleAnswer struct {
	ID          cloud.ID `json:"id" doc:"the role"`
	Name        string   `json:"name" doc:"its name"`
	Description string   `json:"description,omitempty" doc:"what it is for"`
	ProjectID   cloud.ID `json:"projectid" doc:"its project"`
	IsPublic    bool     `json:"ispublic" doc:"true: all members see it"`
}

func viewRole(_ *api.Call, r *cloud.CustomProjectRole) RoleAnswer {
	return RoleAnswer{ID: r.ID, Name: r.Name, Description: r.Description, ProjectID: r.ProjectID, IsPublic: true}
}

// ownRole finds a role of a project that the caller may change.
func ownRole(c *api.Call, param string, project, id cloud.ID) (*cloud.CustomProjectRole, error) {
	p, err := changeable(c, project)
	if err != nil {
		return nil, err
	}
	r, ok := identity.ProjectRole(c.Read, p.ID, id)
	if !ok {
		return nil, api.NoEntity(param, id)
	}
	c.EventOwner(ownerOf(p))
	return r, nil
}

type createRoleParams struct {
	ProjectID   cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	Name        string   `api:"name,required" doc:"name of the role, one of a kind in the project"`
	Description string   `api:"description" doc:"what it is for"`
}

func createRole() api.Command {
	return api.Command{
		Name: "createProjectRole", Doc: "Makes a role of a project's own; without rules it takes nothing from members.", Since: "4.15.0", Roles: api.Everyone,
		Event: "PROJECT.ROLE.CREATE", Entity: "ProjectRole", Object: "projectrole",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createRoleParams) (RoleAnswer, error) {
			project, err := active(c, p.ProjectID, "make a role for")
			if err != nil {
				return RoleAnswer{}, err
			}
			r := &cloud.CustomProjectRole{ProjectID: project.ID, Name: p.Name, Description: p.Description}
			if err := identity.PutProjectRole(tx, r); err != nil {
				return RoleAnswer{}, err
			}
			c.EventOwner(ownerOf(project))
			c.Describe(r.ID, "creating role "+r.Name+" of project "+project.Name)
			return viewRole(c, r), nil
		}),
	}
}

type updateRoleParams struct {
	ID          cloud.ID `api:"id,required" ref:"projectrole" doc:"the role"`
	ProjectID   cloud.ID `api:"projectid,required" ref:"project" doc:"its project"`
	Name        string   `api:"name" doc:"new name"`
	Description *string  `api:"description" doc:"new description"`
}

func updateRole() api.Command {
	return api.Command{
		Name: "updateProjectRole", Doc: "Renames a role of a project's own, or describes it anew.", Since: "4.15.0", Roles: api.Everyone,
		Event: "PROJECT.ROLE.UPDATE", Entity: "ProjectRole", Object: "projectrole",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateRoleParams) (RoleAnswer, error) {
			r, err := ownRole(c, "id", p.ProjectID, p.ID)
			if err != nil {
				return RoleAnswer{}, err
			}
			if p.Name != "" {
				r.Name = p.Name
			}
			if p.Description != nil {
				r.Description = *p.Description
			}
			c.Describe(r.ID, "updating project role "+r.Name)
			return viewRole(c, r), identity.PutProjectRole(tx, r)
		}),
	}
}

type roleParams struct {
	ID        cloud.ID `api:"id,required" ref:"projectrole" doc:"the role"`
	ProjectID cloud.ID `api:"projectid,required" ref:"project" doc:"its project"`
}

func removeRole() api.Command {
	return api.Command{
		Name: "deleteProjectRole", Doc: "Deletes a role of a project's own that no member has.", Since: "4.15.0", Roles: api.Everyone,
		Event: "PROJECT.ROLE.DELETE", Entity: "ProjectRole",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *roleParams) error {
			r, err := ownRole(c, "id", p.ProjectID, p.ID)
			if err != nil {
				return err
			}
			c.Describe(r.ID, "deleting project role "+r.Name)
			return identity.DeleteProjectRole(tx, r)
		}),
	}
}

type listRolesParams struct {
	api.ListParams
	ProjectID     cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	ProjectRoleID cloud.ID `api:"projectroleid" doc:"only this role"`
	Name          string   `api:"name" doc:"only the role of this name"`
}

func listRoles() api.Command {
	return api.Command{
		Name: "listProjectRoles", Doc: "Lists the roles of a project's own.", Since: "4.15.0", Roles: api.Everyone, Object: "projectrole",
		Run: api.List(api.Lister[listRolesParams, cloud.CustomProjectRole, RoleAnswer]{
			Rows: func(c *api.Call, p *listRolesParams) (iter.Seq[*cloud.CustomProjectRole], error) {
				return func(yield func(*cloud.CustomProjectRole) bool) {
					for r := range tables.CustomProjectRoles.By(c.Read, "name", store.K(p.ProjectID)) {
						fits := (p.ProjectRoleID.IsZero() || p.ProjectRoleID == r.ID) && (p.Name == "" || strings.EqualFold(p.Name, r.Name))
						if fits && !yield(r) {
							return
						}
					}
				}, nil
			},
			Keyword: func(r *cloud.CustomProjectRole) string { return r.Name + "\n" + r.Description },
			View:    viewRole,
		}),
	}
}

// RuleAnswer is a rule of a role of a project's own as clients see it.
type RuleAnswer struct {
	ID        cloud.ID `json:"id" doc:"the rule"`
	ProjectID cloud.ID `json:"projectid" doc:"project of the role"`
	RoleID    cloud.ID `json:"projectroleid" doc:"its role"`
	RoleName  string   `json:"projectrolename" doc:"name of its role"`
	rules.RuleText
}

func viewRule(c *api.Call, p *cloud.RolePermission) RuleAnswer {
	v := RuleAnswer{ID: p.ID, RoleID: p.RoleID, RuleText: rules.TextOf(p)}
	if r, ok := tables.CustomProjectRoles.Get(c.Read, p.RoleID); ok {
		v.ProjectID, v.RoleName = r.ProjectID, r.Name
	}
	return v
}

type createRuleParams struct {
	ProjectID   cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	RoleID      cloud.ID `api:"projectroleid,required" ref:"projectrole" doc:"the role"`
	Rule        string   `api:"rule,required" doc:"a command's name; * stands for any letters"`
	Permission  string   `api:"permission,required" enum:"allow,deny" doc:"allow or deny"`
	Description string   `api:"description" doc:"what it is for"`
}

func createRule() api.Command {
	return api.Command{
		Name: "createProjectRolePermission", Doc: "Adds a rule after the others of a role of a project's own.", Since: "4.15.0", Roles: api.Everyone,
		Event: "PROJECT.ROLE.PERMISSION.CREATE", Entity: "ProjectRole", Object: "projectrolepermission",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createRuleParams) (RuleAnswer, error) {
			r, err := ownRole(c, "projectroleid", p.ProjectID, p.RoleID)
			if err != nil {
				return RuleAnswer{}, err
			}
			x, err := identity.AddProjectRule(tx, r, p.Rule, p.Permission == "allow", p.Description)
			if err != nil {
				return RuleAnswer{}, err
			}
			c.Describe(r.ID, "adding rule "+x.Rule+" to project role "+r.Name)
			return viewRule(c, x), nil
		}),
	}
}

type updateRuleParams struct {
	ProjectID  cloud.ID   `api:"projectid,required" ref:"project" doc:"the project"`
	RoleID     cloud.ID   `api:"projectroleid,required" ref:"projectrole" doc:"the role"`
	RuleID     cloud.ID   `api:"projectrolepermissionid" ref:"projectrolepermission" doc:"the rule whose permission changes"`
	Permission string     `api:"permission" enum:"allow,deny" doc:"its new permission"`
	Order      []cloud.ID `api:"ruleorder" ref:"projectrolepermission" doc:"instead: all rules of the role in their new order"`
}

func updateRule() api.Command {
	return api.Command{
		Name: "updateProjectRolePermission", Doc: "Changes what a rule of a role of a project's own says, or the order of its rules.", Since: "4.15.0", Roles: api.Everyone,
		Event: "PROJECT.ROLE.PERMISSION.UPDATE", Entity: "ProjectRole",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *updateRuleParams) error {
			r, err := ownRole(c, "projectroleid", p.ProjectID, p.RoleID)
			if err != nil {
				return err
			}
			c.Describe(r.ID, "updating rules of project role "+r.Name)
			return identity.ChangeRules(tx, r.ID, identity.RuleChange{
				Param: "projectrolepermissionid", Rule: p.RuleID, Permission: p.Permission, Order: p.Order,
			})
		}),
	}
}

type ruleParams struct {
	ID        cloud.ID `api:"id,required" ref:"projectrolepermission" doc:"the rule"`
	ProjectID cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
}

func removeRule() api.Command {
	return api.Command{
		Name: "deleteProjectRolePermission", Doc: "Removes a rule from a role of a project's own.", Since: "4.15.0", Roles: api.Everyone,
		Event: "PROJECT.ROLE.PERMISSION.DELETE", Entity: "ProjectRole",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *ruleParams) error {
			x, ok := tables.RolePermissions.Get(tx, p.ID)
			if ok {
				_, ok = identity.ProjectRole(tx, p.ProjectID, x.RoleID)
			}
			if !ok {
				return api.NoEntity("id", p.ID)
			}
			r, err := ownRole(c, "id", p.ProjectID, x.RoleID)
			if err != nil {
				return err
			}
			c.Describe(r.ID, "removing rule "+x.Rule+" of project role "+r.Name)
			return tables.RolePermissions.Delete(tx, x.ID)
		}),
	}
}

type listRulesParams struct {
	ProjectID cloud.ID `api:"projectid,required" ref:"project" doc:"the project"`
	RoleID    cloud.ID `api:"projectroleid" doc:"only of this role"`
}

func listRules() api.Command {
	return api.Command{
		Name: "listProjectRolePermissions", Doc: "Lists the rules of a project's own roles, in the order in which they are tried.", Since: "4.15.0", Roles: api.Everyone,
		Object: "projectrolepermission",
		Run: api.List(api.Lister[listRulesParams, cloud.RolePermission, RuleAnswer]{
			Unpaged: true,
			Rows: func(c *api.Call, p *listRulesParams) (iter.Seq[*cloud.RolePermission], error) {
				return func(yield func(*cloud.RolePermission) bool) {
					for r := range tables.CustomProjectRoles.By(c.Read, "name", store.K(p.ProjectID)) {
						if !p.RoleID.IsZero() && p.RoleID != r.ID {
							continue
						}
						for x := range tables.RolePermissions.By(c.Read, "role", store.K(r.ID)) {
							if !yield(x) {
								return
							}
						}
					}
				}, nil
			},
			View: viewRule,
		}),
	}
}
