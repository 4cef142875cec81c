package tables

import (
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// PhysicalNetworks keeps cloud.PhysicalNetwork rows.
var PhysicalNetworks = store.Define(store.Def[cloud.PhysicalNetwork]{
	Name: "physical_network",
	ID:   func(r *cloud.PhysicalNetwork) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.PhysicalNetwork]{
		{Name: "zone", Unique: true, Key: func(r *cloud.PhysicalNetwork) store.Key { return store.K(r.ZoneID, r.Name) }},
	},
})

// TrafficTypes keeps cloud.TrafficType rows.
var TrafficTypes = store.Define(store.Def[cloud.TrafficType]{
	Name: "traffic_type",
	ID:   func(r *cloud.TrafficType) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.TrafficType]{
		{Name: "physical_network", Unique: true, Key: func(r *cloud.TrafficType) store.Key { return store.K(r.PhysicalNetworkID, r.Type) }},
	},
})

// ServiceProviders keeps cloud.ServiceProvider rows.
var ServiceProviders = store.Define(store.Def[cloud.ServiceProvider]{
	Name: "service_provider",
	ID:   func(r *cloud.ServiceProvider) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ServiceProvider]{
		{Name: "physical_network", Unique: true, Key: func(r *cloud.ServiceProvider) store.Key { return store.K(r.PhysicalNetworkID, r.Name) }},
	},
})

// RouterElements keeps cloud.RouterElement rows.
var RouterElements = store.Define(store.Def[cloud.RouterElement]{
	Name: "router_element",
	ID:   func(r *cloud.RouterElement) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.RouterElement]{
		{Name: "provider", Unique: true, Key: func(r *cloud.RouterElement) store.Key { return store.K(r.ProviderID) }},
	},
})

// VLANRanges keeps cloud.VLANRange rows.
var VLANRanges = store.Define(store.Def[cloud.VLANRange]{
	Name: "vlan_range",
	ID:   func(r *cloud.VLANRange) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.VLANRange]{
		{Name: "zone", Key: func(r *cloud.VLANRange) store.Key { return store.K(r.ZoneID) }},
		{Name: "physical_network", Key: func(r *cloud.VLANRange) store.Key { return store.K(r.PhysicalNetworkID) }},
		{Name: "network", Key: func(r *cloud.VLANRange) store.Key {
			if r.NetworkID.IsZero() {
				return nil
			}
			return store.K(r.NetworkID)
		}},
	},
})

// PublicIPs keeps cloud.PublicIP rows.
var PublicIPs = store.Define(store.Def[cloud.PublicIP]{
	Name:    "public_ip",
	Deleted: DropAttached,
	ID:      func(r *cloud.PublicIP) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.PublicIP]{
		{Name: "address", Unique: true, Key: func(r *cloud.PublicIP) store.Key { return store.K(r.ZoneID, r.Address) }},
		{Name: "range", Key: func(r *cloud.PublicIP) store.Key { return store.K(r.RangeID, r.Address) }},
		{Name: "account", Key: func(r *cloud.PublicIP) store.Key {
			if r.AccountID.IsZero() {
				return nil
			}
			return store.K(r.AccountID, r.Address)
		}},
		// As they are listed: those in use, the last one that was taken first.
		{Name: "allocated", Key: func(r *cloud.PublicIP) store.Key {
			if r.AccountID.IsZero() || r.State == cloud.IPFree {
				return nil
			}
			return store.K(-r.Allocated.UnixMicro(), r.Address)
		}},
		{Name: "account-allocated", Key: func(r *cloud.PublicIP) store.Key {
			if r.AccountID.IsZero() || r.State == cloud.IPFree {
				return nil
			}
			return store.K(r.AccountID, -r.Allocated.UnixMicro(), r.Address)
		}},
		{Name: "domain-allocated", Key: func(r *cloud.PublicIP) store.Key {
			if r.AccountID.IsZero() || r.State == cloud.IPFree {
				return nil
			}
			return store.K(r.DomainID, -r.Allocated.UnixMicro(), r.Address)
		}},
		{Name: "network", Key: func(r *cloud.PublicIP) store.Key {
			if r.NetworkID.IsZero() {
				return nil
			}
			return store.K(r.NetworkID, r.Address)
		}},
		{Name: "vm", Key: func(r *cloud.PublicIP) store.Key {
			if r.VMID.IsZero() {
				return nil
			}
			return store.K(r.VMID, r.Address)
		}},
		{Name: "free", Key: func(r *cloud.PublicIP) store.Key {
			if r.State != cloud.IPFree {
				return nil
			}
			return store.K(r.ZoneID, r.Address)
		}},
		{Name: "free_range", Key: func(r *cloud.PublicIP) store.Key {
			if r.State != cloud.IPFree {
				return nil
			}
			return store.K(r.RangeID, r.Address)
		}},
		{Name: "pending", Key: func(r *cloud.PublicIP) store.Key {
			if r.State != cloud.IPAllocating && r.State != cloud.IPReleasing {
				return nil
			}
			return store.K(r.NetworkID)
		}},
	},
})

