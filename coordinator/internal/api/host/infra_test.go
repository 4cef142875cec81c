package host_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestRegions(t *testing.T) {
	s := newSite(t)
	s.golden("listRegions", "listRegions")
	s.golden("addRegion", "addRegion", "id", "2", "name", "North", "endpoint", "https://north.example.org/client/")
	s.refused("root", "addRegion", 431, "id: 2 already exists", "id", "2", "name", "x", "endpoint", "https://x.example.org")
	s.refused("root", "addRegion", 431, "name: Local already exists", "id", "3", "name", "Local", "endpoint", "https://x.example.org")
	s.refused("root", "addRegion", 431, "endpoint", "id", "3", "name", "x", "endpoint", "ftp://x.example.org")
	s.golden("updateRegion", "updateRegion", "id", "2", "name", "Far north")
	s.refused("root", "updateRegion", 431, "id: 9 does not exist", "id", "9", "name", "x")
	s.refused("root", "removeRegion", 431, "is this cloud", "id", "1")
	if n := s.Must("a-user", "listRegions").Get("count"); n != 2.0 {
		t.Errorf("a user sees %v regions", n)
	}
	s.golden("removeRegion", "removeRegion", "id", "2")
	s.refused("root", "removeRegion", 431, "does not exist", "id", "2")
}

func TestCloudIdentifier(t *testing.T) {
	s := newSite(t)
	u := s.Users["a-user"].User.ID.String()
	a := s.Must("a-user", "getCloudIdentifier", "userid", u)
	mac := hmac.New(sha1.New, []byte("a-user-secret"))
	mac.Write([]byte(a.String("cloudidentifier.cloudidentifier")))
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); a.String("cloudidentifier.signature") != want {
		t.Errorf("%s, want signature %s", a.Raw, want)
	}
	a = s.Must("root", "getCloudIdentifier", "userid", s.Users["root"].User.ID.String())
	a.Raw = bytes.ReplaceAll(a.Raw, []byte(a.String("cloudidentifier.signature")), []byte("{signature}")) // of a random text
	s.Golden("getCloudIdentifier", a)
	s.refused("a-admin", "getCloudIdentifier", 531, "ask as that user", "userid", u)
	s.refused("b-user", "getCloudIdentifier", 431, "entity does not exist", "userid", u)
}

// A zone without clusters has no hypervisors.
func TestHypervisorsOfAZone(t *testing.T) {
	s := newSite(t)
	empty := s.Must("root", "createZone", "name", "empty", "networktype", "Advanced", "dns1", "192.0.2.1", "internaldns1", "192.0.2.2").String("zone.id")
	if a := s.Must("root", "listHypervisors", "zoneid", empty); a.Get("count") == 1.0 {
		t.Errorf("a zone without clusters: %s", a.Raw)
	}
	if a := s.Must("root", "listHypervisors"); a.String("hypervisor.name") != "KVM" {
		t.Errorf("of all zones: %s", a.Raw)
	}
}

func TestGuestOS(t *testing.T) {
	s := newSite(t)
	category := s.Must("root", "listOsCategories").String("oscategory.id")
	s.golden("addGuestOs", "addGuestOs", "oscategoryid", category, "osdisplayname", "Plan 9")
	id := s.Must("root", "listOsTypes", "description", "Plan 9").String("ostype.id")
	s.refused("root", "addGuestOs", 431, "already in the list", "oscategoryid", category, "osdisplayname", "Plan 9")
	s.golden("updateGuestOs", "updateGuestOs", "id", id, "osdisplayname", "Plan 9 from Bell Labs")
	builtin := s.Must("root", "listOsTypes", "keyword", "CentOS 5.3 (64-bit)").String("ostype.id")
	s.refused("root", "updateGuestOs", 431, "system defined", "id", builtin, "osdisplayname", "x")
	s.refused("root", "removeGuestOs", 431, "system defined", "id", builtin)
	s.Update(func(tx *store.Tx) error {
		return tables.Templates.Put(tx, &cloud.Template{ID: cloud.ID{5}, Name: "nine", OSTypeID: parse(t, id)})
	})
	s.refused("root", "removeGuestOs", 536, "template nine has it", "id", id)
	s.Update(func(tx *store.Tx) error { return tables.Templates.Delete(tx, cloud.ID{5}) })
	s.golden("removeGuestOs", "removeGuestOs", "id", id)
}

