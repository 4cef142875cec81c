package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
	"github.com/wispcloud/wisp/packaging/sandbox"
)

// recovery is how long a cloud of emulated machines may take to serve again on a machine that does ten other things.
const recovery = 2 * time.Minute

// appliance is the system VM that is the router of the sandbox's network, and the one guest behind it.
type appliance struct {
	w        *real
	host     *lab.Host
	guest    *guest
	gateway  string
	id, name string // of the router
	bootID   string // of the guest's kernel, which stays while the guest is not started anew
}

// TestRouterVMMishaps lets a router that is a system VM meet with what can happen to it on a real host, one mishap after
// the other on one cloud. After each the guest is served again, and has been given the one lease all the time.
func TestRouterVMMishaps(t *testing.T) {
	w := newReal(t, func(c *sandbox.Config) { c.Hosts, c.Router, c.Source = 1, sandbox.RouterInVM, "../.." })
	w.again(t)
	a := w.newAppliance(t)
	if err := a.serves(t.Context()); err != nil {
		t.Fatalf("before any mishap: %v", err)
	}
	for _, m := range []struct {
		name string
		do   func(t *testing.T)
		// anew says that the router has to be another process afterwards, else that it has to be the same.
		anew bool
		// guestAnew says that the guest is started anew, too.
		guestAnew bool
	}{
		{name: "agent killed", do: a.killAgent},
		{name: "router killed", do: a.killRouter, anew: true},
		{name: "kernel panic", do: a.panicKernel, anew: true},
		{name: "image damaged", do: a.damageImage, anew: true},
		{name: "channel cut", do: a.cutChannel},
		{name: "channel's socket removed", do: a.removeSocket},
		{name: "host without power", do: a.cutPower, anew: true, guestAnew: true},
	} {
		t.Run(m.name, func(t *testing.T) {
			a.guest.askForLeases(t)
			before := a.process(t)
			began := time.Now()
			m.do(t)
			if m.anew {
				await(t, recovery, "a new router", func(ctx context.Context) error {
					now, err := a.pid(ctx)
					if err == nil && (now == "" || now == before) {
						err = fmt.Errorf("its process is %q", now)
					}
					return err
				})
			}
			await(t, recovery, "the router to serve again", a.serves)
			t.Logf("served again %.1f s after: %s", time.Since(began).Seconds(), m.name)
			await(t, recovery, "the router to be reported as whole", a.whole)
			if now := a.process(t); !m.anew && now != before {
				t.Errorf("the router was started anew: process %s, before %s", now, before)
			}
			a.obeys(t)
			a.checkGuest(t, m.guestAnew)
		})
	}
}

// again runs make sandbox a second time, which finds all of it as declared.
func (w *real) again(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	cfg := w.cfg
	cfg.Out = &out
	if err := sandbox.Up(t.Context(), cfg); err != nil || !strings.Contains(out.String(), "nothing was changed") {
		t.Errorf("a second run: %v\n%s", err, out.String())
	}
}

// newAppliance finds the VM that the sandbox has made, and its router.
func (w *real) newAppliance(t *testing.T) *appliance {
	t.Helper()
	vms, err := api.List[vm](t.Context(), w.admin, "listVirtualMachines", "virtualmachine", api.Params{"name": "hello"})
	if err != nil || len(vms) != 1 {
		t.Fatalf("the sandbox's VM: %v, %v", vms, err)
	}
	key, err := os.ReadFile(filepath.Join(w.cfg.Dir, "ssh-key"))
	if err != nil {
		t.Fatal(err)
	}
	if w.key, err = ssh.ParsePrivateKey(key); err != nil {
		t.Fatal(err)
	}
	routers, err := api.List[named](t.Context(), w.admin, "listRouters", "router", api.Params{"listall": "true"})
	if err != nil || len(routers) != 1 {
		t.Fatalf("routers: %v, %v", routers, err)
	}
	public := strings.Trim(strings.TrimPrefix(w.env["WISP_HELLO_URL"], "http://"), "/")
	a := &appliance{w: w, host: w.routerHost(t), id: routers[0].ID, name: routers[0].Name}
	a.guest = &guest{w: w, id: vms[0].ID, name: "hello", public: public, ip: vms[0].NICs[0].IP}
	await(t, recovery, "the guest's ssh", func(ctx context.Context) error {
		out, err := a.guest.run(ctx, "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'")
		a.gateway = strings.TrimSpace(out)
		return err
	})
	a.bootID = a.guest.must(t, "cat /proc/sys/kernel/random/boot_id")
	return a
}

