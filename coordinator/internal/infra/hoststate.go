package infra

import (
	"errors"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// silence is the condition that a host is not heard from.
func silence(host cloud.ID) string { return "host/" + host.String() }

// SetStatus writes what the link says of a host, with an alert where it is bad news and an end of it where it is good.
// What was declared Down stays so until the host links again: a link that ends late says nothing new of it.
func SetStatus(tx *store.Tx, id cloud.ID, s cloud.HostStatus) error {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok || h.Status == s || h.Status == cloud.HostDown && s != cloud.HostUp {
		return nil
	}
	return setStatus(tx, h, s)
}

func setStatus(tx *store.Tx, h *cloud.Host, s cloud.HostStatus) error {
	h.Status = s
	switch s {
	case cloud.HostUp:
		h.Disconnected = time.Time{}
	case cloud.HostDisconnected, cloud.HostAlert, cloud.HostDown:
		if h.Disconnected.IsZero() {
			h.Disconnected = tx.Now()
		}
	}
	if err := tables.Hosts.Put(tx, h); err != nil {
		return wrap("set status of", "host", h.ID, err)
	}
	switch s {
	case cloud.HostUp:
		return alert.Resolve(tx, silence(h.ID))
	case cloud.HostAlert, cloud.HostDown:
		return alert.Raise(tx, alert.Condition{
			Type: alert.Host, Key: silence(h.ID), Subject: "Host " + h.Name + " is not heard from",
			Description: "Nothing was heard from the agent of host " + h.Name + " (" + h.IP.String() + ") since " +
				h.Disconnected.UTC().Format(time.RFC3339) + ". Its VMs may be running, so none of them is started elsewhere. Look at the " +
				"host, its network and the unit wisp-agent; when it is dead for good, switch it off and call declareHostAsDegraded.",
			ZoneID: h.ZoneID, PodID: h.PodID, ClusterID: h.ClusterID, Resource: h.ID,
		})
	}
	return nil
}

// freeRouters lets the routers of a host start elsewhere: network.Area.Tend gives them another.
func freeRouters(tx *store.Tx, host cloud.ID) error {
	for r := range tables.Routers.By(tx, "host", store.K(host)) {
		r.HostID = cloud.ID{}
		if r.State != cloud.VMStopping {
			r.State = cloud.VMStarting
		}
		if err := errors.Join(tables.Routers.Put(tx, r), freeRoom(tx, host, r)); err != nil {
			return wrap("free router of", "host", host, err)
		}
	}
	return nil
}

// freeRoom takes a router that is a system VM out of the figures of a host.
func freeRoom(tx *store.Tx, host cloud.ID, r *cloud.Router) error {
	c, ok := tables.HostCapacities.Get(tx, host)
	if !ok || r.Placement != cloud.InVM {
		return nil
	}
	c.CPUMHz -= min(c.CPUMHz, uint64(r.CPUs)*uint64(r.CPUMHz))
	c.MemoryMiB -= min(c.MemoryMiB, uint64(r.MemoryMiB))
	c.VMs -= min(c.VMs, 1)
	return tables.HostCapacities.Put(tx, c)
}

// adopted reads a host that has a place.
func adopted(r store.Reader, id cloud.ID) (*cloud.Host, error) {
	h, ok := tables.Hosts.Get(r, id)
	if !ok {
		return nil, &store.NotFound{Table: "host", ID: id}
	}
	if h.ResourceState == cloud.HostPending {
		return nil, cloud.Errorf(cloud.Invalid, "Host %s is pending: adopt it with addHost first", h.Name)
	}
	return h, nil
}

// PrepareMaintenance closes a host for new VMs. Its routers are moved by network.Area.Tend; whoever calls it moves the VMs.
func PrepareMaintenance(tx *store.Tx, id cloud.ID) (*cloud.Host, error) {
	h, err := adopted(tx, id)
	if err != nil {
		return nil, err
	}
	switch h.ResourceState {
	case cloud.HostEnabled, cloud.HostDisabled, cloud.HostErrorInMaintenance:
	default:
		return nil, cloud.Errorf(cloud.Invalid, "Host %s cannot be prepared for maintenance: it is in state %s", h.Name, h.ResourceState)
	}
	if h.Status != cloud.HostUp {
		return nil, cloud.Errorf(cloud.Invalid, "Host %s cannot be prepared for maintenance: it is %s, so what is on it cannot be stopped", h.Name, h.Status)
	}
	h.ResourceState = cloud.HostPrepareForMaintenance
	return h, wrap("prepare", "host", id, tables.Hosts.Put(tx, h))
}

// EndPreparing writes how the preparation of a host ended. One that was cancelled meanwhile stays as it is.
func EndPreparing(tx *store.Tx, id cloud.ID, ready bool) error {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok || h.ResourceState != cloud.HostPrepareForMaintenance {
		return nil
	}
	h.ResourceState = cloud.HostErrorInMaintenance
	if ready {
		h.ResourceState = cloud.HostMaintenance
	}
	return wrap("prepare", "host", id, tables.Hosts.Put(tx, h))
}

// CancelMaintenance opens a host again, from wherever on the way to maintenance it is.
func CancelMaintenance(tx *store.Tx, id cloud.ID) (*cloud.Host, error) {
	h, err := adopted(tx, id)
	if err != nil {
		return nil, err
	}
	switch h.ResourceState {
	case cloud.HostPrepareForMaintenance, cloud.HostErrorInMaintenance, cloud.HostMaintenance:
	default:
		return nil, cloud.Errorf(cloud.Invalid, "Host %s is in state %s: there is no maintenance to cancel", h.Name, h.ResourceState)
	}
	h.ResourceState = cloud.HostEnabled
	return h, wrap("open", "host", id, tables.Hosts.Put(tx, h))
}

// DeclareDegraded notes that an operator says a silent host is dead: nothing of what it ran still runs. That is the only
// way to Down, because a host that only is not heard from may go on running its VMs, and none of them may run twice.
// What ran on it is the caller's to free; its routers move by themselves (network.Area.Tend).
func DeclareDegraded(tx *store.Tx, id cloud.ID) (*cloud.Host, error) {
	h, err := adopted(tx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case h.ResourceState == cloud.HostDegraded:
		return nil, cloud.Errorf(cloud.Invalid, "Host %s was declared degraded before", h.Name)
	case h.Status != cloud.HostAlert && h.Status != cloud.HostDisconnected:
		return nil, cloud.Errorf(cloud.Invalid, "Host %s is %s: only a host in Alert or Disconnected can be declared degraded", h.Name, h.Status)
	}
	h.ResourceState = cloud.HostDegraded
	return h, setStatus(tx, h, cloud.HostDown)
}

// CancelDegraded takes a declaration back. A host that has not linked since is in Alert again.
func CancelDegraded(tx *store.Tx, id cloud.ID) (*cloud.Host, error) {
	h, err := adopted(tx, id)
	if err != nil {
		return nil, err
	}
	if h.ResourceState != cloud.HostDegraded {
		return nil, cloud.Errorf(cloud.Invalid, "Host %s is in state %s: it was not declared degraded", h.Name, h.ResourceState)
	}
	h.ResourceState = cloud.HostEnabled
	if h.Status == cloud.HostDown {
		h.Status = cloud.HostAlert
	}
	return h, wrap("cancel degraded", "host", id, tables.Hosts.Put(tx, h))
}
