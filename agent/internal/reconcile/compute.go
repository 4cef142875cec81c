package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// How long the first start of a VM waits for the services of its networks. A guest asks for its address for minutes,
// so one whose services are broken is started all the same.
const servicePatience = 15 * time.Second

// tapPatience is how long after a start a tap that is not there yet is not called lost.
const tapPatience = time.Second

// startDeadline bounds one step of a domain.
const startDeadline = 3 * time.Minute

func (l *Loop) passCompute(ctx context.Context) time.Duration {
	s := l.Desired()
	if s == nil {
		return 0
	}
	standby := l.standbys(s)
	list, err := l.config.Hypervisor.List(ctx)
	if ctx.Err() != nil {
		return 0
	}
	seen := l.putSeen(list, err, s.Generation)
	if err != nil {
		return time.Second
	}
	l.waiting.Store(true)
	for id, steady := range standby {
		standby[id] = steady && unplugged(s, id, seen)
	}
	l.board.putUnplugged(standby, s.Generation)
	waiting := l.connect(ctx, s, seen)
	for id, want := range s.VMs {
		waiting = l.passMachine(ctx, l.guest(s, want), find(seen, id)) || waiting
	}
	for id, want := range s.SystemVMs {
		waiting = l.passMachine(ctx, l.appliance(s, want), find(seen, id)) || waiting
	}
	l.feed(s, seen)
	l.waiting.Store(waiting)
	l.removeVMs(ctx, s, seen)
	l.board.passedCompute(s.Generation)
	l.tasks.compute.forget(func(key desired.Key) bool {
		_, there := seen[key.ID]
		return s.Known(key) || there
	})
	again := l.tasks.compute.next()
	if l.recheck {
		l.recheck = false
		l.network.pokeSoon()
		waiting = true
	}
	if waiting && (again == 0 || again > time.Second) {
		again = time.Second
	}
	return again
}

func find(seen map[string]domain.Seen, id string) *domain.Seen {
	if d, ok := seen[id]; ok {
		return &d
	}
	return nil
}

// putSeen writes down what domains there are. When domains came or went, the other lanes may remove what they used.
func (l *Loop) putSeen(list []domain.Seen, err error, generation uint64) map[string]domain.Seen {
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	turned := text(b.computeErr) != text(err)
	b.computeErr = err
	if err != nil {
		if turned {
			l.log.Error("cannot look at domains", "error", err)
			b.changed()
		}
		return nil
	}
	seen := make(map[string]domain.Seen, len(list))
	for _, d := range list {
		seen[d.ID] = d
	}
	moved := !b.looked || b.computeAt != generation || len(seen) != len(b.seen)
	for id, d := range seen {
		old, ok := b.seen[id]
		moved = moved || !ok || old.Run != d.Run
		if b.runs[id].run != d.Run {
			b.runs[id] = run{run: d.Run, since: time.Now()}
		}
	}
	for id := range b.runs {
		if _, ok := seen[id]; !ok {
			delete(b.runs, id)
		}
	}
	b.seen, b.computeAt, b.looked = seen, generation, true
	if moved {
		l.storage.poke()
		l.network.poke()
	}
	if turned || moved {
		b.changed()
	}
	return seen
}

// subject is a machine the compute lane looks after: a guest's or an appliance.
type subject struct {
	key desired.Key
	vm  *hostspec.VirtualMachine
	// want is the whole of what is wanted of it.
	want    proto.Message
	domains *domain.Applier
	// obstacle says why it cannot be started now; final when that will hardly change by waiting.
	obstacle func() (err error, final bool)
	resolve  func() (domain.Machine, error)
}

func (l *Loop) guest(s *desired.State, want *hostspec.VirtualMachine) subject {
	return subject{
		key: desired.Key{Kind: desired.VM, ID: want.GetId()}, vm: want, want: want, domains: l.config.Domains,
		obstacle: func() (error, bool) { return l.obstacle(s, want) },
		resolve:  func() (domain.Machine, error) { return l.resolve(s, want) },
	}
}

