package server

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
)

// registry is that of the whole program.
func registry(t *testing.T) *api.Registry {
	t.Helper()
	s, err := Open(t.Context(), testConfig(t, "one"), "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.registry
}

// wanted are the commands that the first release has.
const wanted = `listApis listCapabilities queryAsyncJobResult listAsyncJobs listUsers getUser registerUserKeys getUserKeys
listAccounts listDomains listEvents listConfigurations updateConfiguration createZone listZones updateZone deleteZone
createPhysicalNetwork listPhysicalNetworks updatePhysicalNetwork addTrafficType listTrafficTypes
listNetworkServiceProviders updateNetworkServiceProvider listVirtualRouterElements configureVirtualRouterElement
createPod listPods deletePod addCluster listClusters deleteCluster addHost listHosts deleteHost createStoragePool
listStoragePools addSecondaryStorage listImageStores createVlanIpRange listVlanIpRanges listHypervisors listOsTypes
listOsCategories createServiceOffering listServiceOfferings deleteServiceOffering listDiskOfferings
listNetworkOfferings listSupportedNetworkServices registerTemplate listTemplates deleteTemplate createNetwork
listNetworks deleteNetwork restartNetwork listRouters listPublicIpAddresses associateIpAddress disassociateIpAddress
createFirewallRule listFirewallRules deleteFirewallRule createPortForwardingRule listPortForwardingRules
deletePortForwardingRule deployVirtualMachine listVirtualMachines startVirtualMachine stopVirtualMachine
rebootVirtualMachine destroyVirtualMachine updateVirtualMachine listVolumes registerSSHKeyPair createSSHKeyPair
listSSHKeyPairs deleteSSHKeyPair resetPasswordForVirtualMachine getVMPassword listResourceLimits listCapacity`

func TestEveryCommandIsThere(t *testing.T) {
	g := registry(t)
	for _, name := range append(strings.Fields(wanted), "login", "logout") {
		if c, ok := g.Find(name); !ok || c.Name != name {
			t.Errorf("%s is not there", name)
		}
	}
}

// Where ours differs from 4.1 on purpose, with the reason.
var different = map[string]bool{
	// Roles. Users have them in newer versions: the provider for Cluster API takes the first of listUsers as itself, and
	// finds its domain's id by the path. A user sees no other account in them, and no other domain.
	"listDomains": true, "listUsers": true,
	// The account's role comes from accounttype, which newer clients leave out with a user's account.
	"createAccount.accounttype": true,
	// Newer clients change a role or a detail, and leave the name out.
	"updateAccount.newname": true,
	// A host joins with a token; credentials are accepted from tools that send them.
	"addHost.username": true, "addHost.password": true,
	// Newer versions take several domains, and let these out.
	"createDiskOffering.domainid": true, "createServiceOffering.domainid": true, "createNetwork.displaytext": true,
	"createStoragePool.clusterid": true, "createStoragePool.podid": true, "createStoragePool.tags": true,
	"registerTemplate.zoneid": true,
	// Absent ones make the offering customized.
	"createServiceOffering.cpunumber": true, "createServiceOffering.cpuspeed": true, "createServiceOffering.memory": true,
	// Newer versions name the rule by its id; 4.1 by address, protocol and port, and ports are numbers in newer ones.
	"updatePortForwardingRule.ipaddressid": true, "updatePortForwardingRule.protocol": true,
	"updatePortForwardingRule.publicport": true, "updatePortForwardingRule.privateport": true,
	// Newer versions take keypairs instead.
	"resetSSHKeyForVirtualMachine.keypair": true,
	// Ranges are of IPv4 addresses, which need all of these.
	"createVlanIpRange.gateway": true, "createVlanIpRange.netmask": true, "createVlanIpRange.startip": true,
	// autoselect of newer versions stands for it.
	"migrateSystemVm.hostid": true,
}

func TestCommandsAgreeWithFacts(t *testing.T) {
	for _, bad := range apitest.CheckFacts(registry(t), different) {
		t.Error(bad)
	}
}

// Everything a client or a person reads is described, in sentences of our own.
func TestEverythingIsDescribed(t *testing.T) {
	for _, d := range registry(t).Describe(api.Everyone) {
		if !strings.HasSuffix(d.Description, ".") {
			t.Errorf("%s: the description is no sentence: %q", d.Name, d.Description)
		}
		for _, p := range d.Params {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", d.Name, p.Name)
			}
		}
		var walk func(prefix string, fields []api.FieldDescription)
		walk = func(prefix string, fields []api.FieldDescription) {
			for _, f := range fields {
				if f.Description == "" {
					t.Errorf("%s%s has no description", prefix, f.Name)
				}
				walk(prefix+f.Name+".", f.Response)
			}
		}
		walk(d.Name+" answers ", d.Response)
	}
}

