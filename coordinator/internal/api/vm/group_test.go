package vm_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

func TestInstanceGroups(t *testing.T) {
	w := newWorld(t)
	made := w.Must("a-user", "createInstanceGroup", "name", "web")
	w.golden("createInstanceGroup", made)
	group := made.String("instancegroup.id")
	w.refuse("a-user", 431, "a group with name web already exists", "createInstanceGroup", "name", "web")
	w.golden("updateInstanceGroup", w.Must("a-user", "updateInstanceGroup", "id", group, "name", "front"))
	list := w.Must("a-user", "listInstanceGroups", "name", "front")
	w.golden("listInstanceGroups", list)
	// Deployed into the group that is there, and moved to one that is made for it.
	vm := w.Job("a-user", w.deploy("a-user", "startvm", "false", "group", "front").String("jobid"))
	id := vm.Get("jobresult.virtualmachine.id").(string)
	if got := vm.Get("jobresult.virtualmachine.groupid"); got != group {
		t.Errorf("the VM is in group %v, want %s", got, group)
	}
	if got := w.Must("a-user", "listVirtualMachines", "groupid", group).String("virtualmachine.id"); got != id {
		t.Errorf("the group has VM %q, want %s", got, id)
	}
	w.Must("a-user", "updateVirtualMachine", "id", id, "group", "back")
	if got := w.Must("a-user", "listInstanceGroups", "name", "back").String("instancegroup.name"); got != "back" {
		t.Errorf("updateVirtualMachine made group %q", got)
	}
	w.Must("a-user", "updateVirtualMachine", "id", id, "group", "front")
	w.Golden("deleteInstanceGroup", w.Must("a-user", "deleteInstanceGroup", "id", group))
	if got := w.Must("a-user", "listVirtualMachines", "id", id).Get("virtualmachine.group"); got != nil {
		t.Errorf("the VM is still in group %v", got)
	}
	w.refuse("b-user", 431, "entity does not exist", "deleteInstanceGroup", "id", w.Must("a-user", "listInstanceGroups").String("instancegroup.id"))
}

// refuse checks a refusal.
func (w *world) refuse(user string, code int, text, command string, params ...string) {
	w.t.Helper()
	if got, n := w.Call(user, command, params...).Error(); n != code || !strings.Contains(got, text) {
		w.t.Errorf("%s %v by %s: %d %s, want %d %s", command, params, user, n, got, code, text)
	}
}

// job is the answer of a job that succeeded, as a golden answer.
func (w *world) job(command, user string, a *apitest.Answer) *apitest.Answer {
	w.t.Helper()
	j := w.Job(user, a.String("jobid"))
	w.Golden(command+"-job", j)
	return j
}

func TestAffinityGroups(t *testing.T) {
	w := newWorld(t)
	w.golden("listAffinityGroupTypes", w.Must("a-user", "listAffinityGroupTypes"))
	a := w.Call("a-user", "createAffinityGroup", "name", "apart", "type", "host anti-affinity", "description", "never together")
	w.job("createAffinityGroup", "a-user", a)
	apart := a.String("id")
	w.refuse("a-user", 431, "a group with name apart already exists.", "createAffinityGroup", "name", "apart", "type", "host affinity")
	w.refuse("a-user", 431, "invalid affinity group type", "createAffinityGroup", "name", "x", "type", "nonsense")
	first := w.Job("a-user", w.deploy("a-user", "name", "one", "affinitygroupnames", "apart").String("jobid"))
	if got := first.Get("jobresult.virtualmachine.affinitygroup.id"); got != apart {
		t.Fatalf("the VM is in group %v: %s", got, first.Raw)
	}
	// There is one host, so the second VM finds none, and is told why.
	second := w.Job("a-user", w.deploy("a-user", "name", "two", "affinitygroupids", apart).String("jobid"))
	text, _ := second.Get("jobresult.errortext").(string)
	if !strings.Contains(text, "host h1: VM i-") || !strings.Contains(text, "of its anti-affinity group apart is there") {
		t.Errorf("the second VM: %s", second.Raw)
	}
	w.Must("a-user", "createAffinityGroup", "name", "wish", "type", "non-strict host anti-affinity")
	w.Must("a-user", "createAffinityGroup", "name", "together", "type", "host affinity")
	third := w.Job("a-user", w.deploy("a-user", "name", "three", "affinitygroupnames", "wish,together").String("jobid"))
	if got := third.Get("jobresult.virtualmachine.state"); got != "Running" {
		t.Errorf("a wish keeps a VM off the only host: %s", third.Raw)
	}
	id := third.Get("jobresult.virtualmachine.id").(string)
	list := w.Must("a-user", "listAffinityGroups", "virtualmachineid", id, "name", "together")
	w.golden("listAffinityGroups", list)
	w.refuse("a-user", 431, "make sure the virtual machine is stopped", "updateVMAffinityGroup", "id", id, "affinitygroupids", apart)
	w.Must("a-user", "stopVirtualMachine", "id", id)
	w.job("updateVMAffinityGroup", "a-user", w.Call("a-user", "updateVMAffinityGroup", "id", id, "affinitygroupids", apart))
	started := w.Job("a-user", w.Call("a-user", "startVirtualMachine", "id", id).String("jobid"))
	if started.Get("jobstatus") != 2.0 {
		t.Errorf("it started beside the other: %s", started.Raw)
	}
	w.job("deleteAffinityGroup", "a-user", w.Call("a-user", "deleteAffinityGroup", "name", "apart"))
	w.Must("a-user", "startVirtualMachine", "id", id)
	if n := tables.AffinityMembers.Count(w.Read(), "group", store.K(mustParse(t, apart))); n != 0 {
		t.Errorf("the deleted group has %d members", n)
	}
	other := w.Call("b-user", "createAffinityGroup", "name", "theirs").String("id")
	w.refuse("a-user", 431, "entity does not exist", "updateVMAffinityGroup", "id", id, "affinitygroupids", other)
}

