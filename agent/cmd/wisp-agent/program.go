package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/host"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/agent/internal/report"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Program is the whole process.
type Program struct {
	config  Config
	log     *slog.Logger
	lock    *os.File
	libvirt *domain.Libvirt
	machine *report.Machine
	fabric  *fabric.Fabric
	host    *host.Host
	status  *statusServer
	kvm     bool

	features, missing []string
	mu                sync.Mutex
	versions          [2]string
	underlay          string
	underlayAt        time.Time
}

// Open wires the program. Nothing on the host has changed when it returns.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Program, error) {
	p := &Program{config: c, log: log}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Program) open(ctx context.Context) error {
	if err := p.makeDirectories(); err != nil {
		return err
	}
	files, err := ledger.OpenDir(filepath.Join(p.config.DataDir, "state"))
	if err != nil {
		return err
	}
	if p.machine, err = report.ReadMachine(); err != nil {
		return err
	}
	bootID, err := report.BootID()
	if err != nil {
		return err
	}
	p.probe(ctx)
	underlay, err := p.openFabric()
	if err != nil {
		return err
	}
	p.libvirt = domain.NewLibvirt(p.config.LibvirtSocket, domain.Platform{
		KVM: p.kvm, VNCAddress: underlay, ConsoleDir: filepath.Join(p.config.DataDir, "console"),
		CPUGroups: report.CPUGroups(), MHz: p.machine.MHz,
	}, p.log.With("part", "libvirt"))
	token, err := p.config.token()
	if err != nil {
		return err
	}
	p.host, err = host.New(host.Config{Token: token, Version: version, Log: p.log}, host.Parts{
		Files: files, Pools: pools{}, Fabric: p.fabric, Hypervisor: p.libvirt, Services: p.openServices,
		WatchLinks: func(ctx context.Context, wake func()) {
			fabric.Watch(ctx, p.log.With("part", "fabric"), wake)
		},
		ChannelPath:  func(id string) string { return filepath.Join(p.config.RunDir, "systemvm", id+".sock") },
		SystemDebug:  p.config.SystemVMDebug,
		WatchDomains: p.libvirt.Watch, Facts: p.facts, Usage: p.machine.Usage, BootID: bootID, HostEnding: hostEnding,
	})
	if err != nil {
		return err
	}
	p.status, err = openStatus(p.config.Listen, p.host, p.log)
	return err
}

// makeDirectories also takes the lock that keeps two agents off one host.
func (p *Program) makeDirectories() error {
	// qemu runs as another user and must be able to walk to pools and consoles below.
	if err := os.MkdirAll(p.config.DataDir, 0o711); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := os.MkdirAll(p.config.RunDir, 0o755); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(p.config.DataDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	p.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another wisp-agent uses %s: %w", p.config.DataDir, err)
	}
	return nil
}

// probe finds out what the host can do by doing it.
func (p *Program) probe(ctx context.Context) {
	p.features, p.missing = fabric.ProbeFeatures(p.log)
	switch p.config.Accel {
	case "kvm":
		p.kvm = true
	case "tcg":
	default:
		var why error
		if p.kvm, why = domain.ProbeKVM(ctx); !p.kvm {
			p.log.Warn("guests are emulated in software", "because", why)
		}
	}
}

// openFabric returns the address of the underlay, where VNC servers listen too; loopback when there is none.
func (p *Program) openFabric() (underlay string, err error) {
	address := netip.Addr{}
	if p.config.UnderlayAddress != "" {
		if address, err = netip.ParseAddr(p.config.UnderlayAddress); err != nil {
			return "", fmt.Errorf("read underlay address: %w", err)
		}
	}
	p.fabric = fabric.New(fabric.Config{
		UnderlayDevice: p.config.UnderlayDevice, UnderlayAddress: address, Log: p.log.With("part", "fabric"),
		Holder: func(id string) int {
			if p.host == nil {
				return 0
			}
			return p.host.ServicePID(id)
		},
	})
	u, err := p.fabric.Underlay()
	if err != nil {
		p.log.Warn("cannot find the underlay yet", "error", err)
	}
	if !u.Address.IsValid() {
		return "127.0.0.1", nil
	}
	return u.Address.String(), nil
}

func (p *Program) openServices(taken netrun.Memory, changed func()) (host.Services, error) {
	binary := p.config.Netsvc
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own binary: %w", err)
		}
		binary = filepath.Join(filepath.Dir(self), "wisp-netsvc")
	}
	_, systemd := os.Stat("/run/systemd/system")
	c := netrun.Config{
		Binary: binary, Taken: taken, RunDir: filepath.Join(p.config.RunDir, "netsvc"),
		LogDir: filepath.Join(p.config.DataDir, "netsvc"), NamespacePath: fabric.NamespacePath,
		Reopen: p.libvirt.Reopen, Scopes: systemd == nil, Changed: changed, Log: p.log.With("part", "netrun"),
	}
	if c.Scopes {
		// The journal takes what they print.
		c.LogDir = ""
	}
	return netrun.New(c)
}

type pools struct{}

func (pools) Open(ctx context.Context, pool *hostspec.StoragePool) (disk.Capacity, error) {
	return disk.Open(ctx, pool)
}

// underlayEvery is how often the host's underlay address is looked up for its facts.
const underlayEvery = time.Minute

// facts of the host. Versions of the hypervisor are asked for until they are known.
func (p *Program) facts(ctx context.Context) *hostspec.HostFacts {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.versions[0] == "" {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if h, l, err := p.libvirt.Version(ctx); err == nil {
			p.versions = [2]string{h, l}
		}
	}
	f := &hostspec.HostFacts{
		Hostname: p.machine.Hostname, Cpus: p.machine.CPUs, CpuMhz: p.machine.MHz, MemoryMib: p.machine.MemoryMiB,
		HypervisorVersion: p.versions[0], LibvirtVersion: p.versions[1], KernelVersion: p.machine.Kernel,
		AgentVersion: version, Architecture: "x86_64", Kvm: p.kvm, Features: p.features, MissingFeatures: p.missing,
		CpuModel: p.machine.CPUModel,
	}
	if time.Since(p.underlayAt) > underlayEvery {
		if u, err := p.fabric.Underlay(); err == nil && u.Address.IsValid() {
			p.underlay, p.underlayAt = u.Address.String(), time.Now()
		}
	}
	f.UnderlayIp = p.underlay
	return f
}

// hostEnding says whether the machine is being shut down: guests that end now do so because of that.
func hostEnding() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	// It exits with failure for every state but "running", so only the word counts.
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out)) == "stopping"
}

// Run serves until ctx ends. Guests and services go on.
func (p *Program) Run(ctx context.Context) error {
	p.log.Info("wisp-agent serves", "version", version, "kvm", p.kvm, "missing", p.missing, "labels", p.config.Labels)
	stop := p.status.serve()
	defer stop()
	if err := notifyReady(); err != nil {
		p.log.Warn("cannot tell systemd that the agent is ready", "error", err)
	}
	p.host.Run(ctx)
	p.log.Info("wisp-agent stops; guests and networks go on")
	return nil
}

// Close lets go of what Open took.
func (p *Program) Close() error {
	if p.libvirt != nil {
		p.libvirt.Close()
	}
	var errs []error
	if p.status != nil {
		errs = append(errs, p.status.Close())
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Close())
	}
	return errors.Join(errs...)
}
