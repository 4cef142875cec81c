// Package report says what a host is and what it sees: facts, usage, and the observation a coordinator gets.
//
// An observation is always the whole; nothing in it depends on an earlier one, so a lost one loses nothing.
package report

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/agent/internal/reconcile"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Sources of a Reporter.
type Sources struct {
	HostID     func() string
	Generation func() uint64
	BootID     string
	Started    time.Time
	Loop       *reconcile.Loop
	Services   func(networkID string) netrun.Status
	// Feed is what is heard from a system VM.
	Feed       func(id string) netrun.Status
	Hypervisor domain.Hypervisor
	Facts      func(ctx context.Context) *hostspec.HostFacts
	Usage      func() (*hostspec.HostUsage, error)
}

// Reporter assembles observations.
type Reporter struct {
	s Sources

	mu       sync.Mutex
	settled  uint64
	measured time.Time
	last     map[string]domain.Usage
	usage    map[string]*hostspec.VmUsage
	host     *hostspec.HostUsage
}

// New makes a Reporter.
func New(s Sources) *Reporter {
	return &Reporter{s: s, last: map[string]domain.Usage{}, usage: map[string]*hostspec.VmUsage{}}
}

// measureEvery is how often usage is measured: observations between say the same.
const measureEvery = 5 * time.Second

// Observe is the host as it is now.
func (r *Reporter) Observe(ctx context.Context) *hostspec.HostObservation {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measure(ctx)
	state, shot := r.s.Loop.Desired(), r.s.Loop.Snapshot()
	o := &hostspec.HostObservation{
		HostId: r.s.HostID(), AcceptedGeneration: r.s.Generation(), BootId: r.s.BootID,
		AgentStartedUnixMs: r.s.Started.UnixMilli(), Facts: r.s.Facts(ctx), Usage: r.host,
	}
	if state != nil {
		whole := r.objects(o, state, shot)
		whole = r.networks(o, state, shot) && whole
		whole = r.vms(o, state, shot) && whole
		whole = r.systemVMs(o, state, shot) && whole
		if whole && !shot.Removing && shot.NetworkAt == state.Generation && shot.ComputeAt == state.Generation {
			r.settled = max(r.settled, state.Generation)
		}
	}
	o.SettledGeneration = r.settled
	return o
}

// objects reports pools, images and volumes; whole when all are as wanted.
func (r *Reporter) objects(o *hostspec.HostObservation, state *desired.State, shot reconcile.Snapshot) (whole bool) {
	whole = true
	status := func(key desired.Key) (reconcile.Status, string) {
		st := shot.Objects[key]
		if problem := state.Problems[key]; problem != nil {
			return st, problem.Error()
		}
		if key.Kind == desired.Volume && state.Volumes[key.ID].GetRemoved() {
			st.Ready = false
			whole = whole && st.Gone
		} else {
			st.Gone = false
			whole = whole && st.Ready
		}
		if st.Err != nil {
			return st, st.Err.Error()
		}
		return st, ""
	}
	for _, id := range ids(state, desired.Pool, state.Pools) {
		st, complaint := status(desired.Key{Kind: desired.Pool, ID: id})
		o.Pools = append(o.Pools, &hostspec.PoolObservation{
			Id: id, Ready: st.Ready, Error: complaint, CapacityBytes: st.Capacity.Bytes, UsedBytes: st.Capacity.Used,
		})
	}
	for _, id := range ids(state, desired.Image, state.Images) {
		st, complaint := status(desired.Key{Kind: desired.Image, ID: id})
		o.Images = append(o.Images, &hostspec.ObjectObservation{Id: id, Ready: st.Ready, Error: complaint, Bytes: st.Bytes})
	}
	for _, id := range ids(state, desired.Volume, state.Volumes) {
		st, complaint := status(desired.Key{Kind: desired.Volume, ID: id})
		o.Volumes = append(o.Volumes, &hostspec.ObjectObservation{Id: id, Ready: st.Ready, Error: complaint, Bytes: st.Bytes, Gone: st.Gone})
	}
	return whole && len(state.Problems) == 0
}

// ids of all objects of a kind the spec speaks of, usable or not, sorted.
func ids[T any](state *desired.State, kind desired.Kind, usable map[string]T) []string {
	var list []string
	for id := range usable {
		list = append(list, id)
	}
	for key := range state.Problems {
		if key.Kind == kind {
			list = append(list, key.ID)
		}
	}
	sort.Strings(list)
	return list
}

