package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
)

// TestRealCloud is the story of a cloud with real hosts, guests, packets and clients.
func TestRealCloud(t *testing.T) {
	w := newReal(t, nil)
	t.Run("cs", func(t *testing.T) { w.client(t, "cs_story.py") })
	t.Run("libcloud", func(t *testing.T) { w.client(t, "libcloud_story.py") })
	var a, b *guest
	if !t.Run("deploy", func(t *testing.T) { a, b = w.deploy(t, "anna", "tiny", "h1"), w.deploy(t, "bert", "tiny", "h2") }) {
		return
	}
	t.Run("one network over two hosts", func(t *testing.T) { checkNetwork(t, a, b) })
	t.Run("agents killed", func(t *testing.T) { w.testAgentsKilled(t, a, b) })
	t.Run("no coordinator", func(t *testing.T) { w.testNoCoordinator(t, a, b) })
	t.Run("drift", func(t *testing.T) { w.testDrift(t, a, b) })
	t.Run("agent killed in a swap of routers", func(t *testing.T) { w.testSwapKilled(t, a, b) })
	t.Run("a router that fails", func(t *testing.T) { w.testRouterFails(t) })
	t.Run("storage in maintenance", func(t *testing.T) { w.testPoolMaintenance(t, a, b) })
	t.Run("guests that stop", func(t *testing.T) { w.testStops(t, a, b) })
}

// client runs a story of a real client with the interpreter its Debian package is for.
func (w *real) client(t *testing.T, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "clients/"+script)
	cmd.Env = os.Environ()
	for k, v := range w.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	t.Logf("%s", out)
}

// services are the lookups that a guest does of its network, each with what the answer must hold.
func services(self, other *guest) map[string]string {
	return map[string]string{
		"wget -qO- http://169.254.169.254/latest/user-data":                                            "user data of " + self.name,
		"wget -qO- http://data-server/latest/meta-data/local-hostname":                                 self.name,
		"wget -qO- http://$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p')/latest/user-data": "user data of " + self.name,
		"nslookup " + other.name + " 2>/dev/null | tail -n 3":                                          other.ip,
		"wget -qO- http://" + other.name + "/name":                                                     other.name,
		"ip -4 addr show eth0": self.ip,
	}
}

// checkNetwork looks from each guest at its services and at the other guest, which is on the other host.
func checkNetwork(t *testing.T, a, b *guest) {
	t.Helper()
	for _, pair := range [][2]*guest{{a, b}, {b, a}} {
		for command, want := range services(pair[0], pair[1]) {
			out, err := pair[0].run(t.Context(), command)
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s on %s gives %q, %v; want %q in it", command, pair[0].name, out, err, want)
			}
		}
		// What a guest says of its address is not believed. (Forged addresses are netsvc's own tests.)
		out, err := pair[0].run(t.Context(), "wget -qO- --header 'X-Forwarded-For: "+pair[1].ip+"' http://data-server/latest/user-data")
		if strings.Contains(out, "user data of "+pair[1].name) {
			t.Errorf("%s got the user-data of %s: %q, %v", pair[0].name, pair[1].name, out, err)
		}
	}
}

