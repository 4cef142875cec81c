package compute

import (
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Start asks for a stopped VM to run, on host when that is given. StartStep does the rest. Errors: cloud.Invalid when
// the VM is not stopped, cloud.LimitExceeded, cloud.Unavailable when a pool it needs is in maintenance.
func (a *Area) Start(tx *store.Tx, vm *cloud.VM, host cloud.ID) error {
	if vm.State != cloud.VMStopped {
		return stateError("start", vm, "Stopped")
	}
	if err := mayRun(tx, vm.AccountID, vm.Name); err != nil {
		return err
	}
	if v, p, ok := maintained(tx, vm.ID); ok {
		return cloud.Errorf(cloud.Unavailable, "Unable to start VM %s: its volume %s is on primary storage %s, which is %s", vm.ID, v.Name, p.Name, p.State)
	}
	vm.State, vm.WantedHostID, vm.Error, vm.Avoid, vm.StoppedFor = cloud.VMStarting, host, "", nil, cloud.ID{}
	if err := a.count(tx, vm, true); err != nil {
		return err
	}
	if err := a.renewVolatile(tx, vm); err != nil {
		return err
	}
	vm.ForcedStop = false
	vm.StartEpoch++
	return tables.VMs.Put(tx, vm)
}

// mayRun refuses to start anything for an account that is disabled, or for a suspended project: until it is enabled again
// its VMs rest, whoever asks. A locked account is another matter, as in CloudStack: its users are shut out and nothing new
// is made for it, but what it has runs on, and so an admin, or the loss of a host, may start it again.
func mayRun(r store.Reader, account cloud.ID, name string) error {
	if o, ok := tables.Accounts.Get(r, account); ok && o.State == cloud.Disabled {
		return cloud.Errorf(cloud.Denied, "The owner of VM %s is disabled or, where that is a project, suspended", name)
	}
	return nil
}

// Stop asks for a VM to be stopped: by ACPI first, or hard when forced. A stopped VM stays as it is; StopStep sees it
// done. A VM that is still starting is stopped as well. Whoever stops it has decided: the end of a pool's maintenance, which
// may have stopped it before, does not start it any more.
func (a *Area) Stop(tx *store.Tx, vm *cloud.VM, forced bool) error {
	kept := vm.StoppedFor
	vm.StoppedFor = cloud.ID{}
	switch vm.State {
	case cloud.VMStopped:
		if !kept.IsZero() {
			return tables.VMs.Put(tx, vm)
		}
		return nil
	case cloud.VMStopping:
		vm.ForcedStop = vm.ForcedStop || forced
		return tables.VMs.Put(tx, vm)
	case cloud.VMStarting, cloud.VMRunning:
	default:
		return stateError("stop", vm, "Running or Starting")
	}
	vm.ForcedStop = forced
	if vm.HostID.IsZero() {
		return a.rest(tx, vm)
	}
	vm.State = cloud.VMStopping
	return tables.VMs.Put(tx, vm)
}

// rest makes a VM that runs nowhere Stopped.
func (a *Area) rest(tx *store.Tx, vm *cloud.VM) error {
	vm.State = cloud.VMStopped
	if runningOnly.Bool(tx) {
		if err := a.count(tx, vm, false); err != nil {
			return err
		}
	}
	return tables.VMs.Put(tx, vm)
}

// Reboot asks for a running VM to be rebooted.
func (a *Area) Reboot(tx *store.Tx, vm *cloud.VM) error {
	if vm.State != cloud.VMRunning {
		return stateError("reboot", vm, "Running")
	}
	if err := mayRun(tx, vm.AccountID, vm.Name); err != nil {
		return err
	}
	vm.BootEpoch++
	return tables.VMs.Put(tx, vm)
}

// Destroy asks for a VM to be stopped and given up. With expunge its disks and addresses go at once, else after
// expunge.delay seconds.
func (a *Area) Destroy(tx *store.Tx, vm *cloud.VM, expunge bool) error {
	vm.Expunge, vm.StoppedFor = vm.Expunge || expunge, cloud.ID{}
	switch vm.State {
	case cloud.VMDestroyed, cloud.VMExpunging:
		return tables.VMs.Put(tx, vm)
	case cloud.VMMigrating:
		return stateError("destroy", vm, "any but Migrating")
	case cloud.VMStopped, cloud.VMError:
		if vm.HostID.IsZero() {
			return a.giveUp(tx, vm)
		}
	}
	vm.Destroyed = tx.Now()
	if vm.HostID.IsZero() {
		return a.giveUp(tx, vm)
	}
	vm.State, vm.ForcedStop = cloud.VMStopping, true
	return tables.VMs.Put(tx, vm)
}

// giveUp makes a VM that runs nowhere Destroyed, and takes it out of its account's counts.
func (a *Area) giveUp(tx *store.Tx, vm *cloud.VM) error {
	vm.State, vm.Destroyed = cloud.VMDestroyed, tx.Now()
	if err := a.countDown(tx, vm); err != nil {
		return err
	}
	if vm.Expunge {
		return a.expunge(tx, vm)
	}
	return tables.VMs.Put(tx, vm)
}

// expunge frees a destroyed VM's addresses and has its disks deleted. The row goes when the last disk is gone.
func (a *Area) expunge(tx *store.Tx, vm *cloud.VM) error {
	if err := a.Net.FreeNICs(tx, vm); err != nil {
		return err
	}
	left := false
	for _, v := range VolumesOf(tx, vm.ID) {
		gone, err := a.removeVolume(tx, v)
		if err != nil {
			return err
		}
		left = left || !gone
	}
	if err := leaveAffinity(tx, vm.ID); err != nil {
		return err
	}
	if !left {
		return tables.VMs.Delete(tx, vm.ID)
	}
	vm.State = cloud.VMExpunging
	return tables.VMs.Put(tx, vm)
}

// removeVolume has a volume deleted where it was placed; one that never was, or whose host is gone for good, goes at once.
func (a *Area) removeVolume(tx *store.Tx, v *cloud.Volume) (gone bool, err error) {
	if !v.PoolID.IsZero() {
		pool, ok := tables.StoragePools.Get(tx, v.PoolID)
		hostLeft := true
		if ok && !pool.HostID.IsZero() {
			_, hostLeft = tables.Hosts.Get(tx, pool.HostID)
		}
		if ok && hostLeft {
			v.State, v.Destroyed = cloud.VolumeExpunging, tx.Now()
			return false, tables.Volumes.Put(tx, v)
		}
	}
	return true, a.DropVolume(tx, v)
}

// DropVolume removes the row of a volume whose file is gone, and, with its last volume, the row of an expunging VM.
func (a *Area) DropVolume(tx *store.Tx, v *cloud.Volume) error {
	if pool, ok := tables.StoragePools.Get(tx, v.PoolID); ok {
		pool.AllocatedBytes -= min(pool.AllocatedBytes, v.SizeBytes)
		if err := tables.StoragePools.Put(tx, pool); err != nil {
			return err
		}
	}
	if err := tables.Volumes.Delete(tx, v.ID); err != nil {
		return err
	}
	vm, ok := tables.VMs.Get(tx, v.VMID)
	if ok && vm.State == cloud.VMExpunging && tables.Volumes.Count(tx, "vm", store.K(vm.ID)) == 0 {
		return tables.VMs.Delete(tx, vm.ID)
	}
	return nil
}

// ExpungeDue expunges the VMs that have been Destroyed for longer than expunge.delay seconds, at most limit in one
// transaction, and tells how many. A leader-only loop calls it every expunge.interval.
func (a *Area) ExpungeDue(tx *store.Tx, limit int) (int, error) {
	n := 0
	for vm := range tables.VMs.By(tx, "state", store.K(cloud.VMDestroyed)) {
		if n == limit {
			break
		}
		if !vm.Expunge && tx.Now().Sub(vm.Destroyed) < expungeDelay.Duration(tx) {
			continue
		}
		if err := a.expunge(tx, vm); err != nil {
			return n, fmt.Errorf("expunge VM %s: %w", vm.ID, err)
		}
		n++
	}
	return n, nil
}

// ResetKey gives a stopped VM other SSH keys, and, where its template takes passwords, a new password: the former one can
// be read only with the former key. by is the account that asks. Errors: cloud.Invalid.
func (a *Area) ResetKey(tx *store.Tx, vm *cloud.VM, keys []*cloud.SSHKeyPair, by cloud.ID) error {
	if vm.State != cloud.VMStopped {
		return cloud.Errorf(cloud.Invalid, "Vm %s should be stopped to do SSH Key reset", vm.ID)
	}
	setKeys(vm, keys)
	if vm.PasswordEnabled {
		if err := a.setPassword(vm, "", by); err != nil {
			return err
		}
	}
	return tables.VMs.Put(tx, vm)
}

func setKeys(vm *cloud.VM, keys []*cloud.SSHKeyPair) {
	var names, public []string
	for _, k := range keys {
		names, public = append(names, k.Name), append(public, k.PublicKey)
	}
	vm.KeyPair, vm.PublicKey = strings.Join(names, ","), strings.Join(public, "\n")
}

// ResetPassword gives a stopped VM a new password, to be handed out at its next start; by is the account that asks. Errors: cloud.Invalid when its
// template takes no passwords or it is not stopped.
func (a *Area) ResetPassword(tx *store.Tx, vm *cloud.VM, password string, by cloud.ID) error {
	if !vm.PasswordEnabled {
		return cloud.Errorf(cloud.Invalid, "Fail to reset password for the virtual machine %s, the template is not password enabled", vm.ID)
	}
	if vm.State != cloud.VMStopped {
		return cloud.Errorf(cloud.Invalid, "Unable to reset password for VM %s in state %s: stop it first", vm.ID, vm.State)
	}
	if err := a.setPassword(vm, password, by); err != nil {
		return err
	}
	return tables.VMs.Put(tx, vm)
}

// Rename gives a stopped VM another host name. The caller writes the VM's row.
func (a *Area) Rename(tx *store.Tx, vm *cloud.VM, name string) error {
	if err := CheckHostname("name", name); err != nil {
		return err
	}
	for nic := range tables.NICs.By(tx, "vm", store.K(vm.ID)) {
		if n, ok := tables.Networks.Get(tx, nic.NetworkID); ok {
			if err := checkNameFree(tx, n, name, vm.ID); err != nil {
				return err
			}
		}
		nic.Name = name
		if err := tables.NICs.Put(tx, nic); err != nil {
			return err
		}
	}
	vm.Name = name
	return nil
}

// UsersMayExpunge tells whether users may expunge their own VMs.
func UsersMayExpunge(r store.Reader) bool { return allowUserExpunge.Bool(r) }

func stateError(verb string, vm *cloud.VM, want string) error {
	return cloud.Errorf(cloud.Invalid, "Unable to %s VM %s: it is %s, and must be %s", verb, vm.ID, vm.State, want)
}
