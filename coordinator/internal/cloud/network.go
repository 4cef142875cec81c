package cloud

import (
	"net/netip"
	"time"
)

// PhysicalNetwork is a network of a zone that carries traffic types.
type PhysicalNetwork struct {
	ID               ID        `row:"1"`
	Name             string    `row:"2"`
	ZoneID           ID        `row:"3"`
	Enabled          bool      `row:"4"`
	VLANs            string    `row:"5"` // "100-200,300-310": VLAN ids or VNIs
	IsolationMethods []string  `row:"6"` // "VXLAN", "VLAN"
	Speed            string    `row:"7"`
	Tags             []string  `row:"8"`
	BroadcastRange   string    `row:"9"` // "ZONE"
	DomainID         ID        `row:"10"`
	Created          time.Time `row:"11"`
	Unknown          Unknown
}

// TrafficType is one kind of traffic on a physical network.
type TrafficType struct {
	ID                ID     `row:"1"`
	PhysicalNetworkID ID     `row:"2"`
	Type              string `row:"3"` // "Public", "Guest", "Management", "Storage"
	KVMLabel          string `row:"4"` // bridge on the hosts
	XenLabel          string `row:"5"`
	VMwareLabel       string `row:"6"`
	IsolationMethod   string `row:"7"`
	VLAN              string `row:"8"`
	Unknown           Unknown
}

// ServiceProvider is a network service provider of a physical network.
type ServiceProvider struct {
	ID                ID       `row:"1"`
	PhysicalNetworkID ID       `row:"2"`
	Name              string   `row:"3"` // "VirtualRouter"
	Enabled           bool     `row:"4"`
	Services          []string `row:"5"`
	Shutdown          bool     `row:"6"`
	Unknown           Unknown
}

// RouterElement is the virtual router element of a provider.
type RouterElement struct {
	ID         ID   `row:"1"`
	ProviderID ID   `row:"2"`
	Enabled    bool `row:"3"`
	Unknown    Unknown
}

// VLANRange is a range of addresses, public or of a shared network.
type VLANRange struct {
	ID                ID         `row:"1"`
	ZoneID            ID         `row:"2"`
	PhysicalNetworkID ID         `row:"3"`
	PodID             ID         `row:"4"`
	NetworkID         ID         `row:"5"` // shared guest networks
	VLAN              string     `row:"6"` // "untagged" or a number
	Gateway           netip.Addr `row:"7"`
	Netmask           string     `row:"8"`
	Start             netip.Addr `row:"9"`
	End               netip.Addr `row:"10"`
	ForVirtualNetwork bool       `row:"11"`
	AccountID         ID         `row:"12"`
	DomainID          ID         `row:"13"`
	Created           time.Time  `row:"14"`
	ForSystemVMs      bool       `row:"15"`
	Unknown           Unknown
}

// IPState of a public address.
type IPState uint8

// Address states.
const (
	IPFree IPState = iota
	IPAllocating
	IPAllocated
	IPReleasing
)

func (s IPState) String() string {
	return [...]string{"Free", "Allocating", "Allocated", "Releasing"}[s]
}

// PublicIP is one public address; rows exist for every address of a public range.
type PublicIP struct {
	ID                ID         `row:"1"`
	Address           netip.Addr `row:"2"`
	RangeID           ID         `row:"3"`
	ZoneID            ID         `row:"4"`
	PhysicalNetworkID ID         `row:"5"`
	State             IPState    `row:"6"`
	AccountID         ID         `row:"7"`
	DomainID          ID         `row:"8"`
	NetworkID         ID         `row:"9"` // associated guest network
	SourceNAT         bool       `row:"10"`
	StaticNAT         bool       `row:"11"`
	VMID              ID         `row:"12"` // static NAT
	Allocated         time.Time  `row:"13"`
	MAC               uint64     `row:"14"` // 48 bits, of the router's leg
	System            bool       `row:"15"`
	VPCID             ID         `row:"16"`
	Unknown           Unknown
}

// NetworkState of a guest network.
type NetworkState uint8

// Network states.
const (
	NetworkAllocated NetworkState = iota // nothing runs
	NetworkSetup
	NetworkImplementing
	NetworkImplemented
	NetworkShutdown
	NetworkDestroy
)

func (s NetworkState) String() string {
	return [...]string{"Allocated", "Setup", "Implementing", "Implemented", "Shutdown", "Destroy"}[s]
}

