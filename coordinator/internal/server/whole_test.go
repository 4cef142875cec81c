package server

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// golden keeps an answer, and asks for it as XML as well where the command only reads.
func (w *world) golden(caller, name string, params ...string) answered {
	w.t.Helper()
	command, _, _ := strings.Cut(name, "-")
	a := w.must(caller, command, params...)
	var xml []byte
	if c, _ := w.registry.Find(command); !c.Changes() {
		v := url.Values{"command": {command}, "apiKey": {caller + " key"}}
		for i := 0; i < len(params); i += 2 {
			v.Set(params[i], params[i+1])
		}
		v.Set("signature", api.Sign(v, cloud.Secret(caller+" secret")))
		res := httptest.NewRecorder()
		w.web.ServeHTTP(res, httptest.NewRequest(http.MethodGet, "/client/api?"+v.Encode(), nil))
		xml = res.Body.Bytes()
	}
	apitest.GoldenJSON(w.t, name, []byte(a.raw), xml)
	return a
}

// whole is a world in which rows have everything that a row can have, but for what excludes each other.
type whole struct {
	*world
	infra, user, project estate
}

func newWhole(t *testing.T) *whole {
	w := newWorld(t)
	infra := w.infrastructure()
	user := w.estateOf("user", 1, infra)
	p, _ := tables.Projects.Get(w.read(), user["project"])
	x := &whole{w, infra, user, nil}
	x.project = w.belongings("project of user", holder{p.AccountID, p.DomainID, w.callers["user"].ID}, 2, infra)
	x.fill()
	return x
}

// edit changes a row that is there.
func edit[Row any](w *world, t *store.Table[Row], id cloud.ID, f func(*Row)) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		return t.Edit(tx, id, func(row *Row) error {
			f(row)
			return nil
		})
	})
}

// fill gives the project's rows what hosts report and what calls would have taken jobs to set.
func (w *whole) fill() {
	w.t.Helper()
	e, f := w.project, w.infra
	ip := netip.MustParseAddr
	pool := cloud.NameID("whole", "pool")
	edit(w.world, tables.Zones, f["zone"], func(z *cloud.Zone) { z.DNS2 = ip("192.0.2.54") })
	edit(w.world, tables.DiskOfferings, f["diskoffering"], func(o *cloud.DiskOffering) { o.DisplayText = "for all" })
	edit(w.world, tables.Networks, e["network"], func(n *cloud.Network) {
		n.StartIP, n.EndIP, n.Isolation, n.Segment, n.MTU = ip("10.1.1.10"), ip("10.1.1.99"), "VXLAN", 5000, 1450
	})
	edit(w.world, tables.Routers, e["router"], func(r *cloud.Router) {
		r.Placement, r.HostID, r.Error, r.State, r.ControlIP = cloud.InVM, f["host"], "it has no room", cloud.VMRunning, ip("169.254.0.9")
		since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		r.Checks = []cloud.RouterCheck{
			{Name: "host", Status: cloud.CheckPassed, Since: since},
			{Name: "firewall", Status: cloud.CheckFailed, Details: "it has no room", Since: since},
			{Name: "dns", Since: since},
		}
	})
	edit(w.world, tables.Hosts, f["host"], func(h *cloud.Host) {
		h.ResourceState, h.Status, h.CPUs, h.CPUMHz = cloud.HostEnabled, cloud.HostUp, 4, 2000
	})
	edit(w.world, tables.PublicIPs, e["ipaddress"], func(i *cloud.PublicIP) {
		i.RangeID, i.VMID, i.StaticNAT = f["vlaniprange"], e["virtualmachine"], true
	})
	edit(w.world, tables.VLANRanges, f["vlaniprange"], func(v *cloud.VLANRange) {
		v.VLAN, v.ForVirtualNetwork, v.Gateway, v.Netmask, v.Start, v.End = "20", true, ip("198.18.0.1"), "255.255.255.0", ip("198.18.0.2"), ip("198.18.0.9")
	})
	edit(w.world, tables.UserDatas, e["userdata"], func(u *cloud.UserData) { u.Params = []string{"role", "size"} })
	edit(w.world, tables.Templates, e["template"], func(t *cloud.Template) {
		t.Tag, t.Details, t.UserDataID, t.UserDataPolicy, t.ZoneID = "fast", map[string]string{"rootDiskController": "virtio"}, e["userdata"], cloud.UserDataAppend, f["zone"]
	})
	edit(w.world, tables.VMs, e["virtualmachine"], func(v *cloud.VM) {
		v.State, v.HostID, v.Details, v.Error, v.TemplateID = cloud.VMRunning, f["host"], map[string]string{"note": "mine"}, "the last start failed", e["template"]
		v.UserDataID, v.UserDataDetails = e["userdata"], map[string]string{"role": "web"}
		v.DisplayName, v.Created, v.CPUs, v.CPUMHz, v.MemoryMiB = "my VM", time.Unix(1e9, 0), 1, 500, 64
	})
	w.update(func(tx *store.Tx) error {
		v, _ := tables.Volumes.Get(tx, e["volume"])
		v.ID, v.Name, v.OfferingID, v.PoolID, v.DeviceID = cloud.NameID("whole", "data"), "DATA", f["diskoffering"], pool, 1
		return errors.Join(
			tables.StoragePools.Put(tx, &cloud.StoragePool{
				ID: pool, Name: "pool", ZoneID: f["zone"], PodID: f["pod"], ClusterID: f["cluster"], Path: "/primary", Scope: "CLUSTER",
				State: cloud.PoolUp, Details: map[string]string{"rack": "7"},
			}),
			tables.Volumes.Put(tx, v),
			tables.NICs.Put(tx, &cloud.NIC{
				ID: cloud.NameID("whole", "nic"), VMID: e["virtualmachine"], NetworkID: e["network"], IP: ip("10.1.1.20"), Default: true, MAC: 0x020000000001,
				AccountID: v.AccountID, DomainID: v.DomainID, Name: "vm",
			}),
			tables.HostUsages.Put(tx, &cloud.HostUsage{ID: f["host"], CPUPercent: 12.5, MemoryUsedMiB: 512, NetworkRxKiB: 7, NetworkTxKiB: 8, Observed: tx.Now()}),
			tables.Alerts.Put(tx, &cloud.Alert{
				ID: cloud.NameID("whole", "alert"), Type: 3, Name: "ALERT.STORAGE.ALLOCATED", Subject: "pool is full", Description: "pool is full", ZoneID: f["zone"], PodID: f["pod"],
				ClusterID: f["cluster"], Created: tx.Now(), Resolved: tx.Now().Add(time.Minute),
			}),
			w.areas.usage.fold(tx, f["host"], &hostspec.HostObservation{Vms: []*hostspec.VirtualMachineObservation{{
				Id: e["virtualmachine"].String(), Usage: &hostspec.VmUsage{
					CpuPercent: 50, MemoryKib: 1024, NetworkRxKib: 1, NetworkTxKib: 2, DiskReadKib: 3, DiskWriteKib: 4, DiskReadOps: 5, DiskWriteOps: 6,
				},
			}}}),
		)
	})
}