// domains lists the PIDs of a host's guests, which change when one is started anew.
func domains(t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.Exec(t.Context(), "pgrep", "-f", "qemu-system")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testAgentsKilled kills both agents with SIGKILL: guests go on, and the new agents work.
func (w *real) testAgentsKilled(t *testing.T, a, b *guest) {
	before := domains(t, w.lab.Host(1)) + domains(t, w.lab.Host(2))
	for _, h := range w.lab.Hosts() {
		if err := h.KillAgent(t.Context(), 9); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []*guest{a, b} {
		if err := g.answers(t.Context()); err != nil {
			t.Errorf("with the agents dead: %v", err)
		}
	}
	w.awaitHosts(t)
	// The new agents have taken over when they do something that was asked for after the kill.
	c := w.deploy(t, "cora", "tiny", "h2")
	w.do(t, "destroyVirtualMachine", api.Params{"id": c.id, "expunge": "true"}, nil)
	if after := domains(t, w.lab.Host(1)) + domains(t, w.lab.Host(2)); after != before {
		t.Errorf("guests were started anew: %q, before %q", after, before)
	}
	checkNetwork(t, a, b)
}

// awaitHosts waits until every host is heard from again.
func (w *real) awaitHosts(t *testing.T) {
	t.Helper()
	await(t, 20*time.Second, "every host to be up", func(ctx context.Context) error {
		hosts, err := api.List[struct {
			Name  string `json:"name"`
			State string `json:"state"`
		}](ctx, w.admin, "listHosts", "host", api.Params{"type": "Routing"})
		for _, h := range hosts {
			if h.State != "Up" {
				err = errors.Join(err, fmt.Errorf("%s is %s", h.Name, h.State))
			}
		}
		return err
	})
}

// testNoCoordinator kills the coordinator: everything that runs goes on, and a host that loses power comes back with its
// VMs and networks from its ledger.
func (w *real) testNoCoordinator(t *testing.T, a, b *guest) {
	w.killCoordinator(t)
	checkNetwork(t, a, b)
	// Leases are given by the host's own service: another client on the same card, which changes nothing, asks for one.
	for _, g := range []*guest{a, b} {
		if out := g.must(t, "busybox udhcpc -f -n -q -t 5 -T 2 -i eth0 -s /bin/true 2>&1"); !strings.Contains(out, "lease of "+g.ip+" obtained") {
			t.Errorf("%s asks for a lease: %q", g.name, out)
		}
	}
	for _, h := range []*lab.Host{w.lab.Host(2), w.lab.Host(1)} {
		if err := h.PowerOff(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for _, g := range []*guest{a, b} {
			await(t, 2*time.Minute, g.name+" after the power cut of "+h.Name(), g.answers)
		}
		t.Logf("%s and its guests were back %.1f s after power-on, without a coordinator", h.Name(), time.Since(began).Seconds())
	}
	checkNetwork(t, a, b)
	w.startCoordinator(t)
	a.awaitState(t, 20*time.Second, "Running")
	b.awaitState(t, 20*time.Second, "Running")
}

// testDrift breaks what the agent keeps, on the host of the router, and expects it healed within 10 s.
func (w *real) testDrift(t *testing.T, a, b *guest) {
	router := w.routerHost(t)
	namespace := strings.Fields(mustExec(t, router, "ls", "/run/netns"))[0]
	in := func(argv ...string) []string { return append([]string{"ip", "netns", "exec", namespace}, argv...) }
	bridge := strings.TrimSpace(mustExec(t, router, "sh", "-c", "ls -d /sys/class/net/wbr* | head -1 | xargs basename"))
	for _, d := range []struct {
		name string
		argv []string
	}{
		{"firewall flushed", in("iptables", "-F")},
		{"translations flushed", in("iptables", "-t", "nat", "-F")},
		{"wisp-netsvc killed", []string{"pkill", "-9", "wisp-netsvc"}},
		{"bridge deleted", []string{"ip", "link", "del", bridge}},
		{"namespace deleted", []string{"sh", "-c", "pkill -9 wisp-netsvc; ip netns del " + namespace}},
	} {
		mustExec(t, router, d.argv...)
		began := time.Now()
		for _, g := range []*guest{a, b} {
			await(t, 10*time.Second, g.name+" to answer again after: "+d.name, g.answers)
		}
		t.Logf("%s: healed within %.1f s", d.name, time.Since(began).Seconds())
		for _, g := range []*guest{a, b} {
			// Each try has its own short time: what was asked in the gap is lost, and asked again by TCP after seconds only.
			await(t, 20*time.Second, g.name+" to read its user-data after: "+d.name, func(ctx context.Context) error {
				_, err := g.run(ctx, "timeout 2 wget -qO- http://data-server/latest/user-data")
				return err
			})
		}
	}
}

func mustExec(t *testing.T, h *lab.Host, argv ...string) string {
	t.Helper()
	out, err := h.Exec(t.Context(), argv...)
	if err != nil {
		t.Fatalf("%v on %s: %v: %s", argv, h.Name(), err, out)
	}
	return out
}

func (w *real) routerHost(t *testing.T) *lab.Host {
	t.Helper()
	routers, err := api.List[struct {
		Host string `json:"hostname"`
	}](t.Context(), w.admin, "listRouters", "router", nil)
	if err != nil || len(routers) != 1 {
		t.Fatalf("routers: %v, %v", routers, err)
	}
	for _, h := range w.lab.Hosts() {
		if h.Name() == routers[0].Host {
			return h
		}
	}
	t.Fatalf("the router is on %q, which is no host", routers[0].Host)
	return nil
}

// testStops has guests end in each way that is not asked for.
func (w *real) testStops(t *testing.T, a, b *guest) {
	_, _ = b.run(t.Context(), "poweroff")
	b.awaitState(t, 20*time.Second, "Stopped")
	mustExec(t, w.lab.Host(1), "sh", "-c", "virsh -q destroy $(virsh -q domid "+w.instance(t, a)+")")
	a.awaitState(t, 10*time.Second, "Stopped")
	events, err := api.List[struct {
		Type        string `json:"type"`
		Level       string `json:"level"`
		Description string `json:"description"`
	}](t.Context(), w.admin, "listEvents", "event", api.Params{"type": "VM.STOP"})
	if err != nil {
		t.Fatal(err)
	}
	for want, level := range map[string]string{"bert": "INFO", "anna": "WARN"} {
		found := false
		for _, e := range events {
			found = found || strings.Contains(e.Description, want) && e.Level == level
		}
		if !found {
			t.Errorf("no VM.STOP event of level %s tells of %s: %+v", level, want, events)
		}
	}
	w.do(t, "startVirtualMachine", api.Params{"id": b.id}, nil)
	await(t, time.Minute, "bert to answer after its start", b.answers)

	h := w.deploy(t, "hank", "small", "h1") // its offering has HA
	pids := domains(t, w.lab.Host(1))
	mustExec(t, w.lab.Host(1), "sh", "-c", "virsh -q destroy "+w.instance(t, h))
	began := time.Now()
	await(t, 10*time.Second, "hank to be restarted", func(ctx context.Context) error {
		out, err := w.lab.Host(1).Exec(ctx, "pgrep", "-f", "qemu-system")
		if err != nil || out == pids || strings.Count(out, "\n") < strings.Count(pids, "\n") {
			return errors.Join(err, errors.New("no new process"))
		}
		return nil
	})
	restarted := time.Since(began).Seconds()
	await(t, time.Minute, "hank to answer after its restart", h.answers)
	t.Logf("a domain destroyed by hand whose offering has HA was restarted after %.1f s and answered after %.1f s",
		restarted, time.Since(began).Seconds())
	if got, err := h.state(t.Context()); err != nil || got != "Running" {
		t.Errorf("hank is %s, %v", got, err)
	}
	for _, g := range []*guest{a, b, h} {
		w.do(t, "destroyVirtualMachine", api.Params{"id": g.id, "expunge": "true"}, nil)
	}
	for _, host := range w.lab.Hosts() {
		await(t, 20*time.Second, "nothing of the guests to be left on "+host.Name(), func(ctx context.Context) error {
			out, err := host.Exec(ctx, "sh", "-c", "ls /var/lib/wisp/*/volumes; virsh -q list --all --name")
			if err == nil && (strings.Contains(out, w.shortID(a)) || strings.Contains(out, w.shortID(b)) || strings.Contains(out, w.shortID(h))) {
				err = fmt.Errorf("there is %s", out)
			}
			return err
		})
	}
}

// testPoolMaintenance takes the storage of bert's host out of use and into use again: bert shuts down by itself and comes
// back, with what is on its disk.
func (w *real) testPoolMaintenance(t *testing.T, a, b *guest) {
	pools, err := api.List[struct {
		ID string `json:"id"`
	}](t.Context(), w.admin, "listStoragePools", "storagepool", api.Params{"name": "h2 Local Storage"})
	if err != nil || len(pools) != 1 {
		t.Fatalf("%v %v", pools, err)
	}
	var done struct {
		Pool struct {
			State string `json:"state"`
			Text  string `json:"displaytext"`
		} `json:"storagepool"`
	}
	look := func() (out []string) { // what lies on its disk, and its boot
		await(t, time.Minute, "bert's ssh", func(ctx context.Context) error {
			text, err := b.run(ctx, "[ -s /root/kept ] || date > /root/kept; sync; cat /root/kept /proc/sys/kernel/random/boot_id")
			out = strings.Split(text, "\n")
			return err
		})
		return out
	}
	was := look()
	began := time.Now()
	w.do(t, "enableStorageMaintenance", api.Params{"id": pools[0].ID}, &done)
	stopped := time.Since(began)
	if got, err := b.state(t.Context()); done.Pool.State != "Maintenance" || got != "Stopped" || stopped > 30*time.Second {
		t.Errorf("the pool is %s, bert %s after %v, %v", done.Pool.State, got, stopped, err)
	}
	if err := a.answers(t.Context()); err != nil {
		t.Errorf("anna, whose disk is elsewhere: %v", err)
	}
	w.do(t, "cancelStorageMaintenance", api.Params{"id": pools[0].ID}, &done)
	await(t, time.Minute, "bert to answer after the maintenance", b.answers)
	t.Logf("bert was stopped after %.1f s; %s", stopped.Seconds(), done.Pool.Text)
	is := look()
	if done.Pool.State != "Up" || !strings.HasPrefix(done.Pool.Text, "virtual machines started again: ") || strings.Contains(done.Pool.Text, "not") || was[0] != is[0] || was[1] == is[1] {
		t.Errorf("the pool is %+v; bert had %q and has %q", done.Pool, was, is)
	}
}

// instance is the name of a VM's domain.
func (w *real) instance(t *testing.T, g *guest) string {
	t.Helper()
	rows, err := api.List[struct {
		Instance string `json:"instancename"`
	}](t.Context(), w.admin, "listVirtualMachines", "virtualmachine", api.Params{"id": g.id})
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	return rows[0].Instance
}

func (w *real) shortID(g *guest) string { return g.id }
