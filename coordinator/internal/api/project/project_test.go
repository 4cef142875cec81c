package project_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/api/project"
	"github.com/wispcloud/wisp/coordinator/internal/api/sshkey"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/mail/mailtest"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// world is a cloud with projects; its virtual machines stop when the test says so.
type world struct {
	*apitest.Cloud
	t *testing.T
	// poison makes the removal of VMs fail, as the cut of a job does.
	poison bool
}

func ofAccount[R any](t *store.Table[R]) func(store.Reader, cloud.ID) iter.Seq[cloud.ID] {
	return func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID] { return t.IDs(r, "account", store.K(owner)) }
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	stop := func(tx *store.Tx, vm *cloud.VM, _ bool) error {
		vm.State = cloud.VMStopping
		return tables.VMs.Put(tx, vm)
	}
	vms := identity.Owned{
		Kind: "virtual machine", IDs: ofAccount(tables.VMs),
		Remove: func(tx *store.Tx, id cloud.ID) (bool, error) {
			if w.poison {
				return false, errors.New("the host burns")
			}
			vm, _ := tables.VMs.Get(tx, id)
			if vm.State == cloud.VMExpunging {
				return false, nil
			}
			vm.State = cloud.VMExpunging
			return true, tables.VMs.Put(tx, vm)
		},
	}
	keys := identity.Owned{Kind: "SSH key pair", IDs: ofAccount(tables.SSHKeyPairs), Remove: func(tx *store.Tx, id cloud.ID) (bool, error) {
		if tables.VMs.Len(tx) > 0 {
			return false, errors.New("a VM is still there: the order is broken")
		}
		return true, tables.SSHKeyPairs.Delete(tx, id)
	}}
	w.Cloud = apitest.New(t, apitest.Config{
		Settings: [][]*settings.Def{identity.ProjectSettings()}, Entities: slices.Concat(project.Entities(), event.Entities()),
		Make: func(k *seal.Keeper) []api.Command {
			return slices.Concat(sshkey.Commands(), event.Commands(), project.Commands(project.Deps{Seal: k, Stop: stop, Owned: func() []identity.Owned {
				return []identity.Owned{vms, keys, identity.OwnedInvitation, identity.OwnedMembership, identity.OwnedProject}
			}}))
		},
	})
	return w
}

// project makes one of a-user's.
func (w *world) project(name string) string {
	w.t.Helper()
	return w.Must("a-user", "createProject", "name", name, "displaytext", "text of "+name).String("project.id")
}

func (w *world) set(name, value string) {
	w.t.Helper()
	w.Update(func(tx *store.Tx) error { return w.Settings.SetFor(tx, cloud.ID{}, name, value, w.Seal.Seal) })
}

// golden runs a job and keeps its answer.
func (w *world) golden(user, command string, params ...string) {
	w.t.Helper()
	a := w.Call(user, command, params...)
	if a.Status != 200 {
		w.t.Fatalf("%s: %s", command, a.Raw)
	}
	j := w.Job(user, a.String("jobid"))
	w.Golden(command, j)
	result, ok := j.Object["jobresult"].(map[string]any)
	if !ok || j.Object["jobstatus"] != 1.0 {
		w.t.Fatalf("%s: %s", command, j.Raw)
	}
	j.Object = result
	w.CheckSDK(command, j)
}

func (w *world) refused(code int, text, user, command string, params ...string) {
	w.t.Helper()
	got, n := w.Call(user, command, params...).Error()
	if n != code || !strings.Contains(got, text) {
		w.t.Errorf("%s %v by %s: %d %s; want %d %s", command, params, user, n, got, code, text)
	}
}

