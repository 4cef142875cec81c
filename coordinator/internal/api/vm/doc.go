// Package vm holds the commands of virtual machines: their parameters, answers and thin handlers. What they do is in
// package compute.
package vm

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Deps is what the commands need.
type Deps struct {
	Area *compute.Area
	// Usage gives the last figures a host has reported of a running VM; false when there are none.
	Usage func(vm cloud.ID) (*hostspec.VmUsage, bool)
	// DefaultNetworks lists the networks that a VM is deployed on when networkids is absent.
	DefaultNetworks func(r store.Reader, account *cloud.Account, zone *cloud.Zone) ([]*cloud.Network, error)
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	h := handlers{d}
	return []api.Command{
		h.deploy(), h.list(), h.metrics(), h.start(), h.stop(), h.reboot(), h.destroy(), h.update(), h.resetPassword(), h.password(),
		h.resetKey(), h.resetUserData(), h.affinity(), h.userData(), nics(),
	}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "virtualmachine",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			vm, ok := tables.VMs.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: vm.AccountID, Domain: vm.DomainID}, true
		},
	}}
}

type handlers struct{ Deps }

// get reads a VM whose id the framework has resolved.
func get(r store.Reader, id cloud.ID) (*cloud.VM, error) {
	vm, ok := tables.VMs.Get(r, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	return vm, nil
}
