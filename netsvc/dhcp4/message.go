package dhcp4

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

// Message types (RFC 2131, option 53).
const (
	typeDiscover = 1
	typeOffer    = 2
	typeRequest  = 3
	typeDecline  = 4
	typeAck      = 5
	typeNak      = 6
	typeRelease  = 7
	typeInform   = 8
)

// Option codes (RFC 2132 unless said otherwise).
const (
	optPad             = 0
	optMask            = 1
	optRouter          = 3
	optDNS             = 6
	optHostname        = 12
	optDomain          = 15
	optMTU             = 26
	optBroadcast       = 28
	optRequestedIP     = 50
	optLeaseTime       = 51
	optOverload        = 52
	optType            = 53
	optServerID        = 54
	optParameterList   = 55
	optMaxSize         = 57
	optRenewal         = 58
	optRebinding       = 59
	optClientID        = 61
	optRelayAgent      = 82  // RFC 3046
	optClasslessRoutes = 121 // RFC 3442
	optMSRoutes        = 249 // the same content as 121, for old Windows
	optEnd             = 255
)

const (
	opRequest     = 1
	opReply       = 2
	fixedLen      = 236 // BOOTP fields before the options
	snameAt       = 44
	snameLen      = 64
	fileAt        = 108
	fileLen       = 128
	cookieLen     = 4
	broadcastFlag = 0x8000
	// minMessage is the shortest message some clients take: a BOOTP packet.
	minMessage = 300
)

var cookie = [cookieLen]byte{99, 130, 83, 99}

var errNotDHCP = errors.New("not a DHCP request")

// request is a parsed message of a client; its slices point into the received packet.
type request struct {
	kind      byte
	xid       [4]byte
	secs      [2]byte
	broadcast bool
	flags     uint16
	ciaddr    netip.Addr
	giaddr    netip.Addr
	mac       kernel.MAC
	// Options; an address that was not sent is invalid.
	requested netip.Addr
	serverID  netip.Addr
	clientID  []byte
	wanted    []byte
	relay     []byte
	maxSize   int
}

// parse reads a BOOTP request with DHCP options. Fields left out by the client are zero; of an option given twice the
// first counts.
func parse(b []byte) (request, error) {
	if len(b) < fixedLen+cookieLen || b[0] != opRequest || b[1] != 1 || b[2] != 6 ||
		[cookieLen]byte(b[fixedLen:]) != cookie {
		return request{}, errNotDHCP
	}
	r := request{
		xid: [4]byte(b[4:]), secs: [2]byte(b[8:]), flags: binary.BigEndian.Uint16(b[10:]),
		ciaddr: netip.AddrFrom4([4]byte(b[12:])), giaddr: netip.AddrFrom4([4]byte(b[24:])),
		mac: kernel.MAC(b[28:34]),
	}
	r.broadcast = r.flags&broadcastFlag != 0
	overload, err := r.options(b[fixedLen+cookieLen:])
	if err != nil {
		return request{}, err
	}
	// RFC 2131, 4.1: first the options field, then file, then sname.
	if overload&1 != 0 {
		if _, err := r.options(b[fileAt : fileAt+fileLen]); err != nil {
			return request{}, err
		}
	}
	if overload&2 != 0 {
		if _, err := r.options(b[snameAt : snameAt+snameLen]); err != nil {
			return request{}, err
		}
	}
	if r.kind == 0 {
		return request{}, errNotDHCP
	}
	return r, nil
}

func (r *request) options(b []byte) (overload byte, err error) {
	for len(b) > 0 {
		code := b[0]
		switch code {
		case optPad:
			b = b[1:]
			continue
		case optEnd:
			return overload, nil
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return 0, errors.New("an option is longer than the message")
		}
		value := b[2 : 2+int(b[1])]
		b = b[2+len(value):]
		if err := r.option(code, value, &overload); err != nil {
			return 0, err
		}
	}
	return overload, nil // without an end option, as some clients send it
}

func (r *request) option(code byte, value []byte, overload *byte) error {
	switch code {
	case optType, optOverload:
		if len(value) != 1 {
			return errors.New("a one-byte option has another length")
		}
		if code == optOverload {
			*overload = value[0]
		} else if r.kind == 0 {
			r.kind = value[0]
		}
	case optRequestedIP, optServerID:
		if len(value) != 4 {
			return errors.New("an address option is not four bytes")
		}
		to := &r.requested
		if code == optServerID {
			to = &r.serverID
		}
		if !to.IsValid() {
			*to = netip.AddrFrom4([4]byte(value))
		}
	case optMaxSize:
		if len(value) != 2 {
			return errors.New("the maximum size is not two bytes")
		}
		r.maxSize = int(binary.BigEndian.Uint16(value))
	case optClientID:
		if r.clientID == nil {
			r.clientID = value
		}
	case optParameterList:
		if r.wanted == nil {
			r.wanted = value
		}
	case optRelayAgent:
		if r.relay == nil {
			r.relay = value
		}
	}
	return nil
}
