package network_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/address"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/cluster"
	"github.com/wispcloud/wisp/coordinator/internal/api/host"
	"github.com/wispcloud/wisp/coordinator/internal/api/network"
	"github.com/wispcloud/wisp/coordinator/internal/api/networkoffering"
	"github.com/wispcloud/wisp/coordinator/internal/api/offering"
	"github.com/wispcloud/wisp/coordinator/internal/api/physical"
	"github.com/wispcloud/wisp/coordinator/internal/api/pod"
	"github.com/wispcloud/wisp/coordinator/internal/api/rule"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagepool"
	"github.com/wispcloud/wisp/coordinator/internal/api/vm"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	area "github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

type counter struct{}

func (counter) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	return identity.Count(tx, account, t, delta)
}

// story is a served cloud with a zone, a host whose agent does what it is told, and the commands of the network area.
type story struct {
	*apitest.Cloud
	t    *testing.T
	area *area.Area
	zone cloud.ID
	host cloud.ID
	ids  map[string]string // of what was made, by name
	// golds has answers compared with their files: one test does.
	golds bool
}

func newStory(t *testing.T) *story {
	t.Helper()
	s := &story{t: t, zone: cloud.NameID("test", "zone"), host: cloud.NameID("test", "host"), ids: map[string]string{}}
	s.Cloud = apitest.New(t, apitest.Config{
		Make: func(k *seal.Keeper) []api.Command {
			s.area = &area.Area{Seal: k, Counts: counter{}, Sites: compute.Sites{}}
			return slices.Concat(
				physical.Commands(physical.Deps{Area: s.area}), networkoffering.Commands(networkoffering.Deps{Area: s.area}),
				network.Commands(network.Deps{Area: s.area}), address.Commands(address.Deps{Area: s.area}), rule.Commands(rule.Deps{Area: s.area}),
			)
		},
		Entities: slices.Concat(
			zone.Entities(), pod.Entities(), cluster.Entities(), storagepool.Entities(), host.Entities(), offering.Entities(), vm.Entities(), physical.Entities(),
			networkoffering.Entities(), network.Entities(), address.Entities(), rule.Entities(),
		),
		Settings: [][]*settings.Def{area.Settings()},
	})
	s.Update(func(tx *store.Tx) error {
		return errors.Join(
			s.area.Bootstrap(tx),
			tables.Zones.Put(tx, &cloud.Zone{
				ID: s.zone, Name: "zone1", DNS1: netip.MustParseAddr("192.0.2.53"), GuestCIDR: netip.MustParsePrefix("10.1.1.0/24"), Created: tx.Now(),
			}),
			tables.Hosts.Put(tx, &cloud.Host{
				ID: s.host, Name: "host1", ZoneID: s.zone, Number: 1, Status: cloud.HostUp, ResourceState: cloud.HostEnabled,
				Features: []string{"vxlan"}, IP: netip.MustParseAddr("172.16.0.1"),
			}),
		)
	})
	s.Name(s.zone, "zone1")
	s.Name(s.host, "host1")
	s.Name(area.PublicNetworkID(s.zone), "public network")
	return s
}

var macText = regexp.MustCompile(`02:57(:[0-9a-f]{2}){4}`)

// golden compares an answer with its file and with what today's SDK decodes.
func (s *story) golden(name, command string, a *apitest.Answer) *apitest.Answer {
	s.t.Helper()
	s.CheckSDK(command, a)
	if !s.golds {
		return a
	}
	masked := *a
	masked.Raw = macText.ReplaceAll(bytes.Clone(a.Raw), []byte("02:57:<mac>"))
	s.Golden(name, &masked)
	return a
}

// made is Must, with the answer compared, and the object's id kept under a name.
func (s *story) made(name, object, user, command string, params ...string) *apitest.Answer {
	s.t.Helper()
	a := s.Must(user, command, params...)
	s.keep(name, a.String(object+".id"))
	return s.golden(command, command, a)
}

func (s *story) keep(name, id string) {
	s.t.Helper()
	s.ids[name] = id
	parsed, err := cloud.ParseID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Name(parsed, name)
}

