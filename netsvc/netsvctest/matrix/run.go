package matrix

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

// atOnce bounds the probes under way: a router in an emulated machine is no faster for having more to do.
const atOnce = 8

// Run sends every packet of the matrix through a router that is plugged into w and ruled by p. It leaves the router with
// Spec applied and the guests addressed.
func Run(t *testing.T, w *World, p *Peer) {
	t.Helper()
	p.Apply(t, Spec())
	w.leases(t, p)
	w.addressGuests()
	w.serve(t)
	for i, ph := range w.phases() {
		if i > 0 { // the first is what the guests have leases of
			s := Spec()
			ph.change(s)
			p.Apply(t, s)
		}
		t.Run(ph.name, func(t *testing.T) { ask(t, ph.probes) })
	}
	t.Run("a guest that takes another's address", w.spoof)
}

// ask sends probes and compares all of what came of them at once.
func ask(t *testing.T, probes []probe) {
	got, want := make([]string, len(probes)), make([]string, len(probes))
	tokens := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, p := range probes {
		want[i] = p.name + ": " + p.want
		all.Go(func() {
			tokens <- struct{}{}
			defer func() { <-tokens }()
			got[i] = p.name + ": " + p.result()
		})
	}
	all.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Patience with what must come, and with what must not: a probe that should pass is waited for long, so that a slow
// machine fails no test; one that should not pass is given up sooner, which can only hide a packet that came late.
const (
	patience   = 15 * time.Second
	impatience = time.Second
)

func (p probe) result() string {
	limit := patience
	if p.want == closed {
		limit = impatience
	}
	seconds := fmt.Sprintf("%g", limit.Seconds())
	switch p.kind {
	case "tcp", "udp":
		return p.word("python3", "-c", clientScript, p.kind, p.args[0], p.args[1], p.args[2], seconds)
	case "ping":
		_, err := p.from.Run("busybox", "ping", "-c", "1", "-W", fmt.Sprint(int(limit.Seconds())), p.args[0])
		if err != nil {
			return closed
		}
		return "answer"
	case "http":
		argv := append([]string{"curl", "-s", "-m", seconds, "-w", " %{http_code}"}, p.args[1:]...)
		return p.word(append(argv, "http://"+p.args[0])...)
	case "dns":
		argv := append([]string{"dig", "+tries=1", "+time=" + fmt.Sprint(int(limit.Seconds())), "+noall", "+answer", "+comments", "@" + p.args[0], p.args[1]}, p.args[2:]...)
		out, _ := p.from.Run(argv...)
		return digAnswer(out)
	}
	return "unknown kind " + p.kind
}

// word is what a command printed, on one line.
func (p probe) word(argv ...string) string {
	out, err := p.from.Run(argv...)
	out = strings.Join(strings.Fields(out), " ")
	if err != nil {
		return closed + " " + out + err.Error()
	}
	return out
}

// digAnswer is the first address, or else the status, or else closed.
func digAnswer(out string) string {
	status := closed
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, "status: "); ok {
			status, _, _ = strings.Cut(rest, ",")
		}
		if f := strings.Fields(line); len(f) == 5 && f[3] == "A" && !strings.HasPrefix(line, ";") {
			return f[4]
		}
	}
	return status
}

// clientScript asks a server once and prints what it says.
const clientScript = `
import socket, sys
kind, host, port, source, wait = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
try:
    if source:
        s.bind((source, 0))
    if kind == "udp": # may be lost, and is sent again
        s.settimeout(float(wait) / 5)
        for attempt in range(5):
            s.sendto(b"?", (host, int(port)))
            try:
                print(s.recv(100).decode())
                break
            except OSError:
                pass
        else:
            print("closed")
    else:
        s.settimeout(float(wait))
        s.connect((host, int(port)))
        print(s.recv(100).decode().strip() or "closed")
except OSError:
    print("closed")
`

