package project_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// role makes a role with rules: "+list*" allows, "-list*" denies.
func (w *world) role(project, name string, rules ...string) string {
	w.t.Helper()
	id := w.Must("a-user", "createProjectRole", "projectid", project, "name", name, "description", "text").String("projectrole.id")
	for _, r := range rules {
		permission := map[byte]string{'+': "allow", '-': "deny"}[r[0]]
		w.Must("a-user", "createProjectRolePermission", "projectid", project, "projectroleid", id, "rule", r[1:], "permission", permission)
	}
	return id
}

func TestRoleAnswers(t *testing.T) {
	w := newWorld(t)
	p := w.project("p")
	show := func(command string, params ...string) string {
		t.Helper()
		a := w.Must("a-user", command, append([]string{"projectid", p}, params...)...)
		w.Golden(command, a)
		w.CheckSDK(command, a)
		for _, object := range []string{"projectrole", "projectrolepermission"} {
			if id, ok := a.Get(object + ".id").(string); ok {
				return id
			}
		}
		return ""
	}
	role := show("createProjectRole", "name", "reader", "description", "looks only")
	show("updateProjectRole", "id", role, "name", "watcher")
	first := show("createProjectRolePermission", "projectroleid", role, "rule", "list*", "permission", "allow", "description", "looks")
	second := w.Must("a-user", "createProjectRolePermission", "projectid", p, "projectroleid", role, "rule", "*", "permission", "deny").String("projectrolepermission.id")
	show("listProjectRoles", "projectroleid", role)
	show("listProjectRolePermissions", "projectroleid", role)
	show("updateProjectRolePermission", "projectroleid", role, "projectrolepermissionid", second, "permission", "allow")
	show("updateProjectRolePermission", "projectroleid", role, "ruleorder", second+","+first)
	if a := w.Must("a-user", "listProjectRolePermissions", "projectid", p); a.String("projectrolepermission.0.id") != second {
		t.Errorf("the order of rules: %s", a.Raw)
	}
	w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other", "projectroleid", role)
	if a := w.Must("a-user", "listProjectAccounts", "projectid", p, "projectroleid", role); a.Get("count") != 1.0 || a.String("projectaccount.account") != "a-other" {
		t.Errorf("who has the role: %s", a.Raw)
	}
	w.refused(431, "have project role watcher in use", "a-user", "deleteProjectRole", "projectid", p, "id", role)
	w.Must("a-user", "deleteAccountFromProject", "projectid", p, "account", "a-other")
	show("deleteProjectRolePermission", "id", first)
	show("deleteProjectRole", "id", role)
	if n := tables.CustomProjectRoles.Len(w.Read()) + tables.RolePermissions.Len(w.Read()); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	w.role(p, "again", "-*")
	w.Must("a-user", "deleteProject", "id", p)
	if n := tables.CustomProjectRoles.Len(w.Read()) + tables.RolePermissions.Len(w.Read()); n != 0 {
		t.Errorf("the project left %d rows", n)
	}
}

// The first rule that fits decides; without one nothing is taken away. A role holds for what belongs to the project, and
// neither for its admins nor for what is the member's own.
func TestRoleRules(t *testing.T) {
	w := newWorld(t)
	p := w.project("p")
	w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other")
	key := w.Must("a-other", "createSSHKeyPair", "name", "shared", "projectid", p).String("keypair.id")
	denied := "is denied by the role that you have in the project id=" + p
	for _, x := range []struct {
		name          string
		rules         []string
		lists, makes  bool
		seenWithMinus string // listSSHKeyPairs projectid=-1
	}{
		{"none", nil, true, true, "shared"},
		{"deny one", []string{"-createSSHKeyPair"}, true, false, "shared"},
		{"deny by letters", []string{"-CREATE*"}, true, false, "shared"},
		{"allow before deny", []string{"+list*", "-*"}, true, false, "shared"},
		{"deny before allow", []string{"-*", "+list*"}, false, false, ""},
		{"deny another", []string{"-deleteSSHKeyPair"}, true, true, "shared"},
	} {
		t.Run(x.name, func(t *testing.T) {
			role := w.role(p, x.name, x.rules...)
			w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other", "projectroleid", role)
			for _, c := range []struct {
				may     bool
				command string
				params  []string
			}{
				{x.lists, "listSSHKeyPairs", []string{"projectid", p}},
				{x.makes, "createSSHKeyPair", []string{"projectid", p, "name", "of " + x.name}},
			} {
				a := w.Call("a-other", c.command, c.params...)
				text, code := a.Error()
				if c.may != (a.Status == 200) || !c.may && (code != 531 || !strings.Contains(text, denied)) {
					t.Errorf("%s: %s", c.command, a.Raw)
				}
			}
			if got := w.names("a-other", "projectid", "-1"); !strings.HasSuffix(got, x.seenWithMinus) || x.seenWithMinus == "" && got != "" {
				t.Errorf("of all projects it sees %q, want %q", got, x.seenWithMinus)
			}
			if got := w.names("a-other", "id", key); got != x.seenWithMinus {
				t.Errorf("by its id it sees %q, want %q", got, x.seenWithMinus)
			}
			// Its own things, the project's admin and the domain's, and strangers, are as before.
			w.Must("a-other", "createSSHKeyPair", "name", "own of "+x.name)
			w.Must("a-user", "listSSHKeyPairs", "projectid", p)
			w.Must("a-admin", "listSSHKeyPairs", "projectid", p)
			w.refused(431, "entity does not exist", "x-user", "listSSHKeyPairs", "projectid", p)
		})
	}
}

