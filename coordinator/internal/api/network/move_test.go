package network_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A system VM goes to the host that is named, or to another one.
func TestMigrateSystemVM(t *testing.T) {
	s := newStory(t)
	s.infrastructure()
	s.systemVMs("vm")
	second, pool := cloud.NameID("test", "host2"), cloud.NameID("test", "pool2")
	s.Name(second, "host2")
	s.Update(func(tx *store.Tx) error {
		first, _ := tables.Hosts.Get(tx, s.host)
		h := *first
		h.ID, h.Name, h.Number, h.IP = second, "host2", 2, netip.MustParseAddr("172.16.0.2")
		return errors.Join(tables.Hosts.Put(tx, &h),
			tables.StoragePools.Put(tx, &cloud.StoragePool{ID: pool, ZoneID: s.zone, HostID: second, Name: "p2", State: cloud.PoolUp, CapacityBytes: 1 << 40}))
	})
	net := s.Must("a-user", "createNetwork", "name", "net", "networkofferingid", s.ids["offering"], "zoneid", s.zone.String())
	s.keep("network", net.String("network.id"))
	s.deploy("a-user")
	router := func(host string) string {
		t.Helper()
		a := s.Must("root", "listSystemVms")
		if a.Get("count") != 1.0 || a.String("systemvm.0.hostname") != host || a.String("systemvm.0.state") != "Running" {
			t.Fatalf("not on %s: %s", host, a.Raw)
		}
		return a.String("systemvm.0.id")
	}
	id := router("host1")
	for _, params := range [][]string{{"hostid", s.host.String()}, {"hostid", cloud.NameID("test", "nothing").String()}, {"autoselect", "false"}, nil} {
		a := s.Call("root", "migrateSystemVm", append([]string{"virtualmachineid", id}, params...)...)
		if _, code := a.Error(); code != 431 {
			t.Errorf("%v: %s", params, a.Raw)
		}
	}
	for _, user := range []string{"a-user", "a-admin"} {
		if a := s.Call(user, "migrateSystemVm", "virtualmachineid", id, "autoselect", "true"); a.Status != 432 {
			t.Errorf("%s: %s", user, a.Raw)
		}
	}
	s.golds = true
	s.keep("router", id)
	before := s.Must("root", "listRouters", "listall", "true")
	started := s.Call("root", "migrateSystemVm", "virtualmachineid", id, "hostid", second.String())
	for range 3 {
		s.observe()
	}
	moved := router("host2")
	s.keep("moved router", moved)
	a := s.Job("root", started.String("jobid"))
	if a.Object["jobstatus"] != 1.0 || a.String("jobresult.systemvminstance.id") != moved || moved == id {
		t.Fatalf("job: %s", a.Raw)
	}
	s.golden("migrateSystemVm", "queryAsyncJobResult", a)
	after := s.Must("root", "listRouters", "listall", "true")
	for _, field := range []string{"publicip", "publicmacaddress", "guestipaddress", "guestmacaddress", "guestnetworkid", "serviceofferingid"} {
		if got, want := after.String("router.0."+field), before.String("router.0."+field); got != want || got == "" {
			t.Errorf("%s was %q and is %q", field, want, got)
		}
	}
	s.golds = false
	job := s.Call("root", "migrateSystemVm", "virtualmachineid", moved, "autoselect", "true").String("jobid")
	for range 3 {
		s.observe()
	}
	router("host1")
	if a := s.Job("root", job); a.Object["jobstatus"] != 1.0 {
		t.Errorf("job: %s", a.Raw)
	}
}
