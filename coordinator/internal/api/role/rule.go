package role

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RuleView is a rule in an answer.
type RuleView struct {
	ID       cloud.ID `json:"id" doc:"the rule"`
	RoleID   cloud.ID `json:"roleid" doc:"its role"`
	RoleName string   `json:"rolename" doc:"name of its role"`
	RuleText
}

// RuleText is what a rule says, of whatever kind its role is.
type RuleText struct {
	Rule        string `json:"rule" doc:"the commands it is about; * stands for any letters"`
	Permission  string `json:"permission" doc:"allow or deny"`
	Description string `json:"description,omitempty" doc:"what it is for"`
}

// TextOf tells what a rule says.
func TextOf(p *cloud.RolePermission) RuleText {
	t := RuleText{Rule: p.Rule, Permission: "deny", Description: p.Description}
	if p.Allow {
		t.Permission = "allow"
	}
	return t
}

func viewRule(c *api.Call, p *cloud.RolePermission) RuleView {
	v := RuleView{ID: p.ID, RoleID: p.RoleID, RuleText: TextOf(p)}
	if r, ok := identity.Role(c.Read, p.RoleID); ok {
		v.RoleName = r.Name
	}
	return v
}

func allows(permission string) (bool, error) {
	switch strings.ToLower(permission) {
	case "allow":
		return true, nil
	case "deny":
		return false, nil
	}
	return false, cloud.Errorf(cloud.Invalid, "Invalid permission %q: it must be allow or deny", permission)
}

type listRulesParams struct {
	RoleID cloud.ID `api:"roleid" ref:"role" doc:"only of this role"`
}

func listRules() api.Command {
	return api.Command{
		Name: "listRolePermissions", Doc: "Lists the rules of roles, in the order in which they are tried.", Since: "4.9.0", Roles: api.AdminOnly,
		Object: "rolepermission",
		Run: api.List(api.Lister[listRulesParams, cloud.RolePermission, RuleView]{
			Unpaged: true,
			Rows: func(c *api.Call, p *listRulesParams) (iter.Seq[*cloud.RolePermission], error) {
				return func(yield func(*cloud.RolePermission) bool) {
					for _, r := range identity.Roles(c.Read) {
						if !p.RoleID.IsZero() && r.ID != p.RoleID {
							continue
						}
						for _, x := range identity.Rules(c.Read, r.ID) {
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

type createRuleParams struct {
	RoleID      cloud.ID `api:"roleid,required" ref:"role" doc:"the role"`
	Rule        string   `api:"rule,required" doc:"a command's name; * stands for any letters"`
	Permission  string   `api:"permission,required" enum:"allow,deny" doc:"allow or deny"`
	Description string   `api:"description" doc:"what it is for"`
}

func createRule() api.Command {
	return api.Command{
		Name: "createRolePermission", Doc: "Adds a rule after the others of a role.", Since: "4.9.0", Roles: api.AdminOnly,
		Event: "ROLE.PERMISSION.CREATE", Entity: "Role", Object: "rolepermission",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createRuleParams) (RuleView, error) {
			var out RuleView
			err := change(c, p.RoleID, func(r *cloud.Role) error {
				x, err := identity.AddRule(tx, r.ID, p.Rule, p.Permission == "allow", p.Description)
				if err != nil {
					return err
				}
				c.Describe(r.ID, "adding rule "+x.Rule+" to role "+r.Name)
				out = viewRule(c, x)
				return nil
			})
			return out, err
		}),
	}
}

type updateRuleParams struct {
	RoleID     cloud.ID   `api:"roleid,required" ref:"role" doc:"the role"`
	RuleID     cloud.ID   `api:"ruleid" ref:"rolepermission" doc:"the rule whose permission changes"`
	Permission string     `api:"permission" enum:"allow,deny" doc:"its new permission"`
	Order      []cloud.ID `api:"ruleorder" ref:"rolepermission" doc:"instead: all rules of the role in their new order"`
}

func updateRule() api.Command {
	return api.Command{
		Name: "updateRolePermission", Doc: "Changes what a rule says, or the order of a role's rules.", Since: "4.9.0", Roles: api.AdminOnly,
		Event: "ROLE.PERMISSION.UPDATE", Entity: "Role",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *updateRuleParams) error {
			return change(c, p.RoleID, func(r *cloud.Role) error {
				c.Describe(r.ID, "updating rules of role "+r.Name)
				return identity.ChangeRules(tx, r.ID, identity.RuleChange{Param: "ruleid", Rule: p.RuleID, Permission: p.Permission, Order: p.Order})
			})
		}),
	}
}

type ruleIDParams struct {
	ID cloud.ID `api:"id,required" ref:"rolepermission" doc:"the rule"`
}

func deleteRule() api.Command {
	return api.Command{
		Name: "deleteRolePermission", Doc: "Removes a rule from its role.", Since: "4.9.0", Roles: api.AdminOnly,
		Event: "ROLE.PERMISSION.DELETE", Entity: "Role",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *ruleIDParams) error {
			x, ok := tables.RolePermissions.Get(tx, p.ID)
			if !ok {
				return api.NoEntity("id", p.ID)
			}
			return change(c, x.RoleID, func(r *cloud.Role) error {
				c.Describe(r.ID, "removing rule "+x.Rule+" of role "+r.Name)
				return tables.RolePermissions.Delete(tx, x.ID)
			})
		}),
	}
}
