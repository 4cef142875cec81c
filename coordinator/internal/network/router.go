package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var noAddr netip.Addr

// homeRouter sees that the network has a router, and that it has a host and starts. MACs stay.
func (a *Area) homeRouter(tx *store.Tx, n *cloud.Network, prefer cloud.ID) error {
	rt, ok := RouterOf(tx, n.ID)
	if !ok {
		rt = newRouter(tx, n, placement(tx, n))
	}
	if rt.HostID.IsZero() || gone(tx, rt.HostID) {
		if err := a.unhome(tx, rt); err != nil {
			return err
		}
		rt.Placement = placement(tx, n)
		if err := a.home(tx, n, rt, wish{prefer: prefer}); err != nil {
			return err
		}
	}
	rt.State, rt.Error, rt.Destroying, rt.Avoid, rt.StoppedFor = cloud.VMStarting, "", false, nil, cloud.ID{}
	return enter(tx, rt)
}

// newRouter makes a router that has no host and no name yet. It writes nothing.
func newRouter(tx *store.Tx, n *cloud.Network, placement string) *cloud.Router {
	return &cloud.Router{
		ID: tx.NewID(), NetworkID: n.ID, AccountID: n.AccountID, DomainID: n.DomainID, ZoneID: n.ZoneID, Placement: placement,
		PublicMAC: newMAC(tx), Created: tx.Now(),
	}
}

// enter puts the row of a router that has found a host, and names a new one.
func enter(tx *store.Tx, rt *cloud.Router) error {
	if rt.Number == 0 {
		number, err := next(tx, "router.number")
		if err != nil {
			return err
		}
		rt.Number, rt.Name = number, fmt.Sprintf("r-%d-VM", number)
	}
	return tables.Routers.Put(tx, rt)
}

// chooseHost picks the host of a network's router: the preferred one if it can, else the one with the fewest routers.
// The refusal names every host with its reason.
func chooseHost(r store.Reader, n *cloud.Network, prefer cloud.ID) (*cloud.Host, error) {
	var fit []*cloud.Host
	var reasons []string
	claims := infra.RouterClaims(r, n.ZoneID, n.AccountID, n.DomainID)
	for h := range tables.Hosts.By(r, "zone", store.K(n.ZoneID)) {
		switch why := refuseRouter(h, feature(n), claims); {
		case why != "":
			reasons = append(reasons, "host "+h.Name+": "+why)
		case h.ID == prefer:
			return h, nil
		default:
			fit = append(fit, h)
		}
	}
	if len(fit) > 0 {
		return slices.MinFunc(fit, func(x, y *cloud.Host) int {
			return cmp.Or(
				cmp.Compare(tables.Routers.Count(r, "host", store.K(x.ID)), tables.Routers.Count(r, "host", store.K(y.ID))),
				slices.Compare(x.ID[:], y.ID[:]))
		}), nil
	}
	slices.Sort(reasons)
	switch shown := 10; {
	case len(reasons) == 0:
		reasons = []string{"the zone has no hosts"}
	case len(reasons) > shown:
		reasons = append(reasons[:shown], fmt.Sprintf("and %d more hosts", len(reasons)-shown))
	}
	return nil, cloud.Errorf(cloud.NoCapacity, "No host can take the router of network %s: %s", n.Name, strings.Join(reasons, "; "))
}

func refuseRouter(h *cloud.Host, feature string, claims *place.Claims) string {
	switch {
	case h.ResourceState != cloud.HostEnabled:
		return "it is " + h.ResourceState.String()
	case h.Status != cloud.HostUp:
		return "it is " + h.Status.String()
	case !slices.Contains(h.Features, feature):
		return "its kernel lacks " + feature
	}
	return claims.Refuse(&place.Host{ID: h.ID, Zone: h.ZoneID, Pod: h.PodID, Cluster: h.ClusterID})
}

