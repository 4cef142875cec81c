package dhcp4

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

// Lease is an address a guest holds.
type Lease struct {
	MAC     kernel.MAC
	IP      netip.Addr
	VMID    string
	Expires time.Time
}

// event counts what happened, in the order of eventNames.
type event int

const (
	gotDiscover event = iota
	gotRequest
	gotDecline
	gotRelease
	gotInform
	sentOffer
	sentAck
	sentNak
	droppedMalformed
	droppedStranger
	droppedSpoofed
	droppedOther
	droppedSend
	eventCount
)

var eventNames = [eventCount]string{
	"discover", "request", "decline", "release", "inform", "offer", "ack", "nak",
	"dropped_malformed", "dropped_stranger", "dropped_spoofed", "dropped_other", "dropped_send",
}

// server is the protocol, without sockets: a request goes in, an answer may come out.
type server struct {
	config atomic.Pointer[config]
	now    func() time.Time
	events [eventCount]atomic.Uint64

	mu     sync.Mutex
	leases map[kernel.MAC]Lease
	// changed is called, without the lock, when a guest got its first lease or gave it back.
	changed func()
}

func (s *server) count(e event) { s.events[e].Add(1) }

// decision is what to send and whereto.
type decision struct {
	kind  byte
	guest *guest
}

// handle answers one request that came in a frame from sender; kind 0 is no answer.
func (s *server) handle(c *config, r *request, sender kernel.MAC) decision {
	relayed := isSet(r.giaddr)
	switch {
	case relayed && !c.relays[r.giaddr]:
		s.count(droppedSpoofed)
		return decision{}
	case !relayed && sender != r.mac:
		s.count(droppedSpoofed)
		return decision{}
	}
	g := c.guests[r.mac]
	if g == nil {
		s.count(droppedStranger)
		return decision{}
	}
	if r.serverID.IsValid() && r.serverID != c.serverID {
		return decision{} // the client talks to another server
	}
	switch r.kind {
	case typeDiscover:
		s.count(gotDiscover)
		s.count(sentOffer)
		return decision{typeOffer, g}
	case typeRequest:
		s.count(gotRequest)
		return s.request(c, g, r)
	case typeInform:
		s.count(gotInform)
		if !c.subnet.Contains(r.ciaddr) {
			return decision{}
		}
		s.count(sentAck)
		return decision{typeAck, g}
	case typeRelease, typeDecline:
		if r.kind == typeRelease {
			s.count(gotRelease)
		} else {
			s.count(gotDecline)
		}
		s.forget(g)
		return decision{}
	default:
		s.count(droppedOther)
		return decision{}
	}
}

// request is DHCPREQUEST in the four states of RFC 2131, section 4.3.2. What the client wants is in option 50 before
// it uses the address (SELECTING, INIT-REBOOT) and in ciaddr while it does (RENEWING, REBINDING).
func (s *server) request(c *config, g *guest, r *request) decision {
	wants := r.requested
	if isSet(r.ciaddr) {
		wants = r.ciaddr
	}
	if !isSet(wants) {
		s.count(droppedMalformed)
		return decision{}
	}
	if wants != g.ip {
		s.count(sentNak)
		return decision{typeNak, g}
	}
	s.remember(g, c.lease)
	s.count(sentAck)
	return decision{typeAck, g}
}

func (s *server) remember(g *guest, seconds uint32) {
	l := Lease{MAC: g.mac, IP: g.ip, VMID: g.vmID, Expires: s.now().Add(time.Duration(seconds) * time.Second)}
	s.mu.Lock()
	old, had := s.leases[g.mac]
	s.leases[g.mac] = l
	s.mu.Unlock()
	if !had || old.IP != l.IP || old.VMID != l.VMID {
		s.changed()
	}
}

func (s *server) forget(g *guest) {
	s.mu.Lock()
	_, had := s.leases[g.mac]
	delete(s.leases, g.mac)
	s.mu.Unlock()
	if had {
		s.changed()
	}
}

// keep drops leases that ran out or that the config does not give any more.
func (s *server) keep(c *config) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for mac, l := range s.leases {
		var g *guest
		if c != nil {
			g = c.guests[mac]
		}
		if g == nil || g.ip != l.IP || g.vmID != l.VMID || !l.Expires.After(now) {
			delete(s.leases, mac)
		}
	}
}

func (s *server) list() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedLeases(s.leases)
}

// answer turns a received frame into the frame to send, in the buffer out. relay is the address to send the payload
// (what follows the headers) to instead, when valid.
func (s *server) answer(frame, out []byte, own kernel.MAC) (reply []byte, relay netip.Addr) {
	c := s.config.Load()
	if c == nil {
		return nil, netip.Addr{}
	}
	sender, payload, err := payloadOf(frame)
	if err != nil {
		s.count(droppedMalformed)
		return nil, netip.Addr{}
	}
	r, err := parse(payload)
	if err != nil {
		s.count(droppedMalformed)
		return nil, netip.Addr{}
	}
	d := s.handle(c, &r, sender)
	if d.kind == 0 {
		return nil, netip.Addr{}
	}
	reply = appendReply(out[:headersLen], c, d.guest, &r, d.kind)
	if isSet(r.giaddr) {
		return reply, r.giaddr
	}
	toMAC, to := destination(d, &r)
	fillHeaders(reply, own, toMAC, c.serverID, to)
	return reply, netip.Addr{}
}

// destination is where an answer to a client on the link goes (RFC 2131, 4.1): to its address if it uses one already,
// else to the one it is being given, unless it says that it cannot hear that.
func destination(d decision, r *request) (kernel.MAC, netip.Addr) {
	switch {
	case d.kind == typeNak:
		return broadcastMAC, broadcastAddr
	case isSet(r.ciaddr):
		return r.mac, r.ciaddr
	case r.broadcast:
		return broadcastMAC, broadcastAddr
	default:
		return r.mac, d.guest.ip
	}
}