// Rows that have everything show all of it; a list by projectid tells the project of each.
func TestProjectsRowsInFull(t *testing.T) {
	w := newWhole(t)
	project := w.user["project"].String()
	w.must("user", "createTags", "resourceids", w.project["virtualmachine"].String(), "resourcetype", "UserVm", "tags[0].key", "tier", "tags[0].value", "web", "customer", "acme")
	for _, list := range []string{
		"listVirtualMachines", "listVolumes", "listNetworks", "listRouters", "listPublicIpAddresses", "listTemplates", "listSSHKeyPairs", "listUserData",
		"listInstanceGroups", "listAffinityGroups", "listEvents", "listTags", "listResourceLimits", "listResourceDetails",
	} {
		params := []string{"projectid", project}
		if list == "listResourceDetails" {
			params = append(params, "resourcetype", "UserVm")
		}
		if list == "listTemplates" {
			params = append(params, "templatefilter", "self")
		}
		if list == "listRouters" {
			params = append(params, "fetchhealthcheckresults", "true", "healthchecksfailed", "true")
		}
		a := w.golden("root", list+"-whole", params...)
		c, _ := w.registry.Find(list)
		rows := a.list(c.Object)
		if len(rows) == 0 {
			t.Errorf("%s shows nothing of the project", list)
		}
		for _, r := range rows {
			if r["projectid"] != project || r["project"] != "project of user" {
				t.Errorf("%s does not tell the project of %v", list, r)
			}
			if r["account"] != nil {
				t.Errorf("%s tells an account of a project's row: %v", list, r)
			}
		}
	}
	w.golden("root", "listNics-whole", "virtualmachineid", w.project["virtualmachine"].String())
	w.golden("root", "listSystemVms-whole")
	w.golden("root", "getRouterHealthCheckResults-whole", "routerid", w.project["router"].String(), "performfreshchecks", "true")
	w.golden("root", "updateResourceCount-whole", "domainid", w.callers["user"].DomainID.String(), "projectid", project, "resourcetype", "0")
	w.golden("root", "updateResourceCount-account", "domainid", w.callers["user"].DomainID.String(), "account", "user", "resourcetype", "0")
	w.update(func(tx *store.Tx) error {
		p, _ := tables.Projects.Get(tx, w.user["project"])
		guest := w.callers["neighbour"]
		return errors.Join(
			tables.ProjectInvitations.Put(tx, &cloud.ProjectInvitation{
				ID: cloud.NameID("whole", "invitation"), ProjectID: p.ID, DomainID: p.DomainID, AccountID: guest.AccountID, UserID: guest.ID, Email: "n@example.org",
				Created: tx.Now(), Expires: tx.Now().Add(time.Hour),
			}),
			tables.ProjectMembers.Put(tx, &cloud.ProjectMember{
				ID: cloud.NameID("whole", "member"), ProjectID: p.ID, AccountID: guest.AccountID, UserID: guest.ID, OwnerID: p.AccountID, Role: cloud.ProjectRegular,
				CustomRoleID: w.user["projectrole"],
			}),
		)
	})
	w.golden("neighbour", "listProjectInvitations-whole", "id", cloud.NameID("whole", "invitation").String())
	w.golden("user", "listProjectAccounts-whole", "projectid", project, "userid", w.callers["neighbour"].ID.String())
}

