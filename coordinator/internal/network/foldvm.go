package network

import (
	"fmt"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// restartPause is the least time between two starts of a system VM that does not stay up.
const restartPause = 10 * time.Second

// foldSystemVM reads what a host says about a router that is a system VM there. settled is the host's settled generation.
func (a *Area) foldSystemVM(tx *store.Tx, n *cloud.Network, rt *cloud.Router, o *hostspec.SystemVMObservation, settled uint64) error {
	rt.Connected, rt.Checks = o.GetConnected(), examineVM(tx.Now(), rt, o)
	if v := o.GetImageVersion(); v != "" {
		rt.ImageVersion = bounded(v)
	}
	if v := o.GetServices().GetVersion(); v != "" {
		rt.Version = bounded(v)
	}
	if !carried(n) {
		return tables.Routers.Put(tx, rt)
	}
	if rt.Retiring {
		return a.foldRetiring(tx, n, rt, unpluggedIn(o, settled))
	}
	vm := o.GetVm()
	state := vm.GetState()
	if rt.State == cloud.VMStopping || rt.Evicting {
		if state != hostspec.VmState_VM_STATE_STOPPED {
			return tables.Routers.Put(tx, rt)
		}
		if rt.State == cloud.VMStopping {
			return a.stopped(tx, n, rt)
		}
		rt.Avoid = append(rt.Avoid, rt.HostID)
		rt.State = cloud.VMStarting
		return a.rehomeOne(tx, n, rt)
	}
	switch state {
	case hostspec.VmState_VM_STATE_STOPPED:
		return a.foldDied(tx, n, rt, vm)
	case hostspec.VmState_VM_STATE_FAILED:
		if e := vm.GetStartEpoch(); e != 0 && e < rt.StartEpoch {
			return nil // of a start before
		}
		rt.Error = bounded(vm.GetError())
		if rt.Standby {
			return a.failStandby(tx, n, rt, rt.Error)
		}
		rt.Evicting, rt.State = true, cloud.VMStarting
		return tables.Routers.Put(tx, rt)
	case hostspec.VmState_VM_STATE_RUNNING:
		return a.foldAlive(tx, n, rt, o)
	}
	return a.foldPending(tx, rt, vm)
}

// unpluggedIn is the generation from which a system VM on standby is known to be unplugged. Agents that do not say have
// settled a spec only when it is as wanted.
func unpluggedIn(o *hostspec.SystemVMObservation, settled uint64) uint64 {
	if o.GetConnected() {
		settled = 0
	}
	return max(o.GetUnpluggedGeneration(), settled)
}

// foldPending keeps the reason why a system VM does not run yet.
func (a *Area) foldPending(tx *store.Tx, rt *cloud.Router, vm *hostspec.VirtualMachineObservation) error {
	if text := vm.GetError(); text != "" {
		rt.Error = bounded(text)
	}
	return tables.Routers.Put(tx, rt)
}

func bounded(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxTrouble)], "?") }

// foldDied starts a system VM again that ended by itself. One that does not stay up is not started without a pause.
func (a *Area) foldDied(tx *store.Tx, n *cloud.Network, rt *cloud.Router, vm *hostspec.VirtualMachineObservation) error {
	if vm.GetStartEpoch() < rt.StartEpoch || !rt.Standby && tx.Now().Sub(rt.Since) < restartPause {
		return tables.Routers.Put(tx, rt)
	}
	text := "it shut itself down"
	if vm.GetStopCause() == hostspec.StopCause_STOP_CAUSE_CRASHED {
		text = "its domain died by itself"
	}
	if rt.Standby {
		return a.failStandby(tx, n, rt, text)
	}
	rt.StartEpoch++
	rt.Since, rt.State, rt.Error = tx.Now(), cloud.VMStarting, text
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return a.tellHA(tx, rt, fmt.Sprintf("Router %s of network %s is started again: %s", rt.Name, n.Name, text))
}

// foldAlive reads about a system VM that is up: whether its services have made true what they shall.
func (a *Area) foldAlive(tx *store.Tx, n *cloud.Network, rt *cloud.Router, o *hostspec.SystemVMObservation) error {
	vm, s := o.GetVm(), o.GetServices()
	if vm.GetStartEpoch() < rt.StartEpoch {
		return tables.Routers.Put(tx, rt)
	}
	rt.ObservedStart, rt.ObservedBoot, rt.VNCPort = vm.GetStartEpoch(), max(rt.ObservedBoot, vm.GetBootEpoch()), vm.GetVncPort()
	if rt.ObservedBoot >= rt.BootEpoch {
		rt.ForcedStop = false // a forced reboot has happened
	}
	rt.Error = bounded(vm.GetError())
	switch {
	case rt.Error != "":
	case s == nil && rt.State == cloud.VMRunning:
		rt.Error = "its network services do not answer"
	case s == nil:
		rt.Error = "it is booting"
	default:
		rt.Error = troubleOf(s)
	}
	ready := rt.Error == "" && rt.ObservedBoot >= rt.BootEpoch && s.GetAppliedGeneration() >= n.PendingIndex
	switch {
	case !ready:
	case rt.Standby:
		return a.handOver(tx, n, rt)
	case rt.Connected:
		return a.confirm(tx, n, rt, s.GetAppliedGeneration())
	}
	if err := tables.Routers.Put(tx, rt); err != nil || rt.Standby {
		return err
	}
	return a.settleRows(tx, n, s.GetAppliedGeneration())
}

// confirm writes that a router has made the network's last transition true, and settles what waited for it.
func (a *Area) confirm(tx *store.Tx, n *cloud.Network, rt *cloud.Router, applied uint64) error {
	rt.State, rt.Restarts, rt.Incarnation, rt.Avoid = cloud.VMRunning, n.Restarts, n.Incarnation, nil
	rt.AppliedGeneration = max(rt.AppliedGeneration, n.PendingIndex)
	if n.State == cloud.NetworkImplementing {
		n.State, n.StateSince = cloud.NetworkImplemented, tx.Now()
		if err := tables.Networks.Put(tx, n); err != nil {
			return err
		}
	}
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return a.settleRows(tx, n, applied)
}
