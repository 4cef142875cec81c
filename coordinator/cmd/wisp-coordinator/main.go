// Command wisp-coordinator runs one coordinator of a Wisp cloud: the API, the state, scheduling and jobs.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/wispcloud/wisp/coordinator/internal/server"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "wisp-coordinator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, logs io.Writer) error {
	flags := flag.NewFlagSet("wisp-coordinator", flag.ContinueOnError)
	flags.SetOutput(logs)
	path := flags.String("config", "/etc/wisp/coordinator.yaml", "the configuration file")
	check := flags.Bool("check", false, "read the configuration, say what is wrong with it, and end")
	tell := flags.Bool("version", false, "tell the version and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *tell {
		fmt.Fprintln(out, version)
		return nil
	}
	cfg, err := server.ReadConfig(*path)
	if err != nil || *check {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(cfg.LogLevel))); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
	s, err := server.Open(ctx, cfg, version, log)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
