package matrix

import (
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
)

// The world:
//
//	g1 10.1.1.11, g2 10.1.1.12, evil 10.1.1.13 --- guests --- svc0 10.1.1.2, gw0 10.1.1.1 [router] pub0 --- public --- world
const (
	svcMAC  = "02:00:00:00:00:02"
	gwMAC   = "02:00:00:00:00:01"
	pubMAC  = "02:00:00:00:00:03"
	g1MAC   = "02:00:00:00:01:01"
	g2MAC   = "02:00:00:00:01:02"
	evilMAC = "02:00:00:00:01:03"

	svcIP   = "10.1.1.2"
	gwIP    = "10.1.1.1"
	g1IP    = "10.1.1.11"
	g2IP    = "10.1.1.12"
	evilIP  = "10.1.1.13"
	worldIP = "203.0.113.1"
	// farIP is an address of the world behind worldIP.
	farIP = "198.51.100.7"
	// pubIP is the source NAT address; pubIP2 has a rule for some sources only; staticIP is g2's own.
	pubIP    = "203.0.113.10"
	pubIP2   = "203.0.113.11"
	staticIP = "203.0.113.12"
	magicIP  = "169.254.169.254"
	// foreignIP is nobody's: evil uses it as a source.
	foreignIP = "192.168.7.7"

	guestCIDR = "10.1.1.0/24"
	domain    = "cs1cloud.internal"
)

// World is everything but the router.
type World struct {
	// Fabric is the host between all of them, with the bridges "guests" and "public".
	Fabric *netsvctest.Node

	world, g1, g2, evil *netsvctest.Node
}

// Leg is one link of the router.
type Leg struct {
	MAC, Bridge string
	// Isolated: never exchanges frames with another isolated port, as a host's local services' leg.
	Isolated bool
}

// Legs of the router, in the order of its NICs.
func Legs() []Leg {
	return []Leg{{svcMAC, "guests", true}, {gwMAC, "guests", false}, {pubMAC, "public", false}}
}

