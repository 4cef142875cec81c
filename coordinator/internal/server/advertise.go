package server

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// advertised is what hosts are told to dial: what was configured, else the port that is listened on at an address of
// this machine. A name or address that only this machine understands would make every join token useless.
func advertised(c Config, addresses func() ([]net.Addr, error)) (string, error) {
	text := cmp.Or(c.AgentsAdvertise, c.Agents)
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", fmt.Errorf("agents_advertise: %w", err)
	}
	ip, err := netip.ParseAddr(host)
	if host != "" && (err != nil || !ip.IsUnspecified()) {
		return text, nil
	}
	all, err := addresses()
	if err != nil {
		return "", fmt.Errorf("find the machine's addresses: %w", err)
	}
	var six netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		switch ip = ip.Unmap(); {
		case !ok || !ip.IsGlobalUnicast():
		case ip.Is4():
			return net.JoinHostPort(ip.String(), port), nil
		case !six.IsValid():
			six = ip
		}
	}
	if six.IsValid() {
		return net.JoinHostPort(six.String(), port), nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host's name: %w", err)
	}
	return net.JoinHostPort(name, port), nil
}
