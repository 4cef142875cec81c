package server

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// samples are values of required parameters that are no ids, by "parameter" or "command.parameter".
var samples = map[string]string{
	"updateResourceLimit.resourcetype": "0", "accounttype": "0", "lock": "true", "port": "389", "permission": "allow", "allocationstate": "Enabled", "cidrlist": "192.0.2.0/24", "clustertype": "CloudManaged", "cpunumber": "1",
	"cpuspeed": "100", "displaytext": "text", "dns1": "192.0.2.53", "endip": "192.0.2.20", "endport": "80", "format": "QCOW2",
	"gateway": "192.0.2.1", "guestiptype": "Isolated", "hypervisor": "KVM", "internaldns1": "192.0.2.53", "memory": "64",
	"name": "name", "netmask": "255.255.255.0", "networktype": "Advanced", "privateport": "80", "protocol": "tcp",
	"publicport": "80", "startip": "192.0.2.10", "startport": "80", "supportedservices": "Dhcp", "templatefilter": "all",
	"addAnnotation.entitytype": "VM", "addResourceDetail.resourcetype": "UserVm", "removeResourceDetail.resourcetype": "UserVm",
	"updateAnnotationVisibility.adminsonly": "true",
	"listResourceDetails.resourcetype":      "UserVm", "listDetailOptions.resourcetype": "UserVm",
	"publickey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p", "traffictype": "Guest", "enabled": "true", "listTemplates.templatefilter": "executable", "createVlanIpRange.forvirtualnetwork": "true",
	"deleteUserFromProject.userid": cloud.NameID("nobody's", "user").String(), "updateProjectInvitation.projectid": cloud.NameID("nobody's", "project").String(),
}

// identifier is a parameter of a command that takes ids of rows.
type identifier struct {
	command *api.Command
	param   string
	entity  string // what it names; "" where the handler looks it up itself
	roles   api.Roles
	others  map[string]string // the command's required parameters: the entity, or "" with a sample
}

func (i identifier) String() string { return i.command.Name + "." + i.param }

// identifiers lists all of them.
func identifiers(g *api.Registry) (out []identifier) {
	for _, d := range g.Describe(api.Everyone) {
		c, _ := g.Find(d.Name)
		entities, required := map[string]string{}, map[string]string{}
		for _, r := range c.References() {
			entities[r.Param] = r.Entity
			out = append(out, identifier{c, r.Param, r.Entity, r.Roles, required})
		}
		for _, p := range d.Params {
			_, known := entities[p.Name]
			if !known && (p.Type == "uuid" || p.Name == "ids") {
				out = append(out, identifier{c, p.Name, "", c.Roles, required})
			}
			if p.Required {
				required[p.Name] = entities[p.Name]
			}
		}
	}
	return out
}

// parameters are those of a call that is in order, but for the one of interest.
func (i identifier) parameters(mine estate, value string) []string {
	out := []string{i.param, value}
	for name, entity := range i.others {
		sample := samples[name]
		if x := samples[i.command.Name+"."+name]; x != "" {
			sample = x
		}
		if id, ok := mine[entity]; ok {
			sample = id.String()
		}
		if i.command.Name == "addResourceDetail" && name == "details" { // a map
			name, sample = "details[0].key", "value"
		}
		if name != i.param {
			out = append(out, name, cmp.Or(sample, "x"))
		}
	}
	return out
}

// estates makes the rows of everybody, and the objects of the first domain's admin and user with the infrastructure's
// where they have none.
func (w *world) estates() (mine map[string]estate, foreign map[string]map[string]estate) {
	w.t.Helper()
	infra := w.infrastructure()
	all := map[string]estate{}
	for n, caller := range []string{"root", "domain admin", "user", "neighbour", "foreigner"} {
		all[caller] = w.estateOf(caller, uint64(100+n), infra)
	}
	mine = map[string]estate{}
	for caller, e := range all {
		mine[caller] = maps.Clone(infra)
		maps.Copy(mine[caller], e)
		mine[caller]["zone"] = infra["zone"]
	}
	return mine, map[string]map[string]estate{
		"domain admin": {"foreigner": all["foreigner"], "root": all["root"]},
		"user":         {"foreigner": all["foreigner"], "root": all["root"], "neighbour": all["neighbour"], "domain admin": all["domain admin"]},
	}
}

// ofDomain are entities that belong to a domain, not to an account: a neighbour's are the caller's own, and what is for
// ROOT is for all domains below it.
var ofDomain = []string{"zone", "serviceoffering", "diskoffering", "networkoffering"}

