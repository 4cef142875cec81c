package api

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// permitted is the one place that says whether an account may call a command: its type must be one of the command's, and
// its role's rules must allow it.
func permitted(r store.Reader, a *cloud.Account, cmd *Command) bool {
	return cmd.Roles&RoleOf(a.Type) != 0 && identity.Allows(r, a, cmd.Name)
}

// Allowed tells whether the caller may call a command.
func (c *Call) Allowed(cmd *Command) bool { return permitted(c.Read, c.Account, cmd) }

// Powers are the commands that accounts of a role may call, by name.
type Powers map[string]bool

// Powers lists a role's.
func (c *Call) Powers(role *cloud.Role) Powers {
	p := Powers{}
	for _, cmd := range c.registry.commands {
		if cmd.Roles&RoleOf(role.Type) != 0 && identity.Permits(c.Read, role, cmd.Name) {
			p[cmd.Name] = true
		}
	}
	return p
}

// Beyond is the first command in p, by name, that limit has not; "" where there is none.
func (p Powers) Beyond(limit Powers) string {
	first := ""
	for name := range p {
		if !limit[name] && (first == "" || name < first) {
			first = name
		}
	}
	return first
}

// MayGrant refuses to let the caller give, use or take a role that may do more than the caller's own: who could hand such
// a role out, set the password of somebody who has it, or add rules to it, would have lifted its own rights.
func (c *Call) MayGrant(role *cloud.Role) error {
	own := identity.RoleOf(c.Read, c.Account)
	if own.ID == role.ID || c.IsRoot() && identity.IsDefaultRole(own.ID) {
		return nil
	}
	if role.Type == cloud.RootAdminAccount && !c.IsRoot() {
		return cloud.Errorf(cloud.Denied, "Only a root admin may do this with root admins and their roles")
	}
	return c.Within(role, c.Powers(own))
}

// Within is MayGrant for a role that was changed: limit is what the caller's own was before.
func (c *Call) Within(role *cloud.Role, limit Powers) error {
	if more := c.Powers(role).Beyond(limit); more != "" {
		return cloud.Errorf(cloud.Denied, "The role %s may do more than yours, which has no %s", role.Name, more)
	}
	return nil
}

// MayManage refuses to let the caller act on an account, or on the users of one, whose role may do more than the caller's.
// That the account is in the caller's domain is checked where its id is resolved.
func (c *Call) MayManage(a *cloud.Account) error {
	if a.System {
		return cloud.Errorf(cloud.Denied, "Account %s is the cloud's own", a.Name)
	}
	return c.MayGrant(identity.RoleOf(c.Read, a))
}