// NewWorld makes a world that no router is plugged into.
func NewWorld(t testing.TB) *World {
	t.Helper()
	netsvctest.RequireRoot(t)
	w := &World{}
	for _, n := range []**netsvctest.Node{&w.Fabric, &w.world, &w.g1, &w.g2, &w.evil} {
		*n = netsvctest.NewNode(t)
	}
	for _, bridge := range []string{"guests", "public"} {
		w.Fabric.Must("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
		w.Fabric.Must("ip", "link", "set", bridge, "up")
	}
	for _, port := range []struct {
		node              *netsvctest.Node
		name, mac, bridge string
	}{
		{w.g1, "p1", g1MAC, "guests"},
		{w.g2, "p2", g2MAC, "guests"},
		{w.evil, "p3", evilMAC, "guests"},
		{w.world, "p4", "", "public"},
	} {
		netsvctest.Wire(w.Fabric, port.name, "", port.node, "eth0", port.mac)
		w.Fabric.Must("ip", "link", "set", port.name, "master", port.bridge, "up")
		port.node.Must("ip", "link", "set", "eth0", "up")
	}
	w.world.Must("ip", "address", "add", worldIP+"/24", "dev", "eth0")
	w.world.Must("ip", "address", "add", farIP+"/32", "dev", "lo")
	// As if the outside knew the guests' network: what keeps it out must be the router.
	w.world.Must("ip", "route", "add", guestCIDR, "via", pubIP)
	return w
}

// PlugNode gives a namespace the router's legs.
func (w *World) PlugNode(router *netsvctest.Node) {
	for i, leg := range Legs() {
		port := portName(i)
		netsvctest.Wire(w.Fabric, port, "", router, "w"+port, leg.MAC)
		w.raise(port, leg)
	}
}

// PlugTaps makes a tap in Fabric for each of the router's legs, for a virtual machine that runs there, and returns
// their names.
func (w *World) PlugTaps() []string {
	var names []string
	for i, leg := range Legs() {
		port := portName(i)
		w.Fabric.Must("ip", "tuntap", "add", "dev", port, "mode", "tap")
		w.raise(port, leg)
		names = append(names, port)
	}
	return names
}

// Plug takes the carrier from the gateway's and the public leg of a router that is a namespace, as an agent does with the
// one that is not in charge, or gives it back.
func (w *World) Plug(in bool) {
	for i, leg := range Legs() {
		switch {
		case leg.Isolated:
		case in:
			w.raise(portName(i), leg)
		default:
			w.Fabric.Must("ip", "link", "set", portName(i), "nomaster", "down")
		}
	}
}

func portName(i int) string { return "leg" + string(rune('0'+i)) }

func (w *World) raise(port string, leg Leg) {
	w.Fabric.Must("ip", "link", "set", port, "master", leg.Bridge, "up")
	if leg.Isolated {
		w.Fabric.Must("bridge", "link", "set", "dev", port, "isolated", "on")
	}
}

// addressGuests gives guests what DHCP would.
func (w *World) addressGuests() {
	for _, g := range []struct {
		node *netsvctest.Node
		ip   string
	}{{w.g1, g1IP}, {w.g2, g2IP}, {w.evil, evilIP}} {
		g.node.Must("ip", "address", "replace", g.ip+"/24", "dev", "eth0")
		g.node.Must("ip", "route", "replace", "default", "via", gwIP)
		g.node.Must("ip", "route", "replace", magicIP, "via", svcIP)
	}
	w.evil.Must("ip", "address", "replace", foreignIP+"/32", "dev", "lo")
}

// serve starts the servers of guests and the world: some that tell who asks, and a resolver.
func (w *World) serve(t testing.TB) {
	t.Helper()
	for _, s := range []struct {
		node *netsvctest.Node
		argv []string
	}{
		{w.g1, []string{g1IP, "80", "7001", "53"}},
		{w.g2, []string{g2IP, "80", "81"}},
		{w.world, []string{farIP, "80", "25"}},
	} {
		argv := append([]string{"python3", "-u", "-c", serverScript}, s.argv...)
		p := s.node.Start(argv...)
		netsvctest.Wait(t, "the servers", time.Minute, func() (bool, string) {
			return strings.Contains(p.Output(), "listening"), p.Output()
		})
	}
	p := w.world.Start("python3", "-u", "-c", resolverScript, farIP)
	netsvctest.Wait(t, "the resolver", time.Minute, func() (bool, string) {
		return strings.Contains(p.Output(), "listening"), p.Output()
	})
}

// serverScript tells everybody who asks at one of the ports, by TCP or UDP, by which address he is seen.
const serverScript = `
import selectors, socket, sys
s = selectors.DefaultSelector()
for port in map(int, sys.argv[2:]):
    t = socket.create_server((sys.argv[1], port), backlog=64)
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind((sys.argv[1], port))
    s.register(t, selectors.EVENT_READ, "tcp")
    s.register(u, selectors.EVENT_READ, "udp")
print("listening")
while True:
    for key, _ in s.select():
        try:
            if key.data == "tcp":
                c, who = key.fileobj.accept()
                with c:
                    c.sendall((who[0] + "\n").encode())
            else:
                _, who = key.fileobj.recvfrom(100)
                key.fileobj.sendto(who[0].encode(), who)
        except OSError:
            pass
`

// resolverScript answers every question with 192.0.2.1 (RFC 1035: header, the question again, one A record that points to
// its name).
const resolverScript = `
import socket, struct, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind((sys.argv[1], 53))
print("listening")
while True:
    q, who = u.recvfrom(1500)
    end = 12
    while q[end]:
        end += 1 + q[end]
    end += 5
    head = q[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    u.sendto(head + q[12:end] + struct.pack(">HHHIH", 0xc00c, 1, 1, 60, 4) + bytes([192, 0, 2, 1]), who)
`
