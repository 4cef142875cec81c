// Command wisp-lab makes hypervisor hosts out of one machine, for trying things
// by hand; tests use the package lab directly.
//
//	wisp-lab up -hosts 2            make a lab, hosts powered on
//	wisp-lab status                 hosts, addresses, services
//	wisp-lab exec h1 virsh list     run a program on a host
//	wisp-lab off h2; wisp-lab on h2 pull the plug, and put it back
//	wisp-lab down                   remove everything of it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/wispcloud/wisp/packaging/lab"
)

func main() {
	lab.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		// The program run by exec has said itself what was wrong.
		var exit *exec.ExitError
		if len(os.Args) > 1 && os.Args[1] == "exec" && errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "wisp-lab:", err)
		os.Exit(1)
	}
}

const usage = "want one of up, status, exec, off, on, down"

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("wisp-lab "+args[0], flag.ContinueOnError)
	cfg := lab.Config{
		Persistent: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	flags.StringVar(&cfg.Name, "name", "lab", "name of the lab, at most 6 characters")
	if args[0] == "up" {
		flags.StringVar(&cfg.Dir, "dir", "/var/tmp/wisp-lab", "directory for everything of the lab")
		flags.IntVar(&cfg.Hosts, "hosts", 1, "number of hosts")
		flags.BoolVar(&cfg.AttachRoot, "attach", false, "join this machine to the lab's networks")
		flags.StringVar(&cfg.AgentBinary, "agent", "", "program to run as agent")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "up":
		l, err := lab.New(ctx, cfg)
		if err != nil {
			return err
		}
		if err := l.Start(ctx); err != nil {
			return errors.Join(err, l.Close())
		}
		return status(ctx, l, out)
	case "down":
		return lab.Cleanup(ctx, cfg.Name)
	}
	l, err := lab.Open(cfg.Name)
	if err != nil {
		return err
	}
	return onHosts(ctx, l, args[0], flags.Args(), out)
}

func onHosts(ctx context.Context, l *lab.Lab, verb string, args []string, out io.Writer) error {
	if verb == "status" {
		return status(ctx, l, out)
	}
	if len(args) == 0 {
		return errors.New("which host?")
	}
	i := slices.IndexFunc(l.Hosts(), func(h *lab.Host) bool { return h.Name() == args[0] })
	if i < 0 {
		return fmt.Errorf("find host %q: the lab has h1 to h%d", args[0], len(l.Hosts()))
	}
	h := l.Host(i + 1)
	switch verb {
	case "on":
		return h.PowerOn(ctx)
	case "off":
		return h.PowerOff(ctx)
	case "exec":
		argv := args[1:]
		if len(argv) == 0 {
			argv = []string{"sh"}
		}
		cmd, err := h.Command(ctx, argv...)
		if err != nil {
			return err
		}
		// A shell wants to be in the terminal's foreground.
		cmd.SysProcAttr, cmd.Cancel = nil, nil
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	}
	return errors.New(usage)
}

func status(ctx context.Context, l *lab.Lab, out io.Writer) error {
	for _, h := range l.Hosts() {
		on, err := h.Running()
		if err != nil {
			return err
		}
		if !on {
			fmt.Fprintf(out, "%s %s off\n", h.Name(), h.IP())
			continue
		}
		services, err := h.Services(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s %s on, %s\n", h.Name(), h.IP(), h.LibvirtURI())
		for _, svc := range services {
			fmt.Fprintf(out, "   %-9s pid %d, started %d times, log %s/%s.log\n",
				svc.Name, svc.PID, svc.Starts, h.LogDir(), svc.Name)
		}
	}
	return nil
}
