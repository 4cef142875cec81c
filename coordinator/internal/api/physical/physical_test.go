package physical_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/physical"
	"github.com/wispcloud/wisp/coordinator/internal/api/pod"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type counter struct{}

func (counter) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	return identity.Count(tx, account, t, delta)
}

type site struct {
	*apitest.Cloud
	t              *testing.T
	area           *network.Area
	zone, physical string
}

// newSite makes a disabled zone with a physical network.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t}
	s.Cloud = apitest.New(t, apitest.Config{
		Make: func(k *seal.Keeper) []api.Command {
			s.area = &network.Area{Seal: k, Counts: counter{}}
			return slices.Concat(physical.Commands(physical.Deps{Area: s.area}), zone.Commands())
		},
		Entities: slices.Concat(physical.Entities(), zone.Entities(), pod.Entities()),
	})
	s.zone = s.Must("root", "createZone", "name", "z", "networktype", "Advanced", "dns1", "192.0.2.53", "internaldns1", "192.0.2.54").String("zone.id")
	s.physical = s.Must("root", "createPhysicalNetwork", "name", "n", "zoneid", s.zone, "vlan", "100-199").String("physicalnetwork.id")
	return s
}

func (s *site) golden(command string, params ...string) *apitest.Answer {
	s.t.Helper()
	a := s.Must("root", command, params...)
	s.Golden(command, a)
	s.CheckSDK(command, a)
	return a
}

func (s *site) refused(command string, code int, text string, params ...string) {
	s.t.Helper()
	a := s.Call("root", command, params...)
	if got, n := a.Error(); n != code || !strings.Contains(got, text) {
		s.t.Errorf("%s %q: %d %q, want %d with %q", command, params, n, got, code, text)
	}
}

func TestTrafficTypes(t *testing.T) {
	s := newSite(t)
	id := s.Must("root", "addTrafficType", "physicalnetworkid", s.physical, "traffictype", "Public").String("traffictype.id")
	s.golden("updateTrafficType", "id", id, "kvmnetworklabel", "br-public")
	s.refused("updateTrafficType", 431, "kvmnetworklabel", "id", id, "kvmnetworklabel", "no such/link")
	s.golden("listTrafficTypeImplementors", "traffictype", "guest")
	s.golden("listNetworkIsolationMethods")
	r := s.Must("root", "createVlanIpRange", "zoneid", s.zone, "gateway", "203.0.113.1", "netmask", "255.255.255.0", "startip", "203.0.113.10", "endip", "203.0.113.12").String("vlan.id")
	s.refused("deleteTrafficType", 536, "public ranges on the physical network", "id", id)
	s.Must("root", "deleteVlanIpRange", "id", r)
	s.golden("deleteTrafficType", "id", id)
}

func TestProviders(t *testing.T) {
	s := newSite(t)
	id := s.Must("root", "listNetworkServiceProviders", "physicalnetworkid", s.physical, "name", "VirtualRouter").String("networkserviceprovider.id")
	s.refused("addNetworkServiceProvider", 431, "already exists", "physicalnetworkid", s.physical, "name", "VirtualRouter")
	s.refused("addNetworkServiceProvider", 431, "are known", "physicalnetworkid", s.physical, "name", "Netscaler")
	s.golden("deleteNetworkServiceProvider", "id", id)
	id = s.golden("addNetworkServiceProvider", "physicalnetworkid", s.physical, "name", "virtualrouter").String("networkserviceprovider.id")
	s.refused("createVirtualRouterElement", 431, "already has", "nspid", id)
	s.Update(func(tx *store.Tx) error {
		for e := range tables.RouterElements.All(tx) {
			if e.ProviderID.String() == id {
				return tables.RouterElements.Delete(tx, e.ID)
			}
		}
		return nil
	})
	s.golden("createVirtualRouterElement", "nspid", id)
}

// What is dedicated goes to nobody else, and whom it is dedicated to gets it first.
func TestDedicated(t *testing.T) {
	s := newSite(t)
	s.Must("root", "addTrafficType", "physicalnetworkid", s.physical, "traffictype", "Public")
	ranges := map[string]string{}
	for _, start := range []string{"203.0.113.10", "203.0.113.20"} {
		ranges[start] = s.Must("root", "createVlanIpRange", "zoneid", s.zone, "gateway", "203.0.113.1", "netmask", "255.255.255.0", "startip", start).String("vlan.id")
	}
	a, x := s.Domains["ROOT/a"], s.Domains["ROOT/a/x"]
	s.golden("dedicatePublicIpRange", "id", ranges["203.0.113.20"], "domainid", a.ID.String())
	s.refused("dedicatePublicIpRange", 431, "already been dedicated", "id", ranges["203.0.113.20"], "domainid", a.ID.String())
	s.golden("dedicateGuestVlanRange", "physicalnetworkid", s.physical, "vlanrange", "150-159", "account", "a-user", "domainid", a.ID.String())
	s.refused("dedicateGuestVlanRange", 431, "overlaps", "physicalnetworkid", s.physical, "vlanrange", "159-160", "domainid", x.ID.String())
	s.refused("dedicateGuestVlanRange", 431, "Unable to find guest vlan", "physicalnetworkid", s.physical, "vlanrange", "190-210", "domainid", x.ID.String())
	s.refused("dedicateGuestVlanRange", 431, "one range is expected", "physicalnetworkid", s.physical, "vlanrange", "110,112", "domainid", x.ID.String())
	s.refused("dedicateGuestVlanRange", 431, "domainid is needed", "physicalnetworkid", s.physical, "vlanrange", "110-112")
	list := s.golden("listDedicatedGuestVlanRanges", "physicalnetworkid", s.physical)

	gets := func(user, address string) {
		t.Helper()
		z, err := cloud.ParseID(s.zone)
		if err != nil {
			t.Fatal(err)
		}
		account := s.Users[user].Account
		s.Update(func(tx *store.Tx) error {
			o := &cloud.NetworkOffering{ID: cloud.ID{1}, Name: "o", Services: []cloud.OfferedService{{Name: network.SourceNat}}}
			if err := tables.NetworkOfferings.Put(tx, o); err != nil {
				return err
			}
			n := &cloud.Network{
				ID: cloud.NameID("net", user+address), Name: user, AccountID: account.ID, DomainID: account.DomainID, ZoneID: z, OfferingID: o.ID,
				Number: uint64(tables.Networks.Len(tx)) + 1,
			}
			if err := tables.Networks.Put(tx, n); err != nil {
				return err
			}
			ip, err := s.area.Associate(tx, n, cloud.PublicIP{}.Address)
			if address == "" {
				if cloud.CodeOf(err) != cloud.NoCapacity {
					t.Errorf("%s gets %v, %v", user, ip, err)
				}
				return nil
			}
			if err != nil || ip.Address.String() != address {
				t.Errorf("%s gets %v, %v; want %s", user, ip, err, address)
			}
			return err
		})
	}
	gets("x-user", "203.0.113.20") // below the domain it is dedicated to
	gets("b-user", "203.0.113.10")
	gets("b-admin", "")
	s.golden("releasePublicIpRange", "id", ranges["203.0.113.20"])
	s.refused("releasePublicIpRange", 431, "is not dedicated", "id", ranges["203.0.113.20"])
	s.refused("dedicatePublicIpRange", 536, "another account has 203.0.113.20", "id", ranges["203.0.113.20"], "domainid", s.Domains["ROOT/b"].ID.String())
	s.golden("releaseDedicatedGuestVlanRange", "id", list.String("dedicatedguestvlanrange.id"))
}
