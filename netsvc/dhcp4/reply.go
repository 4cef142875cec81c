package dhcp4

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipUDPLen = 28
	// minMaxSize is the size of an IP datagram every client must take (RFC 2131, section 2).
	minMaxSize = 576
	maxSize    = 1500
)

// appendReply appends the BOOTP message that answers r. yiaddr is the zero address for NAK and INFORM.
func appendReply(b []byte, c *config, g *guest, r *request, kind byte) []byte {
	start := len(b)
	b = append(b, make([]byte, fixedLen)...)
	m := b[start:]
	m[0], m[1], m[2] = opReply, 1, 6
	copy(m[4:], r.xid[:])
	flags := r.flags & broadcastFlag
	if kind == typeNak && isSet(r.giaddr) {
		flags |= broadcastFlag // RFC 2131, 4.3.2: the relay shall broadcast it
	}
	binary.BigEndian.PutUint16(m[10:], flags)
	if kind == typeAck {
		put(m[12:], r.ciaddr)
	}
	if kind != typeNak && r.kind != typeInform {
		put(m[16:], g.ip)
	}
	put(m[24:], r.giaddr)
	copy(m[28:], r.mac[:])
	b = append(b, cookie[:]...)

	var scratch [1024]byte
	options := appendOptions(scratch[:0], c, g, r, kind)
	size := min(max(r.maxSize, minMaxSize), maxSize) - ipUDPLen
	b = placeOptions(b, start, options, size)
	for len(b)-start < minMessage {
		b = append(b, optPad)
	}
	return b
}

// appendOptions appends every option of the answer, in the order of importance: what the protocol needs, what the
// client asked for in its order, or everything when it named nothing.
func appendOptions(b []byte, c *config, g *guest, r *request, kind byte) []byte {
	b = append(b, optType, 1, kind)
	b = appendAddrs(b, optServerID, c.serverID)
	if kind == typeNak {
		return appendIdentity(b, r)
	}
	if r.kind != typeInform { // RFC 2131, 4.3.5: no lease times for INFORM
		b = appendSeconds(b, optLeaseTime, c.lease)
		b = appendSeconds(b, optRenewal, c.lease/2)
		b = appendSeconds(b, optRebinding, uint32(uint64(c.lease)*7/8))
	}
	wanted := r.wanted
	if len(wanted) == 0 {
		wanted = defaultWanted
	}
	var sent [256]bool
	for _, code := range wanted {
		if !sent[code] {
			sent[code] = true
			b = appendOption(b, c, g, code)
		}
	}
	if !sent[optMask] {
		b = appendOption(b, c, g, optMask) // an address is of no use without it
	}
	return appendIdentity(b, r)
}

var defaultWanted = []byte{optMask, optClasslessRoutes, optRouter, optDNS, optHostname, optDomain, optMTU, optBroadcast}

// appendIdentity echoes what tells client and relay whose answer this is (RFC 6842; RFC 3046: last).
func appendIdentity(b []byte, r *request) []byte {
	if len(r.clientID) > 0 {
		b = append(append(b, optClientID, byte(len(r.clientID))), r.clientID...)
	}
	if len(r.relay) > 0 && isSet(r.giaddr) {
		b = append(append(b, optRelayAgent, byte(len(r.relay))), r.relay...)
	}
	return b
}

func appendOption(b []byte, c *config, g *guest, code byte) []byte {
	switch code {
	case optMask:
		return append(append(b, optMask, 4), c.mask[:]...)
	case optBroadcast:
		return append(append(b, optBroadcast, 4), c.broadcast[:]...)
	case optHostname:
		return appendText(b, optHostname, g.hostname)
	case optDomain:
		return appendText(b, optDomain, c.domain)
	case optMTU:
		if c.mtu != 0 {
			return binary.BigEndian.AppendUint16(append(b, optMTU, 2), c.mtu)
		}
	case optRouter:
		if g.defaultNIC && c.gateway.IsValid() {
			return appendAddrs(b, optRouter, c.gateway)
		}
	case optDNS:
		if g.defaultNIC {
			return appendAddrs(b, optDNS, c.dns...)
		}
	case optClasslessRoutes, optMSRoutes:
		if g.defaultNIC {
			return appendLong(b, code, c.classless)
		}
	}
	return b
}

func appendAddrs(b []byte, code byte, addrs ...netip.Addr) []byte {
	if len(addrs) == 0 {
		return b
	}
	b = append(b, code, byte(4*len(addrs)))
	for _, a := range addrs {
		v := a.As4()
		b = append(b, v[:]...)
	}
	return b
}

func appendSeconds(b []byte, code byte, seconds uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, code, 4), seconds)
}

func appendText(b []byte, code byte, text string) []byte {
	if text == "" {
		return b
	}
	return append(append(b, code, byte(len(text))), text...)
}

// appendLong splits a value that does not fit one option (RFC 3396).
func appendLong(b []byte, code byte, value []byte) []byte {
	for len(value) > 0 {
		n := min(len(value), 255)
		b = append(append(b, code, byte(n)), value[:n]...)
		value = value[n:]
	}
	return b
}

// placeOptions appends the options to the message that begins at start. What does not fit into size goes into the
// file and sname fields (option 52), and what does not fit there either is left out.
func placeOptions(b []byte, start int, options []byte, size int) []byte {
	room := size - (len(b) - start)
	if len(options)+1 <= room {
		return append(append(b, options...), optEnd)
	}
	file, sname := 0, 0
	room -= 4 // option 52 and the end
	for len(options) > 0 {
		n := 2 + int(options[1])
		option := options[:n]
		options = options[n:]
		switch {
		case n <= room:
			b = append(b, option...)
			room -= n
		case file+n < fileLen:
			copy(b[start+fileAt+file:], option)
			file += n
		case sname+n < snameLen:
			copy(b[start+snameAt+sname:], option)
			sname += n
		}
	}
	var overload byte
	if file > 0 {
		b[start+fileAt+file] = optEnd
		overload |= 1
	}
	if sname > 0 {
		b[start+snameAt+sname] = optEnd
		overload |= 2
	}
	if overload != 0 {
		b = append(b, optOverload, 1, overload)
	}
	return append(b, optEnd)
}

func put(to []byte, a netip.Addr) {
	if a.IsValid() {
		v := a.As4()
		copy(to, v[:])
	}
}

func isSet(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }
