package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Fabric is the layer-2 side of all guest networks of the host whose network namespace this process is in.
type Fabric struct {
	config Config
	log    *slog.Logger

	mu      sync.Mutex
	made    map[string]string // legs of the networks that were whole
	repairs map[string]uint64
}

// Config of a Fabric.
type Config struct {
	// Underlay the operator chose; empty fields are found out.
	UnderlayDevice  string
	UnderlayAddress netip.Addr
	// Holder returns the process that lives in the namespace of an instance, 0 for none.
	Holder func(instance string) int
	Log    *slog.Logger
}

// New makes a Fabric.
func New(c Config) *Fabric {
	if c.Holder == nil {
		c.Holder = func(string) int { return 0 }
	}
	return &Fabric{config: c, log: c.Log, made: map[string]string{}, repairs: map[string]uint64{}}
}

// Want is all that Apply needs to know.
type Want struct {
	Networks []*hostspec.Network
	// Taps by name. Those that exist are kept plugged.
	Taps map[string]Tap
	// Appliances are system VMs; their results are filed under their own ids.
	Appliances []Appliance
	// Ready are the ids of networks whose services in the wanted incarnation have applied what they shall, whole.
	Ready map[string]bool
	// Running are the instances whose services have not ended: their namespaces stay.
	Running map[string]bool
	// Keep are the ids of networks that are not in Networks but must be left as they are.
	Keep map[string]bool
	// Used are bridges that machines have links in. Those of no wanted network are left with what is in them.
	Used map[string]bool
	// Unsure: no network is removed yet, because who uses what is not known.
	Unsure bool
}

// Result of one network.
type Result struct {
	Err error
	// Plugged: the bridge is there and guests can be plugged in, whatever else is broken.
	Plugged bool
	// Serving is the instance whose legs are plugged in, "" where no services are wanted.
	Serving string
	// Instances that shall have services: the one that serves, and the one that shall.
	Instances []string
	// MTU of the bridge.
	MTU uint32
	// Absent are the taps of this network's NICs that do not exist.
	Absent map[string]bool
	// Repairs since the agent started: links, ports or the namespace of a finished network that had to be mended.
	Repairs uint64
}

// Apply makes the networks as wanted and removes ours that are not. The error is for what concerns no single network.
func (f *Fabric) Apply(ctx context.Context, want Want) (map[string]Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if changed, err := bypassNetfilter(); err != nil {
		return nil, err
	} else if changed {
		f.log.Warn("switched bridge-nf-call off: frames between guests do not pass this host's packet filter")
	}
	shot, err := look()
	if err != nil {
		return nil, err
	}
	results := make(map[string]Result, len(want.Networks))
	kept := map[string]bool{}
	for _, n := range want.Networks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := shot.plan(n, want, kept)
		if err != nil {
			return nil, err
		}
		changed, err := f.applyNetwork(shot, n, p, want.Taps, kept)
		id := n.GetId()
		if changed && f.made[id] == legsText(n) && len(p.others) == 0 {
			f.repairs[id]++
			f.log.Warn("repaired network", "network", id, "repairs", f.repairs[id])
		}
		if err == nil {
			f.made[id] = legsText(n)
		} else {
			err = fmt.Errorf("make network %s: %w", id, err)
		}
		r := Result{Err: err, Repairs: f.repairs[id], Absent: map[string]bool{}, Serving: p.serving, Instances: p.instances()}
		if bridge := shot.byName[bridgeName(n.GetNumber())]; bridge != nil && shot.ours(bridge) {
			r.Plugged, r.MTU = true, uint32(bridge.Attrs().MTU)
		}
		for name, tap := range want.Taps {
			if tap.NetworkID == id && shot.byName[name] == nil {
				r.Absent[name] = true
			}
		}
		results[id] = r
	}
	for _, a := range want.Appliances {
		results[a.ID] = f.applyAppliance(shot, a, kept)
	}
	return results, f.sweep(shot, want, kept)
}

// applyNetwork makes one network; the names of its links go to kept, even when it fails half-way.
func (f *Fabric) applyNetwork(shot *snapshot, n *hostspec.Network, p plan, taps map[string]Tap, kept map[string]bool) (bool, error) {
	underlay, err := f.underlay(shot, n.GetDevice())
	if err != nil {
		return false, err
	}
	if n.GetIsolation() == hostspec.Isolation_ISOLATION_VXLAN && !underlay.Address.IsValid() && n.GetDevice() != "" {
		// A traffic label without an address cannot end a tunnel; the host's underlay can.
		if underlay, err = f.underlay(shot, ""); err != nil {
			return false, err
		}
	}
	device := shot.byName[n.GetDevice()]
	links, err := Layout(n, underlay, device != nil && device.Type() == string(Bridge))
	if err != nil {
		return false, err
	}
	for _, l := range links {
		kept[l.Name] = true
		if l.Sort == Veth && l.PeerNamespace == "" {
			kept[l.Peer] = true
		}
	}
	changed, broken := f.applyLinks(shot, links, nil, nil)
	c, err := f.applyInstances(shot, n, p, links[0], kept)
	changed, broken = changed || c, errors.Join(broken, err)
	if shot.byName[links[0].Name] == nil {
		return changed, broken
	}
	c, err = f.plugTaps(shot, n.GetId(), links[0].Name, taps, links[0].MTU)
	return changed || c, errors.Join(broken, err)
}

