package tables

import "github.com/wispcloud/wisp/coordinator/internal/store"

// Schema lists every table, for store.NewDB.
func Schema() []store.AnyTable {
	return []store.AnyTable{
		Domains,
		Accounts,
		Users,
		Sessions,
		Settings,
		ResourceCounts,
		ResourceLimits,
		Sequences,
		SSHKeyPairs,
		Jobs,
		Events,
		Alerts,
		Zones,
		Pods,
		Clusters,
		Hosts,
		HostCapacities,
		JoinTokens,
		StoragePools,
		ImageStores,
		OSCategories,
		OSTypes,
		ServiceOfferings,
		DiskOfferings,
		NetworkOfferings,
		Templates,
		PhysicalNetworks,
		TrafficTypes,
		ServiceProviders,
		RouterElements,
		VLANRanges,
		PublicIPs,
		Networks,
		Routers,
		NICs,
		FirewallRules,
		PortForwardingRules,
		VMs,
		Volumes,
	}
}
