package cloud

import (
	"net/netip"
	"time"
)

// AllocationState says whether new resources may be placed somewhere.
type AllocationState uint8

// Allocation states.
const (
	AllocationDisabled AllocationState = iota
	AllocationEnabled
)

func (s AllocationState) String() string { return [...]string{"Disabled", "Enabled"}[s] }

// NetworkType of a zone.
type NetworkType uint8

// Network types.
const (
	AdvancedZone NetworkType = iota
	BasicZone
)

func (t NetworkType) String() string { return [...]string{"Advanced", "Basic"}[t] }

// Zone is a data centre.
type Zone struct {
	ID   ID     `row:"1"`
	Name string `row:"2"`
	// Description is what no command ever set; rows keep their numbers.
	Description     string            `row:"3"`
	DNS1            netip.Addr        `row:"4"`
	DNS2            netip.Addr        `row:"5"`
	IP6DNS1         netip.Addr        `row:"6"`
	IP6DNS2         netip.Addr        `row:"7"`
	InternalDNS1    netip.Addr        `row:"8"`
	InternalDNS2    netip.Addr        `row:"9"`
	GuestCIDR       netip.Prefix      `row:"10"`
	NetworkDomain   string            `row:"11"`
	DomainID        ID                `row:"12"` // dedicated to
	Type            NetworkType       `row:"13"`
	SecurityGroups  bool              `row:"14"`
	LocalStorage    bool              `row:"15"`
	AllocationState AllocationState   `row:"16"`
	Token           string            `row:"17"`
	Created         time.Time         `row:"18"`
	Details         map[string]string `row:"19"`
	Unknown         Unknown
}

// Pod is a rack.
type Pod struct {
	ID              ID              `row:"1"`
	ZoneID          ID              `row:"2"`
	Name            string          `row:"3"`
	Gateway         netip.Addr      `row:"4"`
	Netmask         string          `row:"5"`
	StartIP         netip.Addr      `row:"6"`
	EndIP           netip.Addr      `row:"7"`
	AllocationState AllocationState `row:"8"`
	Created         time.Time       `row:"9"`
	Unknown         Unknown
}

// Cluster is a set of like hosts that share primary storage.
type Cluster struct {
	ID              ID              `row:"1"`
	ZoneID          ID              `row:"2"`
	PodID           ID              `row:"3"`
	Name            string          `row:"4"`
	Hypervisor      string          `row:"5"` // "KVM"
	Type            string          `row:"6"` // "CloudManaged"
	AllocationState AllocationState `row:"7"`
	Managed         bool            `row:"8"`
	CPUOvercommit   float64         `row:"9"`  // 0 means 1
	MemOvercommit   float64         `row:"10"` // 0 means 1
	Created         time.Time       `row:"11"`
	Unknown         Unknown
}

// HostStatus is whether a host's agent is heard from.
type HostStatus uint8

// Host states as listHosts shows them.
const (
	HostConnecting HostStatus = iota
	HostUp
	HostDisconnected // the link is closed, the host may be fine
	HostAlert        // silent for longer than the alert time
	HostDown
	HostRemoved
)

func (s HostStatus) String() string {
	return [...]string{"Connecting", "Up", "Disconnected", "Alert", "Down", "Removed"}[s]
}

// Lost tells whether the host's agent is not heard.
func (s HostStatus) Lost() bool { return s != HostConnecting && s != HostUp }

// ResourceState is what the operator wants with a host.
type ResourceState uint8

// Resource states of a host. A pending host presented a join token and waits for addHost.
const (
	HostPending ResourceState = iota
	HostEnabled
	HostDisabled
	HostPrepareForMaintenance
	HostErrorInMaintenance
	HostMaintenance
	HostDegraded // declared dead by an operator
)

func (s ResourceState) String() string {
	return [...]string{"Pending", "Enabled", "Disabled", "PrepareForMaintenance", "ErrorInMaintenance", "Maintenance", "Degraded"}[s]
}

// ControlState is both states of a host in one word, as what runs on it tells them: Enabled, Disabled, Offline or
// Maintenance.
func (h *Host) ControlState() string {
	switch {
	case h.Status.Lost():
		return "Offline"
	case h.ResourceState == HostPrepareForMaintenance, h.ResourceState == HostErrorInMaintenance, h.ResourceState == HostMaintenance:
		return "Maintenance"
	case h.ResourceState == HostEnabled:
		return "Enabled"
	}
	return "Disabled"
}

// Host is a hypervisor host, from the moment its agent joined.
type Host struct {
	ID            ID            `row:"1"`
	Name          string        `row:"2"`
	ZoneID        ID            `row:"3"`
	PodID         ID            `row:"4"`
	ClusterID     ID            `row:"5"`
	IP            netip.Addr    `row:"6"` // underlay address
	Status        HostStatus    `row:"7"`
	ResourceState ResourceState `row:"8"`
	Tags          []string      `row:"9"`
	CPUs          uint32        `row:"10"`
	CPUMHz        uint32        `row:"11"`
	MemoryMiB     uint64        `row:"12"`
	// Versions as the agent reports them.
	HypervisorVersion string    `row:"13"`
	AgentVersion      string    `row:"14"`
	KernelVersion     string    `row:"15"`
	KVM               bool      `row:"16"` // hardware acceleration works
	Features          []string  `row:"17"`
	MissingFeatures   []string  `row:"18"`
	BootID            string    `row:"19"`
	Connected         time.Time `row:"20"` // last (re)connect
	Disconnected      time.Time `row:"21"`
	Created           time.Time `row:"22"`
	CertificateSerial string    `row:"23"`
	JoinTokenID       ID        `row:"24"`
	// SettledGeneration is the last host spec that was whole on the host.
	SettledGeneration uint64 `row:"25"`
	URL               string `row:"26"` // as addHost was told
	OSCategoryID      ID     `row:"27"`
	// Number is small and unique.
	Number       uint64 `row:"28"`
	CPUModel     string `row:"29"`
	Architecture string `row:"30"`
	// KeyHash is the SHA-256 of the public key (SubjectPublicKeyInfo) the agent joined with. The same key presenting the
	// same token again is the same host.
	KeyHash []byte `row:"31"`
	// CertificateExpires is when the newest certificate signed for the host ends.
	CertificateExpires time.Time `row:"32"`
	// Reconnects rises when an operator asks for a new link (reconnectHost): the coordinator that holds it ends it.
	Reconnects uint64 `row:"33"`
	// Annotation is a note of an older version, which no answer told; remarks are rows of their own now.
	Annotation string `row:"34"`
	Unknown    Unknown
}

