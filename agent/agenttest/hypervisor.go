package agenttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/agent/internal/domain"
)

const (
	downUnknown = domain.DownUnknown
	downGuest   = domain.DownGuest
	downDied    = domain.DownDied
)

// simDomain is a domain; it stays defined when it does not run.
type simDomain struct {
	machine      domain.Machine
	active       bool
	shuttingDown bool
	run          int32
	down         domain.Down
	since        time.Time
	port         uint32
	starts       int
	// Taps without carrier.
	unlinked map[string]bool
}

// simHypervisor is libvirt.
type simHypervisor struct{ h *Host }

// List implements domain.Hypervisor.
func (s simHypervisor) List(ctx context.Context) ([]domain.Seen, error) {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := errors.Join(ctx.Err(), h.broken(OpLibvirt, "")); err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	out := make([]domain.Seen, 0, len(h.domains))
	for id, d := range h.domains {
		seen := domain.Seen{ID: id, Name: d.machine.VM.GetInstanceName(), Active: d.active, Down: d.down, Run: -1}
		if d.active {
			seen.Run, seen.VNCPort = d.run, d.port
			for tap := range d.unlinked {
				seen.Unlinked = append(seen.Unlinked, tap)
			}
			seen.StartEpoch, seen.BootEpoch = d.machine.VM.GetStartEpoch(), d.machine.VM.GetBootEpoch()
		}
		if d.machine.System != nil {
			seen.System, seen.ImageVersion = true, d.machine.System.ImageVersion
		}
		for _, n := range d.machine.Nics {
			seen.Taps, seen.Bridges = append(seen.Taps, n.Tap), append(seen.Bridges, n.Bridge)
		}
		for _, disk := range d.machine.Disks {
			seen.Files = append(seen.Files, disk.Path)
		}
		out = append(out, seen)
	}
	return out, nil
}

// Start implements domain.Hypervisor.
func (s simHypervisor) Start(ctx context.Context, m domain.Machine) error {
	h := s.h
	id := m.VM.GetId()
	if err := h.work(ctx, h.options.Latency.Start); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := errors.Join(h.broken(OpLibvirt, ""), h.broken(OpStart, id)); err != nil {
		return err
	}
	for _, disk := range m.Disks {
		if !h.volumes[disk.Path] {
			return fmt.Errorf("disk %s is not there", disk.Path)
		}
	}
	for other, d := range h.domains {
		if other != id && d.machine.VM.GetInstanceName() == m.VM.GetInstanceName() {
			return fmt.Errorf("domain %s exists with another id", m.VM.GetInstanceName())
		}
	}
	d := h.domains[id]
	if d == nil {
		d = &simDomain{}
		h.domains[id] = d
	}
	if d.active {
		return nil
	}
	h.runs++
	*d = simDomain{machine: m, active: true, run: h.runs, since: time.Now(), port: h.freePort(), starts: d.starts + 1}
	d.unlinked = map[string]bool{}
	for _, n := range m.Nics {
		if n.Unlinked {
			d.unlinked[n.Tap] = true
		}
	}
	h.listen()
	h.poke()
	return nil
}

// Link implements domain.Hypervisor.
func (s simHypervisor) Link(_ context.Context, id string, taps []string, carrier bool) error {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.broken(OpLibvirt, ""); err != nil {
		return err
	}
	d := h.domains[id]
	if d == nil || !d.active {
		return nil
	}
	for _, tap := range taps {
		if carrier {
			delete(d.unlinked, tap)
		} else {
			d.unlinked[tap] = true
		}
	}
	h.listen()
	h.poke()
	return nil
}

// freePort is the lowest VNC port no running domain has. The caller holds h.mu.
func (h *Host) freePort() uint32 {
	used := map[uint32]bool{}
	for _, d := range h.domains {
		if d.active {
			used[d.port] = true
		}
	}
	port := uint32(5900)
	for used[port] {
		port++
	}
	return port
}

