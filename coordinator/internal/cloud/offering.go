package cloud

import "time"

// ServiceOffering is a size of VM.
type ServiceOffering struct {
	ID          ID                `row:"1"`
	Name        string            `row:"2"`
	DisplayText string            `row:"3"`
	CPUs        uint32            `row:"4"`
	CPUMHz      uint32            `row:"5"`
	MemoryMiB   uint32            `row:"6"`
	OfferHA     bool              `row:"7"`
	LimitCPU    bool              `row:"8"`
	Volatile    bool              `row:"9"`
	StorageType string            `row:"10"` // "local" or "shared"
	StorageTags []string          `row:"11"`
	HostTags    []string          `row:"12"`
	DomainIDs   []ID              `row:"13"` // restricted to; empty is public
	ZoneIDs     []ID              `row:"14"`
	NetworkRate uint32            `row:"15"` // Mbit/s, 0 the global setting
	System      bool              `row:"16"`
	SystemVM    string            `row:"17"` // "domainrouter", ...
	Default     bool              `row:"18"`
	RootDiskGiB uint64            `row:"19"`
	Created     time.Time         `row:"20"`
	Removed     time.Time         `row:"21"`
	Details     map[string]string `row:"22"`
	Customized  bool              `row:"23"`
	SortKey     int32             `row:"24"` // its place in lists, by sortkey.algorithm
	// A customized offering's bounds; 0 is none.
	MinCPUs      uint32 `row:"25"`
	MaxCPUs      uint32 `row:"26"`
	MinMemoryMiB uint32 `row:"27"`
	MaxMemoryMiB uint32 `row:"28"`
	// Rates of the root disk.
	Rates          DiskRates `row:"29"`
	CacheMode      string    `row:"30"` // "none", "writeback", "writethrough"; "" leaves it to the host
	DynamicScaling bool      `row:"31"`
	Inactive       bool      `row:"32"` // kept, but not offered to users
	Unknown        Unknown
}

// DiskRates bounds what a guest does to one disk, per second; 0 is no bound.
type DiskRates struct {
	BytesRead  uint64 `row:"1"`
	BytesWrite uint64 `row:"2"`
	IOPSRead   uint64 `row:"3"`
	IOPSWrite  uint64 `row:"4"`
	// A burst above these, and how many seconds one may last.
	BytesReadMax         uint64 `row:"5"`
	BytesWriteMax        uint64 `row:"6"`
	IOPSReadMax          uint64 `row:"7"`
	IOPSWriteMax         uint64 `row:"8"`
	BytesReadMaxSeconds  uint64 `row:"9"`
	BytesWriteMaxSeconds uint64 `row:"10"`
	IOPSReadMaxSeconds   uint64 `row:"11"`
	IOPSWriteMaxSeconds  uint64 `row:"12"`
}

// DiskOffering is a size of data disk.
type DiskOffering struct {
	ID          ID        `row:"1"`
	Name        string    `row:"2"`
	DisplayText string    `row:"3"`
	SizeBytes   uint64    `row:"4"`
	Customized  bool      `row:"5"`
	StorageType string    `row:"6"`
	Tags        []string  `row:"7"`
	DomainIDs   []ID      `row:"8"`
	ZoneIDs     []ID      `row:"9"`
	Created     time.Time `row:"10"`
	Removed     time.Time `row:"11"`
	SortKey     int32     `row:"12"` // its place in lists, by sortkey.algorithm
	Rates       DiskRates `row:"13"`
	CacheMode   string    `row:"14"`
	Inactive    bool      `row:"15"` // kept, but not offered to users
	Hidden      bool      `row:"16"` // lists show it to root admins only
	// StrictSize forbids to change the size of its disks.
	StrictSize bool              `row:"17"`
	Details    map[string]string `row:"18"`
	Unknown    Unknown
}

// OfferingState of a network offering.
type OfferingState uint8

// Network offering states.
const (
	OfferingDisabled OfferingState = iota
	OfferingEnabled
)

func (s OfferingState) String() string { return [...]string{"Disabled", "Enabled"}[s] }

// GuestType of a network.
type GuestType uint8

// Guest types.
const (
	Isolated GuestType = iota
	Shared
	L2
)

func (t GuestType) String() string { return [...]string{"Isolated", "Shared", "L2"}[t] }

