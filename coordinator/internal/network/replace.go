package network

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Restart has the services of a network begin afresh, with cleanup also whatever they run in: then the new one is ready
// before the old one goes. MACs and addresses stay.
func (a *Area) Restart(tx *store.Tx, n *cloud.Network, cleanup bool) error {
	if n.State != cloud.NetworkImplemented && n.State != cloud.NetworkSetup {
		return cloud.Errorf(cloud.Invalid, "Network is not in the right state to be restarted. Correct states are: %s, %s",
			cloud.NetworkImplemented, cloud.NetworkSetup)
	}
	n.RestartNeeded = false
	rt, ok := RouterOf(tx, n.ID)
	if !ok && !unrouted(tx, n) {
		n.Restarts++
		return touch(tx, n)
	}
	if err := replaceable(tx, n); err != nil {
		return err
	}
	switch {
	case !ok || rt.State == cloud.VMStopped || rt.HostID.IsZero() || gone(tx, rt.HostID):
		n.Restarts++
		if err := a.homeRouter(tx, n, anyHost(tx, n)); err != nil {
			return err
		}
		return transition(tx, n, cloud.NetworkImplementing)
	case cleanup:
		n.Incarnation++
		return a.replace(tx, n, rt, successor{placement: placement(tx, n)})
	}
	n.Restarts++
	rt.State = cloud.VMStarting
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return transition(tx, n, cloud.NetworkImplementing)
}

// replaceable refuses to do two things at once to a network's router.
func replaceable(r store.Reader, n *cloud.Network) error {
	if s, ok := tables.Routers.First(r, "network", store.K(n.ID, true)); ok && s.State != cloud.VMError {
		return cloud.Errorf(cloud.InUse, "The router of network %s is being replaced already", n.Name)
	}
	if rt, ok := RouterOf(r, n.ID); ok && rt.State == cloud.VMStopping {
		return cloud.Errorf(cloud.InUse, "Router %s of network %s is being stopped", rt.Name, n.Name)
	}
	return nil
}

// successor says how the router that replaces another one differs from it. Its host is that of the other one where
// nothing is said and that can take it.
type successor struct {
	placement string
	only      cloud.ID // the one host that will do
	leave     cloud.ID // a host that will not do
	offering  cloud.ID // its size
}

