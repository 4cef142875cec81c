// Command wisp-image builds the project's virtual machine images.
//
//	wisp-image build tinyguest -o DIR [-cache DIR]
//
// It needs neither root nor a mount, installs nothing, and names the Debian
// packages it misses. The same inputs give the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/images/tinyguest"
)

const usage = `usage: wisp-image build IMAGE -o DIR [-cache DIR]
       wisp-image packages IMAGE

build writes the image IMAGE and its manifest to DIR.
packages lists the Debian packages a build of IMAGE needs on this machine.

images: tinyguest
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, errUsage) {
			fmt.Fprintln(os.Stderr, "wisp-image:", err)
		}
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) < 2 || args[1] != "tinyguest" {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	switch args[0] {
	case "build":
		return build(ctx, args[2:], stdout, stderr)
	case "packages":
		for _, p := range tinyguest.HostPackages() {
			fmt.Fprintln(stdout, p)
		}
		return nil
	}
	fmt.Fprint(stderr, usage)
	return errUsage
}

func build(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("wisp-image build", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	out := flags.String("o", "", "directory for the image and its manifest")
	cache := flags.String("cache", "", "directory for downloads and finished images")
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if *out == "" || flags.NArg() != 0 {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	if *cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find cache directory: %w (or use -cache)", err)
		}
		*cache = filepath.Join(dir, "wisp", "images")
	}
	begin := time.Now()
	m, err := tinyguest.Build(ctx, *out, *cache)
	if err != nil {
		return err
	}
	if _, err := m.WriteTo(stdout); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s in %.1f s\n", *out, time.Since(begin).Seconds())
	return err
}
