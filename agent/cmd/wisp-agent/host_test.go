package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/internal/hostlink/linktest"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// TestHost walks one real host through its life.
func TestHost(t *testing.T) {
	w := newWorld(t)
	_, joined := w.await("join", 20*time.Second, func(o *hostspec.HostObservation) bool { return o.GetFacts() != nil })
	t.Logf("joined and observed after %.2f s", joined.Seconds())
	w.addPool()
	network := w.addNetwork(1)
	vm := w.addVM(1, network)
	w.push()
	o, took := w.await("first start", 60*time.Second, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_RUNNING))
	t.Logf("spec to running, image fetched: %.2f s, vnc port %d", took.Seconds(), vmOf(o, vm.GetId()).GetVncPort())
	w.await("settle", 20*time.Second, settled(w.generation))
	w.eventually(10*time.Second, func(out string) bool { return strings.Contains(out, "up") },
		"cat", "/var/lib/wisp/agent/console/"+vm.GetId()+".log")

	t.Run("takeover", func(t *testing.T) { w.testTakeover(t, vm) })
	t.Run("drift", func(t *testing.T) { w.testDrift(t, network, vm) })
	t.Run("power", func(t *testing.T) { w.testPower(t, network, vm) })
	t.Run("guest", func(t *testing.T) { w.testGuest(t, vm) })
	t.Run("foreign", func(t *testing.T) { w.testForeign(t) })
	t.Run("secrets", func(t *testing.T) { w.testSecrets(t) })
	t.Run("removal", func(t *testing.T) { w.testRemoval(t) })
}

func (w *world) testTakeover(t *testing.T, vm *hostspec.VirtualMachine) {
	w.t = t
	before, netsvc, agent := w.qemu(vm), w.exec("pgrep", "-x", "wisp-netsvc"), w.agentPID()
	hellos := len(w.coordinator.Hellos())
	begin := time.Now()
	if err := w.host.KillAgent(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually(20*time.Second, func(out string) bool { return out != agent && out != "" }, "pgrep", "-x", "wisp-agent")
	started := time.Since(begin)
	poll(t, 20*time.Second, "link of the new agent", func() (bool, any) {
		n := len(w.coordinator.Hellos())
		return n > hellos, n
	})
	w.await("takeover", 20*time.Second, func(o *hostspec.HostObservation) bool {
		return o.GetAgentStartedUnixMs() > begin.UnixMilli() && o.GetSettledGeneration() == w.generation
	})
	t.Logf("agent restarted after %.2f s, all taken over and reported after %.2f s", started.Seconds(), time.Since(begin).Seconds())
	if after := w.qemu(vm); after != before {
		t.Errorf("qemu was process %s, is %s", before, after)
	}
	if after := w.exec("pgrep", "-x", "wisp-netsvc"); after != netsvc {
		t.Errorf("wisp-netsvc was process %s, is %s", netsvc, after)
	}
}

func (w *world) testDrift(t *testing.T, network *hostspec.Network, vm *hostspec.VirtualMachine) {
	w.t = t
	const limit = 10 * time.Second
	bridge := fmt.Sprintf("wbr%d", network.GetNumber())
	ports := func() string {
		var links []struct{ IfName string }
		if err := json.Unmarshal([]byte(w.exec("ip", "-j", "link", "show", "master", bridge)), &links); err != nil {
			t.Fatal(err)
		}
		return strconv.Itoa(len(links))
	}
	if got := ports(); got != "3" {
		t.Fatalf("bridge has %s ports, want tap, tunnel and leg", got)
	}
	healed := func(what string, took time.Duration) { t.Logf("%s: healed after %.2f s", what, took.Seconds()) }

	w.exec("ip", "link", "del", bridge)
	healed("bridge deleted", w.eventually(limit, func(out string) bool { return strings.Count(out, "wisp") >= 0 && strings.Count(out, "ifname") == 3 },
		"ip", "-j", "link", "show", "master", bridge))

	w.exec("ip", "link", "del", fmt.Sprintf("wvx%d", network.GetNumber()))
	healed("tunnel deleted", w.eventually(limit, func(out string) bool { return strings.Contains(out, "state") },
		"ip", "link", "show", fmt.Sprintf("wvx%d", network.GetNumber())))

	pid := w.exec("pgrep", "-x", "wisp-netsvc")
	w.exec("kill", "-9", pid)
	healed("wisp-netsvc killed", w.eventually(limit, func(out string) bool { return out != "" && out != pid }, "pgrep", "-x", "wisp-netsvc"))
	namespace := "wisp-" + network.GetId()
	inside := []string{"ip", "-n", namespace, "-br", "addr", "show", "svc0"}
	address := func(out string) bool { return strings.Contains(out, "10.77.1.1/24") && strings.Contains(out, "UP") }
	w.eventually(limit, address, inside...)

	w.exec("ip", "netns", "del", namespace)
	healed("namespace's name deleted", w.eventually(limit, address, inside...))

	w.exec("ip", "netns", "pids", namespace)
	w.exec("kill", "-9", w.exec("pgrep", "-x", "wisp-netsvc"))
	w.exec("ip", "netns", "del", namespace)
	healed("namespace and process gone", w.eventually(limit, address, inside...))

	w.testLostTap(t, vm)
	before := w.qemu(vm)
	w.exec("virsh", "destroy", vm.GetInstanceName())
	o, took := w.await("destroy by hand", limit, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_STOPPED))
	if cause := vmOf(o, vm.GetId()).GetStopCause(); cause != hostspec.StopCause_STOP_CAUSE_CRASHED {
		t.Errorf("cause is %s", cause)
	}
	t.Logf("domain destroyed by hand: reported after %.2f s", took.Seconds())

	vm.StartEpoch++
	vm.Ha = true
	w.push()
	w.await("start again", limit, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_RUNNING))
	w.exec("kill", "-9", w.qemu(vm))
	_, took = w.await("restart by HA", limit, func(o *hostspec.HostObservation) bool {
		v := vmOf(o, vm.GetId())
		return v.GetState() == hostspec.VmState_VM_STATE_RUNNING && v.GetRestarts() == 1
	})
	t.Logf("qemu killed, offering has HA: running again after %.2f s", took.Seconds())
	if after := w.qemu(vm); after == before {
		t.Errorf("qemu is process %s still", after)
	}

	w.exec("pkill", "-9", "-x", "libvirtd")
	pid = w.qemu(vm)
	begin := time.Now()
	back := w.eventually(20*time.Second, func(out string) bool { return strings.Contains(out, "running") },
		"virsh", "domstate", vm.GetInstanceName())
	w.await("libvirtd restarted", 20*time.Second, func(o *hostspec.HostObservation) bool {
		v := vmOf(o, vm.GetId())
		return v.GetState() == hostspec.VmState_VM_STATE_RUNNING && v.GetError() == "" && v.GetRestarts() == 1
	})
	if after := w.qemu(vm); after != pid {
		t.Errorf("qemu was process %s, is %s", pid, after)
	}
	// That the agent hears events again shows when the next one is healed.
	w.exec("kill", "-9", pid)
	w.await("restart by HA after libvirtd's", limit, func(o *hostspec.HostObservation) bool {
		v := vmOf(o, vm.GetId())
		return v.GetState() == hostspec.VmState_VM_STATE_RUNNING && v.GetRestarts() == 2
	})
	t.Logf("libvirtd killed: back after %.2f s, a domain that died next runs again after %.2f s",
		back.Seconds(), time.Since(begin).Seconds())
}

