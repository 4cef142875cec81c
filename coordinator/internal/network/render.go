package network

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// Names of a namespace's links.
const (
	serviceLink = "svc0" // local services, the same addresses on every host
	guestLink   = "gw0"  // the router's leg in the guest network
	publicLink  = "pub0" // the router's public leg
)

// metadataAddress is where guests look for metadata without knowing their network.
var metadataAddress = netip.MustParseAddr("169.254.169.254")

// Render renders one network on one host; nil where the host does not carry it.
//
// It is a pure function of the state. NetSpec.generation is left to whoever sends the host spec: it is the host spec's
// own, and that is the index of the state it was rendered from (Fold counts on both). A secret that cannot be opened is
// left out and logged: the guest has no user data then, but a network.
func (a *Area) Render(r store.Reader, host cloud.ID, n *cloud.Network) *hostspec.Network {
	if !carried(n) || n.Segment == 0 {
		return nil
	}
	v := &rendering{r: r, open: a.Seal, log: a.Log, host: host, n: n}
	v.load()
	if !v.here && !v.isRouter && !v.plugged {
		return nil
	}
	spec := &hostspec.Network{
		Id: n.ID.String(), Isolation: hostspec.Isolation_ISOLATION_VLAN, Segment: n.Segment,
		Device: label(r, n.PhysicalNetworkID, Guest), Mtu: n.MTU, Number: uint32(n.Number), Incarnation: n.Incarnation,
	}
	if n.Isolation == VXLAN {
		spec.Isolation, spec.Peers = hostspec.Isolation_ISOLATION_VXLAN, v.peers()
	}
	if !v.here && !v.isRouter {
		return spec // a system VM is plugged in, and no guest is here to be served
	}
	spec.Legs = []*hostspec.Leg{{Name: serviceLink, Mac: alloc.FormatMAC(n.ServiceMAC), Isolated: true}}
	if v.isRouter {
		legs := []*hostspec.Leg{{Name: guestLink, Mac: alloc.FormatMAC(n.GatewayMAC)}}
		if len(v.public) > 0 {
			legs = append(legs, &hostspec.Leg{
				Name: publicLink, Mac: alloc.FormatMAC(v.router.PublicMAC),
				Bridge: publicBridge(r, v.public[0].ip.PhysicalNetworkID), Vlan: TagOf(v.public[0].of.VLAN),
			})
		}
		if v.unplugged {
			spec.StandbyLegs = legs
		} else {
			spec.Legs = append(spec.Legs, legs...)
		}
	}
	spec.Services = v.services()
	return spec
}

// rendering is one network seen from one host.
type rendering struct {
	r    store.Reader
	open Sealer
	log  *slog.Logger
	host cloud.ID
	n    *cloud.Network

	offering  *cloud.NetworkOffering
	zone      *cloud.Zone
	router    *cloud.Router
	isRouter  bool // a router is a namespace on this host, or what is rendered is the system VM
	unplugged bool // that namespace gets ready to replace a router, or makes room for one
	here      bool // a VM of the network is on this host
	plugged   bool // a router that is a system VM is on this host
	guests    []guest
	hosts     map[cloud.ID]bool // all that carry the network
	public    []address         // the source NAT address first
}

// unplugged tells whether a router is on its host without being heard in the network: at no time are two of a network's
// plugged in, for one is on standby, and the one in charge leaves it only when nothing else is plugged in.
func unplugged(rt *cloud.Router) bool { return rt.Standby || rt.Retiring }

type guest struct {
	nic *cloud.NIC
	vm  *cloud.VM
}

type address struct {
	ip *cloud.PublicIP
	of *cloud.VLANRange
}

func (v *rendering) load() {
	v.hosts = map[cloud.ID]bool{}
	v.offering, _ = tables.NetworkOfferings.Get(v.r, v.n.OfferingID)
	if v.offering == nil {
		v.offering = &cloud.NetworkOffering{}
	}
	v.zone, _ = tables.Zones.Get(v.r, v.n.ZoneID)
	if v.zone == nil {
		v.zone = &cloud.Zone{}
	}
	for nic := range tables.NICs.By(v.r, "network", store.K(v.n.ID)) { // in the order of addresses
		vm, ok := tables.VMs.Get(v.r, nic.VMID)
		if !ok || vm.State == cloud.VMDestroyed || vm.State == cloud.VMExpunging || vm.State == cloud.VMError {
			continue
		}
		v.guests = append(v.guests, guest{nic, vm})
		if !vm.HostID.IsZero() {
			v.hosts[vm.HostID] = true
			v.here = v.here || vm.HostID == v.host
		}
	}
	for rt := range tables.Routers.By(v.r, "network", store.K(v.n.ID)) {
		if rt.HostID.IsZero() {
			continue
		}
		v.hosts[rt.HostID] = true
		here := rt.HostID == v.host
		switch {
		case rt.Placement == cloud.InVM:
			v.plugged = v.plugged || here
		case here && rt.State != cloud.VMStopping && rt.State != cloud.VMStopped:
			v.isRouter, v.unplugged = true, unplugged(rt)
		}
		if !rt.Standby {
			v.router = rt
		}
	}
	for ip := range tables.PublicIPs.By(v.r, "network", store.K(v.n.ID)) { // in the order of addresses
		of, ok := tables.VLANRanges.Get(v.r, ip.RangeID)
		if ok && ip.State != cloud.IPReleasing {
			v.public = append(v.public, address{ip, of})
		}
	}
	slices.SortStableFunc(v.public, func(x, y address) int {
		return cmp.Compare(boolRank(!x.ip.SourceNAT), boolRank(!y.ip.SourceNAT))
	})
}

