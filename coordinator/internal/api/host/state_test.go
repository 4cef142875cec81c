package host_test

import (
	"fmt"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// TestHostStates walks a host through what an operator may ask of it, and is refused what does not fit.
func TestHostStates(t *testing.T) {
	s := newSite(t)
	z, p, c := s.place("false")
	h := s.join("kvm1", "192.0.2.101")
	s.refused("root", "prepareHostForMaintenance", 431, "adopt it", "id", h)
	s.Must("root", "addHost", "zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "kvm1", "hosttags", "ssd,gpu")
	status := func(to cloud.HostStatus) {
		t.Helper()
		s.Update(func(tx *store.Tx) error { return infra.SetStatus(tx, id(t, h), to) })
	}
	is := func(state, resource string) {
		t.Helper()
		a := s.Must("root", "listHosts", "id", h)
		if got, res := a.String("host.state"), a.String("host.resourcestate"); got != state || res != resource {
			t.Errorf("the host is %s, %s; want %s, %s", got, res, state, resource)
		}
	}
	s.golden("listHostTags", "listHostTags")
	for tag, kept := range map[string]bool{"": false, "gpu": true, "cpu": false} {
		s.Update(func(tx *store.Tx) error { return s.Settings.Set(tx, "ha.tag", tag) })
		for _, asked := range []bool{true, false} {
			a := s.Must("root", "listHosts", "hahost", fmt.Sprint(asked))
			if (a.Get("count") != nil) != (kept == asked) || kept == asked && a.Get("host.0.hahost") != kept {
				t.Errorf("with ha.tag=%q and hahost=%v: %s", tag, asked, a.Raw)
			}
		}
	}
	s.Update(func(tx *store.Tx) error { return s.Settings.Set(tx, "ha.tag", "") })
	for _, name := range []string{"Ubuntu", "None"} {
		category := s.Must("root", "listOsCategories", "name", name).String("oscategory.0.id")
		got := s.Must("root", "updateHost", "id", h, "oscategoryid", category)
		if want := map[string]any{"Ubuntu": category, "None": nil}[name]; got.Get("host.oscategoryid") != want {
			t.Errorf("category %s: %s", name, got.Raw)
		}
	}
	s.golden("updateHostPassword", "updateHostPassword", "hostid", h, "username", "root", "password", "p")
	s.refused("root", "updateHostPassword", 431, "hostid or clusterid", "username", "root", "password", "p")

	s.refused("root", "cancelHostMaintenance", 431, "no maintenance to cancel", "id", h)
	s.golden("prepareHostForMaintenance", "prepareHostForMaintenance", "id", h)
	is("Up", "Maintenance")
	s.refused("root", "prepareHostForMaintenance", 431, "in state Maintenance", "id", h)
	s.refused("root", "updateHost", 431, "cancel its maintenance first", "id", h, "allocationstate", "Enable")
	s.golden("cancelHostMaintenance", "cancelHostMaintenance", "id", h)
	is("Up", "Enabled")

	vm := cloud.ID{9}
	put := func(state cloud.VMState, ha bool) {
		s.Update(func(tx *store.Tx) error {
			return tables.VMs.Put(tx, &cloud.VM{ID: vm, Name: "web", DisplayName: "web", InstanceName: "i-2-1-VM", HostID: id(t, h), State: state, HA: ha})
		})
	}
	put(cloud.VMRunning, false)
	s.refused("root", "prepareHostForMaintenance", 536, "VM web (i-2-1-VM) is not highly available", "id", h)
	is("Up", "Enabled")
	put(cloud.VMRunning, true)
	job := s.Call("root", "prepareHostForMaintenance", "id", h).String("jobid")
	is("Up", "PrepareForMaintenance")
	s.Update(func(tx *store.Tx) error { return tables.VMs.Delete(tx, vm) }) // its host reports it stopped
	if a := s.Job("root", job); a.Object["jobstatus"] != 1.0 {
		t.Errorf("%s", a.Raw)
	}
	is("Up", "Maintenance")
	s.Must("root", "cancelHostMaintenance", "id", h)

	s.refused("root", "declareHostAsDegraded", 431, "only a host in Alert or Disconnected", "id", h)
	s.refused("root", "cancelHostAsDegraded", 431, "not declared degraded", "id", h)
	status(cloud.HostAlert)
	s.refused("root", "prepareHostForMaintenance", 431, "it is Alert", "id", h)
	s.golden("declareHostAsDegraded", "declareHostAsDegraded", "id", h)
	is("Down", "Degraded")
	s.refused("root", "declareHostAsDegraded", 431, "declared degraded before", "id", h)
	status(cloud.HostDisconnected)
	is("Down", "Degraded") // the end of an old link says nothing new
	status(cloud.HostUp)
	is("Up", "Degraded") // it is back, and takes nothing until somebody says so
	s.golden("cancelHostAsDegraded", "cancelHostAsDegraded", "id", h)
	is("Up", "Enabled")
	for a := range tables.Alerts.All(s.Read()) {
		if a.Resolved.IsZero() {
			t.Errorf("alert %q holds although the host is up", a.Subject)
		}
	}
}
