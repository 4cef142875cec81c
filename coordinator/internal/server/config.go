package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is /etc/wisp/coordinator.yaml. Everything that is not about this one machine is a global setting instead,
// changed through the API. Unknown keys are errors.
type Config struct {
	// DataDir holds log, snapshots, keys and certificates, mode 0700.
	DataDir string `yaml:"data_dir"`
	// Node is this coordinator's name for good; the host name by default.
	Node string `yaml:"node"`
	// API are the addresses of the HTTPS API. Certificate and Key are PEM files for it; by default it makes its own.
	API         []string `yaml:"api"`
	Certificate string   `yaml:"certificate"`
	Key         string   `yaml:"key"`
	// Plain are the addresses of the API without TLS: on loopback only, unless PlainAnywhere says that this is meant.
	Plain         []string `yaml:"plain"`
	PlainAnywhere bool     `yaml:"plain_anywhere"`
	// Integration is the address that the integration port is opened on, where the global setting integration.api.port
	// gives it one. Calls there need no credentials, so it is loopback unless IntegrationAnywhere says otherwise.
	Integration         string `yaml:"integration"`
	IntegrationAnywhere bool   `yaml:"integration_anywhere"`
	// Agents is where hosts connect; AgentsAdvertise what they are told, where that differs.
	Agents          string `yaml:"agents"`
	AgentsAdvertise string `yaml:"agents_advertise"`
	// Raft and Peers are for the other coordinators; the Advertise fields are how these reach them.
	Raft           string `yaml:"raft"`
	RaftAdvertise  string `yaml:"raft_advertise"`
	Peers          string `yaml:"peers"`
	PeersAdvertise string `yaml:"peers_advertise"`
	// Join are peers addresses of coordinators of the cluster to become a member of, at the first start.
	Join []string `yaml:"join"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `yaml:"log_level"`
}

// Default is the configuration of a file without keys.
func Default() Config {
	return Config{
		DataDir: "/var/lib/wisp/coordinator",
		API:     []string{":8443"}, Plain: []string{"127.0.0.1:8080"}, Integration: "127.0.0.1",
		Agents: ":8250", Raft: "127.0.0.1:8251", Peers: "127.0.0.1:8252", LogLevel: "info",
	}
}

// ReadConfig reads a file over the defaults.
func ReadConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c := Default()
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if err := c.complete(); err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return c, nil
}

// complete fills in what depends on the machine, and refuses what cannot work or is not safe.
func (c *Config) complete() error {
	if c.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host's name: %w", err)
		}
		c.Node = name
	}
	if c.DataDir == "" {
		return errors.New("data_dir is empty")
	}
	if (c.Certificate == "") != (c.Key == "") {
		return errors.New("certificate and key belong together")
	}
	if len(c.API)+len(c.Plain) == 0 {
		return errors.New("neither api nor plain has an address")
	}
	for _, a := range c.Plain {
		if !c.PlainAnywhere && !isLoopback(a) {
			return fmt.Errorf("plain has %s, which is not on loopback: passwords would cross the network in the clear (plain_anywhere: true allows it)", a)
		}
	}
	if ip, err := netip.ParseAddr(c.Integration); err != nil {
		return fmt.Errorf("integration has %q, which is no IP address: the port is the global setting integration.api.port", c.Integration)
	} else if !ip.IsLoopback() && !c.IntegrationAnywhere {
		return fmt.Errorf("integration has %s, which is not on loopback: whoever reaches it has all rights (integration_anywhere: true allows it)", ip)
	}
	for what, a := range map[string]string{"agents": c.Agents, "raft": c.Raft, "peers": c.Peers} {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	switch strings.ToLower(c.LogLevel) {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("log_level %q is none of debug, info, warn, error", c.LogLevel)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
