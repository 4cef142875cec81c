package infra

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// usageEvery is how old a host's usage figures get before they are written again: they change all the time and must not
// become log entries each time.
const usageEvery = 45 * time.Second

// Fold takes what a host observes of itself into its rows. Rows are written only where something changed.
func Fold(tx *store.Tx, id cloud.ID, o *hostspec.HostObservation) error {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok {
		return nil
	}
	foldFacts(h, o.GetFacts())
	if o.GetBootId() != "" {
		h.BootID = clip(o.GetBootId(), 64)
	}
	h.SettledGeneration = o.GetSettledGeneration()
	if err := tables.Hosts.Put(tx, h); err != nil {
		return wrap("fold", "host", id, err)
	}
	return foldUsage(tx, id, o.GetUsage())
}

func foldUsage(tx *store.Tx, id cloud.ID, u *hostspec.HostUsage) error {
	if u == nil {
		return nil
	}
	if old, ok := tables.HostUsages.Get(tx, id); ok && tx.Now().Sub(old.Observed) < usageEvery {
		return nil
	}
	return wrap("fold", "usage of host", id, tables.HostUsages.Put(tx, &cloud.HostUsage{
		ID: id, CPUPercent: u.GetCpuPercent(), MemoryUsedMiB: u.GetMemoryUsedMib(),
		NetworkRxKiB: u.GetNetworkRxKib(), NetworkTxKiB: u.GetNetworkTxKib(), Observed: tx.Now(),
	}))
}

// Linked notes that a host's agent has opened a link.
func Linked(tx *store.Tx, id cloud.ID, agentVersion, bootID string) error {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok {
		return nil
	}
	h.Status, h.Connected, h.Disconnected = cloud.HostUp, tx.Now(), time.Time{}
	if agentVersion != "" {
		h.AgentVersion = clip(agentVersion, 255)
	}
	if bootID != "" {
		h.BootID = clip(bootID, 64)
	}
	return wrap("link", "host", id, tables.Hosts.Put(tx, h))
}

// SetStatus writes what the link says of a host, with an alert where it is bad news and an end of it where it is good.
func SetStatus(tx *store.Tx, id cloud.ID, s cloud.HostStatus) error {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok || h.Status == s {
		return nil
	}
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
		return wrap("set status of", "host", id, err)
	}
	if s != cloud.HostAlert && s != cloud.HostDown {
		return nil
	}
	return wrap("alert of", "host", id, tables.Alerts.Put(tx, &cloud.Alert{
		ID: tx.NewID(), Type: alertHost, Subject: "Host " + h.Name + " is not heard from",
		Description: "Nothing was heard from the agent of host " + h.Name + " (" + h.IP.String() + ") since " +
			h.Disconnected.Format(time.RFC3339) + ". Its VMs may be running. Look at the host, its network and the unit wisp-agent.",
		ZoneID: h.ZoneID, PodID: h.PodID, ResourceID: h.ID, Created: tx.Now(),
	}))
}

// alertHost is the number of the alert type HOST.
const alertHost = 6
