package report

import (
	"fmt"
	"sort"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/reconcile"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// systemVMs reports appliances; whole when all run with what they shall do, or are down as they should be.
func (r *Reporter) systemVMs(o *hostspec.HostObservation, state *desired.State, shot reconcile.Snapshot) (whole bool) {
	whole = true
	for _, id := range ids(state, desired.SystemVM, state.SystemVMs) {
		st, want := shot.VMs[id], state.SystemVMs[id]
		v := observeVM(id, st)
		s := &hostspec.SystemVMObservation{Vm: v, Connected: st.Connected, ImageVersion: st.ImageVersion, UnpluggedGeneration: shot.Unplugged[id]}
		o.SystemVms = append(o.SystemVms, s)
		if problem := state.Problems[desired.Key{Kind: desired.SystemVM, ID: id}]; problem != nil {
			v.State, v.Error = hostspec.VmState_VM_STATE_FAILED, problem.Error()
		}
		if v.State == hostspec.VmState_VM_STATE_UNSPECIFIED {
			v.State = hostspec.VmState_VM_STATE_PENDING
		}
		if shot.ComputeErr != nil && v.Error == "" {
			v.Error = shot.ComputeErr.Error()
		}
		v.Usage = r.usage[id]
		whole = whole && st.Settled
		if v.State != hostspec.VmState_VM_STATE_RUNNING || want == nil {
			continue
		}
		status := r.s.Feed(id)
		s.Services = status.Observation
		switch {
		case v.Error != "":
		case shot.Networks[id].Err != nil:
			v.Error = shot.Networks[id].Err.Error()
		case status.Err != nil:
			v.Error = fmt.Sprintf("services: %v", status.Err)
		}
		whole = whole && (want.GetServices() == nil || status.Applied) && st.Connected == !want.GetStandby()
	}
	var left []string
	for id, st := range shot.VMs {
		if st.Leftover && st.System && !state.Known(desired.Key{Kind: desired.SystemVM, ID: id}) {
			left = append(left, id)
		}
	}
	sort.Strings(left)
	for _, id := range left {
		st := shot.VMs[id]
		o.SystemVms = append(o.SystemVms, &hostspec.SystemVMObservation{
			Vm: observeVM(id, st), Connected: st.Connected, ImageVersion: st.ImageVersion,
		})
		whole = false
	}
	return whole
}
