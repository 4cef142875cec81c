package alloc

import (
	"encoding/binary"
	"fmt"
	"net"
)

// MAC makes a locally administered unicast address (IEEE 802, bits 1 and 0 of the first byte) of a 16-bit prefix and
// random bytes. Two clouds that share a wire are told apart by the prefix, and else by chance.
func MAC(prefix uint16, random [16]byte) uint64 {
	first := uint64(prefix>>8)&^0x03 | 0x02
	return first<<40 | uint64(prefix&0xff)<<32 | uint64(binary.BigEndian.Uint32(random[12:]))
}

// FormatMAC is the usual colon form, lower case.
func FormatMAC(m uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], m)
	return net.HardwareAddr(b[2:]).String()
}

// ParseMAC reads a 48-bit unicast address that is not zero.
func ParseMAC(s string) (uint64, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return 0, fmt.Errorf("%q is no unicast MAC address", s)
	}
	var b [8]byte
	copy(b[2:], hw)
	m := binary.BigEndian.Uint64(b[:])
	if m == 0 {
		return 0, fmt.Errorf("%q is no unicast MAC address", s)
	}
	return m, nil
}
