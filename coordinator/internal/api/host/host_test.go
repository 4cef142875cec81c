package host_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/api/cluster"
	"github.com/wispcloud/wisp/coordinator/internal/api/host"
	"github.com/wispcloud/wisp/coordinator/internal/api/hypervisor"
	"github.com/wispcloud/wisp/coordinator/internal/api/imagestore"
	"github.com/wispcloud/wisp/coordinator/internal/api/ostype"
	"github.com/wispcloud/wisp/coordinator/internal/api/pod"
	"github.com/wispcloud/wisp/coordinator/internal/api/region"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagepool"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagerange"
	"github.com/wispcloud/wisp/coordinator/internal/api/template"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/compute/computetest"
	"github.com/wispcloud/wisp/coordinator/internal/hostlink"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// site is the infrastructure's commands, served.
type site struct {
	*apitest.Cloud
	t    *testing.T
	keys *pki.Keeper
}

func newSite(t *testing.T) *site { return newSiteWith(t, nil) }

func newSiteWith(t *testing.T, log io.Writer) *site {
	t.Helper()
	s := &site{t: t}
	vmEntity := api.Entity{Name: "virtualmachine", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		vm, ok := tables.VMs.Get(r, id)
		if !ok {
			return api.Owner{}, false
		}
		return api.Owner{Account: vm.AccountID, Domain: vm.DomainID}, true
	}}
	s.Cloud = apitest.New(t, apitest.Config{
		Make: func(k *seal.Keeper) []api.Command {
			s.keys = pki.NewKeeper(func() store.Reader { return s.Cloud.Read() }, k, cloud.ID{1}, nil, func() time.Time { return s.Clock.Now() })
			vms := &compute.Area{Net: computetest.Networks{}, Seal: k}
			return slices.Concat(
				zone.Commands(), pod.Commands(), cluster.Commands(), storagepool.Commands(storagepool.Deps{VMs: vms, Routers: &network.Area{}}), imagestore.Commands(), hypervisor.Commands(),
				ostype.Commands(), capacity.Commands(), region.Commands(), storagerange.Commands(), template.Commands(template.Deps{Count: identity.Count}),
				host.Commands(host.Deps{
					Authority:  func() (*pki.Authority, error) { return s.keys.Authority() },
					DropVolume: func(tx *store.Tx, v *cloud.Volume) error { return tables.Volumes.Delete(tx, v.ID) },
					Evacuate:   vms.Evacuate, HostDied: vms.HostDied,
				}),
			)
		},
		Entities: slices.Concat(zone.Entities(), pod.Entities(), cluster.Entities(), host.Entities(), storagepool.Entities(),
			imagestore.Entities(), ostype.Entities(), hypervisor.Entities(), storagerange.Entities(), template.Entities(), []api.Entity{vmEntity}),
		Settings: [][]*settings.Def{storage.Settings(), compute.Settings(), infra.Settings(), hostlink.Settings()},
		Log:      log,
	})
	s.Update(func(tx *store.Tx) error {
		if err := pki.Bootstrap(tx, s.Seal); err != nil {
			return err
		}
		if err := infra.Announce(tx, "c1", "192.0.2.1:8250"); err != nil {
			return err
		}
		return errors.Join(infra.SeedOSTypes(tx), infra.SeedSite(tx))
	})
	for t := range tables.OSTypes.All(s.Read()) {
		s.Name(t.ID, "ostype:"+t.Description)
	}
	for k := range tables.OSCategories.All(s.Read()) {
		s.Name(k.ID, "oscategory:"+k.Name)
	}
	return s
}

// golden makes a call as root, compares the whole answer, and checks that today's SDK can decode it.
func (s *site) golden(name, command string, params ...string) *apitest.Answer {
	s.t.Helper()
	a := s.Must("root", command, params...)
	s.Golden(name, a)
	s.CheckSDK(command, a)
	return a
}

func (s *site) refused(user, command string, code int, text string, params ...string) {
	s.t.Helper()
	a := s.Call(user, command, params...)
	got, n := a.Error()
	if n != code || a.Status != code || !strings.Contains(got, text) {
		s.t.Errorf("%s by %s %q: %d %q, want %d with %q", command, user, params, n, got, code, text)
	}
}