// leases asks DHCP as guests do. They have no addresses yet.
func (w *World) leases(t *testing.T, p *Peer) {
	t.Helper()
	dir := t.TempDir()
	for _, g := range []struct {
		name string
		node *netsvctest.Node
		want []string
	}{
		{"g1", w.g1, []string{
			"broadcast=10.1.1.255", "dns=10.1.1.2 10.1.1.1", "domain=" + domain, "hostname=web1", "ip=10.1.1.11", "lease=3600", "mtu=1450",
			"router=10.1.1.1", "serverid=10.1.1.2", "staticroutes=169.254.169.254/32 10.1.1.2 0.0.0.0/0 10.1.1.1", "subnet=255.255.255.0",
		}},
		{"g2", w.g2, []string{
			"broadcast=10.1.1.255", "dns=10.1.1.2 10.1.1.1", "domain=" + domain, "hostname=web2", "ip=10.1.1.12", "lease=3600", "mtu=1450",
			"router=10.1.1.1", "serverid=10.1.1.2", "staticroutes=169.254.169.254/32 10.1.1.2 0.0.0.0/0 10.1.1.1", "subnet=255.255.255.0",
		}},
		{"evil", w.evil, nil},
	} {
		env, hook := filepath.Join(dir, g.name), filepath.Join(dir, g.name+".sh")
		text := "#!/bin/sh\n[ \"$1\" = bound ] && env > " + env + "\nexit 0\n"
		if err := os.WriteFile(hook, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		tries := "10"
		if g.want == nil {
			tries = "2"
		}
		out, err := g.node.Run("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", tries, "-T", "1", "-s", hook,
			"-O", "staticroutes", "-O", "mtu", "-x", "hostname:liar")
		if (err == nil) != (g.want != nil) {
			t.Errorf("DHCP of %s: %v\n%s", g.name, err, out)
			continue
		}
		if g.want == nil {
			continue
		}
		b, err := os.ReadFile(env)
		if err != nil {
			t.Errorf("DHCP of %s: %v\n%s", g.name, err, out)
			continue
		}
		if diff := cmp.Diff(g.want, leased(string(b))); diff != "" {
			t.Errorf("DHCP of %s (-want +got):\n%s", g.name, diff)
		}
	}
	p.WaitFor(t, "two leases", func(o *netspec.Observation) bool { return len(o.GetLeases()) == 2 })
}

// leased picks what DHCP gave from an environment.
func leased(env string) []string {
	names := []string{
		"broadcast", "dns", "domain", "hostname", "ip", "lease", "mtu", "router", "serverid", "staticroutes", "subnet",
	}
	var kept []string
	for line := range strings.Lines(env) {
		line = strings.TrimSpace(line)
		if name, _, _ := strings.Cut(line, "="); slices.Contains(names, name) {
			kept = append(kept, line)
		}
	}
	slices.Sort(kept)
	return kept
}

// spoof lets evil take g2's address while g2 is silent: a guest is who its MAC address says.
func (w *World) spoof(t *testing.T) {
	w.g2.Must("ip", "link", "set", "eth0", "down")
	w.evil.Must("ip", "address", "add", g2IP+"/32", "dev", "eth0")
	w.evil.Must("ip", "neighbor", "flush", "dev", "eth0") // it asks anew, by ARP as g2: the router now knows g2 by evil's MAC
	for _, to := range []string{svcIP, gwIP} {
		got := probe{from: w.evil, kind: "http", args: []string{to + "/latest/user-data", "--interface", g2IP}, want: closed}.result()
		if strings.Contains(got, "data of") || strings.HasSuffix(got, " 200") {
			t.Errorf("at %s: got %q", to, got)
		}
	}
	w.evil.Must("ip", "address", "del", g2IP+"/32", "dev", "eth0")
	w.g2.Must("ip", "link", "set", "eth0", "up")
	w.addressGuests() // taking a link down loses its routes
	w.reclaim(t, w.g2, g2IP)
}

// reclaim makes the router know a guest by its own MAC again: it believes the last one for half a minute (arp(7),
// base_reachable_time) unless the guest announces itself. The bridge may lose what comes just after the link is up.
func (w *World) reclaim(t *testing.T, guest *netsvctest.Node, ip string) {
	t.Helper()
	netsvctest.Wait(t, ip+" at its own MAC", time.Minute, func() (bool, string) {
		out, err := guest.Run("busybox", "arping", "-U", "-c", "1", "-w", "1", "-I", "eth0", ip)
		for _, to := range []string{svcIP, gwIP} {
			if err == nil {
				out, err = guest.Run("busybox", "ping", "-c", "1", "-W", "1", "-I", ip, to)
			}
		}
		return err == nil, out
	})
}

// Check asks what must pass whenever the router works, and a few that must not; Run must have been run before.
func Check(t *testing.T, w *World) {
	t.Helper()
	ask(t, []probe{
		tcp("forwarded port", w.world, pubIP, 8000, worldIP),
		tcp("forwarded port without a firewall rule", w.world, pubIP, 8001, closed),
		tcp("out, behind the public address", w.g1, farIP, 80, pubIP),
		tcp("out, denied port", w.g1, farIP, 25, closed),
		tcp("static address", w.world, staticIP, 80, worldIP),
		{"own name", w.g1, "dns", []string{svcIP, "web2." + domain}, g2IP},
		{"metadata", w.g1, "http", []string{svcIP + "/latest/user-data"}, "data of g1 200"},
	})
}
