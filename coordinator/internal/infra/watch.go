package infra

import (
	"context"
	"fmt"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// alertTypes says which alert a figure raises.
var alertTypes = map[CapacityType]alert.Type{
	CapacityMemory: alert.Memory, CapacityCPU: alert.CPU, CapacityStorage: alert.Storage, CapacityStorageAlloc: alert.StorageAllocated,
	CapacityLocalStorage: alert.LocalStorage, CapacityPublicIP: alert.PublicIP, CapacityPrivateIP: alert.PrivateIP,
	CapacitySecondary: alert.StorageMisc, CapacityVLAN: alert.VLAN, CapacityDirectPublicIP: alert.DirectPublicIP,
}

// What is counted for a cluster, and what for a zone as a whole.
var (
	ofCluster = []CapacityType{CapacityMemory, CapacityCPU, CapacityStorage, CapacityStorageAlloc, CapacityLocalStorage}
	ofZone    = []CapacityType{CapacityPublicIP, CapacityDirectPublicIP, CapacityVLAN, CapacitySecondary}
)

// watched begins the keys of all conditions that are computed here.
const watched = "watch/"

// slack keeps an alert open until the figure is that much below its threshold, so that one on the edge does not raise
// alert after alert.
const slack = 0.02

// Conditions lists what is running full, and routers that find no host.
func Conditions(r store.Reader) []alert.Condition {
	f := Factors{CPU: CPUFactor.Float(r), Memory: MemoryFactor.Float(r), Storage: StorageFactor.Float(r)}
	var hold []alert.Condition
	for z := range tables.Zones.By(r, "name", nil) {
		hold = append(hold, full(r, Capacities(r, z.ID, cloud.ID{}, cloud.ID{}, f), ofZone, z.ID, "zone "+z.Name)...)
		for p := range tables.Pods.By(r, "zone", store.K(z.ID)) {
			hold = append(hold, full(r, Capacities(r, z.ID, p.ID, cloud.ID{}, f), []CapacityType{CapacityPrivateIP}, p.ID, "pod "+p.Name)...)
		}
		for k := range tables.Clusters.By(r, "zone", store.K(z.ID)) {
			hold = append(hold, full(r, Capacities(r, z.ID, k.PodID, k.ID, f), ofCluster, k.ID, "cluster "+k.Name)...)
		}
		for p := range tables.StoragePools.By(r, "zone", store.K(z.ID)) {
			hold = append(hold, fullPool(r, p)...)
		}
	}
	for rt := range tables.Routers.By(r, "homeless", nil) {
		if rt.Error != "" {
			hold = append(hold, alert.Condition{
				Type: alert.Router, Key: watched + "router/" + rt.ID.String(), ZoneID: rt.ZoneID, Resource: rt.ID,
				Subject: "Router " + rt.Name + " runs nowhere", Description: rt.Error,
			})
		}
	}
	return hold
}

// full lists those figures that are above their thresholds.
func full(r store.Reader, figures []Capacity, of []CapacityType, place cloud.ID, name string) (hold []alert.Condition) {
	for _, t := range of {
		for _, c := range figures {
			key := fmt.Sprintf("%s%s/%s", watched, place, CapacityNames[t])
			limit := thresholds[t].Float(r, place, c.ZoneID)
			if c.Type != t || c.Total == 0 || !above(r, key, c.Percent()/100, limit) {
				continue
			}
			hold = append(hold, alert.Condition{
				Type: alertTypes[t], Key: key, ZoneID: c.ZoneID, PodID: c.PodID, ClusterID: c.ClusterID, Resource: place,
				Subject: fmt.Sprintf("%s of %s is running out", CapacityNames[t], name),
				Description: fmt.Sprintf("%d of %d are taken (%.1f %%), more than the %.0f %% of %s.",
					c.Used, c.Total, c.Percent(), limit*100, thresholds[t].Name),
			})
		}
	}
	return hold
}

// above tells whether a figure raises an alert, or keeps one open.
func above(r store.Reader, key string, figure, limit float64) bool {
	if alert.Open(r, key) {
		limit -= slack
	}
	return figure >= limit
}

// fullPool tells of a pool whose real space is running out: guests on it would be stopped by write errors.
func fullPool(r store.Reader, p *cloud.StoragePool) []alert.Condition {
	key := watched + "pool/" + p.ID.String()
	const limit = 0.95
	switch {
	case p.State == cloud.PoolDown:
		return []alert.Condition{{
			Type: alert.Storage, Key: key + "/down", ZoneID: p.ZoneID, PodID: p.PodID, ClusterID: p.ClusterID, Resource: p.ID,
			Subject: "Storage pool " + p.Name + " is down", Description: "Its host cannot use " + p.Path + ".",
		}}
	case p.CapacityBytes > 0 && above(r, key, float64(p.UsedBytes)/float64(p.CapacityBytes), limit):
		return []alert.Condition{{
			Type: alert.Storage, Key: key, ZoneID: p.ZoneID, PodID: p.PodID, ClusterID: p.ClusterID, Resource: p.ID,
			Subject: "Storage pool " + p.Name + " is full",
			Description: fmt.Sprintf("%d of %d bytes are in use. Guests whose disks cannot grow any more are paused or see write errors.",
				p.UsedBytes, p.CapacityBytes),
		}}
	}
	return nil
}

// Cluster is what Watch needs of the replica.
type Cluster interface {
	DB() *store.DB
	Update(ctx context.Context, f func(tx *store.Tx) error) error
}

// look is how often Watch sees whether it is time: the period can be shortened at any moment.
const look = 2 * time.Second

// Watch raises and ends alerts about figures, on the leader. It writes only where something changed.
func Watch(ctx context.Context, c Cluster) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var last time.Time
	for {
		r := c.DB().Current()
		if period := time.Duration(capacityCheck.Int(r)) * time.Millisecond; time.Since(last) >= period {
			last = time.Now()
			if alert.Differs(r, watched, Conditions(r)) {
				if err := c.Update(ctx, func(tx *store.Tx) error { return alert.Sync(tx, watched, Conditions(tx)) }); err != nil && ctx.Err() == nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
