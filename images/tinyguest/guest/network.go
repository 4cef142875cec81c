package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// network runs one DHCP client for each network card, also for one that is
// plugged in later. Addresses by router advertisement are the kernel's affair.
type network struct {
	g    *guest
	mu   sync.Mutex
	have map[string]*service
}

func newNetwork(g *guest) *network {
	return &network{g: g, have: map[string]*service{}}
}

// refresh compares cards with clients. It reads everything again, so it may be
// called for any reason.
func (n *network) refresh() {
	n.mu.Lock()
	defer n.mu.Unlock()
	present := map[string]bool{}
	// Only cards have a device: not lo, not what a user-data script made.
	links, _ := filepath.Glob("/sys/class/net/*/device")
	for _, l := range links {
		name := filepath.Base(filepath.Dir(l))
		present[name] = true
		if n.have[name] == nil {
			if err := linkUp(name); err != nil {
				n.g.say.Printf("wisp-guest bring up %s: %v", name, err)
			}
			s := &service{name: "udhcpc-" + name, stop: make(chan struct{}), argv: dhcpClient(name)}
			n.have[name] = s
			go n.g.procs.keep(s, n.g.say)
		}
	}
	for name, s := range n.have {
		if !present[name] {
			close(s.stop)
			delete(n.have, name)
			for _, kind := range []string{"lease.", "address.", "resolv.", "routes."} {
				_ = os.Remove(filepath.Join(runDir, kind+name))
			}
			n.g.prov.wake()
		}
	}
}

// dhcpClient tries every two seconds: a guest often starts before its network's
// services do.
func dhcpClient(name string) []string {
	argv := []string{"/usr/bin/busybox", "udhcpc", "-f", "-i", name, "-s", "/etc/udhcpc.script", "-t", "10", "-T", "2", "-A", "2"}
	for _, option := range []string{"subnet", "router", "dns", "hostname", "domain", "search", "staticroutes", "mtu", "broadcast", "ntpsrv"} {
		argv = append(argv, "-O", option)
	}
	return argv
}

// lease is what the DHCP script wrote down about one card.
type lease struct {
	Interface string `json:"interface"`
	Address   string `json:"address"`
	Server    string `json:"server"`
	Seconds   string `json:"seconds"`
	Gateway   string `json:"gateway"`
	Routes    string `json:"routes"`
	DNS       string `json:"dns"`
	Domain    string `json:"domain"`
	Hostname  string `json:"hostname"`
	MTU       string `json:"mtu"`
}

// readLeases returns the leases in the order of the cards.
func readLeases(dir string) []lease {
	paths, _ := filepath.Glob(dir + "/lease.*")
	var leases []lease
	for _, p := range paths {
		name := strings.TrimPrefix(filepath.Base(p), "lease.")
		if strings.HasSuffix(name, ".new") {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			continue // dropped meanwhile
		}
		leases = append(leases, parseLease(name, string(b)))
	}
	return leases
}

func parseLease(name, text string) lease {
	l := lease{Interface: name}
	fields := map[string]*string{
		"address": &l.Address, "server": &l.Server, "seconds": &l.Seconds, "gateway": &l.Gateway, "routes": &l.Routes,
		"dns": &l.DNS, "domain": &l.Domain, "hostname": &l.Hostname, "mtu": &l.MTU,
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if f := fields[key]; f != nil {
			*f = value
		}
	}
	return l
}

// ip is the address without its prefix length.
func (l lease) ip() string {
	a, _, _ := strings.Cut(l.Address, "/")
	return a
}

// restoreHostname sets the name of the last boot until DHCP says otherwise.
func restoreHostname() error {
	b, err := os.ReadFile("/etc/hostname")
	if err != nil {
		return err
	}
	return syscall.Sethostname([]byte(strings.TrimSpace(string(b))))
}

// setHostname takes a name from the network into the kernel and onto the disk.
func setHostname(name string) error {
	if !validHostname(name) {
		return fmt.Errorf("set host name: %q is not one", name)
	}
	if err := syscall.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name %s: %w", name, err)
	}
	if err := writeFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return fmt.Errorf("set host name %s: %w", name, err)
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n", name)
	if err := writeFile("/etc/hosts", []byte(hosts), 0o644); err != nil {
		return fmt.Errorf("set host name %s: %w", name, err)
	}
	return nil
}

func validHostname(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '-' || s[0] == '.' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == ""
}

// linkUp sets IFF_UP. The kernel then solicits router advertisements by itself,
// and gives lo its addresses.
func linkUp(name string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var req struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(req.name[:], name)
	req.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}

// card is what the page shows of a network card.
type card struct {
	Name string   `json:"name"`
	MAC  string   `json:"mac"`
	MTU  int      `json:"mtu"`
	Up   bool     `json:"up"`
	IPv4 []string `json:"ipv4"`
	IPv6 []string `json:"ipv6"`
}

func readCards() []card {
	links, err := net.Interfaces()
	if err != nil {
		return nil
	}
	cards := []card{}
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 {
			continue
		}
		c := card{Name: l.Name, MAC: l.HardwareAddr.String(), MTU: l.MTU, Up: l.Flags&net.FlagUp != 0, IPv4: []string{}, IPv6: []string{}}
		addrs, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, ok := a.(*net.IPNet)
			switch {
			case !ok:
			case p.IP.To4() != nil:
				c.IPv4 = append(c.IPv4, p.String())
			default:
				c.IPv6 = append(c.IPv6, p.String())
			}
		}
		cards = append(cards, c)
	}
	return cards
}

// globalIPv6 is the first address a router advertisement gave.
func globalIPv6(cards []card) string {
	for _, c := range cards {
		for _, a := range c.IPv6 {
			if ip, _, err := net.ParseCIDR(a); err == nil && ip.IsGlobalUnicast() {
				return ip.String()
			}
		}
	}
	return ""
}