func TestUserData(t *testing.T) {
	w := newWorld(t)
	text := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	made := w.Must("a-user", "registerUserData", "name", "init", "userdata", text("#cloud-config\n"), "params", "colour,size")
	w.golden("registerUserData", made)
	id := made.String("userdata.id")
	w.refuse("a-user", 431, "A userdata with name init already exists", "registerUserData", "name", "init", "userdata", text("x"))
	w.golden("listUserData", w.Must("a-user", "listUserData", "id", id))
	first := w.Job("a-user", w.deploy("a-user", "name", "one", "startvm", "false", "userdataid", id, "userdatadetails[0].colour", "red").String("jobid"))
	vm, _ := first.Get("jobresult.virtualmachine.id").(string)
	if got := first.Get("jobresult.virtualmachine.userdatadetails"); got != "colour=red" {
		t.Fatalf("the values are %v: %s", got, first.Raw)
	}
	if got := w.Must("a-user", "listVirtualMachines", "id", vm).String("virtualmachine.userdata"); got != text("#cloud-config\n") {
		t.Errorf("the VM has user-data %q", got)
	}
	if text, code := w.deploy("a-user", "userdataid", id, "userdatadetails[0].other", "x").Error(); code != 431 || !strings.Contains(text, "is no variable of the userdata") {
		t.Errorf("a value of no variable: %d %s", code, text)
	}
	if text, code := w.deploy("a-user", "userdataid", id, "userdata", text("y")).Error(); code != 431 || !strings.Contains(text, "please provide only one") {
		t.Errorf("both: %d %s", code, text)
	}
	w.refuse("a-user", 536, "cannot be removed as VM", "deleteUserData", "id", id)
	w.golden("resetUserDataForVirtualMachine", w.Must("a-user", "resetUserDataForVirtualMachine", "id", vm, "userdata", text("#!/bin/sh\n")))
	w.Golden("deleteUserData", w.Must("a-user", "deleteUserData", "id", id))
}

// CVE-2026-50222: user-data of another account is neither read, linked, deployed with nor reset to.
func TestCVE_2026_50222_UserDataOfOthers(t *testing.T) {
	w := newWorld(t)
	text := base64.StdEncoding.EncodeToString([]byte("secret"))
	id := w.Must("b-user", "registerUserData", "name", "theirs", "userdata", text).String("userdata.id")
	mine := w.Job("a-user", w.deploy("a-user", "startvm", "false").String("jobid")).Get("jobresult.virtualmachine.id").(string)
	for _, x := range [][]string{
		{"resetUserDataForVirtualMachine", "id", mine, "userdataid", id},
		{"deleteUserData", "id", id},
		{"linkUserDataToTemplate", "templateid", w.template, "userdataid", id},
		{"updateVirtualMachine", "id", mine, "userdataid", id},
	} {
		if a := w.Call("a-user", x[0], x[1:]...); a.Status != 431 {
			t.Errorf("%v: %s", x, a.Raw)
		}
	}
	if a := w.deploy("a-user", "userdataid", id); a.Status != 431 {
		t.Errorf("deployed with: %s", a.Raw)
	}
	if a := w.Must("a-user", "listUserData", "listall", "true"); len(a.Object) != 0 {
		t.Errorf("listed: %s", a.Raw)
	}
	// Not even the provider can mix accounts.
	w.refuse("root", 531, "does not belong to the account of the VM", "resetUserDataForVirtualMachine", "id", mine, "userdataid", id)
}

