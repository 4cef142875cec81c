package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/systemvm/internal/cmdline"
	"github.com/wispcloud/wisp/systemvm/internal/conlog"
	"github.com/wispcloud/wisp/systemvm/internal/module"
	"github.com/wispcloud/wisp/systemvm/internal/power"
	"github.com/wispcloud/wisp/systemvm/internal/process"
)

const (
	netsvcPath      = "/usr/sbin/wisp-netsvc"
	specPort        = "virtio:org.wispcloud.netspec.0"
	defaultHostname = "wisp-systemvm"
)

// routerModules are what the services' own rules use. The kernel would ask for them one by one, and each answer is a
// program that reads the indexes anew. Whatever else a rule needs is still found that way.
var routerModules = []string{
	"nf_conntrack", "nf_tables", "nft_compat", "nft_chain_nat",
	"xt_addrtype", "xt_comment", "xt_conntrack", "xt_multiport", "xt_nat", "xt_tcpudp",
	"ip_tables", // the match for ICMP
}

// appliance is the running machine.
type appliance struct {
	log        *conlog.Log
	children   *process.Table
	modules    *module.Loader
	parameters cmdline.Parameters
	// off is sent the reason for switching off, or restarting.
	off chan ending
}

type ending struct {
	why     string
	restart bool
}

// serve is the life of the machine on its root; it returns only into its end.
func serve() {
	// Standard error stays the console for what the runtime says when it dies: that death is a kernel panic.
	console, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		console = os.Stderr
	}
	a := &appliance{log: conlog.New(console, time.Now), children: process.NewTable(), off: make(chan ending, 1)}
	a.log.Say("wisp-init", "version %s, image %s", version, imageVersion())
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGPWR, unix.SIGINT, unix.SIGCHLD)
	var running sync.WaitGroup
	running.Go(func() { a.prepareAndServe(ctx) })
	e := a.wait(signals)
	a.log.Say("wisp-init", "%s: %s", map[bool]string{false: "power off", true: "restart"}[e.restart], e.why)
	cancel()
	// Children are collected to the end: keepers wait for theirs.
	stopped := make(chan struct{})
	go func() { running.Wait(); close(stopped) }()
	for waiting := true; waiting; {
		select {
		case <-stopped:
			waiting = false
		case s := <-signals:
			if s == unix.SIGCHLD {
				a.children.Reap()
			}
		}
	}
	a.log.Say("wisp-init", "services stopped")
	a.log.Close(time.Second)
	if e.restart {
		restart()
	}
	powerOff()
}

// wait collects children until the machine shall end.
func (a *appliance) wait(signals <-chan os.Signal) ending {
	for {
		select {
		case e := <-a.off:
			return e
		case s := <-signals:
			switch s {
			case unix.SIGCHLD:
				a.children.Reap()
			case unix.SIGINT:
				return ending{why: "ctrl-alt-del", restart: true}
			default:
				return ending{why: fmt.Sprintf("signal %s", s)}
			}
		}
	}
}

// step runs a part of the start and tells of its failure. None is worth a router that does not come up: what a service
// cannot do without, it reports itself.
func (a *appliance) step(name string, run func() error) {
	if err := run(); err != nil {
		a.log.Say("wisp-init", "%s: %v", name, err)
	}
}

// prepareAndServe returns when ctx has ended and everything it started has.
func (a *appliance) prepareAndServe(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	a.step("mount file systems", func() error { return mountAll(laterMounts) })
	a.step("read command line", func() error {
		b, err := os.ReadFile("/proc/cmdline")
		a.parameters = cmdline.Parse(string(b))
		return err
	})
	if a.parameters.Hostname == "" {
		a.parameters.Hostname = defaultHostname
	}
	a.step("set host name", func() error { return unix.Sethostname([]byte(a.parameters.Hostname)) })
	a.step("raise loopback", func() error { return linkUp("lo") })
	a.step("open modules", func() (err error) {
		a.modules, err = openModules()
		return err
	})
	if a.modules != nil {
		a.step("load packet filter", func() error { return a.modules.LoadAll(routerModules...) })
	}
	a.step("set up the kernel", a.tune)
	if a.parameters.Debug {
		running.Go(func() { a.shell(ctx) })
	}
	running.Go(func() { a.netsvc(ctx) })
	running.Go(func() { a.leisurely(ctx) })
}

