package infra

import (
	"net/url"
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// LocalRegion is the number of the region that this cloud is.
const LocalRegion = 1

func regionID(number uint32) cloud.ID {
	return cloud.NameID("region", strconv.FormatUint(uint64(number), 10))
}

// SeedSite writes what every cloud knows of itself; it may be called at every start.
func SeedSite(tx *store.Tx) error {
	if !tables.Regions.Has(tx, regionID(LocalRegion)) {
		r := &cloud.Region{ID: regionID(LocalRegion), Number: LocalRegion, Name: "Local", Endpoint: "http://localhost:8080/client/"}
		if err := tables.Regions.Put(tx, r); err != nil {
			return wrap("seed", "region", r.ID, err)
		}
	}
	k := &cloud.HypervisorCapability{
		ID: cloud.NameID("hypervisor_capability", Hypervisor), Hypervisor: Hypervisor, Version: "default", MaxDataVolumes: 13, SecurityGroups: false,
	}
	if tables.HypervisorCapabilities.Has(tx, k.ID) {
		return nil
	}
	return wrap("seed", "hypervisor capability", k.ID, tables.HypervisorCapabilities.Put(tx, k))
}

// PutRegion adds a region, or changes the one of that number; "" keeps what is there.
func PutRegion(tx *store.Tx, number uint32, name, endpoint string, isNew bool) (*cloud.Region, error) {
	r, there := tables.Regions.Get(tx, regionID(number))
	switch {
	case isNew && there:
		return nil, cloud.Errorf(cloud.Invalid, "Region with id: %d already exists", number)
	case !isNew && !there:
		return nil, cloud.Errorf(cloud.Invalid, "Region with id: %d does not exist", number)
	case isNew:
		r = &cloud.Region{ID: regionID(number), Number: number}
	}
	if name != "" {
		r.Name = name
	}
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid value %.200q of endpoint: the URL of a region's API is expected", endpoint)
		}
		r.Endpoint = endpoint
	}
	err := taken(tables.Regions.Put(tx, r), "Region with name: %s already exists", r.Name)
	return r, wrap("put", "region", r.ID, err)
}

// RemoveRegion removes another region; the one that this cloud is stays.
func RemoveRegion(tx *store.Tx, number uint32) error {
	switch {
	case number == LocalRegion:
		return cloud.Errorf(cloud.Invalid, "Region %d is this cloud and cannot be removed", number)
	case !tables.Regions.Has(tx, regionID(number)):
		return cloud.Errorf(cloud.Invalid, "Region with id: %d does not exist", number)
	}
	return tables.Regions.Delete(tx, regionID(number))
}

// MaxGuests is how many VMs a host takes; 0 is any number.
func MaxGuests(r store.Reader) uint32 {
	k, ok := tables.HypervisorCapabilities.First(r, "hypervisor", store.K(Hypervisor))
	if !ok {
		return 0
	}
	return k.MaxGuests
}
