package fabric

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// guard lets a guest's port send frames from the guest's own address only: the address is a fixed entry of the bridge's
// table, and the port is locked (bridge(8), since Linux 5.18), so a frame with another source address is dropped.
// Otherwise a guest could take a neighbour's address and with it the neighbour's user-data and password. Kernels without
// the flag are left without the guard; the feature "bridge-locked" tells.
func (s *snapshot) guard(tap netlink.Link, mac string) (changed bool, err error) {
	own := hardware(mac)
	if own == nil {
		return false, nil
	}
	index := tap.Attrs().Index
	// The entry first, and each time anew: a locked port without it is mute. Setting it again costs less than reading
	// the whole table to see whether it is there.
	entry := &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER, HardwareAddr: own,
	}
	if err := netlink.NeighSet(entry); err != nil {
		return false, fmt.Errorf("fix address %s: %w", own, err)
	}
	if s.locked[index] {
		return false, nil
	}
	if err := netlink.LinkSetLearning(tap, false); err != nil {
		return false, fmt.Errorf("stop learning: %w", err)
	}
	switch err := lockPort(index); {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock: %w", err)
	}
	s.locked[index] = true
	return true, nil
}

// lockPort sets the port flag, for which the netlink library has no call.
func lockPort(index int) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_BRIDGE)
	message.Index = int32(index)
	req.AddData(message)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(brportLocked, []byte{1})
	req.AddData(port)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Tap is the host's end of a guest's NIC.
type Tap struct {
	NetworkID string
	MAC       string
	// Unplugged keeps the tap out of the bridge: it is that of a successor which does not serve yet.
	Unplugged bool
}

// plugTaps keeps the taps of running guests in their bridge, for instance one that was made anew.
func (f *Fabric) plugTaps(shot *snapshot, network, bridge string, taps map[string]Tap, mtu uint32) (changed bool, err error) {
	for name, tap := range taps {
		have := shot.byName[name]
		if tap.NetworkID != network || have == nil {
			continue
		}
		if tap.Unplugged {
			c, perr := unplug(have)
			changed = changed || c
			if perr != nil {
				err = errors.Join(err, fmt.Errorf("tap %s: %w", name, perr))
			}
			continue
		}
		moved := have.Attrs().MasterIndex != shot.byName[bridge].Attrs().Index
		c, perr := shot.shape(Link{Master: bridge, MTU: mtu}, have)
		changed = changed || c
		if perr == nil {
			if moved {
				// A port's flags and its entries in the table went with the old bridge.
				delete(shot.locked, have.Attrs().Index)
			}
			// A new guest's tap is not locked yet, which is no drift.
			_, perr = shot.guard(have, tap.MAC)
		}
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("tap %s: %w", name, perr))
		}
	}
	return changed, err
}
