package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is /etc/wisp/agent.yaml. Everything else a host needs to know comes from the cluster.
type Config struct {
	// Join is the token to join a cluster with; a value that begins with "@" names a file that holds it. Not needed
	// once the host has joined.
	Join string `yaml:"join"`
	// DataDir keeps what the host must know after a power cut.
	DataDir string `yaml:"data_dir"`
	// RunDir keeps sockets.
	RunDir string `yaml:"run_dir"`
	// Listen is where /healthz, /readyz and /metrics are served: a socket path or a loopback address. "none" for
	// nowhere; empty for agent.sock in RunDir.
	Listen string `yaml:"listen"`
	// Netsvc is the wisp-netsvc binary; empty for the one beside this binary.
	Netsvc string `yaml:"netsvc"`
	// LibvirtSocket of the system's libvirtd.
	LibvirtSocket string `yaml:"libvirt_socket"`
	// UnderlayDevice and UnderlayAddress carry tunnels to other hosts; found out when empty.
	UnderlayDevice  string `yaml:"underlay_device"`
	UnderlayAddress string `yaml:"underlay_address"`
	// Accel is "auto" (KVM where a probe guest ran, else emulation), "kvm" or "tcg".
	Accel string `yaml:"accel"`
	// SystemVMDebug offers a login shell without a password on the serial console of every system VM of this host.
	SystemVMDebug bool `yaml:"system_vm_debug"`
	// Labels are free words about the host, for logs and metrics.
	Labels map[string]string `yaml:"labels"`
}

func defaultConfig() Config {
	return Config{
		DataDir: "/var/lib/wisp/agent", RunDir: "/run/wisp", LibvirtSocket: "/run/libvirt/libvirt-sock", Accel: "auto",
	}
}

// readConfig reads a file over the defaults. A missing file is an empty one; an unknown key is an error.
func readConfig(path string) (Config, error) {
	c := defaultConfig()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("read config: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("read config %s: %w", path, err)
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("read config %s: %w", path, err)
	}
	return c, nil
}

func (c *Config) check() error {
	for name, dir := range map[string]string{"data_dir": c.DataDir, "run_dir": c.RunDir, "libvirt_socket": c.LibvirtSocket} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%s: %q is not an absolute path", name, dir)
		}
	}
	if c.UnderlayAddress != "" {
		if _, err := netip.ParseAddr(c.UnderlayAddress); err != nil {
			return fmt.Errorf("underlay_address: %q is no address", c.UnderlayAddress)
		}
	}
	switch c.Accel {
	case "auto", "kvm", "tcg":
	default:
		return fmt.Errorf("accel: %q is not auto, kvm or tcg", c.Accel)
	}
	if c.Listen == "" {
		c.Listen = filepath.Join(c.RunDir, "agent.sock")
	}
	if c.Listen != "none" && !filepath.IsAbs(c.Listen) {
		host, _, err := net.SplitHostPort(c.Listen)
		if err != nil {
			return fmt.Errorf("listen: %q is neither a path nor host:port", c.Listen)
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			return fmt.Errorf("listen: %q is not on loopback", c.Listen)
		}
	}
	return nil
}

// token reads the join token.
func (c *Config) token() (string, error) {
	path, inFile := strings.CutPrefix(c.Join, "@")
	if !inFile {
		return c.Join, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Tokens are used once; a host that has joined may have lost its file.
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read join token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
