package domain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// diary is a hypervisor with one possible domain that writes down what it was told.
type diary struct {
	seen *Seen
	told []string
	fail error
	// The guest ignores the power button.
	deaf bool
}

func (d *diary) say(format string, args ...any) error {
	d.told = append(d.told, fmt.Sprintf(format, args...))
	return d.fail
}

func (d *diary) List(context.Context) ([]Seen, error) {
	if d.seen == nil {
		return nil, nil
	}
	return []Seen{*d.seen}, nil
}

func (d *diary) Start(_ context.Context, m Machine) error {
	if err := d.say("start %d.%d", m.VM.GetStartEpoch(), m.VM.GetBootEpoch()); err != nil {
		return err
	}
	d.seen = &Seen{ID: m.VM.GetId(), Active: true, StartEpoch: m.VM.GetStartEpoch(), BootEpoch: m.VM.GetBootEpoch()}
	return nil
}

func (d *diary) Shutdown(context.Context, string) error {
	if err := d.say("ask"); err != nil || d.deaf {
		return err
	}
	*d.seen = Seen{ID: d.seen.ID, Down: DownGuest}
	return nil
}

func (d *diary) Destroy(context.Context, string) error {
	if err := d.say("end"); err != nil {
		return err
	}
	*d.seen = Seen{ID: d.seen.ID, Down: DownDied}
	return nil
}

func (d *diary) Resume(context.Context, string) error { return d.say("resume") }

func (d *diary) Link(_ context.Context, _ string, taps []string, carrier bool) error {
	return d.say("link %v %t", taps, carrier)
}

func (d *diary) Remove(context.Context, string) error {
	if err := d.say("remove"); err != nil {
		return err
	}
	d.seen = nil
	return nil
}

func (d *diary) Stats(context.Context) (map[string]Usage, error) { return nil, nil }

// bench is an applier on a diary with a clock the test turns.
type bench struct {
	t       *testing.T
	diary   *diary
	files   *ledger.Memory
	applier *Applier
	now     time.Time
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, diary: &diary{}, files: &ledger.Memory{}, now: time.Unix(1_700_000_000, 0)}
	b.restart()
	return b
}

// restart is a new agent over the same files and domains.
func (b *bench) restart() {
	facts, _, err := ledger.OpenFacts[ledger.VMFacts](b.files, "vms")
	if err != nil {
		b.t.Fatal(err)
	}
	b.applier = New(Options{
		Hypervisor: b.diary, Facts: facts, HostBoot: "boot", Now: func() time.Time { return b.now },
		Log: slog.New(slog.DiscardHandler),
	})
}

// step takes one step and returns what the hypervisor was told.
func (b *bench) step(want *hostspec.VirtualMachine) (string, time.Duration, error) {
	b.diary.told = nil
	again, err := b.applier.Step(b.t.Context(), want, b.diary.seen, func() (Machine, error) { return Machine{VM: want}, nil })
	return strings.Join(b.diary.told, ", "), again, err
}

// settle steps until nothing more is told.
func (b *bench) settle(want *hostspec.VirtualMachine) {
	b.t.Helper()
	for range 20 {
		told, again, err := b.step(want)
		if err != nil {
			b.t.Fatal(err)
		}
		if told == "" && again == 0 {
			return
		}
		b.now = b.now.Add(again)
	}
	b.t.Fatal("it does not settle")
}

func wanted(power hostspec.PowerState, start, boot uint64) *hostspec.VirtualMachine {
	return &hostspec.VirtualMachine{Id: "vm", Power: power, StartEpoch: start, BootEpoch: boot, StopGraceSeconds: 12}
}

const (
	on  = hostspec.PowerState_POWER_STATE_RUNNING
	off = hostspec.PowerState_POWER_STATE_STOPPED
)

func (b *bench) expect(want *hostspec.VirtualMachine, told string, again time.Duration) {
	b.t.Helper()
	got, after, err := b.step(want)
	if err != nil || got != told || after != again {
		b.t.Fatalf("told %q, again in %s, error %v; want %q, %s", got, after, err, told, again)
	}
	b.now = b.now.Add(after)
}

func TestGracefulThenHard(t *testing.T) {
	b := newBench(t)
	b.diary.deaf = true
	b.expect(wanted(on, 1, 1), "start 1.1", 0)
	stop := wanted(off, 1, 1)
	b.expect(stop, "ask", 5*time.Second)
	b.expect(stop, "ask", 5*time.Second)
	b.expect(stop, "ask", 2*time.Second)
	b.expect(stop, "end", 0)
	b.expect(stop, "", 0)

	b.settle(wanted(on, 2, 1))
	stop.ForcedStop = true
	b.expect(stop, "end", 0)
}

