package server

import (
	"sync"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// usage keeps the last figures that hosts have reported of running VMs. They change every few seconds and are worth
// nothing after a restart, so they stay in the leader's memory.
type usage struct {
	mu     sync.Mutex
	byHost map[cloud.ID]map[cloud.ID]*hostspec.VmUsage
	hostOf map[cloud.ID]cloud.ID
}

func newUsage() *usage {
	return &usage{byHost: map[cloud.ID]map[cloud.ID]*hostspec.VmUsage{}, hostOf: map[cloud.ID]cloud.ID{}}
}

// fold notes a host's figures once its observation is committed.
func (u *usage) fold(tx *store.Tx, host cloud.ID, o *hostspec.HostObservation) error {
	now := map[cloud.ID]*hostspec.VmUsage{}
	for _, vm := range o.GetVms() {
		if id, err := cloud.ParseID(vm.GetId()); err == nil && vm.GetUsage() != nil {
			now[id] = vm.GetUsage()
		}
	}
	tx.OnCommit(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for id := range u.byHost[host] {
			if u.hostOf[id] == host {
				delete(u.hostOf, id)
			}
		}
		u.byHost[host] = now
		for id := range now {
			u.hostOf[id] = host
		}
	})
	return nil
}

// of gives the figures of a VM.
func (u *usage) of(vm cloud.ID) (*hostspec.VmUsage, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	v, ok := u.byHost[u.hostOf[vm]][vm]
	return v, ok
}