// list compares the answer of a list command.
func (s *story) list(user, command string, params ...string) *apitest.Answer {
	s.t.Helper()
	return s.golden(command, command, s.Must(user, command, params...))
}

// observe has every host do all it is told and report so.
func (s *story) observe() {
	s.t.Helper()
	for h := range tables.Hosts.All(s.Read()) {
		s.observeHost(h)
	}
}

func (s *story) observeHost(h *cloud.Host) {
	s.t.Helper()
	r := s.Read()
	o := &hostspec.HostObservation{AcceptedGeneration: r.Index(), SettledGeneration: r.Index()}
	for n := range tables.Networks.All(r) {
		if s.area.Render(r, h.ID, n) != nil {
			o.Networks = append(o.Networks, &hostspec.NetworkObservation{
				Id: n.ID.String(), Ready: true, Incarnation: n.Incarnation, Services: &netspec.Observation{AppliedGeneration: r.Index(), Version: "1.0"},
			})
		}
	}
	spec := &hostspec.HostSpec{}
	if err := s.area.RenderSystem(r, h, spec); err != nil {
		s.t.Fatal(err)
	}
	for _, vm := range spec.GetSystemVms() {
		seen := &hostspec.SystemVMObservation{Vm: &hostspec.VirtualMachineObservation{
			Id: vm.GetId(), State: hostspec.VmState_VM_STATE_RUNNING, StartEpoch: vm.GetStartEpoch(), BootEpoch: vm.GetBootEpoch(),
		}, Connected: !vm.GetStandby(), ImageVersion: "1.0", Services: &netspec.Observation{AppliedGeneration: r.Index(), Version: "1.0"}}
		if vm.GetPower() == hostspec.PowerState_POWER_STATE_STOPPED {
			seen.Vm.State = hostspec.VmState_VM_STATE_STOPPED
		}
		o.SystemVms = append(o.SystemVms, seen)
	}
	s.Update(func(tx *store.Tx) error { return s.area.Fold(tx, h.ID, o) })
}

// async starts a job, has the host observe, and waits for the job.
func (s *story) async(name, object, user, command string, params ...string) {
	s.t.Helper()
	started := s.Call(user, command, params...)
	if started.Status != 200 {
		s.t.Fatalf("%s: %s", command, started.Raw)
	}
	s.observe()
	a := s.Job(user, started.String("jobid"))
	if a.Object["jobstatus"] != 1.0 {
		s.t.Fatalf("%s: %s", command, a.Raw)
	}
	if object == "" {
		s.golden(command, "queryAsyncJobResult", a)
		return
	}
	result := a.String("jobresult." + object + ".id")
	if cmd, _ := s.Registry.Find(command); cmd.Creates() && started.String("id") != result {
		s.t.Errorf("%s answered %s, its job tells %s", command, started.Raw, result)
	}
	s.keep(name, result)
	a.Object, _ = a.Object["jobresult"].(map[string]any)
	s.golden(command, command, a)
}

// replaced calls a command that replaces a router by another one, and has the hosts take their part in it: the successor
// gets ready, is plugged in, and what is left of the other goes.
func (s *story) replaced(command string, params ...string) {
	s.t.Helper()
	job := s.Call("root", command, params...).String("jobid")
	for range 3 {
		s.observe()
	}
	a := s.Job("root", job)
	if a.Object["jobstatus"] != 1.0 {
		s.t.Fatalf("%s: %s", command, a.Raw)
	}
	s.golden(command, "queryAsyncJobResult", a)
}