func TestAnswers(t *testing.T) {
	w := newWorld(t)
	w.golden("a-user", "createProject", "name", "web", "displaytext", "The web site")
	id := w.Must("a-user", "listProjects").String("project.id")
	for _, x := range []struct {
		command string
		params  []string
	}{
		{"listProjects", nil}, {"listProjectAccounts", []string{"projectid", id}},
	} {
		a := w.Must("a-user", x.command, x.params...)
		w.Golden(x.command, a)
		w.CheckSDK(x.command, a)
		w.Golden(x.command, w.CallXML("a-user", x.command, x.params...))
	}
	w.golden("a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	w.golden("a-user", "addUserToProject", "projectid", id, "username", "a-admin", "roletype", "Admin")
	w.golden("a-user", "deleteUserFromProject", "projectid", id, "userid", w.Users["a-admin"].User.ID.String())
	w.golden("a-user", "updateProject", "id", id, "account", "a-other", "displaytext", "Another text", "name", "site")
	w.golden("a-other", "deleteAccountFromProject", "projectid", id, "account", "a-user")
	w.golden("a-other", "suspendProject", "id", id)
	w.golden("a-other", "activateProject", "id", id)
	w.set("project.invite.required", "true")
	w.Must("a-other", "addAccountToProject", "projectid", id, "account", "a-user")
	invited := w.Must("a-user", "listProjectInvitations")
	w.Golden("listProjectInvitations", invited)
	w.CheckSDK("listProjectInvitations", invited)
	w.golden("a-user", "updateProjectInvitation", "projectid", id, "accept", "false")
	w.golden("a-other", "deleteProjectInvitation", "id", invited.String("projectinvitation.id"))
	w.golden("a-other", "deleteProject", "id", id)
	if n := tables.Projects.Len(w.Read()) + tables.ProjectMembers.Len(w.Read()) + tables.ProjectInvitations.Len(w.Read()); n != 0 {
		t.Errorf("the project left %d rows", n)
	}
	types := map[string]int{}
	for e := range tables.Events.All(w.Read()) {
		types[e.Type]++
	}
	for _, want := range strings.Fields("CREATE UPDATE DELETE ACTIVATE SUSPEND ACCOUNT.ADD ACCOUNT.REMOVE INVITATION.UPDATE INVITATION.REMOVE") {
		if types["PROJECT."+want] < 2 {
			t.Errorf("%d events of type PROJECT.%s, want the beginning and the end", types["PROJECT."+want], want)
		}
	}
}

// Members see and use what belongs to the project; nobody else does, admins of the domain aside.
func TestMembersAlone(t *testing.T) {
	w := newWorld(t)
	id := w.project("p")
	w.Must("a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	key := w.Must("a-other", "createSSHKeyPair", "name", "shared", "projectid", id)
	w.Must("a-user", "createSSHKeyPair", "name", "own")
	if got := []any{key.Get("keypair.account"), key.Get("keypair.projectid"), key.Get("keypair.project")}; !slices.Equal(got, []any{nil, id, "p"}) {
		t.Errorf("the answer names its owner as %v", got)
	}
	keyID := key.String("keypair.id")
	for _, x := range []struct {
		user, params, want string
	}{
		{"a-user", "", "own"},
		{"a-user", "listall=true", "own"},
		{"a-user", "projectid=" + id, "shared"},
		{"a-user", "projectid=-1", "shared"},
		{"a-user", "projectid=-1 listall=true", "own shared"},
		{"a-user", "id=" + keyID, "shared"},
		{"a-other", "projectid=" + id, "shared"},
		{"a-other", "id=" + keyID, "shared"},
		{"a-user", "projectid=" + id + " account=a-user domainid=" + w.Domains["ROOT/a"].ID.String(), "431"},
		{"a-admin", "projectid=" + id, "shared"},
		{"a-admin", "projectid=-1", "shared"},
		{"a-admin", "listall=true", "own"},
		{"a-admin", "id=" + keyID, "shared"},
		{"root", "listall=true", "own"},
		{"root", "projectid=-1", "shared"},
		{"root", "projectid=-1 listall=true", "own shared"},
		{"root", "domainid=" + w.Domains["ROOT/a"].ID.String(), "own"},
		{"x-user", "projectid=" + id, "431"},
		{"x-user", "projectid=-1", ""},
		{"x-user", "id=" + keyID, ""},
		{"b-admin", "projectid=" + id, "431"},
		{"b-admin", "projectid=-1 listall=true", ""},
		{"b-admin", "id=" + keyID, ""},
	} {
		var params []string
		for _, p := range strings.Fields(x.params) {
			name, value, _ := strings.Cut(p, "=")
			params = append(params, name, value)
		}
		if got := w.names(x.user, params...); got != x.want {
			t.Errorf("%s %s: %q, want %q", x.user, x.params, got, x.want)
		}
	}
	w.refused(431, "entity does not exist", "b-user", "createSSHKeyPair", "name", "k", "projectid", id)
	w.refused(431, "entity does not exist", "x-user", "listProjectAccounts", "projectid", id)
	w.refused(431, "Unable to find account", "a-admin", "createSSHKeyPair", "name", "k", "account", "PrjAcct-"+id, "domainid", w.Domains["ROOT/a"].ID.String())
	w.Must("a-user", "deleteAccountFromProject", "projectid", id, "account", "a-other")
	if got := w.names("a-other", "projectid", id); got != "431" {
		t.Errorf("who has left still sees %q", got)
	}
}

// One user of an account joins alone.
func TestOneUser(t *testing.T) {
	w := newWorld(t)
	id := w.project("p")
	w.Must("a-user", "createSSHKeyPair", "name", "shared", "projectid", id)
	other := w.Users["a-other"]
	w.Update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.UserSpec{AccountID: other.Account.ID, Username: "mate", FirstName: "M", LastName: "T"})
		if err != nil {
			return err
		}
		w.Users["mate"] = &apitest.User{User: u, Account: other.Account, APIKey: "mate-key", Secret: "mate-secret"}
		return identity.SetKeys(tx, w.Seal, u.ID, "mate-key", "mate-secret")
	})
	w.Must("a-user", "addUserToProject", "projectid", id, "username", "mate")
	for user, want := range map[string]string{"mate": "shared", "a-other": "431"} {
		if got := w.names(user, "projectid", id); got != want {
			t.Errorf("%s sees %q, want %q", user, got, want)
		}
	}
	for user, want := range map[string]any{"mate": 1.0, "a-other": nil} {
		if a := w.Must(user, "listProjects", "listall", "true"); a.Object["count"] != want {
			t.Errorf("%s: %s", user, a.Raw)
		}
	}
}