// Networks keeps cloud.Network rows.
var Networks = store.Define(store.Def[cloud.Network]{
	Name:    "network",
	Deleted: DropAttached,
	ID:      func(r *cloud.Network) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Network]{
		{Name: "account", Key: func(r *cloud.Network) store.Key { return store.K(r.AccountID, r.Name) }},
		// As they are listed.
		{Name: "created", Key: func(r *cloud.Network) store.Key { return store.K(r.Created, r.Number) }},
		{Name: "account-created", Key: func(r *cloud.Network) store.Key { return store.K(r.AccountID, r.Created, r.Number) }},
		{Name: "domain-created", Key: func(r *cloud.Network) store.Key { return store.K(r.DomainID, r.Created, r.Number) }},
		{Name: "zone", Key: func(r *cloud.Network) store.Key { return store.K(r.ZoneID) }},
		{Name: "number", Unique: true, Key: func(r *cloud.Network) store.Key { return store.K(r.Number) }},
		{Name: "segment", Unique: true, Key: func(r *cloud.Network) store.Key {
			if r.Segment == 0 {
				return nil
			}
			return store.K(r.PhysicalNetworkID, r.Segment)
		}},
		{Name: "offering", Key: func(r *cloud.Network) store.Key { return store.K(r.OfferingID) }},
		{Name: "physical_network", Key: func(r *cloud.Network) store.Key { return store.K(r.PhysicalNetworkID) }},
		{Name: "leaving", Key: func(r *cloud.Network) store.Key {
			if r.State != cloud.NetworkShutdown && r.State != cloud.NetworkDestroy {
				return nil
			}
			return store.K(r.StateSince)
		}},
		{Name: "idle", Key: func(r *cloud.Network) store.Key {
			if r.IdleSince.IsZero() {
				return nil
			}
			return store.K(r.IdleSince)
		}},
		{Name: "vpc", Key: func(r *cloud.Network) store.Key {
			if r.VPCID.IsZero() {
				return nil
			}
			return store.K(r.VPCID)
		}},
	},
})

// Routers keeps cloud.Router rows.
var Routers = store.Define(store.Def[cloud.Router]{
	Name:    "router",
	ID:      func(r *cloud.Router) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.Router]{
		// A network has one router that is in charge, and at most one beside it.
		{Name: "network", Unique: true, Key: func(r *cloud.Router) store.Key { return store.K(r.NetworkID, r.Standby) }},
		{Name: "standby", Key: func(r *cloud.Router) store.Key {
			if !r.Standby {
				return nil
			}
			return store.K(r.Since)
		}},
		{Name: "control", Unique: true, Key: func(r *cloud.Router) store.Key {
			if r.HostID.IsZero() || !r.ControlIP.IsValid() {
				return nil
			}
			return store.K(r.HostID, r.ControlIP)
		}},
		{Name: "template", Key: func(r *cloud.Router) store.Key {
			if r.TemplateID.IsZero() {
				return nil
			}
			return store.K(r.TemplateID)
		}},
		{Name: "pool", Key: func(r *cloud.Router) store.Key {
			if r.PoolID.IsZero() {
				return nil
			}
			return store.K(r.PoolID)
		}},
		{Name: "stopped-for", Key: func(r *cloud.Router) store.Key {
			if r.StoppedFor.IsZero() {
				return nil
			}
			return store.K(r.StoppedFor)
		}},
		{Name: "host", Key: func(r *cloud.Router) store.Key {
			if r.HostID.IsZero() {
				return nil
			}
			return store.K(r.HostID)
		}},
		{Name: "homeless", Key: func(r *cloud.Router) store.Key {
			if !r.HostID.IsZero() || r.State != cloud.VMStarting && r.State != cloud.VMStopping {
				return nil
			}
			return store.K(r.ZoneID)
		}},
		// In charge of a network, and not known to be wholly well.
		{Name: "unwell", Key: func(r *cloud.Router) store.Key {
			if r.Standby || !slices.ContainsFunc(r.Checks, func(c cloud.RouterCheck) bool { return c.Status != cloud.CheckPassed }) {
				return nil
			}
			return store.K(r.ZoneID)
		}},
		{Name: "account", Key: func(r *cloud.Router) store.Key { return store.K(r.AccountID) }},
		{Name: "name", Unique: true, Key: func(r *cloud.Router) store.Key { return store.K(r.Name) }},
	},
})