// infrastructure makes physical network, range and offering.
func (s *story) infrastructure() {
	s.t.Helper()
	s.made("pn", "physicalnetwork", "root", "createPhysicalNetwork", "name", "underlay", "zoneid", s.zone.String(), "vlan", "1000-1999",
		"isolationmethods", "VXLAN", "broadcastdomainrange", "zone", "tags", "fast")
	s.Must("root", "addTrafficType", "physicalnetworkid", s.ids["pn"], "traffictype", "Guest")
	s.made("public traffic", "traffictype", "root", "addTrafficType", "physicalnetworkid", s.ids["pn"], "traffictype", "PUBLIC", "kvmnetworklabel", "cloudbr1")
	s.list("root", "listTrafficTypes", "physicalnetworkid", s.ids["pn"])
	providers := s.list("root", "listNetworkServiceProviders", "physicalnetworkid", s.ids["pn"])
	for i := range 3 {
		at := fmt.Sprintf("networkserviceprovider.%d.", i)
		s.keep(providers.String(at+"name"), providers.String(at+"id"))
	}
	elements := s.list("root", "listVirtualRouterElements", "nspid", s.ids["VirtualRouter"])
	s.keep("element", elements.String("virtualrouterelement.id"))
	s.golden("configureVirtualRouterElement", "configureVirtualRouterElement",
		s.Must("root", "configureVirtualRouterElement", "id", s.ids["element"], "enabled", "true"))
	s.golden("updateNetworkServiceProvider", "updateNetworkServiceProvider",
		s.Must("root", "updateNetworkServiceProvider", "id", s.ids["VirtualRouter"], "state", "Enabled"))
	s.golden("updatePhysicalNetwork", "updatePhysicalNetwork", s.Must("root", "updatePhysicalNetwork", "id", s.ids["pn"], "state", "Enabled"))
	s.list("root", "listPhysicalNetworks", "zoneid", s.zone.String())
	s.Update(func(tx *store.Tx) error {
		return tables.Zones.Edit(tx, s.zone, func(z *cloud.Zone) error { z.AllocationState = cloud.AllocationEnabled; return nil })
	})
	s.made("range", "vlan", "root", "createVlanIpRange", "zoneid", s.zone.String(), "vlan", "untagged", "gateway", "198.51.100.1",
		"netmask", "255.255.255.0", "startip", "198.51.100.10", "endip", "198.51.100.13", "forvirtualnetwork", "true")
	s.list("root", "listVlanIpRanges", "zoneid", s.zone.String())
	s.made("offering", "networkoffering", "root", "createNetworkOffering", "name", "isolated", "displaytext", "Isolated", "guestiptype", "isolated",
		"traffictype", "GUEST", "supportedservices", "Dhcp,Dns,UserData,SourceNat,StaticNat,Firewall,PortForwarding", "conservemode", "true",
		"serviceproviderlist[0].service", "Dhcp", "serviceproviderlist[0].provider", "VirtualRouter",
		"servicecapabilitylist[0].service", "SourceNat", "servicecapabilitylist[0].capabilitytype", "SupportedSourceNatTypes",
		"servicecapabilitylist[0].capabilityvalue", "peraccount", "tags", "fast")
	s.golden("updateNetworkOffering", "updateNetworkOffering", s.Must("root", "updateNetworkOffering", "id", s.ids["offering"], "state", "Enabled"))
	s.list("a-user", "listNetworkOfferings")
	s.list("root", "listSupportedNetworkServices")
	for _, key := range []string{"1", "-1", "0"} { // the others have 0 and are older
		s.Must("root", "updateNetworkOffering", "id", s.ids["offering"], "sortkey", key)
		first := s.Must("root", "listNetworkOfferings").String("networkoffering.0.id") == s.ids["offering"]
		if first != (key == "1") {
			s.t.Errorf("with the sort key %s the offering is first: %v", key, first)
		}
	}
	for ascending, key := range map[string]string{"true": "-1", "false": "1"} {
		s.Update(func(tx *store.Tx) error { return s.Settings.Set(tx, "sortkey.algorithm", ascending) })
		s.Must("root", "updateNetworkOffering", "id", s.ids["offering"], "sortkey", key)
		if s.Must("root", "listNetworkOfferings").String("networkoffering.0.id") != s.ids["offering"] {
			s.t.Errorf("with sortkey.algorithm=%s and the sort key %s the offering is not first", ascending, key)
		}
	}
	s.Must("root", "updateNetworkOffering", "id", s.ids["offering"], "sortkey", "0")
}

