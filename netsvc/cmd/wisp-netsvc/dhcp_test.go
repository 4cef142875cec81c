package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
	"github.com/wispcloud/wisp/proto/netspec"
)

// pick keeps the named variables of an environment.
func pick(env string, names ...string) []string {
	var kept []string
	for line := range strings.Lines(env) {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, "=")
		if slices.Contains(names, name) {
			kept = append(kept, line)
		}
	}
	slices.Sort(kept)
	return kept
}

func TestUdhcpcGetsLease(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.apply(spec())
	env := filepath.Join(t.TempDir(), "env")
	hook := script(t, `[ "$1" = bound ] && env > `+env+`; exit 0`)
	l.g1.Must("ip", "link", "set", "eth0", "up")
	out := l.g1.Must("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "5", "-T", "1", "-s", hook,
		"-O", "staticroutes", "-O", "mtu", "-x", "hostname:liar")
	want := []string{
		"broadcast=10.1.1.255", "dns=10.1.1.2 10.1.1.1", "domain=" + domain, "hostname=web1", "ip=10.1.1.11",
		"lease=3600", "mtu=1450", "router=10.1.1.1", "serverid=10.1.1.2",
		"staticroutes=169.254.169.254/32 10.1.1.2 0.0.0.0/0 10.1.1.1", "subnet=255.255.255.0",
	}
	got := pick(readFile(t, env), "broadcast", "dns", "domain", "hostname", "ip", "lease", "mtu", "router", "serverid",
		"staticroutes", "subnet")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment of the script (-want +got):\n%s\nudhcpc printed:\n%s", diff, out)
	}
	o := l.waitFor("the lease in the observation", func(o *netspec.Observation) bool { return len(o.GetLeases()) == 1 })
	lease := o.GetLeases()[0]
	if left := time.Until(time.UnixMilli(lease.GetExpiresUnixMs())); left < 50*time.Minute || left > time.Hour {
		t.Errorf("lease runs out in %v, want an hour", left)
	}
	lease.ExpiresUnixMs = 0
	if lease.GetMac() != g1MAC || lease.GetIp() != g1IP || lease.GetVmId() != "vm-1" {
		t.Errorf("lease is %v", lease)
	}
}

func TestDhclientRenewsAndReleases(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := spec()
	s.Dhcp4.LeaseSeconds = 60
	l.apply(s)
	dir := t.TempDir()
	env := filepath.Join(dir, "env")
	hook := script(t, `echo "reason=$reason" >> `+env,
		`case $reason in PREINIT) ip link set $interface up;;`,
		`BOUND) ip address replace $new_ip_address/24 dev $interface; env >> `+env+`;; esac`)
	client := []string{"dhclient", "-sf", hook, "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid")}
	l.g1.Must(append(client, "-1", "-v", "eth0")...)
	want := []string{
		"new_dhcp_lease_time=60", "new_dhcp_server_identifier=10.1.1.2", "new_host_name=web1",
		"new_ip_address=10.1.1.11", "new_routers=10.1.1.1", "new_subnet_mask=255.255.255.0",
	}
	got := pick(readFile(t, env), "new_ip_address", "new_subnet_mask", "new_routers", "new_host_name",
		"new_dhcp_server_identifier", "new_dhcp_lease_time")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment of the script (-want +got):\n%s", diff)
	}
	l.waitFor("the lease", func(o *netspec.Observation) bool { return len(o.GetLeases()) == 1 })
	// The release is unicast to the server identifier.
	l.g1.Must(append(client, "-r", "-v", "eth0")...)
	l.waitFor("the release", func(o *netspec.Observation) bool { return len(o.GetLeases()) == 0 })
}

func TestDHCPIgnoresStrangersAndLiars(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.apply(spec())
	hook := script(t, "exit 0")
	ask := func(n *netsvctest.Node) error {
		n.Must("ip", "link", "set", "eth0", "up")
		_, err := n.Run("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "2", "-T", "1", "-s", hook)
		return err
	}
	if ask(l.evil) == nil {
		t.Error("a stranger got a lease")
	}
	counts := l.get("/metrics")
	if !strings.Contains(counts, `wisp_netsvc_events_total{event="dropped_stranger",service="dhcp4"} 2`) {
		t.Errorf("metrics do not count the stranger:\n%s", counts)
	}
	if err := ask(l.g2); err != nil {
		t.Errorf("a guest got no lease: %v", err)
	}
}
