package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// snapshot is one dump of the kernel's links.
type snapshot struct {
	byName   map[string]netlink.Link
	byIndex  map[int]netlink.Link
	isolated map[int]bool
	locked   map[int]bool
}

// look dumps links and bridge port flags. A dump the kernel says was interrupted is taken again.
func look() (*snapshot, error) {
	var links []netlink.Link
	var err error
	for range 5 {
		if links, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	s := &snapshot{
		byName: make(map[string]netlink.Link, len(links)), byIndex: make(map[int]netlink.Link, len(links)),
		isolated: map[int]bool{}, locked: map[int]bool{},
	}
	for _, l := range links {
		s.byName[l.Attrs().Name] = l
		s.byIndex[l.Attrs().Index] = l
	}
	return s, s.readPorts()
}

// Attributes of bridge ports in linux/if_link.h.
const (
	brportIsolated = 33
	brportLocked   = 39
)

// readPorts reads the flags of all bridge ports in one dump (netlink(7), AF_BRIDGE).
func (s *snapshot) readPorts() error {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	messages, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list bridge ports: %w", err)
	}
	for _, m := range messages {
		info := nl.DeserializeIfInfomsg(m)
		attrs, err := nl.ParseRouteAttr(m[info.Len():])
		if err != nil {
			return fmt.Errorf("list bridge ports: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type&^unix.NLA_F_NESTED != unix.IFLA_PROTINFO {
				continue
			}
			flags, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return fmt.Errorf("list bridge ports: %w", err)
			}
			for _, f := range flags {
				switch {
				case f.Attr.Type == brportIsolated && len(f.Value) > 0:
					s.isolated[int(info.Index)] = f.Value[0] != 0
				case f.Attr.Type == brportLocked && len(f.Value) > 0:
					s.locked[int(info.Index)] = f.Value[0] != 0
				}
			}
		}
	}
	return nil
}

func (s *snapshot) ours(l netlink.Link) bool { return l.Attrs().Group == Group }

// namespaceIDs are what the kernel calls the peers' namespaces in link messages, by namespace name.
type namespaceIDs map[string]int

// stale says why an existing link cannot be turned into the wanted one and must be made anew; "" when it can.
func (s *snapshot) stale(want Link, have netlink.Link, ids namespaceIDs) string {
	if have.Type() != string(want.Sort) {
		return "it is a " + have.Type()
	}
	switch h := have.(type) {
	case *netlink.Vxlan:
		local, _ := netip.AddrFromSlice(h.SrcAddr)
		parent := ""
		if p := s.byIndex[h.VtepDevIndex]; p != nil {
			parent = p.Attrs().Name
		}
		if uint32(h.VxlanId) != want.VNI || local.Unmap() != want.Local || h.Port != vxlanPort || parent != want.Parent {
			return "its tunnel differs"
		}
	case *netlink.Vlan:
		parent := s.byIndex[h.ParentIndex]
		if parent == nil || parent.Attrs().Name != want.Parent || uint32(h.VlanId) != want.Tag {
			return "its tag or device differs"
		}
	case *netlink.Veth:
		if want.PeerNamespace == "" {
			peer := s.byName[want.Peer]
			if peer == nil || peer.Attrs().Index != h.ParentIndex {
				return "its peer differs"
			}
		} else if id, ok := ids[want.PeerNamespace]; !ok || h.NetNsID != id {
			return "its peer is in another namespace"
		}
	}
	return ""
}

// add makes a link with everything the kernel takes at creation. It is down and has no master yet.
func (s *snapshot) add(want Link, namespace int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.MTU = want.Name, Group, int(want.MTU)
	attrs.HardwareAddr = hardware(want.MAC)
	var link netlink.Link
	switch want.Sort {
	case Bridge:
		// Without a querier in the network snooping would lose multicast, IPv6 neighbour discovery first of all.
		off := false
		link = &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	case VXLAN:
		v := &netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: int(want.VNI), SrcAddr: want.Local.AsSlice(), Port: vxlanPort, Learning: true,
		}
		if want.Parent != "" {
			parent := s.byName[want.Parent]
			if parent == nil {
				return fmt.Errorf("device %s is not on this host", want.Parent)
			}
			v.VtepDevIndex = parent.Attrs().Index
		}
		link = v
	case VLAN:
		parent := s.byName[want.Parent]
		if parent == nil {
			return fmt.Errorf("device %s is not on this host", want.Parent)
		}
		attrs.ParentIndex = parent.Attrs().Index
		link = &netlink.Vlan{LinkAttrs: attrs, VlanId: int(want.Tag), VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	case Veth:
		v := netlink.NewVeth(attrs)
		v.PeerName, v.PeerHardwareAddr, v.PeerMTU = want.Peer, hardware(want.PeerMAC), want.MTU
		if want.PeerNamespace != "" {
			v.PeerNamespace = netlink.NsFd(namespace)
		}
		link = v
	default:
		return fmt.Errorf("link sort %q is not known", want.Sort)
	}
	if err := netlink.LinkAdd(link); err != nil {
		if want.Sort == VLAN && errors.Is(err, unix.EOPNOTSUPP) {
			return errors.New("the kernel of this host has no VLAN support (module 8021q)")
		}
		return err
	}
	return nil
}

