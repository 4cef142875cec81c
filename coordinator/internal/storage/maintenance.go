package storage

import (
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// PrepareCommand is the command whose job empties a pool.
const PrepareCommand = "enableStorageMaintenance"

// Occupants are what still uses a pool that goes into maintenance.
type Occupants struct {
	Count int
	// Silent is how many of them are on hosts that are not heard from, and so cannot be told to stop.
	Silent int
	// On are rows whose change may end an occupation: of the first occupants, where there are many.
	On []cloud.ID
	// Why says of the first ones what they are and what they wait for.
	Why []string
	// More says that one transaction could not ask all of them to go.
	More bool
}

// Bounds of what is kept of many occupants.
const (
	mostWaitedFor = 100
	mostNamed     = 5
)

// Add counts an occupant.
func (o *Occupants) Add(why string, silent bool, on ...cloud.ID) {
	o.Count++
	if silent {
		o.Silent++
	}
	if len(o.Why) < mostNamed {
		o.Why = append(o.Why, why)
	}
	if len(o.On) < mostWaitedFor {
		o.On = append(o.On, on...)
	}
}

// String names the first of them.
func (o *Occupants) String() string {
	text := strings.Join(o.Why, "; ")
	if left := o.Count - len(o.Why); left > 0 {
		text += fmt.Sprintf("; and %d more", left)
	}
	return text
}

// Away tells whether hosts shall leave a pool alone.
func Away(p *cloud.StoragePool) bool { return p.State == cloud.PoolMaintenance && p.HostID.IsZero() }

// troubled is the condition that a pool could not be taken into maintenance.
func troubled(pool cloud.ID) string { return "poolmaintenance/" + pool.String() }

// BeginMaintenance closes a pool: from now on nothing is put there and nothing that needs it starts. Whoever calls it stops
// what uses the pool, and tells the end with FinishMaintenance or FailMaintenance. It may be called again after a failure.
func BeginMaintenance(tx *store.Tx, id cloud.ID) (*cloud.StoragePool, error) {
	p, ok := tables.StoragePools.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "storage_pool", ID: id}
	}
	switch {
	case p.State == cloud.PoolUp, p.State == cloud.PoolDown, p.State == cloud.PoolErrorInMaintenance:
	case p.State == cloud.PoolPrepareForMaintenance && !preparing(tx, id):
	default:
		return nil, cloud.Errorf(cloud.Invalid, "Primary storage %s (parameter id) cannot be prepared for maintenance: it is %s, and must be %s, %s or %s",
			p.Name, p.State, cloud.PoolUp, cloud.PoolDown, cloud.PoolErrorInMaintenance)
	}
	for other := range tables.StoragePools.By(tx, "zone", store.K(p.ZoneID)) {
		if other.ID != id && other.ClusterID == p.ClusterID && other.State == cloud.PoolPrepareForMaintenance {
			return nil, cloud.Errorf(cloud.InUse, "Only one primary storage of a cluster can be in %s: %s (%s) is already. Wait until that is done",
				other.State, other.Name, other.ID)
		}
	}
	p.State = cloud.PoolPrepareForMaintenance
	return p, wrap("begin maintenance of", "pool", id, tables.StoragePools.Put(tx, p))
}

// preparing tells whether a job empties a pool. One that was undone by a fault has left the pool as it was.
func preparing(r store.Reader, id cloud.ID) bool {
	for j := range tables.Jobs.By(r, "instance", store.K(id)) {
		if j.Command == PrepareCommand && j.Status == cloud.JobPending {
			return true
		}
	}
	return false
}

// FinishMaintenance notes that nothing uses a pool any more.
func FinishMaintenance(tx *store.Tx, p *cloud.StoragePool) error {
	p.State = cloud.PoolMaintenance
	if err := tables.StoragePools.Put(tx, p); err != nil {
		return wrap("finish maintenance of", "pool", p.ID, err)
	}
	return alert.Resolve(tx, troubled(p.ID))
}

// FailMaintenance notes that something goes on using a pool, and raises an alert. The pool stays closed.
func FailMaintenance(tx *store.Tx, p *cloud.StoragePool, why string) error {
	p.State = cloud.PoolErrorInMaintenance
	if err := tables.StoragePools.Put(tx, p); err != nil {
		return wrap("fail maintenance of", "pool", p.ID, err)
	}
	return alert.Raise(tx, alert.Condition{
		Type: alert.StorageMisc, Key: troubled(p.ID), ZoneID: p.ZoneID, PodID: p.PodID, ClusterID: p.ClusterID, Resource: p.ID,
		Subject: "Storage pool " + p.Name + " cannot be taken into maintenance", Description: why,
	})
}

// EndMaintenance takes a pool into use again, from maintenance or where the way there failed. While it is being prepared
// it cannot be cancelled, as in CloudStack: VMs are being stopped.
func EndMaintenance(tx *store.Tx, id cloud.ID) (*cloud.StoragePool, error) {
	p, ok := tables.StoragePools.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "storage_pool", ID: id}
	}
	switch {
	case p.State == cloud.PoolMaintenance, p.State == cloud.PoolErrorInMaintenance:
	case p.State == cloud.PoolPrepareForMaintenance && !preparing(tx, id):
	case p.State == cloud.PoolPrepareForMaintenance:
		return nil, cloud.Errorf(cloud.InUse, "The maintenance of primary storage %s (parameter id) cannot be cancelled while it is being prepared: wait for its job", p.Name)
	default:
		return nil, cloud.Errorf(cloud.Invalid, "Primary storage %s (parameter id) is not in maintenance: it is %s, and must be %s or %s",
			p.Name, p.State, cloud.PoolMaintenance, cloud.PoolErrorInMaintenance)
	}
	p.State = cloud.PoolUp
	if err := tables.StoragePools.Put(tx, p); err != nil {
		return nil, wrap("end maintenance of", "pool", id, err)
	}
	return p, alert.Resolve(tx, troubled(id))
}
