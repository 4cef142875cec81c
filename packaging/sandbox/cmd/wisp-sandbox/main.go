// Command wisp-sandbox makes a cloud with a running VM on this machine, and
// removes it; see package sandbox. It is what make sandbox and make sandbox-down
// run, in the repository's root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/wispcloud/wisp/packaging/lab"
	"github.com/wispcloud/wisp/packaging/sandbox"
)

func main() {
	lab.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: wisp-sandbox up [-hosts 1..3] [-router host|vm] | down")
	}
	var cfg sandbox.Config
	flags := flag.NewFlagSet("wisp-sandbox "+args[0], flag.ContinueOnError)
	flags.StringVar(&cfg.Dir, "dir", ".sandbox", "directory of the sandbox")
	flags.StringVar(&cfg.Bin, "bin", "bin", "directory of the built programs")
	flags.StringVar(&cfg.Declaration, "f", "packaging/sandbox/cloud.yaml", "declaration of the cloud")
	flags.IntVar(&cfg.Hosts, "hosts", 1, "number of hypervisor hosts")
	flags.StringVar(&cfg.Router, "router", sandbox.RouterOnHost, "where routers are: host, or vm for system VMs")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return sandbox.Up(ctx, cfg)
	case "down":
		return sandbox.Down(ctx, cfg)
	}
	return fmt.Errorf("wisp-sandbox has no %q, only up and down", args[0])
}