// applyLinks applies all, whatever one of them says: a missing public bridge must not take DHCP away.
func (f *Fabric) applyLinks(shot *snapshot, links []Link, ids namespaceIDs, namespace *os.File) (changed bool, broken error) {
	for _, l := range links {
		c, err := f.applyLink(shot, l, ids, namespace)
		changed = changed || c
		if err != nil {
			broken = errors.Join(broken, fmt.Errorf("link %s: %w", l.Name, err))
		}
	}
	return changed, broken
}

func (f *Fabric) applyLink(shot *snapshot, want Link, ids namespaceIDs, namespace *os.File) (changed bool, err error) {
	have := shot.byName[want.Name]
	if have != nil && !shot.ours(have) {
		return false, errors.New("a link of that name exists and was not made by this agent")
	}
	if have != nil {
		if why := shot.stale(want, have, ids); why != "" {
			f.log.Info("making link anew", "link", want.Name, "because", why)
			if err := remove(have); err != nil {
				return false, fmt.Errorf("remove: %w", err)
			}
			have = nil
		}
	}
	if have == nil {
		if have, err = f.make(shot, want, namespace); err != nil {
			return false, err
		}
		changed = true
	}
	c, err := shot.shape(want, have)
	changed = changed || c
	if err != nil {
		return changed, err
	}
	if want.Sort == VXLAN {
		c, err := flood(have, want.Peers)
		return changed || c, err
	}
	if want.PeerMaster != "" {
		peer := shot.byName[want.Peer]
		if peer == nil {
			return changed, fmt.Errorf("peer %s is gone", want.Peer)
		}
		c, err := shot.shape(Link{Master: want.PeerMaster}, peer)
		return changed || c, err
	}
	return changed, nil
}

// make adds a link and puts it into the snapshot.
func (f *Fabric) make(shot *snapshot, want Link, namespace *os.File) (netlink.Link, error) {
	fd := -1
	if namespace != nil {
		fd = int(namespace.Fd())
	}
	if err := shot.add(want, fd); err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	names := []string{want.Name}
	if want.Sort == Veth && want.PeerNamespace == "" {
		names = append(names, want.Peer)
	}
	for _, name := range names {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		shot.byName[name], shot.byIndex[l.Attrs().Index] = l, l
		if name != want.Name {
			if err := netlink.LinkSetGroup(l, Group); err != nil {
				return nil, fmt.Errorf("mark %s: %w", name, err)
			}
			l.Attrs().Group = Group
		}
		if err := quiet(name); err != nil {
			return nil, err
		}
	}
	f.log.Info("made link", "link", want.Name, "sort", want.Sort, "for", want.Alias)
	return shot.byName[want.Name], nil
}

// sweep removes links and namespaces of ours that nobody wants. Ports go before the bridges they are in.
// shot is that from before the pass: what the pass made is wanted.
func (f *Fabric) sweep(shot *snapshot, want Want, kept map[string]bool) error {
	wanted := map[string]bool{}
	for _, n := range want.Networks {
		wanted[n.GetId()] = true
	}
	var errs []error
	for _, bridges := range []bool{false, true} {
		for name, l := range shot.byName {
			if !shot.ours(l) || kept[name] || (l.Type() == string(Bridge)) != bridges || f.spared(shot, l, want, kept, wanted) {
				continue
			}
			f.log.Info("removing link", "link", name, "was", l.Attrs().Alias)
			if err := remove(l); err != nil {
				errs = append(errs, fmt.Errorf("remove link %s: %w", name, err))
			}
		}
	}
	ids, err := namespaces()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, id := range ids {
		network := netrun.NetworkOf(id)
		if kept[NamespaceName(id)] || want.Keep[network] || want.Unsure && !wanted[network] {
			continue
		}
		f.log.Info("removing namespace", "instance", id)
		errs = append(errs, removeNamespace(NamespaceName(id)))
	}
	for id := range f.made {
		if !wanted[id] && !want.Keep[id] {
			delete(f.made, id)
			delete(f.repairs, id)
		}
	}
	return errors.Join(errs...)
}

// spared says whether a link belongs to a network that is to be left alone. The alias names the network; shared
// public bridges stay as long as anything is left alone.
func (f *Fabric) spared(shot *snapshot, l netlink.Link, want Want, kept, wanted map[string]bool) bool {
	bridge := l.Attrs().Name
	if master := shot.byIndex[l.Attrs().MasterIndex]; master != nil {
		bridge = master.Attrs().Name
	}
	if want.Used[bridge] && OwnBridge(bridge) && !kept[bridge] {
		return true
	}
	var id string
	if n, err := fmt.Sscanf(l.Attrs().Alias, "wisp network %s", &id); err == nil && n == 1 {
		network := netrun.NetworkOf(id)
		return want.Keep[network] || want.Unsure && !wanted[network]
	}
	return want.Unsure || len(want.Keep) > 0
}
