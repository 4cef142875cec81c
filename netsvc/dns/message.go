package dns

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Numbers of RFC 1035 and RFC 6891.
const (
	typeA    = 1
	typeSOA  = 6
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	typeANY  = 255
	classIN  = 1

	rcodeOK       = 0
	rcodeFormat   = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImpl  = 4
	rcodeRefused  = 5
	rcodeBadVers  = 16

	headerLen = 12
	optLen    = 11
	maxName   = 255
	// plainSize is what a client without EDNS takes over UDP.
	plainSize = 512
	// maxUDP is the largest answer sent over UDP: what passes an IPv6 minimum MTU unfragmented (DNS flag day 2020).
	maxUDP = 1232
)

const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
)

// query is a parsed question; raw is the whole message.
type query struct {
	raw []byte
	// name is the question's name in lower case, in text form with a final dot ("." for the root).
	name  []byte
	qtype uint16
	class uint16
	// questionEnd is the offset behind the question.
	questionEnd int
	// EDNS, when the message has an OPT record.
	edns    bool
	version byte
	udpSize int
	do      bool

	nameBuf [maxName + 1]byte
}

var (
	errDrop   = errors.New("not to be answered")
	errFormat = errors.New("malformed message")
	errOpcode = errors.New("not a standard query")
)

// parse reads a message into q. errDrop means that not even an error may be sent back.
func (q *query) parse(b []byte) error {
	if len(b) < headerLen {
		return errDrop
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags&flagQR != 0 {
		return errDrop // answering answers makes loops
	}
	*q = query{raw: b, udpSize: plainSize, questionEnd: headerLen}
	if flags>>11&0xf != 0 {
		return errOpcode
	}
	counts := [4]int{}
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(b[4+2*i:]))
	}
	if counts[0] != 1 || counts[1] != 0 {
		return errFormat
	}
	at, err := q.question(headerLen)
	if err != nil {
		return err
	}
	q.questionEnd = at
	for range counts[2] + counts[3] {
		if at, err = q.record(at); err != nil {
			return err
		}
	}
	return nil
}

// question reads the one question that begins at an offset.
func (q *query) question(at int) (int, error) {
	b := q.raw
	n := 0
	for {
		if at >= len(b) {
			return 0, errFormat
		}
		length := int(b[at])
		at++
		if length == 0 {
			break
		}
		if length > 63 || at+length > len(b) || n+length+1 >= maxName {
			return 0, errFormat // too long, cut off, or compressed, which a first name cannot be
		}
		for _, c := range b[at : at+length] {
			if c == '.' {
				return 0, errFormat // would read as two labels in text form
			}
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.nameBuf[n] = c
			n++
		}
		q.nameBuf[n] = '.'
		n++
		at += length
	}
	if n == 0 {
		q.nameBuf[0] = '.'
		n = 1
	}
	q.name = q.nameBuf[:n]
	if at+4 > len(b) {
		return 0, errFormat
	}
	q.qtype, q.class = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	return at + 4, nil
}

// record skips one resource record, and reads it if it is the OPT record.
func (q *query) record(at int) (int, error) {
	b := q.raw
	root := at < len(b) && b[at] == 0
	for {
		if at >= len(b) {
			return 0, errFormat
		}
		length := int(b[at])
		at++
		if length == 0 {
			break
		}
		if length&0xc0 == 0xc0 {
			at++
			break
		}
		if length > 63 {
			return 0, errFormat
		}
		at += length
	}
	if at+10 > len(b) {
		return 0, errFormat
	}
	rtype, data := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+8:]))
	if rtype == typeOPT {
		if q.edns || !root {
			return 0, errFormat
		}
		q.edns = true
		q.udpSize = max(plainSize, int(binary.BigEndian.Uint16(b[at+2:])))
		q.version = b[at+5]
		q.do = b[at+6]&0x80 != 0
	}
	at += 10 + data
	if at > len(b) {
		return 0, errFormat
	}
	return at, nil
}

// start appends the header and the question of an answer to q; its case is kept (clients check it).
func (q *query) start(out []byte, flags uint16, rcode int) []byte {
	begin := len(out)
	out = append(out, q.raw[:q.questionEnd]...)
	h := out[begin:]
	asked := binary.BigEndian.Uint16(h[2:])
	binary.BigEndian.PutUint16(h[2:], flagQR|asked&(0xf<<11|flagRD)|flags|uint16(rcode&0xf))
	questions := uint16(1)
	if q.questionEnd == headerLen {
		questions = 0
	}
	binary.BigEndian.PutUint16(h[4:], questions)
	clear(h[6:headerLen])
	return out
}

// count adds n to one of the section counters: 1 answer, 2 authority, 3 additional.
func count(message []byte, section, n int) {
	at := 4 + 2*section
	binary.BigEndian.PutUint16(message[at:], binary.BigEndian.Uint16(message[at:])+uint16(n))
}

// finish appends the OPT record if the question had one; the message begins at an offset of the buffer.
func (q *query) finish(message []byte, begin, rcode int) []byte {
	if !q.edns {
		return message
	}
	count(message[begin:], 3, 1)
	var do byte
	if q.do {
		do = 0x80
	}
	message = append(message, 0, 0, typeOPT)
	message = binary.BigEndian.AppendUint16(message, maxUDP)
	return append(message, byte(rcode>>4), 0, do, 0, 0, 0)
}

// limit is how long an answer may be.
func (q *query) limit(tcp bool) int {
	switch {
	case tcp:
		return 0xffff
	case q.edns:
		return min(q.udpSize, maxUDP)
	default:
		return plainSize
	}
}

// failure is an answer that only says why there is none.
func (q *query) failure(out []byte, flags uint16, rcode int) []byte {
	return q.finish(q.start(out, flags, rcode), len(out), rcode)
}

// appendRecord appends a record of the question's own name.
func appendRecord(message []byte, rtype uint16, ttl uint32, data []byte) []byte {
	message = append(message, 0xc0, headerLen)
	message = appendFixed(message, rtype, ttl, len(data))
	return append(message, data...)
}

func appendFixed(message []byte, rtype uint16, ttl uint32, length int) []byte {
	message = binary.BigEndian.AppendUint16(message, rtype)
	message = binary.BigEndian.AppendUint16(message, classIN)
	message = binary.BigEndian.AppendUint32(message, ttl)
	return binary.BigEndian.AppendUint16(message, uint16(length))
}

// packName turns a checked name in text form with a final dot into wire form.
func packName(name string) []byte {
	var b []byte
	start := 0
	for i := range len(name) {
		if name[i] == '.' {
			if i > start {
				b = append(append(b, byte(i-start)), name[start:i]...)
			}
			start = i + 1
		}
	}
	return append(b, 0)
}

// reverse reads d.c.b.a.in-addr.arpa.
func reverse(name []byte) (netip.Addr, bool) {
	const suffix = ".in-addr.arpa."
	if len(name) <= len(suffix) || string(name[len(name)-len(suffix):]) != suffix {
		return netip.Addr{}, false
	}
	var quad [4]byte
	part, digits, value := 0, 0, 0
	for _, c := range append(name[:len(name)-len(suffix):len(name)-len(suffix)], '.') {
		switch {
		case c == '.' && digits > 0 && value < 256 && part < 4:
			quad[3-part] = byte(value)
			part, digits, value = part+1, 0, 0
		case '0' <= c && c <= '9' && digits < 3:
			value = value*10 + int(c-'0')
			digits++
		default:
			return netip.Addr{}, false
		}
	}
	return netip.AddrFrom4(quad), part == 4
}