func TestUserDataOfTemplates(t *testing.T) {
	w := newWorld(t)
	user := w.Users["a-user"].Account
	w.Update(func(tx *store.Tx) error {
		return tables.Templates.Edit(tx, id(7), func(t *cloud.Template) error {
			t.AccountID, t.DomainID = user.ID, user.DomainID
			return nil
		})
	})
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	kept := w.Must("a-user", "registerUserData", "name", "base", "userdata", encode("#cloud-config\na: b\n")).String("userdata.id")
	deployed := func(more ...string) string {
		t.Helper()
		a := w.deploy("a-user", append(more, "startvm", "false")...)
		if a.Status != 200 {
			return string(a.Raw)
		}
		told, _ := w.Must("a-user", "listVirtualMachines", "id", a.String("id")).Get("virtualmachine.userdata").(string)
		raw, err := base64.StdEncoding.DecodeString(told)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	w.golden("linkUserDataToTemplate", w.Must("a-user", "linkUserDataToTemplate", "templateid", w.template, "userdataid", kept, "userdatapolicy", "append"))
	w.refuse("a-user", 536, "is linked to template", "deleteUserData", "id", kept)
	if got := deployed(); got != "#cloud-config\na: b\n" {
		t.Errorf("without its own: %q", got)
	}
	if got := deployed("userdata", encode("#!/bin/sh\n")); !strings.Contains(got, "Content-Type: text/cloud-config") || !strings.Contains(got, "text/x-shellscript") {
		t.Errorf("joined: %q", got)
	}
	w.Must("a-user", "linkUserDataToTemplate", "templateid", w.template, "userdataid", kept, "userdatapolicy", "DENYOVERRIDE")
	if got := deployed("userdata", encode("mine")); !strings.Contains(got, "configured to deny any userdata") {
		t.Errorf("denied: %q", got)
	}
	w.Must("a-user", "linkUserDataToTemplate", "templateid", w.template, "userdataid", kept)
	if got := deployed("userdata", encode("mine")); got != "mine" {
		t.Errorf("its own: %q", got)
	}
	w.Must("a-user", "linkUserDataToTemplate", "templateid", w.template)
	if got := deployed(); got != "" {
		t.Errorf("unlinked: %q", got)
	}
}

// A password that the guest has not fetched yet is told to the owner who starts the VM, and to no admin of another
// account; one that an admin has made is told to that admin.
func TestCVE_2015_3251_WhoIsToldPasswords(t *testing.T) {
	w := newWorld(t)
	w.Must("a-user", "registerSSHKeyPair", "name", "k", "publickey", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p")
	id := w.Job("a-user", w.deploy("a-user", "startvm", "false").String("jobid")).Get("jobresult.virtualmachine.id").(string)
	tells := func(user, command string, params ...string) bool {
		t.Helper()
		j := w.Job(user, w.Call(user, command, append(params, "id", id)...).String("jobid"))
		p, _ := j.Get("jobresult.virtualmachine.password").(string)
		if j.Get("jobstatus") != 1.0 {
			t.Fatalf("%s by %s: %s", command, user, j.Raw)
		}
		return p != ""
	}
	if tells("root", "startVirtualMachine") {
		t.Error("CVE-2015-3251: root is told the password that was made for the owner")
	}
	tells("root", "stopVirtualMachine")
	if !tells("a-user", "startVirtualMachine") {
		t.Error("the owner is not told")
	}
	tells("a-user", "stopVirtualMachine")
	if !tells("root", "resetPasswordForVirtualMachine") || !tells("root", "startVirtualMachine") {
		t.Error("root is not told the password it has made")
	}
	tells("root", "stopVirtualMachine")
	a := w.Call("a-user", "resetSSHKeyForVirtualMachine", "id", id, "keypair", "k")
	j := w.Job("a-user", a.String("jobid"))
	password, _ := j.Get("jobresult.virtualmachine.password").(string)
	if password == "" || j.Get("jobresult.virtualmachine.keypair") != "k" {
		t.Fatalf("resetSSHKeyForVirtualMachine: %s", j.Raw)
	}
	w.golden("resetSSHKeyForVirtualMachine-job", j, password)
	if tells("root", "startVirtualMachine") {
		t.Error("root is told the password of the new key's owner")
	}
	w.refuse("a-user", 431, "should be stopped to do SSH Key reset", "resetSSHKeyForVirtualMachine", "id", id, "keypair", "k")
	w.refuse("a-user", 431, "A key pair with name 'none' does not exist for account", "resetSSHKeyForVirtualMachine", "id", id, "keypair", "none")
}

// What accounts keep under names costs memory everywhere, and no resource limit speaks of it: each kind has its own bound,
// which an administrator may set for one account, also under concurrency, and for what is made on the way.
func TestSmallThingsAreBounded(t *testing.T) {
	w := newWorld(t)
	user := w.Users["a-user"].Account.ID
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p"
	for _, x := range []struct {
		setting string
		params  []string
	}{
		{"max.account.instance.groups", []string{"createInstanceGroup"}},
		{"max.account.affinity.groups", []string{"createAffinityGroup"}},
		{"max.account.userdata", []string{"registerUserData", "userdata", "eA"}},
		{"max.account.ssh.keypairs", []string{"registerSSHKeyPair", "publickey", key}},
	} {
		w.Update(func(tx *store.Tx) error { return w.Settings.SetFor(tx, user, x.setting, "3", nil) })
		var wg sync.WaitGroup
		var made atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				a := w.Call("a-user", x.params[0], append(slices.Clone(x.params[1:]), "name", fmt.Sprint("n", i))...)
				if text, code := a.Error(); a.Status == 200 {
					made.Add(1)
				} else if code != 535 || !strings.Contains(text, "may have 3 (setting "+x.setting+")") {
					t.Errorf("%s: %s", x.params[0], a.Raw)
				}
			})
		}
		wg.Wait()
		if made.Load() != 3 {
			t.Errorf("%s made %d of 3", x.params[0], made.Load())
		}
		if a := w.Call("b-user", x.params[0], append(slices.Clone(x.params[1:]), "name", "n")...); a.Status != 200 {
			t.Errorf("another account: %s", a.Raw)
		}
	}
	w.refuse("a-user", 535, "may have 3 (setting max.account.ssh.keypairs)", "createSSHKeyPair", "name", "more")
	// A group that a VM would be the first of is one more, too; one that is there has room for any number.
	if text, code := w.deploy("a-user", "startvm", "false", "group", "fourth").Error(); code != 535 {
		t.Errorf("a fourth group by deployment: %d %s", code, text)
	}
}

