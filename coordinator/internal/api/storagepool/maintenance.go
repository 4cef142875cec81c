package storagepool

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// VMs is what maintenance needs of the compute area; see compute.Area.
type VMs interface {
	LeavePool(tx *store.Tx, pool *cloud.StoragePool) (storage.Occupants, error)
	BeginReturns(tx *store.Tx, pool *cloud.StoragePool, begun []compute.Return) (fresh []compute.Return, stay []string, more bool, err error)
	Returned(tx *store.Tx, pool cloud.ID, one compute.Return) (over bool, trouble string, err error)
}

// Routers is what maintenance needs of the network area; see network.Area.
type Routers interface {
	LeavePool(tx *store.Tx, pool *cloud.StoragePool, tried []cloud.ID) (left storage.Occupants, begun []cloud.ID, err error)
	ReturnToPool(tx *store.Tx, pool *cloud.StoragePool) (started, waitFor []cloud.ID, trouble []string, err error)
}

// Deadlines of the jobs: as long as a stop may take, and as long as a stop and a start.
const (
	prepareDeadline = 30 * time.Minute
	cancelDeadline  = 45 * time.Minute
)

// maintain makes a command whose call changes a pool's state by f, and whose job does the rest.
func maintain(c api.Command, deadline time.Duration, f func(tx *store.Tx, id cloud.ID) (*cloud.StoragePool, error)) api.Command {
	c.Roles, c.Entity, c.Object = api.AdminOnly, "StoragePool", "storagepool"
	c.Run = api.Async(func(c *api.Call, tx *store.Tx, p *idParams) (*api.Start, error) {
		pool, err := f(tx, p.ID)
		if err != nil {
			return nil, err
		}
		c.Describe(pool.ID, "storage pool "+pool.Name)
		return &api.Start{InstanceID: pool.ID, Deadline: deadline}, nil
	})
	return c
}

// answer is the pool of a job as it is now.
func answer(r store.Reader, j *cloud.Job) (Answer, error) {
	p, ok := tables.StoragePools.Get(r, j.InstanceID)
	if !ok {
		return Answer{}, &store.NotFound{Table: "storage_pool", ID: j.InstanceID}
	}
	return viewOf(r, infra.StorageFactor.Float(r, p.ID), p), nil
}

func enableMaintenance(d Deps) api.Command {
	return maintain(api.Command{
		Name: storage.PrepareCommand, Event: "MAINT.PREPARE.PS", Envelope: "prepareprimarystorageformaintenanceresponse",
		Doc:  "Takes a primary storage pool out of use: VMs with a volume on it are stopped, and started again by cancelStorageMaintenance; routers move to other pools.",
		Step: d.prepareStep, Answer: reflect.TypeFor[Answer](),
		Result: func(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) { return answer(r, j) },
	}, prepareDeadline, storage.BeginMaintenance)
}

// prepareArgs is the state of an enableStorageMaintenance job.
type prepareArgs struct {
	Tried []cloud.ID `json:",omitempty"` // routers whose replacement was begun
}

// prepareStep empties a pool: of VMs first, so that they shut down with their networks in order.
func (d Deps) prepareStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var args prepareArgs
	if err := j.Args(&args); err != nil {
		return job.Outcome{}, err
	}
	p, ok := tables.StoragePools.Get(tx, j.InstanceID())
	switch {
	case !ok:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The primary storage was removed meanwhile")), nil
	case p.State != cloud.PoolPrepareForMaintenance:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "Primary storage %s is %s: somebody else ended its maintenance meanwhile", p.Name, p.State)), nil
	}
	left, err := d.VMs.LeavePool(tx, p)
	if err == nil && left.Count == 0 && !left.More {
		left, args.Tried, err = d.Routers.LeavePool(tx, p, args.Tried)
	}
	switch {
	case err != nil:
		return job.Outcome{}, err
	case left.More && !j.Expired:
		return job.Again(), nil
	case left.Count == 0 && !left.More:
		return job.Done(), storage.FinishMaintenance(tx, p)
	case j.Expired || left.Silent == left.Count:
		why := fmt.Sprintf("Primary storage %s cannot be taken into maintenance: %s. What can be stopped is stopped, and the primary storage "+
			"is not used. Bring the hosts back, or call declareHostAsDegraded for one that is dead for good; then call %s again, or "+
			"cancelStorageMaintenance to use it again as it is", p.Name, left.String(), storage.PrepareCommand)
		return job.Fail(&cloud.Error{Code: cloud.Unavailable, Text: why}), storage.FailMaintenance(tx, p, why)
	}
	return job.WaitOn(left.On...), j.SetArgs(args)
}

// CancelAnswer is a pool after its maintenance.
type CancelAnswer struct {
	Answer
	DisplayText string `json:"displaytext" doc:"how many VMs were started again, and which were not, and why"`
}