// peers are the underlay addresses of the other hosts that carry the network.
func (v *rendering) peers() []string {
	var list []netip.Addr
	for id := range v.hosts {
		if h, ok := tables.Hosts.Get(v.r, id); ok && id != v.host && h.IP.IsValid() {
			list = append(list, h.IP)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return texts(list)
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		if a.IsValid() {
			out = append(out, a.String())
		}
	}
	return out
}

// services is what the network's namespace on this host does.
func (v *rendering) services() *netspec.NetSpec {
	n := v.n
	s := &netspec.NetSpec{
		NetworkId: n.ID.String(), Epoch: n.Epoch, Restarts: n.Restarts,
		Links: []*netspec.Link{{
			Name: serviceLink, Mac: alloc.FormatMAC(n.ServiceMAC), Mtu: n.MTU,
			Addresses: []string{netip.PrefixFrom(n.ServiceIP, n.CIDR.Bits()).String()}, StrictArp: true,
		}},
	}
	// Without a public leg nothing is let through, and guests reach the services only.
	s.Firewall = &netspec.Firewall{GuestLink: serviceLink, GuestCidr: n.CIDR.String()}
	served := []string{serviceLink}
	listen := []netip.Addr{n.ServiceIP, metadataAddress}
	if v.isRouter {
		served = append(served, guestLink)
		listen = []netip.Addr{n.ServiceIP, n.Gateway, metadataAddress}
		v.route(s)
	}
	if Offers(v.offering, Dhcp) {
		s.Dhcp4 = v.dhcp()
	}
	v.serve(s, served, listen)
	return s
}

// serve adds what guests ask by name or by HTTP. The last one of listen is the metadata address.
func (v *rendering) serve(s *netspec.NetSpec, served []string, listen []netip.Addr) {
	if Offers(v.offering, DNS) {
		s.Dns = v.dns(served)
	}
	if !Offers(v.offering, UserData) {
		return
	}
	s.Metadata = &netspec.Metadata{Links: served, Listen: texts(listen)}
	s.Password = &netspec.Password{Links: served, Listen: texts(listen[:len(listen)-1])}
	for _, g := range v.guests {
		// Elsewhere its own host answers; only the router is reached from all of the network.
		if g.vm.HostID.IsZero() || !v.isRouter && g.vm.HostID != v.host {
			continue
		}
		s.Metadata.Guests = append(s.Metadata.Guests, v.data(g))
		s.Password.Guests = append(s.Password.Guests, v.password(g))
	}
}

// route adds what only the router does.
func (v *rendering) route(s *netspec.NetSpec) {
	n := v.n
	cidr := n.CIDR.String()
	s.Forwarding = true
	s.Firewall.GuestLink = guestLink
	s.Links = append(s.Links, &netspec.Link{
		Name: guestLink, Mac: alloc.FormatMAC(n.GatewayMAC), Mtu: n.MTU, Announce: true, StrictArp: true,
		Addresses: []string{netip.PrefixFrom(n.Gateway, n.CIDR.Bits()).String()},
	})
	if len(v.public) == 0 {
		return
	}
	pub := &netspec.Link{Name: publicLink, Mac: alloc.FormatMAC(v.router.PublicMAC), Announce: true, StrictArp: true}
	for _, p := range v.public {
		pub.Addresses = append(pub.Addresses, netip.PrefixFrom(p.ip.Address, RangePrefix(p.of).Bits()).String())
	}
	s.Links = append(s.Links, pub)
	s.Routes = append(s.Routes, &netspec.Route{
		Destination: "0.0.0.0/0", Gateway: v.public[0].of.Gateway.String(), Link: publicLink,
	})
	s.Firewall = v.firewall()
	s.Nat = v.nat()
	if Offers(v.offering, PortForwarding) {
		s.Portfwd = &netspec.PortForward{
			PublicLink: publicLink, GuestLink: guestLink, GuestCidr: cidr, GuestGateway: n.Gateway.String(), Rules: v.forwards(),
		}
	}
}

func (v *rendering) dhcp() *netspec.Dhcp4 {
	n := v.n
	d := &netspec.Dhcp4{
		Links: []string{serviceLink}, ServerId: n.ServiceIP.String(), Subnet: n.CIDR.String(), Gateway: n.Gateway.String(),
		Domain: n.NetworkDomain, LeaseSeconds: uint32(leaseSeconds.Int(v.r)), Mtu: n.MTU,
	}
	if Offers(v.offering, DNS) {
		// The service address answers names of the network on every host; what it cannot resolve where there is no
		// router, the gateway can.
		d.DnsServers = []string{n.ServiceIP.String()}
		if v.router != nil {
			d.DnsServers = append(d.DnsServers, n.Gateway.String())
		}
	} else {
		d.DnsServers = v.resolvers()
	}
	if Offers(v.offering, UserData) {
		d.ClasslessRoutes = []*netspec.Route{{Destination: metadataAddress.String() + "/32", Gateway: n.ServiceIP.String()}}
	}
	for _, g := range v.guests {
		d.Guests = append(d.Guests, &netspec.Guest{
			Mac: alloc.FormatMAC(g.nic.MAC), Ip: g.nic.IP.String(), Hostname: g.vm.Name, VmId: g.vm.ID.String(), DefaultNic: g.nic.Default,
		})
	}
	return d
}

// resolvers are the upstream name servers of the network, else of the zone.
func (v *rendering) resolvers() []string {
	if list := texts([]netip.Addr{v.n.DNS1, v.n.DNS2}); len(list) > 0 {
		return list
	}
	return texts([]netip.Addr{v.zone.DNS1, v.zone.DNS2})
}

// recordTTL is how long guests may remember a name of their network, in seconds: VMs come and go.
const recordTTL = 30

// dns answers on every host for the network's names. Only the router's namespace has a way to other name servers.
func (v *rendering) dns(served []string) *netspec.Dns {
	n := v.n
	d := &netspec.Dns{Links: served, Domain: n.NetworkDomain, Allow: []string{n.CIDR.String()}}
	if v.isRouter {
		d.Forwarders = v.resolvers()
	}
	d.Records = append(d.Records, &netspec.DnsRecord{Name: "data-server", Addresses: []string{n.ServiceIP.String()}, TtlSeconds: recordTTL})
	for _, g := range v.guests {
		d.Records = append(d.Records, &netspec.DnsRecord{Name: g.vm.Name, Addresses: []string{g.nic.IP.String()}, TtlSeconds: recordTTL})
	}
	return d
}

func (v *rendering) firewall() *netspec.Firewall {
	f := &netspec.Firewall{
		PublicLink: publicLink, GuestLink: guestLink, GuestCidr: v.n.CIDR.String(), EgressDefaultAllow: v.offering.EgressAllow,
	}
	if !Offers(v.offering, Firewall) { // then nobody could open it
		f.EgressDefaultAllow = true
	}
	for row := range tables.FirewallRules.By(v.r, "network", store.K(v.n.ID)) {
		if row.State == cloud.RuleRevoke || row.State == cloud.RuleStaged {
			continue
		}
		rule := &netspec.FirewallRule{
			Id: row.ID.String(), Protocol: row.Protocol, Cidrs: row.CIDRs, StartPort: uint32(row.StartPort), EndPort: uint32(row.EndPort),
		}
		if row.Protocol == "icmp" {
			rule.IcmpType, rule.IcmpCode = int32(row.ICMPType), int32(row.ICMPCode)
		}
		if row.Egress {
			f.Egress = append(f.Egress, rule)
			continue
		}
		if ip, ok := v.publicAddress(row.IPID); ok {
			rule.PublicIp = ip
			f.Ingress = append(f.Ingress, rule)
		}
	}
	return f
}

// nat is nil where no address is translated as a whole.
func (v *rendering) nat() *netspec.Nat {
	nat := &netspec.Nat{PublicLink: publicLink, GuestCidr: v.n.CIDR.String()}
	if first := v.public[0].ip; first.SourceNAT {
		nat.SourceNatIp = first.Address.String()
	}
	for _, p := range v.public {
		if guest, ok := staticTarget(v.r, p.ip); ok {
			nat.Statics = append(nat.Statics, &netspec.StaticNat{PublicIp: p.ip.Address.String(), GuestIp: guest.String()})
			nat.GuestLink, nat.GuestGateway = guestLink, v.n.Gateway.String()
		}
	}
	if nat.SourceNatIp == "" && len(nat.Statics) == 0 {
		return nil
	}
	return nat
}

func (v *rendering) forwards() []*netspec.PortForwardRule {
	var list []*netspec.PortForwardRule
	for row := range tables.PortForwardingRules.By(v.r, "network", store.K(v.n.ID)) {
		ip, ok := v.publicAddress(row.IPID)
		if !ok || row.Static || row.State == cloud.RuleRevoke || row.State == cloud.RuleStaged {
			continue
		}
		list = append(list, &netspec.PortForwardRule{
			Id: row.ID.String(), Protocol: row.Protocol, PublicIp: ip,
			PublicStartPort: uint32(row.PublicStart), PublicEndPort: uint32(row.PublicEnd),
			GuestIp: row.GuestIP.String(), GuestStartPort: uint32(row.PrivateStart), GuestEndPort: uint32(row.PrivateEnd),
		})
	}
	return list
}

func (v *rendering) publicAddress(id cloud.ID) (string, bool) {
	for _, p := range v.public {
		if p.ip.ID == id {
			return p.ip.Address.String(), true
		}
	}
	return "", false
}
