package server

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
)

// rolesOf are the roles that calls come with.
var rolesOf = map[string]api.Roles{"root": api.RootAdmin, "domain admin": api.DomainAdmin, "user": api.User}

// What listApis tells each role is exactly what that role may call: everything else is refused with 432, in the envelope
// of a command that does not exist, whether it is another role's or one that is not there at all.
func TestListApisTellsWhatCanBeCalled(t *testing.T) {
	w := newWorld(t)
	facts := apitest.Facts()
	for role, bit := range rolesOf {
		told := map[string]bool{}
		for _, x := range w.must(role, "listApis").list("api") {
			told[x["name"].(string)] = true
		}
		for _, c := range w.registry.Commands() {
			if want := c.Roles&bit != 0; told[c.Name] != want {
				t.Errorf("listApis of a %s has %s: %v, want %v", role, c.Name, told[c.Name], want)
			}
		}
		if role == "root" {
			for _, name := range strings.Fields(wanted) {
				if !told[name] {
					t.Errorf("listApis does not tell %s", name)
				}
			}
		}
		names := apitest.SDKCommands()
		for name := range facts {
			names = append(names, name)
		}
		for _, c := range w.registry.Commands() {
			names = append(names, c.Name)
		}
		for _, name := range names {
			c, ok := w.registry.Find(name)
			if told[name] || ok && c.Roles&api.NoLogin != 0 {
				continue
			}
			if a := w.call(role, name); a.code != 432 || a.envelope != "errorresponse" {
				t.Errorf("%s by a %s, which it may not call: %d %s", name, role, a.code, a.raw)
			}
		}
	}
}