// A user's own membership decides before that of its account, an invitation brings its role along, and an admin has none.
func TestWhoHasARole(t *testing.T) {
	w := newWorld(t)
	p := w.project("p")
	strict, open := w.role(p, "strict", "-*"), w.role(p, "open")
	denied := "is denied by the role"
	w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other", "projectroleid", strict)
	w.refused(531, denied, "a-other", "listSSHKeyPairs", "projectid", p)
	w.refused(531, denied, "a-other", "listProjectRoles", "projectid", p)
	w.Must("a-user", "addUserToProject", "projectid", p, "username", "a-other", "projectroleid", open)
	w.Must("a-other", "listSSHKeyPairs", "projectid", p)
	w.Must("a-user", "updateProject", "id", p, "userid", w.Users["a-other"].User.ID.String(), "swapowner", "false", "projectroleid", strict)
	w.refused(531, denied, "a-other", "listSSHKeyPairs", "projectid", p)
	w.Must("a-user", "updateProject", "id", p, "userid", w.Users["a-other"].User.ID.String(), "swapowner", "false", "roletype", "Admin")
	w.Must("a-other", "listSSHKeyPairs", "projectid", p)
	w.Must("a-user", "deleteUserFromProject", "projectid", p, "userid", w.Users["a-other"].User.ID.String())
	w.refused(531, denied, "a-other", "listSSHKeyPairs", "projectid", p)
	w.Must("a-user", "deleteAccountFromProject", "projectid", p, "account", "a-other")
	w.set("project.invite.required", "true")
	w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other", "projectroleid", strict)
	w.refused(431, "gives project role strict", "a-user", "deleteProjectRole", "projectid", p, "id", strict)
	w.Must("a-other", "updateProjectInvitation", "projectid", p)
	w.refused(531, denied, "a-other", "listSSHKeyPairs", "projectid", p)
	w.Must("a-user", "updateProject", "id", p, "account", "a-other")
	w.Must("a-other", "listSSHKeyPairs", "projectid", p)
}

func TestWhoMayChangeRoles(t *testing.T) {
	w := newWorld(t)
	p, q := w.project("p"), w.project("q")
	mine, others := w.role(p, "role", "-create*"), w.role(q, "role")
	w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other", "projectroleid", mine)
	for _, x := range []struct {
		user, text string
		code       int
	}{
		{"a-other", "is denied by the role", 531}, // of itself
		{"x-user", "entity does not exist", 431},
		{"b-admin", "entity does not exist", 431},
	} {
		w.refused(x.code, x.text, x.user, "createProjectRole", "projectid", p, "name", "mine")
		w.refused(x.code, x.text, x.user, "createProjectRolePermission", "projectid", p, "projectroleid", mine, "rule", "*", "permission", "allow")
	}
	w.refused(531, "is no admin of the project", "a-other", "updateProjectRole", "projectid", p, "id", mine, "name", "mine")
	w.refused(531, "is no admin of the project", "a-other", "deleteProjectRole", "projectid", p, "id", mine)
	w.Must("a-other", "listProjectRoles", "projectid", p)
	w.Must("a-other", "listProjectRolePermissions", "projectid", p)
	for _, user := range []string{"root", "a-admin"} {
		w.Must(user, "updateProjectRole", "projectid", p, "id", mine, "description", "by "+user)
	}
	w.refused(431, "entity does not exist", "a-user", "updateProjectRole", "projectid", p, "id", others, "name", "x")
	w.refused(431, "entity does not exist", "a-user", "addAccountToProject", "projectid", p, "account", "a-other", "projectroleid", others)
	w.refused(431, "already exists", "a-user", "createProjectRole", "projectid", p, "name", "ROLE")
	w.refused(431, "Invalid rule", "a-user", "createProjectRolePermission", "projectid", p, "projectroleid", mine, "rule", "a b", "permission", "allow")
	w.refused(431, "already exists for the role", "a-user", "createProjectRolePermission", "projectid", p, "projectroleid", mine, "rule", "CREATE*", "permission", "allow")
}

