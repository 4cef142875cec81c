package network

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// carried tells whether hosts are told of the network.
func carried(n *cloud.Network) bool {
	return n.State == cloud.NetworkImplementing || n.State == cloud.NetworkImplemented
}

// touch makes the network's next rendering a new one.
func touch(tx *store.Tx, n *cloud.Network) error {
	n.Epoch++
	return tables.Networks.Put(tx, n)
}

// changed is touch after rows of the network were put into a state that a host has to confirm; where no host carries
// the network they are final at once.
func (a *Area) changed(tx *store.Tx, n *cloud.Network) error {
	if err := touch(tx, n); err != nil {
		return err
	}
	if carried(n) && !unrouted(tx, n) {
		return nil
	}
	return a.settleRows(tx, n, ^uint64(0))
}

// unrouted tells whether a carried network is without its router, because an administrator stopped or destroyed it: then
// nobody confirms anything, and what is asked holds when the router starts again.
func unrouted(r store.Reader, n *cloud.Network) bool {
	o, ok := tables.NetworkOfferings.Get(r, n.OfferingID)
	if !ok || !routed(o) {
		return false
	}
	rt, ok := RouterOf(r, n.ID)
	return !ok || rt.State == cloud.VMStopped
}

// transition puts the network into a state that its router's host has to confirm.
func transition(tx *store.Tx, n *cloud.Network, to cloud.NetworkState) error {
	n.State, n.StateSince, n.PendingIndex = to, tx.Now(), tx.Index()+1
	return touch(tx, n)
}

// RouterOf gives the router of a network: the one in charge.
func RouterOf(r store.Reader, network cloud.ID) (*cloud.Router, bool) {
	return tables.Routers.First(r, "network", store.K(network, false))
}

// SuccessorOf gives the router that is getting ready to replace a network's, or failed to.
func SuccessorOf(r store.Reader, network cloud.ID) (*cloud.Router, bool) {
	return tables.Routers.First(r, "network", store.K(network, true))
}

// Prepare makes the networks of a VM ready to be carried by vm.HostID: segment, router, source NAT address; a router that
// was stopped starts again, as in CloudStack. It is called in the transaction that starts the VM, and may be called again.
//
// Errors: cloud.NoCapacity, cloud.LimitExceeded, cloud.Invalid.
func (a *Area) Prepare(tx *store.Tx, vm *cloud.VM) error {
	for nic := range tables.NICs.By(tx, "vm", store.K(vm.ID)) {
		n, ok := tables.Networks.Get(tx, nic.NetworkID)
		if !ok {
			return &store.NotFound{Table: "network", ID: nic.NetworkID}
		}
		if n.State == cloud.NetworkDestroy {
			return cloud.Errorf(cloud.Invalid, "Network %s is being deleted", n.Name)
		}
		n.IdleSince = time.Time{}
		if carried(n) && !unrouted(tx, n) {
			if err := tables.Networks.Put(tx, n); err != nil {
				return err
			}
			continue
		}
		if err := a.implement(tx, n, vm.HostID); err != nil {
			return err
		}
	}
	return nil
}

// implement gives a network what it needs to run: a segment, a source NAT address, and a router on a host.
func (a *Area) implement(tx *store.Tx, n *cloud.Network, prefer cloud.ID) error {
	o, ok := tables.NetworkOfferings.Get(tx, n.OfferingID)
	if !ok {
		return &store.NotFound{Table: "network_offering", ID: n.OfferingID}
	}
	if n.Segment == 0 {
		segment, err := freeSegment(tx, n)
		if err != nil {
			return err
		}
		n.Segment = segment
	}
	if Offers(o, SourceNat) {
		if _, has := SourceNATOf(tx, n.ID); !has {
			if _, err := a.takeIP(tx, n, true, noAddr); err != nil {
				return err
			}
		}
	}
	if !routed(o) {
		if err := transition(tx, n, cloud.NetworkImplemented); err != nil {
			return err
		}
		return a.settleRows(tx, n, ^uint64(0))
	}
	if err := a.homeRouter(tx, n, prefer); err != nil {
		return err
	}
	return transition(tx, n, cloud.NetworkImplementing)
}

