package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// defaultRoles are those that every cloud has, with the same ids everywhere. They are no rows: an account without a role
// has the one of its type, so there is nothing to make in a cloud that is older than roles, and nothing to change.
var defaultRoles = []cloud.Role{
	defaultRole("Root Admin", cloud.RootAdminAccount, "Default root admin role"),
	defaultRole("Resource Admin", cloud.ResourceDomainAdminAccount, "Default resource admin role"),
	defaultRole("Domain Admin", cloud.DomainAdminAccount, "Default domain admin role"),
	defaultRole("User", cloud.UserAccount, "Default user role"),
}

func defaultRole(name string, t cloud.AccountType, text string) cloud.Role {
	return cloud.Role{ID: cloud.NameID("role", name), Name: name, Type: t, Description: text}
}

// IsDefaultRole tells whether a role is one that every cloud has.
func IsDefaultRole(id cloud.ID) bool {
	return slices.ContainsFunc(defaultRoles, func(r cloud.Role) bool { return r.ID == id })
}

// DefaultRole is the role that comes with an account type; accounts of projects act as plain users.
func DefaultRole(t cloud.AccountType) *cloud.Role {
	for _, r := range defaultRoles {
		if r.Type == t {
			return &r
		}
	}
	return DefaultRole(cloud.UserAccount)
}

// Role finds a role.
func Role(r store.Reader, id cloud.ID) (*cloud.Role, bool) {
	for _, role := range defaultRoles {
		if role.ID == id {
			return &role, true
		}
	}
	return tables.Roles.Get(r, id)
}

// RoleOf is an account's role.
func RoleOf(r store.Reader, a *cloud.Account) *cloud.Role {
	if a.RoleID.IsZero() {
		return DefaultRole(a.Type)
	}
	if role, ok := tables.Roles.Get(r, a.RoleID); ok {
		return role
	}
	// A role that accounts have cannot be deleted; without it they may do nothing.
	return &cloud.Role{ID: a.RoleID, Type: a.Type, State: cloud.Disabled}
}

// Roles lists all roles: those that every cloud has, then the others by name.
func Roles(r store.Reader) []*cloud.Role {
	var all []*cloud.Role
	for _, role := range defaultRoles {
		all = append(all, &role)
	}
	for role := range tables.Roles.By(r, "name", nil) {
		all = append(all, role)
	}
	return all
}

// Rules are a role's permissions, in order. A role that every cloud has allows all that its type may.
func Rules(r store.Reader, role cloud.ID) []*cloud.RolePermission {
	if IsDefaultRole(role) {
		return []*cloud.RolePermission{{
			ID: cloud.NameID("role_permission", role.String()), RoleID: role, Rule: "*", Allow: true, Description: "all that accounts of this type may call",
		}}
	}
	return slices.Collect(tables.RolePermissions.By(r, "role", store.K(role)))
}

// always are the commands that no rule is needed for: a client that may not ask what it may call can do nothing at all.
// A rule can still deny them.
var always = []string{"listApis"}

// Allows tells whether the rules of an account's role allow a command; see Permits.
func Allows(r store.Reader, a *cloud.Account, command string) bool {
	return a.RoleID.IsZero() || Permits(r, RoleOf(r, a), command) // the role of its type has no rules
}

// Permits tells whether a role's rules allow a command: the first rule that fits its name decides, and where none fits it
// is not allowed. What the role's type may call is another question, which the command answers.
func Permits(r store.Reader, role *cloud.Role, command string) bool {
	if IsDefaultRole(role.ID) {
		return true
	}
	if role.State != cloud.Enabled {
		return false
	}
	for p := range tables.RolePermissions.By(r, "role", store.K(role.ID)) {
		if Fits(p.Rule, command) {
			return p.Allow
		}
	}
	return slices.ContainsFunc(always, func(c string) bool { return strings.EqualFold(c, command) })
}

// Fits tells whether a rule is about a command: letters match without regard to case, * any number of letters.
func Fits(rule, command string) bool {
	rule, command = strings.ToLower(rule), strings.ToLower(command)
	parts := strings.Split(rule, "*")
	if len(parts) == 1 {
		return rule == command
	}
	rest, ok := strings.CutPrefix(command, parts[0])
	if !ok {
		return false
	}
	for _, middle := range parts[1 : len(parts)-1] {
		if _, rest, ok = strings.Cut(rest, middle); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

func checkRule(rule string) error {
	ok := rule != ""
	for _, c := range rule {
		ok = ok && (c == '*' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
	}
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Invalid rule %q: it is the name of a command, in which * stands for any letters", rule)
	}
	return nil
}

// RoleSpec is what CreateRole needs.
type RoleSpec struct {
	Name, Description string
	Type              cloud.AccountType
	Private           bool
	// Like, when not zero, is the role whose rules are copied.
	Like cloud.ID
}

// CreateRole makes a role. Without Like it has no rules, so it allows nothing.
func CreateRole(tx *store.Tx, s RoleSpec) (*cloud.Role, error) {
	if err := checkRoleName(tx, s.Name); err != nil {
		return nil, err
	}
	role := &cloud.Role{
		ID: tx.NewID(), Name: s.Name, Description: s.Description, Type: s.Type, Private: s.Private, Created: tx.Now(),
	}
	if err := putRole(tx, role); err != nil {
		return nil, err
	}
	if s.Like.IsZero() {
		return role, nil
	}
	for _, p := range Rules(tx, s.Like) {
		if _, err := AddRule(tx, role.ID, p.Rule, p.Allow, p.Description); err != nil {
			return nil, err
		}
	}
	return role, nil
}

func checkRoleName(r store.Reader, name string) error {
	if err := checkName("role", name); err != nil {
		return err
	}
	for _, d := range defaultRoles {
		if strings.EqualFold(d.Name, name) {
			return roleTaken(name)
		}
	}
	return nil
}

func roleTaken(name string) error {
	return cloud.Errorf(cloud.Invalid, "Role with name %s already exists", name)
}

func putRole(tx *store.Tx, role *cloud.Role) error {
	err := tables.Roles.Put(tx, role)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return roleTaken(role.Name)
	}
	if err != nil {
		return fmt.Errorf("write role %s: %w", role.Name, err)
	}
	return nil
}

// OwnRole finds a role that can be changed.
func OwnRole(r store.Reader, id cloud.ID) (*cloud.Role, error) {
	if IsDefaultRole(id) {
		return nil, cloud.Errorf(cloud.Invalid, "Default roles cannot be changed or deleted")
	}
	role, ok := tables.Roles.Get(r, id)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find role %s", id)
	}
	return role, nil
}