// Everything about every command that a client can depend on stands in one reviewed file: roles, kind, envelope and key,
// parameters with type and whether they are required, and the top fields of the answer.
func TestCommandsGolden(t *testing.T) {
	g := registry(t)
	var b strings.Builder
	full := map[string]api.Description{}
	for _, d := range g.Describe(api.Everyone) {
		full[d.Name] = d
	}
	roles := []struct {
		role api.Roles
		sign string
	}{{api.RootAdmin, "r"}, {api.ResourceAdmin, "d"}, {api.DomainAdmin, "a"}, {api.User, "u"}, {api.NoLogin, "-"}}
	for _, c := range g.Commands() {
		sign := ""
		for _, r := range roles {
			if c.Roles&r.role != 0 {
				sign += r.sign
			}
		}
		kind := "sync"
		switch {
		case c.Creates():
			kind = "async-create"
		case c.Async():
			kind = "async"
		}
		fmt.Fprintf(&b, "%s %s %s event=%s envelope=%s object=%s\n", c.Name, kind, sign, c.Event, c.Envelope, c.Object)
		d := full[c.Name]
		for _, p := range d.Params {
			mark := ""
			if p.Required {
				mark = "!"
			}
			fmt.Fprintf(&b, "\t%s %s%s\n", p.Name, p.Type, mark)
		}
		var fields []string
		for _, f := range d.Response {
			fields = append(fields, f.Name+":"+f.Type)
		}
		fmt.Fprintf(&b, "\t-> %s\n", strings.Join(fields, " "))
	}
	apitest.GoldenText(t, "testdata/commands.golden", b.String())
}

// Every command is refused to nobody and to wrong roles, and every reference parameter refuses an id that nobody has
// with the sentence that clients look for.
func TestRoleMatrix(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	env := admin(t, r.cfg)
	// A user to call as.
	code, body := call(t, r, env, "createAccount", "accounttype", "0", "username", "plain", "password", "p", "firstname", "P", "lastname", "L", "email", "p@example.org")
	if code != 200 {
		t.Fatal(body)
	}
	user := regexp.MustCompile(`"user":\[\{"id":"([^"]+)"`).FindStringSubmatch(body)
	_, body = call(t, r, env, "registerUserKeys", "id", user[1])
	keys := regexp.MustCompile(`"apikey":"([^"]+)","secretkey":"([^"]+)"`).FindStringSubmatch(body)
	plain := map[string]string{"CLOUDSTACK_KEY": keys[1], "CLOUDSTACK_SECRET": keys[2]}
	full := map[string]api.Description{}
	for _, d := range r.registry.Describe(api.Everyone) {
		full[d.Name] = d
	}
	const missing = "01234567-89ab-4def-8123-456789abcdef"
	for _, c := range r.registry.Commands() {
		if c.Roles&api.NoLogin != 0 {
			continue
		}
		if code, body := get(t, "http://"+r.cfg.Plain[0]+"/client/api?response=json&command="+c.Name); code != 401 {
			t.Errorf("%s by nobody: %d %s", c.Name, code, body)
		}
		if c.Roles&api.User == 0 {
			if code, body := call(t, r, plain, c.Name); code != 432 {
				t.Errorf("%s by a user: %d %s", c.Name, code, body)
			}
		}
		for _, p := range full[c.Name].Params {
			if p.Related == "" || p.Type != "uuid" {
				continue
			}
			code, body := call(t, r, env, c.Name, p.Name, missing)
			text := "Invalid parameter " + p.Name + " value=" + missing + " due to incorrect long value format, or entity does not exist"
			if code != 431 || !strings.Contains(body, text) && !strings.Contains(body, "due to missing parameter") {
				t.Errorf("%s with an unknown %s: %d %s", c.Name, p.Name, code, body)
			}
		}
	}
}
