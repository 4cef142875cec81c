package network

import (
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// Checks of a router beside those of its network services, which have the services' own names.
const (
	// CheckHost is what its host says of its links and namespace, or of its machine.
	CheckHost = "host"
	// CheckServices is whether its network services are heard.
	CheckServices = "services"
)

// How long a router must have failed, or have been silent about itself, until that is an alert. What agents mend by
// themselves, and a boot, take less.
const (
	sickPatience   = 30 * time.Second
	silentPatience = 5 * time.Minute
)

// examine turns what a host says about a router into checks. heard is false where services cannot speak yet, as while a
// machine boots.
func examine(now time.Time, before []cloud.RouterCheck, trouble string, s *netspec.Observation, heard bool) []cloud.RouterCheck {
	list := []cloud.RouterCheck{{Name: CheckHost, Status: cloud.CheckPassed}, {Name: CheckServices, Status: cloud.CheckPassed}}
	host, services := &list[0], &list[1]
	switch {
	case s != nil:
	case heard:
		services.Status, services.Details = cloud.CheckFailed, "the network services do not answer"
	default:
		services.Status, services.Details = cloud.CheckUnknown, "the network services are being started"
	}
	explained := false
	for _, o := range s.GetServices() {
		c := cloud.RouterCheck{Name: bounded(o.GetName()), Status: cloud.CheckPassed}
		switch {
		case o.GetError() != "":
			c.Status, c.Details, explained = cloud.CheckFailed, bounded(o.GetError()), true
		case !o.GetReady():
			c.Status = cloud.CheckUnknown
		}
		list = append(list, c)
	}
	if trouble != "" && !explained {
		host.Status, host.Details = cloud.CheckFailed, bounded(trouble)
	}
	if s == nil {
		for _, c := range before {
			if c.Name != CheckHost && c.Name != CheckServices {
				list = append(list, cloud.RouterCheck{Name: c.Name})
			}
		}
	}
	for i := range list {
		list[i].Since = now
		if j := slices.IndexFunc(before, func(c cloud.RouterCheck) bool { return c.Name == list[i].Name && c.Status == list[i].Status }); j >= 0 {
			list[i].Since = before[j].Since
		}
	}
	return list
}

// examineVM is examine for a system VM.
func examineVM(now time.Time, rt *cloud.Router, o *hostspec.SystemVMObservation) []cloud.RouterCheck {
	vm := o.GetVm()
	if vm.GetState() == hostspec.VmState_VM_STATE_RUNNING && vm.GetStartEpoch() >= rt.StartEpoch {
		return examine(now, rt.Checks, vm.GetError(), o.GetServices(), rt.State == cloud.VMRunning)
	}
	list := examine(now, rt.Checks, vm.GetError(), nil, false)
	if list[0].Status == cloud.CheckPassed { // so much is not known of one that does not run
		list[0] = cloud.RouterCheck{Name: CheckHost, Details: "the machine does not run yet", Since: list[0].Since}
	}
	return list
}

// Checks of a router, as its host has last told them. What a host told that is not heard now is not known any more.
func Checks(r store.Reader, rt *cloud.Router) []cloud.RouterCheck {
	h, ok := tables.Hosts.Get(r, rt.HostID)
	if !ok || h.Status == cloud.HostUp {
		return rt.Checks
	}
	list := slices.Clone(rt.Checks)
	for i := range list {
		list[i].Status, list[i].Details = cloud.CheckUnknown, "host "+h.Name+" is "+h.Status.String()
	}
	return list
}

// Sick tells whether something of a router does not work.
func Sick(r store.Reader, rt *cloud.Router) bool {
	return slices.ContainsFunc(Checks(r, rt), func(c cloud.RouterCheck) bool { return c.Status == cloud.CheckFailed })
}

// Heard refuses to speak of a router whose host cannot tell how it is now.
func Heard(r store.Reader, rt *cloud.Router) error {
	h, ok := tables.Hosts.Get(r, rt.HostID)
	switch {
	case !ok:
		return cloud.Errorf(cloud.Unavailable, "Router %s is %s and has no host: it cannot be checked", rt.Name, rt.State)
	case h.Status != cloud.HostUp:
		return cloud.Errorf(cloud.Unavailable, "Host %s of router %s is %s: the router cannot be checked now", h.Name, rt.Name, h.Status)
	}
	return nil
}

// sickness begins the keys of the alerts about routers that run and do not work.
const sickness = "router/health/"

// tellSick has an alert open for each router that does not work for longer than agents take to mend it, and for no other.
func tellSick(tx *store.Tx) error {
	var hold []alert.Condition
	for rt := range tables.Routers.By(tx, "unwell", nil) {
		i := slices.IndexFunc(rt.Checks, func(c cloud.RouterCheck) bool {
			age := tx.Now().Sub(c.Since)
			return c.Status == cloud.CheckFailed && age >= sickPatience || c.Status == cloud.CheckUnknown && age >= silentPatience
		})
		if h, ok := tables.Hosts.Get(tx, rt.HostID); i < 0 || !ok || h.Status != cloud.HostUp && !alert.Open(tx, sickness+rt.ID.String()) {
			continue // a host that is not heard has an alert of its own, and what it told last is all that is known
		}
		hold = append(hold, alert.Condition{
			Type: alert.Router, Key: sickness + rt.ID.String(), ZoneID: rt.ZoneID, PodID: rt.PodID, Resource: rt.ID,
			Subject: "Router " + rt.Name + " does not work", Description: rt.Checks[i].Name + ": " + rt.Checks[i].Details,
		})
	}
	return alert.Sync(tx, sickness, hold)
}
