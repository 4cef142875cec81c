package network

import (
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// DefaultOffering is the name of the network offering for Isolated networks with a router.
const DefaultOffering = "DefaultIsolatedNetworkOfferingWithSourceNatService"

// routerOffering is the size of routers that are system VMs, where a network offering names no other.
const routerOffering = "System Offering For Software Router"

func routerOfferingID() cloud.ID { return cloud.NameID("service_offering", routerOffering) }

// defaultOffering is a network offering that every cloud has, as CloudStack 4.1 makes it.
type defaultOffering struct {
	name, text string
	traffic    string // "": Guest
	guest      cloud.GuestType
	required   bool // Availability
	vlan       bool // SpecifyVLAN
	ranges     bool // SpecifyIPRanges
	conserve   bool
	vpc        bool
	// provider of services, but of those in others.
	provider string
	services []string
	others   map[string]string
	// elastic is the capability of StaticNat and Lb to give each VM an address.
	elastic bool
	// grows: the offering is there without the services that this version does not have, and gets them from one that does.
	// The others are there as a whole, and disabled while something is missing.
	grows bool
}

// guestServices are those that any guest network with addresses has.
var guestServices = []string{Dhcp, DNS, UserData}

// defaultOfferings are found by these names by scripts and by clients. Their names are ids, too: one that was renamed is
// not made again.
var defaultOfferings = []defaultOffering{
	{name: "System-Public-Network", traffic: "Public", guest: cloud.Isolated, ranges: true},
	{name: "System-Management-Network", traffic: "Management", guest: cloud.Isolated},
	{name: "System-Control-Network", traffic: "Control", guest: cloud.Isolated},
	{name: "System-Storage-Network", traffic: "Storage", guest: cloud.Isolated, ranges: true},
	{name: "System-Private-Gateway-Network-Offering", traffic: Guest, guest: cloud.Isolated, vlan: true, ranges: true},
	{
		name: "DefaultSharedNetworkOfferingWithSGService", text: "Offering for Shared Security group enabled networks",
		guest: cloud.Shared, vlan: true, ranges: true, conserve: true, provider: VirtualRouter, services: guestServices,
		others: map[string]string{SecurityGroup: securityGroupProvider},
	},
	{
		name: "DefaultSharedNetworkOffering", text: "Offering for Shared networks",
		guest: cloud.Shared, vlan: true, ranges: true, conserve: true, provider: VirtualRouter, services: guestServices,
	},
	{
		name: DefaultOffering, text: "Offering for Isolated networks with Source Nat service enabled",
		guest: cloud.Isolated, required: true, conserve: true, provider: VirtualRouter, grows: true,
		services: []string{Dhcp, DNS, UserData, SourceNat, StaticNat, Firewall, PortForwarding, LB, VPN},
	},
	{
		name: "DefaultIsolatedNetworkOffering", text: "Offering for Isolated networks with no Source Nat service",
		guest: cloud.Isolated, vlan: true, ranges: true, conserve: true, provider: VirtualRouter, services: guestServices,
	},
	{
		name: "DefaultSharedNetscalerEIPandELBNetworkOffering", text: "Offering for Shared networks with Elastic IP and Elastic LB capabilities",
		guest: cloud.Shared, vlan: true, ranges: true, conserve: true, provider: VirtualRouter, services: guestServices, elastic: true,
		others: map[string]string{SecurityGroup: securityGroupProvider, StaticNat: netscaler, LB: netscaler},
	},
	{
		name: "DefaultIsolatedNetworkOfferingForVpcNetworks", text: "Offering for Isolated Vpc networks with Source Nat service enabled",
		guest: cloud.Isolated, vpc: true, provider: vpcVirtualRouter,
		services: []string{Dhcp, DNS, UserData, SourceNat, StaticNat, PortForwarding, LB, VPN, NetworkACL},
	},
	{
		name: "DefaultIsolatedNetworkOfferingForVpcNetworksNoLB", text: "Offering for Isolated Vpc networks with Source Nat service enabled and LB service Disabled",
		guest: cloud.Isolated, vpc: true, provider: vpcVirtualRouter,
		services: []string{Dhcp, DNS, UserData, SourceNat, StaticNat, PortForwarding, VPN, NetworkACL},
	},
	{
		name: "QuickCloudNoServices", text: "Offering for QuickCloud with no services",
		guest: cloud.Shared, vlan: true, ranges: true, conserve: true,
	},
}

// Bootstrap writes what every cloud has of this area. It may be called again, at each start of a leader: it adds what
// came with a newer version, and lets be what an operator has renamed, disabled or taken the name of.
func (a *Area) Bootstrap(tx *store.Tx) error {
	if !tables.ServiceOfferings.Has(tx, routerOfferingID()) {
		err := tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{
			ID: routerOfferingID(), Name: routerOffering, DisplayText: routerOffering, CPUs: 1, CPUMHz: 500, MemoryMiB: 128,
			StorageType: "local", System: true, SystemVM: "domainrouter", Default: true, OfferHA: true, Created: tx.Now(),
		})
		if err != nil {
			return err
		}
	}
	for _, d := range defaultOfferings {
		if err := d.seed(tx); err != nil {
			return err
		}
	}
	return nil
}

