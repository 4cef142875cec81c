// Command wisp-netsvc makes one network namespace true: the one it is started in. It needs no configuration beside
// its flags; everything it shall do comes as a spec over the spec source.
//
//	ip netns exec NAME wisp-netsvc --spec-source unix:/run/wisp/netsvc/NAME.sock
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
	var c Config
	flag.StringVar(&c.SpecSource, "spec-source", "", "where desired state comes from: unix:/path/of.sock, or virtio:PORT in a system VM")
	flag.StringVar(&c.Metrics, "metrics", "", "serve /metrics and /healthz here: unix:/path/of.sock (empty: nowhere)")
	flag.StringVar(&c.ImageVersion, "image-version", "", "in a system VM: the version of its image, for observations")
	level := flag.String("log-level", "info", "debug, info, warn or error")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	var logLevel slog.Level
	if err := logLevel.UnmarshalText([]byte(*level)); err != nil || flag.NArg() > 0 || c.SpecSource == "" {
		flag.Usage()
		os.Exit(2)
	}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel}))
	limitMemory()
	if err := run(c); err != nil {
		c.Log.Error("wisp-netsvc ends", "err", err)
		os.Exit(1)
	}
}

// limitMemory keeps the process small, for a host runs one per guest network: the heap may grow by half before it is
// collected, not by its own size again. GOGC in the environment wins.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func run(c Config) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p, err := Open(c)
	if err != nil {
		return err
	}
	return errors.Join(p.Run(ctx), p.Close())
}
