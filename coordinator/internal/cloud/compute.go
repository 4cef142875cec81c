package cloud

import "time"

// VMState is a VM's state as the API shows it.
type VMState uint8

// VM states.
const (
	VMStopped VMState = iota // also: deployed with startvm=false
	VMStarting
	VMRunning
	VMStopping
	VMMigrating
	VMDestroyed // waits for expunge
	VMExpunging
	VMError
)

func (s VMState) String() string {
	return [...]string{"Stopped", "Starting", "Running", "Stopping", "Migrating", "Destroyed", "Expunging", "Error"}[s]
}

// VM is a user's virtual machine.
type VM struct {
	ID           ID      `row:"1"`
	Name         string  `row:"2"` // host name, a DNS label
	DisplayName  string  `row:"3"`
	InstanceName string  `row:"4"` // "i-2-15-VM"
	AccountID    ID      `row:"5"`
	DomainID     ID      `row:"6"`
	ZoneID       ID      `row:"7"`
	PodID        ID      `row:"8"`
	HostID       ID      `row:"9"` // where it runs or is to run; zero while stopped
	LastHostID   ID      `row:"10"`
	State        VMState `row:"11"`
	TemplateID   ID      `row:"12"`
	ISOID        ID      `row:"13"`
	OfferingID   ID      `row:"14"`
	OSTypeID     ID      `row:"15"`
	// CPUs, CPUMHz and MemoryMiB are copied from the offering (or chosen with a customized one).
	CPUs      uint32 `row:"16"`
	CPUMHz    uint32 `row:"17"`
	MemoryMiB uint32 `row:"18"`
	HA        bool   `row:"19"`
	// UserData is raw user-data, sealed because it often holds secrets.
	UserData  Sealed `row:"20"`
	KeyPair   string `row:"21"`
	PublicKey string `row:"22"`
	Password  Sealed `row:"23"` // until the guest has taken it and the owner may still ask
	// PasswordEpoch rises with each new password; PasswordTaken is the last one that the guest confirmed.
	PasswordEpoch uint64 `row:"24"`
	PasswordTaken uint64 `row:"25"`
	VNCPassword   Sealed `row:"26"`
	// StartEpoch rises with each start asked for, BootEpoch with each reboot; the agent reports back what it reached.
	StartEpoch uint64 `row:"27"`
	BootEpoch  uint64 `row:"28"`
	ForcedStop bool   `row:"29"`
	// Group is the name of its instance group in rows older than InstanceGroup.
	Group     string    `row:"30"`
	Created   time.Time `row:"31"`
	Destroyed time.Time `row:"32"`
	// Error says why the state is Error, or why the last start failed.
	Error string `row:"33"`
	// Avoid lists hosts on which this start failed.
	Avoid []ID `row:"34"`
	// WantedHostID was given by an administrator (hostid).
	WantedHostID    ID                `row:"35"`
	Details         map[string]string `row:"36"`
	Number          uint64            `row:"37"`
	Hypervisor      string            `row:"38"`
	DynamicScaling  bool              `row:"39"`
	PasswordEnabled bool              `row:"40"`
	// Observed by the agent.
	ObservedStart uint64 `row:"41"`
	ObservedBoot  uint64 `row:"42"`
	VNCPort       uint32 `row:"43"`
	// Evicting says that the start on HostID failed: the VM is kept off there until the host reports it stopped, and
	// only then another host is chosen, so that it never runs twice.
	Evicting bool `row:"44"`
	// Deployed is false until the VM has run once: a failed first start ends in Error, not Stopped.
	Deployed bool `row:"45"`
	// Expunge: do not wait for expunge.delay.
	Expunge bool `row:"46"`
	GroupID ID   `row:"47"` // its instance group
	// Uncounted says that it is left out of its account's counts of VMs, CPUs and memory: it failed to deploy, or is
	// stopped while running VMs alone count.
	Uncounted bool `row:"48"`
	// UserDataID is the kept user-data that UserData was made from; UserDataDetails are the values of its variables.
	UserDataID      ID                `row:"49"`
	UserDataDetails map[string]string `row:"50"`
	// Keyboard is the layout of its console, as CloudStack names it ("de", "uk").
	Keyboard string `row:"51"`
	// PasswordBy is the account whose call made the present password: no other is told it.
	PasswordBy ID `row:"52"`
	// StoppedFor is the storage pool whose maintenance stopped it, and whose return starts it again unless somebody else
	// says meanwhile what it shall do.
	StoppedFor ID `row:"53"`
	Unknown    Unknown
}

// VolumeState is a volume's state as the API shows it.
type VolumeState uint8

// Volume states.
const (
	VolumeAllocated VolumeState = iota
	VolumeCreating
	VolumeReady
	VolumeDestroy
	VolumeExpunging
	VolumeExpunged
)

func (s VolumeState) String() string {
	return [...]string{"Allocated", "Creating", "Ready", "Destroy", "Expunging", "Expunged"}[s]
}

// Volume is a disk.
type Volume struct {
	ID             ID          `row:"1"`
	Name           string      `row:"2"`
	AccountID      ID          `row:"3"`
	DomainID       ID          `row:"4"`
	ZoneID         ID          `row:"5"`
	PoolID         ID          `row:"6"` // zero while Allocated
	VMID           ID          `row:"7"`
	DeviceID       uint32      `row:"8"`
	Root           bool        `row:"9"`
	SizeBytes      uint64      `row:"10"`
	State          VolumeState `row:"11"`
	TemplateID     ID          `row:"12"`
	OfferingID     ID          `row:"13"` // disk offering, or service offering of a root disk
	Created        time.Time   `row:"14"`
	Attached       time.Time   `row:"15"`
	Destroyed      time.Time   `row:"16"`
	AllocatedBytes uint64      `row:"17"` // on the pool, as observed
	HostID         ID          `row:"18"` // where a local volume lives
	SHA256         string      `row:"19"` // of the backing image
	Unknown        Unknown
}
