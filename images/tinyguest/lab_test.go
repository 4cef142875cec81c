package tinyguest_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The lab is the network of one guest: a tap in a namespace of its own, with the
// services a cloud gives. The test runs itself again inside the namespace, so
// every goroutine is in it, no packet leaves, and all of it ends with the process.

const (
	inLab     = "WISP_TINYGUEST_LAB" // names the image in the process inside the namespace
	tapName   = "wisptg0"
	serverIP  = "10.1.1.1"
	dataIP    = "10.1.1.2"
	linkLocal = "169.254.169.254"
	guestIP   = "10.1.1.10"
	guestMAC  = "02:00:10:01:01:0a"
	guestIPv6 = "2001:db8:1::10ff:fe01:10a" // EUI-64 of the MAC in the advertised prefix
)

// inNamespace runs the calling test again in a new network namespace.
func inNamespace(t testing.TB, run, image string, args ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace and a tap; run as root (CI does)")
	}
	// The child dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=" + run, "-test.v", "-test.timeout=5m"}, args...)...)
	cmd.Env = append(os.Environ(), inLab+"="+image)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("inside the namespace:\n%s", out)
	if err != nil {
		t.Fatalf("test in namespace: %v", err)
	}
}

// lab holds the services and what they saw.
type lab struct {
	t  testing.TB
	mu sync.Mutex

	firstAck time.Time
	renewals int
	password string   // handed out until the guest confirms it
	asked    []string // DomU_Request values

	metadata *http.Server
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t}
	l.makeTap()
	l.serveDHCP()
	l.serveDNS()
	l.serve(net.JoinHostPort(serverIP, "8080"), http.HandlerFunc(l.handlePassword))
	go l.advertise()
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) makeTap() {
	l.t.Helper()
	lo, err := netlink.LinkByName("lo")
	l.must(err)
	l.must(netlink.LinkSetUp(lo))
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: tapName}, Mode: netlink.TUNTAP_MODE_TAP}
	l.must(netlink.LinkAdd(tap))
	link, err := netlink.LinkByName(tapName)
	l.must(err)
	for _, a := range []string{serverIP + "/24", dataIP + "/24", linkLocal + "/32", "fe80::1/64", "2001:db8:1::1/64"} {
		addr, err := netlink.ParseAddr(a)
		l.must(err)
		addr.Flags |= unix.IFA_F_NODAD // usable at once
		l.must(netlink.AddrAdd(link, addr))
	}
	l.must(netlink.LinkSetUp(link))
}

// serveDHCP hands one lease, short so that the guest has to renew it.
func (l *lab) serveDHCP() {
	l.t.Helper()
	server, err := server4.NewServer(tapName, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, l.handleDHCP)
	l.must(err)
	go func() { _ = server.Serve() }()
}

func (l *lab) handleDHCP(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	} else if m.MessageType() != dhcpv4.MessageTypeDiscover {
		return
	}
	gateway := net.ParseIP(serverIP)
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(net.ParseIP(guestIP)),
		dhcpv4.WithServerIP(gateway),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithOption(dhcpv4.OptDNS(gateway)),
		dhcpv4.WithOption(dhcpv4.OptHostName("hello")),
		dhcpv4.WithOption(dhcpv4.OptDomainName("cs1.internal")),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{1400 >> 8, 1400 & 0xff})),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.ParseIP("10.1.1.250"))), // replaced by option 121
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: gateway},
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 99, 0, 0), Mask: net.CIDRMask(16, 32)}, Router: net.ParseIP("10.1.1.254")},
		)),
		dhcpv4.WithLeaseTime(16), // the least udhcpc honours; it renews after half
	)
	if err != nil {
		l.t.Errorf("answer dhcp: %v", err)
		return
	}
	l.mu.Lock()
	if kind == dhcpv4.MessageTypeAck {
		if l.firstAck.IsZero() {
			l.firstAck = time.Now()
		}
		if !m.ClientIPAddr.IsUnspecified() {
			l.renewals++
		}
	}
	l.mu.Unlock()
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	if !m.ClientIPAddr.IsUnspecified() {
		to.IP = m.ClientIPAddr
	}
	_, _ = conn.WriteTo(reply.ToBytes(), to)
}

func (l *lab) serveDNS() {
	l.t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(serverIP, "53"))
	l.must(err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		switch {
		case name != "data-server.cs1.internal." && name != "data-server.":
			reply.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			rr, err := dns.NewRR(name + " 60 IN A " + dataIP)
			if err == nil {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		_ = w.WriteMsg(reply)
	})}
	go func() { _ = server.ActivateAndServe() }()
}

func (l *lab) serve(address string, h http.Handler) *http.Server {
	l.t.Helper()
	listener, err := net.Listen("tcp", address)
	l.must(err)
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(listener) }()
	return s
}

// serveMetadata moves the metadata service to an address and gives it documents
// by path; what it lacks is 404. Where it was, connections are refused.
func (l *lab) serveMetadata(ip string, documents map[string]string) {
	l.t.Helper()
	if l.metadata != nil {
		l.must(l.metadata.Close())
	}
	l.metadata = l.serve(net.JoinHostPort(ip, "80"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, ok := documents[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(d))
	}))
}

// handlePassword is CloudStack's password server.
func (l *lab) handlePassword(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	request := r.Header.Get("DomU_Request")
	l.asked = append(l.asked, request)
	switch {
	case request == "send_my_password" && l.password != "":
		fmt.Fprintln(w, l.password)
	case request == "send_my_password":
		fmt.Fprintln(w, "saved_password")
	case request == "saved_password":
		l.password = ""
		fmt.Fprintln(w, "saved_password")
	default:
		fmt.Fprintln(w, "bad_request")
	}
}

func (l *lab) handPassword(password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.password, l.asked = password, nil
}

func (l *lab) passwordRequests() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.asked...)
}

func (l *lab) forgetAck() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.firstAck = time.Time{}
}

func (l *lab) leaseTime() (time.Time, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.firstAck, l.renewals
}

// advertise sends a router advertisement (RFC 4861, 4.2) with an autonomous
// prefix every second until the process ends.
func (l *lab) advertise() {
	ra := []byte{134, 0, 0, 0, 64, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0} // lifetime 60 s
	prefix := make([]byte, 32)
	copy(prefix, []byte{3, 4, 64, 0xc0})
	binary.BigEndian.PutUint32(prefix[4:], 3600)
	binary.BigEndian.PutUint32(prefix[8:], 3600)
	copy(prefix[16:], net.ParseIP("2001:db8:1::"))
	c, err := net.ListenPacket("ip6:ipv6-icmp", "fe80::1%"+tapName)
	if err != nil {
		l.t.Errorf("advertise: %v", err)
		return
	}
	p := ipv6.NewPacketConn(c)
	if err := p.SetMulticastHopLimit(255); err != nil {
		l.t.Errorf("advertise: %v", err)
		return
	}
	for range time.Tick(time.Second) {
		// An error means that the guest does not run: the tap has no carrier.
		_, _ = c.WriteTo(append(ra, prefix...), &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: tapName})
	}
}

// eventually waits for a condition and reports what it last saw.
func eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.After(limit)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		}
	}
}

// contains is a check on text.
func contains(text, want string) error {
	if strings.Contains(text, want) {
		return nil
	}
	return fmt.Errorf("no %q in:\n%s", want, text)
}