// gone tells whether a host will not come back with what it ran: it is removed, or declared dead.
func gone(r store.Reader, id cloud.ID) bool {
	h, ok := tables.Hosts.Get(r, id)
	return !ok || h.Status == cloud.HostDown || h.Status == cloud.HostRemoved
}

// Tend is the slow pass of this area: it collects idle networks, moves routers off dead hosts and those that go into
// maintenance, homes routers that found no host, raises alerts about those that do not work, and finishes what waited for a
// host that is gone. The leader calls it every few seconds; a call that finds nothing to do writes nothing.
func (a *Area) Tend(tx *store.Tx) error {
	if err := a.collect(tx); err != nil {
		return err
	}
	if err := a.rehome(tx); err != nil {
		return err
	}
	if err := a.evacuate(tx); err != nil {
		return err
	}
	if err := a.tendStandbys(tx); err != nil {
		return err
	}
	if err := tellSick(tx); err != nil {
		return err
	}
	for n := range tables.Networks.By(tx, "leaving", nil) {
		rt, ok := RouterOf(tx, n.ID)
		if ok && !rt.HostID.IsZero() && !gone(tx, rt.HostID) {
			continue
		}
		if err := a.left(tx, n); err != nil {
			return err
		}
	}
	return nil
}

func (a *Area) collect(tx *store.Tx) error {
	wait := gcWait.Duration(tx)
	for n := range tables.Networks.By(tx, "idle", nil) {
		if tx.Now().Sub(n.IdleSince) < wait {
			return nil // the index is in the order of time
		}
		if !carried(n) || n.Persistent || anyRuns(tx, n, cloud.ID{}) {
			n.IdleSince = time.Time{}
			if err := tables.Networks.Put(tx, n); err != nil {
				return err
			}
			continue
		}
		if err := a.shutdown(tx, n); err != nil {
			return err
		}
	}
	return nil
}

// rehome gives routers without a living host another one. What cannot be placed now is tried again in the next pass.
func (a *Area) rehome(tx *store.Tx) error {
	var move []*cloud.Router
	for rt := range tables.Routers.By(tx, "homeless", nil) {
		move = append(move, rt)
	}
	move = append(move, orphans(tx)...)
	for _, rt := range move {
		n, ok := tables.Networks.Get(tx, rt.NetworkID)
		if !ok || !carried(n) {
			continue
		}
		if err := a.rehomeOne(tx, n, rt); err != nil {
			return err
		}
	}
	return nil
}

func (a *Area) rehomeOne(tx *store.Tx, n *cloud.Network, rt *cloud.Router) error {
	switch {
	case rt.Standby:
		return a.failStandby(tx, n, rt, "its host is gone")
	case rt.State == cloud.VMStopping:
		return a.stopped(tx, n, rt)
	case rt.State == cloud.VMStopped:
		return nil
	}
	if s, ok := SuccessorOf(tx, n.ID); ok && s.State != cloud.VMError && !gone(tx, s.HostID) {
		return a.takeOver(tx, n, s) // there is no other any more, whether this one is ready or not
	}
	why := whyLeft(tx, rt)
	if err := a.unhome(tx, rt); err != nil {
		return err
	}
	err := a.home(tx, n, rt, wish{prefer: anyHost(tx, n)})
	if cloud.CodeOf(err) == cloud.NoCapacity {
		rt.Avoid = nil // each of them may be tried again
		return a.noteRouter(tx, rt, err.Error())
	}
	if err != nil {
		return err
	}
	rt.State = cloud.VMStarting
	if rt.Placement == cloud.OnHost {
		rt.Error = ""
	}
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	h, _ := tables.Hosts.Get(tx, rt.HostID) // home has just chosen it
	if err := a.tellHA(tx, rt, fmt.Sprintf("Router %s of network %s is started on host %s: %s", rt.Name, n.Name, h.Name, why)); err != nil {
		return err
	}
	return transition(tx, n, cloud.NetworkImplementing)
}

