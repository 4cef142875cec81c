package host

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// hostResult is the jobresult of every command that works on a host.
func hostResult(r store.Reader, c *api.ResultContext, j *cloud.Job) (any, error) {
	h, ok := tables.Hosts.Get(r, j.InstanceID)
	if !ok {
		return nil, &store.NotFound{Table: "host", ID: j.InstanceID}
	}
	return viewOf(r, settingsFactors(c.Settings), h, everything), nil
}

// finished is the step of what is done when the call is answered.
func finished(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

// change makes a command whose job has nothing to wait for but step.
func change(c api.Command, f func(tx *store.Tx, id cloud.ID) (*cloud.Host, error)) api.Command {
	c.Roles, c.Entity, c.Object, c.Answer, c.Result = api.AdminOnly, "Host", "host", answerType, hostResult
	if c.Step == nil {
		c.Step = finished
	}
	c.Run = api.Async(func(c *api.Call, tx *store.Tx, p *idParams) (*api.Start, error) {
		h, err := f(tx, p.ID)
		if err != nil {
			return nil, err
		}
		c.Describe(h.ID, "host "+h.Name)
		return &api.Start{InstanceID: h.ID}, nil
	})
	return c
}

func prepare(d Deps) api.Command {
	return change(api.Command{
		Name: "prepareHostForMaintenance", Event: "MAINT.PREPARE",
		Doc: "Empties a host: routers move to other hosts, ready there before they leave; highly available VMs start elsewhere; other VMs are in the way.",
		Step: func(tx *store.Tx, j *job.State) (job.Outcome, error) {
			h, ok := tables.Hosts.Get(tx, j.InstanceID())
			switch {
			case !ok:
				return job.Fail(cloud.Errorf(cloud.Unavailable, "The host was removed meanwhile")), nil
			case h.ResourceState != cloud.HostPrepareForMaintenance:
				return job.Fail(cloud.Errorf(cloud.Unavailable, "Host %s is %s: its maintenance was cancelled meanwhile", h.Name, h.ResourceState)), nil
			}
			vms, routers := tables.VMs.Count(tx, "host", store.K(h.ID)), tables.Routers.Count(tx, "host", store.K(h.ID))
			switch {
			case vms == 0 && routers == 0:
				return job.Done(), infra.EndPreparing(tx, h.ID, true)
			case vms == 0 && j.Expired:
				return job.Fail(cloud.Errorf(cloud.Unavailable, "Host %s still has %d virtual routers, which no other host has taken in time", h.Name, routers)),
					infra.EndPreparing(tx, h.ID, false)
			case j.Expired:
				return job.Fail(cloud.Errorf(cloud.Unavailable, "Host %s still has %d virtual machines, which have not stopped in time", h.Name, vms)),
					infra.EndPreparing(tx, h.ID, false)
			}
			var on []cloud.ID
			for vm := range tables.VMs.By(tx, "host", store.K(h.ID)) {
				on = append(on, vm.ID)
			}
			on = slices.AppendSeq(on, tables.Routers.IDs(tx, "host", store.K(h.ID)))
			return job.WaitOn(on...), nil
		},
	}, func(tx *store.Tx, id cloud.ID) (*cloud.Host, error) {
		h, err := infra.PrepareMaintenance(tx, id)
		if err != nil {
			return nil, err
		}
		return h, d.Evacuate(tx, h)
	})
}

func cancelMaintenance() api.Command {
	return change(api.Command{
		Name: "cancelHostMaintenance", Doc: "Opens a host again after maintenance.", Event: "MAINT.CANCEL",
	}, infra.CancelMaintenance)
}

func declareDegraded(d Deps) api.Command {
	return change(api.Command{
		Name: "declareHostAsDegraded", Since: "4.16", Event: "HOST.DECLARE.DEGRADED",
		Doc: "Says that a host which is not heard from is dead: switched off, and never to go on with its VMs. Routers and highly available VMs start elsewhere.",
	}, func(tx *store.Tx, id cloud.ID) (*cloud.Host, error) {
		h, err := infra.DeclareDegraded(tx, id)
		if err != nil {
			return nil, err
		}
		return h, d.HostDied(tx, h)
	})
}

func cancelDegraded() api.Command {
	return change(api.Command{
		Name: "cancelHostAsDegraded", Doc: "Takes a host that was declared dead into service again.", Since: "4.16", Event: "HOST.CANCEL.DEGRADED",
	}, infra.CancelDegraded)
}

type passwordParams struct {
	HostID    cloud.ID     `api:"hostid" ref:"host" doc:"the host"`
	ClusterID cloud.ID     `api:"clusterid" ref:"cluster" doc:"all hosts of this cluster"`
	Username  string       `api:"username,required" doc:"name on the host"`
	Password  cloud.Secret `api:"password,required" doc:"the password; it is not kept"`
}

// updateHostPassword exists so that tools which rotate passwords learn that there is none to rotate.
func updatePassword() api.Command {
	return api.Command{
		Name: "updateHostPassword", Doc: "Changes nothing: hosts prove who they are by certificates, and no password of theirs is kept.", Roles: api.AdminOnly,
		Run: api.Query(func(_ *api.Call, p *passwordParams) (api.Success, error) {
			if p.HostID.IsZero() == p.ClusterID.IsZero() {
				return api.Success{}, cloud.Errorf(cloud.Invalid, "Please provide hostid or clusterid")
			}
			return api.Success{Success: "true", DisplayText: "hosts are known by their certificates; there is no password to change"}, nil
		}),
	}
}