// leisurely does what no packet waits for, in the time that the services leave: the machine has one processor, and the
// network waits for it.
func (a *appliance) leisurely(ctx context.Context) {
	runtime.LockOSThread() // for good: the thread ends with this goroutine
	a.step("leave the processor to the services", func() error {
		return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	})
	if a.modules != nil {
		a.step("load drivers", func() error { return a.modules.Coldplug("/sys") })
	}
	a.step("listen to the power button", func() error { return a.listenPower(ctx) })
	a.log.Say("wisp-init", "all devices are in use")
}

func (a *appliance) tune() error {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	mem, err := memTotal(string(b))
	if err != nil {
		return err
	}
	// ctrl-alt-del becomes SIGINT to this process.
	return errors.Join(applySettings(settings(mem)), unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF))
}

// netsvc keeps the network services running. Their end leaves links, addresses and rules in the kernel; the next start
// finds them as they were.
func (a *appliance) netsvc(ctx context.Context) {
	a.keep(ctx, "wisp-netsvc", func(p *process.Program) error {
		p.Argv = []string{netsvcPath, "--spec-source", specPort, "--image-version", imageVersion()}
		p.Env = []string{searchPath}
		return nil
	})
}

// keep runs a program with its output in the log.
func (a *appliance) keep(ctx context.Context, name string, fill func(*process.Program) error) {
	k := process.Keeper{
		Say:  func(format string, args ...any) { a.log.Say("wisp-init", name+" "+format, args...) },
		Kill: syscall.Kill, After: time.After, Now: time.Now,
		Start: func() (int, <-chan syscall.WaitStatus, error) {
			null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
			if err != nil {
				return 0, nil, err
			}
			defer null.Close()
			r, w, err := os.Pipe()
			if err != nil {
				return 0, nil, err
			}
			defer w.Close()
			p := process.Program{Files: [3]*os.File{null, w, w}}
			if err := fill(&p); err != nil {
				r.Close()
				return 0, nil, err
			}
			go func() { // ends with the last holder of the pipe's other end
				defer r.Close()
				a.log.Copy(name, r)
			}()
			return a.children.Start(p)
		},
	}
	k.Run(ctx)
}

// shell offers a shell on the serial console.
func (a *appliance) shell(ctx context.Context) {
	a.log.Say("wisp-init", "DEBUG CONSOLE: a shell without a password is open on ttyS0")
	k := process.Keeper{
		Say:  func(format string, args ...any) { a.log.Say("wisp-init", "shell "+format, args...) },
		Kill: syscall.Kill, After: time.After, Now: time.Now,
		Start: func() (int, <-chan syscall.WaitStatus, error) {
			tty, err := os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0)
			if err != nil {
				return 0, nil, err
			}
			defer tty.Close()
			return a.children.Start(process.Program{
				Argv: []string{"/bin/busybox", "sh", "-i"}, Env: []string{searchPath, "HOME=/root", "TERM=vt100", "PS1=debug# "},
				Files: [3]*os.File{tty, tty, tty}, Terminal: true,
			})
		},
	}
	k.Run(ctx)
}

// listenPower listens to every input device; the kernel's button drivers make one each.
func (a *appliance) listenPower(ctx context.Context) error {
	for _, m := range []string{"evdev", "button"} {
		if a.modules == nil {
			break
		}
		if err := a.modules.Load(m); err != nil && !errors.Is(err, module.ErrUnknown) {
			return err
		}
	}
	devices, err := filepath.Glob("/dev/input/event*")
	if err != nil {
		return err
	}
	if len(devices) == 0 {
		return errors.New("no input device: the host cannot switch this machine off gently")
	}
	for _, path := range devices {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { f.Close() })
		go func() {
			if err := power.Pressed(f); err != nil {
				return // no power button, or unplugged, or the end of the machine
			}
			a.end(ending{why: "power button"})
		}()
	}
	return nil
}

// end switches the machine off, once.
func (a *appliance) end(e ending) {
	select {
	case a.off <- e:
	default:
	}
}
