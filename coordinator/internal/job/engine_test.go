package job_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func keeper(t testing.TB) *seal.Keeper {
	t.Helper()
	k, err := seal.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func failure(err error, _ string) (int32, []byte, string) {
	text := "Internal error"
	var e *cloud.Error
	if errors.As(err, &e) {
		text = e.Text
	}
	b, _ := json.Marshal(map[string]any{"errorcode": 530, "errortext": text})
	return 530, b, text
}

// run runs an engine on a replica until the test, or stop, ends it.
func run(t testing.TB, r *replica.Replica, cfg job.Config) (stop func()) {
	t.Helper()
	cfg.Cluster, cfg.Seal, cfg.Failure = r, keeper(t), failure
	if cfg.Log == nil {
		cfg.Log = quiet
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.RunOnLeader(ctx, "jobs", job.New(cfg).Run)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

func update(t testing.TB, r *replica.Replica, f func(tx *store.Tx) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Update(ctx, f); err != nil {
		t.Fatal(err)
	}
}

// submit writes a job that works on row instance.
func submit(t testing.TB, r *replica.Replica, j cloud.Job) cloud.ID {
	t.Helper()
	update(t, r, func(tx *store.Tx) error {
		j.ID, j.Created = tx.NewID(), tx.Now()
		if j.Command == "" {
			j.Command = "work"
		}
		return tables.Jobs.Put(tx, &j)
	})
	return j.ID
}

// ended waits for a job to end.
func ended(t testing.TB, r *replica.Replica, id cloud.ID) *cloud.Job {
	t.Helper()
	var j *cloud.Job
	replicatest.Wait(t, 20*time.Second, "the job to end", func() error {
		var ok bool
		if j, ok = tables.Jobs.Get(r.DB().Current(), id); !ok || j.Status == cloud.JobPending {
			return fmt.Errorf("%+v", j)
		}
		return nil
	})
	return j
}

func result(t testing.TB, j *cloud.Job) string {
	t.Helper()
	s, err := keeper(t).Open(j.Result)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// long makes a pass so slow that only wake-ups can be what a test sees.
const long = time.Hour

func TestOutcomes(t *testing.T) {
	row := cloud.NameID("t", "row")
	for _, x := range []struct {
		name   string
		step   job.Step
		result job.Result
		want   string // status, code and result
		zones  int    // rows that the step left
	}{
		{"done", func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }, nil, `1 0 {"success":true}`, 0},
		{
			"done with a result", func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
			func(_ *store.Tx, j *cloud.Job) ([]byte, error) {
				return []byte(`{"x":"` + j.InstanceID.String()[:4] + `"}`), nil
			},
			`1 0 {"x":"` + row.String()[:4] + `"}`, 0,
		},
		{
			"failed, keeping what was written", func(tx *store.Tx, _ *job.State) (job.Outcome, error) {
				return job.Fail(cloud.Errorf(cloud.NoCapacity, "no room")), tables.Zones.Put(tx, &cloud.Zone{ID: row, Name: row.String()})
			}, nil, `2 530 {"errorcode":530,"errortext":"no room"}`, 1,
		},
		{
			"error, undoing what was written", func(tx *store.Tx, _ *job.State) (job.Outcome, error) {
				if err := tables.Zones.Put(tx, &cloud.Zone{ID: row, Name: row.String()}); err != nil {
					return job.Outcome{}, err
				}
				return job.Done(), cloud.Errorf(cloud.InUse, "in use")
			}, nil, `2 530 {"errorcode":530,"errortext":"in use"}`, 0,
		},
		{
			"panic, undoing what was written", func(tx *store.Tx, _ *job.State) (job.Outcome, error) {
				if err := tables.Zones.Put(tx, &cloud.Zone{ID: row, Name: row.String()}); err != nil {
					return job.Outcome{}, err
				}
				panic("a bug")
			}, nil, `2 530 {"errorcode":530,"errortext":"Internal error"}`, 0,
		},
		{
			"again until it is done", func(_ *store.Tx, s *job.State) (job.Outcome, error) {
				n := 0
				if err := s.Args(&n); err != nil {
					return job.Outcome{}, err
				}
				if n == 5 {
					return job.Done(), nil
				}
				return job.Again(), s.SetArgs(n + 1)
			}, nil, `1 0 {"success":true}`, 0,
		},
		{
			"a result that cannot be made", func(tx *store.Tx, _ *job.State) (job.Outcome, error) {
				return job.Done(), tables.Zones.Put(tx, &cloud.Zone{ID: row, Name: row.String()})
			}, func(*store.Tx, *cloud.Job) ([]byte, error) { return nil, errors.New("bug") }, `2 530 {"errorcode":530,"errortext":"Internal error"}`, 1,
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := replicatest.Single(t, tables.Schema()...)
			run(t, r, job.Config{Kinds: []job.Kind{{Command: "work", Step: x.step, Result: x.result, Event: "WORK", Doc: "Works."}}, Pass: long})
			j := ended(t, r, submit(t, r, cloud.Job{InstanceID: row}))
			if got := fmt.Sprintf("%d %d %s", j.Status, j.ResultCode, result(t, j)); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
			at := r.DB().Current()
			if n := tables.Zones.Len(at); n != x.zones {
				t.Errorf("%d rows are left, want %d", n, x.zones)
			}
			if j.Completed.IsZero() || tables.Events.Len(at) != 1 {
				t.Errorf("completed %v, %d events", j.Completed, tables.Events.Len(at))
			}
		})
	}
}

// What a job that succeeded has to report stands in its completion event, as a warning.
func TestDoneBut(t *testing.T) {
	for _, x := range []struct {
		out  job.Outcome
		want string
	}{
		{job.Done(), "INFO Successfully completed Works"},
		{job.DoneBut("one is left"), "WARN Successfully completed Works, but: one is left"},
	} {
		r := replicatest.Single(t, tables.Schema()...)
		step := func(*store.Tx, *job.State) (job.Outcome, error) { return x.out, nil }
		run(t, r, job.Config{Kinds: []job.Kind{{Command: "work", Step: step, Event: "WORK", Doc: "Works."}}, Pass: long})
		if j := ended(t, r, submit(t, r, cloud.Job{InstanceID: cloud.NameID("t", "row")})); j.Status != cloud.JobSucceeded {
			t.Errorf("%v: the job ended with %+v", x.out, j)
		}
		for e := range tables.Events.All(r.DB().Current()) {
			if got := e.Level.String() + " " + e.Description; got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		}
	}
}

// A waiting job runs again when a row it waits for changes: its instance, or one it named, of any table; and not
// because of others.
func TestWakeUps(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	instance, other, stranger := cloud.NameID("t", "instance"), cloud.NameID("t", "other"), cloud.NameID("t", "stranger")
	var runs atomic.Int32
	step := func(tx *store.Tx, _ *job.State) (job.Outcome, error) {
		runs.Add(1)
		switch {
		case tables.Pods.Has(tx, other):
			return job.Done(), nil
		case tables.Zones.Has(tx, instance):
			return job.WaitOn(other), nil
		}
		return job.Wait(), nil
	}
	run(t, r, job.Config{Kinds: []job.Kind{{Command: "work", Step: step}}, Pass: long})
	id := submit(t, r, cloud.Job{InstanceID: instance})
	reach := func(n int32) {
		t.Helper()
		replicatest.Wait(t, 10*time.Second, "the step to run", func() error {
			if runs.Load() < n {
				return fmt.Errorf("%d times", runs.Load())
			}
			return nil
		})
	}
	reach(1)
	update(t, r, func(tx *store.Tx) error { return tables.Zones.Put(tx, &cloud.Zone{ID: stranger, Name: "stranger"}) })
	update(t, r, func(tx *store.Tx) error { return tables.Zones.Put(tx, &cloud.Zone{ID: instance, Name: "instance"}) })
	reach(2)
	before := runs.Load()
	for i := range 20 {
		update(t, r, func(tx *store.Tx) error { return tables.Zones.Put(tx, &cloud.Zone{ID: stranger, Name: fmt.Sprint(i)}) })
	}
	// The instance's own change may run the step once more, late: it can arrive while the step that has read it is under way.
	if n := runs.Load(); n > before+1 {
		t.Errorf("%d runs during 20 changes of a row that it does not wait for", n-before)
	}
	update(t, r, func(tx *store.Tx) error { return tables.Pods.Put(tx, &cloud.Pod{ID: other}) })
	ended(t, r, id)
}

// A row that changes after the step has read it and before it is noted that the job waits for it is not missed.
func TestChangeDuringStep(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	for i := range 50 {
		row := cloud.NameID("t", fmt.Sprint("row", i))
		command := fmt.Sprint("work", i)
		step := func(tx *store.Tx, _ *job.State) (job.Outcome, error) {
			if tables.Zones.Has(tx, row) {
				return job.Done(), nil
			}
			// The change is committed at any moment from here on.
			tx.OnCommit(func() {
				go func() {
					_ = r.Update(context.Background(), func(tx *store.Tx) error { return tables.Zones.Put(tx, &cloud.Zone{ID: row, Name: row.String()}) })
				}()
			})
			return job.WaitOn(row), nil
		}
		stop := run(t, r, job.Config{Kinds: []job.Kind{{Command: command, Step: step}}, Pass: long})
		ended(t, r, submit(t, r, cloud.Job{Command: command}))
		stop()
	}
}

func TestDeadline(t *testing.T) {
	for _, x := range []struct {
		name string
		step job.Step
		want string
	}{
		{"the step gives back and fails", func(_ *store.Tx, s *job.State) (job.Outcome, error) {
			if s.Expired {
				return job.Fail(cloud.Errorf(cloud.Unavailable, "given back")), nil
			}
			return job.Wait(), nil
		}, "given back"},
		{"the step goes on waiting", func(*store.Tx, *job.State) (job.Outcome, error) { return job.Wait(), nil }, "Works did not finish in time"},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := replicatest.Single(t, tables.Schema()...)
			run(t, r, job.Config{Kinds: []job.Kind{{Command: "work", Step: x.step, Doc: "Works."}}, Pass: long})
			j := ended(t, r, submit(t, r, cloud.Job{Deadline: time.Now().Add(50 * time.Millisecond)}))
			if j.Status != cloud.JobFailed || j.Error != x.want {
				t.Errorf("%d %q, want %q", j.Status, j.Error, x.want)
			}
		})
	}
	t.Run("of a command that is not known", func(t *testing.T) {
		r := replicatest.Single(t, tables.Schema()...)
		run(t, r, job.Config{Pass: long})
		id := submit(t, r, cloud.Job{Command: "newer", Deadline: time.Now().Add(50 * time.Millisecond)})
		if j := ended(t, r, id); !strings.Contains(j.Error, "not known any more") {
			t.Errorf("%q", j.Error)
		}
	})
}