func TestWhoMayCreate(t *testing.T) {
	w := newWorld(t)
	w.project("p")
	w.refused(431, "Project with name P already exists in domain", "a-other", "createProject", "name", "P", "displaytext", "x")
	w.refused(431, "Unable to find account", "a-user", "createProject", "name", "q", "displaytext", "x", "account", "a-other", "domainid", w.Domains["ROOT/a"].ID.String())
	w.Must("a-admin", "createProject", "name", "q", "displaytext", "x", "account", "a-other", "domainid", w.Domains["ROOT/a"].ID.String())
	w.set("allow.user.create.projects", "false")
	w.refused(531, "Regular user is not permitted to create a project", "a-user", "createProject", "name", "r", "displaytext", "x")
	w.Must("a-admin", "createProject", "name", "r", "displaytext", "x")
	if n := identity.Counted(w.Read(), w.Users["a-other"].Account.ID, cloud.ResourceProject); n != 1 {
		t.Errorf("a-other has %d projects counted", n)
	}
}

// Members are of the project's domain, whoever makes it; an admin's account that goes takes no project along; and one user's
// invitation is not another's to take up.
func TestWhoMayBecomeMember(t *testing.T) {
	w := newWorld(t)
	other := w.Users["x-user"].User.ID.String()
	w.refused(431, "Unable to find user x-user in domain", "a-admin", "createProject", "name", "p", "displaytext", "x", "userid", other)
	id := w.project("q")
	w.Must("a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	w.Update(func(tx *store.Tx) error {
		a, _ := tables.Accounts.Get(tx, w.Users["a-other"].Account.ID)
		return identity.BeginRemoval(tx, a)
	})
	w.refused(531, "The account a-other is disabled", "a-user", "updateProject", "id", id, "account", "a-other")
	if got := w.Must("a-user", "listProjects").String("project.account"); got != "a-user" {
		t.Errorf("the project's admin is %s", got)
	}
	w.Update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.UserSpec{AccountID: w.Users["a-user"].Account.ID, Username: "mate", FirstName: "M", LastName: "T"})
		w.Users["mate"] = &apitest.User{User: u, Account: w.Users["a-user"].Account, APIKey: "mate-key", Secret: "mate-secret"}
		return errors.Join(err, identity.SetKeys(tx, w.Seal, u.ID, "mate-key", "mate-secret"))
	})
	w.set("project.invite.required", "true")
	theirs := w.Must("a-admin", "createProject", "name", "theirs", "displaytext", "x").String("project.id")
	w.Must("a-admin", "addUserToProject", "projectid", theirs, "username", "a-user")
	w.refused(431, "entity does not exist", "mate", "updateProjectInvitation", "projectid", theirs, "userid", w.Users["a-user"].User.ID.String())
	w.Must("a-user", "updateProjectInvitation", "projectid", theirs)
	// The project's admin, a plain user, makes a user of another account admin, and no user who is no member.
	w.set("project.invite.required", "false")
	w.Must("a-user", "addUserToProject", "projectid", id, "username", "a-admin")
	w.Must("a-user", "updateProject", "id", id, "userid", w.Users["a-admin"].User.ID.String(), "roletype", "Admin", "swapowner", "false")
	w.refused(431, "entity does not exist", "a-user", "updateProject", "id", id, "userid", other, "roletype", "Admin", "swapowner", "false")
}