// testLostTap deletes the link of a running guest. Its qemu holds a device without a name, which nothing but a reboot
// mends, so that is what the user is told.
func (w *world) testLostTap(t *testing.T, vm *hostspec.VirtualMachine) {
	t.Helper()
	w.exec("sh", "-c", "ip link del $(ls /sys/class/net | grep ^wtp)")
	_, took := w.await("lost tap", 10*time.Second, func(o *hostspec.HostObservation) bool {
		v := vmOf(o, vm.GetId())
		return v.GetState() == hostspec.VmState_VM_STATE_RUNNING && strings.Contains(v.GetError(), "was deleted on the host")
	})
	t.Logf("tap deleted: reported after %.2f s", took.Seconds())
	vm.BootEpoch++
	w.push()
	w.await("reboot", 30*time.Second, func(o *hostspec.HostObservation) bool {
		v := vmOf(o, vm.GetId())
		return v.GetState() == hostspec.VmState_VM_STATE_RUNNING && v.GetError() == "" && v.GetBootEpoch() == vm.GetBootEpoch()
	})
}

// testPower cuts the host's power, takes the coordinator away, and lets the host come back alone.
func (w *world) testPower(t *testing.T, network *hostspec.Network, vm *hostspec.VirtualMachine) {
	w.t = t
	if err := w.host.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	address := w.coordinator.Address()
	w.coordinator.Kill()
	begin := time.Now()
	if err := w.host.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	up := time.Since(begin)
	w.eventually(30*time.Second, func(out string) bool { return strings.Contains(out, "running") },
		"virsh", "domstate", vm.GetInstanceName())
	running := time.Since(begin)
	w.eventually(30*time.Second, func(out string) bool { return strings.Contains(out, "10.77.1.1/24") },
		"ip", "-n", "wisp-"+network.GetId(), "-br", "addr", "show", "svc0")
	t.Logf("power on without coordinator: libvirt after %.2f s, guest after %.2f s, network after %.2f s",
		up.Seconds(), running.Seconds(), time.Since(begin).Seconds())
	var err error
	if w.coordinator, err = linktest.Start(w.authority, address); err != nil {
		t.Fatal(err)
	}
	w.coordinator.SetSpec(w.spec)
	_, took := w.await("link again", 20*time.Second, settled(w.generation))
	t.Logf("coordinator back: linked and settled after %.2f s", took.Seconds())
}