// CVE-2024-29008: whatever a tenant calls extra configuration has no effect on what a host is told.
func TestCVE_2024_29008_ExtraConfig(t *testing.T) {
	w := newWorld(t)
	evil := "<devices><disk type='block' device='disk'><source dev='/dev/sda'/></disk></devices>"
	plain := w.Job("a-user", w.deploy("a-user", "name", "one").String("jobid")).Get("jobresult.virtualmachine.id").(string)
	told := func(id string) string {
		t.Helper()
		s := &hostspec.HostSpec{}
		if err := w.area.Render(w.Read(), w.host, s); err != nil {
			t.Fatal(err)
		}
		var text string
		for _, vm := range s.Vms {
			if vm.Id == id {
				text = prototext.Format(vm)
			}
		}
		if text == "" {
			t.Fatalf("the host is not told of VM %s", id)
		}
		return text
	}
	before := told(plain)
	extra := w.Job("a-user", w.deploy("a-user", "name", "two", "extraconfig", url.QueryEscape(evil), "details[0].extraconfig-1", evil,
		"details[0].extraConfig", evil, "bootmode", evil).String("jobid")).Get("jobresult.virtualmachine.id").(string)
	if text := told(extra); strings.Contains(text, "/dev/sda") || strings.Contains(strings.ToLower(text), "extra") {
		t.Errorf("the host is told: %s", text)
	}
	w.Must("a-user", "updateVirtualMachine", "id", plain, "extraconfig", url.QueryEscape(evil), "details[0].extraconfig-1", evil)
	if d := cmp.Diff(before, told(plain)); d != "" {
		t.Errorf("an update changed what the host is told: %s", d)
	}
}
