package physical_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A range changes as long as no address of it that is in use would be outside, or have another subnet.
func TestUpdateVlanIpRange(t *testing.T) {
	s := newSite(t)
	s.Must("root", "addTrafficType", "physicalnetworkid", s.physical, "traffictype", "Public")
	id := s.Must("root", "createVlanIpRange", "zoneid", s.zone, "gateway", "203.0.113.1", "netmask", "255.255.255.0",
		"startip", "203.0.113.10", "endip", "203.0.113.13").String("vlan.id")
	s.Must("root", "createVlanIpRange", "zoneid", s.zone, "vlan", "20", "gateway", "203.0.113.1", "netmask", "255.255.255.0",
		"startip", "203.0.113.50", "endip", "203.0.113.51")
	addresses := func() string {
		t.Helper()
		var all []string
		for ip := range tables.PublicIPs.All(s.Read()) {
			if ip.RangeID.String() == id {
				all = append(all, strings.TrimPrefix(ip.Address.String(), "203.0.113."))
			}
		}
		return strings.Join(all, " ")
	}
	set := func(last string, state cloud.IPState) {
		s.Update(func(tx *store.Tx) error {
			for ip := range tables.PublicIPs.All(tx) {
				if ip.Address.String() == "203.0.113."+last {
					ip.State = state
					return tables.PublicIPs.Put(tx, ip)
				}
			}
			return errors.New("no address " + last)
		})
	}
	set("12", cloud.IPAllocated)
	for _, x := range []struct {
		text   string
		code   int
		params []string
	}{
		{"203.0.113.12 is in use", 536, []string{"endip", "203.0.113.11"}},
		{"203.0.113.12 is in use", 536, []string{"startip", "203.0.113.13"}},
		{"203.0.113.12 is in use", 536, []string{"gateway", "203.0.113.2"}},
		{"203.0.113.12 is in use", 536, []string{"netmask", "255.255.255.128"}},
		{"203.0.113.12 is in use", 536, []string{"forsystemvms", "true"}},
		{"overlaps with the range 203.0.113.50-203.0.113.51", 431, []string{"endip", "203.0.113.50"}},
		{"startip and endip must rise", 431, []string{"startip", "203.0.113.14"}},
		{"startip and endip must rise", 431, []string{"endip", "203.0.114.2"}},
		{"contains its gateway", 431, []string{"startip", "203.0.113.1"}},
		{"Invalid netmask", 431, []string{"netmask", "255.0.255.0"}},
	} {
		s.refused("updateVlanIpRange", x.code, x.text, append([]string{"id", id}, x.params...)...)
	}
	if got := addresses(); got != "10 11 12 13" {
		t.Errorf("refusals left the addresses %s", got)
	}
	s.golden("updateVlanIpRange", "id", id, "startip", "203.0.113.11", "endip", "203.0.113.15")
	if d := cmp.Diff("11 12 13 14 15", addresses()); d != "" {
		t.Errorf("addresses (-want +got):\n%s", d)
	}
	set("12", cloud.IPFree)
	a := s.Must("root", "updateVlanIpRange", "id", id, "gateway", "198.51.100.1", "netmask", "255.255.255.128", "startip", "198.51.100.2",
		"endip", "198.51.100.3", "forsystemvms", "true")
	if a.String("vlan.cidr") != "198.51.100.0/25" || a.Get("vlan.forsystemvms") != true {
		t.Errorf("%s", a.Raw)
	}
	if got := addresses(); got != "198.51.100.2 198.51.100.3" {
		t.Errorf("the new subnet has %s", got)
	}
}