// passMachine looks at one machine, and starts its next step. It says whether the machine waits for something.
func (l *Loop) passMachine(ctx context.Context, m subject, seen *domain.Seen) bool {
	id := m.key.ID
	if l.tasks.compute.busy(m.key) {
		return false
	}
	v := m.domains.Decide(m.vm, seen)
	st := l.statusOf(m.key.Kind, m.domains.Facts(id), seen)
	switch v.Action {
	case domain.Wait:
		return false
	case domain.Rest:
		l.rest(ctx, m, seen, v)
		return false
	case domain.Start:
		// What is said of a start belongs to that start, not to the last one that succeeded.
		st.StartEpoch = max(st.StartEpoch, m.vm.GetStartEpoch())
		if err, final := m.obstacle(); err != nil || final {
			st.State = hostspec.VmState_VM_STATE_PENDING
			if final {
				st.State = hostspec.VmState_VM_STATE_FAILED
			}
			st.Err = text(waitingFor(err))
			l.board.putVM(id, st)
			return true
		}
		st.State = hostspec.VmState_VM_STATE_PENDING
	default:
		st.State = hostspec.VmState_VM_STATE_RUNNING
	}
	if err, final := l.tasks.compute.failed(m.key); err != nil {
		st.Err = err.Error()
		if final && v.Action == domain.Start {
			st.State = hostspec.VmState_VM_STATE_FAILED
		}
	} else if v.Action == domain.Resume {
		st.Err = seen.Paused
	}
	l.board.putVM(id, st)
	l.tasks.compute.do(ctx, m.key, v.Action.String(), m.want, func(ctx context.Context) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, startDeadline)
		defer cancel()
		return m.domains.Step(ctx, m.vm, seen, m.resolve)
	})
	return false
}

// rest reports a machine that is as it should be, or stays as it is. That it runs is told before it is written down,
// because the running domain itself proves it; why it does not run is written down first, because only the agent knows.
func (l *Loop) rest(ctx context.Context, m subject, seen *domain.Seen, v domain.Verdict) {
	id := m.key.ID
	st := l.statusOf(m.key.Kind, v.Facts, seen)
	st.State, st.Cause, st.Settled, st.Err = v.State, v.Cause, true, l.lostTaps(m.vm, seen)
	if v.State == hostspec.VmState_VM_STATE_RUNNING && m.domains.Unsettled(id, v) {
		l.board.putVM(id, st)
		l.tasks.compute.do(ctx, m.key, "settle", m.want, func(context.Context) (time.Duration, error) {
			return 0, m.domains.Settle(id, v)
		})
		return
	}
	if err := m.domains.Settle(id, v); err != nil {
		st.Settled, st.Err = false, err.Error()
	} else {
		l.tasks.compute.settle(m.key)
	}
	l.board.putVM(id, st)
}

func (l *Loop) statusOf(kind desired.Kind, facts ledger.VMFacts, seen *domain.Seen) VMStatus {
	st := VMStatus{
		BootEpoch: facts.BootEpoch, StartEpoch: facts.StartEpoch, Restarts: facts.Restarts, System: kind == desired.SystemVM,
	}
	if seen != nil && seen.Active {
		st.VNCPort = seen.VNCPort
		if st.System {
			st.ImageVersion, st.Connected = seen.ImageVersion, connected(l.Desired().SystemVMs[seen.ID], seen)
		}
	}
	return st
}

// errNotYet is an obstacle that is merely not out of the way yet.
var errNotYet = errors.New("is not ready yet")

// waitingFor keeps what is worth telling a person.
func waitingFor(err error) error {
	if errors.Is(err, errNotYet) {
		return nil
	}
	return err
}

// obstacle says why a VM cannot be started now; final when that will hardly change by waiting.
func (l *Loop) obstacle(s *desired.State, want *hostspec.VirtualMachine) (err error, final bool) { //nolint:revive // the error is a value here
	for _, d := range want.GetDisks() {
		key := desired.Key{Kind: desired.Volume, ID: d.GetVolumeId()}
		if problem := s.Problems[key]; problem != nil {
			return problem, true
		}
		st := l.board.object(key)
		if st.Err != nil {
			return fmt.Errorf("volume %s: %w", d.GetVolumeId(), st.Err), st.Final
		}
		if !st.Ready {
			return fmt.Errorf("volume %s %w", d.GetVolumeId(), errNotYet), false
		}
	}
	for _, nic := range want.GetNics() {
		if err, final := l.networkObstacle(s, nic.GetNetworkId()); err != nil {
			return err, final
		}
	}
	return nil, false
}

func (l *Loop) networkObstacle(s *desired.State, id string) (err error, final bool) { //nolint:revive // the error is a value here
	if problem := s.Problems[desired.Key{Kind: desired.Network, ID: id}]; problem != nil {
		return problem, true
	}
	b := l.board
	b.mu.Lock()
	r, ok := b.networks[id]
	failure := b.networkErr
	since := b.networkSince(id)
	b.mu.Unlock()
	switch {
	case !ok && failure != nil:
		return fmt.Errorf("network %s: %w", id, failure), false
	case !ok:
		return fmt.Errorf("network %s %w", id, errNotYet), false
	case r.Err != nil && !r.Plugged:
		return r.Err, time.Since(since) > servicePatience
	}
	n := s.Networks[id]
	if n.GetServices() == nil || l.config.Services.Status(r.Serving).Answering || time.Since(since) > servicePatience {
		return nil, false
	}
	return fmt.Errorf("services of network %s %w", id, errNotYet), false
}