// replace begins to replace a router that has a host.
//
//   - host by host: the agent does it by itself, told by the network's incarnation.
//   - by a system VM: a second row is on standby until its host says that its services are applied; then takeOver.
//   - a system VM by host: a namespace is ready in milliseconds, hence it is in charge at once; the system VM is
//     disconnected in the same generation and goes when the namespace is confirmed.
func (a *Area) replace(tx *store.Tx, n *cloud.Network, rt *cloud.Router, to successor) error {
	if failed, ok := tables.Routers.First(tx, "network", store.K(n.ID, true)); ok {
		if err := a.drop(tx, failed); err != nil {
			return err
		}
	}
	if to.placement == cloud.OnHost && rt.Placement == cloud.OnHost {
		return a.renew(tx, n, rt)
	}
	fresh, err := newRouter(tx, n)
	if err != nil {
		return err
	}
	fresh.Placement, fresh.PublicMAC, fresh.OfferingID, fresh.State = to.placement, rt.PublicMAC, rt.OfferingID, cloud.VMStarting
	if !to.offering.IsZero() {
		fresh.OfferingID = to.offering
	}
	if err := a.home(tx, n, fresh, wish{prefer: rt.HostID, only: to.only, leave: to.leave}); err != nil {
		return err
	}
	if to.placement == cloud.InVM {
		fresh.Standby = true
	} else {
		rt.Standby, rt.Retiring, rt.Since = true, true, tx.Now()
		if err := tables.Routers.Put(tx, rt); err != nil {
			return err
		}
	}
	if err := tables.Routers.Put(tx, fresh); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// renew replaces a namespace by another one on the same host, or, where that takes no routers any more, elsewhere.
func (a *Area) renew(tx *store.Tx, n *cloud.Network, rt *cloud.Router) error {
	h, err := chooseHost(tx, n, rt.HostID)
	if err != nil {
		return err
	}
	to := n.State
	if h.ID != rt.HostID {
		rt.HostID, rt.PodID, rt.State = h.ID, h.PodID, cloud.VMStarting
		to = cloud.NetworkImplementing
	}
	rt.Error = ""
	if err := tables.Routers.Put(tx, rt); err != nil {
		return err
	}
	return transition(tx, n, to)
}

// takeOver puts a router that was on standby in charge, in one commit with the end of the old one: an agent that has
// both disconnects the one before it connects the other.
func (a *Area) takeOver(tx *store.Tx, n *cloud.Network, fresh *cloud.Router) error {
	if old, ok := RouterOf(tx, n.ID); ok {
		fresh.PublicMAC = old.PublicMAC
		if err := a.drop(tx, old); err != nil {
			return err
		}
	}
	fresh.Standby, fresh.Error = false, ""
	if err := tables.Routers.Put(tx, fresh); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// failStandby gives up a router on standby. Its row says why until the job that waits for it, or Tend, removes it. One
// that is retiring has nobody waiting.
func (a *Area) failStandby(tx *store.Tx, rt *cloud.Router, why string) error {
	if rt.Retiring {
		return a.drop(tx, rt)
	}
	if err := a.unhome(tx, rt); err != nil {
		return err
	}
	rt.State, rt.Error = cloud.VMError, why
	return tables.Routers.Put(tx, rt)
}

// giveUpStandbys removes what no job has removed in time.
func (a *Area) giveUpStandbys(tx *store.Tx) error {
	wait := ReplaceWait(tx)
	for rt := range tables.Routers.By(tx, "standby", nil) { // in the order of time
		if tx.Now().Sub(rt.Since) < wait {
			return nil
		}
		if err := a.drop(tx, rt); err != nil {
			return err
		}
	}
	return nil
}

// Restarted tells whether the router that runs began after the last Restart, and nothing is left of one before.
func Restarted(r store.Reader, n *cloud.Network) bool {
	if tables.Routers.Count(r, "network", store.K(n.ID, true)) > 0 {
		return false
	}
	rt, ok := RouterOf(r, n.ID)
	if !ok {
		return !unrouted(r, n)
	}
	return n.State == cloud.NetworkImplemented && rt.State == cloud.VMRunning && rt.Restarts == n.Restarts &&
		rt.Incarnation == n.Incarnation && rt.AppliedGeneration >= n.PendingIndex
}

// RestartStep waits for the router to run again, or to be replaced.
func (a *Area) RestartStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	return a.awaitRestart(tx, j.InstanceID(), j.Expired, "The restart of the network")
}

// awaitRestart is RestartStep for one network. A successor that does not become ready in time is removed: the old router
// goes on, and the job says why.
func (a *Area) awaitRestart(tx *store.Tx, network cloud.ID, expired bool, what string) (job.Outcome, error) {
	n, ok := tables.Networks.Get(tx, network)
	if !ok || !carried(n) {
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The network was deleted or shut down")), nil
	}
	if s, ok := SuccessorOf(tx, n.ID); ok {
		overdue := !expired && tx.Now().Sub(s.Since) >= replaceWait.Duration(tx)
		if s.State == cloud.VMError || expired || overdue {
			why := whyNotReady(tx, s)
			return job.Fail(cloud.Errorf(cloud.Unavailable, "%s failed, and the router of before goes on: %s", what, why)), a.drop(tx, s)
		}
		return job.WaitFor(s.Since.Add(replaceWait.Duration(tx)).Sub(tx.Now()), n.ID, s.ID), nil
	}
	rt, ok := RouterOf(tx, n.ID)
	switch {
	case Restarted(tx, n):
		return job.Done(), nil
	case expired:
		return job.Fail(unconfirmed(tx, n.ID, what)), nil
	case ok && rt.State == cloud.VMStopped:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "Router %s was stopped meanwhile", rt.Name)), nil
	case ok:
		return job.WaitOn(n.ID, rt.ID), nil
	}
	return job.WaitOn(n.ID), nil
}

func whyNotReady(r store.Reader, s *cloud.Router) string {
	text := "router " + s.Name
	if h, ok := tables.Hosts.Get(r, s.HostID); ok {
		text += fmt.Sprintf(" on host %s, which is %s,", h.Name, h.Status)
	}
	text += " did not become ready"
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}
