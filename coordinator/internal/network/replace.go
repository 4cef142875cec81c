package network

import (
	"fmt"
	"slices"
	"time"

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

// replace begins to replace a router that has a host by another one. A namespace by another one on the
// same host is the agent's own work, told by the network's incarnation. Else a second row is on standby until its host
// says that its services are applied; then handOver.
func (a *Area) replace(tx *store.Tx, n *cloud.Network, rt *cloud.Router, to successor) error {
	if to.placement == cloud.OnHost && rt.Placement == cloud.OnHost {
		h, err := chooseHost(tx, n, rt.HostID)
		if err != nil {
			return err
		}
		if h.ID == rt.HostID {
			rt.Error = ""
			if err := tables.Routers.Put(tx, rt); err != nil {
				return err
			}
			return transition(tx, n, n.State)
		}
	}
	fresh := newRouter(tx, n, to.placement)
	fresh.PublicMAC, fresh.OfferingID, fresh.State, fresh.Standby = rt.PublicMAC, rt.OfferingID, cloud.VMStarting, true
	if !to.offering.IsZero() {
		fresh.OfferingID = to.offering
	}
	if err := a.home(tx, n, fresh, wish{prefer: rt.HostID, only: to.only, leave: to.leave}); err != nil {
		return err
	}
	if failed, ok := SuccessorOf(tx, n.ID); ok {
		if err := a.drop(tx, failed); err != nil {
			return err
		}
	}
	if err := enter(tx, fresh); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// handOver begins to put a router in charge that was on standby and is ready. Two system VMs on one host are swapped by
// its agent, which disconnects the one before it connects the other. Else the old router has to be unplugged first: it
// retires, and foldRetiring goes on when its host has said so. Two machines with one address are worse than none.
func (a *Area) handOver(tx *store.Tx, n *cloud.Network, fresh *cloud.Router) error {
	old, ok := RouterOf(tx, n.ID)
	swapped := ok && old.HostID == fresh.HostID && old.Placement == cloud.InVM && fresh.Placement == cloud.InVM
	if !ok || swapped || old.HostID.IsZero() || gone(tx, old.HostID) {
		return a.takeOver(tx, n, fresh)
	}
	if err := tables.Routers.Put(tx, fresh); err != nil || old.Retiring {
		return err
	}
	old.Retiring, old.Since = true, tx.Now()
	if err := tables.Routers.Put(tx, old); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// foldRetiring reads that a router which is to be replaced is unplugged on its host in every spec from a generation on.
func (a *Area) foldRetiring(tx *store.Tx, n *cloud.Network, rt *cloud.Router, unplugged uint64) error {
	if err := tables.Routers.Put(tx, rt); err != nil || unplugged < n.PendingIndex {
		return err
	}
	if s, ok := SuccessorOf(tx, n.ID); ok && s.State != cloud.VMError {
		return a.takeOver(tx, n, s)
	}
	return a.plugBack(tx, n)
}

// takeOver puts a router that was on standby in charge, in one commit with the end of the old one.
func (a *Area) takeOver(tx *store.Tx, n *cloud.Network, fresh *cloud.Router) error {
	if old, ok := RouterOf(tx, n.ID); ok {
		if old.HostID.IsZero() || gone(tx, old.HostID) {
			// Nobody asked for that: its time to take over has come because the other one ended.
			if err := a.tellHA(tx, fresh, fmt.Sprintf("Router %s of network %s takes over from router %s: %s",
				fresh.Name, n.Name, old.Name, whyLeft(tx, old))); err != nil {
				return err
			}
		}
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

// plugBack has a router that was to be replaced go on. Its successor was never plugged in.
func (a *Area) plugBack(tx *store.Tx, n *cloud.Network) error {
	old, ok := RouterOf(tx, n.ID)
	if !ok || !old.Retiring {
		return nil
	}
	old.Retiring = false
	if err := tables.Routers.Put(tx, old); err != nil {
		return err
	}
	return transition(tx, n, n.State)
}

// failStandby gives up a router on standby; the old one goes on. Its row says why until the job that waits for it, or
// Tend, removes it. why is what is wrong with it, "" where it is the old one that is waited for.
func (a *Area) failStandby(tx *store.Tx, n *cloud.Network, s *cloud.Router, why string) error {
	s.Error = why
	why = whyNotReplaced(tx, n, s)
	if err := a.unhome(tx, s); err != nil {
		return err
	}
	s.State, s.Error = cloud.VMError, why
	if err := tables.Routers.Put(tx, s); err != nil {
		return err
	}
	return a.plugBack(tx, n)
}

// giveUp removes a router on standby; the old one goes on.
func (a *Area) giveUp(tx *store.Tx, n *cloud.Network, s *cloud.Router) error {
	if err := a.drop(tx, s); err != nil {
		return err
	}
	return a.plugBack(tx, n)
}

// tendStandbys ends what no job has ended in time.
func (a *Area) tendStandbys(tx *store.Tx) error {
	for _, s := range slices.Collect(tables.Routers.By(tx, "standby", nil)) {
		n, ok := tables.Networks.Get(tx, s.NetworkID)
		var err error
		switch {
		case !ok:
			err = a.drop(tx, s)
		case tx.Now().Sub(s.Since) >= ReplaceWait(tx):
			err = a.giveUp(tx, n, s)
		case s.State != cloud.VMError && lateBy(tx, n, s) >= 0:
			err = a.failStandby(tx, n, s, s.Error)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lateBy is how long a replacement has taken beyond what is allowed for the step it is in: router.replace.wait until the
// successor is ready, network.confirm.wait until the old router is unplugged. Negative while there is time.
func lateBy(r *store.Tx, n *cloud.Network, s *cloud.Router) time.Duration {
	if old, ok := RouterOf(r, n.ID); ok && old.Retiring {
		return r.Now().Sub(old.Since) - confirmWait.Duration(r)
	}
	return r.Now().Sub(s.Since) - replaceWait.Duration(r)
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
		late := lateBy(tx, n, s)
		if s.State == cloud.VMError || expired || late >= 0 {
			why := whyNotReplaced(tx, n, s)
			return job.Fail(cloud.Errorf(cloud.Unavailable, "%s failed, and the router of before goes on: %s", what, why)), a.giveUp(tx, n, s)
		}
		return job.WaitFor(-late, n.ID, s.ID), nil
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

// whyNotReplaced says what a replacement waits for, or failed by.
func whyNotReplaced(r store.Reader, n *cloud.Network, s *cloud.Router) string {
	if s.State == cloud.VMError {
		return s.Error
	}
	if old, ok := RouterOf(r, n.ID); ok && old.Retiring && s.Error == "" {
		text := "host " + old.HostID.String()
		if h, ok := tables.Hosts.Get(r, old.HostID); ok {
			text = "host " + h.Name + ", which is " + h.Status.String() + ","
		}
		return text + " has not confirmed that router " + old.Name + " is unplugged there, and router " + s.Name + " must not be plugged in beside it"
	}
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