// deploy writes a VM of an account on a network and has it run.
func (s *story) deploy(user string) {
	s.t.Helper()
	account := s.Users[user].Account
	id := cloud.NameID("test", "vm")
	net, _ := cloud.ParseID(s.ids["network"])
	s.Update(func(tx *store.Tx) error {
		n, _ := tables.Networks.Get(tx, net)
		row := &cloud.VM{
			ID: id, Name: "vm1", DisplayName: "VM 1", AccountID: account.ID, DomainID: account.DomainID, ZoneID: s.zone, HostID: s.host,
			State: cloud.VMRunning, InstanceName: "i-2-3-VM",
		}
		_, err := s.area.AllocateNIC(tx, row, n, area.NICRequest{Default: true})
		return errors.Join(err, s.area.Prepare(tx, row), tables.VMs.Put(tx, row))
	})
	s.keep("vm", id.String())
	s.observe()
}

// TestStory calls every command of the network area once, in the order of a network's life.
func TestStory(t *testing.T) {
	s := newStory(t)
	s.golds = true
	s.infrastructure()
	s.made("network", "network", "a-user", "createNetwork", "name", "net", "displaytext", "my network", "networkofferingid", s.ids["offering"],
		"zoneid", s.zone.String())
	s.deploy("a-user")
	s.list("a-user", "listNetworks")
	s.golden("listNetworks-root", "listNetworks", s.Must("root", "listNetworks", "listall", "true"))
	s.async("ip", "ipaddress", "a-user", "associateIpAddress", "networkid", s.ids["network"])
	s.list("a-user", "listPublicIpAddresses", "associatednetworkid", s.ids["network"])
	s.async("rule", "firewallrule", "a-user", "createFirewallRule", "ipaddressid", s.ids["ip"], "protocol", "tcp", "startport", "22",
		"endport", "23", "cidrlist", "192.0.2.0/24,203.0.113.0/24")
	s.list("a-user", "listFirewallRules", "ipaddressid", s.ids["ip"])
	s.async("egress", "firewallrule", "a-user", "createEgressFirewallRule", "networkid", s.ids["network"], "protocol", "icmp", "icmptype", "8")
	s.list("a-user", "listEgressFirewallRules", "networkid", s.ids["network"])
	s.async("forward", "portforwardingrule", "a-user", "createPortForwardingRule", "ipaddressid", s.ids["ip"], "protocol", "tcp",
		"publicport", "80", "privateport", "8080", "virtualmachineid", s.ids["vm"])
	s.list("a-user", "listPortForwardingRules")
	s.async("forward", "portforwardingrule", "a-user", "updatePortForwardingRule", "id", s.ids["forward"], "privateport", "8081")
	second := s.Call("a-user", "associateIpAddress", "networkid", s.ids["network"])
	s.keep("static", second.String("id"))
	s.observe()
	s.Job("a-user", second.String("jobid"))
	s.golden("enableStaticNat", "enableStaticNat", s.Must("a-user", "enableStaticNat", "ipaddressid", s.ids["static"], "virtualmachineid", s.ids["vm"]))
	s.async("open", "ipforwardingrule", "a-user", "createIpForwardingRule", "ipaddressid", s.ids["static"], "protocol", "tcp", "startport", "443")
	s.list("a-user", "listIpForwardingRules")
	if a := s.Must("a-user", "listPortForwardingRules"); a.Get("count") != 1.0 {
		t.Errorf("rules of a static NAT address are among the port forwarding rules: %s", a.Raw)
	}
	s.list("root", "listRouters", "listall", "true")
	xml := s.CallXML("a-user", "listPortForwardingRules")
	s.Golden("listPortForwardingRules", xml)
	s.golden("updateNetwork", "updateNetwork", s.Must("a-user", "updateNetwork", "id", s.ids["network"], "displaytext", "renamed"))
	s.async("", "", "a-user", "restartNetwork", "id", s.ids["network"])
	s.foreign()
	s.routerCalls()

	s.async("", "", "a-user", "deletePortForwardingRule", "id", s.ids["forward"])
	s.async("", "", "a-user", "deleteIpForwardingRule", "id", s.ids["open"])
	s.async("", "", "a-user", "disableStaticNat", "ipaddressid", s.ids["static"])
	s.async("", "", "a-user", "deleteEgressFirewallRule", "id", s.ids["egress"])
	s.async("", "", "a-user", "deleteFirewallRule", "id", s.ids["rule"])
	s.async("", "", "a-user", "disassociateIpAddress", "id", s.ids["ip"])
	vmID, _ := cloud.ParseID(s.ids["vm"])
	s.Update(func(tx *store.Tx) error {
		row, _ := tables.VMs.Get(tx, vmID)
		return errors.Join(s.area.Release(tx, row), s.area.FreeNICs(tx, row), tables.VMs.Delete(tx, vmID))
	})
	s.async("", "", "a-user", "deleteNetwork", "id", s.ids["network"])
	for _, id := range []struct{ command, name string }{
		{"deleteNetworkOffering", "offering"}, {"deleteVlanIpRange", "range"}, {"deletePhysicalNetwork", "pn"},
	} {
		s.golden(id.command, id.command, s.Must("root", id.command, "id", s.ids[id.name]))
	}
	for _, command := range []string{"listNetworks", "listRouters", "listPublicIpAddresses", "listVlanIpRanges", "listPhysicalNetworks", "listFirewallRules"} {
		if a := s.Must("root", command, "listall", "true"); len(a.Object) != 0 {
			t.Errorf("%s: left %s", command, a.Raw)
		}
	}
}