// OfferedService is one service of a network offering with its providers and capabilities.
type OfferedService struct {
	Name         string            `row:"1"` // "Dhcp", "SourceNat", ...
	Providers    []string          `row:"2"` // "VirtualRouter"
	Capabilities map[string]string `row:"3"`
}

// NetworkOffering says what a network can do.
type NetworkOffering struct {
	ID                ID                `row:"1"`
	Name              string            `row:"2"`
	DisplayText       string            `row:"3"`
	TrafficType       string            `row:"4"` // "Guest"
	GuestType         GuestType         `row:"5"`
	State             OfferingState     `row:"6"`
	Availability      string            `row:"7"` // "Optional", "Required"
	Services          []OfferedService  `row:"8"`
	SpecifyVLAN       bool              `row:"9"`
	SpecifyIPRanges   bool              `row:"10"`
	ConserveMode      bool              `row:"11"`
	Default           bool              `row:"12"`
	System            bool              `row:"13"`
	NetworkRate       uint32            `row:"14"`
	ServiceOfferingID ID                `row:"15"`
	Tags              []string          `row:"16"`
	Persistent        bool              `row:"17"`
	EgressAllow       bool              `row:"18"` // egress default policy
	ForVPC            bool              `row:"19"`
	Created           time.Time         `row:"20"`
	Removed           time.Time         `row:"21"`
	MaxConnections    uint32            `row:"22"`
	Details           map[string]string `row:"23"`
	DomainIDs         []ID              `row:"24"`
	ZoneIDs           []ID              `row:"25"`
	SortKey           int32             `row:"26"` // its place in lists, by sortkey.algorithm
	// Held says that the offering is disabled only as this version lacks what its networks need; one that does not enables it.
	Held    bool `row:"27"`
	Unknown Unknown
}

// TemplateState is where a template's content stands in secondary storage.
type TemplateState uint8

// Template states.
const (
	TemplateWaiting TemplateState = iota
	TemplateDownloading
	TemplateReady
	TemplateFailed
	TemplateRemoved
)

// What marks templates that are system-VM images.
const (
	FormatSystemVM = "SYSTEMVM" // a tar of manifest, kernel, initrd and root file system
	TemplateSystem = "SYSTEM"   // their type
)

// Template is a disk image that VMs are made from.
type Template struct {
	ID              ID                `row:"1"`
	Name            string            `row:"2"`
	DisplayText     string            `row:"3"`
	AccountID       ID                `row:"4"`
	DomainID        ID                `row:"5"`
	ZoneID          ID                `row:"6"` // zero: all zones
	OSTypeID        ID                `row:"7"`
	URL             string            `row:"8"`
	Format          string            `row:"9"`  // "QCOW2", "RAW", "SYSTEMVM"
	Hypervisor      string            `row:"10"` // "KVM"
	State           TemplateState     `row:"11"`
	Progress        uint8             `row:"12"` // percent downloaded
	Error           string            `row:"13"`
	SHA256          string            `row:"14"` // of the stored file
	SizeBytes       uint64            `row:"15"` // virtual size
	FileBytes       uint64            `row:"16"`
	Checksum        string            `row:"17"` // as registered: md5 hex or {SHA-256}hex
	Public          bool              `row:"18"`
	Featured        bool              `row:"19"`
	Extractable     bool              `row:"20"`
	PasswordEnabled bool              `row:"21"`
	SSHKeyEnabled   bool              `row:"22"`
	Bootable        bool              `row:"23"`
	RequiresHVM     bool              `row:"24"`
	Bits            uint8             `row:"25"`
	Tag             string            `row:"26"`
	Type            string            `row:"27"` // "USER", "SYSTEM", "BUILTIN"
	Details         map[string]string `row:"28"`
	Created         time.Time         `row:"29"`
	Removed         time.Time         `row:"30"`
	ImageStoreID    ID                `row:"31"`
	ISO             bool              `row:"32"`
	DynamicScaling  bool              `row:"33"`
	Version         string            `row:"34"` // of a system-VM image, as its manifest says
	// UserDataID is user-data that comes with the template.
	UserDataID     ID             `row:"35"`
	UserDataPolicy UserDataPolicy `row:"36"`
	Unknown        Unknown
}
