package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
)

// maxHosts is what a machine of a few cores bears.
const maxHosts = 3

// Config says where a sandbox is. The zero value is that of `make sandbox` in
// the repository's root.
type Config struct {
	// Dir holds everything of the sandbox. Default .sandbox.
	Dir string
	// Bin holds the built programs, and the guest's image. Default bin.
	Bin string
	// Declaration is the cloud as a file for `wisp apply`. Default
	// packaging/sandbox/cloud.yaml.
	Declaration string
	// Images keeps downloaded packages and built images. Default image/cache in
	// Bin.
	Images string
	// Hosts is how many hypervisor hosts there are, 1 to 3. Default 1.
	Hosts int
	// Router is where routers of guest networks are: in a namespace of a host
	// (RouterOnHost, the default) or in system VMs (RouterInVM).
	Router string
	// Source is the checkout that the system VM's programs are built from.
	// Default the current directory.
	Source string
	// Out is told what is done. Default os.Stdout.
	Out io.Writer

	// A second sandbox on one machine, as that of a test, needs another name,
	// other ranges and other ports than the first.

	// Name begins the names of the machine's two links, wisp-mgmt and wisp-pub.
	// Default wisp.
	Name string
	// Mgmt is the hosts' range, Public that of public addresses. Default
	// 198.18.0.0/24 and 198.18.1.0/24 of RFC 2544, which is for tests between
	// machines, so no network has them.
	Mgmt, Public netip.Prefix
	// PortOffset is added to every port: 8080 of the API, 8250 for hosts, 8251
	// and 8252 for other coordinators.
	PortOffset int
}

// Sandbox is one that is being made, looked at or removed.
type Sandbox struct {
	cfg   Config
	steps *steps

	lab   *lab.Lab
	api   *api.Client
	env   map[string]string
	image image
	// systemVM is the image of routers; none for RouterOnHost.
	systemVM image
	hello    hello
	kvm      chan kvmAnswer
	accel    kvmAnswer
	changed  bool
}

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		field    *string
		fallback string
	}{{&c.Dir, ".sandbox"}, {&c.Bin, "bin"}, {&c.Declaration, "packaging/sandbox/cloud.yaml"}, {&c.Source, "."}} {
		if *d.field == "" {
			*d.field = d.fallback
		}
		path, err := filepath.Abs(*d.field)
		if err != nil {
			return c, err
		}
		*d.field = path
	}
	c.Images = cmp.Or(c.Images, filepath.Join(c.Bin, "image", "cache"))
	c.Name = cmp.Or(c.Name, "wisp")
	c.Hosts = cmp.Or(c.Hosts, 1)
	c.Router = cmp.Or(c.Router, RouterOnHost)
	c.Mgmt = cmp.Or(c.Mgmt, netip.MustParsePrefix("198.18.0.0/24"))
	c.Public = cmp.Or(c.Public, netip.MustParsePrefix("198.18.1.0/24"))
	if c.Hosts < 1 || c.Hosts > maxHosts {
		return c, fmt.Errorf("make sandbox: HOSTS=%d, want 1 to %d", c.Hosts, maxHosts)
	}
	if c.Router != RouterOnHost && c.Router != RouterInVM {
		return c, fmt.Errorf("make sandbox: ROUTER=%s, want %s or %s", c.Router, RouterOnHost, RouterInVM)
	}
	if c.Out == nil {
		c.Out = os.Stdout
	}
	return c, nil
}

// address is that of a port of the coordinator on this machine's host.
func (c Config) address(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(port+c.PortOffset))
}

// apiAddress is for this machine only.
func (c Config) apiAddress() string { return c.address("127.0.0.1", 8080) }

// Up makes the sandbox, or what is missing of it.
func Up(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("make sandbox: namespaces and bridges need root")
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	s := &Sandbox{cfg: cfg, steps: newSteps(cfg.Out), env: map[string]string{}}
	begin := time.Now()
	for _, step := range s.plan() {
		if err := s.steps.run(ctx, step.name, step.do); err != nil {
			return fmt.Errorf("%w\n\nRun make sandbox again to go on from here, or make sandbox-down to remove everything", err)
		}
	}
	s.summary(time.Since(begin))
	return nil
}

// step is a part of Up.
type step struct {
	name string
	do   func(context.Context) error
}

// plan is what Up does, in this order.
func (s *Sandbox) plan() []step {
	vm := s.cfg.Router == RouterInVM
	plan := []step{{"guest image", s.buildImage}}
	if vm {
		plan = append(plan, step{"router image", s.buildSystemVM})
	}
	plan = append(
		plan,
		step{"network", s.makeNetwork},
		step{"coordinator", s.startCoordinator},
		step{"admin keys", s.makeKeys},
		step{"acceleration", s.awaitProbe},
		step{"hosts", s.startHosts},
		step{"cloud", s.applyCloud},
	)
	if vm {
		plan = append(plan, step{"router in VM", s.applyRouter})
	}
	plan = append(plan, step{"VM hello", s.deployHello})
	if vm {
		plan = append(plan, step{"its router", s.checkHelloRouter})
	}
	return append(plan, step{"guest answers", s.awaitGuest})
}

// Down removes everything of the sandbox, however far it came. Nothing to
// remove is no error.
func Down(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	// Hosts first: a coordinator that sees them go would only write about it.
	err = lab.Cleanup(ctx, cfg.Name)
	err = errors.Join(err, stopCoordinator(ctx, cfg))
	if err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	if err := removeDir(cfg.Dir); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	fmt.Fprintln(cfg.Out, "The sandbox is removed.")
	return nil
}

// lockDir makes the directory and keeps a second run out of it.
func lockDir(dir string) (unlock func(), err error) {
	// Keys, tokens and the cloud's state are below.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make sandbox directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock sandbox: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another make sandbox is at work in "+dir), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
