package network

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// MoveRouter has a router that is a system VM run on another host, or, with a zero one, on any other that can take it.
// It is no live migration: a successor gets ready there before it takes over, as in every replacement. It has the
// addresses and MACs, another id and another name.
func (a *Area) MoveRouter(tx *store.Tx, rt *cloud.Router, host cloud.ID) error {
	n, err := a.replaceableVM(tx, rt, "migrate")
	if err != nil {
		return err
	}
	h, ok := tables.Hosts.Get(tx, host)
	switch {
	case host.IsZero():
	case host == rt.HostID:
		return cloud.Errorf(cloud.Invalid, "Router %s runs on the host of parameter hostid already", rt.Name)
	case !ok || h.ZoneID != n.ZoneID:
		return cloud.Errorf(cloud.Invalid, "The host of parameter hostid is in another zone than network %s of router %s", n.Name, rt.Name)
	}
	return a.replace(tx, n, rt, successor{placement: cloud.InVM, only: host, leave: rt.HostID})
}

// MoveRouterStep waits for the successor on the other host to be in charge.
func (a *Area) MoveRouterStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	return a.awaitSuccessor(tx, j, "The migration of the router")
}

// ResizeRouter gives a stopped router another system offering, which holds when it runs as a system VM.
func (a *Area) ResizeRouter(tx *store.Tx, rt *cloud.Router, o *cloud.ServiceOffering) error {
	if _, err := inCharge(tx, rt); err != nil {
		return err
	}
	if err := forRouters(o); err != nil {
		return err
	}
	if rt.State != cloud.VMStopped {
		return cloud.Errorf(cloud.Invalid, "Unable to upgrade router %s to offering %s: it is %s and must be Stopped", rt.Name, o.Name, rt.State)
	}
	rt.OfferingID = o.ID
	return tables.Routers.Put(tx, rt)
}

// ScaleRouter gives a router that is a system VM another size: a stopped one at once, one that runs by a successor of
// that size.
func (a *Area) ScaleRouter(tx *store.Tx, rt *cloud.Router, o *cloud.ServiceOffering) error {
	if rt.State == cloud.VMStopped {
		return a.ResizeRouter(tx, rt, o)
	}
	if err := forRouters(o); err != nil {
		return err
	}
	n, err := a.replaceableVM(tx, rt, "scale")
	if err != nil {
		return err
	}
	return a.replace(tx, n, rt, successor{placement: cloud.InVM, offering: o.ID})
}

// ScaleRouterStep waits for the router to have its new size.
func (a *Area) ScaleRouterStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var args RouterArgs
	if err := j.Args(&args); err != nil {
		return job.Outcome{}, err
	}
	if rt, ok := tables.Routers.Get(tx, j.InstanceID()); ok && rt.State == cloud.VMStopped && rt.OfferingID == args.OfferingID {
		return job.Done(), nil
	}
	return a.awaitSuccessor(tx, j, "The scaling of the router")
}

// forRouters refuses sizes that are not for routers.
func forRouters(o *cloud.ServiceOffering) error {
	if !o.System || o.SystemVM != "domainrouter" {
		return cloud.Errorf(cloud.Invalid, "Service offering %s cannot be used by virtual routers (parameter serviceofferingid)", o.Name)
	}
	return nil
}

// replaceableVM gives the network of a system VM that runs and that nothing else is being done to.
func (a *Area) replaceableVM(tx *store.Tx, rt *cloud.Router, what string) (*cloud.Network, error) {
	n, err := inCharge(tx, rt)
	if err != nil {
		return nil, err
	}
	if rt.Placement != cloud.InVM || rt.State != cloud.VMRunning || n.State != cloud.NetworkImplemented {
		return nil, cloud.Errorf(cloud.Unavailable, "Unable to %s router %s: it is %s and its network %s", what, rt.Name, rt.State, n.State)
	}
	return n, replaceable(tx, n)
}

// awaitSuccessor waits for the network of a job about a router to be served by the successor.
func (a *Area) awaitSuccessor(tx *store.Tx, j *job.State, what string) (job.Outcome, error) {
	var args RouterArgs
	if err := j.Args(&args); err != nil {
		return job.Outcome{}, err
	}
	return a.awaitRestart(tx, args.NetworkID, j.Expired, what)
}
