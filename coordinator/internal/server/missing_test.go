package server

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
)

// missing41 is what commands that are here lack of 4.1, with the reason. Each entry is a parameter as "command.name", a
// field of an answer as "Object.name", all fields of an answer as "command -> Object", or a parameter of every command
// as "*.name".
var missing41 = map[string]string{
	// Machinery that is not here.
	"*.vpcid": vpcs, "Network.vpcid": vpcs, "IPAddress.vpcid": vpcs,
	"listVirtualMachines.isoid": isos, "UserVm.isoid": isos, "UserVm.isoname": isos, "UserVm.isodisplaytext": isos,
	"listPublicIpAddresses.forloadbalancing": balancers, "IPAddress.purpose": balancers,
	"deployVirtualMachine.securitygroupids": groups, "deployVirtualMachine.securitygroupnames": groups,
	"updateHypervisorCapabilities.securitygroupenabled": groups,
	"*.startipv6": ipv6, "*.endipv6": ipv6, "*.ip6cidr": ipv6, "*.ip6gateway": ipv6, "deployVirtualMachine.ip6address": ipv6,
	"Network.ip6cidr": ipv6, "Network.ip6gateway": ipv6, "DomainRouter.ip6dns1": ipv6, "DomainRouter.ip6dns2": ipv6,
	"VlanIpRange.startipv6": ipv6, "VlanIpRange.endipv6": ipv6, "VlanIpRange.ip6cidr": ipv6, "VlanIpRange.ip6gateway": ipv6,
	"updateNetwork.changecidr": reoffer, "updateNetwork.networkofferingid": reoffer,
	"createVlanIpRange.networkid": basic, "createVlanIpRange.podid": basic, "VlanIpRange.podid": basic,
	"VlanIpRange.podname": basic, "VlanIpRange.description": basic, "Network.subdomainaccess": "only shared networks have it, which are not here",
	"Volume.snapshotid": "there are no snapshots",
	// Other products.
	"addCluster.vsmipaddress": vmware, "addCluster.vsmpassword": vmware, "addCluster.vsmusername": vmware,
	"*.destinationphysicalnetworkid": bridges, "Provider.destinationphysicalnetworkid": bridges,
	// What the answer cannot tell, because there is no such thing.
	"DomainRouter.scriptsversion": "routers run no scripts; templateversion tells their program's version",
	"Host.managementserverid":     "any coordinator serves any host; 4.1 told the number of a Java process",
	"Host.averageload":            "always null in 4.1", "Host.removed": "removed hosts are not listed, nor are they by 4.1",
	"Host.disksizetotal": disks, "Host.disksizeallocated": disks,
	"Host.hasenoughcapacity":          "answered by 4.1 for listHosts virtualmachineid= only, for a migration, which is not here",
	"Host.suitableformigration":       "as hasenoughcapacity",
	"StorageNetworkIpRange.networkid": "the storage network is no row of its own",
	"SystemVm.privateip":              control, "SystemVm.privatemacaddress": control, "SystemVm.privatenetmask": control,
	"SystemVm.activeviewersessions": "for console proxies, which are not here",
	"Template.removed":              "removed templates are not listed", "Template.sourcetemplateid": "for templates made of snapshots",
	"Template.hostid": "the secondary storage's row of 4.1's host table", "Template.hostname": "as hostid",
	"Volume.status": "of 4.1's uploads into a zone, which are not here", "Zone.status": "never set by 4.1", "Zone.description": "no command of 4.1 sets it", "Zone.displaytext": "as description", "Zone.vlan": "of 4.1's old vnet ranges of zones; a physical network has vlan",
	"VirtualRouterProvider.account": infrastructure, "VirtualRouterProvider.projectid": infrastructure,
	"VirtualRouterProvider.project": infrastructure, "VirtualRouterProvider.domainid": infrastructure, "VirtualRouterProvider.domain": infrastructure,
	"Success.displaytext": "jobs have nothing to remark",
	// Secrets.
	"User.secretkey":      "listed by 4.1 to whoever might list the user; registerUserKeys and getUserKeys tell it (CVE-2013-2756 and its kind)",
	"LDAPConfig.bindpass": "a password is not told back",
	// Parameters without anything to do.
	"deleteStoragePool.forced":            "a pool with volumes is never removed under them",
	"listEgressFirewallRules.ipaddressid": "egress rules belong to networks, in 4.1, too: no rule ever matches",
	"createFirewallRule.type":             "4.1 takes system, for rules of its own", "createEgressFirewallRule.type": "4.1 takes system, for rules of its own",
	// 4.1 lists the fields of another class than it answers.
	"createAccount -> User": "4.1 answers an account", "resetApiLimit -> ApiLimit": "4.1 answers success",
	"restartNetwork -> IPAddress": "4.1 answers success", "ldapRemove -> LDAPConfig": "4.1 answers success",
	"listProjectAccounts -> Project": "4.1 answers members", "listTrafficTypes -> Provider": "4.1 answers traffic types",
	"updateHypervisorCapabilities -> ServiceOffering": "4.1 answers capabilities",
	"addSecondaryStorage -> Host":                     "secondary storage is no host here; the fields that it can have are there",
}

