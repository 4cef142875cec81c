// Command wisp-image builds the project's virtual machine images.
//
//	wisp-image build tinyguest -o DIR [-cache DIR]
//	wisp-image build systemvm -o DIR [-cache DIR] [-source DIR] [-version V]
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

	"github.com/wispcloud/wisp/images/systemvm"
	"github.com/wispcloud/wisp/images/tinyguest"
)

const usage = `usage: wisp-image build IMAGE -o DIR [-cache DIR] [-source DIR] [-version V]
       wisp-image packages IMAGE

build writes the image IMAGE and its manifest to DIR.
packages lists the Debian packages a build of IMAGE needs on this machine.

images:
  tinyguest  a guest for tests
  systemvm   the router that runs as a machine; built from the checkout in
             -source (the current directory), under the name -version (what
             git describe says)
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

// image is one that can be built.
type image struct {
	packages func() []string
	build    func(ctx context.Context, o options) (io.WriterTo, error)
}

type options struct {
	out, cache, source, version string
}

func imageOf(name string) (image, bool) {
	switch name {
	case "tinyguest":
		return image{tinyguest.HostPackages, buildTinyguest}, true
	case "systemvm":
		return image{systemvm.HostPackages, buildSystemvm}, true
	}
	return image{}, false
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var i image
	var known bool
	if len(args) >= 2 {
		i, known = imageOf(args[1])
	}
	switch {
	case known && args[0] == "build":
		return build(ctx, i, args[2:], stdout, stderr)
	case known && args[0] == "packages":
		for _, p := range i.packages() {
			fmt.Fprintln(stdout, p)
		}
		return nil
	}
	fmt.Fprint(stderr, usage)
	return errUsage
}

func build(ctx context.Context, i image, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("wisp-image build", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	var o options
	flags.StringVar(&o.out, "o", "", "directory for the image and its manifest")
	flags.StringVar(&o.cache, "cache", "", "directory for downloads and finished images")
	flags.StringVar(&o.source, "source", ".", "checkout to build programs from")
	flags.StringVar(&o.version, "version", "", "name of the image's version")
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if o.out == "" || flags.NArg() != 0 {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find cache directory: %w (or use -cache)", err)
		}
		o.cache = filepath.Join(dir, "wisp", "images")
	}
	begin := time.Now()
	m, err := i.build(ctx, o)
	if err != nil {
		return err
	}
	if _, err := m.WriteTo(stdout); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s in %.1f s\n", o.out, time.Since(begin).Seconds())
	return err
}

func buildTinyguest(ctx context.Context, o options) (io.WriterTo, error) {
	m, err := tinyguest.Build(ctx, o.out, o.cache)
	return m, err
}

func buildSystemvm(ctx context.Context, o options) (io.WriterTo, error) {
	version, commit, err := systemvm.Describe(ctx, o.source)
	if err != nil && o.version == "" {
		return nil, err
	}
	if o.version != "" {
		version = o.version
	}
	m, err := systemvm.Build(ctx, o.out, o.cache, systemvm.Options{Source: o.source, Version: version, Commit: commit})
	return m, err
}
