package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wispcloud/wisp/netsvc/dhcp4"
	"github.com/wispcloud/wisp/netsvc/dns"
	"github.com/wispcloud/wisp/netsvc/firewall"
	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/ruleset"
	"github.com/wispcloud/wisp/netsvc/link"
	"github.com/wispcloud/wisp/netsvc/metadata"
	"github.com/wispcloud/wisp/netsvc/namespace"
	"github.com/wispcloud/wisp/netsvc/nat"
	"github.com/wispcloud/wisp/netsvc/password"
	"github.com/wispcloud/wisp/netsvc/portfwd"
	"github.com/wispcloud/wisp/netsvc/route"
	"github.com/wispcloud/wisp/netsvc/specsource"
	"github.com/wispcloud/wisp/proto/netspec"
)

// Config is what the flags say.
type Config struct {
	SpecSource string
	Metrics    string
	// ImageVersion makes observations speak of the machine as well, which is this process' own: a system VM.
	ImageVersion string
	Log          *slog.Logger
}

// Program is the whole process.
type Program struct {
	log       *slog.Logger
	image     string
	kernel    *kernel.Kernel
	source    specsource.Source
	metrics   net.Listener
	dhcp      *dhcp4.Service
	dns       *dns.Service
	metadata  *metadata.Service
	password  *password.Service
	namespace *namespace.Namespace
	services  []namespace.Service
}

// Open wires the program; nothing in the kernel has changed when it returns.
func Open(c Config) (*Program, error) {
	k, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	p := &Program{log: c.Log, image: c.ImageVersion, kernel: k}
	if p.source, err = specsource.Open(c.SpecSource); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if c.Metrics != "" {
		path, ok := strings.CutPrefix(c.Metrics, "unix:")
		if !ok {
			return nil, errors.Join(fmt.Errorf("metrics address %q: want unix:/path", c.Metrics), p.Close())
		}
		if p.metrics, err = specsource.ListenUnix(path); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	p.wire(k)
	return p, nil
}

// wire makes the services and puts them in the order of application: what forbids comes first, then what carries,
// then what serves.
func (p *Program) wire(k *kernel.Kernel) {
	notify := func() { p.namespace.Notify() }
	tables := ruleset.NewTables(k)
	fw, snat, forwards := firewall.New(tables), nat.New(tables), portfwd.New(tables)
	links := link.New(k, p.log.With("service", "link"))
	routes := route.New(k)
	p.dhcp = newDHCP(k, p.log, notify)
	p.dns = dns.New(context.Background(), k, p.log.With("service", "dns"))
	p.metadata = metadata.New(k, p.log.With("service", "metadata"))
	p.password = password.New(k, p.log.With("service", "password"), notify)
	p.services = []namespace.Service{
		{
			Name: "firewall",
			Apply: func(ctx context.Context, s *netspec.NetSpec) error {
				rules := func() {
					_ = errors.Join(snat.Apply(ctx, s.GetNat()), forwards.Apply(ctx, s.GetPortfwd()), fw.Apply(ctx, s.GetFirewall()))
				}
				return p.firstRules(ctx, tables, rules, func() error { return fw.Narrow(ctx, s.GetFirewall()) })
			},
			Remove: func(ctx context.Context) error { return fw.Apply(ctx, nil) }, // the last of all
		}, {
			Name:    "link",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return links.Apply(ctx, s.GetLinks()) },
			Repairs: links.Repairs,
		}, {
			Name: "route",
			Apply: func(ctx context.Context, s *netspec.NetSpec) error {
				return routes.Apply(ctx, route.Want{Routes: s.GetRoutes(), Forwarding: s.GetForwarding()})
			},
			Repairs: routes.Repairs,
		}, {
			Name:    "nat",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return snat.Apply(ctx, s.GetNat()) },
			Repairs: snat.Repairs,
			Restart: snat.Restart,
		}, {
			Name:    "portfwd",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return forwards.Apply(ctx, s.GetPortfwd()) },
			Repairs: forwards.Repairs,
			Restart: forwards.Restart,
		}, {
			Name:    "firewall",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return fw.Apply(ctx, s.GetFirewall()) },
			Remove:  func(context.Context) error { return nil }, // by its first step
			Repairs: fw.Repairs,
			Restart: fw.Restart,
		}, {
			Name:    "dhcp4",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return p.dhcp.Apply(ctx, s.GetDhcp4()) },
			Counts:  p.dhcp.Counts,
			Restart: p.dhcp.Restart,
		}, {
			Name:    "dns",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return p.dns.Apply(ctx, s.GetDns()) },
			Counts:  p.dns.Counts,
			Restart: p.dns.Restart,
		}, {
			Name:    "metadata",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return p.metadata.Apply(ctx, s.GetMetadata()) },
			Repairs: p.metadata.Repairs,
			Counts:  p.metadata.Counts,
			Restart: p.metadata.Restart,
		}, {
			Name:    "password",
			Apply:   func(ctx context.Context, s *netspec.NetSpec) error { return p.password.Apply(ctx, s.GetPassword()) },
			Counts:  p.password.Counts,
			Restart: p.password.Restart,
		},
	}
	p.namespace = namespace.New(namespace.Options{
		Services: p.services,
		Observe:  p.observe,
		Recall:   p.recall,
		Watcher:  k,
		Log:      p.log,
		Now:      time.Now,
		Version:  version,
	})
}