// routerCalls stops and starts the router, as a namespace and then as a system VM, and destroys it.
func (s *story) routerCalls() {
	s.t.Helper()
	router := func() string {
		return s.Must("root", "listRouters", "listall", "true").String("router.0.id")
	}
	s.keep("router", router())
	s.async("", "", "root", "rebootRouter", "id", router())
	s.async("", "", "root", "stopRouter", "id", router())
	big := cloud.NameID("service_offering", "System Offering For Software Router")
	s.Name(big, "router offering")
	s.golden("changeServiceForRouter", "changeServiceForRouter",
		s.Must("root", "changeServiceForRouter", "id", router(), "serviceofferingid", big.String()))
	s.systemVMs("vm")
	s.async("", "", "root", "startRouter", "id", router())
	s.golden("listRouters-vm", "listRouters", s.Must("root", "listRouters", "listall", "true"))
	s.list("root", "listSystemVms")
	s.list("root", "upgradeRouterTemplate")
	s.async("", "", "root", "rebootSystemVm", "id", router())
	s.forced("rebootRouter", router())
	s.forced("rebootSystemVm", router())
	s.async("", "", "root", "stopSystemVm", "id", router())
	s.golden("changeServiceForSystemVm", "changeServiceForSystemVm",
		s.Must("root", "changeServiceForSystemVm", "id", router(), "serviceofferingid", big.String()))
	s.async("", "", "root", "startSystemVm", "id", router())
	s.forced("stopRouter", router())
	s.async("", "", "root", "startSystemVm", "id", router())
	s.replaced("scaleSystemVm", "id", router(), "serviceofferingid", big.String())
	s.keep("router", router()) // another one, of the size asked for
	s.async("", "", "root", "destroySystemVm", "id", router())
	s.systemVMs("host")
	s.async("", "", "a-user", "restartNetwork", "id", s.ids["network"])
	s.keep("router2", router())
	s.async("", "", "root", "destroyRouter", "id", router())
}

// forced calls a command with and without forced=true for a router that is a system VM: only then does its host leave the
// guest no time to power itself off.
func (s *story) forced(command, router string) {
	s.t.Helper()
	for _, forced := range []bool{false, true} {
		started := s.Call("root", command, "id", router, "forced", strconv.FormatBool(forced))
		if started.Status != 200 {
			s.t.Fatalf("%s: %s", command, started.Raw)
		}
		spec := &hostspec.HostSpec{}
		h, _ := tables.Hosts.Get(s.Read(), s.host)
		if err := s.area.RenderSystem(s.Read(), h, spec); err != nil {
			s.t.Fatal(err)
		}
		for _, vm := range spec.GetSystemVms() {
			if grace := vm.GetStopGraceSeconds(); (grace == 0) != forced {
				s.t.Errorf("%s forced=%t: %s has a grace of %d s", command, forced, vm.GetInstanceName(), grace)
			}
		}
		if len(spec.GetSystemVms()) != 1 {
			s.t.Fatalf("the host has %d system VMs", len(spec.GetSystemVms()))
		}
		s.observe()
		if a := s.Job("root", started.String("jobid")); a.Object["jobstatus"] != 1.0 {
			s.t.Fatalf("%s forced=%t: %s", command, forced, a.Raw)
		}
		if !forced && strings.HasPrefix(command, "stop") {
			s.async("", "", "root", "startRouter", "id", router)
		}
	}
}

