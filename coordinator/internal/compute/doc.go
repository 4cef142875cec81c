// Package compute is the area of virtual machines and their disks: what the API may do with them, how they are placed,
// what of them a host is told (Render), and what a host's observations mean for them (Fold).
//
// A VM's row says what is wanted (state Starting or Stopping, epochs) and what was reached. Nothing here talks to a
// host: rows are rendered into the host's spec, the agent makes it true and reports, Fold writes what it reports. Hence
// every step can be run twice and after a crash anywhere.
//
// Invariants:
//   - A VM whose HostID is set counts in that host's HostCapacity row, and only there; place and release write both.
//   - A VM is given another host only after the former one has reported it stopped (Evicting), so that it never runs
//     twice.
//   - A volume's size counts in its pool's AllocatedBytes from the commit that gives it a pool to the commit that
//     removes its row.
//   - Data is removed only by a rendered tombstone (state Expunging), and the row goes after the host said "gone".
package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// NICRequest says how a VM joins a network.
type NICRequest = network.NICRequest

// Networks is what compute needs of the network area.
type Networks interface {
	// AllocateNIC writes the NIC row of vm in network n. Errors: cloud.Invalid, cloud.NoCapacity.
	AllocateNIC(tx *store.Tx, vm *cloud.VM, n *cloud.Network, req NICRequest) (*cloud.NIC, error)
	// FreeNICs removes all NIC rows of the VM and the rules that lead to them.
	FreeNICs(tx *store.Tx, vm *cloud.VM) error
	// Prepare makes the VM's networks ready to be carried by vm.HostID: segment, router, source NAT address.
	Prepare(tx *store.Tx, vm *cloud.VM) error
	// Release tells that the VM runs no more.
	Release(tx *store.Tx, vm *cloud.VM) error
	// Ready tells whether the VM's networks are up on its host; if not, changes of which rows to wait for. An error is
	// final.
	Ready(r store.Reader, vm *cloud.VM) (ready bool, waitOn []cloud.ID, err error)
	// Features lists the kernel features a host needs to carry the VM's networks ("vxlan").
	Features(r store.Reader, vm *cloud.VM) []string
}

// Counter keeps resource counts and limits.
type Counter interface {
	// Count adds delta to the account's count. Errors: cloud.LimitExceeded.
	Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error
}

// EventWriter writes an entry of the audit log that no API call caused.
type EventWriter func(tx *store.Tx, e *cloud.Event) error

// Area is the compute area, with what it needs of its neighbours.
type Area struct {
	Net    Networks
	Seal   *seal.Keeper
	Counts Counter
	Event  EventWriter
}
