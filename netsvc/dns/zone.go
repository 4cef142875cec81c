package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	negativeTTL = 60
	maxRecords  = 200 // addresses of one name
)

// zone is a parsed netspec.Dns; it is never changed once built.
type zone struct {
	domain     string // in lower case, with a final dot; empty for none
	names      map[string]*record
	pointers   map[netip.Addr]*pointer
	forwarders []string
	allow      []netip.Prefix
	soa        []byte // a whole record, owner included
}

type record struct {
	addresses []netip.Addr
	ttl       uint32
}

type pointer struct {
	name []byte // wire form
	ttl  uint32
}

// newZone parses; records that cannot be served are reported beside a zone of the others.
func newZone(w *netspec.Dns) (*zone, error) {
	z := &zone{names: map[string]*record{}, pointers: map[netip.Addr]*pointer{}}
	if w.GetDomain() != "" {
		domain, err := canonical(w.GetDomain())
		if err != nil {
			return nil, fmt.Errorf("domain: %w", err)
		}
		z.domain = domain
		z.soa = soa(domain)
		z.names[domain] = &record{} // exists, without addresses
	}
	z.names["localhost."] = &record{addresses: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, ttl: negativeTTL}
	for _, text := range w.GetAllow() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("allow %q: not a prefix", text)
		}
		z.allow = append(z.allow, p.Masked())
	}
	for _, text := range w.GetForwarders() {
		at, err := parseForwarder(text)
		if err != nil {
			return nil, err
		}
		z.forwarders = append(z.forwarders, at)
	}
	var errs []error
	for _, r := range w.GetRecords() {
		if err := z.add(r); err != nil {
			errs = append(errs, fmt.Errorf("record %q: %w", r.GetName(), err))
		}
	}
	return z, errors.Join(errs...)
}

func parseForwarder(text string) (string, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(a.String(), "53"), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", fmt.Errorf("forwarder %q: neither an address nor address:port", text)
	}
	return at.String(), nil
}

func (z *zone) add(w *netspec.DnsRecord) error {
	r := &record{ttl: w.GetTtlSeconds()}
	for _, text := range w.GetAddresses() {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is4() {
			return fmt.Errorf("%q is not an IPv4 address", text)
		}
		r.addresses = append(r.addresses, a)
	}
	if len(r.addresses) > maxRecords {
		return fmt.Errorf("more than %d addresses", maxRecords)
	}
	name, err := canonical(w.GetName())
	if err != nil {
		return err
	}
	full := name
	if !strings.HasSuffix(w.GetName(), ".") {
		if full, err = canonical(name + z.domain); err != nil {
			return err
		}
		// Guests without a search domain ask for the short name alone.
		z.names[name] = r
	}
	if z.names[full] != nil && full != name && full != z.domain {
		return errors.New("the name is given twice")
	}
	z.names[full] = r
	for _, a := range r.addresses {
		if z.pointers[a] == nil {
			z.pointers[a] = &pointer{name: packName(full), ttl: r.ttl}
		}
	}
	return nil
}

// canonical is a name in lower case with a final dot.
func canonical(name string) (string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, ".")) + "."
	if len(name) >= maxName || len(name) < 2 {
		return "", fmt.Errorf("name %s is not 1 to 253 characters long", strconv.Quote(name))
	}
	for label := range strings.SplitSeq(name[:len(name)-1], ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("name %s has a label that is not 1 to 63 printable characters", strconv.Quote(name))
		}
	}
	return name, nil
}

// soa is the record that says how long "no such name" may be remembered (RFC 2308).
func soa(domain string) []byte {
	owner := packName(domain)
	data := append(packName("ns."+domain), packName("hostmaster."+domain)...)
	for _, v := range []uint32{1, 3600, 600, 86400, negativeTTL} {
		data = binary.BigEndian.AppendUint32(data, v)
	}
	return append(appendFixed(slices.Clone(owner), typeSOA, negativeTTL, len(data)), data...)
}

func (z *zone) allows(a netip.Addr) bool {
	for _, p := range z.allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func (z *zone) owns(name []byte) bool {
	cut := len(name) - len(z.domain)
	return z.domain != "" && cut >= 0 && string(name[cut:]) == z.domain && (cut == 0 || name[cut-1] == '.')
}

// answer answers what this zone knows; forward means that others are to be asked.
func (z *zone) answer(out []byte, q *query, tcp bool) (reply []byte, forward bool) {
	flags := uint16(0)
	if len(z.forwarders) > 0 {
		flags = flagRA
	}
	switch {
	case q.edns && q.version != 0:
		return q.failure(out, flags, rcodeBadVers), false
	case q.class != classIN, q.qtype == typeANY: // RFC 8482: ANY serves amplification more than anybody
		return q.failure(out, flags, rcodeRefused), false
	}
	if r, ok := z.names[string(q.name)]; ok {
		return z.positive(out, q, r, flags|flagAA, q.limit(tcp)), false
	}
	if a, ok := reverse(q.name); ok {
		if p := z.pointers[a]; p != nil {
			return pointerReply(out, q, p, flags|flagAA), false
		}
		if z.allows(a) {
			return q.failure(out, flags|flagAA, rcodeNXDomain), false
		}
	}
	switch {
	case z.owns(q.name):
		return z.negative(out, q, flags|flagAA, rcodeNXDomain), false
	case single(q.name) && (q.qtype == typeA || q.qtype == typeAAAA):
		return q.failure(out, flags, rcodeNXDomain), false // a guest's bare host name is nobody else's business
	case len(z.forwarders) == 0:
		return q.failure(out, flags, rcodeRefused), false
	default:
		return nil, true
	}
}

// single says whether a name has one label; the root has none.
func single(name []byte) bool {
	for i, c := range name {
		if c == '.' {
			return i > 0 && i == len(name)-1
		}
	}
	return false
}

func (z *zone) positive(out []byte, q *query, r *record, flags uint16, limit int) []byte {
	if q.qtype == typeSOA && string(q.name) == z.domain {
		reply := append(q.start(out, flags, rcodeOK), z.soa...)
		count(reply[len(out):], 1, 1)
		return q.finish(reply, len(out), rcodeOK)
	}
	if q.qtype != typeA || len(r.addresses) == 0 {
		return z.negative(out, q, flags, rcodeOK)
	}
	begin := len(out)
	reply := q.start(out, flags, rcodeOK)
	if len(reply)-begin+len(r.addresses)*16+optLen > limit {
		return q.failure(out, flags|flagTC, rcodeOK)
	}
	for _, a := range r.addresses {
		v := a.As4()
		reply = appendRecord(reply, typeA, r.ttl, v[:])
	}
	count(reply[begin:], 1, len(r.addresses))
	return q.finish(reply, begin, rcodeOK)
}

func pointerReply(out []byte, q *query, p *pointer, flags uint16) []byte {
	reply := q.start(out, flags, rcodeOK)
	if q.qtype == typePTR {
		reply = appendRecord(reply, typePTR, p.ttl, p.name)
		count(reply[len(out):], 1, 1)
	}
	return q.finish(reply, len(out), rcodeOK)
}

// negative says that the name (rcodeNXDomain) or the type (rcodeOK) is not there.
func (z *zone) negative(out []byte, q *query, flags uint16, rcode int) []byte {
	reply := q.start(out, flags, rcode)
	if z.soa != nil && z.owns(q.name) {
		reply = append(reply, z.soa...)
		count(reply[len(out):], 2, 1)
	}
	return q.finish(reply, len(out), rcode)
}
