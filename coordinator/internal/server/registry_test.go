package server

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
)

// registry is that of the whole program.
func registry(t *testing.T) *api.Registry {
	t.Helper()
	s, err := Open(t.Context(), testConfig(t, "one"), "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.registry
}

// wanted are the commands that the first release has.
const wanted = `listApis listCapabilities queryAsyncJobResult listAsyncJobs listUsers getUser registerUserKeys getUserKeys
listAccounts listDomains listEvents listConfigurations updateConfiguration createZone listZones updateZone deleteZone
createPhysicalNetwork listPhysicalNetworks updatePhysicalNetwork addTrafficType listTrafficTypes
listNetworkServiceProviders updateNetworkServiceProvider listVirtualRouterElements configureVirtualRouterElement
createPod listPods deletePod addCluster listClusters deleteCluster addHost listHosts deleteHost createStoragePool
listStoragePools addSecondaryStorage listImageStores createVlanIpRange listVlanIpRanges listHypervisors listOsTypes
listOsCategories createServiceOffering listServiceOfferings deleteServiceOffering listDiskOfferings
listNetworkOfferings listSupportedNetworkServices registerTemplate listTemplates deleteTemplate createNetwork
listNetworks deleteNetwork restartNetwork listRouters listPublicIpAddresses associateIpAddress disassociateIpAddress
createFirewallRule listFirewallRules deleteFirewallRule createPortForwardingRule listPortForwardingRules
deletePortForwardingRule deployVirtualMachine listVirtualMachines startVirtualMachine stopVirtualMachine
rebootVirtualMachine destroyVirtualMachine updateVirtualMachine listVolumes registerSSHKeyPair createSSHKeyPair
listSSHKeyPairs deleteSSHKeyPair resetPasswordForVirtualMachine getVMPassword listResourceLimits listCapacity`

func TestEveryCommandIsThere(t *testing.T) {
	g := registry(t)
	for _, name := range append(strings.Fields(wanted), "login", "logout") {
		if c, ok := g.Find(name); !ok || c.Name != name {
			t.Errorf("%s is not there", name)
		}
	}
}

// Where ours differs from 4.1 on purpose, with the reason.
var different = map[string]bool{
	// The account's role comes from accounttype, which newer clients leave out with a user's account.
	"createAccount.accounttype": true,
	// A host joins with a token; credentials are accepted from tools that send them.
	"addHost.username": true, "addHost.password": true,
	// Newer versions take several domains, and let these out.
	"createDiskOffering.domainid": true, "createServiceOffering.domainid": true, "createNetwork.displaytext": true,
	"createStoragePool.clusterid": true, "createStoragePool.podid": true, "createStoragePool.tags": true,
	"registerTemplate.zoneid": true,
	// Ranges are of IPv4 addresses, which need all of these.
	"createVlanIpRange.gateway": true, "createVlanIpRange.netmask": true, "createVlanIpRange.startip": true,
}

func TestCommandsAgreeWithFacts(t *testing.T) {
	for _, bad := range apitest.CheckFacts(registry(t), different) {
		t.Error(bad)
	}
}

// Everything a client or a person reads is described, in sentences of our own.
func TestEverythingIsDescribed(t *testing.T) {
	for _, d := range registry(t).Describe(api.Everyone) {
		if !strings.HasSuffix(d.Description, ".") {
			t.Errorf("%s: the description is no sentence: %q", d.Name, d.Description)
		}
		for _, p := range d.Params {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", d.Name, p.Name)
			}
		}
		var walk func(prefix string, fields []api.FieldDescription)
		walk = func(prefix string, fields []api.FieldDescription) {
			for _, f := range fields {
				if f.Description == "" {
					t.Errorf("%s%s has no description", prefix, f.Name)
				}
				walk(prefix+f.Name+".", f.Response)
			}
		}
		walk(d.Name+" answers ", d.Response)
	}
}
