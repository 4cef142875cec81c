package job

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Step moves a job on by one transaction. An error undoes what the transaction wrote and fails the job; to fail and
// keep what was written (an object that goes to its Error state, released addresses), return Fail.
type Step func(tx *store.Tx, j *State) (Outcome, error)

// Result gives what queryAsyncJobResult shows as jobresult when a job is done: JSON text. It runs in the transaction
// that finishes the job. A nil Result stands for {"success":true}.
type Result func(tx *store.Tx, j *cloud.Job) ([]byte, error)

// Kind is what the engine knows of the jobs of one command.
type Kind struct {
	Command string
	Step    Step
	Result  Result
	Event   string // event type, as cloud.Event.Type; "" writes none
	Doc     string // text of its events when the call gave none
}

// State is a job as its step sees it.
type State struct {
	// Job is a copy; what a step may change is its Args (SetArgs) and its InstanceID.
	Job *cloud.Job
	// Expired is true when the job's deadline has passed: the step should give back what it holds and Fail. A job that
	// is not finished by a step that was told so is failed by the engine.
	Expired bool
}

// InstanceID is the row the job works on.
func (s *State) InstanceID() cloud.ID { return s.Job.InstanceID }

// Args reads the step's own state, as the call or an earlier step has left it, into v. No state leaves v alone.
func (s *State) Args(v any) error {
	if s.Job.Args == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s.Job.Args), v); err != nil {
		return fmt.Errorf("read arguments of job %s: %w", s.Job.ID, err)
	}
	return nil
}

// SetArgs writes the step's own state back; it is kept when the outcome is not final. No secrets in it.
func (s *State) SetArgs(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write arguments of job %s: %w", s.Job.ID, err)
	}
	s.Job.Args = string(b)
	return nil
}

type verb uint8

const (
	wait verb = iota
	done
	fail
	again
)

// Outcome is what a step says about its job.
type Outcome struct {
	verb  verb
	on    []cloud.ID
	after time.Duration
	err   error
	note  string
}

// Done finishes the job; its result is made in the same transaction.
func Done() Outcome { return Outcome{verb: done} }

// DoneBut is Done for a job that did what it is for and yet has something to report: its completion event says so, as a
// warning. The caller learns it from the job's result.
func DoneBut(note string) Outcome { return Outcome{verb: done, note: note} }

// Wait runs the step again when the instance's row has changed, and in the slow pass.
func Wait() Outcome { return Outcome{verb: wait} }

// WaitOn is Wait for changes of further rows, of any table.
func WaitOn(ids ...cloud.ID) Outcome { return Outcome{verb: wait, on: ids} }

// WaitFor is WaitOn, but for no longer than d.
func WaitFor(d time.Duration, ids ...cloud.ID) Outcome { return Outcome{verb: wait, on: ids, after: d} }

// Again commits what the step wrote and runs it at once in a new transaction.
func Again() Outcome { return Outcome{verb: again} }

// Fail finishes the job with an error and keeps what the step wrote. A *cloud.Error is told to the caller, anything
// else is "Internal error" to them and whole in the log.
func Fail(err error) Outcome { return Outcome{verb: fail, err: err} }

// String tells an outcome in tests and logs.
func (o Outcome) String() string {
	switch o.verb {
	case done:
		return "done"
	case fail:
		return fmt.Sprintf("fail: %v", o.err)
	case again:
		return "again"
	default:
		return fmt.Sprintf("wait%v", o.on)
	}
}

// Final tells whether the job is over, and with which error. For tests of steps.
func (o Outcome) Final() (over bool, err error) { return o.verb == done || o.verb == fail, o.err }