// names lists the key pairs that a call shows.
func (w *world) names(user string, params ...string) string {
	w.t.Helper()
	a := w.Call(user, "listSSHKeyPairs", params...)
	if a.Status != 200 {
		return strconv.Itoa(a.Status)
	}
	var out []string
	for i := 0; ; i++ {
		n, ok := a.Get("sshkeypair." + strconv.Itoa(i) + ".name").(string)
		if !ok {
			break
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// waitLong is how long a test waits for what takes no time on an idle machine.
const waitLong = 20 * time.Second

// startMailer runs the mailer until the test ends.
func (w *world) startMailer() {
	m := identity.Mailer{Cluster: w.Replica, Seal: w.Seal, Log: slog.New(slog.DiscardHandler), Now: w.Clock.Now, Retry: 50 * time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) stateOf(id string) string {
	w.t.Helper()
	return w.Must("root", "listProjects", "id", id, "listall", "true").String("project.state")
}

// A suspended project stops its virtual machines, and nothing is made for it.
func TestSuspend(t *testing.T) {
	w := newWorld(t)
	id := w.project("p")
	pid, _ := cloud.ParseID(id)
	p, _ := tables.Projects.Get(w.Read(), pid)
	vm := cloud.NameID("test", "vm")
	w.Update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: vm, Name: "vm", InstanceName: "i-1", AccountID: p.AccountID, DomainID: p.DomainID, State: cloud.VMRunning})
	})
	a := w.Call("a-user", "suspendProject", "id", id)
	jobID := a.String("jobid")
	replicatest.Wait(t, waitLong, "the VM to be asked to stop", func() error {
		if row, _ := tables.VMs.Get(w.Read(), vm); row.State != cloud.VMStopping {
			return errors.New(row.State.String())
		}
		return nil
	})
	if s := w.Call("a-user", "queryAsyncJobResult", "jobid", jobID).Object["jobstatus"]; s != 0.0 {
		t.Errorf("the job did not wait for the VM: status %v", s)
	}
	w.Update(func(tx *store.Tx) error {
		return tables.VMs.Edit(tx, vm, func(r *cloud.VM) error { r.State = cloud.VMStopped; return nil })
	})
	if j := w.Job("a-user", jobID); j.Get("jobresult.project.state") != "Suspended" {
		t.Errorf("%s", j.Raw)
	}
	w.refused(531, "as it's no longer active", "a-user", "createSSHKeyPair", "name", "k", "projectid", id)
	w.refused(431, "as it's no longer active", "a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	w.refused(431, "as it's no longer active", "a-user", "updateProject", "id", id, "displaytext", "x")
	w.Must("a-user", "activateProject", "id", id)
	w.Must("a-user", "createSSHKeyPair", "name", "k", "projectid", id)
}

// A removal that fails half-way is taken up by asking again; it keeps the order.
func TestRemoveInOrder(t *testing.T) {
	w := newWorld(t)
	id := w.project("p")
	pid, _ := cloud.ParseID(id)
	p, _ := tables.Projects.Get(w.Read(), pid)
	vm := cloud.NameID("test", "vm")
	w.Must("a-user", "createSSHKeyPair", "name", "k", "projectid", id)
	w.Update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: vm, Name: "vm", InstanceName: "i-1", AccountID: p.AccountID, DomainID: p.DomainID, State: cloud.VMRunning})
	})
	w.refused(536, "it still owns a virtual machine", "a-user", "deleteProject", "id", id, "cleanup", "false")
	w.poison = true
	if j := w.Job("a-user", w.Call("a-user", "deleteProject", "id", id).String("jobid")); j.Object["jobstatus"] != 2.0 {
		t.Fatalf("%s", j.Raw)
	}
	w.poison = false
	if s := w.stateOf(id); s != "Disabled" {
		t.Errorf("the project is %s", s)
	}
	w.refused(431, "it is being removed", "a-user", "activateProject", "id", id)
	job := w.Call("a-user", "deleteProject", "id", id).String("jobid")
	replicatest.Wait(t, waitLong, "the VM to be asked to go", func() error {
		if row, _ := tables.VMs.Get(w.Read(), vm); row.State != cloud.VMExpunging {
			return errors.New(row.State.String())
		}
		return nil
	})
	w.Update(func(tx *store.Tx) error { return tables.VMs.Delete(tx, vm) })
	if j := w.Job("a-user", job); j.Object["jobstatus"] != 1.0 {
		t.Fatalf("%s", j.Raw)
	}
	r := w.Read()
	left := map[string]int{
		"projects": tables.Projects.Len(r), "members": tables.ProjectMembers.Len(r), "keys": tables.SSHKeyPairs.Len(r),
		"counted": int(identity.Counted(r, w.Users["a-user"].Account.ID, cloud.ResourceProject)),
	}
	if tables.Accounts.Has(r, p.AccountID) {
		left["account"] = 1
	}
	if d := cmp.Diff(map[string]int{"projects": 0, "members": 0, "keys": 0, "counted": 0}, left); d != "" {
		t.Error(d)
	}
}

