package network

import (
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// VirtualRouter is the provider that wisp-netsvc stands behind.
const VirtualRouter = "VirtualRouter"

// Providers that offerings of every cloud name, and that provide nothing in this version.
const (
	vpcVirtualRouter      = "VpcVirtualRouter"
	securityGroupProvider = "SecurityGroupProvider"
	netscaler             = "Netscaler"
)

// Names of network services, as the API spells them.
const (
	Dhcp           = "Dhcp"
	DNS            = "Dns"
	UserData       = "UserData"
	SourceNat      = "SourceNat"
	StaticNat      = "StaticNat"
	Firewall       = "Firewall"
	PortForwarding = "PortForwarding"
	LB             = "Lb"
	VPN            = "Vpn"
	SecurityGroup  = "SecurityGroup"
	NetworkACL     = "NetworkACL"
)

// allServices are those of CloudStack 4.1 that offerings of every cloud have, in the order of Services, with those that
// this version does not have behind them.
var allServices = []string{Dhcp, DNS, UserData, SourceNat, StaticNat, Firewall, PortForwarding, LB, VPN, SecurityGroup, NetworkACL}

// Capability is one property of a service.
type Capability struct{ Name, Value string }

// Service is a network service that the virtual router provides, with what it can do.
type Service struct {
	Name         string
	Capabilities []Capability
}

// Services lists the network services of this version, in the order they are shown.
var Services = []Service{
	{Name: Dhcp},
	{Name: DNS, Capabilities: []Capability{{"AllowDnsSuffixModification", "true"}}},
	{Name: UserData},
	{Name: SourceNat, Capabilities: []Capability{{"SupportedSourceNatTypes", "peraccount"}, {"RedundantRouter", "false"}}},
	{Name: StaticNat, Capabilities: []Capability{{"ElasticIp", "false"}, {"AssociatePublicIP", "false"}}},
	{Name: Firewall, Capabilities: []Capability{
		{"SupportedProtocols", "tcp,udp,icmp"},
		{"SupportedEgressProtocols", "tcp,udp,icmp,all"},
		{"SupportedTrafficDirection", "ingress,egress"},
		{"MultipleIps", "true"},
		{"TrafficStatistics", "per public ip"},
	}},
	{Name: PortForwarding, Capabilities: []Capability{{"SupportedProtocols", "tcp,udp"}}},
}

// ServiceByName finds a service, whatever the case of its name.
func ServiceByName(name string) (Service, bool) {
	i := slices.IndexFunc(Services, func(s Service) bool { return strings.EqualFold(s.Name, name) })
	if i < 0 {
		return Service{}, false
	}
	return Services[i], true
}

func serviceNames() []string {
	names := make([]string, len(Services))
	for i, s := range Services {
		names[i] = s.Name
	}
	return names
}

// addProviders writes the providers that a new physical network has in CloudStack 4.1. The latter two provide nothing
// in this version: no offering can name them.
func addProviders(tx *store.Tx, p *cloud.PhysicalNetwork) error {
	for _, d := range []struct {
		name     string
		services []string
		element  bool
	}{
		{VirtualRouter, serviceNames(), true},
		{vpcVirtualRouter, nil, true},
		{securityGroupProvider, nil, false},
	} {
		s := &cloud.ServiceProvider{ID: tx.NewID(), PhysicalNetworkID: p.ID, Name: d.name, Services: d.services}
		if err := tables.ServiceProviders.Put(tx, s); err != nil {
			return err
		}
		if !d.element {
			continue
		}
		if err := tables.RouterElements.Put(tx, &cloud.RouterElement{ID: tx.NewID(), ProviderID: s.ID}); err != nil {
			return err
		}
	}
	return nil
}

// UpdateProvider enables or disables a provider. One with a router element must have that configured first.
func (a *Area) UpdateProvider(tx *store.Tx, s *cloud.ServiceProvider, state string, services []string) error {
	if len(services) > 0 {
		return cloud.Errorf(cloud.Invalid, "The services of provider %s cannot be chosen one by one (parameter servicelist)", s.Name)
	}
	switch {
	case state == "":
		return nil
	case strings.EqualFold(state, "Enabled"):
		if e, ok := tables.RouterElements.First(tx, "provider", store.K(s.ID)); ok && !e.Enabled {
			return cloud.Errorf(cloud.Invalid, "Provider is not ready, cannot enable provider %s: enable its element first (configureVirtualRouterElement)", s.Name)
		}
		s.Enabled = true
	case strings.EqualFold(state, "Disabled"):
		s.Enabled = false
	default:
		return cloud.Errorf(cloud.Invalid, "Invalid value %q of state: Enabled and Disabled are known", state)
	}
	return tables.ServiceProviders.Put(tx, s)
}

// ConfigureElement enables or disables a router element.
func (a *Area) ConfigureElement(tx *store.Tx, e *cloud.RouterElement, enabled bool) error {
	e.Enabled = enabled
	return tables.RouterElements.Put(tx, e)
}

// checkProviders refuses an offering whose providers are not enabled on the physical network.
func checkProviders(r store.Reader, p *cloud.PhysicalNetwork, o *cloud.NetworkOffering) error {
	for _, s := range o.Services {
		for _, name := range s.Providers {
			row, ok := tables.ServiceProviders.First(r, "physical_network", store.K(p.ID, name))
			if !ok || !row.Enabled {
				return cloud.Errorf(cloud.Invalid, "Service provider %s, which network offering %s needs for %s, is not enabled on physical network %s",
					name, o.Name, s.Name, p.Name)
			}
		}
	}
	return nil
}
