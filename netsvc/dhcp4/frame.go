package dhcp4

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

const (
	etherLen   = 14
	ipLen      = 20
	udpLen     = 8
	headersLen = etherLen + ipLen + udpLen
	serverPort = 67
	clientPort = 68
)

var (
	broadcastMAC  = kernel.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	errNotUDP     = errors.New("not a whole UDP datagram")
)

// payloadOf takes the UDP payload and the sender's MAC out of an Ethernet frame. Checksums are not verified: frames
// of guests on this host come with checksums left to be filled in by a network card that is not there.
func payloadOf(frame []byte) (sender kernel.MAC, payload []byte, err error) {
	if len(frame) < headersLen || frame[12] != 0x08 || frame[13] != 0x00 {
		return sender, nil, errNotUDP
	}
	sender = kernel.MAC(frame[6:12])
	ip := frame[etherLen:]
	header := int(ip[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || header < ipLen || total < header+udpLen || total > len(ip) || ip[9] != 17 {
		return sender, nil, errNotUDP
	}
	udp := ip[header:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpLen || length > len(udp) {
		return sender, nil, errNotUDP
	}
	return sender, udp[udpLen:length], nil
}

// fillHeaders writes the Ethernet, IP and UDP headers before a payload that already stands at headersLen.
func fillHeaders(frame []byte, fromMAC, toMAC kernel.MAC, from, to netip.Addr) {
	copy(frame, toMAC[:])
	copy(frame[6:], fromMAC[:])
	frame[12], frame[13] = 0x08, 0x00

	ip := frame[etherLen : etherLen+ipLen]
	clear(ip)
	ip[0] = 0x45
	ip[1] = 0x10 // low delay, as other servers send it
	binary.BigEndian.PutUint16(ip[2:], uint16(len(frame)-etherLen))
	ip[8], ip[9] = 64, 17
	put(ip[12:], from)
	put(ip[16:], to)
	binary.BigEndian.PutUint16(ip[10:], fold(sum(0, ip)))

	udp := frame[etherLen+ipLen:]
	binary.BigEndian.PutUint16(udp, serverPort)
	binary.BigEndian.PutUint16(udp[2:], clientPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	udp[6], udp[7] = 0, 0
	checksum := fold(sum(sum(17+uint32(len(udp)), ip[12:20]), udp))
	if checksum == 0 {
		checksum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], checksum)
}

// sum adds 16-bit words (RFC 1071); frames are short enough that 32 bits do not overflow.
func sum(acc uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc>>16 != 0 {
		acc = acc&0xffff + acc>>16
	}
	return ^uint16(acc)
}
