package reconcile

import (
	"maps"
	"sync"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Status of a pool, image or volume.
type Status struct {
	Ready bool
	Err   error
	// Final: trying again is not expected to help.
	Final bool
	// Gone: a removed volume that exists no more. It is as wanted.
	Gone bool
	// Images: bytes fetched. Volumes: bytes allocated.
	Bytes    uint64
	Capacity disk.Capacity
}

// VMStatus of one VM.
type VMStatus struct {
	State      hostspec.VmState
	Err        string
	Cause      hostspec.StopCause
	BootEpoch  uint64
	StartEpoch uint64
	Restarts   uint32
	VNCPort    uint32
	Leftover   bool
	// A system VM, whether its guest and public NICs have carrier, and the version of its image.
	System       bool
	Connected    bool
	ImageVersion string
	// Settled: nothing is left to do for it.
	Settled bool
}

// board is where the lanes write what they know.
type board struct {
	changed func()

	mu       sync.Mutex
	objects  map[desired.Key]Status
	networks map[string]fabric.Result
	// Error of the last network pass as a whole.
	networkErr error
	vms        map[string]VMStatus
	seen       map[string]domain.Seen
	computeErr error
	// Newest generations that have a system VM on standby and under which it was seen without carrier, with no step of it
	// under way that could give it any.
	unplugged map[string]uint64
	// Generations under which links and domains were looked at, and under which all VMs were.
	networkAt, computeAt, computeDone uint64
	looked                            bool
	// When each network was first looked at, and when the last whole pass began.
	since         map[string]time.Time
	networkLooked time.Time
	// When each domain's present run was first seen.
	runs map[string]run
}

type run struct {
	run   int32
	since time.Time
}

func newBoard(changed func()) *board {
	if changed == nil {
		changed = func() {}
	}
	return &board{
		changed: changed, objects: map[desired.Key]Status{}, networks: map[string]fabric.Result{},
		vms: map[string]VMStatus{}, seen: map[string]domain.Seen{}, unplugged: map[string]uint64{}, since: map[string]time.Time{}, runs: map[string]run{},
	}
}

// networkSince is when a network was first looked at. The caller holds b.mu.
func (b *board) networkSince(id string) time.Time {
	t, ok := b.since[id]
	if !ok {
		t = time.Now()
		b.since[id] = t
	}
	return t
}

func (b *board) object(key desired.Key) Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.objects[key]
}

// put writes a status and says whether readiness changed.
func (b *board) put(key desired.Key, s Status) (turned bool) {
	b.mu.Lock()
	old := b.objects[key]
	b.objects[key] = s
	b.mu.Unlock()
	if old.Ready != s.Ready || text(old.Err) != text(s.Err) || old.Bytes != s.Bytes && s.Ready == old.Ready && !s.Ready {
		b.changed()
	}
	return old.Ready != s.Ready
}

func (b *board) putVM(id string, s VMStatus) {
	b.mu.Lock()
	old, ok := b.vms[id]
	b.vms[id] = s
	b.mu.Unlock()
	if !ok || old != s {
		b.changed()
	}
}

// passedCompute notes that the statuses of all VMs are of this generation.
func (b *board) passedCompute(generation uint64) {
	b.mu.Lock()
	turned := b.computeDone != generation
	b.computeDone = generation
	b.mu.Unlock()
	if turned {
		b.changed()
	}
}

// putUnplugged notes which of the system VMs on standby were seen unplugged under this generation, and forgets those
// that are not on standby.
func (b *board) putUnplugged(standby map[string]bool, generation uint64) {
	b.mu.Lock()
	turned := false
	for id := range b.unplugged {
		if _, ok := standby[id]; !ok {
			delete(b.unplugged, id)
		}
	}
	for id, off := range standby {
		if off && b.unplugged[id] != generation {
			b.unplugged[id], turned = generation, true
		}
	}
	b.mu.Unlock()
	if turned {
		b.changed()
	}
}

func (b *board) dropVM(id string) {
	b.mu.Lock()
	_, ok := b.vms[id]
	delete(b.vms, id)
	b.mu.Unlock()
	if ok {
		b.changed()
	}
}

// dropUnknown removes statuses of objects the spec does not speak of.
func (b *board) dropUnknown(s *desired.State, kinds ...desired.Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.objects {
		for _, kind := range kinds {
			if key.Kind == kind && !s.Known(key) {
				delete(b.objects, key)
			}
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Snapshot is what the lanes know, for a report.
type Snapshot struct {
	Objects    map[desired.Key]Status
	Networks   map[string]fabric.Result
	NetworkErr error
	VMs        map[string]VMStatus
	ComputeErr error
	// Newest generations that have a system VM on standby and under which it was seen unplugged, by its id.
	Unplugged map[string]uint64
	// Generations the statuses of networks and VMs are of.
	NetworkAt uint64
	ComputeAt uint64
	// Something that left the spec is still being removed.
	Removing bool
}

// Snapshot copies the board.
func (l *Loop) Snapshot() Snapshot {
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	return Snapshot{
		Objects: maps.Clone(b.objects), Networks: maps.Clone(b.networks), NetworkErr: b.networkErr,
		VMs: maps.Clone(b.vms), ComputeErr: b.computeErr, NetworkAt: b.networkAt, ComputeAt: b.computeDone,
		Unplugged: maps.Clone(b.unplugged), Removing: l.removing.Load(),
	}
}
