package vm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// foreignVM deploys a VM of b-user.
func (w *world) foreignVM(user string, more ...string) *apitest.Answer {
	return w.Call(user, "deployVirtualMachine", append(more, "zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny, "networkids", w.foreign)...)
}

// failure is why a deployment found no host.
func (w *world) failure(user string, a *apitest.Answer) string {
	w.t.Helper()
	if a.Status != 200 {
		w.t.Fatalf("%s", a.Raw)
	}
	text, _ := w.Job(user, a.String("jobid")).Get("jobresult.errortext").(string)
	return text
}

func (w *world) says(what, got, want string) {
	w.t.Helper()
	if !strings.Contains(got, want) {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A dedicated host takes the VMs of its owner's group and nobody else's, and is everybody's when it is released.
func TestDedicatedHost(t *testing.T) {
	w := newWorld(t)
	a, b, x := w.Domains["ROOT/a"].ID.String(), w.Domains["ROOT/b"].ID.String(), w.Domains["ROOT/a/x"].ID.String()
	h := w.host.ID.String()
	w.refuse("root", 431, "Unable to find account b-user", "dedicateHost", "hostid", h, "domainid", a, "account", "b-user")
	made := w.Call("root", "dedicateHost", "hostid", h, "domainid", a, "account", "a-user")
	w.job("dedicateHost", "root", made)
	w.refuse("root", 431, "The host h1 is already dedicated", "dedicateHost", "hostid", h, "domainid", b)
	list := w.Must("root", "listDedicatedHosts", "hostid", h)
	w.golden("listDedicatedHosts", list)
	group := list.String("dedicatedhost.affinitygroupid")
	for _, none := range [][]string{{"domainid", b}, {"keyword", "h2"}, {"account", "a-other", "domainid", a}} {
		if got := w.Must("root", "listDedicatedHosts", none...); len(got.Object) != 0 {
			t.Errorf("%v shows %s", none, got.Raw)
		}
	}
	for _, one := range [][]string{{"domainid", a, "account", "a-user"}, {"keyword", "H1"}, {"affinitygroupid", group}} {
		if got := w.Must("root", "listDedicatedHosts", one...); got.Get("count") != 1.0 {
			t.Errorf("%v shows %s", one, got.Raw)
		}
	}
	w.golden("listAffinityGroups-dedicated", w.Must("a-user", "listAffinityGroups"))

	w.says("another's VM", w.failure("b-user", w.foreignVM("b-user")), "host h1: it is dedicated to somebody else")
	w.says("one's own without the group", w.failure("a-user", w.deploy("a-user")), "host h1: it is dedicated: only VMs in affinity group DedicatedGrp-a-user are placed there")
	w.says("pinned there", w.failure("root", w.foreignVM("root", "hostid", h, "account", "b-user", "domainid", b)), "host h1: it is dedicated to somebody else")
	for _, x := range [][]string{{"affinitygroupids", group}, {"affinitygroupnames", "DedicatedGrp-a-user"}} {
		if a := w.foreignVM("b-user", x...); a.Status != 431 {
			t.Errorf("another's group %v: %s", x, a.Raw)
		}
	}
	vm := w.Job("a-user", w.deploy("a-user", "affinitygroupids", group).String("jobid"))
	if vm.Get("jobresult.virtualmachine.state") != "Running" {
		t.Fatalf("with the group: %s", vm.Raw)
	}
	w.refuse("a-user", 531, "which root admins release", "deleteAffinityGroup", "id", group)
	w.refuse("a-admin", 531, "which root admins release", "deleteAffinityGroup", "id", group)
	w.refuse("a-user", 431, "invalid affinity group type", "createAffinityGroup", "name", "x", "type", "ExplicitDedication")

	w.job("releaseDedicatedHost", "root", w.Call("root", "releaseDedicatedHost", "hostid", h))
	w.refuse("root", 431, "The host h1 is not dedicated", "releaseDedicatedHost", "hostid", h)
	if got := w.Must("a-user", "listAffinityGroups"); len(got.Object) != 0 {
		t.Errorf("the group is still there: %s", got.Raw)
	}
	if got := w.failure("b-user", w.foreignVM("b-user")); got != "" {
		t.Errorf("after it was released: %s", got)
	}
	// Now both have a VM there, so it is nobody's to have.
	w.refuse("root", 536, "host h1 runs VM i-", "dedicateHost", "hostid", h, "domainid", a)
	w.refuse("root", 536, "host h1 runs VM i-", "dedicateZone", "zoneid", w.zone, "domainid", x)
	var events []string
	for e := range tables.Events.All(w.Read()) {
		if strings.HasPrefix(e.Type, "DEDICATE") && e.State == cloud.EventCompleted {
			events = append(events, e.Type)
		}
	}
	w.says("events", strings.Join(events, " "), "DEDICATE.RESOURCE DEDICATE.RESOURCE.RELEASE")
}

// What is dedicated to a domain is for all accounts in it and below.
func TestDedicatedToDomain(t *testing.T) {
	w := newWorld(t)
	a := w.Domains["ROOT/a"].ID.String()
	w.job("dedicateCluster", "root", w.Call("root", "dedicateCluster", "clusterid", id(4).String(), "domainid", a))
	w.golden("listDedicatedClusters", w.Must("root", "listDedicatedClusters"))
	for _, user := range []string{"a-user", "a-other", "x-user", "a-admin"} {
		if got := w.Must(user, "listAffinityGroups").Get("affinitygroup.name"); got != "DedicatedGrp-domain-a" {
			t.Errorf("%s sees the group %v", user, got)
		}
	}
	for _, user := range []string{"b-user", "b-admin"} {
		if got := w.Must(user, "listAffinityGroups", "listall", "true"); len(got.Object) != 0 {
			t.Errorf("%s sees %s", user, got.Raw)
		}
	}
	w.says("without the group", w.failure("a-user", w.deploy("a-user")), "its cluster is dedicated: only VMs in affinity group DedicatedGrp-domain-a are placed there")
	vm := w.Job("a-user", w.deploy("a-user", "affinitygroupnames", "DedicatedGrp-domain-a").String("jobid"))
	if vm.Get("jobresult.virtualmachine.state") != "Running" {
		t.Fatalf("with the group: %s", vm.Raw)
	}
	if a := w.foreignVM("b-user", "affinitygroupnames", "DedicatedGrp-domain-a"); a.Status != 431 {
		t.Errorf("by name from another domain: %s", a.Raw)
	}
	// Root may let the group go, and what is dedicated with it.
	group := w.Must("root", "listDedicatedClusters").String("dedicatedcluster.affinitygroupid")
	w.Must("root", "deleteAffinityGroup", "id", group)
	if n := tables.Dedications.Len(w.Read()); n != 0 {
		t.Errorf("%d dedications are left", n)
	}
	w.Must("root", "dedicateCluster", "clusterid", id(4).String(), "domainid", a)
	w.job("releaseDedicatedCluster", "root", w.Call("root", "releaseDedicatedCluster", "clusterid", id(4).String()))
}

// Dedications within each other: narrower ones of the same domain, and no other.
func TestDedicatedWithinEachOther(t *testing.T) {
	w := newWorld(t)
	a, b, x := w.Domains["ROOT/a"].ID.String(), w.Domains["ROOT/b"].ID.String(), w.Domains["ROOT/a/x"].ID.String()
	w.Update(func(tx *store.Tx) error {
		return errors.Join(
			tables.Pods.Put(tx, &cloud.Pod{ID: id(12), ZoneID: id(1), Name: "p2", AllocationState: cloud.AllocationEnabled}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: id(14), ZoneID: id(1), PodID: id(12), Name: "c2", AllocationState: cloud.AllocationEnabled}),
			tables.Hosts.Put(tx, &cloud.Host{ID: id(13), Name: "h2", ZoneID: id(1), PodID: id(12), ClusterID: id(14), Number: 2, ResourceState: cloud.HostEnabled}),
			tables.Hosts.Put(tx, &cloud.Host{ID: id(15), Name: "h3", Number: 3}),
		)
	})
	call := func(command, param string, at byte, more ...string) {
		t.Helper()
		w.Must("root", command, append([]string{param, id(at).String()}, more...)...)
	}
	w.refuse("root", 431, "adopt it with addHost first", "dedicateHost", "hostid", id(15).String(), "domainid", a)
	call("dedicateHost", "hostid", 3, "domainid", x)
	w.refuse("root", 431, "the host h1 in it is dedicated to a different account or domain", "dedicateCluster", "clusterid", id(4).String(), "domainid", b)
	w.refuse("root", 431, "the host h1 in it is dedicated to a different account or domain", "dedicatePod", "podid", id(2).String(), "domainid", a, "account", "a-user")
	w.job("dedicatePod", "root", w.Call("root", "dedicatePod", "podid", id(2).String(), "domainid", a)) // above x: both stay
	w.golden("listDedicatedPods", w.Must("root", "listDedicatedPods", "podid", id(2).String()))
	w.refuse("root", 431, "dedicated", "dedicateCluster", "clusterid", id(4).String(), "domainid", b)
	call("dedicateCluster", "clusterid", 4, "domainid", a)
	w.refuse("root", 431, "The host h1 is already dedicated", "dedicateHost", "hostid", id(3).String(), "domainid", a)
	rows := map[string]bool{}
	for d := range tables.Dedications.All(w.Read()) {
		rows[infra.PlaceName(w.Read(), d)] = true
	}
	if len(rows) != 3 || !rows["p1"] || !rows["c1"] || !rows["h1"] {
		t.Errorf("dedicated are %v", rows)
	}
	w.Must("root", "releaseDedicatedHost", "hostid", id(3).String())
	call("dedicateHost", "hostid", 3, "domainid", a, "account", "a-user")
	w.refuse("root", 431, "dedicated to a different account or domain", "dedicateZone", "zoneid", w.zone, "domainid", a, "account", "a-user")
	w.Must("root", "releaseDedicatedCluster", "clusterid", id(4).String())
	w.job("releaseDedicatedPod", "root", w.Call("root", "releaseDedicatedPod", "podid", id(2).String()))
	// A wider dedication to the same account takes in what it had.
	w.job("dedicateZone", "root", w.Call("root", "dedicateZone", "zoneid", w.zone, "domainid", a, "account", "a-user"))
	w.golden("listDedicatedZones", w.Must("root", "listDedicatedZones"))
	if n := tables.Dedications.Len(w.Read()); n != 1 {
		t.Errorf("%d dedications are left of the host and the zone", n)
	}
	if z, _ := tables.Zones.Get(w.Read(), id(1)); z.DomainID != w.Domains["ROOT/a"].ID {
		t.Errorf("the zone is shown as that of domain %s", z.DomainID)
	}
	w.refuse("root", 431, "its zone z1 is already dedicated", "dedicateHost", "hostid", id(3).String(), "domainid", a)
	w.says("another account", w.failure("b-user", w.foreignVM("b-user")), "host h1: its zone is dedicated to somebody else")
	vm := w.Job("a-user", w.deploy("a-user").String("jobid"))
	if vm.Get("jobresult.virtualmachine.state") != "Running" {
		t.Fatalf("in one's own zone no group is needed: %s", vm.Raw)
	}
	w.job("releaseDedicatedZone", "root", w.Call("root", "releaseDedicatedZone", "zoneid", w.zone))
	if z, _ := tables.Zones.Get(w.Read(), id(1)); !z.DomainID.IsZero() {
		t.Error("the released zone is still a domain's")
	}
	// A place that goes takes its dedication and the group along.
	w.Must("root", "dedicateCluster", "clusterid", id(14).String(), "domainid", b)
	w.Update(func(tx *store.Tx) error {
		return errors.Join(tables.Hosts.Delete(tx, id(13)), infra.DeleteCluster(tx, id(14)))
	})
	if n := tables.Dedications.Len(w.Read()) + tables.AffinityGroups.Len(w.Read()); n != 0 {
		t.Errorf("%d rows are left of the dedication of a removed cluster", n)
	}
}
