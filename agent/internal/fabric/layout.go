// Package fabric makes the layer-2 side of guest networks on one host: bridges, tunnel or VLAN ports, namespaces for
// the services and the veth legs that lead into them. Taps are the hypervisor's; the fabric only keeps them plugged.
//
// What a network needs is rendered (Layout, pure) and then compared with one dump of the kernel's links; only what
// differs is touched, and only links that carry our group number are ever changed or removed. See DESIGN.md.
package fabric

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// Group is the link group (IFLA_GROUP) of every link the fabric made: "wisp". It is set in the very message that makes
// the link, so no crash leaves a link that is ours but does not say so.
const Group = 0x77697370

const vxlanPort = 4789 // RFC 7348, 5.

// vxlanOverhead is outer IPv4 (20), UDP (8), VXLAN (8) and inner Ethernet (14).
const vxlanOverhead = 50

const defaultMTU = 1500

// Names of links. Numbers have at most ten digits and hashes twelve letters, so all stay within the kernel's 15.
func bridgeName(number uint32) string { return fmt.Sprintf("wbr%d", number) }
func vxlanName(number uint32) string  { return fmt.Sprintf("wvx%d", number) }
func vlanName(number uint32) string   { return fmt.Sprintf("wvl%d", number) }
func patchName(number uint32) string  { return fmt.Sprintf("wpi%d", number) }
func patchPeer(number uint32) string  { return fmt.Sprintf("wpo%d", number) }

func hashed(prefix string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	code := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:8]))
	return prefix + code[:12]
}

func legName(instance, leg string) string { return hashed("wlg", instance, leg) }

// TapName is the name of the tap of a NIC.
func TapName(nicID string) string { return hashed("wtp", nicID) }

// BridgeName is the name of a network's own bridge.
func BridgeName(n *hostspec.Network) string { return bridgeName(n.GetNumber()) }

// OwnBridge tells whether a name is that of some network's own bridge.
func OwnBridge(name string) bool {
	var number uint32
	n, err := fmt.Sscanf(name, "wbr%d", &number)
	return err == nil && n == 1 && name == bridgeName(number)
}

// NamespaceName is the name of the namespace of an instance of a network's services, below /run/netns.
func NamespaceName(instance string) string { return "wisp-" + instance }

// Sort of a link.
type Sort string

// The sorts of links the fabric makes.
const (
	Bridge Sort = "bridge"
	VXLAN  Sort = "vxlan"
	VLAN   Sort = "vlan"
	Veth   Sort = "veth"
)

// Link is one link as wanted.
type Link struct {
	Name string
	Sort Sort
	// Alias says for people what the link is for.
	Alias string
	MTU   uint32
	// Master is the bridge the link is a port of.
	Master string
	// Off keeps the link down and out of every bridge: it leads into a namespace that is not in charge.
	Off bool
	// Isolated ports exchange no frames with each other.
	Isolated bool
	// MAC, when the link needs a certain one.
	MAC string

	// VXLAN.
	VNI   uint32
	Local netip.Addr
	Peers []netip.Addr
	// Device below a VLAN or VXLAN.
	Parent string
	Tag    uint32

	// Veth: the other end, and the namespace it goes to, "" for this one.
	Peer          string
	PeerMAC       string
	PeerNamespace string
	// PeerMaster is the bridge of a peer in this namespace. The bridge is not ours.
	PeerMaster string
}

// Underlay is what the host lends to its tunnels.
type Underlay struct {
	Device  string
	Address netip.Addr
	MTU     uint32
}

