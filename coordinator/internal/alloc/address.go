package alloc

import (
	"encoding/binary"
	"net/netip"
)

// Number is an IPv4 address as a number; the order of both is the same.
func Number(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(binary.BigEndian.Uint32(b[:]))
}

// Address is the IPv4 address of a number.
func Address(n uint64) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(n))
	return netip.AddrFrom4(b)
}

// Usable gives the first and last address of an IPv4 prefix that a machine may have: all but the network's own and the
// broadcast address.
func Usable(p netip.Prefix) (first, last netip.Addr) {
	base := Number(p.Masked().Addr())
	size := uint64(1) << (32 - p.Bits())
	if size <= 2 {
		return Address(base), Address(base + size - 1)
	}
	return Address(base + 1), Address(base + size - 2)
}

// FirstAddress gives the lowest address from start to end that is neither reserved nor taken. taken counts the taken
// addresses of a closed interval; reserved addresses must not be among them.
func FirstAddress(start, end netip.Addr, reserved []netip.Addr, taken func(start, end netip.Addr) int) (netip.Addr, bool) {
	n, ok := First(Number(start), Number(end), func(lo, hi uint64) int {
		count := taken(Address(lo), Address(hi))
		for _, a := range reserved {
			if a.Is4() && lo <= Number(a) && Number(a) <= hi {
				count++
			}
		}
		return count
	})
	if !ok {
		return netip.Addr{}, false
	}
	return Address(n), true
}

// Netmask is the dotted form of a prefix length: 24 gives 255.255.255.0.
func Netmask(bits int) string {
	return Address(uint64(^uint32(0) << (32 - bits))).String()
}

// MaskBits reads a dotted netmask.
func MaskBits(mask string) (bits int, ok bool) {
	a, err := netip.ParseAddr(mask)
	if err != nil || !a.Is4() {
		return 0, false
	}
	m := uint32(Number(a))
	for bits = 32; bits >= 0; bits-- {
		var want uint32
		if bits > 0 {
			want = ^uint32(0) << (32 - bits)
		}
		if m == want {
			return bits, true
		}
	}
	return 0, false
}
