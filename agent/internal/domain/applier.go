package domain

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

const (
	// A guest still in its boot loader does not hear the power button, so it is pressed again.
	askAgain = 5 * time.Second
	// After asking a guest to stop that is then wanted running after all, how long its going is still our doing.
	askEcho = 2 * time.Minute
	// Pace of restarts of a guest that keeps dying: doubling from the first to the last.
	firstRestart, lastRestart = time.Second, time.Minute
	// A run this long forgets earlier deaths.
	longRun = 10 * time.Minute
)

// Applier takes the steps Decide names. It may be used by many goroutines, but by one at a time per VM.
type Applier struct {
	hypervisor Hypervisor
	facts      *ledger.Facts[ledger.VMFacts]
	hostBoot   string
	hostEnding func() bool
	tireless   bool
	now        func() time.Time
	log        *slog.Logger

	mu   sync.Mutex
	mind map[string]*memory
}

// memory is what is known of a VM only while this agent lives.
type memory struct {
	askedFirst, askedLast time.Time
	echoUntil             time.Time
	started               time.Time
	deaths                int
}

// Options of an Applier.
type Options struct {
	Hypervisor Hypervisor
	Facts      *ledger.Facts[ledger.VMFacts]
	// Boot of the host: another value after a reboot.
	HostBoot string
	// Tells that the host is shutting down.
	HostEnding func() bool
	// Tireless is for appliances: see Past.
	Tireless bool
	Now      func() time.Time
	Log      *slog.Logger
}

