package infra

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
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
	if err := alert.Resolve(tx, silence(id)); err != nil {
		return err
	}
	return wrap("link", "host", id, tables.Hosts.Put(tx, h))
}
