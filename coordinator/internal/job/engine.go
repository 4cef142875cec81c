package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Cluster is what the engine needs of the replica.
type Cluster interface {
	DB() *store.DB
	Update(ctx context.Context, f func(tx *store.Tx) error) error
}

// Config is what an Engine is made of.
type Config struct {
	Cluster Cluster
	Kinds   []Kind
	Seal    *seal.Keeper
	Log     *slog.Logger
	// Failure gives result code, jobresult and sentence of an error that failed a job.
	Failure func(err error, requestID string) (code int32, result []byte, text string)
	// Pass is how often all pending jobs are stepped, whether or not anything changed; 0 is 10 s.
	Pass time.Duration
	// Parallel is how many steps run at once, so that their commits can be grouped; 0 is 64.
	Parallel int
	// Now is the clock that deadlines are compared with between transactions; nil is time.Now.
	Now func() time.Time
}

// Engine runs steps. It keeps nothing that Run does not make again.
type Engine struct {
	cfg   Config
	kinds map[string]*Kind
}

// New makes an engine.
func New(cfg Config) *Engine {
	if cfg.Pass == 0 {
		cfg.Pass = 10 * time.Second
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 64
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Engine{cfg: cfg, kinds: map[string]*Kind{}}
	for i := range cfg.Kinds {
		e.kinds[cfg.Kinds[i].Command] = &cfg.Kinds[i]
	}
	return e
}

// tracked is a pending job as one Run knows it.
type tracked struct {
	id      cloud.ID
	running bool
	again   bool   // woken while running
	since   uint64 // of run.seen, when the step under way was begun
	on      []cloud.ID
	due     time.Time // when to step it although nothing changed
}

// run is one term of leadership.
type run struct {
	*Engine
	jobs    map[cloud.ID]*tracked
	waiting map[cloud.ID]map[*tracked]struct{} // row -> who waits for it
	ended   chan result
	slots   chan struct{}
	workers sync.WaitGroup
	running int
	next    time.Time // no job is due before; zero is never

	// Rows that were touched while steps are under way, which may turn out to wait for them: row -> the count of touches
	// then. touches only grows.
	recent  map[cloud.ID]uint64
	touches uint64

	purged time.Time // when old events were looked for last
}

// result is how a step ended.
type result struct {
	t    *tracked
	job  *cloud.Job // as committed; nil where it is gone or was not pending
	out  Outcome
	err  error // of the transaction
	next time.Time
}

// Run steps jobs until ctx ends, which is when the leadership does. It waits for the steps that are under way.
func (e *Engine) Run(ctx context.Context) error {
	r := &run{
		Engine: e, jobs: map[cloud.ID]*tracked{}, waiting: map[cloud.ID]map[*tracked]struct{}{},
		ended: make(chan result), slots: make(chan struct{}, e.cfg.Parallel), recent: map[cloud.ID]uint64{},
	}
	watch := e.cfg.Cluster.DB().Watch()
	defer watch.Close()
	defer func() {
		done := make(chan struct{})
		go func() { r.workers.Wait(); close(done) }()
		for {
			select {
			case <-r.ended: // so that no worker waits to tell
			case <-done:
				return
			}
		}
	}()
	pass := time.NewTicker(e.cfg.Pass)
	defer pass.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	r.all(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.C():
			rows, ok := watch.Touched()
			if !ok {
				r.all(ctx)
			}
			for _, row := range rows {
				r.touched(ctx, row)
			}
		case <-pass.C:
			r.all(ctx)
			if err := r.expunge(ctx); err != nil && ctx.Err() == nil {
				e.cfg.Log.Warn("cannot remove old jobs", "error", err)
			}
		case <-due.C:
			r.wakeDue(ctx)
		case res := <-r.ended:
			r.settle(ctx, res)
		}
		r.arm(due)
	}
}

// wakeDue steps what is due and finds out what will be next. It looks at all jobs, but only when the earliest is due.
func (r *run) wakeDue(ctx context.Context) {
	now := r.cfg.Now()
	r.next = time.Time{}
	for _, t := range r.jobs {
		switch {
		case t.due.IsZero():
		case now.Before(t.due):
			r.dueAt(t.due)
		default:
			t.due = time.Time{}
			r.wake(ctx, t)
		}
	}
}

func (r *run) dueAt(at time.Time) {
	if !at.IsZero() && (r.next.IsZero() || at.Before(r.next)) {
		r.next = at
	}
}

// arm sets the timer to the earliest due time.
func (r *run) arm(timer *time.Timer) {
	if r.next.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(max(0, r.next.Sub(r.cfg.Now())))
}

// all steps every pending job.
func (r *run) all(ctx context.Context) {
	for id := range tables.Jobs.IDs(r.cfg.Cluster.DB().Current(), "pending", nil) {
		r.wake(ctx, r.track(id))
	}
}

func (r *run) track(id cloud.ID) *tracked {
	t := r.jobs[id]
	if t == nil {
		t = &tracked{id: id}
		r.jobs[id] = t
	}
	return t
}

