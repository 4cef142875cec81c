package network

import (
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// EnableStatic makes a public address lead to one VM as a whole, both ways. guest is the VM's address in the network;
// the invalid one stands for that of its NIC. What may pass is still the firewall's matter.
//
// Errors: cloud.Invalid, cloud.InUse.
func (a *Area) EnableStatic(tx *store.Tx, ip *cloud.PublicIP, vm *cloud.VM, guest netip.Addr) error {
	n, err := networkOfIP(tx, ip, StaticNat)
	if err != nil {
		return err
	}
	if _, err := forwardTarget(tx, n, ip, ForwardRequest{VM: vm, GuestIP: guest}); err != nil {
		return err
	}
	switch {
	case ip.SourceNAT:
		return cloud.Errorf(cloud.Invalid, "Can't enable static nat, ip address %s is a source nat ip address", ip.Address)
	case ip.StaticNAT && ip.VMID == vm.ID:
		return nil
	case ip.StaticNAT:
		return cloud.Errorf(cloud.InUse, "Failed to enable static nat for the ip address %s as it's already assigned to another vm %s", ip.Address, ip.VMID)
	case tables.PortForwardingRules.Count(tx, "ip", store.K(ip.ID)) > 0:
		return cloud.Errorf(cloud.Invalid, "Failed to enable static nat for the ip address %s as it already has PortForwarding rules assigned", ip.Address)
	}
	for other := range tables.PublicIPs.By(tx, "vm", store.K(vm.ID)) {
		if other.NetworkID == n.ID {
			return cloud.Errorf(cloud.Invalid, "Failed to enable static nat on the address %s: VM %s already has it on address %s",
				ip.Address, vm.ID, other.Address)
		}
	}
	ip.StaticNAT, ip.VMID = true, vm.ID
	if err := tables.PublicIPs.Put(tx, ip); err != nil {
		return err
	}
	return a.changed(tx, n)
}

// DisableStatic ends static NAT of an address and revokes the rules that opened ports of it.
func (a *Area) DisableStatic(tx *store.Tx, ip *cloud.PublicIP) error {
	if !ip.StaticNAT {
		return cloud.Errorf(cloud.Invalid, "Specified IP address %s is not associated with a vm: it has no static nat", ip.Address)
	}
	for p := range tables.PortForwardingRules.By(tx, "ip", store.K(ip.ID)) {
		if err := revokeForwarding(tx, p); err != nil {
			return err
		}
	}
	ip.StaticNAT, ip.VMID = false, cloud.ID{}
	if err := tables.PublicIPs.Put(tx, ip); err != nil {
		return err
	}
	n, ok := tables.Networks.Get(tx, ip.NetworkID)
	if !ok {
		return nil
	}
	return a.changed(tx, n)
}

// OpenStatic writes a rule that opens ports of a static NAT address.
//
// Errors: cloud.Invalid, cloud.NetworkRuleConflict.
func (a *Area) OpenStatic(tx *store.Tx, ip *cloud.PublicIP, q ForwardRequest) (*cloud.PortForwardingRule, error) {
	vm, ok := tables.VMs.Get(tx, ip.VMID)
	if !ip.StaticNAT || !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to create ip forwarding rule as address %s has no static nat; enable it first", ip.Address)
	}
	q.VM, q.Static = vm, true
	return a.Forward(tx, ip, q)
}

// freeStatics ends static NAT of a VM that gives up its addresses; the caller renders its networks anew.
func freeStatics(tx *store.Tx, vm *cloud.VM) error {
	for ip := range tables.PublicIPs.By(tx, "vm", store.K(vm.ID)) {
		ip.StaticNAT, ip.VMID = false, cloud.ID{}
		if err := tables.PublicIPs.Put(tx, ip); err != nil {
			return err
		}
	}
	return nil
}

// staticTarget is the guest's address that a public address leads to as a whole.
func staticTarget(r store.Reader, ip *cloud.PublicIP) (netip.Addr, bool) {
	if !ip.StaticNAT {
		return netip.Addr{}, false
	}
	for nic := range tables.NICs.By(r, "vm", store.K(ip.VMID)) {
		if nic.NetworkID == ip.NetworkID && nic.IP.IsValid() {
			return nic.IP, true
		}
	}
	return netip.Addr{}, false
}