// What the infrastructure's commands are given, they and their lists tell again.
func TestInfrastructureInFull(t *testing.T) {
	w := newWhole(t)
	first := w.callers["user"].DomainID.String()
	zone := w.golden("root", "createZone-whole", "name", "whole", "networktype", "Advanced", "dns1", "192.0.2.1", "dns2", "192.0.2.2", "internaldns1", "192.0.2.3",
		"internaldns2", "192.0.2.4", "ip6dns1", "2001:db8::1", "ip6dns2", "2001:db8::2", "guestcidraddress", "10.0.0.0/16", "domain", "whole.example", "domainid", first,
		"localstorageenabled", "true").object["zone"].(map[string]any)["id"].(string)
	w.must("root", "updateConfiguration", "name", "api.throttling.enabled", "value", "true")
	w.must("root", "updateConfiguration", "name", "api.throttling.max", "value", "50")
	w.must("root", "updateConfiguration", "name", "custom.diskoffering.size.max", "value", "77")
	w.must("root", "updateConfiguration", "name", "allow.public.user.templates", "value", "false")
	w.golden("user", "listCapabilities-limited")
	w.golden("root", "listApis-whole", "name", "updateZone")
	w.golden("root", "listConfigurations-options", "name", "router.placement")
	w.golden("root", "listAlerts-whole")
	w.golden("root", "listInfrastructure")
	w.golden("root", "listDeploymentPlanners")
	w.golden("root", "listCapacity-cluster", "clusterid", w.infra["cluster"].String(), "type", "0")
	w.must("root", "updateHost", "id", w.infra["host"].String(), "oscategoryid", w.infra["oscategory"].String())
	w.must("root", "addAnnotation", "entitytype", "HOST", "entityid", w.infra["host"].String(), "annotation", "its fan is loud")
	w.golden("root", "listHosts-whole", "id", w.infra["host"].String())
	w.golden("root", "listStoragePools-whole", "name", "pool")
	w.golden("root", "addImageStore-whole", "url", "file:///images", "name", "images", "zoneid", zone, "details[0].key", "rack", "details[0].value", "7")
	w.golden("root", "createRolePermission-whole", "roleid", w.infra["role"].String(), "rule", "listZones", "permission", "allow", "description", "they may look")
	edit(w.world, tables.PhysicalNetworks, w.infra["physicalnetwork"], func(n *cloud.PhysicalNetwork) { n.DomainID = w.callers["user"].DomainID })
	edit(w.world, tables.PhysicalNetworks, w.infra["physicalnetwork"], func(n *cloud.PhysicalNetwork) { n.Speed = "10G" })
	w.golden("root", "listPhysicalNetworks-whole", "id", w.infra["physicalnetwork"].String())
	w.update(func(tx *store.Tx) error {
		return tables.TrafficTypes.Put(tx, &cloud.TrafficType{
			ID: cloud.NameID("whole", "traffic"), PhysicalNetworkID: w.infra["physicalnetwork"], Type: "Guest", KVMLabel: "br0", XenLabel: "xenbr0", VMwareLabel: "vSwitch0",
		})
	})
	w.golden("root", "listTrafficTypes-whole", "physicalnetworkid", w.infra["physicalnetwork"].String())
	w.dedicated(first)
	for name, account := range map[string]cloud.ID{"account": w.user["account"], "project": ownerOf(w, w.user["project"])} {
		edit(w.world, tables.VLANRanges, w.infra["vlaniprange"], func(v *cloud.VLANRange) { v.AccountID = account })
		w.golden("root", "listVlanIpRanges-"+name, "id", w.infra["vlaniprange"].String())
	}
}