// Network is a guest network.
type Network struct {
	ID                ID           `row:"1"`
	Name              string       `row:"2"`
	DisplayText       string       `row:"3"`
	AccountID         ID           `row:"4"`
	DomainID          ID           `row:"5"`
	ZoneID            ID           `row:"6"`
	OfferingID        ID           `row:"7"`
	PhysicalNetworkID ID           `row:"8"`
	State             NetworkState `row:"9"`
	GuestType         GuestType    `row:"10"`
	CIDR              netip.Prefix `row:"11"`
	Gateway           netip.Addr   `row:"12"`
	// ServiceIP is the address that DHCP, DNS, metadata and password answer at, on every host that carries the network.
	ServiceIP netip.Addr `row:"13"`
	// Isolation is "VXLAN" or "VLAN"; Segment its number, 0 while not implemented.
	Isolation     string `row:"14"`
	Segment       uint32 `row:"15"`
	NetworkDomain string `row:"16"`
	// Number is unique in the cloud, from 1: names on the hosts are made of it.
	Number        uint64     `row:"17"`
	GatewayMAC    uint64     `row:"18"` // kept over the life of the network
	ServiceMAC    uint64     `row:"19"`
	Created       time.Time  `row:"20"`
	RestartNeeded bool       `row:"21"`
	Persistent    bool       `row:"22"`
	ACLType       string     `row:"23"` // "Account", "Domain"
	VPCID         ID         `row:"24"`
	MTU           uint32     `row:"25"`
	Restarts      uint64     `row:"26"` // rises with restartNetwork
	StartIP       netip.Addr `row:"27"`
	EndIP         netip.Addr `row:"28"`
	DNS1          netip.Addr `row:"29"`
	DNS2          netip.Addr `row:"30"`
	// Epoch rises with every change that the network's services have to make true; it is part of what is rendered, so
	// such a change is never without a new generation.
	Epoch uint64 `row:"31"`
	// PendingIndex is the commit of the last transition that the router's host has to confirm, StateSince its time.
	PendingIndex uint64    `row:"32"`
	StateSince   time.Time `row:"33"`
	// IdleSince is when the last VM stopped; zero while one runs.
	IdleSince time.Time `row:"34"`
	// SubdomainAccess opens a network of ACLType "Domain" to the domains below.
	SubdomainAccess bool `row:"35"`
	// Incarnation rises when what serves the network on its hosts shall be replaced as a whole.
	Incarnation uint64 `row:"36"`
	Unknown     Unknown
}

// RouterState of a virtual router, with VM state names.
type RouterState = VMState

// Placements of a router.
const (
	OnHost = "host" // a namespace on a host
	InVM   = "vm"   // a system VM
)

// Router is the virtual router of a network: in a host's namespace or a system VM. While it is being replaced a network
// has two rows.
type Router struct {
	ID         ID          `row:"1"`
	Name       string      `row:"2"` // "r-7-VM"
	NetworkID  ID          `row:"3"`
	AccountID  ID          `row:"4"`
	DomainID   ID          `row:"5"`
	ZoneID     ID          `row:"6"`
	PodID      ID          `row:"7"`
	HostID     ID          `row:"8"` // where it is or is to be; zero while stopped
	State      RouterState `row:"9"`
	Placement  string      `row:"10"` // OnHost or InVM
	PublicMAC  uint64      `row:"11"`
	Version    string      `row:"12"` // of its network services
	Error      string      `row:"13"`
	Created    time.Time   `row:"14"`
	Number     uint64      `row:"15"`
	OfferingID ID          `row:"16"` // its size when it is a system VM; zero: that of the network offering
	// Restarts and Incarnation are those of the network that it has made true.
	Restarts uint64 `row:"17"`
	// AppliedGeneration is the newest transition of the network that it has confirmed.
	AppliedGeneration uint64 `row:"18"`
	Incarnation       uint64 `row:"19"`
	// Standby has the guest and public NICs unplugged: it is getting ready to replace the network's router. Retiring is
	// the one that it replaces, once it is ready: unplugged as well, and in charge until its host has said so.
	Standby  bool `row:"20"`
	Retiring bool `row:"21"`
	// Destroying removes the row when it has stopped.
	Destroying bool `row:"22"`
	ForcedStop bool `row:"23"`
	// Since is when it became standby, began to retire, or was last started.
	Since time.Time `row:"24"`

	// What follows is of system VMs only.

	TemplateID   ID     `row:"25"`
	SHA256       string `row:"26"` // of the template's file
	ImageVersion string `row:"27"` // as observed
	PoolID       ID     `row:"28"` // whose cache holds the image
	// CPUs, CPUMHz and MemoryMiB are copied from the offering and counted in the host's capacity while HostID is set.
	CPUs        uint32     `row:"29"`
	CPUMHz      uint32     `row:"30"`
	MemoryMiB   uint32     `row:"31"`
	ControlMAC  uint64     `row:"32"`
	ControlIP   netip.Addr `row:"33"` // link-local, unique on its host
	VNCPassword Sealed     `row:"34"`
	// As in VM.
	StartEpoch    uint64 `row:"35"`
	BootEpoch     uint64 `row:"36"`
	ObservedStart uint64 `row:"37"`
	ObservedBoot  uint64 `row:"38"`
	VNCPort       uint32 `row:"39"`
	Avoid         []ID   `row:"40"`
	Evicting      bool   `row:"41"`
	// Connected says that its host has plugged its NICs in.
	Connected bool `row:"42"`

	// Checks are what its host told last of each thing that it is made of; none while it has no host.
	Checks []RouterCheck `row:"43"`
	// StoppedFor is the storage pool whose maintenance stopped it, as in VM.
	StoppedFor ID `row:"44"`
	Unknown    Unknown
}