func newDHCP(k *kernel.Kernel, log *slog.Logger, changed func()) *dhcp4.Service {
	return dhcp4.New(dhcp4.Options{
		Kernel:  k,
		Open:    func(link string) (dhcp4.Conn, error) { return k.OpenPacket(link, 67) },
		Log:     log.With("service", "dhcp4"),
		Now:     time.Now,
		Changed: changed,
	})
}

// firstRules loads all rules at once where there have never been any, which is one program started instead of four: there
// is nothing to narrow, and nothing that rules could open before their time. Elsewhere, and after a failure, narrow does.
func (p *Program) firstRules(ctx context.Context, tables *ruleset.Tables, all func(), narrow func() error) error {
	if err := tables.Together(ctx, all); err != nil {
		p.log.Info("rules were not loaded at once", "err", err)
	}
	return narrow()
}

// observe adds what guests did, and how the machine is where it is ours.
func (p *Program) observe(o *netspec.Observation) {
	if p.image != "" {
		o.ImageVersion = p.image
		o.MemoryAvailableKib = memoryAvailable()
	}
	for _, l := range p.dhcp.Leases() {
		o.Leases = append(o.Leases, &netspec.Lease{
			Mac: l.MAC.String(), Ip: l.IP.String(), VmId: l.VMID,
			ExpiresUnixMs: l.Expires.UnixMilli(),
		})
	}
	for _, t := range p.password.Taken() {
		o.PasswordsTaken = append(o.PasswordsTaken, &netspec.PasswordTaken{Ip: t.IP.String(), Epoch: t.Epoch})
	}
}

// recall hands on what an earlier process was told.
func (p *Program) recall(r *netspec.Recall) {
	var taken []password.Taken
	for _, t := range r.GetPasswordsTaken() {
		if ip, err := netip.ParseAddr(t.GetIp()); err == nil {
			taken = append(taken, password.Taken{IP: ip, Epoch: t.GetEpoch()})
		}
	}
	p.password.Recall(taken)
}

// memoryAvailable is 0 when the kernel does not say.
func memoryAvailable() uint64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "MemAvailable:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(f[0], 10, 64)
	return n
}

// Run serves until ctx ends, which leaves everything in place for a successor, or until the host asks for shutdown.
func (p *Program) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.namespace.Run(ctx); err != nil {
			p.log.Error("apply loop ended", "err", err)
		}
	})
	if p.metrics != nil {
		server := &http.Server{Handler: p.metricsHandler(), ReadHeaderTimeout: 5 * time.Second}
		running.Go(func() { _ = server.Serve(p.metrics) })
		context.AfterFunc(ctx, func() { server.Close() })
	}
	p.log.Info("wisp-netsvc serves", "version", version)
	err := p.namespace.Serve(ctx, p.source)
	stopped := ctx.Err() != nil
	cancel()
	running.Wait()
	var shutdown *namespace.ErrShutdown
	switch {
	case errors.As(err, &shutdown) && !shutdown.KeepState:
		p.log.Info("remove everything and end")
		return p.namespace.Remove(context.Background())
	case errors.As(err, &shutdown), stopped:
		return nil
	default:
		return err
	}
}

// Close releases sockets; kernel state stays.
func (p *Program) Close() error {
	var errs []error
	if p.namespace != nil { // wired
		p.password.Close()
		p.metadata.Close()
		p.dns.Close()
		p.dhcp.Close()
	}
	if p.source != nil {
		errs = append(errs, ignoreClosed(p.source.Close()))
	}
	if p.metrics != nil {
		errs = append(errs, ignoreClosed(p.metrics.Close()))
	}
	p.kernel.Close()
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
