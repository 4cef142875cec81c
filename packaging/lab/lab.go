package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/packaging/process"
)

// closeTimeout bounds removal, which must also end when a host hangs.
const closeTimeout = 30 * time.Second

// Lab is a set of hosts and the network between them.
type Lab struct {
	cfg   Config
	hosts []*Host

	mu     sync.Mutex
	record record
	// children counts the processes this one started and must wait for, lest
	// they stay as zombies.
	children sync.WaitGroup
}

// New makes the network of a lab, hosts powered off. Leftovers of a dead run
// of the same name are removed first; a lab of the name that is in use is an
// error.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if !isMain {
		return nil, errors.New("make lab: lab.Main was not called first in main or TestMain")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("make lab: namespaces and bridges need root")
	}
	if err := evict(ctx, cfg.Name); err != nil {
		return nil, err
	}
	l, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	if err := l.makeNetwork(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := l.note(func(r *record) { r.Whole = true }); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// prepare makes the record and the directory.
func prepare(cfg Config) (*Lab, error) {
	start, err := process.StartTime(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("read own start time: %w", err)
	}
	_, statErr := os.Stat(cfg.Dir)
	l := newLab(cfg, record{
		Name: cfg.Name, Dir: cfg.Dir, Hosts: cfg.Hosts, Mgmt: cfg.MgmtPrefix, Public: cfg.PublicPrefix,
		AttachRoot: cfg.AttachRoot, MTU: cfg.MTU, Persistent: cfg.Persistent,
		Owner: processName{PID: os.Getpid(), Start: start},
		Agent: agentCommand{Binary: cfg.AgentBinary, Args: cfg.AgentArgs}, Shared: cfg.Shared,
		CacheDir: cfg.CacheDir, CreatedDir: errors.Is(statErr, fs.ErrNotExist),
	})
	if err := l.record.save(); err != nil {
		return nil, err
	}
	// 0700: agents keep keys below.
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab directory: %w", err), l.record.remove())
	}
	return l, nil
}

func newLab(cfg Config, r record) *Lab {
	l := &Lab{cfg: cfg, record: r}
	for i := 1; i <= cfg.Hosts; i++ {
		l.hosts = append(l.hosts, &Host{lab: l, info: cfg.hostInfo(i), dir: cfg.hostDir(i)})
	}
	return l
}

// note changes the record and writes it.
func (l *Lab) note(change func(*record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.record)
	return l.record.save()
}

// Open takes up a lab that another process made. The error is fs.ErrNotExist
// when there is none of the name. AgentConfig is not kept in the record: the
// hosts keep the files they have.
func Open(name string) (*Lab, error) {
	r, err := loadRecord(name)
	if err != nil {
		return nil, err
	}
	cfg, err := Config{
		Name: r.Name, Dir: r.Dir, Hosts: r.Hosts, MgmtPrefix: r.Mgmt, PublicPrefix: r.Public,
		AttachRoot: r.AttachRoot, MTU: r.MTU, AgentBinary: r.Agent.Binary, AgentArgs: r.Agent.Args,
		Shared: r.Shared, Persistent: r.Persistent, CacheDir: r.CacheDir,
	}.withDefaults()
	if err != nil {
		return nil, err
	}
	return newLab(cfg, r), nil
}

