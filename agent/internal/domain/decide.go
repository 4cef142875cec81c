package domain

import (
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Action is the next step for one VM.
type Action uint8

// The actions.
const (
	// Rest: the VM is as it should be, or stays as it is until the spec changes.
	Rest Action = iota
	// Start it; nothing runs.
	Start
	// TakeDown asks the guest, then pulls the plug; what follows is decided when it is down.
	TakeDown
	// Resume a domain that the hypervisor paused.
	Resume
	// Wait: not enough is known yet.
	Wait
)

func (a Action) String() string {
	return [...]string{"rest", "start", "take down", "resume", "wait"}[a]
}

// Verdict is a decision about one VM.
type Verdict struct {
	Action Action
	// Facts to remember before acting.
	Facts ledger.VMFacts
	// What to tell the coordinator while Action is Rest.
	State hostspec.VmState
	Cause hostspec.StopCause
	// Restart marks a start that heals a crash: counted, and paced.
	Restart bool
}

// Past is what is remembered about a VM.
type Past struct {
	Facts ledger.VMFacts
	// Known is false when nothing was ever written down.
	Known bool
	// Boot of the host now.
	HostBoot string
	// The guest was asked to power off so recently that its going is still our doing.
	Echo bool
	// The host itself is going down: guests that end now were not told to by anybody that matters.
	HostEnding bool
	// An appliance has no wish of its own to be down: whatever ended it, it is started again.
	Tireless bool
}

// Decide says what to do next about a VM. seen is nil when the hypervisor has no such domain.
func Decide(want *hostspec.VirtualMachine, seen *Seen, past Past) Verdict {
	if want.GetPower() == hostspec.PowerState_POWER_STATE_STOPPED {
		return decideStopped(seen, past)
	}
	if seen != nil && seen.Active {
		return decideRunning(want, seen, past)
	}
	return decideDown(want, seen, past)
}

func decideStopped(seen *Seen, past Past) Verdict {
	facts := past.Facts
	if seen != nil && seen.Active {
		facts.StartEpoch = max(facts.StartEpoch, seen.StartEpoch)
		facts.BootEpoch = max(facts.BootEpoch, seen.BootEpoch)
		facts.Asked = askedStop
		return Verdict{Action: TakeDown, Facts: facts}
	}
	facts.Asked, facts.HostBoot, facts.Cause = "", "", ledger.CauseWanted
	return Verdict{
		Facts: facts,
		State: hostspec.VmState_VM_STATE_STOPPED,
		Cause: hostspec.StopCause_STOP_CAUSE_WANTED,
	}
}

const (
	askedStop   = "stop"
	askedReboot = "reboot"
)

// decideRunning is for a VM that should run and does. A start epoch above the domain's is met by its running: the
// domain is not touched for it. A boot epoch above it is a reboot, unless it came with a new start epoch.
func decideRunning(want *hostspec.VirtualMachine, seen *Seen, past Past) Verdict {
	facts := past.Facts
	start, boot := max(facts.StartEpoch, seen.StartEpoch), max(facts.BootEpoch, seen.BootEpoch)
	if facts.Asked == askedStop && !past.Echo {
		facts.Asked = ""
	}
	if facts.Asked == askedReboot && seen.BootEpoch >= want.GetBootEpoch() {
		facts.Asked = ""
	}
	if facts.Asked == askedReboot || want.GetBootEpoch() > boot && want.GetStartEpoch() <= start {
		facts.StartEpoch, facts.Asked = start, askedReboot
		return Verdict{Action: TakeDown, Facts: facts}
	}
	facts.StartEpoch = max(start, want.GetStartEpoch())
	facts.BootEpoch = max(boot, want.GetBootEpoch())
	facts.Cause, facts.HostBoot = "", past.HostBoot
	v := Verdict{Facts: facts, State: hostspec.VmState_VM_STATE_RUNNING}
	if seen.Paused != "" {
		v.Action = Resume
	}
	return v
}

// decideDown is for a VM that should run and does not.
func decideDown(want *hostspec.VirtualMachine, seen *Seen, past Past) Verdict {
	facts := past.Facts
	start := Verdict{Action: Start, Facts: facts}
	switch {
	case !past.Known, want.GetStartEpoch() > facts.StartEpoch, facts.Asked != "", facts.Cause == ledger.CauseWanted:
		return start
	case past.HostEnding:
		return Verdict{Action: Wait, Facts: facts}
	case facts.Cause == "" && facts.HostBoot == "":
		// Never seen running since it was asked to: an earlier start failed.
		return start
	case facts.Cause == "" && facts.HostBoot != past.HostBoot:
		// It ran when the host went down.
		return start
	case facts.Cause == "":
		facts.Cause = ledger.CauseCrashed
		if seen != nil && seen.Down == DownGuest {
			facts.Cause = ledger.CauseGuest
		}
		facts.HostBoot = ""
	}
	if facts.Cause == ledger.CauseGuest && !past.Tireless {
		return Verdict{Facts: facts, State: hostspec.VmState_VM_STATE_STOPPED, Cause: hostspec.StopCause_STOP_CAUSE_GUEST}
	}
	if want.GetHa() {
		return Verdict{Action: Start, Facts: facts, Restart: true}
	}
	return Verdict{Facts: facts, State: hostspec.VmState_VM_STATE_STOPPED, Cause: hostspec.StopCause_STOP_CAUSE_CRASHED}
}
