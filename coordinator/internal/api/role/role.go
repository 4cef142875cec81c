// Package role holds the commands of roles and their rules.
//
// A role is of a type, and never allows more than accounts of that type may call; within that its rules decide. All who
// change roles are root admins, but a root admin's role can have rules, too: nobody gives a role, or a rule, that allows
// more than the own role did when the call began.
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

// Entities lists the entities of roles. Who may see a role is the lists' business; commands that take one check what the
// caller may grant.
func Entities() []api.Entity {
	return []api.Entity{
		{Name: "role", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := identity.Role(r, id)
			return api.Owner{}, ok
		}},
		{Name: "rolepermission", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			p, ok := tables.RolePermissions.Get(r, id)
			if ok {
				_, ok = identity.Role(r, p.RoleID) // the rules of projects' roles are rows of the same table
			}
			return api.Owner{}, ok
		}},
	}
}

// Commands lists the commands.
func Commands() []api.Command {
	return []api.Command{
		list(), create(), update(), remove(), enable(), disable(), importRole(),
		listRules(), createRule(), updateRule(), deleteRule(),
	}
}

// View is a role in an answer.
type View struct {
	ID          cloud.ID `json:"id" doc:"the role"`
	Name        string   `json:"name" doc:"its name"`
	Type        string   `json:"type" doc:"Admin, ResourceAdmin, DomainAdmin or User"`
	Description string   `json:"description,omitempty" doc:"what it is for"`
	IsDefault   bool     `json:"isdefault" doc:"whether every cloud has it; it cannot be changed"`
	IsPublic    bool     `json:"ispublic" doc:"whether others than root admins see it"`
	State       string   `json:"state" doc:"enabled or disabled"`
}

func view(_ *api.Call, r *cloud.Role) View {
	return View{
		ID: r.ID, Name: r.Name, Type: TypeName(r.Type), Description: r.Description, IsDefault: identity.IsDefaultRole(r.ID),
		IsPublic: !r.Private, State: r.State.String(),
	}
}

var typeNames = []struct {
	name string
	t    cloud.AccountType
}{
	{"Admin", cloud.RootAdminAccount},
	{"ResourceAdmin", cloud.ResourceDomainAdminAccount},
	{"DomainAdmin", cloud.DomainAdminAccount},
	{"User", cloud.UserAccount},
}

// TypeName is a role's type as clients see it.
func TypeName(t cloud.AccountType) string {
	for _, x := range typeNames {
		if x.t == t {
			return x.name
		}
	}
	return "User"
}

func typeByName(name string) (cloud.AccountType, error) {
	for _, x := range typeNames {
		if strings.EqualFold(x.name, name) {
			return x.t, nil
		}
	}
	return 0, cloud.Errorf(cloud.Invalid, "Invalid role type %q: it must be Admin, ResourceAdmin, DomainAdmin or User", name)
}

// visible tells whether the caller sees a role: root admins see all, other admins the public ones that are no root admin's.
func visible(c *api.Call, r *cloud.Role) bool {
	return c.IsRoot() || !r.Private && r.Type != cloud.RootAdminAccount
}

type listParams struct {
	api.ListParams
	ID    cloud.ID `api:"id" ref:"role" doc:"only this role"`
	Name  string   `api:"name" doc:"only the role of this name"`
	Type  string   `api:"type" doc:"only of this type: Admin, ResourceAdmin, DomainAdmin or User"`
	State string   `api:"state" since:"4.19" doc:"only in this state: enabled or disabled"`
}

func list() api.Command {
	return api.Command{
		Name: "listRoles", Doc: "Lists roles.", Since: "4.9.0", Roles: api.Admins, Object: "role",
		Run: api.List(api.Lister[listParams, cloud.Role, View]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Role], error) {
				return func(yield func(*cloud.Role) bool) {
					for _, r := range identity.Roles(c.Read) {
						fits := (p.ID.IsZero() || r.ID == p.ID) && (p.Name == "" || strings.EqualFold(r.Name, p.Name)) &&
							(p.Type == "" || strings.EqualFold(TypeName(r.Type), p.Type)) && (p.State == "" || strings.EqualFold(r.State.String(), p.State))
						if fits && !yield(r) {
							return
						}
					}
				}, nil
			},
			Visible: visible,
			Keyword: func(r *cloud.Role) string { return r.Name + "\n" + r.Description },
			View:    view,
		}),
	}
}