// HostUsage is how busy a host was at a recent moment; written seldom, because it changes all the time.
type HostUsage struct {
	ID            ID        `row:"1"` // the host's
	CPUPercent    float64   `row:"2"` // of all its CPUs
	MemoryUsedMiB uint64    `row:"3"`
	NetworkRxKiB  uint64    `row:"4"`
	NetworkTxKiB  uint64    `row:"5"`
	Observed      time.Time `row:"6"`
	Unknown       Unknown
}

// HostCapacity counts what is allocated on a host; maintained in the transactions that place and release.
type HostCapacity struct {
	ID        ID     `row:"1"` // the host's
	CPUMHz    uint64 `row:"2"`
	MemoryMiB uint64 `row:"3"`
	VMs       uint32 `row:"4"`
	Unknown   Unknown
}

// JoinToken lets agents join. Only the hash of its secret is kept.
type JoinToken struct {
	ID         ID        `row:"1"`
	SecretHash []byte    `row:"2"` // SHA-256
	Created    time.Time `row:"3"`
	Expires    time.Time `row:"4"`
	Uses       uint32    `row:"5"` // left; 0 with Unlimited false means used up
	Unlimited  bool      `row:"6"`
	Note       string    `row:"7"`
	Unknown    Unknown
}

// PoolKind is the type of a primary storage pool.
type PoolKind uint8

// Pool kinds, named as listStoragePools shows them.
const (
	PoolFilesystem PoolKind = iota // a local directory
	PoolSharedMountPoint
	PoolNetworkFilesystem
)

func (k PoolKind) String() string {
	return [...]string{"Filesystem", "SharedMountPoint", "NetworkFilesystem"}[k]
}

// PoolState of a storage pool.
type PoolState uint8

// Pool states.
const (
	PoolInitial PoolState = iota
	PoolUp
	PoolMaintenance
	PoolRemoved
	PoolDown
	PoolPrepareForMaintenance // what uses it is being stopped
	PoolErrorInMaintenance    // something that uses it could not be stopped
)

var poolStates = [...]string{"Initial", "Up", "Maintenance", "Removed", "Down", "PrepareForMaintenance", "ErrorInMaintenance"}

func (s PoolState) String() string { return poolStates[s] }

// PoolStates lists the names of the states.
func PoolStates() []string { return poolStates[:] }

// InMaintenance tells whether a pool is in maintenance or on the way to it: nothing new is put there, and nothing that
// needs it starts.
func (s PoolState) InMaintenance() bool {
	return s == PoolMaintenance || s == PoolPrepareForMaintenance || s == PoolErrorInMaintenance
}

// StoragePool is primary storage.
type StoragePool struct {
	ID            ID        `row:"1"`
	Name          string    `row:"2"`
	ZoneID        ID        `row:"3"`
	PodID         ID        `row:"4"`
	ClusterID     ID        `row:"5"`
	HostID        ID        `row:"6"` // local pools
	Kind          PoolKind  `row:"7"`
	Path          string    `row:"8"`
	Source        string    `row:"9"` // server of an NFS pool
	State         PoolState `row:"10"`
	Tags          []string  `row:"11"`
	CapacityBytes uint64    `row:"12"` // as observed
	UsedBytes     uint64    `row:"13"` // as observed
	// AllocatedBytes is the sum of the sizes of its volumes; maintained with them.
	AllocatedBytes uint64            `row:"14"`
	Created        time.Time         `row:"15"`
	Scope          string            `row:"16"` // HOST, CLUSTER, ZONE
	URL            string            `row:"17"`
	Details        map[string]string `row:"18"`
	Unknown        Unknown
}

// ImageStore is secondary storage.
type ImageStore struct {
	ID       ID                `row:"1"`
	Name     string            `row:"2"`
	ZoneID   ID                `row:"3"`
	URL      string            `row:"4"` // file:///dir or nfs://server/export
	Provider string            `row:"5"` // "file", "NFS", "S3"
	Created  time.Time         `row:"6"`
	Scope    string            `row:"7"`
	Details  map[string]string `row:"8"`
	Capacity uint64            `row:"9"`
	Used     uint64            `row:"10"`
	ReadOnly bool              `row:"11"` // nothing new is put there
	Unknown  Unknown
}

// OSCategory groups guest OS types.
type OSCategory struct {
	ID      ID     `row:"1"`
	Name    string `row:"2"`
	Unknown Unknown
}

// OSType is a guest operating system.
type OSType struct {
	ID          ID     `row:"1"`
	CategoryID  ID     `row:"2"`
	Description string `row:"3"`
	UserDefined bool   `row:"4"`
	Unknown     Unknown
}