// A rule is changed through the role and project that it is of; an error names it, and not its role.
func TestRulesOfAnotherProject(t *testing.T) {
	w := newWorld(t)
	p, q := w.project("p"), w.project("q")
	mine := w.role(p, "role", "-create*")
	w.role(q, "role", "-delete*")
	rule := w.Must("a-user", "listProjectRolePermissions", "projectid", q).String("projectrolepermission.0.id")
	gone := "value=" + rule + " due to incorrect long value format, or entity does not exist"
	w.refused(431, "id "+gone, "a-user", "deleteProjectRolePermission", "projectid", p, "id", rule)
	w.refused(431, "Invalid projectrolepermissionid "+rule+": it is no rule of the role", "a-user", "updateProjectRolePermission",
		"projectid", p, "projectroleid", mine, "projectrolepermissionid", rule, "permission", "allow")
	w.refused(431, "is no rule of the role", "a-user", "updateProjectRolePermission", "projectid", p, "projectroleid", mine, "ruleorder", rule)
	for _, both := range [][]string{nil, {"permission", "allow"}, {"projectrolepermissionid", rule}, {"ruleorder", rule, "projectrolepermissionid", rule, "permission", "deny"}} {
		w.refused(431, "either ruleorder, or projectrolepermissionid with permission", "a-user", "updateProjectRolePermission",
			append([]string{"projectid", p, "projectroleid", mine}, both...)...)
	}
	if got := w.Must("a-user", "listProjectRolePermissions", "projectid", q).String("projectrolepermission.0.permission"); got != "deny" {
		t.Errorf("the rule of the other project says %s", got)
	}
}

// What is done to a project's things is in the project's audit log, with who did it; also what failed.
func TestEventsOfAProject(t *testing.T) {
	w := newWorld(t)
	p := w.project("p")
	w.Must("a-user", "addAccountToProject", "projectid", p, "account", "a-other")
	w.Must("a-other", "createSSHKeyPair", "name", "shared", "projectid", p)
	w.Must("a-other", "createSSHKeyPair", "name", "own")
	w.Must("a-other", "deleteSSHKeyPair", "name", "shared", "projectid", p)
	w.set("project.invite.required", "true")
	w.refused(534, "no mail server", "a-user", "addAccountToProject", "projectid", p, "email", "a@example.org")
	events := func(user string, params ...string) (all []string) {
		t.Helper()
		rows, _ := w.Must(user, "listEvents", params...).Object["event"].([]any)
		for _, r := range rows {
			e := r.(map[string]any)
			if strings.HasSuffix(e["type"].(string), "KEYPAIR") || e["level"] == "ERROR" {
				all = append(all, fmt.Sprint(e["type"], " ", e["level"], " by ", e["username"], " of ", e["account"], " ", e["project"], " ", e["projectid"] == p))
			}
		}
		return all
	}
	want := []string{
		"PROJECT.ACCOUNT.ADD ERROR by a-user of <nil> p true",
		"DELETE.SSH.KEYPAIR INFO by a-other of <nil> p true",
		"REGISTER.SSH.KEYPAIR INFO by a-other of <nil> p true",
	}
	for _, user := range []string{"a-user", "a-other", "a-admin", "root"} {
		if d := cmp.Diff(want, events(user, "projectid", p)); d != "" {
			t.Errorf("%s: %s", user, d)
		}
	}
	if d := cmp.Diff([]string{"REGISTER.SSH.KEYPAIR INFO by a-other of a-other <nil> false"}, events("a-other")); d != "" {
		t.Error(d)
	}
	if got := events("a-user"); len(got) != 0 {
		t.Errorf("not of the project: %v", got)
	}
	w.refused(431, "entity does not exist", "x-user", "listEvents", "projectid", p)
	if got := events("x-user", "projectid", "-1", "listall", "true"); len(got) != 0 {
		t.Errorf("a stranger sees %v", got)
	}
}

// A project's roles and rules are bounded: whoever may make them could fill the cloud's memory otherwise.
func TestRolesAreBounded(t *testing.T) {
	w := newWorld(t)
	p := w.project("p")
	role := w.role(p, "full")
	w.Update(func(tx *store.Tx) error {
		pid, err := cloud.ParseID(p)
		rid, err2 := cloud.ParseID(role)
		err = errors.Join(err, err2)
		for i := range 200 {
			err = errors.Join(err, tables.RolePermissions.Put(tx, &cloud.RolePermission{ID: tx.NewID(), RoleID: rid, Rule: fmt.Sprint("rule", i)}))
		}
		for i := range 99 {
			err = errors.Join(err, tables.CustomProjectRoles.Put(tx, &cloud.CustomProjectRole{ID: tx.NewID(), ProjectID: pid, Name: fmt.Sprint("role ", i)}))
		}
		return err
	})
	w.refused(535, "has 100 roles already", "a-user", "createProjectRole", "projectid", p, "name", "more")
	w.refused(535, "has 200 rules already", "a-user", "createProjectRolePermission", "projectid", p, "projectroleid", role, "rule", "more", "permission", "deny")
}