func TestWaitFor(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	var runs atomic.Int32
	step := func(*store.Tx, *job.State) (job.Outcome, error) {
		if runs.Add(1) == 3 {
			return job.Done(), nil
		}
		return job.WaitFor(20 * time.Millisecond), nil
	}
	run(t, r, job.Config{Kinds: []job.Kind{{Command: "work", Step: step}}, Pass: long})
	ended(t, r, submit(t, r, cloud.Job{}))
}

// saga is a job of several transactions, as real ones are: each phase writes a row of its own.
const phases = 4

func sagaStep(tx *store.Tx, s *job.State) (job.Outcome, error) {
	n := 0
	if err := s.Args(&n); err != nil {
		return job.Outcome{}, err
	}
	if n == phases {
		return job.Done(), nil
	}
	id := cloud.NameID(s.Job.ID.String(), fmt.Sprint(n))
	if tables.Zones.Has(tx, id) {
		return job.Outcome{}, fmt.Errorf("phase %d ran twice", n)
	}
	if err := tables.Zones.Put(tx, &cloud.Zone{ID: id, Name: id.String()}); err != nil {
		return job.Outcome{}, err
	}
	return job.Again(), s.SetArgs(n + 1)
}

// A coordinator that dies after any commit of a job leaves it to its next run, which takes it up there: nothing is done
// twice and nothing is left out.
func TestCutAfterEachCommit(t *testing.T) {
	for cut := range phases + 1 {
		r := replicatest.Single(t, tables.Schema()...)
		id := submit(t, r, cloud.Job{})
		limited := &cutting{Replica: r, left: cut}
		ctx, cancel := context.WithCancel(context.Background())
		limited.cancel = cancel
		e := job.New(job.Config{
			Cluster: limited, Kinds: []job.Kind{{Command: "work", Step: sagaStep}}, Seal: keeper(t), Log: quiet, Failure: failure, Pass: long,
		})
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if n := tables.Zones.Len(r.DB().Current()); n != min(cut, phases) {
			t.Fatalf("cut after %d: %d phases", cut, n)
		}
		run(t, r, job.Config{Kinds: []job.Kind{{Command: "work", Step: sagaStep}}, Pass: long})
		if j := ended(t, r, id); j.Status != cloud.JobSucceeded || tables.Zones.Len(r.DB().Current()) != phases {
			t.Errorf("cut after %d: status %d, %d phases, %s", cut, j.Status, tables.Zones.Len(r.DB().Current()), j.Error)
		}
	}
}