// New makes an Applier.
func New(o Options) *Applier {
	if o.HostEnding == nil {
		o.HostEnding = func() bool { return false }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Applier{
		hypervisor: o.Hypervisor, facts: o.Facts, hostBoot: o.HostBoot, hostEnding: o.HostEnding, now: o.Now, log: o.Log,
		tireless: o.Tireless,
		mind:     map[string]*memory{},
	}
}

// Decide looks at one VM; it changes nothing.
func (a *Applier) Decide(want *hostspec.VirtualMachine, seen *Seen) Verdict {
	facts, known := a.facts.Get(want.GetId())
	past := Past{Facts: facts, Known: known, HostBoot: a.hostBoot, Tireless: a.tireless}
	if known && facts.Cause == "" && (seen == nil || !seen.Active) {
		past.HostEnding = a.hostEnding()
	}
	if facts.Asked == askedStop {
		past.Echo = a.echo(want.GetId())
	}
	return Decide(want, seen, past)
}

// echo says whether a power-off this agent, or the one before it, asked for may still be under way.
func (a *Applier) echo(id string) bool {
	m := a.memory(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.echoUntil.IsZero() {
		m.echoUntil = a.now().Add(askEcho)
	}
	return a.now().Before(m.echoUntil)
}

// Unsettled says whether a decision found out something that is not written down yet.
func (a *Applier) Unsettled(id string, v Verdict) bool {
	old, known := a.facts.Get(id)
	return v.Action != Wait && (!known || old != v.Facts)
}

// Settle writes down what a decision found out.
func (a *Applier) Settle(id string, v Verdict) error {
	if v.Action == Wait {
		return nil
	}
	if v.Action == Rest {
		a.forgetAsking(id)
	}
	return a.facts.Put(id, v.Facts)
}

// Facts of a VM as written down.
func (a *Applier) Facts(id string) ledger.VMFacts {
	f, _ := a.facts.Get(id)
	return f
}

// Remembered are the ids of all VMs with facts.
func (a *Applier) Remembered() []string {
	var ids []string
	for id := range a.facts.All() {
		ids = append(ids, id)
	}
	return ids
}

// Step takes one step towards what is wanted. again is when to look once more even if nothing happens until then.
func (a *Applier) Step(ctx context.Context, want *hostspec.VirtualMachine, seen *Seen,
	resolve func() (Machine, error),
) (again time.Duration, err error) {
	v := a.Decide(want, seen)
	switch v.Action {
	case Start:
		return a.start(ctx, want, v, resolve)
	case TakeDown:
		if err := a.Settle(want.GetId(), v); err != nil {
			return 0, err
		}
		grace := time.Duration(want.GetStopGraceSeconds()) * time.Second
		if want.GetForcedStop() && want.GetPower() == hostspec.PowerState_POWER_STATE_STOPPED {
			grace = 0
		}
		return a.takeDown(ctx, want.GetId(), grace)
	case Resume:
		return askAgain, a.hypervisor.Resume(ctx, want.GetId())
	case Wait:
		return askAgain, nil
	default:
		return 0, a.Settle(want.GetId(), v)
	}
}

func (a *Applier) memory(id string) *memory {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.mind[id]
	if m == nil {
		m = &memory{}
		a.mind[id] = m
	}
	return m
}

func (a *Applier) start(ctx context.Context, want *hostspec.VirtualMachine, v Verdict,
	resolve func() (Machine, error),
) (time.Duration, error) {
	id := want.GetId()
	if v.Restart {
		if wait := a.pace(id); wait > 0 {
			return wait, nil
		}
	}
	machine, err := resolve()
	if err != nil {
		return 0, err
	}
	if v.Restart {
		// Counted before the start: a crash of the agent in between must not hide a restart.
		v.Facts.Restarts++
		if err := a.facts.Put(id, v.Facts); err != nil {
			return 0, err
		}
	}
	begin := a.now()
	if err := a.hypervisor.Start(ctx, machine); err != nil {
		return 0, fmt.Errorf("start vm %s: %w", id, err)
	}
	m := a.memory(id)
	a.mu.Lock()
	m.started, m.askedFirst, m.askedLast = a.now(), time.Time{}, time.Time{}
	a.mu.Unlock()
	a.log.Info("started vm", "vm", id, "instance", want.GetInstanceName(), "start_epoch", want.GetStartEpoch(),
		"boot_epoch", want.GetBootEpoch(), "restart", v.Restart, "took", a.now().Sub(begin))
	// That it runs, and for which epochs, the domain itself says; the facts follow at the next look.
	return 0, nil
}

// pace says how long to wait before the next restart.
func (a *Applier) pace(id string) time.Duration {
	m := a.memory(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.started.IsZero() {
		return 0
	}
	ran := a.now().Sub(m.started)
	if ran > longRun {
		m.deaths = 0
	}
	wait := min(firstRestart<<min(m.deaths, 10), lastRestart)
	if ran < wait {
		return wait - ran
	}
	m.deaths++
	return 0
}

// takeDown asks the guest, and ends the domain when its grace is over.
func (a *Applier) takeDown(ctx context.Context, id string, grace time.Duration) (time.Duration, error) {
	now := a.now()
	m := a.memory(id)
	a.mu.Lock()
	if m.askedFirst.IsZero() {
		m.askedFirst = now
	}
	left := m.askedFirst.Add(grace).Sub(now)
	ask := now.Sub(m.askedLast) >= askAgain
	if left > 0 && ask {
		m.askedLast = now
	}
	m.echoUntil = now.Add(askEcho)
	a.mu.Unlock()
	if left <= 0 {
		a.log.Info("ending vm", "vm", id, "grace", grace)
		if err := a.hypervisor.Destroy(ctx, id); err != nil {
			return 0, fmt.Errorf("end vm %s: %w", id, err)
		}
		a.forgetAsking(id)
		return 0, nil
	}
	if ask {
		a.log.Info("asking vm to power off", "vm", id, "grace_left", left)
		if err := a.hypervisor.Shutdown(ctx, id); err != nil {
			return 0, fmt.Errorf("ask vm %s to power off: %w", id, err)
		}
	}
	return min(left, askAgain), nil
}

func (a *Applier) forgetAsking(id string) {
	m := a.memory(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	m.askedFirst, m.askedLast = time.Time{}, time.Time{}
}

// Remove ends and undefines a VM that is in the spec no more, and forgets it. Absence means deleted, so the guest is
// not asked.
func (a *Applier) Remove(ctx context.Context, seen *Seen, id string) error {
	if seen != nil {
		if seen.Active {
			a.log.Info("removing running vm that is not in the spec", "vm", id)
			if err := a.hypervisor.Destroy(ctx, id); err != nil {
				return fmt.Errorf("end vm %s: %w", id, err)
			}
		}
		if err := a.hypervisor.Remove(ctx, id); err != nil {
			return fmt.Errorf("remove vm %s: %w", id, err)
		}
	}
	a.mu.Lock()
	delete(a.mind, id)
	a.mu.Unlock()
	return a.facts.Delete(id)
}