func (r *Reporter) networks(o *hostspec.HostObservation, state *desired.State, shot reconcile.Snapshot) (whole bool) {
	whole = shot.NetworkErr == nil
	for _, id := range ids(state, desired.Network, state.Networks) {
		n := &hostspec.NetworkObservation{Id: id}
		o.Networks = append(o.Networks, n)
		if problem := state.Problems[desired.Key{Kind: desired.Network, ID: id}]; problem != nil {
			n.Error = problem.Error()
			continue
		}
		result, done := shot.Networks[id]
		wanted := netrun.Instance(id, state.Networks[id].GetIncarnation())
		serving := wanted
		if result.Serving != "" {
			serving = result.Serving
		}
		status := r.s.Services(serving)
		n.Services, n.Incarnation = status.Observation, netrun.IncarnationOf(serving)
		n.Repairs = result.Repairs + status.Restarts
		if done && result.Err == nil {
			n.LinksGeneration = shot.NetworkAt
		}
		n.Ready = done && result.Err == nil && (state.Networks[id].GetServices() == nil || status.Applied && serving == wanted)
		switch {
		case result.Err != nil:
			n.Error = result.Err.Error()
		case !done && shot.NetworkErr != nil:
			n.Error = shot.NetworkErr.Error()
		case status.Err != nil:
			n.Error = fmt.Sprintf("services: %v", status.Err)
		}
		if successor := r.s.Services(wanted); serving != wanted && n.Error == "" && successor.Err != nil {
			n.Error = fmt.Sprintf("services that shall take over: %v", successor.Err)
		}
		whole = whole && n.Ready
	}
	return whole
}

func (r *Reporter) vms(o *hostspec.HostObservation, state *desired.State, shot reconcile.Snapshot) (whole bool) {
	whole = shot.ComputeErr == nil
	for _, id := range ids(state, desired.VM, state.VMs) {
		st := shot.VMs[id]
		v := observeVM(id, st)
		if problem := state.Problems[desired.Key{Kind: desired.VM, ID: id}]; problem != nil {
			v.State, v.Error = hostspec.VmState_VM_STATE_FAILED, problem.Error()
		}
		if v.State == hostspec.VmState_VM_STATE_UNSPECIFIED {
			v.State = hostspec.VmState_VM_STATE_PENDING
		}
		if shot.ComputeErr != nil && v.Error == "" {
			v.Error = shot.ComputeErr.Error()
		}
		v.Usage = r.usage[id]
		o.Vms = append(o.Vms, v)
		whole = whole && st.Settled
	}
	var left []string
	for id, st := range shot.VMs {
		if st.Leftover && !st.System && !state.Known(desired.Key{Kind: desired.VM, ID: id}) {
			left = append(left, id)
		}
	}
	sort.Strings(left)
	for _, id := range left {
		o.Vms = append(o.Vms, observeVM(id, shot.VMs[id]))
		whole = false
	}
	return whole
}

func observeVM(id string, st reconcile.VMStatus) *hostspec.VirtualMachineObservation {
	return &hostspec.VirtualMachineObservation{
		Id: id, State: st.State, Error: st.Err, StopCause: st.Cause, BootEpoch: st.BootEpoch, StartEpoch: st.StartEpoch,
		VncPort: st.VNCPort, Restarts: st.Restarts, Leftover: st.Leftover,
	}
}

// measure takes usage anew when the last is old enough. A failure leaves it out: it is shown elsewhere.
func (r *Reporter) measure(ctx context.Context) {
	if time.Since(r.measured) < measureEvery {
		return
	}
	r.measured = time.Now()
	if usage, err := r.s.Usage(); err == nil {
		r.host = usage
	}
	stats, err := r.s.Hypervisor.Stats(ctx)
	if err != nil {
		return
	}
	r.usage = make(map[string]*hostspec.VmUsage, len(stats))
	for id, now := range stats {
		before, ok := r.last[id]
		u := &hostspec.VmUsage{
			MemoryKib: now.MemoryKiB, DiskReadKib: now.ReadBytes >> 10, DiskWriteKib: now.WriteBytes >> 10,
			DiskReadOps: now.ReadOps, DiskWriteOps: now.WriteOps,
			NetworkRxKib: now.ReceiveBytes >> 10, NetworkTxKib: now.SendBytes >> 10,
		}
		if span := now.MeasuredAt.Sub(before.MeasuredAt); ok && span > 0 && now.CPUTime >= before.CPUTime && now.VCPUs > 0 {
			u.CpuPercent = min(100*float64(now.CPUTime-before.CPUTime)/float64(span)/float64(now.VCPUs), 100)
		}
		r.usage[id] = u
	}
	r.last = stats
}