const (
	vpcs           = "there are no VPCs"
	isos           = "there are no ISOs"
	balancers      = "there are no load balancers"
	groups         = "there are no security groups"
	ipv6           = "guest networks have IPv4 only"
	reoffer        = "a network keeps its offering and its range"
	basic          = "of basic zones and shared networks, which are not here"
	vmware         = "of VMware's switch"
	bridges        = "of external bridges, never used by 4.1"
	disks          = "storage belongs to pools: listStoragePools tells it"
	control        = "system VMs have no address on a management network; linklocalip is the host's door to them"
	infrastructure = "an element is nobody's; 4.1 never set it"
)

// reasonFor finds the entry of missing41 that an element of apitest.Missing41 falls under.
func reasonFor(missing string) string {
	command, field, isField := strings.Cut(missing, " -> ")
	object, _, _ := strings.Cut(field, ".")
	_, name, _ := strings.Cut(missing, ".")
	for _, key := range []string{missing, command + " -> " + object, field, "*." + name} {
		if _, ok := missing41[key]; ok && (isField || !strings.Contains(key, "->")) {
			if isField && key == "*."+name {
				continue
			}
			return key
		}
	}
	return ""
}

// Parameters and answers are supersets of 4.1's, but for the list above, in which nothing is that is not missing.
func TestNothingIsMissingUnexplained(t *testing.T) {
	used := map[string]bool{}
	for _, m := range apitest.Missing41(registry(t)) {
		key := reasonFor(m)
		if key == "" {
			t.Errorf("%s is in 4.1, is missing, and missing41 tells no reason", m)
		}
		used[key] = true
	}
	for key := range missing41 {
		if !used[key] {
			t.Errorf("%s is not missing any more: take it out of missing41", key)
		}
	}
}

// Every field in a golden answer is told by listApis, and what listApis tells is in a golden answer of an object of that
// type: a field that none has is either never emitted or not tested.
func TestAnswersAreTold(t *testing.T) {
	g := registry(t)
	files := golden(t)
	types := answerTypes(g)
	emitted := map[string]bool{} // by type and field
	declared := map[string]string{}
	for _, d := range g.Describe(api.Everyone) {
		c, _ := g.Find(d.Name)
		for _, path := range files[c.Name] {
			for _, row := range answerRows(t, c, path) {
				undeclared(t, c.Name+" in "+path, d.Response, row)
				for name := range row {
					emitted[fieldOf(types, c.AnswerType(), name)] = true
				}
			}
		}
		for _, f := range d.Response {
			if f.Name != "jobid" && f.Name != "jobstatus" {
				declared[fieldOf(types, c.AnswerType(), f.Name)] = f.Description
			}
		}
	}
	for _, field := range slices.Sorted(maps.Keys(declared)) {
		if !emitted[field] {
			t.Errorf("no golden answer has %s: %s", field, declared[field])
		}
	}
}

// answerTypes are the types that commands answer with.
func answerTypes(g *api.Registry) map[reflect.Type]bool {
	types := map[reflect.Type]bool{}
	for _, c := range g.Commands() {
		if t := c.AnswerType(); t != nil {
			types[structOf(t)] = true
		}
	}
	return types
}

func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// fieldOf names a field of an answer. One that tells more than another answer (metrics) has the fields of that one.
func fieldOf(types map[reflect.Type]bool, t reflect.Type, name string) string {
	t = structOf(t)
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Anonymous && types[f.Type] && has(f.Type, name) {
				return fieldOf(types, f.Type, name)
			}
		}
	}
	return t.String() + "." + name
}

// has tells whether a struct has a field of this name in JSON, its own or an embedded one's.
func has(t reflect.Type, name string) bool {
	for _, f := range reflect.VisibleFields(t) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return true
		}
	}
	return false
}

// answerRows are the objects that a golden answer of a command has.
func answerRows(t *testing.T, c *api.Command, path string) (rows []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]map[string]any
	if err := json.Unmarshal(b, &top); err != nil {
		t.Fatalf("%s is no answer: %v", path, err)
	}
	for envelope, object := range top {
		switch {
		case object["errorcode"] != nil:
			return nil
		case envelope == "queryasyncjobresultresponse" && c.Name != "queryAsyncJobResult":
			if object["jobstatus"] != 1.0 || object["cmd"] != c.Name {
				return nil
			}
			object, _ = object["jobresult"].(map[string]any)
		case c.Async():
			return nil
		}
		switch inner := object[c.Object].(type) {
		case map[string]any:
			return append(rows, inner)
		case []any:
			for _, x := range inner {
				if m, ok := x.(map[string]any); ok {
					rows = append(rows, m)
				}
			}
			return rows
		}
		if c.Object == "" || c.Async() {
			return append(rows, object)
		}
	}
	return nil
}

// undeclared looks for fields that the description of an answer has not.
func undeclared(t *testing.T, at string, fields []api.FieldDescription, object map[string]any) {
	t.Helper()
	for name, v := range object {
		i := slices.IndexFunc(fields, func(f api.FieldDescription) bool { return f.Name == name })
		if i < 0 {
			t.Errorf("%s: listApis does not tell the field %s", at, name)
			continue
		}
		inner := fields[i].Response
		if len(inner) == 0 {
			continue
		}
		all, _ := v.([]any)
		for _, x := range append(all, v) {
			if m, ok := x.(map[string]any); ok {
				undeclared(t, at+"."+name, inner, m)
			}
		}
	}
}