// cutting lets so many commits through; then the coordinator is dead.
type cutting struct {
	*replica.Replica
	mu     sync.Mutex
	left   int
	cancel func()
}

func (c *cutting) Update(ctx context.Context, f func(tx *store.Tx) error) error {
	c.mu.Lock()
	dead := c.left == 0
	c.left--
	c.mu.Unlock()
	if dead {
		c.cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	return c.Replica.Update(ctx, f)
}

// Leaders come and go while jobs run: every job ends once, with every phase done once.
func TestLeaderChanges(t *testing.T) {
	c := replicatest.New(t, 3, tables.Schema()...)
	kinds := []job.Kind{{Command: "work", Step: sagaStep, Event: "WORK", Doc: "Works."}}
	for _, r := range c.Nodes {
		run(t, r, job.Config{Kinds: kinds, Pass: 500 * time.Millisecond})
	}
	var ids []cloud.ID
	const jobs = 60
	for i := range jobs {
		ids = append(ids, submit(t, c.Leader(), cloud.Job{}))
		if i == jobs/3 {
			n := c.LeaderIndex()
			c.Isolate(n)
			replicatest.Wait(t, 20*time.Second, "another leader", func() error {
				if _, _, leads := c.Nodes[n].Leader(); leads {
					return errors.New("the isolated one still leads")
				}
				return nil
			})
		}
		if i == 2*jobs/3 {
			c.Heal()
		}
	}
	c.Kill(c.LeaderIndex())
	leader := c.Leader()
	for _, id := range ids {
		if j := ended(t, leader, id); j.Status != cloud.JobSucceeded {
			t.Errorf("job %s: %s", id, j.Error)
		}
	}
	at := leader.DB().Current()
	if z, e := tables.Zones.Len(at), tables.Events.Len(at); z != jobs*phases || e != jobs {
		t.Errorf("%d phases and %d events of %d jobs", z, e, jobs)
	}
}

func TestWhatIsOldGoes(t *testing.T) {
	var shift atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	r := replicatest.NewWith(t, 1, func(c *replica.Config) { c.Now = now }, tables.Schema()...).Nodes[0]
	run(t, r, job.Config{
		Kinds: []job.Kind{{Command: "work", Step: func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }, Event: "WORK"}},
		Pass:  20 * time.Millisecond, Now: now,
	})
	// left waits until so many jobs and events are left.
	left := func(jobs, events int) {
		t.Helper()
		replicatest.Wait(t, 10*time.Second, fmt.Sprint(jobs, " jobs and ", events, " events"), func() error {
			at := r.DB().Current()
			if j, e := tables.Jobs.Len(at), tables.Events.Len(at); j != jobs || e != events {
				return fmt.Errorf("%d and %d", j, e)
			}
			return nil
		})
	}
	work := func() { ended(t, r, submit(t, r, cloud.Job{})) }
	work()
	shift.Store(int64(24*time.Hour - time.Minute))
	work()
	left(2, 2)
	shift.Store(int64(24*time.Hour + time.Minute))
	left(1, 2)
	shift.Store(int64(15*24*time.Hour + time.Minute))
	left(0, 1)
	g := settings.New(job.Settings())
	update(t, r, func(tx *store.Tx) error { return g.Set(tx, "event.purge.delay", "0") })
	shift.Store(int64(1000 * 24 * time.Hour))
	work()
	left(1, 2)
}