// systemVMs has routers run where from now on, and makes what system VMs need.
func (s *story) systemVMs(where string) {
	s.t.Helper()
	pod, clusterID, pool, image := cloud.NameID("test", "pod"), cloud.NameID("test", "cluster"), cloud.NameID("test", "pool"), cloud.NameID("test", "image")
	for id, name := range map[cloud.ID]string{pod: "pod", clusterID: "cluster", pool: "pool", image: "image", area.ControlNetworkID(s.zone): "control network"} {
		s.Name(id, name)
	}
	s.Update(func(tx *store.Tx) error {
		return errors.Join(
			settings.New(area.Settings()).Set(tx, "router.placement", where),
			tables.Pods.Put(tx, &cloud.Pod{ID: pod, ZoneID: s.zone, Name: "pod1", AllocationState: cloud.AllocationEnabled}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: clusterID, ZoneID: s.zone, PodID: pod, Name: "c1", AllocationState: cloud.AllocationEnabled}),
			tables.StoragePools.Put(tx, &cloud.StoragePool{ID: pool, ZoneID: s.zone, HostID: s.host, Name: "p1", State: cloud.PoolUp, CapacityBytes: 1 << 40}),
			tables.Templates.Put(tx, &cloud.Template{
				ID: image, Name: "SystemVM Template (KVM)", Format: cloud.FormatSystemVM, Type: cloud.TemplateSystem, State: cloud.TemplateReady,
				SHA256: strings.Repeat("ab", 32), Version: "1.0", Created: tx.Now(),
			}),
			tables.Hosts.Edit(tx, s.host, func(h *cloud.Host) error {
				h.PodID, h.ClusterID, h.CPUs, h.CPUMHz, h.MemoryMiB = pod, clusterID, 4, 2000, 4096
				return nil
			}),
			tables.Zones.Edit(tx, s.zone, func(z *cloud.Zone) error { z.AllocationState = cloud.AllocationEnabled; return nil }),
		)
	})
}

