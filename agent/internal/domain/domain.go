// Package domain makes virtual machines run as a host spec wants them, through a hypervisor.
//
// Deciding and doing are apart. Decide is a pure function from (what is wanted, what is seen, what is remembered) to
// the one next step; Applier takes that step, level by level: a graceful stop is not a function that waits, it is the
// same decision met again on each pass until the domain is down or its grace has run out. So an agent may die between
// any two steps and its successor goes on with the same rules.
//
// Nothing here looks at a domain that does not carry our mark; see DESIGN.md.
package domain

import (
	"context"
	"time"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// Down is what the hypervisor knows of why a domain does not run.
type Down uint8

// Why a domain is down, as far as the hypervisor can tell.
const (
	DownUnknown Down = iota
	// DownGuest is a shutdown the guest carried out (asked for or not).
	DownGuest
	// DownDied is a crash, a kill, or a destroy by somebody's hand.
	DownDied
)

// Seen is one domain of ours as the hypervisor shows it.
type Seen struct {
	ID     string
	Name   string
	Active bool
	// Why an active domain does not execute ("no space left for its disks"); empty when it does.
	Paused string
	Down   Down
	// The epochs the running domain was started for, read from its mark.
	StartEpoch uint64
	BootEpoch  uint64
	VNCPort    uint32
	// Changes with every start of the domain.
	Run int32
	// The host's ends of its links, the bridges they were plugged into, and the files of its disks.
	Taps    []string
	Bridges []string
	Files   []string
	// An appliance, with the version of the image it was booted from, and the taps of its NICs that have no carrier.
	System       bool
	ImageVersion string
	Unlinked     []string
}

// Usage is what one domain has used since it started.
type Usage struct {
	CPUTime                 time.Duration
	VCPUs                   uint32
	MemoryKiB               uint64
	ReadBytes, WriteBytes   uint64
	ReadOps, WriteOps       uint64
	ReceiveBytes, SendBytes uint64
	MeasuredAt              time.Time
}

// Machine is a VM with everything resolved that is named by id in the spec.
type Machine struct {
	VM *hostspec.VirtualMachine
	// In device order, the first boots.
	Disks []Disk
	Nics  []Nic
	// System is set for an appliance.
	System *System
}

// System is what an appliance is booted from, without a boot loader.
type System struct {
	Kernel, Initrd, Root string
	Cmdline              string
	ImageVersion         string
	// Channel is the socket the host's end of the virtio-serial port becomes.
	Channel string
}

// Disk is a volume's file.
type Disk struct {
	VolumeID string
	DeviceID uint32
	Path     string
	// The image below it; empty for none.
	BackingPath   string
	BackingFormat string
	// The file system takes O_DIRECT.
	Direct bool
	// Spec is the disk as it is wanted: its bounds and its cache mode.
	Spec *hostspec.Disk
}

// Nic is one link into a bridge.
type Nic struct {
	MAC      string
	Bridge   string
	Tap      string
	MTU      uint32
	RateMbit uint32
	// Unlinked: the guest sees no carrier.
	Unlinked bool
}

// Hypervisor is what the applier needs of libvirt. All calls may be made at the same time, and every one gives up when
// its context ends.
type Hypervisor interface {
	// List returns the domains that carry our mark.
	List(ctx context.Context) ([]Seen, error)
	// Start defines the machine afresh and starts it. It refuses when a domain without our mark has its id.
	Start(ctx context.Context, m Machine) error
	// Shutdown asks the guest to power off and returns at once.
	Shutdown(ctx context.Context, id string) error
	// Destroy ends the domain; it succeeds when it does not run.
	Destroy(ctx context.Context, id string) error
	// Resume lets a paused domain go on.
	Resume(ctx context.Context, id string) error
	// Link gives NICs of a running domain a carrier, or takes it away; they are named by their taps.
	Link(ctx context.Context, id string, taps []string, carrier bool) error
	// Remove undefines a domain that does not run; it succeeds when there is none.
	Remove(ctx context.Context, id string) error
	// Stats measures all running domains of ours.
	Stats(ctx context.Context) (map[string]Usage, error)
}
