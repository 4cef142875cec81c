package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// appliance is a system VM as a machine: booted from an image, plugged into networks and bridges.
func (l *Loop) appliance(s *desired.State, want *hostspec.SystemVM) subject {
	vm := desired.AsVM(want)
	return subject{
		key: desired.Key{Kind: desired.SystemVM, ID: want.GetId()}, vm: vm, want: vm, domains: l.config.Systems,
		obstacle: func() (error, bool) { return l.applianceObstacle(s, want) },
		resolve:  func() (domain.Machine, error) { return l.resolveAppliance(s, want, vm) },
	}
}

func (l *Loop) applianceObstacle(s *desired.State, want *hostspec.SystemVM) (err error, final bool) { //nolint:revive // the error is a value here
	st := l.board.object(desired.Key{Kind: desired.Image, ID: want.GetImageSha256()})
	switch {
	case st.Err != nil:
		return fmt.Errorf("image %s: %w", want.GetImageSha256(), st.Err), st.Final
	case !st.Ready:
		return fmt.Errorf("image %s %w", want.GetImageSha256(), errNotYet), false
	}
	for _, nic := range want.GetNics() {
		if nic.GetTraffic() != desired.TrafficGuest {
			continue
		}
		if err, final := l.networkObstacle(s, nic.GetNetworkId()); err != nil {
			return err, final
		}
	}
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.networks[want.GetId()]
	switch {
	case !ok && b.networkErr != nil:
		return b.networkErr, false
	case !ok:
		return fmt.Errorf("bridges of system vm %w", errNotYet), false
	case !r.Plugged:
		return r.Err, true
	}
	return nil, false
}

// resolveAppliance reads the image through before every boot.
func (l *Loop) resolveAppliance(s *desired.State, want *hostspec.SystemVM, vm *hostspec.VirtualMachine) (domain.Machine, error) {
	pool := s.Pools[want.GetPoolId()]
	set, err := l.config.Images.Verify(pool, want.GetImageSha256())
	if errors.Is(err, image.ErrCorrupted) {
		l.storage.poke()
	}
	if err != nil {
		return domain.Machine{}, err
	}
	cmdline := set.Cmdline
	if l.config.SystemDebug {
		cmdline += " wisp.debug=1"
	}
	m := domain.Machine{VM: vm, System: &domain.System{
		Kernel: set.Kernel, Initrd: set.Initrd, Root: set.Root, Cmdline: cmdline, ImageVersion: set.Version,
		Channel: l.config.ChannelPath(want.GetId()),
	}}
	for _, nic := range want.GetNics() {
		n := domain.Nic{
			MAC: nic.GetMac(), Tap: fabric.TapName(nic.GetId()), RateMbit: nic.GetRateMbit(),
			Unlinked: want.GetStandby() && nic.GetTraffic() != desired.TrafficControl,
		}
		if nic.GetTraffic() == desired.TrafficGuest {
			network, ok := s.Networks[nic.GetNetworkId()]
			if !ok {
				return domain.Machine{}, fmt.Errorf("network %s is not usable", nic.GetNetworkId())
			}
			n.Bridge, n.MTU = fabric.BridgeName(network), l.networkMTU(network)
		} else {
			n.Bridge = fabric.PortOf(nic, false).Master()
		}
		m.Nics = append(m.Nics, n)
	}
	return m, nil
}

// dataTaps are the taps of guest and public NICs, and where they belong.
func dataTaps(s *desired.State, want *hostspec.SystemVM) (taps []string, plugs []fabric.Plug) {
	for _, nic := range want.GetNics() {
		if nic.GetTraffic() == desired.TrafficControl {
			continue
		}
		tap := fabric.TapName(nic.GetId())
		taps = append(taps, tap)
		if nic.GetTraffic() == desired.TrafficGuest {
			if network, ok := s.Networks[nic.GetNetworkId()]; ok {
				plugs = append(plugs, fabric.Plug{Tap: tap, Bridge: fabric.BridgeName(network)})
			}
			continue
		}
		plugs = append(plugs, fabric.Plug{Tap: tap, Bridge: fabric.PortOf(nic, false).Master()})
	}
	return taps, plugs
}

