package desired

import (
	"errors"
	"fmt"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// FormatSystemVM is the image format of a system VM's set of kernel, initrd and root.
const FormatSystemVM = "systemvm"

// maxSystemImageBytes bounds a system VM's image: a real one has a fiftieth of it.
const maxSystemImageBytes = 2 << 30

// Kinds of traffic of a system VM's NIC.
const (
	TrafficGuest   = "guest"
	TrafficPublic  = "public"
	TrafficControl = "control"
)

// AsVM is what a system VM and a VM have in common: what a hypervisor is told of both. It is always to run when it
// should, whatever ended it.
func AsVM(s *hostspec.SystemVM) *hostspec.VirtualMachine {
	return &hostspec.VirtualMachine{
		Id: s.GetId(), InstanceName: s.GetInstanceName(), Power: s.GetPower(), BootEpoch: s.GetBootEpoch(),
		StartEpoch: s.GetStartEpoch(), Vcpus: s.GetVcpus(), CpuMhz: s.GetCpuMhz(), CpuCap: s.GetCpuCap(),
		MemoryMib: s.GetMemoryMib(), Ha: true, StopGraceSeconds: s.GetStopGraceSeconds(), VncPassword: s.GetVncPassword(),
		OsType: "Debian GNU/Linux 12 (64-bit)",
	}
}

func (s *State) checkSystemVM(v *hostspec.SystemVM) error {
	if err := s.checkVM(AsVM(v)); err != nil {
		return err
	}
	if _, twice := s.VMs[v.GetId()]; twice {
		return errors.New("id belongs to a vm")
	}
	if err := s.needPool(v.GetPoolId()); err != nil {
		return err
	}
	if !sha256Pattern.MatchString(v.GetImageSha256()) {
		return fmt.Errorf("image %q is no lower-case hex SHA-256", printable(v.GetImageSha256()))
	}
	image, ok := s.Images[v.GetImageSha256()]
	switch {
	case !ok:
		return fmt.Errorf("image %s is not usable", v.GetImageSha256())
	case image.GetFormat() != FormatSystemVM:
		return fmt.Errorf("image %s is %s, not %s", image.GetSha256(), image.GetFormat(), FormatSystemVM)
	case image.GetPoolId() != v.GetPoolId():
		return fmt.Errorf("image %s is in pool %s, not %s", image.GetSha256(), image.GetPoolId(), v.GetPoolId())
	case len(v.GetNics()) > maxSystemNics:
		return fmt.Errorf("more than %d nics", maxSystemNics)
	}
	return s.checkSystemNics(v)
}

// maxSystemNics fits, with the other devices, the single PCI bus of machine type pc.
const maxSystemNics = 20

func (s *State) checkSystemNics(v *hostspec.SystemVM) error {
	ids, macs := map[string]bool{}, map[string]bool{}
	for _, nic := range v.GetNics() {
		if err := checkUUID(nic.GetId()); err != nil {
			return fmt.Errorf("nic: %w", err)
		}
		if err := checkMAC(nic.GetMac()); err != nil {
			return fmt.Errorf("nic %s: %w", nic.GetId(), err)
		}
		switch {
		case ids[nic.GetId()]:
			return fmt.Errorf("nic %s is listed twice", nic.GetId())
		case macs[nic.GetMac()]:
			return fmt.Errorf("nic %s: address %s is given twice", nic.GetId(), nic.GetMac())
		case nic.GetRateMbit() > 1_000_000:
			return fmt.Errorf("nic %s: rate of %d Mbit/s is above a terabit", nic.GetId(), nic.GetRateMbit())
		}
		ids[nic.GetId()], macs[nic.GetMac()] = true, true
		if err := s.checkTraffic(nic); err != nil {
			return fmt.Errorf("nic %s: %w", nic.GetId(), err)
		}
	}
	return nil
}

func (s *State) checkTraffic(nic *hostspec.SystemNic) error {
	if nic.GetTraffic() != TrafficPublic && (nic.GetBridge() != "" || nic.GetVlan() != 0) {
		return fmt.Errorf("a bridge or vlan with %s traffic", printable(nic.GetTraffic()))
	}
	switch nic.GetTraffic() {
	case TrafficGuest:
		if !s.Known(Key{Network, nic.GetNetworkId()}) {
			return fmt.Errorf("network %q is not in the spec", printable(nic.GetNetworkId()))
		}
	case TrafficPublic:
		if !linkPattern.MatchString(nic.GetBridge()) {
			return fmt.Errorf("bridge %q is no link name", printable(nic.GetBridge()))
		}
		if nic.GetVlan() > 4094 {
			return fmt.Errorf("vlan %d is outside 0 to 4094", nic.GetVlan())
		}
	case TrafficControl:
	default:
		return fmt.Errorf("traffic %q is not known to this agent", printable(nic.GetTraffic()))
	}
	return nil
}

// checkAppliances refuses system VMs that would share a domain name or a NIC with another machine. MAC addresses may be
// shared: a successor has those of the machine it replaces.
func (s *State) checkAppliances() {
	names, nics := map[string]string{}, map[string]string{}
	for id, vm := range s.VMs {
		names[vm.GetInstanceName()] = id
		for _, nic := range vm.GetNics() {
			nics[nic.GetId()] = id
		}
	}
	for _, id := range sortedKeys(s.SystemVMs) {
		v := s.SystemVMs[id]
		err := func() error {
			if first, taken := names[v.GetInstanceName()]; taken {
				return fmt.Errorf("instance name %s belongs to vm %s", v.GetInstanceName(), first)
			}
			for _, nic := range v.GetNics() {
				if first, taken := nics[nic.GetId()]; taken {
					return fmt.Errorf("nic %s belongs to vm %s", nic.GetId(), first)
				}
			}
			return nil
		}()
		if err != nil {
			s.Problems[Key{SystemVM, id}] = fmt.Errorf("check system vm %s: %w", id, err)
			delete(s.SystemVMs, id)
			continue
		}
		names[v.GetInstanceName()] = id
		for _, nic := range v.GetNics() {
			nics[nic.GetId()] = id
		}
	}
}