// dedicated shows places that accounts have for themselves: they run no VMs of others.
func (w *whole) dedicated(domain string) {
	w.t.Helper()
	pod, cluster := cloud.NameID("dedicated", "pod"), cloud.NameID("dedicated", "cluster")
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tables.Pods.Put(tx, &cloud.Pod{ID: pod, ZoneID: w.infra["zone"], Name: "dedicated"}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: cluster, ZoneID: w.infra["zone"], PodID: w.infra["pod"], Name: "dedicated"}),
		)
	})
	w.must("root", "dedicatePod", "podid", pod.String(), "domainid", domain, "account", "user")
	w.must("root", "dedicateCluster", "clusterid", cluster.String(), "domainid", domain, "account", "user")
	w.golden("root", "listDedicatedPods-account")
	w.golden("root", "listDedicatedClusters-account")
}

func ownerOf(w *whole, project cloud.ID) cloud.ID {
	p, _ := tables.Projects.Get(w.read(), project)
	return p.AccountID
}

// An offering shows, at once and in its list, whatever it was made with.
func TestOfferingsInFull(t *testing.T) {
	w := newWhole(t)
	first := w.callers["user"].DomainID.String()
	where := []string{"domainid", first, "zoneid", w.infra["zone"].String(), "displaytext", "whole"}
	rates := []string{"cachemode", "writeback"}
	for n, name := range []string{"bytesreadrate", "byteswriterate", "iopsreadrate", "iopswriterate"} {
		rates = append(rates, name, "10"+string(rune('0'+n)), name+"max", "20"+string(rune('0'+n)), name+"maxlength", "3"+string(rune('0'+n)))
	}
	for _, x := range []struct {
		create, list string
		params       []string
	}{
		{"createDiskOffering", "listDiskOfferings", slices.Concat(where, rates, []string{
			"name", "disk", "disksize", "5", "storagetype", "local", "tags", "ssd,fast", "disksizestrictness", "true", "displayoffering", "false",
			"details[0].key", "colour", "details[0].value", "blue",
		})},
		{"createServiceOffering", "listServiceOfferings", slices.Concat(where, rates, []string{
			"name", "service", "cpunumber", "2", "cpuspeed", "500", "memory", "256", "offerha", "true", "limitcpuuse", "true", "isvolatile", "true", "storagetype", "local",
			"tags", "ssd", "hosttags", "gpu", "networkrate", "99", "rootdisksize", "8", "dynamicscalingenabled", "true",
			"serviceofferingdetails[0].key", "colour", "serviceofferingdetails[0].value", "blue",
		})},
		{"createServiceOffering", "listServiceOfferings", []string{
			"name", "system", "displaytext", "system", "cpunumber", "1", "cpuspeed", "500", "memory", "128", "issystem", "true", "systemvmtype", "domainrouter",
		}},
		{"createNetworkOffering", "listNetworkOfferings", slices.Concat(where, []string{
			"name", "network", "guestiptype", "Isolated", "traffictype", "Guest", "supportedservices", "Dhcp,Dns,SourceNat,Firewall", "availability", "Optional",
			"conservemode", "false", "ispersistent", "true", "networkrate", "88", "maxconnections", "1000", "tags", "fabric", "egressdefaultpolicy", "false",
			"enable", "true", "details[0].key", "colour", "details[0].value", "blue",
		})},
	} {
		name := map[bool]string{true: "-system", false: "-whole"}[slices.Contains(x.params, "issystem")]
		c, _ := w.registry.Find(x.create)
		made := w.golden("root", x.create+name, x.params...).object[c.Object].(map[string]any)
		ask := []string{"id", made["id"].(string)}
		if name == "-system" {
			ask = append(ask, "issystem", "true")
		}
		rows := w.must("root", x.list, ask...).list(c.Object)
		if len(rows) != 1 {
			t.Fatalf("%s shows %d of the new offering", x.list, len(rows))
		}
		if d := diff.Diff(made, rows[0]); d != "" {
			t.Errorf("%s (-made +listed): %s", x.list, d)
		}
		for n := 0; n < len(x.params); n += 2 {
			checkTold(t, x.create, x.params[n], x.params[n+1], made)
		}
	}
}

// checkTold looks for a parameter's value in what an offering tells.
func checkTold(t *testing.T, command, param, value string, made map[string]any) {
	t.Helper()
	if strings.HasSuffix(param, ".key") || param == "enable" || param == "supportedservices" {
		return
	}
	flat := map[string]bool{}
	for _, v := range made {
		flat[toText(v)] = true
		if m, ok := v.(map[string]any); ok {
			for _, x := range m {
				flat[toText(x)] = true
			}
		}
	}
	if !flat[value] {
		t.Errorf("%s %s=%s is told nowhere of %v", command, param, value, slices.Sorted(maps.Keys(flat)))
	}
}
