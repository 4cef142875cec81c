package network

import (
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// NICRequest says how a VM joins a network.
type NICRequest struct {
	// IP is the address asked for; the invalid address lets the network choose.
	IP netip.Addr
	// MAC is the address asked for, 48 bits; 0 lets the network choose.
	MAC      uint64
	Default  bool
	DeviceID uint32
}

// AllocateNIC writes the NIC row of vm in network n. Errors: cloud.Invalid, cloud.NoCapacity.
func (a *Area) AllocateNIC(tx *store.Tx, vm *cloud.VM, n *cloud.Network, q NICRequest) (*cloud.NIC, error) {
	if n.State == cloud.NetworkDestroy {
		return nil, cloud.Errorf(cloud.Invalid, "Network %s is being deleted", n.Name)
	}
	if n.ZoneID != vm.ZoneID {
		return nil, cloud.Errorf(cloud.Invalid, "Network %s is not in the zone of the VM", n.Name)
	}
	ip, err := a.guestIP(tx, n, q.IP)
	if err != nil {
		return nil, err
	}
	mac := q.MAC
	if mac == 0 {
		mac = newMAC(tx)
	} else if tables.NICs.Count(tx, "mac", store.K(mac)) > 0 || mac == n.GatewayMAC || mac == n.ServiceMAC {
		return nil, cloud.Errorf(cloud.Invalid, "MAC address %s is in use", alloc.FormatMAC(mac))
	}
	nic := &cloud.NIC{
		ID: tx.NewID(), VMID: vm.ID, NetworkID: n.ID, MAC: mac, IP: ip, Default: q.Default, DeviceID: q.DeviceID,
		Created: tx.Now(), AccountID: vm.AccountID, DomainID: vm.DomainID, Name: vm.Name,
	}
	return nic, tables.NICs.Put(tx, nic)
}

// guestIP checks the wanted address of a guest, or chooses the lowest free one.
func (a *Area) guestIP(r store.Reader, n *cloud.Network, want netip.Addr) (netip.Addr, error) {
	taken := func(lo, hi netip.Addr) int {
		return tables.NICs.CountBetween(r, "address", store.K(n.ID, lo), store.K(n.ID, hi.Next()))
	}
	reserved := []netip.Addr{n.Gateway, n.ServiceIP}
	if !want.IsValid() {
		if ip, ok := alloc.FirstAddress(n.StartIP, n.EndIP, reserved, taken); ok {
			return ip, nil
		}
		return netip.Addr{}, cloud.Errorf(cloud.NoCapacity, "Insufficient address capacity: network %s has no free address from %s to %s",
			n.Name, n.StartIP, n.EndIP)
	}
	switch {
	case !want.Is4() || want.Less(n.StartIP) || n.EndIP.Less(want):
		return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Address %s is not in the range %s-%s of network %s", want, n.StartIP, n.EndIP, n.Name)
	case want == n.Gateway:
		return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Address %s is the gateway of network %s", want, n.Name)
	case want == n.ServiceIP:
		return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Address %s is where network %s serves DHCP and DNS", want, n.Name)
	case taken(want, want) > 0:
		return netip.Addr{}, cloud.Errorf(cloud.NoCapacity, "Insufficient address capacity: %s is in use in network %s", want, n.Name)
	}
	return want, nil
}

// newMAC makes an address that no NIC has. The random part comes with an ID, which is chosen before the log.
func newMAC(tx *store.Tx) uint64 {
	for {
		mac := alloc.MAC(uint16(macPrefix.Int(tx)), tx.NewID())
		if tables.NICs.Count(tx, "mac", store.K(mac)) == 0 {
			return mac
		}
	}
}

// FreeNICs removes all NIC rows of the VM and the rules that lead to them.
func (a *Area) FreeNICs(tx *store.Tx, vm *cloud.VM) error {
	if err := freeStatics(tx, vm); err != nil {
		return err
	}
	touched := map[cloud.ID]*cloud.Network{}
	for f := range tables.PortForwardingRules.By(tx, "vm", store.K(vm.ID)) {
		if err := revokeForwarding(tx, f); err != nil {
			return err
		}
	}
	for nic := range tables.NICs.By(tx, "vm", store.K(vm.ID)) {
		if err := tables.NICs.Delete(tx, nic.ID); err != nil {
			return err
		}
		n, ok := tables.Networks.Get(tx, nic.NetworkID)
		if !ok || touched[n.ID] != nil {
			continue
		}
		touched[n.ID] = n
		if err := a.changed(tx, n); err != nil {
			return err
		}
	}
	return nil
}
