package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Sockets of services are bound to the link they serve (SO_BINDTODEVICE), for two reasons: a request that came in on
// another link never reaches them, and their answers leave by that link although svc0 and gw0 carry the same prefix.

// ListenTCP listens on one address and port of one link. The address need not exist yet (IP_FREEBIND), so that
// services do not depend on the order in which links get their addresses. The listener keeps the first segment of
// each connection for SenderMAC.
func (k *Kernel) ListenTCP(link string, at netip.AddrPort) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: bindControl(link, func(fd int) error {
		// Kernels before 5.10 know only 1 (no link-layer header): SenderMAC then says it does not know.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 2)
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	})}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp4", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s of %s: %w", at, link, err)
	}
	return l.(*net.TCPListener), nil
}

// ListenUDP listens on a port of one link, on all its addresses; the address a datagram was sent to is told in its
// control message (IP_PKTINFO), and the answer must give it as source.
func (k *Kernel) ListenUDP(link string, port uint16) (*net.UDPConn, error) {
	return listenUDP(link, port, nil)
}

func listenUDP(link string, port uint16, filter []bpf.Instruction) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: bindControl(link, func(fd int) error {
		if filter != nil {
			if err := attachFilter(fd, filter); err != nil {
				return err
			}
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})}
	at := net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port)))
	c, err := config.ListenPacket(context.Background(), "udp4", at)
	if err != nil {
		return nil, fmt.Errorf("listen on udp port %d of %s: %w", port, link, err)
	}
	return c.(*net.UDPConn), nil
}

func bindControl(link string, more func(fd int) error) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return
			}
			if err = unix.BindToDevice(int(fd), link); err != nil {
				if errors.Is(err, unix.ENODEV) {
					err = ErrNoLink
				}
				return
			}
			err = more(int(fd))
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}
}

// LinkIndex is the index of the link with this name.
func (k *Kernel) LinkIndex(name string) (int, error) { return linkIndex(name) }

// SenderMAC is the Ethernet source address of the frame that opened a connection accepted from ListenTCP. ok is
// false where the kernel does not keep it.
func (k *Kernel) SenderMAC(c *net.TCPConn) (mac MAC, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return MAC{}, false
	}
	// Ethernet, IPv4 and TCP header at their longest fit; the kernel refuses a shorter buffer.
	var syn [256]byte
	size := uint32(len(syn))
	var errno syscall.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
			uintptr(unsafe.Pointer(&syn[0])), uintptr(unsafe.Pointer(&size)), 0)
	}); err != nil || errno != 0 {
		return MAC{}, false
	}
	return senderOf(syn[:size])
}

// senderOf reads the source of an Ethernet frame with an IPv4 packet; what was saved without Ethernet header starts
// with the IP header instead.
func senderOf(frame []byte) (MAC, bool) {
	const header = 14
	if len(frame) < header+20 || frame[12] != 0x08 || frame[13] != 0x00 || frame[header]>>4 != 4 {
		return MAC{}, false
	}
	return MAC(frame[6:12]), true
}

// ParsePacketInfo reads the destination address of a datagram from its control message; the result is invalid
// when there is none.
func ParsePacketInfo(oob []byte) netip.Addr {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return netip.Addr{}
		}
		if h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo {
			return netip.AddrFrom4([4]byte(data[8:12])) // in_pktinfo.ipi_addr
		}
		oob = rest
	}
	return netip.Addr{}
}

// AppendPacketInfo appends the control message that makes source the sender of a datagram.
func AppendPacketInfo(oob []byte, source netip.Addr) []byte {
	a := source.As4()
	return append(oob, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a})...)
}

// Dial opens a connection by the namespace's routes; UDP connections get a random port from the kernel.
func (k *Kernel) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, network, address)
}