// serves asks the router for each of its services: from outside by way of its address, and from the guest.
func (a *appliance) serves(ctx context.Context) error {
	if err := a.guest.answers(ctx); err != nil {
		return err
	}
	for _, ask := range []struct{ command, want string }{
		{"timeout 3 wget -qO- http://" + a.gateway + "/latest/user-data", "hello from Wisp"},
		{"timeout 3 nslookup hello " + a.gateway + " 2>&1 | tail -n 3", a.guest.ip},
		{askLease, a.guest.granted()},
	} {
		out, err := a.guest.run(ctx, ask.command)
		if err == nil && !strings.Contains(out, ask.want) {
			err = fmt.Errorf("%s gives %q, want %q in it", ask.command, out, ask.want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// obeys has the router do something new, which it is told over its channel, and undo it.
func (a *appliance) obeys(t *testing.T) {
	t.Helper()
	addresses, err := api.List[named](t.Context(), a.w.admin, "listPublicIpAddresses", "publicipaddress", api.Params{"ipaddress": a.guest.public})
	if err != nil || len(addresses) != 1 {
		t.Fatalf("addresses: %v, %v", addresses, err)
	}
	var made struct {
		Rule named `json:"portforwardingrule"`
	}
	a.w.do(t, "createPortForwardingRule", api.Params{
		"ipaddressid": addresses[0].ID, "protocol": "tcp", "publicport": "8080", "privateport": "80", "virtualmachineid": a.guest.id,
	}, &made)
	await(t, recovery, "the new rule to lead to the guest", func(ctx context.Context) error {
		_, err := fetch(ctx, "http://"+a.guest.public+":8080/name")
		return err
	})
	a.w.do(t, "deletePortForwardingRule", api.Params{"id": made.Rule.ID}, nil)
	await(t, recovery, "the rule to be gone", func(ctx context.Context) error {
		if page, err := fetch(ctx, "http://"+a.guest.public+":8080/name"); err == nil {
			return fmt.Errorf("it leads to %q", page)
		}
		return nil
	})
}

// told counts what the agent's log says of something.
func (a *appliance) told(text string) int { return strings.Count(a.host.Log("agent", 100_000), text) }

func (a *appliance) awaitTold(t *testing.T, text string, before int) {
	t.Helper()
	await(t, recovery, "the agent to say: "+text, func(context.Context) error {
		if n := a.told(text); n <= before {
			return fmt.Errorf("it said so %d times, %d of them before", n, before)
		}
		return nil
	})
}

// askLease is another client on the guest's card, which changes nothing there.
const askLease = "busybox udhcpc -f -n -q -t 10 -T 1 -i eth0 -s /bin/true 2>&1"

func (g *guest) granted() string { return "lease of " + g.ip + " obtained" }

// askForLeases has the guest ask for a lease once a second from now on, whatever becomes of its router.
func (g *guest) askForLeases(t *testing.T) {
	t.Helper()
	g.must(t, "rm -f /tmp/leases /tmp/asked; (while [ ! -e /tmp/asked ]; do "+askLease+
		" | tail -n 1 >>/tmp/leases; sleep 1; done; mv /tmp/leases /tmp/asked) </dev/null >/dev/null 2>&1 &")
}

// checkGuest looks whether the guest has the address it always had, and was given it each time it asked.
func (a *appliance) checkGuest(t *testing.T, anew bool) {
	t.Helper()
	boot := a.guest.must(t, "cat /proc/sys/kernel/random/boot_id")
	if (boot != a.bootID) != anew {
		t.Errorf("the guest's kernel is %s, before %s; started anew is to be %v", boot, a.bootID, anew)
	}
	a.bootID = boot
	if out := a.guest.must(t, "ip -4 addr show eth0"); !strings.Contains(out, "inet "+a.guest.ip+"/") {
		t.Errorf("the guest has %s, want %s", out, a.guest.ip)
	}
	vms, err := api.List[vm](t.Context(), a.w.admin, "listVirtualMachines", "virtualmachine", api.Params{"id": a.guest.id})
	if err != nil || len(vms) != 1 || vms[0].NICs[0].IP != a.guest.ip || vms[0].State != "Running" {
		t.Errorf("the cloud has %+v, %v, want it Running with %s", vms, err, a.guest.ip)
	}
	if anew {
		return // What it noted went with it.
	}
	a.guest.checkLeases(t)
}

// checkLeases ends what askForLeases began: the guest was given its address each time it asked.
func (g *guest) checkLeases(t *testing.T) {
	t.Helper()
	g.must(t, "touch /tmp/asked")
	var noted string
	await(t, recovery, "the guest's notes", func(ctx context.Context) (err error) {
		if noted, err = g.run(ctx, "cat /tmp/asked"); err == nil && noted == "" {
			err = errors.New("it still asks")
		}
		return err
	})
	for line := range strings.Lines(noted) {
		if !strings.Contains(line, g.granted()) {
			t.Errorf("%s asked for a lease and got %q, want %s", g.name, line, g.granted())
		}
	}
	t.Logf("%s asked %d times for its lease", g.name, strings.Count(noted, "\n"))
}

// row is a router as the API has it.
func (a *appliance) row(ctx context.Context) (map[string]any, error) {
	rows, err := api.List[map[string]any](ctx, a.w.admin, "listRouters", "router", api.Params{"id": a.id, "listall": "true"})
	if err != nil || len(rows) != 1 {
		return nil, fmt.Errorf("routers of the id: %v, %w", rows, err)
	}
	return rows[0], nil
}

func (a *appliance) whole(ctx context.Context) error {
	r, err := a.row(ctx)
	if err == nil && r["state"] != "Running" {
		err = fmt.Errorf("it is %v", r)
	}
	return err
}

// pid is that of the router's QEMU on its host; none while it does not run.
func (a *appliance) pid(ctx context.Context) (string, error) {
	out, err := a.host.Exec(ctx, "sh", "-c", "pgrep -f '[g]uest="+a.name+",' || true")
	return strings.TrimSpace(out), err
}

func (a *appliance) process(t *testing.T) string {
	t.Helper()
	pid, err := a.pid(t.Context())
	if err != nil || pid == "" || strings.Contains(pid, "\n") {
		t.Fatalf("the router's process: %q, %v", pid, err)
	}
	return pid
}

// killRouter ends the machine as the kernel does that has no memory left.
func (a *appliance) killRouter(t *testing.T) {
	mustExec(t, a.host, "kill", "-9", a.process(t))
}

// killAgent kills the agent under a connection through the router.
func (a *appliance) killAgent(t *testing.T) {
	client, err := a.guest.login(t.Context(), 2*recovery)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, inErr := session.StdinPipe()
	out, outErr := session.StdoutPipe()
	if err := errors.Join(inErr, outErr, session.Start("cat")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	echo := func(when string) {
		t.Helper()
		_, err := io.WriteString(in, when+"\n")
		line, readErr := lines.ReadString('\n')
		if err := errors.Join(err, readErr); err != nil || line != when+"\n" {
			t.Fatalf("the connection %s: %q, %v", when, line, err)
		}
	}
	echo("before the kill")
	a.offerShell(t)
	const linked = "link to the coordinators is up"
	was := a.told(linked)
	if err := a.host.KillAgent(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	echo("with the agent dead")
	a.awaitTold(t, linked, was)
	a.obeys(t) // over the channel that its predecessor held
	echo("with the new agent")
}

// offerShell is the host's operator asking for shells on the consoles of system VMs: those that boot from now have one.
func (a *appliance) offerShell(t *testing.T) {
	t.Helper()
	mustExec(t, a.host, "sh", "-c", "echo 'system_vm_debug: true' >>/etc/wisp/agent.yaml")
}

// panicKernel has the router's kernel panic, from the shell on its console. QEMU looks once a second whether somebody has
// the console open, and reads nothing before: the line is said until the machine's end closes the console.
func (a *appliance) panicKernel(t *testing.T) {
	was := strings.Count(a.console(t), "Kernel panic")
	_, _ = a.host.Exec(t.Context(), "sh", "-c", "console=$(virsh -q ttyconsole "+a.name+
		"); timeout 60 sh -c 'while echo \"echo c >/proc/sysrq-trigger\"; do sleep 0.2; done' >$console")
	await(t, recovery, "the console to speak of the panic", func(context.Context) error {
		if text := a.console(t); strings.Count(text, "Kernel panic") == was {
			return fmt.Errorf("it ends with %q", text[max(0, len(text)-500):])
		}
		return nil
	})
}

func (a *appliance) console(t *testing.T) string {
	t.Helper()
	return mustExec(t, a.host, "sh", "-c", "cat $(find /var/lib/wisp /var/log -name '"+a.id+".log')")
}

// damageImage flips a bit in the middle of the root that the router boots from, and ends the router.
func (a *appliance) damageImage(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(a.host.Dir(), "var-lib-wisp", "*", "images", "*.systemvm", "root.squashfs"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the image on the host: %v, %v", found, err)
	}
	whole, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{whole[len(whole)/2] ^ 1}, int64(len(whole)/2))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	a.killRouter(t)
	await(t, recovery, "the image to be whole again", func(context.Context) error {
		now, err := os.ReadFile(found[0])
		if err == nil && string(now) != string(whole) {
			err = errors.New("it is damaged")
		}
		return err
	})
	if a.told("removing a damaged image") != 1 || a.told("root.squashfs differs from its manifest") < 1 {
		t.Error("the agent's log does not say what was damaged")
	}
}

// cutChannel has QEMU close the host's end of the channel, with the connection on it, and make it anew. QEMU binds the new
// socket before it removes the old one by its path, so the way back to the path is by another one.
func (a *appliance) cutChannel(t *testing.T) {
	socket := a.socket(t)
	const interrupted = "channel to system vm is interrupted"
	was := a.told(interrupted)
	for _, path := range []string{socket + ".other", socket} {
		mustExec(t, a.host, "virsh", "-q", "qemu-monitor-command", a.name, "--hmp",
			"chardev-change charchannel0 socket,path="+path+",server=on,wait=off")
	}
	a.awaitTold(t, interrupted, was)
}

func (a *appliance) socket(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(mustExec(t, a.host, "sh", "-c",
		"virsh -q dumpxml "+a.name+" | sed -n \"s/.*path='\\([^']*\\)'.*/\\1/p\" | grep -m 1 "+a.id+".sock"))
}

// removeSocket takes away the host's end of the channel for good: whoever is connected stays so, and the next agent finds
// nothing to connect to.
func (a *appliance) removeSocket(t *testing.T) {
	const gone = "socket of channel to system vm is gone"
	was := a.told(gone)
	mustExec(t, a.host, "rm", a.socket(t))
	if err := a.host.KillAgent(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	a.awaitTold(t, gone, was)
}

// cutPower pulls the host's plug, and puts it in again.
func (a *appliance) cutPower(t *testing.T) {
	if err := a.host.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.host.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
}