// rows counts what calls could leave behind.
func rows(r store.Reader) map[string]int {
	return map[string]int{
		"VMs": tables.VMs.Len(r), "volumes": tables.Volumes.Len(r), "networks": tables.Networks.Len(r), "jobs": tables.Jobs.Len(r),
		"rules": tables.FirewallRules.Len(r), "forwardings": tables.PortForwardingRules.Len(r), "templates": tables.Templates.Len(r),
		"keys": tables.SSHKeyPairs.Len(r), "addresses": tables.PublicIPs.Len(r), "users": tables.Users.Len(r), "accounts": tables.Accounts.Len(r),
		"zones": tables.Zones.Len(r), "hosts": tables.Hosts.Len(r), "NICs": tables.NICs.Len(r), "domains": tables.Domains.Len(r),
	}
}

// Another's id reads like one that nobody has, in every parameter of every command that takes ids, for users and domain
// admins, and does nothing: CVE-2013-4317, CVE-2014-0031, CVE-2025-30675, CVE-2025-59454, CVE-2026-25199 and their kind.
func TestCVE_2014_0031_CVE_2025_59454_ForeignIDsReadLikeUnknownOnes(t *testing.T) {
	w := newWorld(t)
	mine, foreign := w.estates()
	before := rows(w.read())
	tried, left := 0, map[string]bool{}
	for _, i := range identifiers(w.registry) {
		for caller, others := range foreign {
			if i.roles&rolesOf[caller] == 0 {
				continue
			}
			unknown := w.told(i, caller, mine[caller], cloud.NameID("nobody's", i.param))
			common := "Invalid parameter " + bare(i.param) + " value={id} due to incorrect long value format, or entity does not exist"
			if i.entity != "" && !strings.Contains(unknown, common) {
				t.Errorf("%s by a %s, with an id nobody has: %s", i, caller, unknown)
			}
			for owner, e := range others {
				for entity, id := range e {
					if i.entity != "" && entity != i.entity || owner != "foreigner" && slices.Contains(ofDomain, entity) ||
						entity == "domain" && w.callers[owner].DomainID == w.callers[caller].DomainID ||
						i.entity == "" && i.command.Event != "" && entity != "virtualmachine" { // which refuse any, at the price of a commit
						continue
					}
					tried++
					if got := w.told(i, caller, mine[caller], id); got != unknown {
						t.Errorf("%s by a %s, with the %s of %s:\n%s\nwhere an id nobody has gives\n%s", i, caller, entity, owner, got, unknown)
					}
				}
			}
			if _, ok := others["foreigner"][i.entity]; i.entity != "" && !ok {
				left[i.entity] = true
			}
		}
	}
	if d := diff.Diff(before, rows(w.read())); d != "" {
		t.Errorf("refused calls changed: %s", d)
	}
	// What users and domain admins name that has no owner: the provider's, which roles guard.
	if d := diff.Diff([]string{"host", "ldapconfiguration", "oscategory", "ostype", "physicalnetwork", "pod", "role", "serviceprovider", "virtualrouterelement", "vlaniprange"}, slices.Sorted(maps.Keys(left))); d != "" {
		t.Errorf("references to what belongs to nobody: %s", d)
	}
	if tried < 300 {
		t.Errorf("only %d cases", tried)
	}
	t.Logf("%d cases", tried)
}

// Ids that nobody has are refused to root admins, too, and by every command.
func TestUnknownIDs(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.estates()
	// The provider's, which calls of root admins name.
	mine["root"]["systemvm"] = cloud.NameID("infrastructure", "systemvm")
	w.update(func(tx *store.Tx) error {
		return tables.Routers.Put(tx, &cloud.Router{
			ID: mine["root"]["systemvm"], Name: "r-system", NetworkID: cloud.NameID("infrastructure", "network"), ZoneID: mine["root"]["zone"], Placement: cloud.InVM,
		})
	})
	before := rows(w.read())
	for _, i := range identifiers(w.registry) {
		if i.roles&api.RootAdmin == 0 || i.String() == "createVlanIpRange.projectid" { // which asks for a zone first
			continue
		}
		got := w.told(i, "root", mine["root"], cloud.NameID("nobody's", i.param))
		common := "Invalid parameter " + bare(i.param) + " value={id} due to incorrect long value format, or entity does not exist"
		if !strings.Contains(got, common) && (i.entity != "" || got != empty(i.command)) {
			t.Errorf("%s: %s", i, got)
		}
	}
	if d := diff.Diff(before, rows(w.read())); d != "" {
		t.Errorf("refused calls changed: %s", d)
	}
}

// bare is the name by which a refusal calls a parameter.
func bare(param string) string {
	if _, after, ok := strings.Cut(param, "]."); ok {
		return after
	}
	return param
}

// empty is the answer of a list that found nothing.
func empty(c *api.Command) string { return `{"` + strings.ToLower(c.Name) + `response":{}}` }

// told is the answer with the id replaced.
func (w *world) told(i identifier, caller string, mine estate, id cloud.ID) string {
	w.t.Helper()
	a := w.call(caller, i.command.Name, i.parameters(mine, id.String())...)
	return strings.ReplaceAll(a.raw, id.String(), "{id}")
}
