package matrix

import (
	"strconv"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

// probe is one packet, or what begins with one, and what must come of it.
type probe struct {
	name string
	from *netsvctest.Node
	kind string
	// args of the kind, see ask.
	args []string
	want string
}

// closed is what comes of a packet that must not pass.
const closed = "closed"

// phase is a spec and what must hold under it.
type phase struct {
	name   string
	change func(*netspec.NetSpec)
	probes []probe
}

func tcp(name string, from *netsvctest.Node, to string, port int, want string) probe {
	return probe{name, from, "tcp", []string{to, strconv.Itoa(port), ""}, want}
}

func udp(name string, from *netsvctest.Node, to string, port int, want string) probe {
	return probe{name, from, "udp", []string{to, strconv.Itoa(port), ""}, want}
}

func tcpAs(name string, from *netsvctest.Node, source, to string, port int, want string) probe {
	return probe{name, from, "tcp", []string{to, strconv.Itoa(port), source}, want}
}

// phases is the matrix.
func (w *World) phases() []phase {
	return []phase{
		{"as wanted", func(*netspec.NetSpec) {}, w.everything()},
		{"all rules gone and the egress default turned round", func(s *netspec.NetSpec) {
			s.Firewall.Ingress = nil
			s.Firewall.EgressDefaultAllow = false
		}, []probe{
			tcp("forwarded port", w.world, pubIP, 8000, closed),
			tcp("static NAT", w.world, staticIP, 80, closed),
			tcp("hairpin", w.g2, pubIP, 8000, closed),
			tcp("out", w.g1, farIP, 80, closed),
			tcp("out, excepted port", w.g1, farIP, 25, pubIP),
			{"ping of the public address", w.world, "ping", []string{pubIP}, closed},
			{"metadata", w.g1, "http", []string{gwIP + "/latest/user-data"}, "data of g1 200"},
			tcp("directly to a neighbour", w.g2, g1IP, 80, g2IP),
		}},
		{"no port forwarding and no static NAT", func(s *netspec.NetSpec) {
			s.Portfwd = nil
			s.Nat.Statics = nil
		}, []probe{
			tcp("forwarded port", w.world, pubIP, 8000, closed),
			udp("forwarded UDP port", w.world, pubIP, 5300, closed),
			tcp("static NAT", w.world, staticIP, 80, closed),
			tcp("out of the guest that had a static address", w.g2, farIP, 80, pubIP),
			tcp("out", w.g1, farIP, 80, pubIP),
		}},
		{"as wanted again", func(*netspec.NetSpec) {}, []probe{
			tcp("forwarded port", w.world, pubIP, 8000, worldIP),
			tcp("static NAT", w.world, staticIP, 80, worldIP),
			tcp("out", w.g1, farIP, 80, pubIP),
			tcp("out, denied port", w.g1, farIP, 25, closed),
		}},
	}
}

func (w *World) everything() []probe {
	return []probe{
		// Port forwarding and ingress rules.
		tcp("forwarded port", w.world, pubIP, 8000, worldIP),
		tcp("forwarded port without a firewall rule", w.world, pubIP, 8001, closed),
		tcp("forwarded range, one by one", w.world, pubIP, 9001, worldIP),
		udp("forwarded UDP port", w.world, pubIP, 5300, worldIP),
		udp("the TCP port by UDP", w.world, pubIP, 8000, closed),
		tcp("the UDP port by TCP", w.world, pubIP, 5300, closed),
		tcp("source not in the rule", w.world, pubIP2, 8000, closed),
		tcpAs("source in the rule", w.world, farIP, pubIP2, 8000, farIP),
		tcp("the guest's address from outside", w.world, g1IP, 80, closed),
		{"ping, public address with a rule", w.world, "ping", []string{pubIP}, "answer"},
		{"ping, public address without", w.world, "ping", []string{pubIP2}, closed},

		// Static NAT.
		tcp("static address, open port", w.world, staticIP, 80, worldIP),
		tcp("static address, another port", w.world, staticIP, 81, closed),
		tcp("out of the guest that has a static address", w.g2, farIP, 80, staticIP),
		{"ping, static address without a rule", w.world, "ping", []string{staticIP}, closed},

		// Source NAT and egress rules.
		tcp("out, behind the public address", w.g1, farIP, 80, pubIP),
		udp("out by UDP", w.g1, farIP, 80, pubIP),
		{"out by ping", w.g1, "ping", []string{farIP}, "answer"},
		tcp("out, denied port", w.g1, farIP, 25, closed),
		udp("out, the denied port by UDP", w.g1, farIP, 25, pubIP),
		tcpAs("out, with a source that is not a guest's", w.evil, foreignIP, farIP, 80, closed),

		// Hairpin.
		tcp("hairpin", w.g2, pubIP, 8000, gwIP),
		tcp("hairpin to itself", w.g1, pubIP, 8000, gwIP),
		tcp("hairpin without a firewall rule", w.g2, pubIP, 8001, closed),
		tcp("hairpin, source not in the rule", w.g1, pubIP2, 8000, closed),
		tcp("hairpin to a static address", w.g1, staticIP, 80, gwIP),

		// The router's own ports.
		tcp("metadata from outside", w.world, pubIP, 80, closed),
		tcp("passwords from outside", w.world, pubIP, 8080, closed),
		tcp("DNS from outside by TCP", w.world, pubIP, 53, closed),
		{"DNS from outside", w.world, "dns", []string{pubIP, "web1." + domain}, closed},
		tcp("ssh from outside", w.world, pubIP, 22, closed),
		tcp("ssh from a guest", w.g1, gwIP, 22, closed),
		tcp("ssh from a guest at the service address", w.g1, svcIP, 22, closed),
		tcp("another port", w.g1, gwIP, 9999, closed),
		tcp("metadata at the public address from a guest", w.g1, pubIP, 80, closed),
		tcp("passwords at the public address from a guest", w.g1, pubIP, 8080, closed),
		{"ping of the gateway", w.g1, "ping", []string{gwIP}, "answer"},
		{"ping of the service address", w.g1, "ping", []string{svcIP}, "answer"},

		// DNS.
		{"own name", w.g1, "dns", []string{svcIP, "web2." + domain}, g2IP},
		{"own name at the gateway by TCP", w.g1, "dns", []string{gwIP, "web2." + domain, "+tcp"}, g2IP},
		{"unknown own name", w.g1, "dns", []string{svcIP, "nobody." + domain}, "NXDOMAIN"},
		{"a name of the world", w.g1, "dns", []string{svcIP, "up.example.org"}, "192.0.2.1"},
		{"the same at the gateway", w.g2, "dns", []string{gwIP, "up.example.org"}, "192.0.2.1"},
		{"a source that is not a guest's", w.evil, "dns", []string{svcIP, "web1." + domain, "-b", foreignIP}, closed},

		// Metadata.
		{"user-data at the service address", w.g1, "http", []string{svcIP + "/latest/user-data"}, "data of g1 200"},
		{"at the gateway", w.g1, "http", []string{gwIP + "/latest/user-data"}, "data of g1 200"},
		{"at 169.254.169.254", w.g1, "http", []string{magicIP + "/latest/meta-data/instance-id"}, "vm-1 200"},
		{"other guest, other data", w.g2, "http", []string{svcIP + "/latest/user-data"}, "data of g2 200"},
		{"a header is not believed", w.g1, "http", []string{svcIP + "/latest/user-data", "-H", "X-Forwarded-For: " + g2IP}, "data of g1 200"},
		{"a stranger", w.evil, "http", []string{svcIP + "/latest/user-data"}, "404 page not found 404"},

		// Passwords.
		{"a password", w.g1, "http", []string{svcIP + ":8080/", "-H", "DomU_Request: send_my_password"}, "pw-of-g1 200"},
		{"a stranger's", w.evil, "http", []string{svcIP + ":8080/", "-H", "DomU_Request: send_my_password"}, "saved_password 200"},
		{"a guest without one", w.g2, "http", []string{gwIP + ":8080/", "-H", "DomU_Request: send_my_password"}, "saved_password 200"},

		tcp("directly to a neighbour", w.g2, g1IP, 80, g2IP),
	}
}
