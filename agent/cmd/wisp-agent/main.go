// Command wisp-agent makes one hypervisor host what its coordinators want it to be, and keeps it so without them.
//
// It has no secret on its command line and needs none: a join token stands in the configuration file until the host
// has joined. Ending it, in whatever way, ends no guest and no network service.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set at build time: -ldflags "-X main.version=...".
var version = "devel"

func main() {
	path := flag.String("config", "/etc/wisp/agent.yaml", "configuration file")
	level := flag.String("log-level", "info", "debug, info, warn or error")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	var logLevel slog.Level
	if err := logLevel.UnmarshalText([]byte(*level)); err != nil || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel}))
	limitMemory()
	if err := run(*path, log); err != nil {
		log.Error("wisp-agent ends", "error", err)
		os.Exit(1)
	}
}

// limitMemory keeps an idle agent small: the heap may grow by half before it is collected. GOGC in the environment
// wins.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func run(path string, log *slog.Logger) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p, err := Open(ctx, c, log)
	if err != nil {
		return err
	}
	return errors.Join(p.Run(ctx), p.Close())
}
