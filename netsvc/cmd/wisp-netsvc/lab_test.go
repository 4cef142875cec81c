package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// The lab: a bridge in a namespace of its own carries three guests and the two legs of the router's namespace, whose
// third leg leads to a namespace that plays the rest of the world.
//
//	g1 10.1.1.11, g2 10.1.1.12, evil 10.1.1.13 --- br0 --- svc0 10.1.1.2, gw0 10.1.1.1 [router] pub0 --- world
const (
	svcMAC  = "02:00:00:00:00:02"
	gwMAC   = "02:00:00:00:00:01"
	pubMAC  = "02:00:00:00:00:03"
	g1MAC   = "02:00:00:00:01:01"
	g2MAC   = "02:00:00:00:01:02"
	evilMAC = "02:00:00:00:01:03"

	svcIP   = "10.1.1.2"
	gwIP    = "10.1.1.1"
	g1IP    = "10.1.1.11"
	g2IP    = "10.1.1.12"
	evilIP  = "10.1.1.13"
	worldIP = "203.0.113.1"
	pubIP   = "203.0.113.10"
	pubIP2  = "203.0.113.11"
	magicIP = "169.254.169.254"

	guestCIDR = "10.1.1.0/24"
	domain    = "cs1cloud.internal"
)

// program is built once for all tests of the package, into a directory that TestMain removes.
var (
	buildDir string
	program  = sync.OnceValues(func() (string, error) {
		path := filepath.Join(buildDir, "wisp-netsvc")
		argv := append(append([]string{"build"}, buildFlags...), "-o", path, ".")
		out, err := exec.Command("go", argv...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build: %w\n%s", err, out)
		}
		return path, nil
	})
)

const buildPrefix = "wisp-netsvc-test-"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		play(role)
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	// What a killed run left behind; an hour is more than any run takes.
	if old, err := filepath.Glob(filepath.Join(os.TempDir(), buildPrefix+"*")); err == nil {
		for _, dir := range old {
			if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > time.Hour {
				os.RemoveAll(dir)
			}
		}
	}
	dir, err := os.MkdirTemp("", buildPrefix)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	buildDir = dir
	return m.Run()
}

type lab struct {
	t                    testing.TB
	router, world        *netsvctest.Node
	g1, g2, evil, bridge *netsvctest.Node
	process              *netsvctest.Process
	socket, metrics      string
	generation           uint64
	peer                 *peer
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := wireLab(t)
	l.start()
	return l
}

