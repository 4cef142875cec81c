package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Underlay finds the device and address that tunnels and peers use, for facts.
func (f *Fabric) Underlay() (Underlay, error) {
	shot, err := look()
	if err != nil {
		return Underlay{}, err
	}
	return f.underlay(shot, "")
}

// underlay of a network: its own device where the spec names one, else the operator's choice, else the device of the
// default route, else the only device that has an address.
func (f *Fabric) underlay(shot *snapshot, device string) (Underlay, error) {
	address := netip.Addr{}
	if device == "" {
		device, address = f.config.UnderlayDevice, f.config.UnderlayAddress
	}
	if device == "" && address.IsValid() {
		name, err := deviceOf(shot, address)
		if err != nil {
			return Underlay{}, err
		}
		device = name
	}
	if device == "" {
		var err error
		if device, err = f.guessDevice(shot); err != nil || device == "" {
			return Underlay{}, err
		}
	}
	link := shot.byName[device]
	if link == nil {
		return Underlay{}, fmt.Errorf("device %s is not on this host", device)
	}
	u := Underlay{Device: device, Address: address, MTU: uint32(link.Attrs().MTU)}
	if !u.Address.IsValid() {
		addresses, err := globalAddresses(link)
		if err != nil {
			return Underlay{}, err
		}
		if len(addresses) > 0 {
			u.Address = addresses[0]
		}
	}
	return u, nil
}

func deviceOf(shot *snapshot, address netip.Addr) (string, error) {
	for name, l := range shot.byName {
		addresses, err := globalAddresses(l)
		if err != nil {
			return "", err
		}
		for _, a := range addresses {
			if a == address {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("underlay address %s is on no device of this host", address)
}

// globalAddresses of a link, IPv4 only: underlays are IPv4 networks.
func globalAddresses(l netlink.Link) ([]netip.Addr, error) {
	list, err := netlink.AddrList(l, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	var out []netip.Addr
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && ip.IsGlobalUnicast() {
			out = append(out, ip)
		}
	}
	return out, nil
}

func (f *Fabric) guessDevice(shot *snapshot) (string, error) {
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return "", fmt.Errorf("list default routes: %w", err)
	}
	sort.SliceStable(routes, func(i, j int) bool { return routes[i].Priority < routes[j].Priority })
	for _, r := range routes {
		if l := shot.byIndex[r.LinkIndex]; l != nil && !shot.ours(l) {
			return l.Attrs().Name, nil
		}
	}
	var names []string
	for name, l := range shot.byName {
		if l.Attrs().Flags&net.FlagLoopback != 0 || l.Attrs().Flags&net.FlagUp == 0 || shot.ours(l) {
			continue
		}
		addresses, err := globalAddresses(l)
		if err != nil {
			return "", err
		}
		if len(addresses) > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	sort.Strings(names)
	return names[0], nil
}