// poke tells the agent that a domain changed. The caller holds h.mu.
func (h *Host) poke() {
	for _, wake := range []func(){h.wakeVMs, h.changed} {
		if wake != nil {
			go wake()
		}
	}
}

// Shutdown implements domain.Hypervisor: the guest obeys after a while, unless it is deaf.
func (s simHypervisor) Shutdown(_ context.Context, id string) error {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := errors.Join(h.broken(OpLibvirt, ""), h.broken(OpStop, id)); err != nil {
		return err
	}
	d := h.domains[id]
	if d == nil || !d.active || d.shuttingDown || h.deaf[id] {
		return nil
	}
	d.shuttingDown = true
	run := d.run
	time.AfterFunc(h.options.Latency.Stop, func() { h.end(id, run, downGuest) })
	return nil
}

// end lets one run of a domain end.
func (h *Host) end(id string, run int32, why domain.Down) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.domains[id]
	if d == nil || !d.active || run != 0 && d.run != run {
		return
	}
	d.active, d.shuttingDown, d.down = false, false, why
	h.listen()
	h.poke()
}

// Destroy implements domain.Hypervisor.
func (s simHypervisor) Destroy(ctx context.Context, id string) error {
	h := s.h
	if err := h.work(ctx, h.options.Latency.Stop); err != nil {
		return err
	}
	h.mu.Lock()
	err := errors.Join(h.broken(OpLibvirt, ""), h.broken(OpStop, id))
	h.mu.Unlock()
	if err != nil {
		return err
	}
	h.end(id, 0, downDied)
	return nil
}

// Resume implements domain.Hypervisor.
func (s simHypervisor) Resume(context.Context, string) error { return nil }

// Remove implements domain.Hypervisor.
func (s simHypervisor) Remove(_ context.Context, id string) error {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.broken(OpLibvirt, ""); err != nil {
		return err
	}
	if d := h.domains[id]; d != nil && d.active {
		return fmt.Errorf("domain %s runs", id)
	}
	delete(h.domains, id)
	h.poke()
	return nil
}

// Stats implements domain.Hypervisor.
func (s simHypervisor) Stats(context.Context) (map[string]domain.Usage, error) {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	out := map[string]domain.Usage{}
	for id, d := range h.domains {
		if d.active {
			ran := now.Sub(d.since)
			out[id] = domain.Usage{
				CPUTime: ran / 100, VCPUs: d.machine.VM.GetVcpus(), MemoryKiB: uint64(d.machine.VM.GetMemoryMib()) << 9,
				ReceiveBytes: uint64(ran / time.Millisecond), SendBytes: uint64(ran / time.Millisecond), MeasuredAt: now,
			}
		}
	}
	return out, nil
}

// Running lists the VMs that run, sorted.
func (h *Host) Running() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id, d := range h.domains {
		if d.active {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Defined lists all VMs there are, sorted.
func (h *Host) Defined() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id := range h.domains {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Starts counts how often a VM was started, ever.
func (h *Host) Starts(vm string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.domains[vm]; d != nil {
		return d.starts
	}
	return 0
}

// ShutdownGuest lets the guest of a VM power off by its own wish.
func (h *Host) ShutdownGuest(vm string) { h.end(vm, 0, downGuest) }

// Crash lets a VM's domain die.
func (h *Host) Crash(vm string) { h.end(vm, 0, downDied) }

// Deafen makes a guest ignore the power button, or hear it again.
func (h *Host) Deafen(vm string, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf[vm] = deaf
}

// Volumes lists the files of volumes there are, sorted by id.
func (h *Host) Volumes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for path := range h.volumes {
		ids = append(ids, strings.TrimSuffix(path[strings.LastIndexByte(path, '/')+1:], ".qcow2"))
	}
	slices.Sort(ids)
	return ids
}

// Networks lists the networks whose links are made, sorted.
func (h *Host) Networks() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id := range h.links {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Carrying lists the system VMs that run with carrier on all their NICs, sorted.
func (h *Host) Carrying() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id, d := range h.domains {
		if d.active && d.machine.System != nil && len(d.unlinked) == 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