func freeSegment(tx *store.Tx, n *cloud.Network) (uint32, error) {
	p, ok := tables.PhysicalNetworks.Get(tx, n.PhysicalNetworkID)
	if !ok {
		return 0, &store.NotFound{Table: "physical_network", ID: n.PhysicalNetworkID}
	}
	sets, err := segmentsFor(tx, p, n.AccountID)
	if err != nil {
		return 0, err
	}
	for _, set := range sets {
		segment, ok := set.First(func(lo, hi uint64) int {
			return tables.Networks.CountBetween(tx, "segment", store.K(p.ID, lo), store.K(p.ID, hi+1))
		})
		if ok {
			return segment, nil
		}
	}
	return 0, cloud.Errorf(cloud.NoCapacity, "Insufficient virtual network capacity: physical network %s has no free %s in its range %q",
		p.Name, n.Isolation, sets[len(sets)-1])
}

// Release tells that the VM runs no more: the caller writes its row without a host in the same transaction. A network
// without a running VM is collected after a while.
func (a *Area) Release(tx *store.Tx, vm *cloud.VM) error {
	for nic := range tables.NICs.By(tx, "vm", store.K(vm.ID)) {
		n, ok := tables.Networks.Get(tx, nic.NetworkID)
		if !ok || !carried(n) || !n.IdleSince.IsZero() || anyRuns(tx, n, vm.ID) {
			continue
		}
		n.IdleSince = tx.Now()
		if err := tables.Networks.Put(tx, n); err != nil {
			return err
		}
	}
	return nil
}

// anyRuns tells whether a VM of the network other than except has a host.
func anyRuns(r store.Reader, n *cloud.Network, except cloud.ID) bool {
	for nic := range tables.NICs.By(r, "network", store.K(n.ID)) {
		if nic.VMID == except {
			continue
		}
		if vm, ok := tables.VMs.Get(r, nic.VMID); ok && !vm.HostID.IsZero() {
			return true
		}
	}
	return false
}

// Ready tells whether the networks of a VM are up; if not, changes of which rows to wait for. An error is final. The
// VM's own host needs no question: its agent brings a network up before the VMs that are in it.
func (a *Area) Ready(r store.Reader, vm *cloud.VM) (ready bool, waitOn []cloud.ID, err error) {
	for nic := range tables.NICs.By(r, "vm", store.K(vm.ID)) {
		n, ok := tables.Networks.Get(r, nic.NetworkID)
		switch {
		case !ok:
			return false, nil, &store.NotFound{Table: "network", ID: nic.NetworkID}
		case n.State == cloud.NetworkImplemented:
		case n.State == cloud.NetworkImplementing:
			waitOn = append(waitOn, n.ID)
		default:
			return false, nil, cloud.Errorf(cloud.Unavailable, "Network %s is in state %s", n.Name, n.State)
		}
	}
	return len(waitOn) == 0, waitOn, nil
}

// WaitingFor says, for a person, what a network that is not up waits for.
func WaitingFor(r store.Reader, n *cloud.Network) string {
	rt, ok := RouterOf(r, n.ID)
	if !ok {
		return "network " + n.Name
	}
	text := "router " + rt.Name + " of network " + n.Name
	if h, ok := tables.Hosts.Get(r, rt.HostID); ok {
		text += " on host " + h.Name + ", which is " + h.Status.String()
	}
	if rt.Error != "" {
		text += " (" + rt.Error + ")"
	}
	return text
}

// Features lists the kernel features a host needs to carry the VM's networks.
func (a *Area) Features(r store.Reader, vm *cloud.VM) []string {
	var list []string
	seen := map[string]bool{}
	for nic := range tables.NICs.By(r, "vm", store.K(vm.ID)) {
		n, ok := tables.Networks.Get(r, nic.NetworkID)
		if f := feature(n); ok && !seen[f] {
			seen[f] = true
			list = append(list, f)
		}
	}
	return list
}

