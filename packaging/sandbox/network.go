package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wispcloud/wisp/packaging/lab"
)

// makeNetwork makes the network of the hosts, joined to this machine, or takes
// up what is there.
func (s *Sandbox) makeNetwork(ctx context.Context) error {
	if err := s.cfg.copyPrograms(); err != nil {
		return err
	}
	l, err := lab.Open(s.cfg.Name)
	if err == nil {
		if err := errors.Join(s.checkLab(l), s.cfg.checkRouter()); err != nil {
			return err
		}
		if l.Intact() {
			s.lab = l
			s.steps.say("%s and %s, as before", s.cfg.Mgmt, s.cfg.Public)
			return nil
		}
		// The machine was started anew, or the first step was cut.
		err = lab.Cleanup(ctx, s.cfg.Name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.changed = true
	if err := s.cfg.keepRouter(); err != nil {
		return err
	}
	s.lab, err = lab.New(ctx, s.labConfig())
	if err != nil {
		return err
	}
	mgmt, public := s.lab.RootLinks()
	s.steps.say("%s on %s, %s on %s", s.cfg.Mgmt, mgmt, s.cfg.Public, public)
	return nil
}

func (s *Sandbox) labConfig() lab.Config {
	return lab.Config{
		Name: s.cfg.Name, Dir: filepath.Join(s.cfg.Dir, "hosts"), Hosts: s.cfg.Hosts,
		MgmtPrefix: s.cfg.Mgmt, PublicPrefix: s.cfg.Public, AttachRoot: true, Persistent: true,
		AgentBinary: s.cfg.program("wisp-agent"),
		CacheDir:    filepath.Join(s.cfg.Bin, "cache"),
	}
}

// checkLab refuses to take up another sandbox, or one of another size.
func (s *Sandbox) checkLab(l *lab.Lab) error {
	if want := s.labConfig().Dir; l.Dir() != want {
		return fmt.Errorf("this machine has a sandbox in %s: remove it first", l.Dir())
	}
	if n := len(l.Hosts()); n != s.cfg.Hosts {
		return fmt.Errorf("the sandbox has %d hosts, not %d: keep it with HOSTS=%d, or run make sandbox-down first", n, s.cfg.Hosts, n)
	}
	return nil
}

// startHosts powers on the hosts that are off. An agent that joined before
// needs no token any more; one that did not gets a new one.
func (s *Sandbox) startHosts(ctx context.Context) error {
	first := s.lab.Host(1)
	s.steps.lookAt(first.LogDir(), func() string { return first.Log("init", 5) })
	var off int
	for _, h := range s.lab.Hosts() {
		on, err := h.Running()
		if err != nil {
			return err
		}
		if !on {
			off++
		}
	}
	if off > 0 {
		token, err := s.joinToken(ctx)
		if err != nil {
			return err
		}
		s.changed = true
		s.lab.ConfigureAgents(func(lab.HostInfo) ([]byte, error) { return s.agentConfig(token) })
		if err := s.lab.Start(ctx); err != nil {
			return err
		}
	}
	var names []string
	for _, h := range s.lab.Hosts() {
		names = append(names, fmt.Sprintf("%s (%s)", h.Name(), h.IP()))
	}
	s.steps.say("%s", strings.Join(names, ", "))
	return nil
}

// agentConfig is a host's /etc/wisp/agent.yaml.
func (s *Sandbox) agentConfig(token string) ([]byte, error) {
	accel := "tcg"
	if s.accel.works {
		accel = "kvm"
	}
	return yaml.Marshal(map[string]any{
		"join": token, "accel": accel, "netsvc": s.cfg.program("wisp-netsvc"), "underlay_device": "cloudbr0",
	})
}

// hostNames is how the declaration wants them.
func (s *Sandbox) hostNames() string {
	var names []string
	for _, h := range s.lab.Hosts() {
		names = append(names, h.Name())
	}
	return strings.Join(names, ",")
}

// nth is the nth address of a range.
func nth(p netip.Prefix, n uint32) string {
	base := p.Masked().Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+n)
	return netip.AddrFrom4(out).String()
}

func netmask(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() }

// removeDir removes the sandbox's directory, which the lab left when it went.
func removeDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	return nil
}
