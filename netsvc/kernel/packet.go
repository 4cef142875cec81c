package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// socket is a non-blocking datagram socket waited for by the runtime's poller, with receive and send that allocate
// nothing.
type socket struct {
	file *os.File
	raw  syscall.RawConn
}

func newSocket(fd int, name string) (*socket, error) {
	file := os.NewFile(uintptr(fd), name)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("wait for socket: %w", err)
	}
	return &socket{file: file, raw: raw}, nil
}

func (s *socket) Close() error { return s.file.Close() }

// receive reads one datagram and the link-layer address it came from. Only one goroutine may receive.
func (s *socket) receive(buf []byte) (n int, from unix.RawSockaddrLinklayer, err error) {
	var errno syscall.Errno
	waitErr := s.raw.Read(func(fd uintptr) bool {
		size := uint32(unix.SizeofSockaddrLinklayer)
		r, _, e := syscall.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))),
			uintptr(len(buf)), unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		n, errno = int(r), e
		return e != syscall.EAGAIN && e != syscall.EINTR
	})
	if waitErr != nil {
		return 0, from, waitErr
	}
	if errno != 0 {
		return 0, from, errno
	}
	return n, from, nil
}

// PacketConn receives the IPv4 UDP packets of one link that are sent to one port, with the Ethernet address of their
// sender, and sends whole Ethernet frames. It exists for DHCP, whose clients have no address yet: the IP stack would
// neither tell the sender's MAC nor reach the client.
//
// A second, ordinary UDP socket is held on the port, so that the kernel does not answer unicast requests with "port
// unreachable"; it drops everything it receives, and sends what is routed (answers to relays).
type PacketConn struct {
	packets *socket
	port    *net.UDPConn
	index   int
	mac     MAC
}

// OpenPacket opens a PacketConn for a link and a local UDP port.
func (k *Kernel) OpenPacket(link string, port uint16) (*PacketConn, error) {
	iface, err := net.InterfaceByName(link)
	if err != nil || len(iface.HardwareAddr) != 6 {
		return nil, fmt.Errorf("open packet socket on %s: %w", link, ErrNoLink)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", link, err)
	}
	err = attachFilter(fd, udpPortFilter(port))
	if err == nil {
		// A burst of booting guests waits here; 212 kB (the default) is 250 packets as the kernel counts them.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: iface.Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open packet socket on %s: %w", link, err)
	}
	packets, err := newSocket(fd, "packet:"+link)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", link, err)
	}
	holder, err := listenUDP(link, port, []bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		packets.Close()
		return nil, err
	}
	return &PacketConn{packets: packets, port: holder, index: iface.Index, mac: MAC(iface.HardwareAddr)}, nil
}

// LinkIndex is the link the connection was opened on; a link made anew under the same name has another.
func (c *PacketConn) LinkIndex() int { return c.index }

// MAC is the link's own address.
func (c *PacketConn) MAC() MAC { return c.mac }

// Read receives one frame, Ethernet header included. One goroutine may read.
func (c *PacketConn) Read(frame []byte) (int, error) {
	for {
		n, from, err := c.packets.receive(frame)
		if err != nil {
			// The link went down and up again, or the queue overran: neither ends the socket.
			if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENOBUFS) {
				continue
			}
			return 0, err
		}
		if from.Pkttype == unix.PACKET_OUTGOING || from.Pkttype == unix.PACKET_OTHERHOST {
			continue
		}
		return n, nil
	}
}

// Write sends one Ethernet frame.
func (c *PacketConn) Write(frame []byte) error {
	var errno syscall.Errno
	waitErr := c.packets.raw.Write(func(fd uintptr) bool {
		_, _, errno = syscall.Syscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(frame))),
			uintptr(len(frame)), unix.MSG_DONTWAIT, 0, 0)
		return errno != syscall.EAGAIN && errno != syscall.EINTR
	})
	if waitErr != nil {
		return waitErr
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// WriteTo sends a UDP payload from the port by the link's routes.
func (c *PacketConn) WriteTo(payload []byte, to netip.AddrPort) error {
	_, err := c.port.WriteToUDPAddrPort(payload, to)
	return err
}

// Close ends a blocked Read.
func (c *PacketConn) Close() error {
	return errors.Join(c.packets.Close(), c.port.Close())
}

// udpPortFilter passes unfragmented IPv4 UDP frames to a port.
func udpPortFilter(port uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 8},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 20, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4}, // more fragments, or an offset
		bpf.LoadMemShift{Off: 14},                                   // length of the IP header
		bpf.LoadIndirect{Off: 16, Size: 2},                          // UDP destination port
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
}

func attachFilter(fd int, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attach packet filter: %w", err)
	}
	return nil
}