// testGuest lets the guest decide, and the user.
func (w *world) testGuest(t *testing.T, vm *hostspec.VirtualMachine) {
	w.t = t
	const limit = 15 * time.Second
	w.await("run", limit, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_RUNNING))
	pid := w.qemu(vm)
	vm.BootEpoch++
	w.push()
	_, took := w.await("reboot", limit, func(o *hostspec.HostObservation) bool {
		v := vmOf(o, vm.GetId())
		return v.GetState() == hostspec.VmState_VM_STATE_RUNNING && v.GetBootEpoch() == vm.GetBootEpoch()
	})
	if after := w.qemu(vm); after == pid {
		t.Error("reboot left the same qemu")
	}
	t.Logf("reboot asked for: %.2f s", took.Seconds())

	w.eventually(limit, func(out string) bool { return true }, "sh", "-c",
		// qemu looks once a second whether somebody has the terminal open.
		"(printf q; sleep 3) > $(virsh ttyconsole "+vm.GetInstanceName()+") 2> /dev/null < /dev/null &")
	o, took := w.await("shutdown from inside", limit, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_STOPPED))
	if cause := vmOf(o, vm.GetId()).GetStopCause(); cause != hostspec.StopCause_STOP_CAUSE_GUEST {
		t.Errorf("cause is %s", cause)
	}
	t.Logf("guest powered off: reported after %.2f s", took.Seconds())
	if err := w.host.KillAgent(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	o, _ = w.await("stays off", limit, func(o *hostspec.HostObservation) bool {
		return o.GetAgentStartedUnixMs() >= now && o.GetSettledGeneration() == w.generation
	})
	if v := vmOf(o, vm.GetId()); v.GetState() != hostspec.VmState_VM_STATE_STOPPED || v.GetStopCause() != hostspec.StopCause_STOP_CAUSE_GUEST {
		t.Errorf("after the agent's restart: %v", v)
	}
	vm.StartEpoch++
	w.push()
	w.await("start again", limit, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_RUNNING))
	vm.Power = hostspec.PowerState_POWER_STATE_STOPPED
	w.push()
	o, took = w.await("stop", limit, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_STOPPED))
	if cause := vmOf(o, vm.GetId()).GetStopCause(); cause != hostspec.StopCause_STOP_CAUSE_WANTED {
		t.Errorf("cause is %s", cause)
	}
	t.Logf("stop asked for, guest obeyed: %.2f s", took.Seconds())
}

// testForeign has a domain somebody else made, with the id of a wanted VM: it is left alone, and the VM says why.
func (w *world) testForeign(t *testing.T) {
	w.t = t
	vm := w.addVM(50)
	text := fmt.Sprintf("<domain type='qemu'><name>theirs</name><uuid>%s</uuid><memory unit='MiB'>16</memory>"+
		"<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>", vm.GetId())
	w.exec("sh", "-c", fmt.Sprintf("echo \"%s\" > /var/tmp/theirs.xml && virsh define /var/tmp/theirs.xml && virsh start theirs", text))
	w.push()
	o, _ := w.await("refusal", 20*time.Second, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_FAILED))
	if why := vmOf(o, vm.GetId()).GetError(); !strings.Contains(why, "theirs was not made by this agent") {
		t.Errorf("error %q", why)
	}
	w.spec.Vms = w.spec.Vms[:len(w.spec.Vms)-1]
	w.push()
	w.await("settle", 20*time.Second, settled(w.generation))
	if state := w.exec("virsh", "domstate", "theirs"); state != "running" {
		t.Errorf("their domain is %s", state)
	}
	w.exec("virsh", "destroy", "theirs")
	w.exec("virsh", "undefine", "theirs")
}

// testSecrets looks for secrets where they must not be, and for signs of trouble in the agent's log.
func (w *world) testSecrets(t *testing.T) {
	w.t = t
	log := w.host.Log("agent", 1<<20)
	for _, word := range []string{"s3cretpw", w.token, "DATA RACE", "panic:"} {
		if at := strings.Index(log, word); at >= 0 {
			t.Errorf("the agent's log has %q:\n%s", word, log[at:min(len(log), at+3000)])
		}
	}
	out, err := w.host.Exec(t.Context(), "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '")
	if err == nil && strings.Contains(out, "s3cretpw") {
		t.Error("the VNC password is in a command line")
	}
	if strings.Contains(out, w.token) {
		t.Error("the join token is in a command line")
	}
}

// testRemoval takes everything away.
func (w *world) testRemoval(t *testing.T) {
	w.t = t
	pools := w.spec.Pools
	w.spec.Vms, w.spec.Networks, w.spec.Images = nil, nil, nil
	for _, v := range w.spec.Volumes {
		v.Removed = true
	}
	w.push()
	o, took := w.await("removal", 20*time.Second, func(o *hostspec.HostObservation) bool {
		return o.GetSettledGeneration() == w.generation && len(o.GetVms()) == 0
	})
	t.Logf("everything removed after %.2f s: %d pools left", took.Seconds(), len(o.GetPools()))
	w.eventually(10*time.Second, func(out string) bool { return out == "" }, "sh", "-c",
		"virsh list --all --name; ls /run/netns | grep ^wisp- ; ls /var/lib/wisp/pool/volumes; pgrep -x wisp-netsvc; ip -br link | grep -E '^w(br|vx|lg|tp)' || true")
	w.spec.Pools = pools
}
