package matrix

import "github.com/wispcloud/wisp/proto/netspec"

// Spec is everything the router of the world can want.
func Spec() *netspec.NetSpec {
	return &netspec.NetSpec{
		NetworkId: "7d2c2f0e-6b7c-4b0c-9d1e-000000000002",
		Links: []*netspec.Link{
			{Name: "svc0", Mac: svcMAC, Mtu: 1450, Addresses: []string{svcIP + "/24"}, StrictArp: true},
			{Name: "gw0", Mac: gwMAC, Mtu: 1450, Addresses: []string{gwIP + "/24"}, StrictArp: true, Announce: true},
			{Name: "pub0", Mac: pubMAC, Mtu: 1500, Addresses: []string{pubIP + "/24", pubIP2 + "/24", staticIP + "/24"}, Announce: true},
		},
		Routes:     []*netspec.Route{{Destination: "0.0.0.0/0", Gateway: worldIP, Link: "pub0"}},
		Forwarding: true,
		Dhcp4: &netspec.Dhcp4{
			Links: []string{"svc0"}, ServerId: svcIP, Subnet: guestCIDR, Gateway: gwIP,
			DnsServers: []string{svcIP, gwIP}, Domain: domain, LeaseSeconds: 3600, Mtu: 1450,
			ClasslessRoutes: []*netspec.Route{{Destination: magicIP + "/32", Gateway: svcIP}},
			Guests: []*netspec.Guest{
				{Mac: g1MAC, Ip: g1IP, Hostname: "web1", VmId: "vm-1", DefaultNic: true},
				{Mac: g2MAC, Ip: g2IP, Hostname: "web2", VmId: "vm-2", DefaultNic: true},
			},
		},
		Dns: &netspec.Dns{
			Links: []string{"svc0", "gw0"}, Domain: domain, Allow: []string{guestCIDR}, Forwarders: []string{farIP},
			Records: []*netspec.DnsRecord{
				{Name: "web1", Addresses: []string{g1IP}, TtlSeconds: 30},
				{Name: "web2", Addresses: []string{g2IP}, TtlSeconds: 30},
			},
		},
		Metadata: &netspec.Metadata{
			Links: []string{"svc0", "gw0"}, Listen: []string{svcIP, gwIP, magicIP},
			Guests: []*netspec.GuestData{
				{Ip: g1IP, Mac: g1MAC, UserData: []byte("data of g1"), MetaData: map[string]string{"instance-id": "vm-1"}},
				{Ip: g2IP, Mac: g2MAC, UserData: []byte("data of g2"), MetaData: map[string]string{"instance-id": "vm-2"}},
			},
		},
		Password: &netspec.Password{
			Links: []string{"svc0", "gw0"}, Listen: []string{svcIP, gwIP},
			Guests: []*netspec.GuestPassword{{Ip: g1IP, Mac: g1MAC, Password: "pw-of-g1", Epoch: 3}, {Ip: g2IP, Mac: g2MAC}},
		},
		Firewall: &netspec.Firewall{
			PublicLink: "pub0", GuestLink: "gw0", GuestCidr: guestCIDR, EgressDefaultAllow: true,
			Ingress: []*netspec.FirewallRule{
				{Id: "fw-web", Protocol: "tcp", PublicIp: pubIP, StartPort: 8000, EndPort: 8000},
				{Id: "fw-dns", Protocol: "udp", PublicIp: pubIP, StartPort: 5300, EndPort: 5300},
				{Id: "fw-range", Protocol: "tcp", PublicIp: pubIP, StartPort: 9000, EndPort: 9002},
				{Id: "fw-some", Protocol: "tcp", PublicIp: pubIP2, Cidrs: []string{"198.51.100.0/24"}, StartPort: 8000, EndPort: 8000},
				{Id: "fw-ping", Protocol: "icmp", PublicIp: pubIP, IcmpType: 8, IcmpCode: -1},
				{Id: "fw-static", Protocol: "tcp", PublicIp: staticIP, StartPort: 80, EndPort: 80},
			},
			Egress: []*netspec.FirewallRule{{Id: "eg-smtp", Protocol: "tcp", Cidrs: []string{guestCIDR}, StartPort: 25, EndPort: 25}},
		},
		Nat: &netspec.Nat{
			PublicLink: "pub0", GuestCidr: guestCIDR, SourceNatIp: pubIP, GuestLink: "gw0", GuestGateway: gwIP,
			Statics: []*netspec.StaticNat{{PublicIp: staticIP, GuestIp: g2IP}},
		},
		Portfwd: &netspec.PortForward{
			PublicLink: "pub0", GuestLink: "gw0", GuestCidr: guestCIDR, GuestGateway: gwIP,
			Rules: []*netspec.PortForwardRule{
				forward("pf-web", "tcp", pubIP, 8000, 8000, g1IP, 80),
				forward("pf-closed", "tcp", pubIP, 8001, 8001, g1IP, 80),
				forward("pf-range", "tcp", pubIP, 9000, 9002, g1IP, 7000),
				forward("pf-dns", "udp", pubIP, 5300, 5300, g1IP, 53),
				forward("pf-some", "tcp", pubIP2, 8000, 8000, g2IP, 80),
			},
		},
	}
}

func forward(id, protocol, public string, from, to uint32, guest string, guestPort uint32) *netspec.PortForwardRule {
	return &netspec.PortForwardRule{
		Id: id, Protocol: protocol, PublicIp: public, PublicStartPort: from, PublicEndPort: to,
		GuestIp: guest, GuestStartPort: guestPort, GuestEndPort: guestPort + to - from,
	}
}
