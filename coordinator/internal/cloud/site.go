package cloud

import (
	"net/netip"
	"time"
)

// Region is a cloud: this one, or another one that users are told of.
type Region struct {
	ID       ID     `row:"1"` // NameID("region", Number)
	Number   uint32 `row:"2"` // what clients call its id
	Name     string `row:"3"`
	Endpoint string `row:"4"` // URL of its API
	Unknown  Unknown
}

// StorageRange is a range of a pod's addresses in the storage network.
type StorageRange struct {
	ID      ID         `row:"1"`
	ZoneID  ID         `row:"2"`
	PodID   ID         `row:"3"`
	Gateway netip.Addr `row:"4"`
	Netmask string     `row:"5"`
	Start   netip.Addr `row:"6"`
	End     netip.Addr `row:"7"`
	VLAN    uint16     `row:"8"` // 0: untagged
	Created time.Time  `row:"9"`
	Unknown Unknown
}

// GuestVLANRange gives segments of a physical network to one account or domain alone.
type GuestVLANRange struct {
	ID                ID        `row:"1"`
	PhysicalNetworkID ID        `row:"2"`
	Start             uint32    `row:"3"`
	End               uint32    `row:"4"`
	AccountID         ID        `row:"5"` // or
	DomainID          ID        `row:"6"`
	Created           time.Time `row:"7"`
	Unknown           Unknown
}

// HypervisorCapability is what is expected of a hypervisor's hosts.
type HypervisorCapability struct {
	ID             ID     `row:"1"`
	Hypervisor     string `row:"2"` // "KVM"
	Version        string `row:"3"`
	MaxGuests      uint32 `row:"4"` // VMs on one host; 0 any number
	SecurityGroups bool   `row:"5"`
	MaxDataVolumes uint32 `row:"6"` // of one VM
	Unknown        Unknown
}
