package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
)

// TestProjectOnRealHosts is the life of a project: a member makes its network, VM, address and rules, guests are reached
// through them, a role keeps the member from destroying, and of the project that is deleted nothing is left anywhere.
func TestProjectOnRealHosts(t *testing.T) {
	w := newReal(t, nil)
	before := w.traces(t)
	lead, mate := w.account(t, "lead"), w.account(t, "mate")
	var made struct {
		Project named `json:"project"`
	}
	call(t, lead, "createProject", api.Params{"name": "web", "displaytext": "The web site"}, &made)
	p := made.Project.ID
	var role struct {
		Role named `json:"projectrole"`
	}
	call(t, lead, "createProjectRole", api.Params{"projectid": p, "name": "builder"}, &role)
	call(t, lead, "createProjectRolePermission", api.Params{"projectid": p, "projectroleid": role.Role.ID, "rule": "destroy*", "permission": "deny"}, nil)
	call(t, lead, "addAccountToProject", api.Params{"projectid": p, "account": "mate", "projectroleid": role.Role.ID}, nil)

	g := w.projectGuest(t, mate, p)
	await(t, time.Minute, "the project's VM to answer on its public address", g.answers)
	var refused *api.Error
	if err := mate.Do(t.Context(), "destroyVirtualMachine", api.Params{"id": g.id}, nil); !errors.As(err, &refused) || refused.Code != 531 {
		t.Errorf("a member whose role denies it destroys a VM: %v", err)
	}
	w.checkProjectLists(t, p, g, lead, mate)

	began := time.Now()
	call(t, lead, "deleteProject", api.Params{"id": p}, nil)
	t.Logf("the project was deleted in %.1f s", time.Since(began).Seconds())
	await(t, time.Minute, "nothing of the project to be left", func(context.Context) error {
		if after := w.traces(t); !slices.Equal(after, before) {
			return fmt.Errorf("there is %v, and was %v", after, before)
		}
		return nil
	})
	if err := g.answers(t.Context()); err == nil {
		t.Error("the VM still answers")
	}
}

// call runs a command of somebody's and waits for its job.
func call(t *testing.T, c *api.Client, command string, params api.Params, result any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := c.Do(ctx, command, params, result); err != nil {
		t.Fatal(err)
	}
}

// account makes an account of one user, and gives a client with the user's keys.
func (w *real) account(t *testing.T, name string) *api.Client {
	t.Helper()
	w.do(t, "createAccount", api.Params{
		"username": name, "account": name, "password": "only for this test", "firstname": name, "lastname": "x", "email": name + "@example.org", "accounttype": "0",
	}, nil)
	users, err := api.List[named](t.Context(), w.admin, "listUsers", "user", api.Params{"username": name, "listall": "true"})
	if err != nil || len(users) != 1 {
		t.Fatalf("users of the name %s: %v, %v", name, users, err)
	}
	var keys struct {
		Keys struct {
			Key    string `json:"apikey"`
			Secret string `json:"secretkey"`
		} `json:"userkeys"`
	}
	w.do(t, "registerUserKeys", api.Params{"id": users[0].ID}, &keys)
	return &api.Client{Endpoint: w.admin.Endpoint, Key: keys.Keys.Key, Secret: keys.Keys.Secret}
}

