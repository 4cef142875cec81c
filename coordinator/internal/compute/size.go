package compute

import (
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// setSize copies an offering's size to a VM, or with a customized one what the details cpuNumber, cpuSpeed and memory
// ask for, within the offering's bounds.
func setSize(vm *cloud.VM, o *cloud.ServiceOffering, details map[string]string) error {
	vm.CPUs, vm.CPUMHz, vm.MemoryMiB = o.CPUs, o.CPUMHz, o.MemoryMiB
	for _, x := range []struct {
		name     string
		to       *uint32
		min, max uint32
	}{
		{"cpuNumber", &vm.CPUs, max(o.MinCPUs, 1), bound(o.MaxCPUs, 1024)},
		{"cpuSpeed", &vm.CPUMHz, 1, 100000},
		{"memory", &vm.MemoryMiB, max(o.MinMemoryMiB, 32), bound(o.MaxMemoryMiB, 1<<26)},
	} {
		text, given := "", false
		for k, v := range details {
			if strings.EqualFold(k, x.name) {
				text, given = v, true
			}
		}
		switch {
		case !o.Customized && given:
			return cloud.Errorf(cloud.Invalid, "Unable to use the detail %s: service offering %s is not customized", x.name, o.ID)
		case !o.Customized || *x.to != 0 && !given:
			continue
		case !given:
			return cloud.Errorf(cloud.Invalid, "Need to specify custom parameter values cpuNumber, cpuSpeed and memory in details when using the custom offering %s: %s is missing", o.ID, x.name)
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || uint32(n) < x.min || uint32(n) > x.max {
			return cloud.Errorf(cloud.Invalid, "Invalid value %q of the detail %s: it must be a number between %d and %d", text, x.name, x.min, x.max)
		}
		if x.name == "cpuSpeed" && o.CPUMHz != 0 {
			return cloud.Errorf(cloud.Invalid, "Unable to use the detail cpuSpeed: service offering %s has a fixed speed", o.ID)
		}
		*x.to = uint32(n)
	}
	return nil
}

func bound(n, otherwise uint32) uint32 {
	if n == 0 {
		return otherwise
	}
	return n
}

// renewVolatile gives a VM of a volatile offering a fresh root disk for its next start; the old one is deleted.
func (a *Area) renewVolatile(tx *store.Tx, vm *cloud.VM) error {
	o, ok := tables.ServiceOfferings.Get(tx, vm.OfferingID)
	if !ok || !o.Volatile {
		return nil
	}
	for _, v := range VolumesOf(tx, vm.ID) {
		if v.Root && v.State == cloud.VolumeReady {
			return a.renewVolume(tx, v)
		}
	}
	return nil
}