// parse is id where a variable has its name.
func parse(t *testing.T, text string) cloud.ID { return id(t, text) }

func TestHypervisorCapabilities(t *testing.T) {
	s := newSite(t)
	a := s.golden("listHypervisorCapabilities", "listHypervisorCapabilities", "hypervisor", "KVM")
	s.golden("updateHypervisorCapabilities", "updateHypervisorCapabilities", "id", a.String("hypervisorCapabilities.id"), "maxguestslimit", "50")
	s.refused("root", "updateHypervisorCapabilities", 431, "id", "maxguestslimit", "50")
	s.refused("root", "updateHypervisorCapabilities", 431, "maxguestslimit", "id", a.String("hypervisorCapabilities.id"), "maxguestslimit", "-1")
}

func TestStorageRanges(t *testing.T) {
	s := newSite(t)
	z, p, _ := s.place("false")
	in := func(start, end string) []string {
		return []string{"podid", p, "gateway", "198.51.100.1", "netmask", "255.255.255.0", "startip", start, "endip", end, "vlan", "7"}
	}
	s.refused("root", "createStorageNetworkIpRange", 431, "no physical network carries Storage traffic", in("198.51.100.10", "198.51.100.20")...)
	s.Update(func(tx *store.Tx) error {
		n := &cloud.PhysicalNetwork{ID: cloud.ID{7}, ZoneID: id(t, z), Name: "n"}
		if err := tables.PhysicalNetworks.Put(tx, n); err != nil {
			return err
		}
		return tables.TrafficTypes.Put(tx, &cloud.TrafficType{ID: cloud.ID{8}, PhysicalNetworkID: n.ID, Type: "Storage"})
	})
	s.golden("createStorageNetworkIpRange", "createStorageNetworkIpRange", in("198.51.100.10", "198.51.100.20")...)
	for text, x := range map[string][]string{
		"overlaps with 198": in("198.51.100.20", "198.51.100.30"), "must rise": in("198.51.100.40", "198.51.100.30"),
		"contains its gateway": in("198.51.100.1", "198.51.100.5"), "lie in": in("203.0.113.1", "203.0.113.2"),
	} {
		s.refused("root", "createStorageNetworkIpRange", 431, text, x...)
	}
	a := s.golden("listStorageNetworkIpRange", "listStorageNetworkIpRange", "podid", p)
	r := a.String("storagenetworkiprange.id")
	s.golden("updateStorageNetworkIpRange", "updateStorageNetworkIpRange", "id", r, "endip", "198.51.100.25", "vlan", "0")
	s.golden("deleteStorageNetworkIpRange", "deleteStorageNetworkIpRange", "id", r)
}

func TestPoolStates(t *testing.T) {
	s := newSite(t)
	z, p, c := s.place("false")
	s.join("kvm1", "192.0.2.101")
	s.Must("root", "addHost", "zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "kvm1")
	pool := s.Must("root", "createStoragePool", "name", "nfs", "url", "nfs://192.0.2.9/export", "zoneid", z, "podid", p, "clusterid", c).String("storagepool.id")
	s.golden("updateStoragePool", "updateStoragePool", "id", pool, "tags", "fast,mirrored")
	s.golden("listStorageTags", "listStorageTags")
	s.refused("root", "cancelStorageMaintenance", 431, "not in maintenance", "id", pool)
	s.golden("enableStorageMaintenance", "enableStorageMaintenance", "id", pool)
	s.refused("root", "enableStorageMaintenance", 431, "it is Maintenance", "id", pool)
	s.golden("cancelStorageMaintenance", "cancelStorageMaintenance", "id", pool)
	image := s.Must("root", "addImageStore", "url", "file:///srv/images", "zoneid", z).String("imagestore.id")
	s.golden("updateImageStore", "updateImageStore", "id", image, "readonly", "true", "name", "old")
	if n := s.Must("root", "listImageStores", "readonly", "false").Get("count"); n != nil {
		t.Errorf("%v image stores take new things", n)
	}
}
