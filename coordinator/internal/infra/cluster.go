package infra

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ClusterValues are what addCluster and updateCluster may say; "" keeps what is there.
type ClusterValues struct {
	Name, Hypervisor, Type, AllocationState, ManagedState string
}

// CreateCluster makes a cluster in a pod of a zone.
func CreateCluster(tx *store.Tx, zone, pod cloud.ID, v ClusterValues) (*cloud.Cluster, error) {
	if err := checkPlace(tx, zone, pod); err != nil {
		return nil, err
	}
	if v.Name == "" {
		return nil, cloud.Errorf(cloud.Invalid, "Please specify cluster name")
	}
	if v.Hypervisor == "" {
		return nil, cloud.Errorf(cloud.Invalid, "Please specify a hypervisor")
	}
	c := &cloud.Cluster{
		ID: tx.NewID(), ZoneID: zone, PodID: pod, Hypervisor: Hypervisor, Type: "CloudManaged",
		AllocationState: cloud.AllocationEnabled, Managed: true, Created: tx.Now(),
	}
	if err := setCluster(c, v); err != nil {
		return nil, err
	}
	return c, putCluster(tx, c)
}

// UpdateCluster changes a cluster.
func UpdateCluster(tx *store.Tx, id cloud.ID, v ClusterValues) (*cloud.Cluster, error) {
	c, ok := tables.Clusters.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "cluster", ID: id}
	}
	if err := setCluster(c, v); err != nil {
		return nil, err
	}
	return c, putCluster(tx, c)
}

func putCluster(tx *store.Tx, c *cloud.Cluster) error {
	err := taken(tables.Clusters.Put(tx, c), "Unable to create cluster %s in pod %s: a cluster of that name already exists there", c.Name, c.PodID)
	return wrap("put", "cluster", c.ID, err)
}

func setCluster(c *cloud.Cluster, v ClusterValues) error {
	if v.Name != "" {
		c.Name = v.Name
	}
	if v.Hypervisor != "" {
		if err := checkHypervisor(v.Hypervisor); err != nil {
			return err
		}
	}
	// Clusters managed by another program (vCenter, XenServer pools) do not exist on KVM.
	if v.Type != "" && !strings.EqualFold(v.Type, "CloudManaged") {
		return cloud.Errorf(cloud.Invalid, "Unable to resolve %s to a supported type; clusters of %s hosts are CloudManaged", v.Type, Hypervisor)
	}
	s, err := allocationState(v.AllocationState, c.AllocationState)
	if err != nil {
		return err
	}
	c.AllocationState = s
	switch {
	case v.ManagedState == "":
	case strings.EqualFold(v.ManagedState, "Managed"):
		c.Managed = true
	case strings.EqualFold(v.ManagedState, "Unmanaged"):
		c.Managed = false
	default:
		return cloud.Errorf(cloud.Invalid, "Unable to resolve Managed State '%s' to a supported state", v.ManagedState)
	}
	return nil
}

// checkPlace refuses a pod that is not in the zone.
func checkPlace(r store.Reader, zone, pod cloud.ID) error {
	if !tables.Zones.Has(r, zone) {
		return cloud.Errorf(cloud.Invalid, "Can't find zone by the id specified")
	}
	p, ok := tables.Pods.Get(r, pod)
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Can't find pod with specified podId %s", pod)
	}
	if p.ZoneID != zone {
		return cloud.Errorf(cloud.Invalid, "Pod with specified id doesn't belong to the zone %s", zone)
	}
	return nil
}

// DeleteCluster removes an empty cluster.
func DeleteCluster(tx *store.Tx, id cloud.ID) error {
	if first(tables.Hosts, tx, "cluster", store.K(id)) {
		return cloud.Errorf(cloud.InUse, "Cluster: %s cannot be removed. Cluster still has hosts", id)
	}
	if first(tables.StoragePools, tx, "cluster", store.K(id)) {
		return cloud.Errorf(cloud.InUse, "Cluster: %s cannot be removed. Cluster still has storage pools", id)
	}
	if err := releaseRemoved(tx, id); err != nil {
		return err
	}
	return wrap("delete", "cluster", id, tables.Clusters.Delete(tx, id))
}
