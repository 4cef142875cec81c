package domain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"
)

// Libvirt is the Hypervisor of real hosts. It keeps three connections, because the RPC client answers one connection's
// replies one after the other and knows no deadlines: one for events, one for questions, one for calls that take long.
// A call that outlives its context costs its connection, which the next call opens anew.
type Libvirt struct {
	platform Platform
	ask      *connection
	work     *connection
	events   *connection
	log      *slog.Logger

	mu   sync.Mutex
	live map[string]liveDomain
	// Domains whose qemu was ended by a signal, by id: libvirt files that under "shut down", as if by the guest.
	signalled map[string]bool
}

// liveDomain is what the XML of one run of a domain says; it is read once per run.
type liveDomain struct {
	run  int32
	ours bool
	seen Seen
}

const askDeadline = 20 * time.Second

// NewLibvirt uses the daemon at a unix socket. It connects when first asked.
func NewLibvirt(socket string, p Platform, log *slog.Logger) *Libvirt {
	return &Libvirt{
		platform: p, log: log,
		ask: newConnection(socket), work: newConnection(socket), events: newConnection(socket),
		live: map[string]liveDomain{}, signalled: map[string]bool{},
	}
}

// Close ends the connections; domains go on.
func (l *Libvirt) Close() {
	for _, c := range []*connection{l.ask, l.work, l.events} {
		c.close()
	}
}

// Version of hypervisor and libvirt, as "7.2.22" and "9.0.0".
func (l *Libvirt) Version(ctx context.Context) (hypervisor, library string, err error) {
	err = l.ask.call(ctx, func(v *libvirt.Libvirt) error {
		h, err := v.ConnectGetVersion()
		if err != nil {
			return err
		}
		n, err := v.ConnectGetLibVersion()
		if err != nil {
			return err
		}
		hypervisor, library = dotted(h), dotted(n)
		return nil
	})
	if err != nil {
		return "", "", fmt.Errorf("get libvirt version: %w", err)
	}
	return hypervisor, library, nil
}

// dotted is libvirt's number 1,000,000*major + 1,000*minor + release in letters.
func dotted(n uint64) string { return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000) }

