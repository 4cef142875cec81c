package network

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RouterArgs is the state of a job about a router: its row may be replaced by another one meanwhile, or be gone.
type RouterArgs struct {
	Name, Placement                        string
	NetworkID, AccountID, DomainID, ZoneID cloud.ID
	Created                                time.Time
	OfferingID                             cloud.ID // of ScaleRouterStep: the size it shall have
}

// ArgsOf makes the state of a job about a router.
func ArgsOf(rt *cloud.Router) RouterArgs {
	return RouterArgs{rt.Name, rt.Placement, rt.NetworkID, rt.AccountID, rt.DomainID, rt.ZoneID, rt.Created, cloud.ID{}}
}

// Router is the row that a job was about: as it is now, the one that replaced it, or what is remembered of it.
func (a RouterArgs) Router(r store.Reader, id cloud.ID) *cloud.Router {
	if rt, ok := tables.Routers.Get(r, id); ok {
		return rt
	}
	if rt, ok := RouterOf(r, a.NetworkID); ok {
		return rt
	}
	return &cloud.Router{
		ID: id, Name: a.Name, Placement: a.Placement, NetworkID: a.NetworkID, AccountID: a.AccountID, DomainID: a.DomainID,
		ZoneID: a.ZoneID, Created: a.Created, State: cloud.VMDestroyed,
	}
}

// inCharge refuses routers that replace or were replaced, and gives the network of others.
func inCharge(r store.Reader, rt *cloud.Router) (*cloud.Network, error) {
	if rt.Standby {
		return nil, cloud.Errorf(cloud.InUse, "Router %s is part of a replacement that is going on", rt.Name)
	}
	n, ok := tables.Networks.Get(r, rt.NetworkID)
	if !ok {
		return nil, &store.NotFound{Table: "network", ID: rt.NetworkID}
	}
	if n.State == cloud.NetworkShutdown || n.State == cloud.NetworkDestroy {
		return nil, cloud.Errorf(cloud.InUse, "Router %s cannot be changed: its network %s is in state %s", rt.Name, n.Name, n.State)
	}
	return n, nil
}

// StartRouter starts a stopped router, with its network where that does not run either; without VMs that is then
// collected again after network.gc.wait. A router that runs stays as it is.
func (a *Area) StartRouter(tx *store.Tx, rt *cloud.Router) error {
	n, err := inCharge(tx, rt)
	switch {
	case err != nil:
		return err
	case rt.State == cloud.VMStopping:
		return cloud.Errorf(cloud.InUse, "Router %s is being stopped", rt.Name)
	case rt.State != cloud.VMStopped:
		return nil
	}
	if !carried(n) && !n.Persistent && !anyRuns(tx, n, cloud.ID{}) {
		n.IdleSince = tx.Now()
	}
	return a.implement(tx, n, anyHost(tx, n))
}

// StartRouterStep waits for a router to run.
func (a *Area) StartRouterStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	rt, ok := tables.Routers.Get(tx, j.InstanceID())
	switch {
	case !ok || rt.State == cloud.VMStopped || rt.State == cloud.VMStopping:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The router was stopped while it was being started")), nil
	case rt.State == cloud.VMRunning:
		return job.Done(), nil
	case j.Expired:
		return job.Fail(unconfirmed(tx, rt.NetworkID, "The start of router "+rt.Name)), nil
	}
	return job.Wait(), nil
}

// StopRouter takes the way out of a network away until its router, or a VM of it, is started. DHCP, DNS and metadata stay
// where the guests run. Forced does not ask a system VM first. The end of a storage pool's maintenance, which may have stopped
// it before, does not start it any more.
func (a *Area) StopRouter(tx *store.Tx, rt *cloud.Router, forced bool) error {
	if rt.State == cloud.VMStopped || rt.State == cloud.VMStopping && (rt.ForcedStop || !forced) {
		if rt.StoppedFor.IsZero() {
			return nil
		}
		rt.StoppedFor = cloud.ID{}
		return tables.Routers.Put(tx, rt)
	}
	return a.stopRouter(tx, rt, forced, cloud.ID{})
}