// NICs keeps cloud.NIC rows.
var NICs = store.Define(store.Def[cloud.NIC]{
	Name: "nic",
	ID:   func(r *cloud.NIC) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.NIC]{
		{Name: "vm", Key: func(r *cloud.NIC) store.Key { return store.K(r.VMID, r.DeviceID) }},
		{Name: "network", Key: func(r *cloud.NIC) store.Key { return store.K(r.NetworkID, r.IP) }},
		{Name: "address", Unique: true, Key: func(r *cloud.NIC) store.Key {
			if !r.IP.IsValid() {
				return nil
			}
			return store.K(r.NetworkID, r.IP)
		}},
		{Name: "mac", Unique: true, Key: func(r *cloud.NIC) store.Key { return store.K(r.MAC) }},
		{Name: "name", Unique: true, Key: func(r *cloud.NIC) store.Key {
			if r.Name == "" {
				return nil
			}
			return store.K(r.NetworkID, strings.ToLower(r.Name))
		}},
	},
})

// FirewallRules keeps cloud.FirewallRule rows.
var FirewallRules = store.Define(store.Def[cloud.FirewallRule]{
	Name:    "firewall_rule",
	Deleted: DropAttached,
	ID:      func(r *cloud.FirewallRule) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.FirewallRule]{
		{Name: "ip", Key: func(r *cloud.FirewallRule) store.Key {
			if r.IPID.IsZero() {
				return nil
			}
			return store.K(r.IPID, r.StartPort)
		}},
		{Name: "network", Key: func(r *cloud.FirewallRule) store.Key { return store.K(r.NetworkID) }},
		{Name: "account", Key: func(r *cloud.FirewallRule) store.Key { return store.K(r.AccountID) }},
		{Name: "related", Key: func(r *cloud.FirewallRule) store.Key {
			if r.RelatedID.IsZero() {
				return nil
			}
			return store.K(r.RelatedID)
		}},
		{Name: "pending", Key: func(r *cloud.FirewallRule) store.Key {
			if r.State == cloud.RuleActive {
				return nil
			}
			return store.K(r.NetworkID)
		}},
	},
})

// PortForwardingRules keeps cloud.PortForwardingRule rows.
var PortForwardingRules = store.Define(store.Def[cloud.PortForwardingRule]{
	Name:    "port_forwarding_rule",
	Deleted: DropAttached,
	ID:      func(r *cloud.PortForwardingRule) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.PortForwardingRule]{
		{Name: "ip", Key: func(r *cloud.PortForwardingRule) store.Key { return store.K(r.IPID, r.PublicStart) }},
		{Name: "network", Key: func(r *cloud.PortForwardingRule) store.Key { return store.K(r.NetworkID) }},
		{Name: "account", Key: func(r *cloud.PortForwardingRule) store.Key { return store.K(r.AccountID) }},
		{Name: "vm", Key: func(r *cloud.PortForwardingRule) store.Key { return store.K(r.VMID) }},
		{Name: "pending", Key: func(r *cloud.PortForwardingRule) store.Key {
			if r.State == cloud.RuleActive {
				return nil
			}
			return store.K(r.NetworkID)
		}},
	},
})