// feature is the kernel feature that a network's isolation needs, as agents name it.
func feature(n *cloud.Network) string {
	if n != nil && n.Isolation == VXLAN {
		return "vxlan"
	}
	return "vlan"
}

// Delete takes a network without VMs away: its rules, its addresses, its router and itself. Where a host carries it,
// the rows go when that host has reported that the network is gone, lest its addresses are answered twice.
func (a *Area) Delete(tx *store.Tx, n *cloud.Network) error {
	if n.State == cloud.NetworkDestroy {
		return nil
	}
	for nic := range tables.NICs.By(tx, "network", store.K(n.ID)) {
		name := nic.VMID.String()
		if vm, ok := tables.VMs.Get(tx, nic.VMID); ok {
			name = vm.Name
		}
		return cloud.Errorf(cloud.InUse, "Can't delete the network %s: not all of its VMs are expunged (%s has address %s)", n.Name, name, nic.IP)
	}
	switch {
	case carried(n) && !unrouted(tx, n):
		n.IdleSince = time.Time{}
		return transition(tx, n, cloud.NetworkDestroy)
	case n.State == cloud.NetworkShutdown: // on its way out already: what it waits for stays the same
		n.State = cloud.NetworkDestroy
		return tables.Networks.Put(tx, n)
	}
	return a.destroy(tx, n)
}

// shutdown stops carrying a network.
func (a *Area) shutdown(tx *store.Tx, n *cloud.Network) error {
	n.IdleSince = time.Time{}
	if s, ok := SuccessorOf(tx, n.ID); ok {
		if err := a.drop(tx, s); err != nil {
			return err
		}
	}
	rt, ok := RouterOf(tx, n.ID)
	if !ok {
		return a.unimplement(tx, n)
	}
	rt.State, rt.Retiring = cloud.VMStopping, false
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return transition(tx, n, cloud.NetworkShutdown)
}

// left finishes a Shutdown or Destroy once no host carries the network.
func (a *Area) left(tx *store.Tx, n *cloud.Network) error {
	if n.State == cloud.NetworkDestroy {
		return a.destroy(tx, n)
	}
	return a.unimplement(tx, n)
}

// unimplement gives back what only a running network needs. It keeps its public addresses.
func (a *Area) unimplement(tx *store.Tx, n *cloud.Network) error {
	if rt, ok := RouterOf(tx, n.ID); ok {
		if err := a.unhome(tx, rt); err != nil {
			return err
		}
		rt.State, rt.Error = cloud.VMStopped, ""
		if err := tables.Routers.Put(tx, rt); err != nil {
			return err
		}
	}
	if o, ok := tables.NetworkOfferings.Get(tx, n.OfferingID); !ok || !o.SpecifyVLAN {
		n.Segment = 0
	}
	n.State, n.StateSince = cloud.NetworkAllocated, tx.Now()
	if err := tables.Networks.Put(tx, n); err != nil {
		return err
	}
	return a.settleRows(tx, n, ^uint64(0))
}

// destroy removes all rows of a network.
func (a *Area) destroy(tx *store.Tx, n *cloud.Network) error {
	for f := range tables.PortForwardingRules.By(tx, "network", store.K(n.ID)) {
		if err := tables.PortForwardingRules.Delete(tx, f.ID); err != nil {
			return err
		}
	}
	for f := range tables.FirewallRules.By(tx, "network", store.K(n.ID)) {
		if err := tables.FirewallRules.Delete(tx, f.ID); err != nil {
			return err
		}
	}
	for ip := range tables.PublicIPs.By(tx, "network", store.K(n.ID)) {
		if err := a.freePublicIP(tx, ip); err != nil {
			return err
		}
	}
	for rt := range tables.Routers.By(tx, "network", store.K(n.ID)) {
		if err := a.drop(tx, rt); err != nil {
			return err
		}
	}
	if err := a.Counts.Count(tx, n.AccountID, cloud.ResourceNetwork, -1); err != nil {
		return err
	}
	return tables.Networks.Delete(tx, n.ID)
}