// touched wakes the jobs that a changed row concerns.
func (r *run) touched(ctx context.Context, row store.Touched) {
	if row.Table == tables.Jobs.Name() {
		// A job's own row: a new job, or what its last step wrote, which needs no further step.
		if r.jobs[row.ID] == nil {
			if j, ok := tables.Jobs.Get(r.cfg.Cluster.DB().Current(), row.ID); ok && j.Status == cloud.JobPending {
				r.wake(ctx, r.track(row.ID))
			}
		}
		return
	}
	for t := range r.waiting[row.ID] {
		r.wake(ctx, t)
	}
	if r.running == 0 {
		return
	}
	if len(r.recent) >= mostRecent {
		// Too much to remember: whoever is under way runs once more.
		clear(r.recent)
		for _, t := range r.jobs {
			t.again = t.again || t.running
		}
	}
	r.touches++
	r.recent[row.ID] = r.touches
}

// mostRecent bounds what a burst of changes costs.
const mostRecent = 1 << 16

// wake steps a job now, or once more after the step that is under way.
func (r *run) wake(ctx context.Context, t *tracked) {
	if t.running {
		t.again = true
		return
	}
	t.running, t.again, t.since = true, false, r.touches
	r.running++
	r.workers.Add(1)
	go func() {
		defer r.workers.Done()
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		case <-ctx.Done():
			r.ended <- result{t: t, err: ctx.Err()}
			return
		}
		r.ended <- r.step(ctx, t)
	}()
}

// retryAfter is the pause after a transaction that could not be committed.
const retryAfter = time.Second

// settle notes what a step said.
func (r *run) settle(ctx context.Context, res result) {
	t := res.t
	t.running = false
	if r.running--; r.running == 0 {
		defer clear(r.recent)
	}
	if res.err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Warn("cannot commit a job's step", "job", t.id, "error", res.err)
			t.due = r.cfg.Now().Add(retryAfter)
			r.dueAt(t.due)
		}
		return
	}
	if res.job == nil || res.job.Status != cloud.JobPending {
		r.listen(t, nil)
		delete(r.jobs, t.id)
		return
	}
	r.listen(t, append(slices.Clone(res.out.on), res.job.InstanceID))
	t.due = res.next
	r.dueAt(t.due)
	for _, id := range t.on {
		t.again = t.again || r.recent[id] > t.since
	}
	if t.again || res.out.verb == again {
		r.wake(ctx, t)
	}
}

// listen replaces the rows a job waits for.
func (r *run) listen(t *tracked, on []cloud.ID) {
	for _, id := range t.on {
		delete(r.waiting[id], t)
		if len(r.waiting[id]) == 0 {
			delete(r.waiting, id)
		}
	}
	t.on = on
	for _, id := range on {
		if id.IsZero() {
			continue
		}
		if r.waiting[id] == nil {
			r.waiting[id] = map[*tracked]struct{}{}
		}
		r.waiting[id][t] = struct{}{}
	}
}

// errUndo carries a step's error out of the transaction that it undoes.
type errUndo struct{ cause error }

func (e errUndo) Error() string { return e.cause.Error() }

// step runs a job's step in a transaction, and fails the job in another one where the step's was undone.
//
// What the closure found is taken from its last run, which is the one that was committed. A row that changed since the
// step was begun, and that it turns out to wait for, wakes it again: run.recent remembers those.
func (r *run) step(ctx context.Context, t *tracked) result {
	res := result{t: t}
	err := r.cfg.Cluster.Update(ctx, func(tx *store.Tx) error {
		res = result{t: t}
		return r.stepIn(tx, &res, nil)
	})
	var undo errUndo
	if errors.As(err, &undo) {
		err = r.cfg.Cluster.Update(ctx, func(tx *store.Tx) error {
			res = result{t: t}
			return r.stepIn(tx, &res, undo.cause)
		})
	}
	res.err = err
	return res
}

// stepIn is one run of the closure. With a cause it fails the job instead of stepping it.
func (r *run) stepIn(tx *store.Tx, res *result, cause error) error {
	j, ok := tables.Jobs.Get(tx, res.t.id)
	if !ok || j.Status != cloud.JobPending {
		return nil
	}
	res.job = j
	k := r.kinds[j.Command]
	if cause != nil {
		return r.finish(tx, k, j, cause, "")
	}
	expired := !j.Deadline.IsZero() && !tx.Now().Before(j.Deadline)
	if k == nil {
		// A command of another version: its coordinator steps it, or the deadline ends it.
		res.out, res.next = Wait(), j.Deadline
		if expired {
			return r.finish(tx, nil, j, cloud.Errorf(cloud.Unsupported, "The command %s of this job is not known any more", j.Command), "")
		}
		return nil
	}
	before := j.Args
	s := &State{Job: j, Expired: expired}
	out, err := safely(k.Step, tx, s)
	if err != nil {
		return errUndo{fmt.Errorf("step %s %s: %w", j.Command, j.ID, err)}
	}
	res.out = out
	switch {
	case out.verb == fail:
		return r.finish(tx, k, j, out.err, "")
	case out.verb == done:
		return r.finish(tx, k, j, nil, out.note)
	case expired:
		return r.finish(tx, k, j, cloud.Errorf(cloud.Unavailable, "%s did not finish in time", strings.TrimSuffix(k.Doc, ".")), "")
	}
	res.next = j.Deadline
	if out.after > 0 {
		if at := tx.Now().Add(out.after); res.next.IsZero() || at.Before(res.next) {
			res.next = at
		}
	}
	if j.Args != before {
		return tables.Jobs.Put(tx, j)
	}
	return nil
}

