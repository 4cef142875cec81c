package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

// servers starts whoami servers where guests and the world have them.
func (l *lab) servers() {
	l.t.Helper()
	var all []*netsvctest.Process
	for _, s := range []struct {
		node *netsvctest.Node
		at   string
	}{
		{l.g1, g1IP + ":80"},
		{l.g1, g1IP + ":7001"},
		{l.g2, g2IP + ":80"},
		{l.world, "198.51.100.7:80"},
		{l.world, "198.51.100.7:25"},
		{l.router, "0.0.0.0:9999"},
	} {
		all = append(all, startRole(l.t, s.node, "whoami", s.at))
	}
	for _, p := range all {
		netsvctest.Wait(l.t, "the servers", 5*time.Second, func() (bool, string) {
			return strings.Contains(p.Output(), "listening"), p.Output()
		})
	}
}

// dial asks a whoami once and returns what it saw, or "closed". It waits long for what should come, and not so long
// for what should not.
func dial(n *netsvctest.Node, host string, port int, source, want string) string {
	wait := "5"
	if want == "closed" {
		wait = "0.5"
	}
	python := `import socket,sys
s=socket.socket(); s.settimeout(float(sys.argv[4]))
try:
    if sys.argv[3]: s.bind((sys.argv[3],0))
    s.connect((sys.argv[1],int(sys.argv[2]))); s.sendall(b"?\n"); print(s.recv(100).decode().strip())
except OSError as e: print("closed")`
	out, err := n.Run("python3", "-c", python, host, fmt.Sprint(port), source, wait)
	if err != nil {
		return out + err.Error()
	}
	return strings.TrimSpace(out)
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	l.apply(spec())
	l.servers()
	l.evil.Must("ip", "address", "add", "192.168.7.7/32", "dev", "lo")
	tests := []struct {
		name   string
		from   *netsvctest.Node
		host   string
		port   int
		source string
		want   string
	}{
		{"forwarded port", l.world, pubIP, 8000, "", worldIP},
		{"forwarded port without a firewall rule", l.world, pubIP, 8001, "", "closed"},
		{"forwarded range, one by one", l.world, pubIP, 9001, "", worldIP},
		{"source not in the rule", l.world, pubIP2, 8000, "", "closed"},
		{"source in the rule", l.world, pubIP2, 8000, "198.51.100.7", "198.51.100.7"},
		{"the guest's address from outside", l.world, g1IP, 80, "", "closed"},
		{"metadata from outside", l.world, pubIP, 80, "", "closed"},
		{"passwords from outside", l.world, pubIP, 8080, "", "closed"},
		{"another port of the namespace from outside", l.world, pubIP, 9999, "", "closed"},
		{"another port of the namespace from a guest", l.g1, svcIP, 9999, "", "closed"},
		{"the same at the gateway", l.g1, gwIP, 9999, "", "closed"},
		{"the same at the public address", l.g1, pubIP, 9999, "", "closed"},
		{"out, behind the public address", l.g1, "198.51.100.7", 80, "", pubIP},
		{"out, denied port", l.g1, "198.51.100.7", 25, "", "closed"},
		{"out, with a source that is not a guest's", l.evil, "198.51.100.7", 80, "192.168.7.7", "closed"},
		{"hairpin", l.g2, pubIP, 8000, "", gwIP},
		{"hairpin to itself", l.g1, pubIP, 8000, "", gwIP},
		{"hairpin without a firewall rule", l.g2, pubIP, 8001, "", "closed"},
		{"hairpin, source not in the rule", l.g1, pubIP2, 8000, "", "closed"},
		{"directly to a neighbour", l.g2, g1IP, 80, "", g2IP},
	}
	l.world.Must("ip", "route", "add", guestCIDR, "via", pubIP)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := dial(tt.from, tt.host, tt.port, tt.source, tt.want); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, ping := range []struct {
		name string
		from *netsvctest.Node
		to   string
		want bool
	}{
		{"public address with a rule", l.world, pubIP, true},
		{"public address without", l.world, pubIP2, false},
		{"gateway from a guest", l.g1, gwIP, true},
		{"service address from a guest", l.g1, svcIP, true},
	} {
		_, err := ping.from.Run("busybox", "ping", "-c", "1", "-W", "1", ping.to)
		if (err == nil) != ping.want {
			t.Errorf("ping %s: answered %v, want %v", ping.name, err == nil, ping.want)
		}
	}

	// The rules gone, everything is closed; the egress default turned round, only the exception is open.
	s := spec()
	s.Firewall.Ingress = nil
	s.Firewall.EgressDefaultAllow = false
	l.apply(s)
	for _, tt := range []struct {
		name string
		from *netsvctest.Node
		host string
		port int
		want string
	}{
		{"forwarded port", l.world, pubIP, 8000, "closed"},
		{"hairpin", l.g2, pubIP, 8000, "closed"},
		{"out", l.g1, "198.51.100.7", 80, "closed"},
		{"out, excepted port", l.g1, "198.51.100.7", 25, pubIP},
	} {
		if got := dial(tt.from, tt.host, tt.port, "", tt.want); got != tt.want {
			t.Errorf("after the change: %s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// state is everything of the router's namespace that a restart must not change. The order of policy rules with one
// priority and of the jumps in built-in chains says nothing.
func (l *lab) state() string {
	return l.router.Must("sh", "-c", `ip -o -4 address | sed 's/valid_lft.*//' | sort; ip rule | sort; `+
		`ip -4 route show table all | grep -v '^broadcast\|^local' | sort; sysctl -a 2>/dev/null | `+
		`grep -E '^net.ipv4.(ip_forward|conf.(all|gw0|svc0|pub0).(rp_filter|arp_ignore|arp_announce|accept_redirects)) '; `+
		`iptables-save | grep -v '^#' | sed 's/\[[0-9:]*\]//' > $0; grep -E '^-A [PIFO]' $0 | sort; grep -vE '^-A [PIFO]' $0`,
		filepath.Join(l.t.TempDir(), "rules"))
}

// A successor finds every rule, address and connection as they were.
func TestCVE_2013_6398_RestartKeepsEverything(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	l.apply(spec())
	l.servers()
	before := l.state()
	in := startRole(t, l.world, "talk", pubIP+":8000")
	out := startRole(t, l.g2, "talk", "198.51.100.7:80")
	ping := l.world.Start("busybox", "ping", "-i", "0.01", "-c", "300", pubIP)
	talks := func(p *netsvctest.Process, atLeast int) {
		t.Helper()
		netsvctest.Wait(t, "the conversation to go on", 10*time.Second, func() (bool, string) {
			return strings.Count(p.Output(), "\n") >= atLeast, p.Output()
		})
	}
	talks(in, 10)
	talks(out, 10)

	if err := l.process.Cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = l.process.Wait(5 * time.Second)
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("state after kill -9 (-before +after):\n%s", diff)
	}
	l.start()
	l.generation = 0 // the successor knows of none
	o := l.apply(spec())
	for _, s := range o.GetServices() {
		if s.GetRepairs() != 0 {
			t.Errorf("the successor repaired %s %d times", s.GetName(), s.GetRepairs())
		}
	}
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("state after the restart (-before +after):\n%s", diff)
	}
	seen := strings.Count(in.Output(), "\n")
	talks(in, seen+20)
	talks(out, seen+20)
	for name, p := range map[string]*netsvctest.Process{"in": in, "out": out} {
		if strings.Contains(p.Output(), "broken") {
			t.Errorf("connection %s broke:\n%s", name, p.Output())
		}
	}
	if err := ping.Wait(20 * time.Second); err != nil || !strings.Contains(ping.Output(), " 0% packet loss") {
		t.Errorf("ping: %v\n%s", err, ping.Output())
	}
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	l.apply(spec())
	l.servers()
	before := l.state()
	for _, drift := range []struct {
		name    string
		service string
		command string
	}{
		{"own chain flushed", "firewall", "iptables -F WISP-FW-FWD"},
		{"built-in chains flushed", "firewall", "iptables -F"},
		{"own chains deleted", "firewall", "iptables -F && iptables -X"},
		{"own translation chains deleted", "portfwd", "iptables -t nat -F && iptables -t nat -X"},
		{"a rule slipped in", "firewall", "iptables -I WISP-FW-PUB -j ACCEPT"},
		{"policy opened", "firewall", "iptables -P FORWARD ACCEPT"},
		{"translation flushed", "portfwd", "iptables -t nat -F WISP-PF-PRE"},
		{"source translation unhooked", "nat", "iptables -t nat -D POSTROUTING -j WISP-NAT-POST"},
		{"address deleted", "link", "ip address del " + gwIP + "/24 dev gw0"},
		{"foreign address added", "link", "ip address add 10.1.1.77/24 dev gw0"},
		{"link down", "link", "ip link set pub0 down"},
		{"sysctl changed", "link", "sysctl -q net.ipv4.conf.gw0.rp_filter=0"},
		{"policy rule deleted", "link", "ip rule del priority 10000"},
		{"route deleted", "route", "ip route del default"},
		{"forwarding off", "route", "sysctl -q net.ipv4.ip_forward=0"},
		{"magic address deleted", "metadata", "ip address del " + magicIP + "/32 dev svc0"},
	} {
		t.Run(drift.name, func(t *testing.T) {
			repairs := func() uint64 {
				l.send(&netspec.ToService{Message: &netspec.ToService_Observe{Observe: &netspec.Observe{}}})
				for _, s := range l.peer.observation().GetServices() {
					if s.GetName() == drift.service {
						return s.GetRepairs()
					}
				}
				return 0
			}
			had := repairs()
			l.router.Must("sh", "-c", drift.command)
			began := time.Now()
			netsvctest.Wait(t, "the repair", 10*time.Second, func() (bool, string) {
				diff := cmp.Diff(before, l.state())
				return diff == "", diff
			})
			t.Logf("repaired in %v", time.Since(began).Round(10*time.Millisecond))
			netsvctest.Wait(t, "the repair to be counted", 10*time.Second, func() (bool, string) {
				return repairs() > had, fmt.Sprint(repairs())
			})
		})
	}
	if got := dial(l.world, pubIP, 8000, "", worldIP); got != worldIP {
		t.Errorf("after all repairs: got %q", got)
	}
}

func TestShutdownRemovesEverything(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	l.apply(spec())
	l.send(&netspec.ToService{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{}}})
	if err := l.process.Wait(10 * time.Second); err != nil {
		t.Fatalf("end of the process: %v", err)
	}
	state := l.state()
	for _, trace := range []string{"WISP", "DROP", "10.1.1.", "203.0.113.", magicIP, "10000:", "ip_forward = 1"} {
		if strings.Contains(state, trace) {
			t.Errorf("%q is left:\n%s", trace, state)
		}
	}
}

func TestShutdownKeepsState(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.apply(spec())
	before := l.state()
	l.send(&netspec.ToService{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{KeepState: true}}})
	if err := l.process.Wait(10 * time.Second); err != nil {
		t.Fatalf("end of the process: %v", err)
	}
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("state (-before +after):\n%s", diff)
	}
}