func cancelMaintenance(d Deps) api.Command {
	return maintain(api.Command{
		Name: "cancelStorageMaintenance", Event: "MAINT.CANCEL.PS", Envelope: "cancelprimarystoragemaintenanceresponse",
		Doc:  "Takes a primary storage pool into use again, and starts the VMs that its maintenance has stopped, but for those that somebody started, stopped or destroyed meanwhile.",
		Step: d.cancelStep, Answer: reflect.TypeFor[CancelAnswer](),
		Result: func(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
			var args cancelArgs
			if err := (&job.State{Job: j}).Args(&args); err != nil {
				return nil, err
			}
			a, err := answer(r, j)
			return CancelAnswer{a, args.String()}, err
		},
	}, cancelDeadline, storage.EndMaintenance)
}

// cancelArgs is the state of a cancelStorageMaintenance job.
type cancelArgs struct {
	Returns []compute.Return `json:",omitempty"` // under way
	Routers []cloud.ID       `json:",omitempty"` // likewise
	Started int              `json:",omitempty"` // VMs that run again
	Failed  int              `json:",omitempty"` // what does not
	Trouble []string         `json:",omitempty"` // the first of those
}

// mostTrouble bounds what an answer tells one by one.
const mostTrouble = 20

func (a *cancelArgs) fail(why ...string) {
	a.Failed += len(why)
	a.Trouble = append(a.Trouble, why[:min(len(why), mostTrouble-min(len(a.Trouble), mostTrouble))]...)
}

// String is what the answer says.
func (a *cancelArgs) String() string {
	text := fmt.Sprintf("virtual machines started again: %d", a.Started)
	if a.Failed > 0 {
		text += "; " + a.trouble()
	}
	return text
}

// trouble says what was not started.
func (a *cancelArgs) trouble() string {
	text := fmt.Sprintf("not started: %d: %s", a.Failed, strings.Join(a.Trouble, "; "))
	if left := a.Failed - len(a.Trouble); left > 0 {
		text += fmt.Sprintf("; and %d more", left)
	}
	return text
}

// cancelStep has what maintenance stopped started again, and gathers how that went.
func (d Deps) cancelStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var args cancelArgs
	if err := j.Args(&args); err != nil {
		return job.Outcome{}, err
	}
	p, ok := tables.StoragePools.Get(tx, j.InstanceID())
	switch {
	case !ok:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The primary storage was removed meanwhile")), nil
	case p.State.InMaintenance():
		return job.Fail(cloud.Errorf(cloud.Unavailable, "Primary storage %s is %s: somebody began its maintenance again meanwhile", p.Name, p.State)), nil
	}
	started, waitFor, trouble, err := d.Routers.ReturnToPool(tx, p)
	if err != nil {
		return job.Outcome{}, err
	}
	args.Routers = append(args.Routers, started...)
	args.fail(trouble...)
	fresh, stay, more, err := d.VMs.BeginReturns(tx, p, args.Returns)
	if err != nil {
		return job.Outcome{}, err
	}
	args.Returns = append(args.Returns, fresh...)
	args.fail(stay...)
	on, err := d.gather(tx, p, &args, j.Expired)
	switch {
	case err != nil:
		return job.Outcome{}, err
	case more && !j.Expired:
		return job.Again(), j.SetArgs(args)
	case len(on)+len(waitFor) > 0 && !j.Expired:
		return job.WaitOn(append(on, waitFor...)...), j.SetArgs(args)
	case args.Failed > 0:
		return job.DoneBut(args.trouble()), j.SetArgs(args)
	}
	return job.Done(), j.SetArgs(args)
}

// mostWaitedFor bounds the rows that a job waits for.
const mostWaitedFor = 100

// gather sorts out of args what has ended, and gives the rows that the rest waits for. When the time is over the rest has
// failed.
func (d Deps) gather(tx *store.Tx, p *cloud.StoragePool, args *cancelArgs, expired bool) (on []cloud.ID, err error) {
	var returns []compute.Return
	for _, one := range args.Returns {
		over, trouble, err := d.VMs.Returned(tx, p.ID, one)
		switch {
		case err != nil:
			return nil, err
		case over && trouble == "":
			args.Started++
		case over:
			args.fail(trouble)
		case expired:
			args.fail("VM " + one.VM.String() + ": job " + one.Job.String() + " has not started it yet")
		default:
			returns, on = append(returns, one), append(on, one.VM)
		}
	}
	var routers []cloud.ID
	for _, id := range args.Routers {
		over, waitsFor := network.Returned(tx, id)
		switch {
		case over:
		case expired:
			args.fail(waitsFor)
		default:
			routers, on = append(routers, id), append(on, id)
		}
	}
	args.Returns, args.Routers = returns, routers
	return on[:min(len(on), mostWaitedFor)], nil
}
