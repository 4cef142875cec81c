package domain

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

const (
	vmRunning = hostspec.VmState_VM_STATE_RUNNING
	vmStopped = hostspec.VmState_VM_STATE_STOPPED

	byWish  = hostspec.StopCause_STOP_CAUSE_WANTED
	byGuest = hostspec.StopCause_STOP_CAUSE_GUEST
	byCrash = hostspec.StopCause_STOP_CAUSE_CRASHED
)

func TestDecide(t *testing.T) {
	type facts = ledger.VMFacts
	run := func(start, boot uint64) *hostspec.VirtualMachine {
		return &hostspec.VirtualMachine{Power: hostspec.PowerState_POWER_STATE_RUNNING, StartEpoch: start, BootEpoch: boot}
	}
	ha := func(start, boot uint64) *hostspec.VirtualMachine {
		vm := run(start, boot)
		vm.Ha = true
		return vm
	}
	stop := &hostspec.VirtualMachine{Power: hostspec.PowerState_POWER_STATE_STOPPED, StartEpoch: 1, BootEpoch: 1}
	up := func(start, boot uint64) *Seen { return &Seen{Active: true, StartEpoch: start, BootEpoch: boot} }
	down := func(why Down) *Seen { return &Seen{Down: why} }
	was := func(f facts) Past { return Past{Facts: f, Known: true, HostBoot: "now"} }
	live := facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now"}
	tests := []struct {
		name string
		want *hostspec.VirtualMachine
		seen *Seen
		past Past
		out  Verdict
	}{
		{"new", run(1, 1), nil, Past{HostBoot: "now"}, Verdict{Action: Start}},
		{
			"an appliance that shut itself down", ha(1, 1), down(DownGuest),
			Past{Facts: live, Known: true, HostBoot: "now", Tireless: true},
			Verdict{Action: Start, Restart: true, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}},
		},
		{
			"new but stopped", stop, nil,
			Past{HostBoot: "now"},
			Verdict{State: vmStopped, Cause: byWish, Facts: facts{Cause: ledger.CauseWanted}},
		},
		{"as wanted", run(1, 1), up(1, 1), was(live), Verdict{State: vmRunning, Facts: live}},
		{"running, and this agent knows nothing of it", run(1, 1), up(1, 1), Past{HostBoot: "now"}, Verdict{State: vmRunning, Facts: live}},
		{
			"paused", run(1, 1), &Seen{Active: true, StartEpoch: 1, BootEpoch: 1, Paused: "no space"}, was(live),
			Verdict{Action: Resume, State: vmRunning, Facts: live},
		},
		{
			"start epoch above a running domain's is met by it", run(2, 3), up(1, 1), was(live),
			Verdict{State: vmRunning, Facts: facts{StartEpoch: 2, BootEpoch: 3, HostBoot: "now"}},
		},
		{
			"reboot", run(1, 2), up(1, 1), was(live),
			Verdict{Action: TakeDown, Facts: facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedReboot}},
		},
		{
			"reboot half-way", run(1, 2), down(DownGuest), was(facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedReboot}),
			Verdict{Action: Start, Facts: facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedReboot}},
		},
		{
			"reboot done, agent died before it wrote that down", run(1, 2), up(1, 2),
			was(facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedReboot}),
			Verdict{State: vmRunning, Facts: facts{StartEpoch: 1, BootEpoch: 2, HostBoot: "now"}},
		},
		{
			"guest powered off", run(1, 1), down(DownGuest), was(live),
			Verdict{State: vmStopped, Cause: byGuest, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}},
		},
		{
			"guest powered off, offering has HA", ha(1, 1), down(DownGuest), was(live),
			Verdict{State: vmStopped, Cause: byGuest, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}},
		},
		{
			"guest powered off and libvirt forgot", run(1, 1), down(DownUnknown), was(facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}),
			Verdict{State: vmStopped, Cause: byGuest, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}},
		},
		{
			"guest powered off, user starts it", run(2, 1), down(DownGuest), was(facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}),
			Verdict{Action: Start, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseGuest}},
		},
		{
			"died", run(1, 1), down(DownDied), was(live),
			Verdict{State: vmStopped, Cause: byCrash, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseCrashed}},
		},
		{
			"undefined by hand", run(1, 1), nil, was(live),
			Verdict{State: vmStopped, Cause: byCrash, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseCrashed}},
		},
		{
			"died, offering has HA", ha(1, 1), down(DownDied), was(live),
			Verdict{Action: Start, Restart: true, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseCrashed}},
		},
		{
			"host was without power", run(1, 1), down(DownUnknown), was(facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "before"}),
			Verdict{Action: Start, Facts: facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "before"}},
		},
		{
			"host is going down", run(1, 1), down(DownGuest),
			Past{Facts: live, Known: true, HostBoot: "now", HostEnding: true},
			Verdict{Action: Wait, Facts: live},
		},
		{"stop", stop, up(1, 1), was(live), Verdict{Action: TakeDown, Facts: facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedStop}}},
		{
			"stop done", stop, down(DownGuest), was(facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedStop}),
			Verdict{State: vmStopped, Cause: byWish, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseWanted}},
		},
		{
			"stop of one that powered off itself", stop, down(DownGuest), was(facts{StartEpoch: 1, Cause: ledger.CauseGuest}),
			Verdict{State: vmStopped, Cause: byWish, Facts: facts{StartEpoch: 1, Cause: ledger.CauseWanted}},
		},
		{
			"stop, then wanted after all while the guest goes", run(1, 1), down(DownGuest), was(facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedStop}),
			Verdict{Action: Start, Facts: facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedStop}},
		},
		{
			"stop ignored, wanted again, long ago", run(1, 1), up(1, 1), was(facts{StartEpoch: 1, BootEpoch: 1, HostBoot: "now", Asked: askedStop}),
			Verdict{State: vmRunning, Facts: live},
		},
		{
			"stopped, then wanted under the same epoch", run(1, 1), down(DownUnknown), was(facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseWanted}),
			Verdict{Action: Start, Facts: facts{StartEpoch: 1, BootEpoch: 1, Cause: ledger.CauseWanted}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Decide(tt.want, tt.seen, tt.past)
			if diff := cmp.Diff(tt.out, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// Deciding again about what was written down changes nothing.
			if got.Action == Rest {
				again := Decide(tt.want, tt.seen, Past{Facts: got.Facts, Known: true, HostBoot: "now"})
				if diff := cmp.Diff(got, again); diff != "" {
					t.Errorf("second decision (-first +second):\n%s", diff)
				}
			}
		})
	}
}
