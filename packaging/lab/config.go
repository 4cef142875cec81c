package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Limits that follow from names and addresses: a link name has 15 characters,
// "-mgmt" takes 5 of them and a /24 must hold all hosts.
const (
	maxName  = 6
	maxHosts = 64
	// firstHost is the last part of the first host's address.
	firstHost = 11
)

// Config says what a lab shall be. The zero value of a field means its default
// where one is named.
type Config struct {
	// Name tells labs of one machine apart, in link names and in the record:
	// at most 6 lower-case letters and digits, a letter first.
	Name string
	// Dir holds everything of the lab, one directory per host. Keep it short:
	// a socket path must fit into 107 bytes.
	Dir string
	// Hosts is how many hosts there are, named h1, h2, ... Default 1.
	Hosts int
	// MgmtPrefix and PublicPrefix are IPv4 ranges. The first address of each
	// is the outside's: the machine's with AttachRoot, else the switch's. Host n
	// has address 10+n of MgmtPrefix, none of PublicPrefix.
	// Default 10.255.0.0/24 and 198.51.100.0/24.
	MgmtPrefix, PublicPrefix netip.Prefix
	// AttachRoot joins the machine itself to both ranges. Nothing the hosts
	// send is forwarded by the machine, and nothing the machine sends into the
	// ranges leaves it, whether or not the links are up.
	AttachRoot bool
	// MTU of the underlay. Default 1500.
	MTU int

	// AgentBinary is what runs as agent on each host. Empty: none. Hosts see the
	// machine's files but for the directories they have of their own: /run,
	// /var/tmp, /var/lib/wisp, /etc/wisp and libvirt's.
	AgentBinary string
	// AgentArgs are its arguments. Default: --config /etc/wisp/agent.yaml.
	AgentArgs []string
	// AgentConfig gives the text of a host's /etc/wisp/agent.yaml. It is asked
	// at every power-on by the process that made the Lab; nil leaves the file
	// as it is.
	AgentConfig func(HostInfo) ([]byte, error)
	// Shared directories appear in every host at the same path, writable: the
	// stand-in for a shared file system.
	Shared []string

	// Persistent labs live on when the process that made them ends; any
	// other leftover is removed by the next New of its name.
	Persistent bool
	// CacheDir keeps what libvirt finds out about QEMU, which takes seconds and
	// is the same for all hosts. Default: wisp-lab in the user's cache directory.
	CacheDir string
	// BootTimeout is for one host, from power-on to libvirt answering.
	// Default 60 s.
	BootTimeout time.Duration
	// Log gets what the lab does. Default: nothing is logged.
	Log *slog.Logger
}

// HostInfo is what a host's configuration may depend on.
type HostInfo struct {
	// Index counts from 1.
	Index int
	// Name is the host name: h1, h2, ...
	Name string
	// IP is its address in MgmtPrefix.
	IP netip.Addr
	// Gateway is the outside's address in MgmtPrefix.
	Gateway netip.Addr
}

var goodName = regexp.MustCompile(`^[a-z][a-z0-9]{0,5}$`)

// withDefaults fills in and checks.
func (c Config) withDefaults() (Config, error) {
	if !goodName.MatchString(c.Name) {
		return c, fmt.Errorf("check lab name %q: want at most %d lower-case letters and digits, a letter first", c.Name, maxName)
	}
	if c.Dir == "" {
		return c, errors.New("check lab: no directory given")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("check lab directory: %w", err)
	}
	c.Dir = dir
	if c.Hosts == 0 {
		c.Hosts = 1
	}
	if c.Hosts < 0 || c.Hosts > maxHosts {
		return c, fmt.Errorf("check lab: %d hosts, want 1 to %d", c.Hosts, maxHosts)
	}
	if !c.MgmtPrefix.IsValid() {
		c.MgmtPrefix = netip.MustParsePrefix("10.255.0.0/24")
	}
	if !c.PublicPrefix.IsValid() {
		c.PublicPrefix = netip.MustParsePrefix("198.51.100.0/24")
	}
	for _, p := range []netip.Prefix{c.MgmtPrefix, c.PublicPrefix} {
		if !p.Addr().Is4() || p != p.Masked() || p.Bits() > 25 || p.Bits() < 16 {
			return c, fmt.Errorf("check range %s: want an IPv4 prefix of 16 to 25 bits without host bits", p)
		}
	}
	if c.MgmtPrefix.Overlaps(c.PublicPrefix) {
		return c, fmt.Errorf("check ranges: %s and %s overlap", c.MgmtPrefix, c.PublicPrefix)
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.AgentArgs == nil {
		c.AgentArgs = []string{"--config", agentConfigPath}
	}
	if c.AgentBinary != "" {
		if c.AgentBinary, err = filepath.Abs(c.AgentBinary); err != nil {
			return c, fmt.Errorf("check agent binary: %w", err)
		}
	}
	return c.withPathDefaults()
}

func (c Config) withPathDefaults() (Config, error) {
	for _, d := range privateDirs {
		if c.AgentBinary != "" && strings.HasPrefix(c.AgentBinary, d.path+"/") {
			return c, fmt.Errorf("check agent binary: %s is below %s, of which each host has its own", c.AgentBinary, d.path)
		}
	}
	if c.CacheDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return c, fmt.Errorf("find cache directory: %w", err)
		}
		c.CacheDir = filepath.Join(cache, "wisp-lab")
	}
	if c.BootTimeout == 0 {
		c.BootTimeout = time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	// sun_path has 108 bytes with its NUL; see unix(7).
	if longest := filepath.Join(c.hostDir(c.Hosts), "run", libvirtSocket); len(longest) > 107 {
		return c, fmt.Errorf("check lab directory: socket path %s is longer than 107 bytes", longest)
	}
	return c, nil
}

func (c Config) hostDir(index int) string { return filepath.Join(c.Dir, hostName(index)) }

func (c Config) hostInfo(index int) HostInfo {
	return HostInfo{
		Index: index, Name: hostName(index),
		IP:      nth(c.MgmtPrefix, firstHost-1+index),
		Gateway: nth(c.MgmtPrefix, 1),
	}
}

func hostName(index int) string { return fmt.Sprintf("h%d", index) }

// nth is the nth address of an IPv4 prefix.
func nth(p netip.Prefix, n int) netip.Addr {
	base := p.Masked().Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+uint32(n))
	return netip.AddrFrom4(out)
}

// within gives nth with the prefix's length, as ip(8) wants it.
func within(p netip.Prefix, n int) string {
	return netip.PrefixFrom(nth(p, n), p.Bits()).String()
}
