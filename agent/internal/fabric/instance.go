package fabric

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// plan says which of a network's instances is in charge. It is made anew in every pass from what the kernel shows and
// what the services say, so an agent that was killed in the middle of a replacement goes on where it was.
type plan struct {
	// wanted and serving are "" where no services are wanted.
	wanted, serving string
	// others have a namespace beside the wanted one.
	others []string
}

// plan of a network: a leg of the wanted instance that is in a bridge means that the swap was begun; else whoever is
// plugged in stays until the wanted one is ready. The names of links and namespaces that stay go to kept.
func (s *snapshot) plan(n *hostspec.Network, want Want, kept map[string]bool) (plan, error) {
	if n.GetServices() == nil {
		return plan{}, nil
	}
	wanted := netrun.Instance(n.GetId(), n.GetIncarnation())
	p := plan{wanted: wanted, serving: wanted}
	all, err := namespaces()
	if err != nil {
		return plan{}, err
	}
	for _, id := range all {
		if id != wanted && netrun.NetworkOf(id) == n.GetId() {
			p.others = append(p.others, id)
		}
	}
	if !want.Ready[n.GetId()] && !s.connected(n, wanted) {
		for _, id := range p.others {
			if s.connected(n, id) && (p.serving == wanted || netrun.IncarnationOf(id) > netrun.IncarnationOf(p.serving)) {
				p.serving = id
			}
		}
	}
	for _, id := range append([]string{wanted}, p.others...) {
		if id != wanted && id != p.serving && !want.Running[id] {
			continue
		}
		// Names of namespaces are longer than those of links can be.
		kept[NamespaceName(id)] = true
		for _, leg := range legsOf(n) {
			kept[legName(id, leg.GetName())] = true
		}
	}
	return p, nil
}

// instances that shall have services.
func (p plan) instances() []string {
	switch p.serving {
	case "":
		return nil
	case p.wanted:
		return []string{p.wanted}
	}
	return []string{p.serving, p.wanted}
}

// legsOf are all legs of a network, those on standby among them.
func legsOf(n *hostspec.Network) []*hostspec.Leg {
	return slices.Concat(n.GetLegs(), n.GetStandbyLegs())
}

// connected tells whether a leg of an instance is in a bridge. Legs on standby say nothing: they are in none, or will be.
func (s *snapshot) connected(n *hostspec.Network, instance string) bool {
	return slices.ContainsFunc(n.GetLegs(), func(leg *hostspec.Leg) bool {
		l := s.byName[legName(instance, leg.GetName())]
		return l != nil && s.ours(l) && l.Attrs().MasterIndex != 0
	})
}

// applyInstances makes the namespaces of a network with their legs, and has exactly one of them plugged in. The others
// are off before it is on: two with one address are worse than none.
func (f *Fabric) applyInstances(shot *snapshot, n *hostspec.Network, p plan, bridge Link, kept map[string]bool) (changed bool, err error) {
	off := p.others
	if p.serving != p.wanted {
		off = append(slices.Clone(off), p.wanted)
	}
	for _, id := range off {
		if id == p.serving {
			continue
		}
		for _, leg := range legsOf(n) {
			have := shot.byName[legName(id, leg.GetName())]
			if have == nil || !shot.ours(have) {
				continue
			}
			c, err := disconnect(have)
			changed = changed || c
			if err != nil {
				return changed, fmt.Errorf("disconnect %s of %s: %w", leg.GetName(), id, err)
			}
			if c {
				f.log.Info("disconnected", "instance", id, "leg", leg.GetName(), "for", p.serving)
			}
		}
	}
	for _, id := range p.instances() {
		c, ierr := f.applyInstance(shot, n, id, legLinks(n, id, bridge, id != p.serving), kept)
		changed, err = changed || c, errors.Join(err, ierr)
	}
	return changed, err
}

func (f *Fabric) applyInstance(shot *snapshot, n *hostspec.Network, instance string, links []Link, kept map[string]bool) (bool, error) {
	for _, l := range links {
		kept[l.Name] = true
	}
	name := NamespaceName(instance)
	made, err := ensureNamespace(name, f.config.Holder(instance))
	if err != nil {
		return made, err
	}
	namespace, err := os.Open(NamespacePath(instance))
	if err != nil {
		return made, fmt.Errorf("open namespace: %w", err)
	}
	defer func() { _ = namespace.Close() }()
	ids := namespaceIDs{}
	if id, err := netlink.GetNetNsIdByFd(int(namespace.Fd())); err == nil {
		ids[name] = id
	}
	changed, err := f.applyLinks(shot, links, ids, namespace)
	return made || changed, err
}

// disconnect takes a leg out of its bridge and down, so that its other end has no carrier.
func disconnect(l netlink.Link) (changed bool, err error) {
	if changed, err = unplug(l); err != nil {
		return changed, err
	}
	l.Attrs().MasterIndex = 0
	if l.Attrs().Flags&net.FlagUp == 0 {
		return changed, nil
	}
	if err := netlink.LinkSetDown(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return true, fmt.Errorf("set down: %w", err)
	}
	l.Attrs().Flags &^= net.FlagUp
	return true, nil
}