type createParams struct {
	Name        string   `api:"name,required" doc:"name of the role"`
	Description string   `api:"description" doc:"what it is for"`
	Type        string   `api:"type" doc:"Admin, ResourceAdmin, DomainAdmin or User; or roleid"`
	RoleID      cloud.ID `api:"roleid" ref:"role" doc:"the role whose type and rules are copied, instead of type"`
	Public      *bool    `api:"ispublic" doc:"whether others than root admins see it; true when absent"`
}

// kind is the type that the parameters ask for.
func kind(c *api.Call, name string, like cloud.ID) (cloud.AccountType, error) {
	switch {
	case (name == "") == like.IsZero():
		return 0, cloud.Errorf(cloud.Invalid, "Either type or roleid must be specified, and not both")
	case name != "":
		return typeByName(name)
	}
	r, ok := identity.Role(c.Read, like)
	if !ok {
		return 0, api.NoEntity("roleid", like)
	}
	return r.Type, nil
}

func create() api.Command {
	return api.Command{
		Name: "createRole", Doc: "Makes a role.", Since: "4.9.0", Roles: api.AdminOnly, Event: "ROLE.CREATE", Entity: "Role", Object: "role",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createParams) (View, error) {
			t, err := kind(c, p.Type, p.RoleID)
			if err != nil {
				return View{}, err
			}
			r, err := identity.CreateRole(tx, identity.RoleSpec{
				Name: p.Name, Description: p.Description, Type: t, Private: p.Public != nil && !*p.Public, Like: p.RoleID,
			})
			if err != nil {
				return View{}, err
			}
			c.Describe(r.ID, "creating role "+r.Name)
			return view(c, r), c.MayGrant(r)
		}),
	}
}

type updateParams struct {
	ID          cloud.ID `api:"id,required" ref:"role" doc:"the role"`
	Name        string   `api:"name" doc:"new name"`
	Type        string   `api:"type" doc:"new type; only while no account has the role"`
	Description *string  `api:"description" doc:"new description"`
	Public      *bool    `api:"ispublic" doc:"whether others than root admins see it"`
}

func update() api.Command {
	return api.Command{
		Name: "updateRole", Doc: "Changes a role.", Since: "4.9.0", Roles: api.AdminOnly, Event: "ROLE.UPDATE", Entity: "Role", Object: "role",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (View, error) {
			var out View
			err := change(c, p.ID, func(r *cloud.Role) (err error) {
				if p.Name != "" {
					r.Name = p.Name
				}
				if p.Type != "" {
					if r.Type, err = typeByName(p.Type); err != nil {
						return err
					}
				}
				if p.Description != nil {
					r.Description = *p.Description
				}
				if p.Public != nil {
					r.Private = !*p.Public
				}
				out = view(c, r)
				c.Describe(r.ID, "updating role "+r.Name)
				return identity.UpdateRole(tx, r)
			})
			return out, err
		}),
	}
}

// change runs f on a role, and refuses where the role allowed more than the caller's before, or does so afterwards.
func change(c *api.Call, id cloud.ID, f func(r *cloud.Role) error) error {
	r, err := identity.OwnRole(c.Read, id)
	if err != nil {
		return err
	}
	if err := c.MayGrant(r); err != nil {
		return err
	}
	limit := c.Powers(identity.RoleOf(c.Read, c.Account))
	if err := f(r); err != nil {
		return err
	}
	return c.Within(r, limit)
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"role" doc:"the role"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteRole", Doc: "Deletes a role that no account has.", Since: "4.9.0", Roles: api.AdminOnly, Event: "ROLE.DELETE", Entity: "Role",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			r, err := identity.OwnRole(tx, p.ID)
			if err != nil {
				return err
			}
			if err := c.MayGrant(r); err != nil {
				return err
			}
			c.Describe(r.ID, "deleting role "+r.Name)
			return identity.DeleteRole(tx, p.ID)
		}),
	}
}

