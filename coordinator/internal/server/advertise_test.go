package server

import (
	"net"
	"testing"
)

func TestAdvertised(t *testing.T) {
	addr := func(s string) net.Addr {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	machine := []net.Addr{addr("127.0.0.1/8"), addr("::1/128"), addr("fe80::1/64"), addr("2001:db8::7/64"), addr("192.0.2.7/24"), addr("198.51.100.7/24")}
	six := machine[:4]
	for name, c := range map[string]struct {
		cfg  Config
		have []net.Addr
		want string
	}{
		"the default":        {Config{Agents: ":8250"}, machine, "192.0.2.7:8250"},
		"all IPv4":           {Config{Agents: "0.0.0.0:8250"}, machine, "192.0.2.7:8250"},
		"all IPv6":           {Config{Agents: "[::]:8250"}, six, "[2001:db8::7]:8250"},
		"one address":        {Config{Agents: "198.51.100.7:8250"}, machine, "198.51.100.7:8250"},
		"loopback, as asked": {Config{Agents: "127.0.0.1:8250"}, machine, "127.0.0.1:8250"},
		"told otherwise":     {Config{Agents: ":8250", AgentsAdvertise: "cloud.example:443"}, machine, "cloud.example:443"},
	} {
		got, err := advertised(c.cfg, func() ([]net.Addr, error) { return c.have, nil })
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	if _, err := advertised(Config{Agents: "8250"}, nil); err == nil {
		t.Error("an address without a port was accepted")
	}
}