// TestNoGrace: a machine without grace loses its power at once, also when it was asked before, whether it is to stop or to
// begin again.
func TestNoGrace(t *testing.T) {
	b := newBench(t)
	b.settle(wanted(on, 1, 1))
	b.diary.deaf = true
	reboot := wanted(on, 1, 2)
	b.expect(reboot, "ask", 5*time.Second)
	reboot.StopGraceSeconds = 0
	b.expect(reboot, "end", 0)
	b.expect(reboot, "start 1.2", 0)
	b.expect(reboot, "", 0)
	again := wanted(on, 1, 3)
	again.StopGraceSeconds = 0
	b.expect(again, "end", 0)
	b.expect(again, "start 1.3", 0)
	stop := wanted(off, 1, 3)
	stop.StopGraceSeconds = 0
	b.expect(stop, "end", 0)
	b.expect(stop, "", 0)
}

func TestSecondStopHasItsOwnGrace(t *testing.T) {
	b := newBench(t)
	b.settle(wanted(on, 1, 1))
	b.diary.deaf = true
	b.expect(wanted(off, 1, 1), "ask", 5*time.Second)
	// The user changes their mind, and back much later.
	if err := b.applier.Settle("vm", b.applier.Decide(wanted(on, 1, 1), b.diary.seen)); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Hour)
	b.expect(wanted(off, 1, 1), "ask", 5*time.Second)
}

func TestRebootSurvivesTheAgent(t *testing.T) {
	b := newBench(t)
	b.settle(wanted(on, 1, 1))
	b.expect(wanted(on, 1, 2), "ask", 5*time.Second)
	b.restart()
	b.expect(wanted(on, 1, 2), "start 1.2", 0)
	b.restart()
	b.expect(wanted(on, 1, 2), "", 0)
	if diff := cmp.Diff(ledger.VMFacts{StartEpoch: 1, BootEpoch: 2, HostBoot: "boot"}, b.applier.Facts("vm")); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestRestartsArePaced(t *testing.T) {
	b := newBench(t)
	vm := wanted(on, 1, 1)
	vm.Ha = true
	b.settle(vm)
	var waits []time.Duration
	for range 8 {
		b.diary.seen = &Seen{ID: "vm", Down: DownDied}
		begin := b.now
		for !b.diary.seen.Active {
			_, again, err := b.step(vm)
			if err != nil {
				t.Fatal(err)
			}
			b.now = b.now.Add(again)
		}
		waits = append(waits, b.now.Sub(begin))
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}, waits); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := b.applier.Facts("vm").Restarts; got != 8 {
		t.Errorf("%d restarts counted, want 8", got)
	}
}

func TestFailedStartIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.diary.fail = errors.New("no memory")
	if _, _, err := b.step(wanted(on, 1, 1)); err == nil || !strings.Contains(err.Error(), "start vm vm: no memory") {
		t.Fatalf("error %v", err)
	}
	b.diary.fail = nil
	b.expect(wanted(on, 1, 1), "start 1.1", 0)
}

// TestShuffled walks one VM through many wants in random order, with agents and guests dying in between. Whatever
// happened before, a want that stands still is reached.
func TestShuffled(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t)
		start, boot := uint64(1), uint64(1)
		for range 30 {
			b.diary.deaf = random.IntN(4) == 0
			want := wanted(off, start, boot)
			switch random.IntN(4) {
			case 0:
				start++
				want = wanted(on, start, boot)
			case 1:
				boot++
				want = wanted(on, start, boot)
			case 2:
				want = wanted(on, start, boot)
			}
			want.Ha = random.IntN(2) == 0
			for range random.IntN(4) {
				if _, again, err := b.step(want); err != nil {
					t.Fatal(err)
				} else if random.IntN(2) == 0 {
					b.now = b.now.Add(again)
				}
				if random.IntN(5) == 0 {
					b.restart()
				}
				if random.IntN(8) == 0 && b.diary.seen != nil && b.diary.seen.Active {
					*b.diary.seen = Seen{ID: "vm", Down: Down(random.IntN(3))}
				}
			}
			if random.IntN(3) == 0 {
				start++
				want.StartEpoch = start
				b.settle(want)
				if up := b.diary.seen != nil && b.diary.seen.Active; up != (want.GetPower() == on) {
					t.Fatalf("seed %d: wants %s, domain is up: %t", seed, want.GetPower(), up)
				}
			}
		}
	}
}

func TestRemove(t *testing.T) {
	b := newBench(t)
	b.settle(wanted(on, 1, 1))
	for _, told := range []string{"end, remove", ""} {
		b.diary.told = nil
		if err := b.applier.Remove(t.Context(), b.diary.seen, "vm"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.diary.told, ", "); got != told {
			t.Errorf("told %q, want %q", got, told)
		}
	}
	if left := b.applier.Remembered(); len(left) != 0 {
		t.Errorf("remembered: %v", left)
	}
}