func setState(name, doc, event string, s cloud.Lifecycle) api.Command {
	return api.Command{
		Name: name, Doc: doc, Since: "4.19.0", Roles: api.AdminOnly, Event: event, Entity: "Role",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *idParams) error {
			return change(c, p.ID, func(r *cloud.Role) error {
				r.State = s
				c.Describe(r.ID, s.String()+" role "+r.Name)
				return identity.UpdateRole(tx, r)
			})
		}),
	}
}

func enable() api.Command {
	return setState("enableRole", "Lets accounts of a disabled role call its commands again.", "ROLE.ENABLE", cloud.Enabled)
}

func disable() api.Command {
	return setState("disableRole", "Makes a role allow nothing until it is enabled.", "ROLE.DISABLE", cloud.Disabled)
}

type importParams struct {
	Name        string `api:"name,required" doc:"name of the role"`
	Rules       []rule `api:"rules,objects,required" doc:"its rules, in order"`
	Type        string `api:"type" doc:"Admin, ResourceAdmin, DomainAdmin or User"`
	Description string `api:"description" doc:"what it is for"`
	Public      *bool  `api:"ispublic" doc:"whether others than root admins see it; true when absent"`
	Forced      bool   `api:"forced" doc:"replaces the rules of a role that has the name already"`
}

type rule struct {
	Rule        string `api:"rule" doc:"a command's name; * stands for any letters"`
	Permission  string `api:"permission" doc:"allow or deny"`
	Description string `api:"description" doc:"what it is for"`
}

func importRole() api.Command {
	return api.Command{
		Name: "importRole", Doc: "Makes a role with all its rules, or gives a role new ones.", Since: "4.15.0", Roles: api.AdminOnly,
		Event: "ROLE.IMPORT", Entity: "Role", Object: "role",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *importParams) (View, error) {
			limit := c.Powers(identity.RoleOf(c.Read, c.Account))
			r, err := importTarget(c, tx, p)
			if err != nil {
				return View{}, err
			}
			for _, x := range p.Rules {
				allow, err := allows(x.Permission)
				if err != nil {
					return View{}, err
				}
				if _, err := identity.AddRule(tx, r.ID, x.Rule, allow, x.Description); err != nil {
					return View{}, err
				}
			}
			c.Describe(r.ID, "importing role "+r.Name)
			return view(c, r), c.Within(r, limit)
		}),
	}
}

// importTarget is the role to be filled: a new one, or with forced an old one without its rules.
func importTarget(c *api.Call, tx *store.Tx, p *importParams) (*cloud.Role, error) {
	t := cloud.UserAccount
	if p.Type != "" {
		var err error
		if t, err = typeByName(p.Type); err != nil {
			return nil, err
		}
	}
	old, ok := tables.Roles.First(tx, "name", store.K(strings.ToLower(p.Name)))
	if !ok || !p.Forced {
		if p.Type == "" {
			return nil, cloud.Errorf(cloud.Invalid, "Unable to execute API command importRole due to missing parameter type")
		}
		return identity.CreateRole(tx, identity.RoleSpec{
			Name: p.Name, Description: p.Description, Type: t, Private: p.Public != nil && !*p.Public,
		})
	}
	if err := c.MayGrant(old); err != nil {
		return nil, err
	}
	if p.Type != "" {
		old.Type = t
	}
	if p.Description != "" {
		old.Description = p.Description
	}
	if p.Public != nil {
		old.Private = !*p.Public
	}
	for _, x := range identity.Rules(tx, old.ID) {
		if err := tables.RolePermissions.Delete(tx, x.ID); err != nil {
			return nil, err
		}
	}
	return old, identity.UpdateRole(tx, old)
}
