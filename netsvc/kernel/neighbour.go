package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func neighbour(index int, addr netip.Addr) (MAC, bool, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(index)})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, addr.AsSlice()))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if errors.Is(err, unix.ENOENT) {
		return MAC{}, false, nil
	}
	if err != nil {
		return MAC{}, false, fmt.Errorf("look up neighbour %s on link %d: %w", addr, index, err)
	}
	for _, answer := range answers {
		n, err := netlink.NeighDeserialize(answer)
		if err != nil || len(n.HardwareAddr) != len(MAC{}) || n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
			continue
		}
		return MAC(n.HardwareAddr), true, nil
	}
	return MAC{}, false, nil
}

// Announce sends a gratuitous ARP request and reply for addr, so that switches and neighbours learn where the
// address lives now (RFC 5227, section 3; some equipment heeds only one of the two forms).
func (k *Kernel) Announce(l Link, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce %s on %s: open packet socket: %w", addr, l.Name, err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: l.Index, Halen: 6}
	copy(to.Addr[:], broadcastMAC[:])
	for _, op := range []byte{1, 2} {
		if err := unix.Sendto(fd, gratuitousARP(op, l.MAC, addr), 0, to); err != nil {
			return fmt.Errorf("announce %s on %s: %w", addr, l.Name, err)
		}
	}
	return nil
}

var broadcastMAC = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// gratuitousARP is an ARP packet (RFC 826) whose sender and target address are both addr.
func gratuitousARP(op byte, mac MAC, addr netip.Addr) []byte {
	p := []byte{0, 1, 8, 0, 6, 4, 0, op} // Ethernet, IPv4, address lengths, operation
	ip := addr.As4()
	p = append(append(p, mac[:]...), ip[:]...)
	target := broadcastMAC
	if op == 1 {
		target = MAC{}
	}
	return append(append(p, target[:]...), ip[:]...)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// linkIndex resolves a name in this thread's namespace.
func linkIndex(name string) (int, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", name, ErrNoLink)
	}
	return iface.Index, nil
}