// Layout renders the links of one network, but for its legs, in the order they must be made. underlay is that of the network's device.
// foreignBridge tells whether the network's device is a bridge.
func Layout(n *hostspec.Network, underlay Underlay, foreignBridge bool) ([]Link, error) {
	mtu := networkMTU(n, underlay)
	own := bridgeName(n.GetNumber())
	links := []Link{{Name: own, Sort: Bridge, Alias: alias(n, "bridge"), MTU: mtu}}
	port := Link{Alias: alias(n, "segment"), MTU: mtu, Master: own, Isolated: true}
	switch n.GetIsolation() {
	case hostspec.Isolation_ISOLATION_VXLAN:
		if !underlay.Address.IsValid() {
			return nil, fmt.Errorf("lay out network %s: this host has no underlay address for VXLAN", n.GetId())
		}
		port.Name, port.Sort = vxlanName(n.GetNumber()), VXLAN
		port.VNI, port.Local, port.Parent = n.GetSegment(), underlay.Address, underlay.Device
		port.Peers = peers(n, underlay.Address)
		links = append(links, port)
	case hostspec.Isolation_ISOLATION_VLAN:
		if underlay.Device == "" {
			return nil, fmt.Errorf("lay out network %s: this host has no device for VLAN %d", n.GetId(), n.GetSegment())
		}
		port.Name, port.Sort = vlanName(n.GetNumber()), VLAN
		port.Parent, port.Tag = underlay.Device, n.GetSegment()
		links = append(links, port)
	case hostspec.Isolation_ISOLATION_NONE:
		switch {
		case n.GetDevice() == "":
		case foreignBridge:
			port.Name, port.Sort = patchName(n.GetNumber()), Veth
			port.Peer, port.PeerMaster = patchPeer(n.GetNumber()), n.GetDevice()
			links = append(links, port)
		default:
			return nil, fmt.Errorf("lay out network %s: device %s is no bridge, and an untagged network needs one",
				n.GetId(), n.GetDevice())
		}
	}
	return links, nil
}

func networkMTU(n *hostspec.Network, underlay Underlay) uint32 {
	if n.GetMtu() != 0 {
		return n.GetMtu()
	}
	mtu := underlay.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	if n.GetIsolation() == hostspec.Isolation_ISOLATION_VXLAN {
		return max(mtu, 576+vxlanOverhead) - vxlanOverhead
	}
	return mtu
}

// legLinks are the veth pairs into the namespace of one instance of the services, and what a tagged leg on a foreign
// bridge needs. off: the instance is not in charge. Legs on standby are off in every instance, and first: they may have
// to make room for others.
func legLinks(n *hostspec.Network, instance string, own Link, off bool) []Link {
	var links []Link
	standby := len(n.GetStandbyLegs())
	for i, leg := range slices.Concat(n.GetStandbyLegs(), n.GetLegs()) {
		l := Link{
			Name: legName(instance, leg.GetName()), Sort: Veth, Alias: "wisp network " + instance + " leg " + leg.GetName(),
			MTU: own.MTU, Master: own.Name, Off: off || i < standby, Isolated: leg.GetIsolated(),
			Peer: leg.GetName(), PeerMAC: strings.ToLower(leg.GetMac()), PeerNamespace: NamespaceName(instance),
		}
		if leg.GetBridge() != "" {
			l.Master, l.MTU = leg.GetBridge(), 0
		}
		if leg.GetVlan() != 0 {
			below := tagged(leg.GetBridge(), leg.GetVlan())
			l.Master = below[0].Name
			links = append(links, below...)
		}
		links = append(links, l)
	}
	return links
}

// legsText tells legs and their standby apart from others: what changes them is no repair.
func legsText(n *hostspec.Network) string {
	text := "legs"
	for _, leg := range n.GetLegs() {
		text += " " + leg.GetName()
	}
	for _, leg := range n.GetStandbyLegs() {
		text += " -" + leg.GetName()
	}
	return text
}

func alias(n *hostspec.Network, what string) string { return "wisp network " + n.GetId() + " " + what }

// peers are the other hosts' addresses, sorted, without our own.
func peers(n *hostspec.Network, own netip.Addr) []netip.Addr {
	seen := map[netip.Addr]bool{own: true}
	var out []netip.Addr
	for _, text := range n.GetPeers() {
		a, err := netip.ParseAddr(text)
		if err != nil || seen[a] {
			continue
		}
		seen[a] = true
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Less(out[j]) })
	return out
}

func hardware(mac string) net.HardwareAddr {
	if mac == "" {
		return nil
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil
	}
	return hw
}