// stopRouter stops a router that is not stopped: for the maintenance of a pool, where that is given.
func (a *Area) stopRouter(tx *store.Tx, rt *cloud.Router, forced bool, pool cloud.ID) error {
	n, err := inCharge(tx, rt)
	if err != nil {
		return err
	}
	if s, ok := SuccessorOf(tx, n.ID); ok {
		if err := a.drop(tx, s); err != nil {
			return err
		}
	}
	rt.State, rt.Retiring, rt.ForcedStop, rt.Error, rt.StoppedFor = cloud.VMStopping, false, forced, "", pool
	if rt.HostID.IsZero() || gone(tx, rt.HostID) || !carried(n) {
		return a.stopped(tx, n, rt)
	}
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// stopped writes that a router which was asked to stop has done so. What waited for its word is settled, and a network
// that waited for it to start waits no more.
func (a *Area) stopped(tx *store.Tx, n *cloud.Network, rt *cloud.Router) error {
	rt.State = cloud.VMStopped
	var err error
	if rt.Destroying {
		n.RestartNeeded = true
		err = a.drop(tx, rt)
	} else if err = a.unhome(tx, rt); err == nil {
		err = tables.Routers.Put(tx, rt)
	}
	if err != nil {
		return err
	}
	if n.State == cloud.NetworkImplementing {
		n.State, n.StateSince = cloud.NetworkImplemented, tx.Now()
	}
	if err := tables.Networks.Put(tx, n); err != nil {
		return err
	}
	return a.settleRows(tx, n, ^uint64(0))
}

// StopRouterStep waits for a router to have stopped, or to be gone.
func (a *Area) StopRouterStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	rt, ok := tables.Routers.Get(tx, j.InstanceID())
	switch {
	case !ok || rt.State == cloud.VMStopped:
		return job.Done(), nil
	case rt.State != cloud.VMStopping:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "Router %s was started while it was being stopped", rt.Name)), nil
	case j.Expired:
		return job.Fail(unconfirmed(tx, rt.NetworkID, "The stop of router "+rt.Name)), nil
	}
	return job.Wait(), nil
}

// DestroyRouter stops a router and removes it. Its network gets another one when a VM of it starts or it is restarted.
func (a *Area) DestroyRouter(tx *store.Tx, rt *cloud.Router) error {
	n, err := inCharge(tx, rt)
	if err != nil {
		return err
	}
	rt.Destroying = true
	if rt.State == cloud.VMStopped || rt.State == cloud.VMStopping {
		if rt.State == cloud.VMStopped {
			return a.stopped(tx, n, rt)
		}
		return tables.Routers.Put(tx, rt)
	}
	return a.StopRouter(tx, rt, true)
}

// RebootRouter begins a router afresh: a namespace's services, a system VM as a whole. A system VM whose image is not
// the present one is replaced by one that runs it.
//
// Forced is for a router that does not do what it is told, hence also for one whose reboot does not come to an end: a
// system VM loses its power without being asked, and a namespace is replaced by another one.
func (a *Area) RebootRouter(tx *store.Tx, rt *cloud.Router, forced bool) error {
	n, err := inCharge(tx, rt)
	if err != nil {
		return err
	}
	runs := rt.State == cloud.VMRunning || forced && rt.State == cloud.VMStarting && !rt.HostID.IsZero()
	if !runs || n.State != cloud.NetworkImplemented {
		return cloud.Errorf(cloud.Unavailable, "Unable to reboot router %s: it is %s and its network %s", rt.Name, rt.State, n.State)
	}
	if err := replaceable(tx, n); err != nil {
		return err
	}
	switch {
	case RequiresUpgrade(tx, rt):
		return a.replace(tx, n, rt, successor{placement: rt.Placement})
	case rt.Placement == cloud.InVM:
		rt.BootEpoch++
		rt.ForcedStop = forced
	case forced:
		n.Incarnation++
		return a.replace(tx, n, rt, successor{placement: cloud.OnHost})
	default:
		n.Restarts++
	}
	rt.State = cloud.VMStarting
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// RebootRouterStep waits for the router of the network to run again.
func (a *Area) RebootRouterStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	return a.awaitSuccessor(tx, j, "The reboot of the router")
}