// foreign tries everything with ids of another account, and with ids that do not exist: both read alike.
func (s *story) foreign() {
	s.t.Helper()
	unknown := cloud.NameID("test", "nothing").String()
	for _, c := range []struct {
		command, parameter, name string
		more                     []string
	}{
		{"deleteNetwork", "id", "network", nil},
		{"updateNetwork", "id", "network", []string{"name", "x"}},
		{"restartNetwork", "id", "network", nil},
		{"associateIpAddress", "networkid", "network", nil},
		{"disassociateIpAddress", "id", "ip", nil},
		{"createFirewallRule", "ipaddressid", "ip", []string{"protocol", "tcp"}},
		{"createEgressFirewallRule", "networkid", "network", []string{"protocol", "tcp"}},
		{"createPortForwardingRule", "ipaddressid", "ip", []string{"protocol", "tcp", "publicport", "1", "privateport", "1", "virtualmachineid", s.ids["vm"]}},
		{"deleteFirewallRule", "id", "rule", nil},
		{"deleteEgressFirewallRule", "id", "egress", nil},
		{"deletePortForwardingRule", "id", "forward", nil},
		{"updatePortForwardingRule", "id", "forward", []string{"privateport", "1"}},
		{"updatePortForwardingRule", "ipaddressid", "ip", []string{"protocol", "tcp", "publicport", "80", "privateport", "1"}},
		{"enableStaticNat", "ipaddressid", "static", []string{"virtualmachineid", s.ids["vm"]}},
		{"disableStaticNat", "ipaddressid", "static", nil},
		{"createIpForwardingRule", "ipaddressid", "static", []string{"protocol", "tcp", "startport", "1"}},
		{"deleteIpForwardingRule", "id", "open", nil},
		{"listIpForwardingRules", "ipaddressid", "static", nil},
		{"listFirewallRules", "ipaddressid", "ip", nil},
		{"listEgressFirewallRules", "networkid", "network", nil},
		{"listPortForwardingRules", "networkid", "network", nil},
		{"listPublicIpAddresses", "associatednetworkid", "network", nil},
	} {
		for _, user := range []string{"b-user", "b-admin", "a-other"} {
			for _, id := range []string{s.ids[c.name], unknown} {
				a := s.Call(user, c.command, append([]string{c.parameter, id}, c.more...)...)
				text, code := a.Error()
				want := fmt.Sprintf("Invalid parameter %s value=%s due to incorrect long value format, or entity does not exist", c.parameter, id)
				if code != 431 || text != want {
					s.t.Errorf("%s by %s with %s: %s", c.command, user, c.name, a.Raw)
				}
			}
		}
	}
	// Nor does the owner reach an egress rule by the ingress rules' command, or a free address by anything.
	free := s.Must("root", "listPublicIpAddresses", "state", "Free", "listall", "true").String("publicipaddress.id")
	for _, params := range [][]string{
		{"deleteFirewallRule", "id", s.ids["egress"]},
		{"deleteEgressFirewallRule", "id", s.ids["rule"]},
		{"createFirewallRule", "ipaddressid", free, "protocol", "tcp"},
		{"disassociateIpAddress", "id", free},
	} {
		a := s.Call("a-user", params[0], params[1:]...)
		if text, code := a.Error(); code != 431 || !strings.HasSuffix(text, "or entity does not exist") {
			s.t.Errorf("%v by the owner: %s", params, a.Raw)
		}
	}
	for _, user := range []string{"b-user", "b-admin", "a-other"} {
		for _, command := range []string{"listNetworks", "listPublicIpAddresses", "listFirewallRules", "listEgressFirewallRules", "listPortForwardingRules"} {
			for _, params := range [][]string{{"listall", "true"}, {"id", s.ids["network"]}, {"id", s.ids["ip"]}, {"id", s.ids["rule"]}, {"id", s.ids["forward"]}, {"id", s.ids["egress"]}} {
				if a := s.Call(user, command, params...); a.Status == 200 && len(a.Object) != 0 {
					s.t.Errorf("%s %v by %s: %s", command, params, user, a.Raw)
				}
			}
		}
	}
	if a := s.Must("a-admin", "listNetworks", "listall", "true"); a.Get("count") != 1.0 || a.Get("network.vlan") != nil {
		s.t.Errorf("the domain's admin sees %s", a.Raw)
	}
	for _, command := range []string{"createPhysicalNetwork", "createVlanIpRange", "createNetworkOffering", "listVlanIpRanges", "listPhysicalNetworks"} {
		if a := s.Call("a-user", command, "name", "x", "zoneid", s.zone.String()); a.Status != 432 {
			s.t.Errorf("%s by a user: %d %s", command, a.Status, a.Raw)
		}
	}
}

// The commands keep 4.1's kinds, types and required parameters.
func TestFacts(t *testing.T) {
	s := newStory(t)
	allow := map[string]bool{
		// Newer clients leave it out; the network's name stands for it.
		"createNetwork.displaytext": true,
		// Newer clients name the rule by its id.
		"updatePortForwardingRule.ipaddressid": true, "updatePortForwardingRule.protocol": true,
		"updatePortForwardingRule.publicport": true, "updatePortForwardingRule.privateport": true,
		// Ranges without IPv6 addresses need these; 4.1 takes either.
		"createVlanIpRange.startip": true, "createVlanIpRange.gateway": true, "createVlanIpRange.netmask": true,
		// autoselect stands for it.
		"migrateSystemVm.hostid": true,
	}
	bad := apitest.CheckFacts(s.Registry, allow)
	bad = slices.DeleteFunc(bad, func(text string) bool {
		return strings.HasPrefix(text, "queryAsync") || strings.HasPrefix(text, "listAsync")
	})
	if diff := cmp.Diff([]string(nil), bad); diff != "" {
		t.Error(diff)
	}
}