// golden are the kept answers of all packages by command: files are named <command>.json or <command>-<case>.json.
func golden(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(filepath.Dir(path)) != "golden" || filepath.Ext(path) != ".json" {
			return err
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		out[name] = append(out[name], path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lostBySDK are fields of answers that today's SDK does not know, as "Type.field", with the reason why they are there.
var lostBySDK = map[string]string{
	"ActivateProjectResponse.account": owner, "CreateProjectResponse.account": owner, "Project.account": owner,
	"SuspendProjectResponse.account": owner, "UpdateProjectResponse.account": owner,
	"ActivateProjectResponse.projectavailable": totals, "CreateProjectResponse.projectavailable": totals, "Project.projectavailable": totals,
	"SuspendProjectResponse.projectavailable": totals, "UpdateProjectResponse.projectavailable": totals,
	"ActivateProjectResponse.projectlimit": totals, "CreateProjectResponse.projectlimit": totals, "Project.projectlimit": totals,
	"SuspendProjectResponse.projectlimit": totals, "UpdateProjectResponse.projectlimit": totals,
	"ActivateProjectResponse.projecttotal": totals, "CreateProjectResponse.projecttotal": totals, "Project.projecttotal": totals,
	"SuspendProjectResponse.projecttotal": totals, "UpdateProjectResponse.projecttotal": totals,
	"AddClusterResponse.cluster": array, "AddClusterResponse.count": array, "AddHostResponse.host": array, "AddHostResponse.count": array,
	"ImportLdapUsersResponse.LdapUser": array, "ImportLdapUsersResponse.count": array,
	"Alert.clusterid": ours, "Alert.podid": ours, "Alert.zoneid": ours, "Alert.subject": ours, "Alert.resolved": ours,
	"ManagementServer.leader": ours, "ManagementServersMetric.leader": ours, "AddImageStoreResponse.details": ours, "CancelStorageMaintenanceResponse.displaytext": ours, "LinkAccountToLdapResponse.account": ours,
	"ServiceOffering.tags": older, "CreateServiceOfferingResponse.tags": older, "ResetSSHKeyForVirtualMachineResponse.keypair": older,
	"Router.error": ours, "SystemVm.error": ours, "Router.templateversion": older, "StartRouterResponse.templateversion": older,
	"MigrateSystemVmResponse.role":                   "the system VMs that can be migrated are routers, and answered as such",
	"LdapRemoveResponse.success":                     "CloudStack answers so, and the SDK expects a configuration",
	"ListDetailOptionsResponse.details":              "CloudStack's key is detailoptions, not the detailoption of the SDK",
	"ListStorageProvidersResponse.dataStoreProvider": "CloudStack's key, which the web UI reads; the SDK expects another",
	"Nic.secondaryip":                                "CloudStack tells the addresses of a NIC beside its first; the SDK has them on lists of NICs only",
	"RegisterUserDataResponse.domainpath":            "one object is the same from every command; the SDK has it on the list",
	"ProjectAccount.account":                         member, "ProjectAccount.accountid": member, "ProjectAccount.accounttype": member,
	"ProjectAccount.project": member, "ProjectAccount.projectid": member, "ProjectAccount.projectroleid": member,
	"ProjectAccount.role": member, "ProjectAccount.user": member, "ProjectAccount.userid": member, "ProjectAccount.username": member,
	"TrafficType.kvmnetworklabel": traffic, "TrafficType.traffictype": traffic, "TrafficType.vmwarenetworklabel": traffic,
	"TrafficType.xennetworklabel": traffic,
}

const (
	owner   = "of 4.1; today's owner holds the same and more"
	older   = "of 4.1, whose name is another today"
	ours    = "beyond CloudStack"
	totals  = "the counts of an account, all of which a project has; it owns no projects"
	array   = "CloudStack answers an array, which the SDK takes for one object"
	member  = "the SDK types members of projects as projects; CloudStack answers members"
	traffic = "the SDK types traffic types as service providers; CloudStack answers traffic types"
)

// Every list has a golden answer with rows in it: what an empty one looks like says nothing of the rows.
func TestEveryListHasGoldenRows(t *testing.T) {
	files := golden(t)
	for _, c := range registry(t).Commands() {
		rows := 0
		for _, path := range files[c.Name] {
			rows += len(answerRows(t, c, path))
		}
		if c.Lists() && rows == 0 {
			t.Errorf("no golden answer of %s has a row", c.Name)
		}
	}
}

// Every command has an answer whose bytes are reviewed, and today's SDK decodes all of them,
// but for the fields above, which it loses.
func TestEveryCommandHasGoldenAnswer(t *testing.T) {
	files := golden(t)
	var without []string
	lost := map[string]bool{}
	for _, c := range registry(t).Commands() {
		answered := false
		for _, path := range files[c.Name] {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var top map[string]map[string]any
			if err := json.Unmarshal(b, &top); err != nil || len(top) != 1 {
				t.Fatalf("%s is no answer: %v", path, err)
			}
			for envelope, object := range top {
				if object["errorcode"] != nil {
					continue
				}
				if envelope == "queryasyncjobresultresponse" && c.Name != "queryAsyncJobResult" {
					result, ok := object["jobresult"].(map[string]any)
					if !ok || object["jobstatus"] != 1.0 || object["cmd"] != c.Name {
						continue
					}
					object = result
				} else if c.Async() {
					continue // the answer to the call; the job's matters
				}
				answered = true
				bad, fields := apitest.DecodeSDK(c.Name, object)
				for _, b := range bad {
					t.Errorf("%s: the SDK cannot decode it: %s", path, b)
				}
				for _, f := range fields {
					lost[f] = true
				}
			}
		}
		if !answered {
			without = append(without, c.Name)
		}
	}
	slices.Sort(without)
	for f := range lost {
		if lostBySDK[f] == "" {
			t.Errorf("the SDK has no %s: it is misspelt, or lostBySDK tells why it is there", f)
		}
	}
	for f := range lostBySDK {
		if !lost[f] {
			t.Errorf("no golden answer has %s, or the SDK knows it: take it out of lostBySDK", f)
		}
	}
	if d := cmp.Diff([]string(nil), without); d != "" {
		t.Errorf("commands without a golden answer: %s", d)
	}
}