// shape sets what may differ on a link that exists. It reports whether it changed anything.
func (s *snapshot) shape(want Link, have netlink.Link) (changed bool, err error) {
	a := have.Attrs()
	if want.Alias != "" && a.Alias != want.Alias {
		// The kernel takes no alias at creation. That a link lacks it is no drift worth counting.
		if err := netlink.LinkSetAlias(have, want.Alias); err != nil {
			return false, fmt.Errorf("set alias: %w", err)
		}
	}
	if want.MTU != 0 && a.MTU != int(want.MTU) {
		changed = true
		if err := netlink.LinkSetMTU(have, int(want.MTU)); err != nil {
			return true, fmt.Errorf("set mtu %d: %w", want.MTU, err)
		}
	}
	if want.Off {
		c, err := disconnect(have)
		return changed || c, err
	}
	if want.Master != "" {
		c, err := s.plug(have, want.Master, want.Isolated)
		changed = changed || c
		if err != nil {
			return changed, err
		}
	}
	if a.Flags&net.FlagUp == 0 {
		changed = true
		if err := netlink.LinkSetUp(have); err != nil {
			return true, fmt.Errorf("set up: %w", err)
		}
	}
	return changed, nil
}

// plug makes a link a port of a bridge.
func (s *snapshot) plug(have netlink.Link, bridge string, isolated bool) (changed bool, err error) {
	master := s.byName[bridge]
	if master == nil {
		return false, fmt.Errorf("bridge %s is not on this host", bridge)
	}
	if master.Type() != string(Bridge) {
		return false, fmt.Errorf("%s is a %s, not a bridge", bridge, master.Type())
	}
	index := have.Attrs().Index
	if have.Attrs().MasterIndex != master.Attrs().Index {
		changed = true
		if err := netlink.LinkSetMasterByIndex(have, master.Attrs().Index); err != nil {
			return true, fmt.Errorf("plug into %s: %w", bridge, err)
		}
		s.isolated[index] = false
	}
	if s.isolated[index] != isolated {
		changed = true
		if err := netlink.LinkSetIsolated(have, isolated); err != nil {
			return true, fmt.Errorf("set isolated: %w", err)
		}
	}
	return changed, nil
}

// flood makes the tunnel send unknown and broadcast frames to exactly the peers; what it learns it keeps.
func flood(have netlink.Link, want []netip.Addr) (changed bool, err error) {
	index := have.Attrs().Index
	entries, err := netlink.NeighList(index, unix.AF_BRIDGE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return false, fmt.Errorf("list tunnel peers: %w", err)
	}
	zero := net.HardwareAddr{0, 0, 0, 0, 0, 0}
	missing := map[netip.Addr]bool{}
	for _, p := range want {
		missing[p] = true
	}
	entry := func(ip net.IP) *netlink.Neigh {
		return &netlink.Neigh{
			LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
			Flags: netlink.NTF_SELF, IP: ip, HardwareAddr: zero,
		}
	}
	var surplus []net.IP
	for _, e := range entries {
		dst, ok := netip.AddrFromSlice(e.IP)
		if !ok || e.HardwareAddr.String() != zero.String() {
			continue
		}
		if missing[dst.Unmap()] {
			delete(missing, dst.Unmap())
		} else {
			surplus = append(surplus, e.IP)
		}
	}
	for _, p := range want {
		if missing[p] {
			changed = true
			if err := netlink.NeighAppend(entry(p.AsSlice())); err != nil && !errors.Is(err, unix.EEXIST) {
				return true, fmt.Errorf("add tunnel peer %s: %w", p, err)
			}
		}
	}
	for _, ip := range surplus {
		changed = true
		if err := netlink.NeighDel(entry(ip)); err != nil && !errors.Is(err, unix.ENOENT) {
			return true, fmt.Errorf("remove tunnel peer %s: %w", ip, err)
		}
	}
	return changed, nil
}

// quiet keeps the host itself off a guest segment: without it the kernel gives every port a link-local address and
// takes router advertisements of guests for its own.
func quiet(name string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disable ipv6: %w", err)
	}
	return nil
}

// bypassNetfilter keeps frames between guests out of the host's own packet filter (br_netfilter). The switch is one
// for all bridges of the host.
func bypassNetfilter() (changed bool, err error) {
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"} {
		path := "/proc/sys/net/bridge/" + name
		value, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return changed, fmt.Errorf("read %s: %w", name, err)
		}
		if strings.TrimSpace(string(value)) == "0" {
			continue
		}
		changed = true
		if err := os.WriteFile(path, []byte("0"), 0); err != nil {
			return changed, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return changed, nil
}

func remove(l netlink.Link) error {
	err := netlink.LinkDel(l)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}
