package lab

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigChecks(t *testing.T) {
	good := Config{Name: "t", Dir: "/tmp/t", CacheDir: "/tmp/c"}
	tests := []struct {
		name   string
		change func(*Config)
		err    string
	}{
		{"defaults", func(*Config) {}, ""},
		{"most hosts", func(c *Config) { c.Hosts = 64 }, ""},
		{"no name", func(c *Config) { c.Name = "" }, `check lab name ""`},
		{"name too long for a link", func(c *Config) { c.Name = "sevenup" }, `check lab name "sevenup"`},
		{"name with a slash", func(c *Config) { c.Name = "a/b" }, `check lab name "a/b"`},
		{"no directory", func(c *Config) { c.Dir = "" }, "no directory given"},
		{"too many hosts", func(c *Config) { c.Hosts = 65 }, "65 hosts, want 1 to 64"},
		{"socket path too long", func(c *Config) { c.Dir = "/" + strings.Repeat("x", 90) }, "longer than 107 bytes"},
		{"host bits", func(c *Config) { c.MgmtPrefix = netip.MustParsePrefix("10.1.1.1/24") }, "without host bits"},
		{"range too small", func(c *Config) { c.PublicPrefix = netip.MustParsePrefix("10.1.1.0/26") }, "want an IPv4 prefix"},
		{"no IPv4", func(c *Config) { c.PublicPrefix = netip.MustParsePrefix("fd00::/64") }, "want an IPv4 prefix"},
		{"agent hidden from hosts", func(c *Config) { c.AgentBinary = "/var/tmp/x/agent" }, "below /var/tmp, of which each host has its own"},
		{"agent below a like name", func(c *Config) { c.AgentBinary = "/runner/agent" }, ""},
		{"overlap", func(c *Config) { c.PublicPrefix = netip.MustParsePrefix("10.255.0.0/16") }, "overlap"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := cfg.withDefaults()
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

func TestHostInfo(t *testing.T) {
	cfg, err := Config{Name: "t", Dir: "/tmp/t", CacheDir: "/tmp/c", Hosts: 64}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	got := []HostInfo{cfg.hostInfo(1), cfg.hostInfo(64)}
	want := []HostInfo{
		{Index: 1, Name: "h1", IP: netip.MustParseAddr("10.255.0.11"), Gateway: netip.MustParseAddr("10.255.0.1")},
		{Index: 64, Name: "h64", IP: netip.MustParseAddr("10.255.0.74"), Gateway: netip.MustParseAddr("10.255.0.1")},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if got := within(cfg.PublicPrefix, 1); got != "198.51.100.1/24" {
		t.Errorf("outside's public address %s", got)
	}
}