func TestInvitations(t *testing.T) {
	w := newWorld(t)
	id := w.project("p")
	w.refused(431, "Account information is required", "a-user", "addAccountToProject", "projectid", id, "email", "x@example.org")
	w.set("project.invite.required", "true")
	w.Must("a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	w.refused(431, "already a pending invitation", "a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	// Whoever is not invited learns nothing, whoever is not yet a member sees nothing of the project.
	unknown := "Invalid parameter projectid value=" + id + " due to incorrect long value format, or entity does not exist"
	w.refused(431, unknown, "b-user", "updateProjectInvitation", "projectid", id)
	w.refused(431, unknown, "a-other", "listProjectAccounts", "projectid", id)
	w.refused(431, unknown, "b-user", "listProjectInvitations", "projectid", id)
	if a := w.Must("a-user", "listProjectInvitations", "projectid", id); a.Object["count"] != 1.0 {
		t.Errorf("the project's admin does not see the invitation: %s", a.Raw)
	}
	w.Clock.Advance(identity.InviteTimeout.Duration(w.Read()))
	if s := w.Must("a-other", "listProjectInvitations").String("projectinvitation.state"); s != "Expired" {
		t.Errorf("after its time the invitation is %s", s)
	}
	w.refused(431, "has expired", "a-other", "updateProjectInvitation", "projectid", id)
	w.Must("a-user", "addAccountToProject", "projectid", id, "account", "a-other")
	w.Must("a-other", "updateProjectInvitation", "projectid", id)
	if a := w.Must("a-other", "listProjectAccounts", "projectid", id); a.Object["count"] != 2.0 {
		t.Errorf("%s", a.Raw)
	}
	if a := w.Must("a-other", "listProjectInvitations", "activeonly", "true"); a.Object["count"] != nil {
		t.Errorf("%s", a.Raw)
	}
	w.refused(531, "is no admin", "a-other", "deleteProject", "id", id)
	w.refused(531, "is no admin", "a-other", "addAccountToProject", "projectid", id, "account", "a-admin")
}

// An invitation by mail: the token in it, and nothing else, lets an account in, once.
func TestCVE_2022_26779_InviteTokens(t *testing.T) {
	w := newWorld(t)
	id := w.project("p")
	w.set("project.invite.required", "true")
	w.refused(534, "no mail server is set up", "a-user", "addAccountToProject", "projectid", id, "email", "x@example.org")
	server := mailtest.Start(t, mailtest.Config{})
	w.set("project.smtp.host", server.Host)
	w.set("project.smtp.port", strconv.Itoa(server.Port))
	w.set("project.email.sender", "cloud@example.org")
	w.startMailer()
	w.refused(431, "one mail address is accepted", "a-user", "addAccountToProject", "projectid", id, "email", "x@example.org, y@example.org")
	w.Must("a-user", "addAccountToProject", "projectid", id, "email", "x@example.org")
	var sent []mailtest.Mail
	replicatest.Wait(t, waitLong, "the mail", func() error {
		if sent = server.Mails(); len(sent) == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	_, token, _ := strings.Cut(strings.ReplaceAll(sent[0].Body, "=\r\n", ""), "Token: ")
	token = strings.TrimSpace(token)
	if len(sent) != 1 || sent[0].To[0] != "x@example.org" || len(token) < 40 {
		t.Fatalf("%d mails, %+v", len(sent), sent)
	}
	for _, wrong := range []string{"", token + "x", token[1:], strings.ToUpper(token), "100000"} {
		w.refused(431, "entity does not exist", "a-other", "updateProjectInvitation", "projectid", id, "token", wrong)
	}
	// Members are of the project's domain: whoever else got hold of the token learns nothing, and spends nothing.
	w.refused(431, "entity does not exist", "x-user", "updateProjectInvitation", "projectid", id, "token", token)
	w.refused(431, "entity does not exist", "x-user", "updateProjectInvitation", "projectid", id, "token", token, "accept", "false")
	for i := range tables.ProjectInvitations.All(w.Read()) {
		if strings.Contains(i.Token, token) {
			t.Error("the token is kept in the clear")
		}
	}
	w.Must("a-other", "updateProjectInvitation", "projectid", id, "token", token)
	w.refused(431, "entity does not exist", "a-other", "updateProjectInvitation", "projectid", id, "token", token)
	if a := w.Must("a-other", "listProjects"); a.String("project.id") != id {
		t.Errorf("%s", a.Raw)
	}
	replicatest.Wait(t, waitLong, "the mail to be marked as sent", func() error {
		if n := tables.ProjectInvitations.Count(w.Read(), "unmailed", nil); n > 0 {
			return errors.New("it is not")
		}
		return nil
	})
}

// Tenants cannot make the cloud mail the world: an account's mails are counted by the day, and neither taking an
// invitation back nor removing the project gives one back.
func TestInviteMailLimit(t *testing.T) {
	w := newWorld(t)
	id, other := w.project("p"), w.project("q")
	w.set("project.invite.required", "true")
	w.set("project.invite.mail.limit", "2")
	w.set("project.smtp.host", "127.0.0.1")
	w.set("project.email.sender", "cloud@example.org")
	w.Must("a-user", "addAccountToProject", "projectid", id, "email", "x1@example.org")
	w.refused(431, "already a pending invitation", "a-user", "addAccountToProject", "projectid", id, "email", "x1@example.org")
	invitation := w.Must("a-user", "listProjectInvitations", "projectid", id).String("projectinvitation.id")
	w.Must("a-user", "deleteProjectInvitation", "id", invitation)
	w.Must("a-user", "addAccountToProject", "projectid", id, "email", "x1@example.org")
	w.Must("a-user", "deleteProject", "id", id)
	const full = "has had 2 invitations mailed since"
	w.refused(535, full, "a-user", "addAccountToProject", "projectid", other, "email", "x2@example.org")
	w.Must("a-user", "addAccountToProject", "projectid", other, "account", "a-other") // needs no mail
	w.Clock.Advance(24*time.Hour - time.Second)
	w.refused(535, full, "a-user", "addAccountToProject", "projectid", other, "email", "x2@example.org")
	w.Clock.Advance(time.Second)
	w.Must("a-user", "addAccountToProject", "projectid", other, "email", "x2@example.org")
	w.set("project.invite.mail.limit", "0")
	w.refused(535, "has had 1 invitations mailed", "a-user", "addAccountToProject", "projectid", other, "email", "x3@example.org")
	w.set("project.invite.mail.limit", "-1")
	for _, address := range []string{"x3@example.org", "x4@example.org", "x5@example.org"} {
		w.Must("a-user", "addAccountToProject", "projectid", other, "email", address)
	}
}
