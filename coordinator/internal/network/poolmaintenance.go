package network

import (
	"fmt"
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// LeavePool has the routers whose disk is on a pool that is prepared for maintenance replaced by others on another pool,
// as in every replacement: ready there before they leave. A router that no other pool takes, or whose replacement failed,
// is stopped, and remembered for ReturnToPool. tried are those whose replacement was begun before; with those of this call
// they are handed back. It tells which routers have not gone yet, and may be called again and again.
func (a *Area) LeavePool(tx *store.Tx, pool *cloud.StoragePool, tried []cloud.ID) (left storage.Occupants, begun []cloud.ID, err error) {
	begun = tried
	for _, id := range slices.Collect(tables.Routers.IDs(tx, "pool", store.K(pool.ID))) {
		rt, ok := tables.Routers.Get(tx, id) // the way of another router may have ended it
		if !ok {
			continue
		}
		again := slices.Contains(begun, id)
		if !again {
			begun = append(begun, id)
		}
		if err := a.leavePool(tx, pool, rt, again); err != nil {
			return left, nil, fmt.Errorf("move router %s off pool %s: %w", id, pool.ID, err)
		}
		if rt, ok = tables.Routers.Get(tx, id); ok && rt.PoolID == pool.ID {
			occupant(tx, &left, rt)
		}
	}
	return left, begun, nil
}

// occupant tells of a router that has not left its pool yet.
func occupant(r store.Reader, left *storage.Occupants, rt *cloud.Router) {
	why, silent := fmt.Sprintf("router %s is %s", rt.Name, rt.State), false
	if h, ok := tables.Hosts.Get(r, rt.HostID); ok {
		why += fmt.Sprintf(", and its host %s, which is %s, has not reported it gone", h.Name, h.Status)
		silent = h.Status == cloud.HostAlert
	}
	on := []cloud.ID{rt.ID, rt.NetworkID}
	if s, ok := SuccessorOf(r, rt.NetworkID); ok {
		on = append(on, s.ID)
		silent = false
	}
	left.Add(why, silent, on...)
}

func (a *Area) leavePool(tx *store.Tx, pool *cloud.StoragePool, rt *cloud.Router, again bool) error {
	n, ok := tables.Networks.Get(tx, rt.NetworkID)
	switch {
	case !ok || !carried(n) || rt.State == cloud.VMStopping:
		return nil // it goes without being asked
	case rt.Standby:
		return a.failStandby(tx, n, rt, "its storage pool "+pool.Name+" goes into maintenance")
	case rt.Evicting || gone(tx, rt.HostID):
		return nil // it gets another place, which is on another pool
	}
	if s, ok := SuccessorOf(tx, n.ID); ok && s.State != cloud.VMError {
		return nil
	}
	why := "its replacement failed"
	if !again {
		err := a.replace(tx, n, rt, successor{placement: rt.Placement})
		if cloud.CodeOf(err) != cloud.NoCapacity {
			return err
		}
		why = err.Error()
	}
	if s, ok := SuccessorOf(tx, n.ID); ok {
		why = s.Error
	}
	if err := a.stopRouter(tx, rt, false, pool.ID); err != nil {
		return err
	}
	return a.Event(tx, &cloud.Event{
		Type: "ROUTER.STOP", Level: cloud.EventWarn, State: cloud.EventStarted, AccountID: rt.AccountID, DomainID: rt.DomainID, ResourceID: rt.ID,
		Description: fmt.Sprintf("Stopping router %s of network %s: its storage pool %s goes into maintenance, and no other one takes it: %s",
			rt.Name, n.Name, pool.Name, why),
	})
}

// ReturnToPool starts the routers that the maintenance of a pool has stopped, wherever there is room. Those of networks that
// were shut down meanwhile start with a VM of theirs. It tells which it has started, and of those that cannot be why; it is
// to be called again while some are waited for, because they are still stopping.
func (a *Area) ReturnToPool(tx *store.Tx, pool *cloud.StoragePool) (started, waitFor []cloud.ID, trouble []string, err error) {
	for _, id := range slices.Collect(tables.Routers.IDs(tx, "stopped-for", store.K(pool.ID))) {
		rt, ok := tables.Routers.Get(tx, id)
		if !ok {
			continue
		}
		if rt.State == cloud.VMStopping {
			waitFor = append(waitFor, id)
			continue
		}
		rt.StoppedFor = cloud.ID{}
		if err := tables.Routers.Put(tx, rt); err != nil {
			return nil, nil, nil, err
		}
		n, ok := tables.Networks.Get(tx, rt.NetworkID)
		if !ok || !carried(n) || rt.State != cloud.VMStopped {
			continue
		}
		switch err := a.StartRouter(tx, rt); {
		case err == nil:
			started = append(started, id)
		case cloud.CodeOf(err) == cloud.NoCapacity:
			trouble = append(trouble, "router "+rt.Name+": "+err.Error())
		default:
			return nil, nil, nil, fmt.Errorf("start router %s after maintenance of pool %s: %w", id, pool.ID, err)
		}
	}
	return started, waitFor, trouble, nil
}

// Returned tells whether the start of a router has ended, because it runs or somebody has decided otherwise; if not, what
// it waits for.
func Returned(r store.Reader, id cloud.ID) (over bool, waitsFor string) {
	rt, ok := tables.Routers.Get(r, id)
	if !ok || rt.State != cloud.VMStarting {
		return true, ""
	}
	return false, unconfirmed(r, rt.NetworkID, "The start of router "+rt.Name).Error()
}
