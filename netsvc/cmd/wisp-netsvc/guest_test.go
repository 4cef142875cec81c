package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	l.apply(spec())
	curl := func(n *netsvctest.Node, args ...string) string {
		out, err := n.Run(append([]string{"curl", "-sS", "-m", "3", "-w", "[%{http_code}]"}, args...)...)
		if err != nil {
			return out + err.Error()
		}
		return out
	}
	tests := []struct {
		name string
		node *netsvctest.Node
		args []string
		want string
	}{
		{"user-data at the service address", l.g1, []string{svcIP + "/latest/user-data"}, "#cloud-config\n[200]"},
		{"user-data at the gateway", l.g1, []string{gwIP + "/latest/user-data"}, "#cloud-config\n[200]"},
		{"user-data at 169.254.169.254", l.g1, []string{magicIP + "/latest/user-data"}, "#cloud-config\n[200]"},
		{
			"list", l.g1,
			[]string{svcIP + "/latest/meta-data/"},
			"instance-id\nlocal-hostname\nlocal-ipv4\npublic-keys\n[200]",
		},
		{
			"EC2 version and key", l.g1,
			[]string{magicIP + "/2009-04-04/meta-data/public-keys/0/openssh-key"},
			"ssh-rsa AAAA me[200]",
		},
		{"legacy key", l.g1, []string{svcIP + "/latest/local-ipv4"}, g1IP + "[200]"},
		{"missing key", l.g1, []string{svcIP + "/latest/meta-data/nothing"}, "404 page not found\n[404]"},
		{"other guest, other data", l.g2, []string{svcIP + "/latest/user-data"}, "secret of g2[200]"},
		{
			"X-Forwarded-For is not believed", l.g1,
			[]string{"-H", "X-Forwarded-For: " + g2IP, svcIP + "/latest/instance-id"},
			"vm-1[200]",
		},
		{"writing is refused", l.g1, []string{"-X", "PUT", svcIP + "/latest/api/token"}, "method not allowed\n[405]"},
		{"stranger", l.evil, []string{svcIP + "/latest/user-data"}, "404 page not found\n[404]"},
		{"magic address without the route, by the gateway", l.g2, []string{magicIP + "/latest/instance-id"}, "vm-2[200]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.name, "magic") {
				tt.node.Must("ip", "route", "del", magicIP)
			}
			if got := curl(tt.node, tt.args...); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}

	// The evil guest takes g2's address while g2 is silent, and the namespace believes it (ARP): no data all the same.
	l.g2.Must("ip", "link", "set", "eth0", "down")
	l.evil.Must("ip", "address", "add", g2IP+"/32", "dev", "eth0")
	for _, to := range []string{svcIP, gwIP} {
		got := curl(l.evil, "--interface", g2IP, to+"/latest/user-data")
		if got != "404 page not found\n[404]" && !strings.Contains(got, "timed out") {
			t.Errorf("spoofed address at %s: got %q", to, got)
		}
	}
	l.router.Must("ip", "neighbour", "flush", "all")
	if got := curl(l.evil, "--interface", g2IP, svcIP+"/latest/user-data"); got != "404 page not found\n[404]" {
		t.Errorf("spoofed address with a fresh neighbour entry: got %q", got)
	}
	if metrics := l.get("/metrics"); strings.Contains(metrics, `event="dropped_spoofed",service="metadata"} 0`) {
		t.Error("metrics count no spoofed request")
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	l.apply(spec())
	wget := func(n *netsvctest.Node, to, request string) string {
		out, err := n.Run("wget", "-q", "-t", "1", "-T", "3", "-O", "-", "--header", "DomU_Request: "+request, "http://"+to+":8080/")
		if err != nil {
			return out + err.Error()
		}
		return out
	}
	raw := func(n *netsvctest.Node, request string) string {
		out, _ := n.Run("busybox", "sh", "-c", fmt.Sprintf("printf '%s' | busybox nc -w 3 %s 8080", request, gwIP))
		_, body, _ := strings.Cut(out, "\r\n\r\n")
		return body
	}
	for _, step := range []struct{ name, got, want string }{
		{"a stranger", wget(l.evil, svcIP, "send_my_password"), "saved_password"},
		{"a guest without one", wget(l.g2, svcIP, "send_my_password"), "saved_password"},
		{"nonsense", wget(l.g1, svcIP, "give_me_all"), "bad_request"},
		{"no header", raw(l.g1, `GET / HTTP/1.0\n\n`), "bad_request"},
		{"the password", wget(l.g1, svcIP, "send_my_password"), "pw-of-g1"},
		{"again, until confirmed, at the gateway", wget(l.g1, gwIP, "send_my_password"), "pw-of-g1"},
		{"from a hand-made request", raw(l.g1, `GET /\nDomU_Request:send_my_password\n\n`), "pw-of-g1"},
		{"a neighbour confirms nothing", wget(l.evil, svcIP, "saved_password"), "saved_password"},
		{"still there", wget(l.g1, svcIP, "send_my_password"), "pw-of-g1"},
		{"confirmed", wget(l.g1, svcIP, "saved_password"), "saved_password"},
		{"gone", wget(l.g1, svcIP, "send_my_password"), "saved_password"},
	} {
		if step.got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, step.got, step.want)
		}
	}
	l.waitFor("the confirmation", func(o *netspec.Observation) bool {
		return len(o.GetPasswordsTaken()) == 1 && o.GetPasswordsTaken()[0].GetIp() == g1IP &&
			o.GetPasswordsTaken()[0].GetEpoch() == 3
	})
	s := spec()
	s.Password.Guests[0].Password, s.Password.Guests[0].Epoch = "next", 4
	if o := l.apply(s); len(o.GetPasswordsTaken()) != 0 {
		t.Errorf("after a new password: %v", o.GetPasswordsTaken())
	}
	if got := wget(l.g1, svcIP, "send_my_password"); got != "next" {
		t.Errorf("after a new password: got %q", got)
	}
	if out := l.process.Output(); strings.Contains(out, "pw-of-g1") || strings.Contains(out, "next") {
		t.Errorf("a password is in the log:\n%s", out)
	}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.addressGuests()
	startUpstream(t, l.world)
	l.apply(spec())
	netsvctest.Wait(t, "the resolver of the world", 5*time.Second, func() (bool, string) {
		out, _ := l.router.Run("dig", "+short", "+tries=1", "+time=1", "@198.51.100.7", "up.example.org")
		return strings.TrimSpace(out) == "192.0.2.1", out
	})
	dig := func(n *netsvctest.Node, args ...string) string {
		out, _ := n.Run(append([]string{"dig", "+tries=1", "+time=4", "+noall", "+answer", "+comments"}, args...)...)
		var lines []string
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, ";; ->>HEADER"):
				_, status, _ := strings.Cut(line, "status: ")
				status, _, _ = strings.Cut(status, ",")
				lines = append(lines, status)
			case line != "" && !strings.HasPrefix(line, ";"):
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			case strings.Contains(line, "timed out"), strings.Contains(line, "no servers"):
				lines = append(lines, "no answer")
			}
		}
		return strings.Join(lines, "|")
	}
	tests := []struct {
		name string
		node *netsvctest.Node
		args []string
		want string
	}{
		{"own name", l.g1, []string{"@" + svcIP, "web2." + domain}, "NOERROR|web2." + domain + ". 30 IN A 10.1.1.12"},
		{"short name, other case", l.g1, []string{"@" + svcIP, "WEB2"}, "NOERROR|WEB2. 30 IN A 10.1.1.12"},
		{
			"at the gateway, over TCP", l.g1,
			[]string{"+tcp", "@" + gwIP, "data-server." + domain},
			"NOERROR|data-server." + domain + ". 300 IN A 10.1.1.2",
		},
		{"no IPv6", l.g1, []string{"@" + svcIP, "web1." + domain, "AAAA"}, "NOERROR"},
		{
			"address to name", l.g1,
			[]string{"@" + svcIP, "-x", g1IP},
			"NOERROR|11.1.1.10.in-addr.arpa. 30 IN PTR web1." + domain + ".",
		},
		{"unknown own address", l.g1, []string{"@" + svcIP, "-x", "10.1.1.99"}, "NXDOMAIN"},
		{"unknown own name", l.g1, []string{"@" + svcIP, "nobody." + domain}, "NXDOMAIN"},
		{"any", l.g1, []string{"@" + svcIP, "web1." + domain, "ANY"}, "REFUSED"},
		{"forwarded", l.g1, []string{"@" + svcIP, "up.example.org"}, "NOERROR|up.example.org. 60 IN A 192.0.2.1"},
		{
			"forwarded over TCP", l.g2,
			[]string{"+tcp", "@" + gwIP, "up.example.org"},
			"NOERROR|up.example.org. 60 IN A 192.0.2.1",
		},
		{"large answer falls back to TCP", l.g2, []string{"@" + gwIP, "+bufsize=600", "big.example.org", "+short"}, big()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, dig(tt.node, tt.args...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	l.evil.Must("ip", "address", "replace", "192.168.9.9/32", "dev", "lo")
	if got := dig(l.evil, "-b", "192.168.9.9", "@"+svcIP, "web1."+domain); !strings.Contains(got, "no answer") {
		t.Errorf("a source outside the allow list got %q", got)
	}
}