// whyLeft says why a router gets another host.
func whyLeft(r store.Reader, rt *cloud.Router) string {
	h, ok := tables.Hosts.Get(r, rt.HostID)
	switch {
	case rt.HostID.IsZero() && rt.Error != "":
		return "there was none before (" + rt.Error + ")"
	case rt.HostID.IsZero():
		return "the one before was given up"
	case !ok:
		return "the one before was removed"
	case gone(r, h.ID):
		return "host " + h.Name + " is " + h.Status.String()
	case len(rt.Avoid) > 0:
		return fmt.Sprintf("host %s cannot run it (%s)", h.Name, rt.Error)
	}
	return "it left host " + h.Name
}

// tellHA writes that a router was started by itself.
func (a *Area) tellHA(tx *store.Tx, rt *cloud.Router, what string) error {
	return a.Event(tx, &cloud.Event{
		Type: "ROUTER.HA", Level: cloud.EventWarn, State: cloud.EventCompleted, AccountID: rt.AccountID, DomainID: rt.DomainID,
		ResourceID: rt.ID, Description: what,
	})
}

// evacuate has the routers of hosts that are to go into maintenance replaced by others elsewhere, as in every replacement.
// What no other host can take now is tried again in the next pass.
func (a *Area) evacuate(tx *store.Tx) error {
	for h := range tables.Hosts.All(tx) {
		if h.ResourceState != cloud.HostPrepareForMaintenance || tables.Routers.Count(tx, "host", store.K(h.ID)) == 0 {
			continue
		}
		for _, id := range slices.Collect(tables.Routers.IDs(tx, "host", store.K(h.ID))) {
			rt, ok := tables.Routers.Get(tx, id)
			if !ok {
				continue
			}
			n, ok := tables.Networks.Get(tx, rt.NetworkID)
			if !ok || !carried(n) {
				continue
			}
			if err := a.evacuateOne(tx, n, rt); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Area) evacuateOne(tx *store.Tx, n *cloud.Network, rt *cloud.Router) error {
	if rt.Standby {
		return a.failStandby(tx, n, rt, "its host is to go into maintenance")
	}
	if s, ok := SuccessorOf(tx, n.ID); ok && s.State != cloud.VMError || rt.State == cloud.VMStopping {
		return nil
	}
	err := a.replace(tx, n, rt, successor{placement: rt.Placement, leave: rt.HostID})
	if cloud.CodeOf(err) == cloud.NoCapacity {
		return nil
	}
	return err
}

// orphans lists the routers of dead and removed hosts, without walking over those of living ones.
func orphans(r store.Reader) []*cloud.Router {
	var list []*cloud.Router
	known := 0
	for h := range tables.Hosts.All(r) {
		count := tables.Routers.Count(r, "host", store.K(h.ID))
		known += count
		if count > 0 && gone(r, h.ID) {
			list = slices.AppendSeq(list, tables.Routers.By(r, "host", store.K(h.ID)))
		}
	}
	if known == tables.Routers.Count(r, "host", nil) {
		return list
	}
	for rt := range tables.Routers.By(r, "host", nil) {
		if !tables.Hosts.Has(r, rt.HostID) {
			list = append(list, rt)
		}
	}
	return list
}

// noteRouter writes why a router has no host.
func (a *Area) noteRouter(tx *store.Tx, rt *cloud.Router, why string) error {
	rt.Error, rt.State = why, cloud.VMStarting
	return tables.Routers.Put(tx, rt)
}

// anyHost is the living host of some VM of the network: traffic of that VM then needs no tunnel.
func anyHost(r store.Reader, n *cloud.Network) cloud.ID {
	for nic := range tables.NICs.By(r, "network", store.K(n.ID)) {
		if vm, ok := tables.VMs.Get(r, nic.VMID); ok && !vm.HostID.IsZero() && !gone(r, vm.HostID) {
			return vm.HostID
		}
	}
	return cloud.ID{}
}