// List implements Hypervisor.
func (l *Libvirt) List(ctx context.Context) ([]Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	var out []Seen
	err := l.ask.call(ctx, func(v *libvirt.Libvirt) error {
		domains, _, err := v.ConnectListAllDomains(1, 0)
		if err != nil {
			return err
		}
		out = out[:0]
		present := make(map[string]bool, len(domains))
		for _, d := range domains {
			seen, ours, err := l.look(v, d)
			switch {
			case libvirt.IsNotFound(err):
				continue
			case err != nil:
				return fmt.Errorf("domain %s: %w", d.Name, err)
			}
			present[uuid.UUID(d.UUID).String()] = true
			if ours {
				out = append(out, seen)
			}
		}
		l.forgetGone(present)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	return out, nil
}

func (l *Libvirt) forgetGone(present map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.live {
		if !present[id] {
			delete(l.live, id)
			delete(l.signalled, id)
		}
	}
}

// look reads one domain: its state each time, its XML once per run.
func (l *Libvirt) look(v *libvirt.Libvirt, d libvirt.Domain) (Seen, bool, error) {
	id := uuid.UUID(d.UUID).String()
	l.mu.Lock()
	known, ok := l.live[id]
	l.mu.Unlock()
	if !ok || known.run != d.ID || known.seen.Name != d.Name {
		text, err := v.DomainGetXMLDesc(d, 0)
		if err != nil {
			return Seen{}, false, err
		}
		known, err = readDomain(text)
		if err != nil {
			return Seen{}, false, err
		}
		known.run = d.ID
		l.mu.Lock()
		l.live[id] = known
		l.mu.Unlock()
	}
	if !known.ours {
		return Seen{}, false, nil
	}
	state, reason, err := v.DomainGetState(d, 0)
	if err != nil {
		return Seen{}, false, err
	}
	seen := known.seen
	seen.Run = d.ID
	l.readState(&seen, libvirt.DomainState(state), reason)
	return seen, true, nil
}

func (l *Libvirt) readState(seen *Seen, state libvirt.DomainState, reason int32) {
	switch state {
	case libvirt.DomainShutoff, libvirt.DomainCrashed, libvirt.DomainNostate:
		seen.StartEpoch, seen.BootEpoch, seen.VNCPort = 0, 0, 0
		if state != libvirt.DomainShutoff {
			seen.Down = DownDied
			return
		}
		switch libvirt.DomainShutoffReason(reason) {
		case libvirt.DomainShutoffShutdown:
			seen.Down = DownGuest
			l.mu.Lock()
			if l.signalled[seen.ID] {
				seen.Down = DownDied
			}
			l.mu.Unlock()
		case libvirt.DomainShutoffDestroyed, libvirt.DomainShutoffCrashed, libvirt.DomainShutoffFailed:
			seen.Down = DownDied
		}
	case libvirt.DomainPaused, libvirt.DomainPmsuspended:
		seen.Active = true
		seen.Paused = pausedWhy(state, reason)
	default:
		seen.Active = true
	}
}

// pausedWhy leaves out pauses that libvirt itself ends soon.
func pausedWhy(state libvirt.DomainState, reason int32) string {
	if state == libvirt.DomainPmsuspended {
		return ""
	}
	switch libvirt.DomainPausedReason(reason) {
	case libvirt.DomainPausedIoerror:
		return "guest is paused: an input/output error on its disk, or no space left for it"
	case libvirt.DomainPausedUser, libvirt.DomainPausedUnknown:
		return "guest is paused by hand"
	case libvirt.DomainPausedCrashed:
		return "guest is paused: it crashed"
	case libvirt.DomainPausedWatchdog:
		return "guest is paused by its watchdog"
	}
	return ""
}

func readDomain(text string) (liveDomain, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(text); err != nil {
		return liveDomain{}, fmt.Errorf("read domain xml: %w", err)
	}
	out := liveDomain{seen: Seen{ID: d.UUID, Name: d.Name}}
	if d.Metadata == nil {
		return out, nil
	}
	m, ok := readMark(d.Metadata.XML)
	if !ok || m.ID != d.UUID {
		return out, nil
	}
	out.ours = true
	out.seen.StartEpoch, out.seen.BootEpoch = m.StartEpoch, m.BootEpoch
	out.seen.System, out.seen.ImageVersion = m.Image != "", m.Image
	if d.Devices == nil {
		return out, nil
	}
	for _, g := range d.Devices.Graphics {
		if g.VNC != nil && g.VNC.Port > 0 {
			out.seen.VNCPort = uint32(g.VNC.Port)
		}
	}
	for _, i := range d.Devices.Interfaces {
		if i.Target != nil {
			out.seen.Taps = append(out.seen.Taps, i.Target.Dev)
		}
		if i.Target != nil && i.Link != nil && i.Link.State == "down" {
			out.seen.Unlinked = append(out.seen.Unlinked, i.Target.Dev)
		}
		if i.Source != nil && i.Source.Bridge != nil {
			out.seen.Bridges = append(out.seen.Bridges, i.Source.Bridge.Bridge)
		}
	}
	for _, d := range d.Devices.Disks {
		if d.Source != nil && d.Source.File != nil {
			out.seen.Files = append(out.seen.Files, d.Source.File.File)
		}
	}
	return out, nil
}

// lookup finds a domain of ours. A domain without our mark is an error: its id belongs to somebody else.
func (l *Libvirt) lookup(v *libvirt.Libvirt, id string) (d libvirt.Domain, found bool, err error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return d, false, err
	}
	d, err = v.DomainLookupByUUID(libvirt.UUID(parsed))
	if libvirt.IsNotFound(err) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	text, err := v.DomainGetXMLDesc(d, libvirt.DomainXMLInactive)
	if libvirt.IsNotFound(err) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	known, err := readDomain(text)
	if err != nil {
		return d, false, err
	}
	if !known.ours {
		return d, false, fmt.Errorf("domain %s was not made by this agent and is left alone", d.Name)
	}
	return d, true, nil
}

// Start implements Hypervisor.
func (l *Libvirt) Start(ctx context.Context, m Machine) error {
	described, err := l.platform.describe(m)
	if err != nil {
		return err
	}
	text, err := described.Marshal()
	if err != nil {
		return fmt.Errorf("write domain xml: %w", err)
	}
	if l.platform.ConsoleDir != "" {
		if err := os.MkdirAll(l.platform.ConsoleDir, 0o711); err != nil {
			return fmt.Errorf("make console directory: %w", err)
		}
	}
	if err := makeChannel(m.System); err != nil {
		return err
	}
	id := m.VM.GetId()
	return l.work.call(ctx, func(v *libvirt.Libvirt) error {
		old, found, err := l.lookup(v, id)
		if err != nil {
			return err
		}
		if found && old.Name != m.VM.GetInstanceName() {
			if err := v.DomainUndefineFlags(old, undefineAll); err != nil && !libvirt.IsNotFound(err) {
				return fmt.Errorf("undefine under old name %s: %w", old.Name, err)
			}
		}
		d, err := v.DomainDefineXML(text)
		if err != nil {
			return fmt.Errorf("define: %w", err)
		}
		l.mu.Lock()
		delete(l.signalled, id)
		delete(l.live, id)
		l.mu.Unlock()
		if _, err := v.DomainCreateWithFlags(d, 0); err != nil && !isCode(err, libvirt.ErrOperationInvalid) {
			return fmt.Errorf("create: %w", err)
		} else if err != nil {
			// "domain is already running": somebody was faster, which is as wanted.
			if active, aerr := v.DomainIsActive(d); aerr != nil || active == 0 {
				return fmt.Errorf("create: %w", err)
			}
		}
		return nil
	})
}

const undefineAll = libvirt.DomainUndefineManagedSave | libvirt.DomainUndefineSnapshotsMetadata |
	libvirt.DomainUndefineNvram | libvirt.DomainUndefineCheckpointsMetadata

func isCode(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// with runs f on one domain of ours, which may not be there.
func (l *Libvirt) with(ctx context.Context, c *connection, id string, f func(*libvirt.Libvirt, libvirt.Domain) error) error {
	return c.call(ctx, func(v *libvirt.Libvirt) error {
		d, found, err := l.lookup(v, id)
		if err != nil || !found {
			return err
		}
		return f(v, d)
	})
}

// Shutdown implements Hypervisor.
func (l *Libvirt) Shutdown(ctx context.Context, id string) error {
	return l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error {
		return unlessIdle(v.DomainShutdownFlags(d, libvirt.DomainShutdownAcpiPowerBtn))
	})
}

// Destroy implements Hypervisor.
func (l *Libvirt) Destroy(ctx context.Context, id string) error {
	return l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error {
		return unlessIdle(v.DomainDestroyFlags(d, libvirt.DomainDestroyDefault))
	})
}

// Resume implements Hypervisor.
func (l *Libvirt) Resume(ctx context.Context, id string) error {
	return l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error { return v.DomainResume(d) })
}

// Remove implements Hypervisor. The console's log goes with the domain.
func (l *Libvirt) Remove(ctx context.Context, id string) error {
	err := l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error {
		if err := v.DomainUndefineFlags(d, undefineAll); err != nil && !libvirt.IsNotFound(err) {
			return err
		}
		return nil
	})
	if err != nil || l.platform.ConsoleDir == "" {
		return err
	}
	logs, err := os.ReadDir(l.platform.ConsoleDir)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("list console logs: %w", err)
	}
	for _, e := range logs {
		// virtlogd rotates <id>.log to <id>.log.0 and so on.
		if strings.HasPrefix(e.Name(), id+".log") {
			if err := os.Remove(l.platform.ConsoleDir + "/" + e.Name()); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("remove console log: %w", err)
			}
		}
	}
	return nil
}

// unlessIdle lets a call for a running domain pass that came too late.
func unlessIdle(err error) error {
	if libvirt.IsNotFound(err) || isCode(err, libvirt.ErrOperationInvalid) {
		return nil
	}
	return err
}