// Two specs forward the same public port to different guests, and only the first allows it. However
// often one takes the other's place, nobody ever reaches the second guest.
func TestCVE_2013_6398_NeverMoreOpen(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	open, closed := spec(), spec()
	closed.Firewall.Ingress = closed.Firewall.Ingress[1:]
	for _, r := range closed.Portfwd.Rules {
		if r.GetId() == "pf-web" {
			r.GuestIp = g2IP
		}
	}
	l.apply(open)
	first, second := startRole(t, l.g1, "whoami", g1IP+":80"), startRole(t, l.g2, "whoami", g2IP+":80")
	for _, p := range []*netsvctest.Process{first, second} {
		netsvctest.Wait(t, "the servers", 5*time.Second, func() (bool, string) {
			return strings.Contains(p.Output(), "listening"), p.Output()
		})
	}
	startRole(t, l.world, "knock", pubIP+":8000")
	connections := func() int { return strings.Count(first.Output(), "connection") }
	for range 20 {
		before := connections()
		netsvctest.Wait(t, "connections to the first guest", 10*time.Second, func() (bool, string) {
			return connections() > before, first.Output()
		})
		l.apply(closed)
		l.apply(open)
	}
	if strings.Contains(second.Output(), "connection") {
		t.Errorf("the second guest was reached:\n%s", second.Output())
	}
}