// projectGuest has a member make the project's network and a VM in it, reached by a rule that led elsewhere first.
func (w *real) projectGuest(t *testing.T, mate *api.Client, project string) *guest {
	t.Helper()
	offerings, err := api.List[named](t.Context(), mate, "listNetworkOfferings", "networkoffering", api.Params{"name": "sandbox-isolated"})
	if err != nil || len(offerings) != 1 {
		t.Fatalf("network offerings: %v, %v", offerings, err)
	}
	var net struct {
		Network named `json:"network"`
	}
	call(t, mate, "createNetwork", api.Params{
		"name": "web-net", "displaytext": "x", "zoneid": w.ids["zone sandbox"], "networkofferingid": offerings[0].ID, "projectid": project,
	}, &net)
	var deployed struct {
		VM vm `json:"virtualmachine"`
	}
	call(t, mate, "deployVirtualMachine", api.Params{
		"name": "webber", "zoneid": w.ids["zone sandbox"], "templateid": w.ids["template tiny"], "serviceofferingid": w.ids["serviceoffering tiny"],
		"networkids": net.Network.ID, "projectid": project,
	}, &deployed)
	var ip struct {
		Address struct {
			ID string `json:"id"`
			IP string `json:"ipaddress"`
		} `json:"ipaddress"`
	}
	call(t, mate, "associateIpAddress", api.Params{"networkid": net.Network.ID, "projectid": project}, &ip)
	var rule struct {
		Rule named `json:"portforwardingrule"`
	}
	call(t, mate, "createPortForwardingRule", api.Params{
		"ipaddressid": ip.Address.ID, "protocol": "tcp", "publicport": "80", "privateport": "81", "virtualmachineid": deployed.VM.ID,
	}, &rule)
	call(t, mate, "updatePortForwardingRule", api.Params{"id": rule.Rule.ID, "privateport": "80"}, nil)
	return &guest{w: w, id: deployed.VM.ID, name: "webber", public: ip.Address.IP, ip: deployed.VM.NICs[0].IP}
}

// checkProjectLists looks at the project from within and from without.
func (w *real) checkProjectLists(t *testing.T, project string, g *guest, lead, mate *api.Client) {
	t.Helper()
	stranger := w.account(t, "stranger")
	for who, c := range map[string]*api.Client{"lead": lead, "mate": mate} {
		events, err := api.List[struct {
			Type     string `json:"type"`
			User     string `json:"username"`
			Project  string `json:"projectid"`
			Resource string `json:"resourceid"`
		}](t.Context(), c, "listEvents", "event", api.Params{"projectid": project, "type": "VM.CREATE"})
		if err != nil || len(events) == 0 {
			t.Errorf("%s sees events %v, %v", who, events, err)
		}
		for _, e := range events {
			if e.User != "mate" || e.Project != project || e.Resource != g.id {
				t.Errorf("%s sees an event %+v", who, e)
			}
		}
	}
	var refused *api.Error
	if _, err := api.List[named](t.Context(), stranger, "listEvents", "event", api.Params{"projectid": project}); !errors.As(err, &refused) || refused.Code != 431 {
		t.Errorf("a stranger lists the project's events: %v", err)
	}
	if vms, err := api.List[named](t.Context(), stranger, "listVirtualMachines", "virtualmachine", api.Params{"id": g.id}); err != nil || len(vms) != 0 {
		t.Errorf("a stranger sees the VM: %v, %v", vms, err)
	}
}

// traces are what networks and VMs leave on hosts and in the API: namespaces, bridges, domains, volumes; rows.
func (w *real) traces(t *testing.T) (all []string) {
	t.Helper()
	for _, h := range w.lab.Hosts() {
		out := mustExec(t, h, "sh", "-c", "ls /run/netns; ls /sys/class/net | grep ^wbr; ls /var/lib/wisp/*/volumes; virsh -q list --all --name")
		for _, line := range strings.Fields(out) {
			all = append(all, h.Name()+" "+line)
		}
	}
	for _, x := range []struct{ command, object string }{
		{"listVirtualMachines", "virtualmachine"},
		{"listVolumes", "volume"},
		{"listNetworks", "network"},
		{"listRouters", "router"},
		{"listPublicIpAddresses", "publicipaddress"},
		{"listPortForwardingRules", "portforwardingrule"},
		{"listFirewallRules", "firewallrule"},
		{"listProjects", "project"},
	} {
		for _, more := range []api.Params{{"listall": "true"}, {"projectid": "-1"}} {
			if x.command == "listProjects" {
				delete(more, "projectid")
			}
			rows, err := api.List[named](t.Context(), w.admin, x.command, x.object, more)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				all = append(all, x.object+" "+r.ID)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