// wireLab is the lab with nothing running in it.
func wireLab(t testing.TB) *lab {
	t.Helper()
	netsvctest.RequireRoot(t)
	dir := t.TempDir()
	l := &lab{t: t, socket: filepath.Join(dir, "spec.sock"), metrics: filepath.Join(dir, "metrics.sock")}
	for _, n := range []**netsvctest.Node{&l.router, &l.world, &l.g1, &l.g2, &l.evil, &l.bridge} {
		*n = netsvctest.NewNode(t)
	}
	l.bridge.Must("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
	l.bridge.Must("ip", "link", "set", "br0", "up")
	for _, port := range []struct {
		node      *netsvctest.Node
		name, mac string
		own       string
	}{
		{l.router, "ps", svcMAC, "wsvc1"},
		{l.router, "pg", gwMAC, "wgw1"},
		{l.g1, "p1", g1MAC, "eth0"},
		{l.g2, "p2", g2MAC, "eth0"},
		{l.evil, "p3", evilMAC, "eth0"},
	} {
		netsvctest.Wire(l.bridge, port.name, "", port.node, port.own, port.mac)
		l.bridge.Must("ip", "link", "set", port.name, "master", "br0", "up")
	}
	l.bridge.Must("bridge", "link", "set", "dev", "ps", "isolated", "on")
	netsvctest.Wire(l.world, "eth0", "", l.router, "wpub1", pubMAC)
	l.world.Must("ip", "address", "add", worldIP+"/24", "dev", "eth0")
	l.world.Must("ip", "address", "add", "198.51.100.7/32", "dev", "lo")
	l.world.Must("ip", "link", "set", "eth0", "up")
	return l
}

// start runs wisp-netsvc in the router's namespace and connects to it.
func (l *lab) start() {
	l.t.Helper()
	path, err := program()
	if err != nil {
		l.t.Fatal(err)
	}
	l.process = l.router.Start(path, "--spec-source", "unix:"+l.socket, "--metrics", "unix:"+l.metrics,
		"--log-level", "debug")
	l.t.Cleanup(func() {
		if strings.Contains(l.process.Output(), "DATA RACE") {
			l.t.Error("wisp-netsvc has a data race")
		}
		if l.t.Failed() {
			l.t.Logf("wisp-netsvc printed:\n%s", l.process.Output())
		}
	})
	l.connect()
}

func (l *lab) connect() {
	l.t.Helper()
	var conn net.Conn
	netsvctest.Wait(l.t, "the spec socket", 10*time.Second, func() (bool, string) {
		var err error
		conn, err = net.Dial("unix", l.socket)
		return err == nil, fmt.Sprint(err)
	})
	l.peer = newPeer(conn)
	l.t.Cleanup(l.peer.close)
}

// guest addresses without DHCP, for tests of other services.
func (l *lab) addressGuests() {
	for n, ip := range map[*netsvctest.Node]string{l.g1: g1IP, l.g2: g2IP, l.evil: evilIP} {
		n.Must("ip", "address", "replace", ip+"/24", "dev", "eth0")
		n.Must("ip", "link", "set", "eth0", "up")
		n.Must("ip", "route", "replace", "default", "via", gwIP)
		n.Must("ip", "route", "replace", magicIP, "via", svcIP)
	}
}

// apply sends a spec under the next generation and waits until it is applied whole.
func (l *lab) apply(spec *netspec.NetSpec) *netspec.Observation {
	l.t.Helper()
	l.generation++
	spec.Generation = l.generation
	l.send(&netspec.ToService{Message: &netspec.ToService_Apply{Apply: spec}})
	return l.waitFor(fmt.Sprintf("generation %d", l.generation), func(o *netspec.Observation) bool {
		return o.GetAppliedGeneration() == l.generation
	})
}

func (l *lab) send(m *netspec.ToService) {
	l.t.Helper()
	if err := l.peer.w.Write(m); err != nil {
		l.t.Fatalf("send: %v", err)
	}
}

func (l *lab) waitFor(what string, condition func(*netspec.Observation) bool) *netspec.Observation {
	l.t.Helper()
	var last *netspec.Observation
	netsvctest.Wait(l.t, what, 15*time.Second, func() (bool, string) {
		last = l.peer.observation()
		return last != nil && condition(last), last.String() + l.peer.trouble()
	})
	return last
}

// spec is everything the router's namespace of the lab can want.
func spec() *netspec.NetSpec {
	return &netspec.NetSpec{
		NetworkId: "7d2c2f0e-6b7c-4b0c-9d1e-000000000001",
		Links: []*netspec.Link{
			{Name: "svc0", Mac: svcMAC, Mtu: 1450, Addresses: []string{svcIP + "/24"}, StrictArp: true},
			{Name: "gw0", Mac: gwMAC, Mtu: 1450, Addresses: []string{gwIP + "/24"}, StrictArp: true, Announce: true},
			{Name: "pub0", Mac: pubMAC, Mtu: 1500, Addresses: []string{pubIP + "/24", pubIP2 + "/24"}, Announce: true},
		},
		Routes:     []*netspec.Route{{Destination: "0.0.0.0/0", Gateway: worldIP, Link: "pub0"}},
		Forwarding: true,
		Dhcp4: &netspec.Dhcp4{
			Links: []string{"svc0"}, ServerId: svcIP, Subnet: guestCIDR, Gateway: gwIP,
			DnsServers: []string{svcIP, gwIP}, Domain: domain, LeaseSeconds: 3600, Mtu: 1450,
			ClasslessRoutes: []*netspec.Route{{Destination: magicIP + "/32", Gateway: svcIP}},
			Guests: []*netspec.Guest{
				{Mac: g1MAC, Ip: g1IP, Hostname: "web1", VmId: "vm-1", DefaultNic: true},
				{Mac: g2MAC, Ip: g2IP, Hostname: "web2", VmId: "vm-2", DefaultNic: true},
			},
		},
		Dns: &netspec.Dns{
			Links: []string{"svc0", "gw0"}, Domain: domain, Allow: []string{guestCIDR}, Forwarders: []string{"198.51.100.7"},
			Records: []*netspec.DnsRecord{
				{Name: "web1", Addresses: []string{g1IP}, TtlSeconds: 30},
				{Name: "web2", Addresses: []string{g2IP}, TtlSeconds: 30},
				{Name: "data-server", Addresses: []string{svcIP}, TtlSeconds: 300},
			},
		},
		Metadata: &netspec.Metadata{
			Links: []string{"svc0", "gw0"}, Listen: []string{svcIP, gwIP, magicIP},
			Guests: []*netspec.GuestData{
				{Ip: g1IP, Mac: g1MAC, UserData: []byte("#cloud-config\n"), MetaData: map[string]string{
					"instance-id": "vm-1", "local-hostname": "web1", "local-ipv4": g1IP, "public-keys": "ssh-rsa AAAA me",
				}},
				{Ip: g2IP, Mac: g2MAC, UserData: []byte("secret of g2"), MetaData: map[string]string{"instance-id": "vm-2"}},
			},
		},
		Password: &netspec.Password{
			Links: []string{"svc0", "gw0"}, Listen: []string{svcIP, gwIP},
			Guests: []*netspec.GuestPassword{
				{Ip: g1IP, Mac: g1MAC, Password: "pw-of-g1", Epoch: 3},
				{Ip: g2IP, Mac: g2MAC},
			},
		},
		Firewall: &netspec.Firewall{
			PublicLink: "pub0", GuestLink: "gw0", GuestCidr: guestCIDR, EgressDefaultAllow: true,
			Ingress: []*netspec.FirewallRule{
				{Id: "fw-web", Protocol: "tcp", PublicIp: pubIP, StartPort: 8000, EndPort: 8000},
				{Id: "fw-range", Protocol: "tcp", PublicIp: pubIP, StartPort: 9000, EndPort: 9002},
				{Id: "fw-some", Protocol: "tcp", PublicIp: pubIP2, Cidrs: []string{"198.51.100.0/24"}, StartPort: 8000, EndPort: 8000},
				{Id: "fw-ping", Protocol: "icmp", PublicIp: pubIP, IcmpType: 8, IcmpCode: -1},
			},
			Egress: []*netspec.FirewallRule{
				{Id: "eg-smtp", Protocol: "tcp", Cidrs: []string{guestCIDR}, StartPort: 25, EndPort: 25},
			},
		},
		Nat: &netspec.Nat{PublicLink: "pub0", GuestCidr: guestCIDR, SourceNatIp: pubIP},
		Portfwd: &netspec.PortForward{
			PublicLink: "pub0", GuestLink: "gw0", GuestCidr: guestCIDR, GuestGateway: gwIP,
			Rules: []*netspec.PortForwardRule{
				{
					Id: "pf-web", Protocol: "tcp", PublicIp: pubIP, PublicStartPort: 8000, PublicEndPort: 8000,
					GuestIp: g1IP, GuestStartPort: 80, GuestEndPort: 80,
				},
				{
					Id: "pf-closed", Protocol: "tcp", PublicIp: pubIP, PublicStartPort: 8001, PublicEndPort: 8001,
					GuestIp: g1IP, GuestStartPort: 80, GuestEndPort: 80,
				},
				{
					Id: "pf-range", Protocol: "tcp", PublicIp: pubIP, PublicStartPort: 9000, PublicEndPort: 9002,
					GuestIp: g1IP, GuestStartPort: 7000, GuestEndPort: 7002,
				},
				{
					Id: "pf-some", Protocol: "tcp", PublicIp: pubIP2, PublicStartPort: 8000, PublicEndPort: 8000,
					GuestIp: g2IP, GuestStartPort: 80, GuestEndPort: 80,
				},
			},
		},
	}
}

// peer is the host's end of the spec source.
type peer struct {
	conn net.Conn
	w    *specio.Writer
	done chan struct{}

	mu       sync.Mutex
	last     *netspec.Observation
	refusals []*netspec.Refusal
	err      error
}

func newPeer(conn net.Conn) *peer {
	p := &peer{conn: conn, w: specio.NewWriter(conn), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		r := specio.NewReader(conn)
		for {
			var m netspec.FromService
			err := r.Read(&m)
			p.mu.Lock()
			switch {
			case err != nil:
				p.err = err
				p.mu.Unlock()
				return
			case m.GetObservation() != nil:
				p.last = m.GetObservation()
			case m.GetRefusal() != nil:
				p.refusals = append(p.refusals, m.GetRefusal())
			}
			p.mu.Unlock()
		}
	}()
	return p
}

func (p *peer) close() {
	p.conn.Close()
	<-p.done
}

func (p *peer) observation() *netspec.Observation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// trouble is what was refused and how the connection ended, for messages.
func (p *peer) trouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.refusals, p.err)
}

// get asks the metrics socket.
func (l *lab) get(path string) string {
	l.t.Helper()
	out, err := exec.Command("curl", "-sS", "--unix-socket", l.metrics, "http://localhost"+path).CombinedOutput()
	if err != nil {
		l.t.Fatalf("curl %s: %v\n%s", path, err, out)
	}
	return string(out)
}

// script writes an executable shell script.
func script(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+strings.Join(lines, "\n")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
