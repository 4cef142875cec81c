package fabric

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// ControlBridge carries the control NICs of system VMs. It has no uplink and no address, and its ports are isolated from
// each other: what is behind one reaches nobody, until the host itself has something to say there.
const ControlBridge = "wctl"

// Appliance is a system VM as the fabric sees it: NICs that belong to no guest network.
type Appliance struct {
	ID    string
	Ports []Port
}

// Port is such a NIC.
type Port struct {
	Tap string
	// Bridge of the host by name, with a VLAN tag on it; the control bridge when empty.
	Bridge string
	Vlan   uint32
	// Unplugged keeps the tap out of its bridge.
	Unplugged bool
}

// PortOf is the NIC of a system VM that is not in a guest network.
func PortOf(nic *hostspec.SystemNic, unplugged bool) Port {
	return Port{Tap: TapName(nic.GetId()), Bridge: nic.GetBridge(), Vlan: nic.GetVlan(), Unplugged: unplugged}
}

// Master is the bridge the port is plugged into.
func (p Port) Master() string {
	switch {
	case p.Bridge == "":
		return ControlBridge
	case p.Vlan != 0:
		return hashed("wpb", p.Bridge, fmt.Sprint(p.Vlan))
	}
	return p.Bridge
}

// links are what must be there below the port.
func (p Port) links() []Link {
	switch {
	case p.Bridge == "":
		return []Link{{Name: ControlBridge, Sort: Bridge, Alias: "wisp control"}}
	case p.Vlan != 0:
		return tagged(p.Bridge, p.Vlan)
	}
	return nil
}

// tagged are the bridge and the VLAN link that all legs and ports with this tag on that bridge share.
func tagged(bridge string, vlan uint32) []Link {
	tag := fmt.Sprint(vlan)
	about, master := "wisp "+bridge+" vlan "+tag, hashed("wpb", bridge, tag)
	return []Link{
		{Name: master, Sort: Bridge, Alias: about},
		{Name: hashed("wpv", bridge, tag), Sort: VLAN, Alias: about, Master: master, Parent: bridge, Tag: vlan},
	}
}

// applyAppliance makes the bridges of a system VM's own ports and keeps its taps in them.
func (f *Fabric) applyAppliance(shot *snapshot, a Appliance, kept map[string]bool) Result {
	var errs []error
	r := Result{Plugged: true}
	for _, p := range a.Ports {
		for _, l := range p.links() {
			kept[l.Name] = true
			if _, err := f.applyLink(shot, l, nil, nil); err != nil {
				errs = append(errs, fmt.Errorf("link %s: %w", l.Name, err))
			}
		}
		master := shot.byName[p.Master()]
		if master == nil || master.Type() != string(Bridge) {
			errs = append(errs, fmt.Errorf("bridge %s is not on this host", p.Master()))
			r.Plugged = false
			continue
		}
		tap := shot.byName[p.Tap]
		if tap == nil {
			continue
		}
		var err error
		if p.Unplugged {
			_, err = unplug(tap)
		} else {
			_, err = shot.shape(Link{Master: p.Master(), Isolated: p.Bridge == ""}, tap)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("tap %s: %w", p.Tap, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.Err = fmt.Errorf("plug system vm %s: %w", a.ID, err)
	}
	return r
}

// unplug takes a link out of whatever bridge it is in.
func unplug(l netlink.Link) (changed bool, err error) {
	if l.Attrs().MasterIndex == 0 {
		return false, nil
	}
	if err := netlink.LinkSetNoMaster(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return true, fmt.Errorf("unplug: %w", err)
	}
	return true, nil
}

// Plug is a tap and the bridge it belongs into.
type Plug struct {
	Tap, Bridge string
	Isolated    bool
}

// Switch unplugs some taps and then plugs in others, at once: a successor takes over the addresses of a machine. What it
// is told twice, and taps that are not there, cost nothing.
func (f *Fabric) Switch(_ context.Context, off []string, on []Plug) error {
	var errs []error
	find := func(name string) netlink.Link {
		l, err := netlink.LinkByName(name)
		if err == nil {
			return l
		}
		var gone netlink.LinkNotFoundError
		if !errors.As(err, &gone) {
			errs = append(errs, fmt.Errorf("find link %s: %w", name, err))
		}
		return nil
	}
	for _, name := range off {
		if l := find(name); l != nil {
			if _, err := unplug(l); err != nil {
				errs = append(errs, fmt.Errorf("tap %s: %w", name, err))
			}
		}
	}
	if len(errs) > 0 {
		// Two machines with one address is worse than none for a moment.
		return errors.Join(errs...)
	}
	for _, p := range on {
		tap, bridge := find(p.Tap), find(p.Bridge)
		if tap == nil || bridge == nil {
			continue
		}
		if tap.Attrs().MasterIndex != bridge.Attrs().Index {
			if err := netlink.LinkSetMasterByIndex(tap, bridge.Attrs().Index); err != nil {
				errs = append(errs, fmt.Errorf("plug tap %s into %s: %w", p.Tap, p.Bridge, err))
				continue
			}
		}
		if p.Isolated {
			if err := netlink.LinkSetIsolated(tap, true); err != nil {
				errs = append(errs, fmt.Errorf("isolate tap %s: %w", p.Tap, err))
			}
		}
	}
	return errors.Join(errs...)
}
