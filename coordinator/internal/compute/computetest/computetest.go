// Package computetest has stand-ins with behaviour for what package compute works with: a network area that always has
// room, and a host agent that makes what is rendered true at once, or refuses to.
package computetest

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Networks is the network area made small: every NIC gets the next address, and networks are always ready.
type Networks struct{}

// AllocateNIC implements compute.Networks.
func (Networks) AllocateNIC(tx *store.Tx, vm *cloud.VM, n *cloud.Network, q compute.NICRequest) (*cloud.NIC, error) {
	nic := &cloud.NIC{
		ID: tx.NewID(), VMID: vm.ID, NetworkID: n.ID, MAC: 0x020000000000 + uint64(tables.NICs.Len(tx)) + vm.Number<<8, Default: q.Default,
		AccountID: vm.AccountID, DomainID: vm.DomainID, DeviceID: q.DeviceID, Name: vm.Name,
	}
	return nic, tables.NICs.Put(tx, nic)
}

// FreeNICs implements compute.Networks.
func (Networks) FreeNICs(tx *store.Tx, vm *cloud.VM) error {
	for _, nic := range slices.Collect(tables.NICs.By(tx, "vm", store.K(vm.ID))) {
		if err := tables.NICs.Delete(tx, nic.ID); err != nil {
			return err
		}
	}
	return nil
}

// Prepare implements compute.Networks.
func (Networks) Prepare(*store.Tx, *cloud.VM) error { return nil }

// Release implements compute.Networks.
func (Networks) Release(*store.Tx, *cloud.VM) error { return nil }

// Ready implements compute.Networks.
func (Networks) Ready(store.Reader, *cloud.VM) (bool, []cloud.ID, error) {
	return true, nil, nil
}

// Features implements compute.Networks.
func (Networks) Features(store.Reader, *cloud.VM) []string { return nil }

// Agent is a host: it makes what is rendered true at once.
type Agent struct {
	// Fails refuses to make disks and start VMs.
	Fails bool
	// Stuck are the VMs that it cannot stop.
	Stuck map[string]bool
	// Runs are its domains by VM, as it reports them; a test may edit them to have a guest stop by itself.
	Runs map[string]*hostspec.VirtualMachineObservation
	// Disks are its files by volume.
	Disks map[string]bool
}

// NewAgent makes an empty host.
func NewAgent() *Agent {
	return &Agent{Runs: map[string]*hostspec.VirtualMachineObservation{}, Disks: map[string]bool{}}
}

// Make makes the spec true and says what the host then observes.
func (a *Agent) Make(s *hostspec.HostSpec) *hostspec.HostObservation {
	o := &hostspec.HostObservation{}
	for _, v := range s.Volumes {
		if v.Removed {
			delete(a.Disks, v.Id)
			o.Volumes = append(o.Volumes, &hostspec.ObjectObservation{Id: v.Id, Gone: true})
			continue
		}
		if a.Fails {
			continue
		}
		a.Disks[v.Id] = true
		o.Volumes = append(o.Volumes, &hostspec.ObjectObservation{Id: v.Id, Ready: true, Bytes: 1})
	}
	listed := map[string]bool{}
	for _, vm := range s.Vms {
		listed[vm.Id] = true
		run, running := a.Runs[vm.Id]
		obs := &hostspec.VirtualMachineObservation{Id: vm.Id, StartEpoch: vm.StartEpoch, BootEpoch: vm.BootEpoch}
		switch {
		case vm.Power == hostspec.PowerState_POWER_STATE_STOPPED && running && a.Stuck[vm.Id]:
			obs = run
		case vm.Power == hostspec.PowerState_POWER_STATE_STOPPED:
			delete(a.Runs, vm.Id)
			obs.State, obs.StopCause = hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_WANTED
		case running && run.State == hostspec.VmState_VM_STATE_STOPPED && run.StartEpoch == vm.StartEpoch:
			obs = run
		case a.Fails:
			obs.State, obs.Error = hostspec.VmState_VM_STATE_FAILED, "no such machine type"
		default:
			obs.State = hostspec.VmState_VM_STATE_RUNNING
			a.Runs[vm.Id] = obs
		}
		o.Vms = append(o.Vms, obs)
	}
	for vm := range a.Runs {
		if !listed[vm] {
			delete(a.Runs, vm)
		}
	}
	return o
}