// CheckStatus is what a check found.
type CheckStatus uint8

// Results of a check.
const (
	CheckUnknown CheckStatus = iota
	CheckPassed
	CheckFailed
)

func (s CheckStatus) String() string { return [...]string{"UNKNOWN", "SUCCESS", "FAILED"}[s] }

// RouterCheck is how one thing of a router is.
type RouterCheck struct {
	Name    string      `row:"1"`
	Status  CheckStatus `row:"2"`
	Details string      `row:"3"`
	Since   time.Time   `row:"4"` // of the status
}

// NIC joins a VM to a network.
type NIC struct {
	ID        ID         `row:"1"`
	VMID      ID         `row:"2"`
	NetworkID ID         `row:"3"`
	MAC       uint64     `row:"4"` // 48 bits
	IP        netip.Addr `row:"5"`
	Default   bool       `row:"6"`
	DeviceID  uint32     `row:"7"`
	Created   time.Time  `row:"8"`
	AccountID ID         `row:"9"`
	DomainID  ID         `row:"10"`
	// Name is the VM's host name: of one kind in the network, since DNS gives it out.
	Name    string `row:"11"`
	Unknown Unknown
}

// RuleState of a firewall or forwarding rule.
type RuleState uint8

// Rule states.
const (
	RuleStaged RuleState = iota
	RuleAdd
	RuleActive
	RuleRevoke
)

func (s RuleState) String() string {
	return [...]string{"Staged", "Add", "Active", "Deleting"}[s]
}

// FirewallRule opens a public address (ingress) or lets guests out (egress).
type FirewallRule struct {
	ID        ID        `row:"1"`
	IPID      ID        `row:"2"` // ingress
	NetworkID ID        `row:"3"`
	AccountID ID        `row:"4"`
	DomainID  ID        `row:"5"`
	Protocol  string    `row:"6"` // "tcp", "udp", "icmp", "all"
	StartPort uint16    `row:"7"`
	EndPort   uint16    `row:"8"`
	ICMPType  int16     `row:"9"` // -1 any
	ICMPCode  int16     `row:"10"`
	CIDRs     []string  `row:"11"`
	State     RuleState `row:"12"`
	Egress    bool      `row:"13"`
	// RelatedID is the forwarding rule this rule was opened with; it goes with it.
	RelatedID ID        `row:"14"`
	Created   time.Time `row:"15"`
	DestCIDRs []string  `row:"16"`
	Hidden    bool      `row:"17"` // only root admins see it; it holds all the same
	Unknown   Unknown
}

// PortForwardingRule sends ports of a public address to a VM.
type PortForwardingRule struct {
	ID           ID         `row:"1"`
	IPID         ID         `row:"2"`
	NetworkID    ID         `row:"3"`
	AccountID    ID         `row:"4"`
	DomainID     ID         `row:"5"`
	Protocol     string     `row:"6"`
	PublicStart  uint16     `row:"7"`
	PublicEnd    uint16     `row:"8"`
	PrivateStart uint16     `row:"9"`
	PrivateEnd   uint16     `row:"10"`
	VMID         ID         `row:"11"`
	GuestIP      netip.Addr `row:"12"`
	State        RuleState  `row:"13"`
	CIDRs        []string   `row:"14"`
	Created      time.Time  `row:"15"`
	// Static says that the address leads to the VM as a whole (static NAT): the rule only opens ports of it.
	Static  bool `row:"16"`
	Unknown Unknown
}