// inUse tells how many accounts have a role.
func inUse(r store.Reader, role cloud.ID) int { return tables.Accounts.Count(r, "role", store.K(role)) }

// UpdateRole writes a changed role. Its type stays while accounts have it: theirs is the same.
func UpdateRole(tx *store.Tx, role *cloud.Role) error {
	old, err := OwnRole(tx, role.ID)
	if err != nil {
		return err
	}
	if role.Type != old.Type && inUse(tx, role.ID) > 0 {
		return cloud.Errorf(cloud.Invalid, "Found accounts that have role in use, won't allow to update role type")
	}
	if role.Name != old.Name {
		if err := checkRoleName(tx, role.Name); err != nil {
			return err
		}
	}
	return putRole(tx, role)
}

// DeleteRole removes a role that no account has, with its rules.
func DeleteRole(tx *store.Tx, id cloud.ID) error {
	role, err := OwnRole(tx, id)
	if err != nil {
		return err
	}
	if inUse(tx, id) > 0 {
		return cloud.Errorf(cloud.Invalid, "Found accounts that have role in use, won't allow to delete role")
	}
	for _, p := range Rules(tx, id) {
		if err := tables.RolePermissions.Delete(tx, p.ID); err != nil {
			return fmt.Errorf("delete rule of role %s: %w", role.Name, err)
		}
	}
	return tables.Roles.Delete(tx, id)
}

// AddRule puts a rule at the end of a role's that OwnRole or ProjectRole found.
func AddRule(tx *store.Tx, role cloud.ID, rule string, allow bool, text string) (*cloud.RolePermission, error) {
	if err := checkRule(rule); err != nil {
		return nil, err
	}
	p := &cloud.RolePermission{ID: tx.NewID(), RoleID: role, Rule: rule, Allow: allow, Description: text}
	for _, other := range Rules(tx, role) {
		p.Position = max(p.Position, other.Position+1)
	}
	err := tables.RolePermissions.Put(tx, p)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return nil, cloud.Errorf(cloud.Invalid, "Rule %s already exists for the role", rule)
	}
	if err != nil {
		return nil, fmt.Errorf("add rule %s: %w", rule, err)
	}
	return p, nil
}

// RuleChange is what becomes of a role's rules: either one rule, named by the parameter Param, allows ("allow") or denies
// ("deny") from now on, or all have a new order.
type RuleChange struct {
	Param      string
	Rule       cloud.ID
	Permission string
	Order      []cloud.ID // names each rule of the role once
}

// ChangeRules changes the rules of a role that OwnRole or ProjectRole found.
func ChangeRules(tx *store.Tx, role cloud.ID, x RuleChange) error {
	if (len(x.Order) > 0) == (!x.Rule.IsZero() || x.Permission != "") || x.Rule.IsZero() != (x.Permission == "") {
		return cloud.Errorf(cloud.Invalid, "Parameters must be either ruleorder, or %s with permission", x.Param)
	}
	if len(x.Order) > 0 {
		return orderRules(tx, role, x.Order)
	}
	return tables.RolePermissions.Edit(tx, x.Rule, func(p *cloud.RolePermission) error {
		if p.RoleID != role {
			return cloud.Errorf(cloud.Invalid, "Invalid %s %s: it is no rule of the role", x.Param, x.Rule)
		}
		p.Allow = x.Permission == "allow"
		return nil
	})
}

func orderRules(tx *store.Tx, role cloud.ID, ids []cloud.ID) error {
	rules := map[cloud.ID]*cloud.RolePermission{}
	for _, p := range Rules(tx, role) {
		rules[p.ID] = p
	}
	if len(ids) != len(rules) {
		return cloud.Errorf(cloud.Invalid, "Parameter ruleorder must name each rule of the role once: it names %d, the role has %d", len(ids), len(rules))
	}
	for i, id := range ids {
		p := rules[id]
		if p == nil {
			return cloud.Errorf(cloud.Invalid, "Rule %s of ruleorder is no rule of the role, or named twice", id)
		}
		delete(rules, id)
		p.Position = uint32(i)
		if err := tables.RolePermissions.Put(tx, p); err != nil {
			return fmt.Errorf("order rule %s: %w", p.Rule, err)
		}
	}
	return nil
}