// Refusals carry the codes that clients know.
func TestCodes(t *testing.T) {
	s := newStory(t)
	s.infrastructure()
	net := s.Must("a-user", "createNetwork", "name", "net", "networkofferingid", s.ids["offering"], "zoneid", s.zone.String())
	s.keep("network", net.String("network.id"))
	s.deploy("a-user")
	s.async("ip", "ipaddress", "a-user", "associateIpAddress", "networkid", s.ids["network"])
	s.async("rule", "firewallrule", "a-user", "createFirewallRule", "ipaddressid", s.ids["ip"], "protocol", "tcp", "startport", "22")
	for _, c := range []struct {
		name, user, command string
		params              []string
		code                int
		text                string
	}{
		{"conflict", "a-user", "createFirewallRule", []string{"ipaddressid", s.ids["ip"], "protocol", "tcp", "startport", "20", "endport", "30"}, 537, "The rule conflicts with rule"},
		{"in use", "a-user", "deleteNetwork", []string{"id", s.ids["network"]}, 536, "not all of its VMs are expunged"},
		{"range in use", "root", "deleteVlanIpRange", []string{"id", s.ids["range"]}, 536, "198.51.100.10 is in use"},
		{"no capacity", "a-user", "associateIpAddress", []string{"networkid", s.ids["network"], "ipaddress", "203.0.113.1"}, 533, "is not free"},
		{"missing", "a-user", "createNetwork", []string{"name", "x", "zoneid", s.zone.String()}, 431, "due to missing parameter networkofferingid"},
		{"bad address", "a-user", "createNetwork", []string{"name", "x", "zoneid", s.zone.String(), "networkofferingid", s.ids["offering"], "gateway", "10.1.1"}, 431, "gateway"},
		{"source NAT stays", "a-user", "disassociateIpAddress", []string{"id", s.sourceNAT()}, 431, "used for source nat purposes"},
		{"neither network nor zone", "a-user", "associateIpAddress", nil, 431, "Parameter networkid or zoneid is needed"},
		{"vpc", "a-user", "associateIpAddress", []string{"vpcid", s.ids["network"]}, 431, "entity does not exist"},
		{"shared", "root", "createNetworkOffering", []string{"name", "x", "displaytext", "x", "guestiptype", "Shared", "traffictype", "Guest", "supportedservices", "Dhcp"}, 431, "Isolated networks"},
		{"unknown service", "root", "createNetworkOffering", []string{"name", "x", "displaytext", "x", "guestiptype", "Isolated", "traffictype", "Guest", "supportedservices", "Vpn"}, 431, `Invalid service "Vpn"`},
		{"same name", "root", "createNetworkOffering", []string{"name", "isolated", "displaytext", "x", "guestiptype", "Isolated", "traffictype", "Guest", "supportedservices", "Dhcp"}, 431, "already exists"},
		{"provider", "root", "createNetworkOffering", []string{
			"name", "x", "displaytext", "x", "guestiptype", "Isolated", "traffictype", "Guest", "supportedservices", "Dhcp",
			"serviceproviderlist[0].service", "Dhcp", "serviceproviderlist[0].provider", "Netscaler",
		}, 431, "Invalid service provider Netscaler"},
		{"default stays", "root", "deleteNetworkOffering", []string{"id", cloud.NameID("network_offering", area.DefaultOffering).String()}, 431, "can't be deleted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.Read().Index()
			a := s.Call(c.user, c.command, c.params...)
			if text, code := a.Error(); code != c.code || !strings.Contains(text, c.text) {
				t.Errorf("got %s\nwant %d %s", a.Raw, c.code, c.text)
			}
			if s.Read().Index() > before+1 { // the event of a failed call may be one
				t.Error("a refused call left commits")
			}
		})
	}
}

func (s *story) sourceNAT() string {
	s.t.Helper()
	return s.Must("a-user", "listPublicIpAddresses", "issourcenat", "true").String("publicipaddress.id")
}