// connected says whether guest and public NICs of a running system VM have carrier.
func connected(want *hostspec.SystemVM, seen *domain.Seen) bool {
	if want == nil {
		return len(seen.Unlinked) == 0
	}
	for _, nic := range want.GetNics() {
		if nic.GetTraffic() != desired.TrafficControl && slices.Contains(seen.Unlinked, fabric.TapName(nic.GetId())) {
			return false
		}
	}
	return true
}

// standbys are the system VMs on standby, and whether no step of each is under way: one begun under an older generation
// may plug it in yet. It is asked before domains are looked at, since only this lane begins steps.
func (l *Loop) standbys(s *desired.State) map[string]bool {
	list := map[string]bool{}
	for id, want := range s.SystemVMs {
		if want.GetStandby() {
			list[id] = !l.tasks.compute.busy(desired.Key{Kind: desired.SystemVM, ID: id})
		}
	}
	return list
}

// unplugged says whether none of a system VM's guest and public NICs has carrier. One that does not run has none.
func unplugged(s *desired.State, id string, seen map[string]domain.Seen) bool {
	d, ok := seen[id]
	if !ok || !d.Active {
		return true
	}
	taps, _ := dataTaps(s, s.SystemVMs[id])
	return !slices.ContainsFunc(taps, func(t string) bool { return slices.Contains(d.Taps, t) && !slices.Contains(d.Unlinked, t) })
}

// connect takes carrier and bridge from system VMs that shall not serve (any more), and then gives them to those that
// shall: in one pass, so that a successor follows within milliseconds. It says whether something is still to be done.
func (l *Loop) connect(ctx context.Context, s *desired.State, seen map[string]domain.Seen) (waiting bool) {
	type change struct {
		id    string
		taps  []string
		plugs []fabric.Plug
	}
	var off, on []change
	for id, d := range seen {
		if !d.System || !d.Active {
			continue
		}
		want := s.SystemVMs[id]
		switch {
		case want == nil && s.Known(desired.Key{Kind: desired.SystemVM, ID: id}):
		case want == nil:
			var up []string
			for _, tap := range d.Taps {
				if !slices.Contains(d.Unlinked, tap) {
					up = append(up, tap)
				}
			}
			off = append(off, change{id: id, taps: up})
		case want.GetStandby():
			taps, _ := dataTaps(s, want)
			taps = slices.DeleteFunc(taps, func(t string) bool { return slices.Contains(d.Unlinked, t) || !slices.Contains(d.Taps, t) })
			off = append(off, change{id: id, taps: taps})
		case want.GetPower() == hostspec.PowerState_POWER_STATE_RUNNING && !connected(want, &d):
			taps, plugs := dataTaps(s, want)
			on = append(on, change{id, taps, plugs})
		}
	}
	off = slices.DeleteFunc(off, func(c change) bool { return len(c.taps) == 0 })
	for _, c := range off {
		err := errors.Join(l.config.Hypervisor.Link(ctx, c.id, c.taps, false), l.config.Fabric.Switch(ctx, c.taps, nil))
		if err != nil {
			// Nobody is connected beside it: two machines with one address are worse than none.
			l.log.Error("cannot disconnect system vm", "vm", c.id, "error", err)
			return true
		}
		l.log.Info("disconnected system vm", "vm", c.id)
	}
	for _, c := range on {
		err := l.config.Fabric.Switch(ctx, nil, c.plugs)
		if err == nil {
			err = l.config.Hypervisor.Link(ctx, c.id, c.taps, true)
		}
		if err != nil {
			l.log.Error("cannot connect system vm", "vm", c.id, "error", err)
			waiting = true
			continue
		}
		l.log.Info("connected system vm", "vm", c.id)
	}
	if len(off)+len(on) > 0 {
		l.compute.poke() // to see them as they are now
		l.network.pokeSoon()
	}
	return waiting
}

// feed tells netrun which system VMs can be talked to.
func (l *Loop) feed(s *desired.State, seen map[string]domain.Seen) {
	want := map[string]netrun.Channel{}
	for id, v := range s.SystemVMs {
		d, ok := seen[id]
		if ok && d.Active && d.System && v.GetServices() != nil && v.GetPower() == hostspec.PowerState_POWER_STATE_RUNNING {
			want[id] = netrun.Channel{Socket: l.config.ChannelPath(id), Spec: v.GetServices()}
		}
	}
	l.config.Services.Feed(want)
}