func id(t *testing.T, s string) cloud.ID {
	t.Helper()
	v, err := cloud.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// place makes a zone, a pod and a cluster: their ids.
func (s *site) place(local string) (z, p, c string) {
	s.t.Helper()
	call := s.golden // the story compares the answers, the other tests need the place only
	if local == "false" {
		call = func(_, command string, params ...string) *apitest.Answer { return s.Must("root", command, params...) }
	}
	z = call("createZone", "createZone", "name", "z1", "networktype", "Advanced", "dns1", "192.0.2.53", "internaldns1", "192.0.2.54",
		"guestcidraddress", "10.1.0.0/16", "domain", "z1.example", "localstorageenabled", local, "allocationstate", "Enabled").String("zone.id")
	s.Name(id(s.t, z), "zone:z1")
	p = call("createPod", "createPod", "name", "p1", "zoneid", z, "gateway", "192.0.2.1", "netmask", "255.255.255.0", "startip", "192.0.2.10", "endip", "192.0.2.20").String("pod.id")
	s.Name(id(s.t, p), "pod:p1")
	c = call("addCluster", "addCluster", "clustername", "c1", "clustertype", "CloudManaged", "hypervisor", "KVM", "zoneid", z, "podid", p).String("cluster.id")
	s.Name(id(s.t, c), "cluster:c1")
	return z, p, c
}

// join lets an agent join with a token made by the API.
func (s *site) join(name, ip string) string {
	s.t.Helper()
	t, err := pki.ParseToken(s.Must("root", "createHostJoinToken", "uses", "1").String("hostjointoken.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := pki.ParseRequest(der)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := s.keys.Authority()
	if err != nil {
		s.t.Fatal(err)
	}
	var h *cloud.Host
	s.Update(func(tx *store.Tx) (err error) {
		h, _, err = infra.Join(tx, t, req, &hostspec.HostFacts{
			Hostname: name, UnderlayIp: ip, Cpus: 4, CpuMhz: 2500, MemoryMib: 16384, Kvm: true, KernelVersion: "6.12.1", HypervisorVersion: "10.0.2",
			AgentVersion: "1.0", Architecture: "x86_64", CpuModel: "Test CPU", Features: []string{"vlan", "vxlan"}, MissingFeatures: []string{"ipset"},
		}, a.SignHost)
		return err
	})
	s.Name(h.ID, "host:"+name)
	s.Update(func(tx *store.Tx) error { return infra.Linked(tx, h.ID, "1.0", "boot") })
	return h.ID.String()
}

// TestStory builds a zone up and takes it down again, and compares every answer.
func TestStory(t *testing.T) {
	s := newSite(t)
	z, p, c := s.place("true")
	h := s.join("kvm1", "192.0.2.101")
	s.golden("listHosts-pending", "listHosts", "resourcestate", "Pending")
	if a := s.Must("root", "listHosts"); len(a.Object) != 0 {
		t.Errorf("a pending host is among the others: %s", a.Raw)
	}
	s.golden("addHost", "addHost", "zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "http://kvm1", "username", "root", "password", "secret", "hosttags", "fast,ssd")
	s.Update(func(tx *store.Tx) error {
		return storage.Fold(tx, id(t, h), &hostspec.HostObservation{Pools: []*hostspec.PoolObservation{{
			Id: s.pool().ID.String(), Ready: true, CapacityBytes: 100 << 30, UsedBytes: 7 << 30,
		}}})
	})
	s.golden("listHosts", "listHosts", "type", "Routing", "id", h)
	s.golden("listHosts-min", "listHosts", "details", "min", "clusterid", c)
	s.golden("listZones", "listZones", "showcapacities", "true")
	s.golden("listPods", "listPods", "showcapacities", "true", "zoneid", z)
	s.golden("listClusters", "listClusters", "showcapacities", "true", "name", "c1")
	s.golden("listCapacity", "listCapacity", "zoneid", z)
	s.golden("listStoragePools", "listStoragePools", "zoneid", z)
	s.golden("createStoragePool", "createStoragePool", "name", "nfs1", "url", "nfs://nas.example/export/primary", "zoneid", z, "podid", p, "clusterid", c, "tags", "a,b")
	s.golden("addSecondaryStorage", "addSecondaryStorage", "url", "file:///srv/secondary", "zoneid", z)
	s.golden("listImageStores", "listImageStores", "zoneid", z)
	s.golden("listStorageProviders", "listStorageProviders", "type", "image")
	more := s.golden("addImageStore", "addImageStore", "provider", "file", "url", "file:///srv/more", "zoneid", z)
	s.golden("deleteImageStore", "deleteImageStore", "id", more.String("imagestore.id"))
	s.golden("listHypervisors", "listHypervisors", "zoneid", z)
	s.golden("listOsTypes", "listOsTypes", "description", "Other Linux (64-bit)")
	s.golden("listOsCategories", "listOsCategories")
	s.golden("updateZone", "updateZone", "id", z, "name", "z2", "dns2", "192.0.2.55", "details[0].key", "k", "details[0].value", "v")
	s.golden("updatePod", "updatePod", "id", p, "endip", "192.0.2.30")
	s.golden("updateCluster", "updateCluster", "id", c, "allocationstate", "Disabled", "managedstate", "Unmanaged")
	s.golden("updateHost", "updateHost", "id", h, "allocationstate", "Disable", "hosttags", "slow")
	a := s.CallXML("root", "listZones", "id", z)
	s.Golden("listZones", a)

	for _, x := range []struct{ command, id, text string }{
		{"deleteZone", z, "there are servers running in this zone"},
		{"deletePod", p, "there are servers running in this pod"},
		{"deleteCluster", c, "Cluster still has hosts"},
	} {
		s.refused("root", x.command, 536, x.text, "id", x.id)
	}
	s.golden("deleteHost", "deleteHost", "id", h)
	s.refused("root", "deleteCluster", 536, "still has storage pools", "id", c)
	nfs := s.Must("root", "listStoragePools", "name", "nfs1").String("storagepool.id")
	s.golden("deleteStoragePool", "deleteStoragePool", "id", nfs)
	s.golden("deleteCluster", "deleteCluster", "id", c)
	s.golden("deletePod", "deletePod", "id", p)
	s.golden("deleteZone", "deleteZone", "id", z)
	if n := tables.Hosts.Len(s.Read()) + tables.StoragePools.Len(s.Read()) + tables.Zones.Len(s.Read()) + tables.HostCapacities.Len(s.Read()); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func (s *site) pool() *cloud.StoragePool {
	for p := range tables.StoragePools.All(s.Read()) {
		return p
	}
	s.t.Fatal("there is no pool")
	return nil
}

// What is refused, of it what the provider's machines are to domain admins and users (CVE-2026-66721).
func TestCVE_2026_66721_Refusals(t *testing.T) {
	s := newSite(t)
	z, p, c := s.place("false")
	nobody := cloud.ID{0x42}.String()
	zone := []string{"name", "z9", "networktype", "Advanced", "dns1", "192.0.2.53", "internaldns1", "192.0.2.53"}
	pod := []string{"name", "p9", "zoneid", z, "gateway", "198.51.100.1", "netmask", "255.255.255.0", "startip", "198.51.100.10", "endip", "198.51.100.20"}
	with := func(base []string, change ...string) []string {
		out := slices.Clone(base)
		for i := 0; i < len(change); i += 2 {
			if at := slices.Index(out, change[i]); at >= 0 && at%2 == 0 {
				out[at+1] = change[i+1]
			} else {
				out = append(out, change[i], change[i+1])
			}
		}
		return out
	}
	host := []string{"zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "http://kvm9", "username", "root", "password", "x"}
	tmpl := []string{
		"name", "t", "displaytext", "t", "url", "http://example.org/a.qcow2", "format", "QCOW2", "hypervisor", "KVM", "zoneid", z,
		"ostypeid", cloud.NameID("os_type", "Other Linux (64-bit)").String(),
	}
	for _, x := range []struct {
		user, command string
		code          int
		text          string
		params        []string
	}{
		{"root", "createZone", 431, "missing parameter networktype", []string{"name", "z9", "dns1", "192.0.2.1", "internaldns1", "192.0.2.1"}},
		{"root", "createZone", 431, "only Advanced and Basic", with(zone, "networktype", "Odd")},
		{"root", "createZone", 431, "A zone with that name already exists", with(zone, "name", "z1")},
		{"root", "createZone", 431, "valid IP address for DNS1", with(zone, "dns1", "no")},
		{"root", "createZone", 431, "valid IP address for DNS1", with(zone, "dns1", "2001:db8::1")},
		{"root", "createZone", 431, "valid IPv6 address for IP6 DNS1", with(zone, "ip6dns1", "192.0.2.1")},
		{"root", "createZone", 431, "valid guest cidr", with(zone, "guestcidraddress", "8.8.8.0/24")},
		{"root", "createZone", 431, "guestCidrAddress parameter is not supported", with(zone, "networktype", "Basic", "guestcidraddress", "10.0.0.0/8")},
		{"root", "createZone", 431, "Invalid network domain", with(zone, "domain", "-a.example")},
		{"root", "createZone", 431, "Unable to resolve Allocation State", with(zone, "allocationstate", "Odd")},
		{"a-user", "createZone", 432, "", zone},
		{"a-admin", "createZone", 432, "", zone},
		{"root", "updateZone", 431, "entity does not exist", []string{"id", nobody}},
		{"root", "createPod", 431, "already exists in zone", with(pod, "name", "p1")},
		{"root", "createPod", 431, "valid CIDR for pod", with(pod, "netmask", "255.0.255.0")},
		{"root", "createPod", 431, "gateway is not a valid IP", with(pod, "gateway", "x")},
		{"root", "createPod", 431, "start address of the IP range is not in the CIDR", with(pod, "startip", "198.51.101.10")},
		{"root", "createPod", 431, "end address of the IP range is not in the CIDR", with(pod, "endip", "198.51.101.10")},
		{"root", "createPod", 431, "must have a lower value", with(pod, "startip", "198.51.100.30")},
		{"root", "createPod", 431, "gateway shouldn't overlap", with(pod, "startip", "198.51.100.1")},
		{"root", "createPod", 431, "conflicts with the subnet of pod p1", with(pod, "gateway", "192.0.2.1", "startip", "192.0.2.40", "endip", "192.0.2.50")},
		{"root", "createPod", 431, "Guest IP Network", with(pod, "gateway", "10.1.1.1", "startip", "10.1.1.10", "endip", "10.1.1.20")},
		{"root", "createPod", 431, "entity does not exist", with(pod, "zoneid", nobody)},
		{"root", "addCluster", 431, "already exists", []string{"clustername", "c1", "clustertype", "CloudManaged", "hypervisor", "KVM", "zoneid", z, "podid", p}},
		{"root", "addCluster", 431, "supported: KVM", []string{"clustername", "c2", "clustertype", "CloudManaged", "hypervisor", "XenServer", "zoneid", z, "podid", p}},
		{"root", "addCluster", 431, "CloudManaged", []string{"clustername", "c2", "clustertype", "ExternalManaged", "hypervisor", "KVM", "zoneid", z, "podid", p}},
		{"root", "addHost", 431, "createHostJoinToken", host},
		{"root", "addHost", 431, "not a valid uri", with(host, "url", "http://")},
		{"root", "addHost", 431, "both id and name", with(host, "url", "http://known", "clustername", "c2")},
		{"root", "addHost", 431, "supported: KVM", with(host, "hypervisor", "VMware")},
		{"root", "listHosts", 431, "non permitted value", []string{"details", "odd"}},
		{"root", "deleteHost", 431, "entity does not exist", []string{"id", nobody}},
		// CVE-2026-66721 and its kind: what the provider's machines are is nothing for domain admins or users.
		{"a-admin", "listHosts", 432, "", nil},
		{"a-user", "listHosts", 432, "", nil},
		{"a-admin", "listPods", 432, "", nil},
		{"a-admin", "listClusters", 432, "", nil},
		{"a-admin", "listStoragePools", 432, "", nil},
		{"a-admin", "listImageStores", 432, "", nil},
		{"a-admin", "listCapacity", 432, "", nil},
		{"a-admin", "listHostJoinTokens", 432, "", nil},
		{"root", "createHostJoinToken", 431, "lifetime", []string{"lifetime", "1"}},
		{"a-admin", "createHostJoinToken", 432, "", nil},
		{"root", "createStoragePool", 534, "No host up", []string{"name", "x", "url", "nfs://nas/x", "zoneid", z, "podid", p, "clusterid", c}},
		{"root", "addSecondaryStorage", 431, "mount the share", []string{"url", "nfs://nas/x", "zoneid", z}},
		{"root", "addSecondaryStorage", 431, "absolute path", []string{"url", "file:///srv/../etc", "zoneid", z}},
		{"a-user", "registerTemplate", 431, "user and password in it are not supported", with(tmpl, "url", "http://u:p@example.org/a")},
		{"a-user", "registerTemplate", 431, "http and https", with(tmpl, "url", "file:///etc/passwd")},
		{"a-user", "registerTemplate", 431, ".metalink files", with(tmpl, "url", "http://example.org/a.metalink")},
		{"a-user", "registerTemplate", 431, "Image format is incorrect", with(tmpl, "format", "OVA")},
		{"a-user", "registerTemplate", 431, "valid zone Id", with(tmpl, "zoneid", "-1")},
		{"a-user", "registerTemplate", 431, "entity does not exist", with(tmpl, "zoneid", nobody)},
		{"a-user", "registerTemplate", 431, "checksum", with(tmpl, "checksum", "zz")},
		{"a-user", "registerTemplate", 431, "entity does not exist", with(tmpl, "account", "b-user", "domainid", s.Domains["ROOT/b"].ID.String())},
		{"a-user", "listTemplates", 431, "missing parameter templatefilter", nil},
		{"a-user", "listTemplates", 431, "admin only", []string{"templatefilter", "all"}},
		{"a-user", "deleteTemplate", 431, "entity does not exist", []string{"id", nobody}},
	} {
		if x.command == "addHost" && slices.Contains(x.params, "http://known") && tables.Hosts.Len(s.Read()) == 0 {
			s.join("known", "192.0.2.102")
		}
		s.refused(x.user, x.command, x.code, x.text, x.params...)
	}
	s.Must("root", "addHost", with(host, "url", "known")...)
	s.refused("root", "addHost", 431, "already exists", with(host, "url", "http://192.0.2.102")...)
	pool := []string{"name", "x", "url", "nfs://nas/x", "zoneid", z, "podid", p, "clusterid", c}
	for url, text := range map[string]string{
		"nfs://nas": "host or path is null", "nfs:///x": "host or path is null", "rbd://a/b": "scheme", "nfs://nas/x,exec": "options",
		"nfs://na$(id)s/x": "valid uri", "nfs://nas/../x": "host or path", "nfs://u:p@nas/x": "options", "SharedMountPoint:///": "host or path",
	} {
		a := s.Call("root", "createStoragePool", with(pool, "url", url)...)
		if got, code := a.Error(); code != 431 || !strings.Contains(got, text) && !strings.Contains(got, "host or path is null") {
			t.Errorf("pool %s: %d %s", url, code, got)
		}
	}
	s.Must("root", "createStoragePool", pool...)
	s.refused("root", "createStoragePool", 536, "already in use", with(pool, "name", "y")...)
}

// TestCVE_2012_5616_CVE_2026_59657_SecretsStayOut plants secrets and looks for them where they must not be (CVE-2012-5616, CVE-2026-59657): in the
// server's log at its most talkative, and in rows.
func TestCVE_2012_5616_CVE_2026_59657_SecretsStayOut(t *testing.T) {
	var log bytes.Buffer
	s := newSiteWith(t, &log)
	z, p, c := s.place("false")
	token := s.Must("root", "createHostJoinToken").String("hostjointoken.token")
	parsed, err := pki.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	s.join("kvm1", "192.0.2.101")
	s.Must("root", "addHost", "zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "kvm1", "username", "root", "password", "canary-host-password")
	s.Call("root", "addHost", "zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "kvm2", "username", "root", "password", "canary-host-password")
	s.Must("root", "addCluster", "zoneid", z, "podid", p, "clustername", "c2", "clustertype", "CloudManaged", "hypervisor", "KVM", "password", "canary-cluster-password")
	s.Call("a-user", "registerTemplate", "name", "t", "displaytext", "t", "url", "http://u:canary-url-password@example.org/a", "format", "QCOW2",
		"hypervisor", "KVM", "zoneid", z, "ostypeid", cloud.NameID("os_type", "Other Linux (64-bit)").String())
	var rows bytes.Buffer
	for e := range tables.Events.All(s.Read()) {
		rows.WriteString(e.Description + "\n")
	}
	for h := range tables.Hosts.All(s.Read()) {
		fmt.Fprintf(&rows, "%+v\n", *h)
	}
	for r := range tables.JoinTokens.All(s.Read()) {
		fmt.Fprintf(&rows, "%+v %s\n", *r, r.SecretHash)
	}
	canaries := []string{"canary-host-password", "canary-cluster-password", "canary-url-password", token, token[20:60], string(parsed.Secret[:])}
	for _, canary := range canaries {
		if strings.Contains(log.String(), canary) {
			t.Errorf("the log tells %.25q", canary)
		}
		if strings.Contains(rows.String(), canary) {
			t.Errorf("a row holds %.25q", canary)
		}
	}
	if log.Len() == 0 {
		t.Error("nothing was logged at all, so nothing was shown")
	}
}

// TestCVE_2025_30675_Templates shows every filter to every kind of caller (CVE-2025-30675).
func TestCVE_2025_30675_Templates(t *testing.T) {
	s := newSite(t)
	z, _, _ := s.place("false")
	os := cloud.NameID("os_type", "Other Linux (64-bit)").String()
	add := func(user, name string, ready bool, more ...string) string {
		in := z
		if user == "root" {
			in = "-1"
		}
		a := s.Must(user, "registerTemplate", append([]string{
			"name", name, "displaytext", "about " + name, "url", "http://example.org/" + name,
			"format", "QCOW2", "hypervisor", "KVM", "zoneid", in, "ostypeid", os,
		}, more...)...)
		tid := a.String("template.id")
		s.Name(id(t, tid), "template:"+name)
		if name == "private" {
			s.Golden("registerTemplate", a)
			s.CheckSDK("registerTemplate", a)
		}
		if ready {
			s.Update(func(tx *store.Tx) error {
				if err := identity.Count(tx, s.Users[user].Account.ID, cloud.ResourceSecondaryStorage, 1); err != nil {
					return err
				}
				return tables.Templates.Edit(tx, id(t, tid), func(r *cloud.Template) error {
					r.State, r.SHA256, r.SizeBytes, r.FileBytes = cloud.TemplateReady, strings.Repeat("a", 64), 1<<30, 1<<20
					return nil
				})
			})
		}
		return tid
	}
	private := add("a-user", "private", true, "passwordenabled", "true", "sshkeyenabled", "true", "checksum", "{MD5}"+strings.Repeat("0", 32))
	add("a-user", "waiting", false)
	public := add("a-user", "public", true, "ispublic", "true", "isfeatured", "true") // featured is root's to say
	add("root", "featured", true, "ispublic", "true", "isfeatured", "true")
	add("b-user", "b-private", true)
	z2 := s.Must("root", "createZone", "name", "z2", "networktype", "Advanced", "dns1", "192.0.2.53", "internaldns1", "192.0.2.54", "allocationstate", "Enabled").String("zone.id")
	s.Name(id(t, z2), "zone:z2")

	list := func(user, filter string, more ...string) string {
		var names []string
		a := s.Must(user, "listTemplates", append([]string{"templatefilter", filter}, more...)...)
		rows, _ := a.Object["template"].([]any)
		for _, r := range rows {
			m := r.(map[string]any)
			names = append(names, m["name"].(string)+"@"+m["zonename"].(string))
		}
		return strings.Join(names, " ")
	}
	for _, x := range []struct {
		user, filter string
		more         []string
		want         string
	}{
		{"a-user", "self", nil, "private@z1 waiting@z1 public@z1"},
		{"a-user", "selfexecutable", nil, "private@z1 public@z1"},
		{"a-user", "featured", nil, "featured@z1 featured@z2"},
		{"a-user", "featured", []string{"zoneid", z2}, "featured@z2"},
		{"a-user", "community", nil, "public@z1"},
		{"a-user", "executable", nil, "private@z1 public@z1 featured@z1 featured@z2"},
		{"a-user", "sharedexecutable", nil, ""},
		{"a-user", "executable", []string{"name", "private"}, "private@z1"},
		{"a-user", "executable", []string{"keyword", "ABOUT PUB"}, "public@z1"},
		{"a-user", "self", []string{"id", private}, "private@z1"},
		{"a-other", "self", nil, ""},
		{"a-other", "executable", []string{"listall", "true"}, "public@z1 featured@z1 featured@z2"},
		{"b-user", "self", []string{"listall", "true"}, "b-private@z1"},
		{"b-user", "featured", []string{"id", public}, "public@z1"},
		{"a-admin", "all", nil, "private@z1 waiting@z1 public@z1"},
		{"a-admin", "self", []string{"account", "a-user", "domainid", s.Domains["ROOT/a"].ID.String()}, "private@z1 waiting@z1 public@z1"},
		{"root", "all", []string{"listall", "true"}, "private@z1 waiting@z1 public@z1 featured@z1 featured@z2 b-private@z1"},
		{"root", "all", []string{"showunique", "true", "name", "featured"}, "featured@z1"},
		{"root", "self", []string{"listall", "true"}, "featured@z1 featured@z2"},
		{"root", "executable", nil, "public@z1 featured@z1 featured@z2"},
	} {
		if got := list(x.user, x.filter, x.more...); got != x.want {
			t.Errorf("%s of %s %q: %q, want %q", x.filter, x.user, x.more, got, x.want)
		}
	}
	s.refused("b-user", "listTemplates", 431, "entity does not exist", "templatefilter", "self", "id", private)
	s.refused("b-user", "deleteTemplate", 431, "entity does not exist", "id", private)
	s.refused("b-user", "deleteTemplate", 431, "entity does not exist", "id", public)
	s.golden("listTemplates", "listTemplates", "templatefilter", "all", "id", private)
	a := s.Must("a-user", "deleteTemplate", "id", private)
	s.Golden("deleteTemplate", a)
	if got := list("a-user", "self"); got != "waiting@z1 public@z1" {
		t.Errorf("after it was deleted: %q", got)
	}
	s.refused("a-user", "listTemplates", 431, "entity does not exist", "templatefilter", "self", "id", private)
	if n := identity.Counted(s.Read(), s.Users["a-user"].Account.ID, cloud.ResourceTemplate); n != 2 {
		t.Errorf("%d templates are counted, want 2", n)
	}
}

// TestZonesOfDomains shows that a dedicated or disabled zone is hidden from those who may not use it.
func TestZonesOfDomains(t *testing.T) {
	s := newSite(t)
	add := func(name, state string, more ...string) string {
		return s.Must("root", "createZone", append([]string{
			"name", name, "networktype", "Advanced", "dns1", "192.0.2.53", "internaldns1", "192.0.2.54",
			"allocationstate", state,
		}, more...)...).String("zone.id")
	}
	add("open", "Enabled")
	add("off", "Disabled")
	forA := add("for-a", "Enabled", "domainid", s.Domains["ROOT/a"].ID.String())
	for user, want := range map[string]string{
		"root": "for-a off open", "a-user": "for-a open", "x-user": "for-a open", "a-admin": "for-a open", "b-user": "open", "b-admin": "open",
	} {
		var names []string
		rows, _ := s.Must(user, "listZones").Object["zone"].([]any)
		for _, r := range rows {
			names = append(names, r.(map[string]any)["name"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s sees %q, want %q", user, got, want)
		}
	}
	s.refused("b-user", "listZones", 431, "entity does not exist", "id", forA)
	a := s.Must("a-user", "listZones", "id", forA)
	if a.Get("zone.internaldns1") != nil || a.Get("zone.guestcidraddress") != nil {
		t.Errorf("a tenant sees the provider's network: %s", a.Raw)
	}
}

func TestTokens(t *testing.T) {
	s := newSite(t)
	a := s.Must("root", "createHostJoinToken", "uses", "2", "lifetime", "3600", "note", "rack 7")
	text := a.String("hostjointoken.token")
	masked := *a
	masked.Raw = bytes.ReplaceAll(a.Raw, []byte(text), []byte("{secret}"))
	masked.Raw = regexp.MustCompile(`"fingerprint":"[^"]*"`).ReplaceAll(masked.Raw, []byte(`"fingerprint":"{fingerprint}"`))
	s.Golden("createHostJoinToken", &masked)
	tok, err := pki.ParseToken(text)
	if err != nil || !slices.Equal(tok.Addresses, []string{"192.0.2.1:8250"}) {
		t.Fatalf("%v %v", tok.Addresses, err)
	}
	l := s.golden("listHostJoinTokens", "listHostJoinTokens")
	if strings.Contains(string(l.Raw), text) || strings.Contains(string(l.Raw), "wisp1") {
		t.Error("the list tells the token")
	}
	row, _ := tables.JoinTokens.Get(s.Read(), tok.ID)
	if !tok.Matches(row.SecretHash) || strings.Contains(string(row.SecretHash), string(tok.Secret[:])) {
		t.Error("the row keeps something else than the hash")
	}
	s.Clock.Advance(2 * time.Hour)
	if got := s.Must("root", "listHostJoinTokens").Get("hostjointoken.expired"); got != true {
		t.Errorf("after its time it is expired=%v", got)
	}
	s.golden("deleteHostJoinToken", "deleteHostJoinToken", "id", tok.ID.String())
	if got := s.Must("root", "listHostJoinTokens"); len(got.Object) != 0 {
		t.Errorf("%s", got.Raw)
	}
}

// TestReconnect follows the job from the asking to the new link.
func TestReconnect(t *testing.T) {
	s := newSite(t)
	z, p, c := s.place("false")
	h := s.join("kvm1", "192.0.2.101")
	s.refused("root", "reconnectHost", 431, "adopt it", "id", h)
	s.Must("root", "addHost", "zoneid", z, "podid", p, "clusterid", c, "hypervisor", "KVM", "url", "kvm1")
	a := s.Call("root", "reconnectHost", "id", h)
	job := a.String("jobid")
	if row, _ := tables.Hosts.Get(s.Read(), id(t, h)); row.Reconnects != 1 {
		t.Errorf("the link is not asked to end: %+v", row)
	}
	if got := s.Call("root", "queryAsyncJobResult", "jobid", job).Object["jobstatus"]; got != 0.0 {
		t.Errorf("the job has status %v before the host has linked again", got)
	}
	if err := s.Replica.Update(context.Background(), func(tx *store.Tx) error { return infra.Linked(tx, id(t, h), "", "") }); err != nil {
		t.Fatal(err)
	}
	got := s.Job("root", job)
	s.Golden("reconnectHost", got)
	if got.Object["jobstatus"] != 1.0 || got.String("jobresult.host.state") != "Up" {
		t.Errorf("%s", got.Raw)
	}
}

// TestFacts compares the commands with what 4.1 says of them.
func TestFacts(t *testing.T) {
	s := newSite(t)
	// What newer clients send less of than 4.1 wanted: agents join by token, pools may span a zone, templates name
	// zones by either parameter.
	allow := map[string]bool{
		"addHost.username": true, "addHost.password": true, "createStoragePool.podid": true, "createStoragePool.clusterid": true,
		"createStoragePool.tags": true, "registerTemplate.zoneid": true,
	}
	for _, bad := range apitest.CheckFacts(s.Registry, allow) {
		t.Error(bad)
	}
}