// TestLegsComeAndGo: a namespace with the services' leg alone becomes the router's when the other legs arrive, and is
// relieved of it again, while its services go on.
func TestLegsComeAndGo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	services := spec()
	services.Links, services.Routes, services.Forwarding = services.Links[:1], nil, false
	services.Nat, services.Portfwd = nil, nil
	services.Firewall = &netspec.Firewall{GuestLink: "svc0", GuestCidr: guestCIDR}
	services.Dns.Links, services.Dns.Forwarders = []string{"svc0"}, nil
	services.Metadata.Links, services.Password.Links = []string{"svc0"}, []string{"svc0"}
	l.servers()

	check := func(when string, routed bool) {
		t.Helper()
		if out, err := l.g1.Run("curl", "-sS", "-m", "5", "http://"+magicIP+"/latest/instance-id"); err != nil || out != "vm-1" {
			t.Errorf("%s: metadata: %q, %v", when, out, err)
		}
		if out, _ := l.g1.Run("dig", "+short", "@"+svcIP, "web2."+domain); strings.TrimSpace(out) != g2IP {
			t.Errorf("%s: name: %q", when, out)
		}
		for _, way := range []struct {
			name string
			from *netsvctest.Node
			host string
			port int
			want string
		}{
			{"in", l.world, pubIP, 8000, worldIP},
			{"out", l.g2, "198.51.100.7", 80, pubIP},
			{"another port of the namespace", l.g1, svcIP, 9999, "closed"},
		} {
			want := way.want
			if !routed {
				want = "closed"
			}
			if got := dial(way.from, way.host, way.port, "", want); got != want {
				t.Errorf("%s: %s: got %q, want %q", when, way.name, got, want)
			}
		}
	}
	l.apply(services)
	check("services only", false)
	if out := l.router.Must("ip", "route", "show", "default"); out != "" {
		t.Errorf("services only: default route %q", out)
	}
	l.apply(spec())
	check("router", true)

	// The public leg vanishes and comes back under another name, as when a host's bridge is made anew.
	l.router.Must("ip", "link", "del", "pub0")
	l.waitFor("the loss to be seen", func(o *netspec.Observation) bool {
		for _, s := range o.GetServices() {
			if s.GetName() == "link" {
				return strings.Contains(s.GetError(), "no such link")
			}
		}
		return false
	})
	netsvctest.Wire(l.world, "eth0", "", l.router, "wpub2", pubMAC)
	l.world.Must("ip", "address", "add", worldIP+"/24", "dev", "eth0")
	l.world.Must("ip", "link", "set", "eth0", "up")
	l.waitFor("the return to be seen", func(o *netspec.Observation) bool {
		for _, s := range o.GetServices() {
			if !s.GetReady() {
				return false
			}
		}
		return true
	})
	check("after the public leg came back", true)

	l.apply(services)
	check("relieved", false)
}
