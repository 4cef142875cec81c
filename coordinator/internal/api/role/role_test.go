package role_test

import (
	"slices"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/apis"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
)

func world(t *testing.T) *apitest.Cloud {
	return apitest.New(t, apitest.Config{Make: func(k *seal.Keeper) []api.Command {
		return slices.Concat(role.Commands(), account.Commands(account.Deps{}), user.Commands(user.Deps{Seal: k}),
			apis.Commands())
	}})
}

func TestAnswers(t *testing.T) {
	c := world(t)
	do := func(golden, command string, params ...string) *apitest.Answer {
		t.Helper()
		a := c.Must("root", command, params...)
		c.Golden(golden, a)
		c.CheckSDK(command, a)
		return a
	}
	id := do("createRole", "createRole", "name", "reader", "type", "User", "description", "reads").String("role.id")
	allow := do("createRolePermission", "createRolePermission", "roleid", id, "rule", "list*", "permission", "allow").String("rolepermission.id")
	deny := do("createRolePermission-deny", "createRolePermission", "roleid", id, "rule", "listUsers", "permission", "deny").String("rolepermission.id")
	do("updateRolePermission", "updateRolePermission", "roleid", id, "ruleorder", deny+","+allow)
	do("listRolePermissions", "listRolePermissions", "roleid", id)
	do("updateRole", "updateRole", "id", id, "description", "reads much")
	do("listRoles", "listRoles")
	do("disableRole", "disableRole", "id", id)
	do("enableRole", "enableRole", "id", id)
	do("importRole", "importRole", "name", "imported", "type", "User", "rules[0].rule", "listApis", "rules[0].permission", "allow")
	do("deleteRolePermission", "deleteRolePermission", "id", allow)
	do("deleteRole", "deleteRole", "id", id)
	c.Golden("listRoles", c.CallXML("root", "listRoles", "type", "User"))
}

// The first rule that fits decides; where none fits, or the role is disabled, the command is not there.
func TestRulesDecide(t *testing.T) {
	c := world(t)
	id := c.Must("root", "createRole", "name", "reader", "type", "User").String("role.id")
	c.Must("root", "createRolePermission", "roleid", id, "rule", "listUsers", "permission", "deny")
	c.Must("root", "createRolePermission", "roleid", id, "rule", "list*", "permission", "allow")
	c.Must("root", "updateAccount", "id", c.Users["a-user"].Account.ID.String(), "roleid", id)
	check := func(command string, want int) {
		t.Helper()
		if a := c.Call("a-user", command); a.Status != want {
			t.Errorf("%s: %s, want %d", command, a.Raw, want)
		}
	}
	check("listAccounts", 200)
	check("listUsers", 432)
	check("getUserKeys", 432)
	check("listRoles", 432) // the rules allow it, the type does not
	if got := c.Must("a-user", "listApis", "name", "listAccounts").Get("count"); got != 1.0 {
		t.Errorf("listApis tells %v of listAccounts", got)
	}
	if a := c.Call("a-user", "listApis", "name", "listUsers"); a.Status == 200 {
		t.Errorf("listApis tells of a command that is denied: %s", a.Raw)
	}
	if a := c.Call("root", "deleteRole", "id", id); a.Status == 200 {
		t.Error("a role in use was deleted")
	}
	c.Must("root", "disableRole", "id", id)
	check("listAccounts", 432)
}

// Nobody lifts its own rights: not by a role, a rule, a user, a key or a password of somebody above
// (CVE-2025-47713, CVE-2025-47849 and their kind).
func TestCVE_2025_47713_NobodyGrantsMoreThanItHas(t *testing.T) {
	c := world(t)
	id := c.Must("root", "createRole", "name", "keeper of roles", "type", "Admin").String("role.id")
	for _, rule := range []string{"*Role*", "createAccount", "updateAccount", "updateUser", "createUser", "registerUserKeys", "listAccounts"} {
		c.Must("root", "createRolePermission", "roleid", id, "rule", rule, "permission", "allow")
	}
	a := c.Must("root", "createAccount", "roleid", id, "username", "keeper", "password", "p", "firstname", "K", "lastname", "P", "email", "k@example.org")
	uid := a.String("account.user.id")
	keys := c.Must("root", "registerUserKeys", "id", uid)
	keeper := *c.Users["root"]
	keeper.APIKey = keys.String("userkeys.apikey")
	keeper.Secret = cloud.Secret(keys.String("userkeys.secretkey"))
	c.Users["keeper"] = &keeper
	admin := c.Must("root", "listRoles", "name", "Root Admin").String("role.id")
	root := c.Users["root"].User.ID.String()
	for _, x := range [][]string{
		{"createRole", "name", "more", "roleid", admin},
		{"createRolePermission", "roleid", id, "rule", "deleteAccount", "permission", "allow"},
		{"createAccount", "accounttype", "1", "username", "evil", "password", "p", "firstname", "E", "lastname", "V", "email", "e@example.org"},
		{"createUser", "account", "root", "username", "evil", "password", "p", "firstname", "E", "lastname", "V", "email", "e@example.org"},
		{"updateAccount", "id", a.String("account.id"), "roleid", admin},
		{"updateUser", "id", root, "password", "taken"},
		{"registerUserKeys", "id", root},
	} {
		if got := c.Call("keeper", x[0], x[1:]...); got.Status == 200 {
			t.Errorf("%v: %s", x, got.Raw)
		}
	}
	c.Must("keeper", "createRole", "name", "less", "roleid", id)
}