// safely turns a panic into an error that fails this job, and no other.
func safely(step Step, tx *store.Tx, s *State) (out Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return step(tx, s)
}

// success is the jobresult of commands without an object.
var success = []byte(`{"success":true}`)

// finish writes status, result and completion event. Where the result cannot be made the job has failed all the same,
// but what it did is kept: it cannot be undone by not telling. note is for the event of a job that succeeded.
func (r *run) finish(tx *store.Tx, k *Kind, j *cloud.Job, cause error, note string) error {
	result := success
	if cause == nil && k != nil && k.Result != nil {
		if result, cause = k.Result(tx, j); cause != nil {
			cause = fmt.Errorf("make result of %s: %w", j.Command, cause)
		}
	}
	j.Status, j.ResultCode = cloud.JobSucceeded, 0
	if cause != nil {
		j.Status = cloud.JobFailed
		j.ResultCode, result, j.Error = r.cfg.Failure(cause, j.RequestID)
		if cloud.CodeOf(cause) == cloud.Internal {
			r.cfg.Log.Error("job failed", "job", j.ID, "command", j.Command, "request", j.RequestID, "error", cause)
		}
	}
	j.Result = r.cfg.Seal.Seal(string(result))
	j.Completed = tx.Now()
	if k != nil && k.Event != "" {
		if err := completion(tx, k, j, note); err != nil {
			return err
		}
	}
	return tables.Jobs.Put(tx, j)
}

// completion writes the event that ends what the call's event began.
func completion(tx *store.Tx, k *Kind, j *cloud.Job, note string) error {
	e := cloud.Event{
		Type: k.Event, State: cloud.EventCompleted, UserID: j.UserID, AccountID: j.AccountID, DomainID: j.DomainID,
		ParentID: j.EventID, ResourceID: j.InstanceID, RequestID: j.RequestID,
	}
	text := strings.TrimSuffix(k.Doc, ".")
	if first, ok := tables.Events.Get(tx, j.EventID); ok {
		for _, prefix := range []string{"Scheduled async job for ", "Successfully created entity for "} {
			if t, ok := strings.CutPrefix(first.Description, prefix); ok {
				text = t
			}
		}
		if !first.ResourceID.IsZero() {
			e.ResourceID = first.ResourceID
		}
	}
	switch {
	case j.Status == cloud.JobFailed:
		e.Level, e.Description = cloud.EventError, "Error while "+text+": "+j.Error
	case note != "":
		e.Level, e.Description = cloud.EventWarn, "Successfully completed "+text+", but: "+note
	default:
		e.Description = "Successfully completed " + text
	}
	_, err := WriteEvent(tx, e)
	return err
}

// expungeAtOnce bounds one transaction.
const expungeAtOnce = 1000

// expunge removes jobs that ended long ago, and old events.
func (r *run) expunge(ctx context.Context) error {
	at := r.cfg.Cluster.DB().Current()
	purge := r.cfg.Now().Sub(r.purged) >= purgeEvents.Duration(at)
	jobs, events := r.old(at, purge)
	if len(events) < expungeAtOnce && purge {
		r.purged = r.cfg.Now()
	}
	if len(jobs)+len(events) == 0 {
		return nil
	}
	return r.cfg.Cluster.Update(ctx, func(tx *store.Tx) error {
		jobs, events := r.old(tx, purge)
		for _, id := range jobs {
			if err := tables.Jobs.Delete(tx, id); err != nil {
				return err
			}
		}
		for _, id := range events {
			if err := tables.Events.Delete(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// old lists what is to go, the oldest first; events only where their time has come.
func (r *run) old(at store.Reader, purge bool) (jobs, events []cloud.ID) {
	before := r.cfg.Now().Add(-time.Duration(keepJobs.Int(at)) * time.Minute)
	for j := range tables.Jobs.By(at, "completed", nil) {
		if !j.Completed.Before(before) || len(jobs) == expungeAtOnce {
			break
		}
		jobs = append(jobs, j.ID)
	}
	days := keepEvents.Int(at)
	before = r.cfg.Now().AddDate(0, 0, -int(days))
	for _, archived := range []bool{true, false} {
		for e := range tables.Events.By(at, "created", store.K(archived)) {
			if !purge || days == 0 || !e.Created.Before(before) || len(events) == expungeAtOnce {
				break
			}
			events = append(events, e.ID)
		}
	}
	return jobs, events
}