// lostTaps tells of links of a running guest that were deleted: its qemu holds a device without a name, which only a
// reboot mends.
func (l *Loop) lostTaps(want *hostspec.VirtualMachine, seen *domain.Seen) string {
	if seen == nil || !seen.Active {
		return ""
	}
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, nic := range want.GetNics() {
		tap := fabric.TapName(nic.GetId())
		r, ok := b.networks[nic.GetNetworkId()]
		if !ok || !r.Absent[tap] || !slices.Contains(seen.Taps, tap) {
			continue
		}
		if !b.networkLooked.After(b.runs[seen.ID].since.Add(tapPatience)) {
			// The look at links may be older than the tap: have another.
			l.recheck = true
			continue
		}
		return fmt.Sprintf("nic %s: its link %s was deleted on the host; reboot the vm to get it back", nic.GetId(), tap)
	}
	return ""
}

// resolve replaces ids by files and links.
func (l *Loop) resolve(s *desired.State, want *hostspec.VirtualMachine) (domain.Machine, error) {
	m := domain.Machine{VM: want}
	for _, d := range want.GetDisks() {
		v, ok := s.Volumes[d.GetVolumeId()]
		if !ok {
			return m, fmt.Errorf("volume %s is not usable", d.GetVolumeId())
		}
		pool := s.Pools[v.GetPoolId()]
		resolved := domain.Disk{
			VolumeID: v.GetId(), DeviceID: d.GetDeviceId(), Path: disk.Path(pool, v.GetId()), Spec: d,
			Direct: l.board.object(desired.Key{Kind: desired.Pool, ID: v.GetPoolId()}).Capacity.Direct,
		}
		if sum := v.GetImageSha256(); sum != "" {
			img := s.Images[sum]
			resolved.BackingPath = image.Path(s.Pools[img.GetPoolId()], sum, img.GetFormat())
			resolved.BackingFormat = img.GetFormat()
		}
		m.Disks = append(m.Disks, resolved)
	}
	for _, nic := range want.GetNics() {
		n, ok := s.Networks[nic.GetNetworkId()]
		if !ok {
			return m, fmt.Errorf("network %s is not usable", nic.GetNetworkId())
		}
		m.Nics = append(m.Nics, domain.Nic{
			MAC: nic.GetMac(), Bridge: fabric.BridgeName(n), Tap: fabric.TapName(nic.GetId()),
			MTU: l.networkMTU(n), RateMbit: nic.GetRateMbit(),
		})
	}
	return m, nil
}

func (l *Loop) networkMTU(n *hostspec.Network) uint32 {
	l.board.mu.Lock()
	defer l.board.mu.Unlock()
	return l.board.networks[n.GetId()].MTU
}

// removeVMs removes domains of ours that the spec does not speak of, and forgets machines that are gone.
func (l *Loop) removeVMs(ctx context.Context, s *desired.State, seen map[string]domain.Seen) {
	spoken := func(id string) bool {
		return s.Known(desired.Key{Kind: desired.VM, ID: id}) || s.Known(desired.Key{Kind: desired.SystemVM, ID: id})
	}
	for id, d := range seen {
		key, domains := desired.Key{Kind: desired.VM, ID: id}, l.config.Domains
		if d.System {
			key.Kind, domains = desired.SystemVM, l.config.Systems
		}
		if spoken(id) || l.tasks.compute.busy(key) {
			continue
		}
		st := l.statusOf(key.Kind, domains.Facts(id), &d)
		st.Leftover, st.State = true, hostspec.VmState_VM_STATE_STOPPED
		if d.Active {
			st.State = hostspec.VmState_VM_STATE_RUNNING
		}
		if err, _ := l.tasks.compute.failed(key); err != nil {
			st.Err = err.Error()
		}
		l.board.putVM(id, st)
		l.tasks.compute.do(ctx, key, "remove", nil, func(ctx context.Context) (time.Duration, error) {
			ctx, cancel := context.WithTimeout(ctx, startDeadline)
			defer cancel()
			return 0, domains.Remove(ctx, &d, id)
		})
	}
	for kind, domains := range map[desired.Kind]*domain.Applier{desired.VM: l.config.Domains, desired.SystemVM: l.config.Systems} {
		for _, id := range domains.Remembered() {
			key := desired.Key{Kind: kind, ID: id}
			if _, there := seen[id]; there || spoken(id) || l.tasks.compute.busy(key) {
				continue
			}
			err := domains.Remove(ctx, nil, id)
			if kind == desired.SystemVM {
				err = errors.Join(err, l.config.Services.Forget(id))
			}
			if err != nil {
				l.log.Error("cannot forget machine", "id", id, "error", err)
			}
		}
	}
	l.board.mu.Lock()
	var gone []string
	for id := range l.board.vms {
		if _, there := seen[id]; !there && !spoken(id) {
			gone = append(gone, id)
		}
	}
	l.board.mu.Unlock()
	for _, id := range gone {
		l.board.dropVM(id)
	}
}