// evict removes what a dead run left.
func evict(ctx context.Context, name string) error {
	r, err := loadRecord(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && r.Persistent {
		return fmt.Errorf("make lab %s: there is one in %s; remove it first", name, r.Dir)
	}
	if err == nil && r.Owner.PID != os.Getpid() && r.Owner.alive() {
		return fmt.Errorf("make lab %s: process %d has one in %s", name, r.Owner.PID, r.Dir)
	}
	return Cleanup(ctx, name)
}

// Host returns host n, counted from 1.
func (l *Lab) Host(n int) *Host { return l.hosts[n-1] }

// Hosts returns all hosts in order.
func (l *Lab) Hosts() []*Host { return slices.Clone(l.hosts) }

// Dir holds everything of the lab.
func (l *Lab) Dir() string { return l.cfg.Dir }

// RootLinks names the machine's own links, which exist with AttachRoot.
func (l *Lab) RootLinks() (mgmt, public string) { return rootLinks(l.cfg.Name) }

// Intact tells whether the network of the lab is there: it is not after the
// machine was started anew, or after New was killed.
func (l *Lab) Intact() bool {
	if _, err := os.Stat(l.switchNetwork()); err != nil {
		return false
	}
	mgmt, public := l.RootLinks()
	return l.record.Whole && (!l.cfg.AttachRoot || linkExists(mgmt) && linkExists(public))
}

// ConfigureAgents replaces Config.AgentConfig, for the power-ons that follow.
func (l *Lab) ConfigureAgents(text func(HostInfo) ([]byte, error)) { l.cfg.AgentConfig = text }

// Start powers on all hosts at once and returns when libvirt answers on each.
func (l *Lab) Start(ctx context.Context) error {
	errs := make([]error, len(l.hosts))
	var wg sync.WaitGroup
	for i, h := range l.hosts {
		wg.Go(func() { errs[i] = h.PowerOn(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Command prepares a program to run where the outside's addresses are: on the
// machine with AttachRoot, else in the switch's namespace. Whoever starts it
// ends it; Close ends what was left running in the switch.
func (l *Lab) Command(ctx context.Context, argv ...string) *exec.Cmd {
	if !l.cfg.AttachRoot {
		argv = append([]string{"nsenter", "--net=" + l.switchNetwork(), "--"}, argv...)
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// Exec runs a program as Command does and returns what it printed.
func (l *Lab) Exec(ctx context.Context, argv ...string) (string, error) {
	return output(l.Command(ctx, argv...), argv)
}

// output runs a command; the error carries what it printed.
func output(cmd *exec.Cmd, argv []string) (string, error) {
	text, err := cmd.CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

// Gateway is the outside's address in the management range.
func (l *Lab) Gateway() string { return nth(l.cfg.MgmtPrefix, 1).String() }

// Close removes the lab: processes, links, routes, files. It may be called at
// any time and again, and goes on after an error to remove what it can.
func (l *Lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	l.mu.Lock()
	r := l.record
	l.mu.Unlock()
	err := r.removeAll(ctx)
	if err == nil {
		l.children.Wait()
	}
	return err
}

// Cleanup removes what is left of the lab of this name, whoever made it.
// Nothing to remove is no error.
func Cleanup(ctx context.Context, name string) error {
	r, err := loadRecord(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.removeAll(ctx)
}

// removeAll goes from the inside out: hosts, what else ran in the switch, the
// switch, the machine's links, files, and the unreachable routes last of all
// but the record.
func (r record) removeAll(ctx context.Context) error {
	var errs []error
	for i := 1; i <= r.Hosts; i++ {
		errs = append(errs, process.KillAll(ctx, process.HasArgs(roleHost, filepath.Join(r.Dir, hostName(i)))))
	}
	errs = append(errs, killSwitch(ctx, r.Dir))
	if r.Guarded {
		errs = append(errs, detachRoot(ctx, r))
	}
	for i := 1; i <= r.Hosts; i++ {
		errs = append(errs, removeTree(filepath.Join(r.Dir, hostName(i))))
	}
	errs = append(errs, removeTree(filepath.Join(r.Dir, switchLog)))
	if r.CreatedDir {
		// Not RemoveAll: what others put there is theirs.
		_ = os.Remove(r.Dir)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove lab %s: %w", r.Name, err)
	}
	if r.Guarded {
		if err := removeUnreachable(ctx, r); err != nil {
			return fmt.Errorf("remove lab %s: %w", r.Name, err)
		}
	}
	return r.remove()
}

// killSwitch ends what Command left running in the switch, then the switch. The
// namespace is asked of the process that holds it: a name written down may be
// another's by now, for the kernel gives them out again.
func killSwitch(ctx context.Context, dir string) error {
	role := process.HasArgs(roleSwitch, dir)
	found, err := process.Find(role)
	if err != nil {
		return err
	}
	for _, p := range found {
		network := process.Network(p.PID)
		if network != "" && network != process.Network(os.Getpid()) {
			err = errors.Join(err, process.KillAll(ctx, func(pid int) bool {
				return pid != p.PID && process.Network(pid) == network
			}))
		}
		p.Close()
	}
	return errors.Join(err, process.KillAll(ctx, role))
}

// removeTree removes files and first unmounts what may be mounted below: a
// host's mounts are its own, but nothing may be deleted through one.
func removeTree(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove files of lab: %w", err)
	}
	return nil
}

// mountsBelow lists mount points at or below dir, in the order they were made.
func mountsBelow(dir string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		// Spaces in a path are written as \040; see proc(5).
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	return found, nil
}