// seed makes one, or brings it up to this version.
func (d *defaultOffering) seed(tx *store.Tx) error {
	id := cloud.NameID("network_offering", d.name)
	o, there := tables.NetworkOfferings.Get(tx, id)
	if !there {
		if _, taken := tables.NetworkOfferings.First(tx, "name", store.K(d.name)); taken {
			return nil
		}
		o = d.row()
		o.ID, o.Created = id, tx.Now()
		return tables.NetworkOfferings.Put(tx, o)
	}
	changed := false
	if d.grows && len(o.Services) < len(d.offered()) {
		o.Services, changed = d.offered(), true
	}
	if o.Held && Lacks(o) == "" {
		o.State, o.Held, changed = cloud.OfferingEnabled, false, true
	}
	if !changed {
		return nil
	}
	return tables.NetworkOfferings.Put(tx, o)
}

func (d *defaultOffering) row() *cloud.NetworkOffering {
	o := &cloud.NetworkOffering{
		Name: d.name, DisplayText: d.text, TrafficType: d.traffic, GuestType: d.guest, State: cloud.OfferingEnabled,
		Availability: "Optional", Services: d.offered(), SpecifyVLAN: d.vlan, SpecifyIPRanges: d.ranges, ConserveMode: d.conserve,
		Default: true, System: d.traffic != "", ForVPC: d.vpc, ServiceOfferingID: routerOfferingID(),
	}
	if d.required {
		o.Availability = "Required"
	}
	if o.System {
		o.DisplayText, o.ServiceOfferingID = d.name, cloud.ID{}
		return o
	}
	o.TrafficType = Guest
	if Lacks(o) != "" {
		o.State, o.Held = cloud.OfferingDisabled, true
	}
	return o
}

// offered are the services of its row, in the order of 4.1's names, those of others last.
func (d *defaultOffering) offered() []cloud.OfferedService {
	var out []cloud.OfferedService
	for _, name := range allServices {
		provider := d.others[name]
		if slices.Contains(d.services, name) {
			provider = d.provider
		}
		if provider == "" || d.grows && !provided(name, provider) {
			continue
		}
		s := cloud.OfferedService{Name: name, Providers: []string{provider}}
		switch {
		case !d.elastic:
		case name == LB:
			s.Capabilities = map[string]string{"ElasticLb": "true", "SupportedLBIsolation": "shared"}
		case name == StaticNat:
			s.Capabilities = map[string]string{"ElasticIp": "true"}
		}
		out = append(out, s)
	}
	return out
}

// Lacks tells what networks of an offering need that this version does not have; "" where they can be made.
func Lacks(o *cloud.NetworkOffering) string {
	var lacks []string
	if o.GuestType != cloud.Isolated {
		lacks = append(lacks, o.GuestType.String()+" networks")
	}
	if o.ForVPC {
		lacks = append(lacks, "VPCs")
	}
	for _, s := range o.Services {
		for _, p := range s.Providers {
			if !provided(s.Name, p) {
				lacks = append(lacks, "service "+s.Name+" of provider "+p)
			}
		}
	}
	return strings.Join(lacks, ", ")
}

// provided tells whether this version has a service of a provider.
func provided(service, provider string) bool {
	_, ok := ServiceByName(service)
	return ok && provider == VirtualRouter
}
