package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// TestFigures measures on a real host what PERFORMANCE asks of the agent, and prints one line each. The bounds are
// loose, for machines are shared; the printed figures are what counts.
func TestFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	w := newWorld(t)
	w.addPool()
	network := w.addNetwork(1)
	vm := w.addVM(1, network)
	vm.ForcedStop = true
	w.push()
	w.await("first start", 60*time.Second, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_RUNNING))
	t.Run("start", func(t *testing.T) { w.measureStart(t, vm) })
	t.Run("parallel", func(t *testing.T) { w.measureParallel(t, network) })
	t.Run("idle", func(t *testing.T) { w.measureIdle(t) })
}

// rawDomain defines a copy of a VM without the agent, with a disk of its own.
func (w *world) rawDomain(t *testing.T, virt *libvirt.Libvirt, vm *hostspec.VirtualMachine) libvirt.Domain {
	t.Helper()
	ours, err := virt.DomainLookupByName(vm.GetInstanceName())
	if err != nil {
		t.Fatal(err)
	}
	text, err := virt.DomainGetXMLDesc(ours, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
	if err != nil {
		t.Fatal(err)
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	name := "raw-" + uuid.NewString()[:8]
	d.Name, d.UUID, d.Metadata = name, uuid.NewString(), nil
	source := d.Devices.Disks[0].Source.File
	copied := filepath.Join(filepath.Dir(source.File), name+".qcow2")
	w.exec("cp", source.File, copied)
	source.File = copied
	for i := range d.Devices.Interfaces {
		d.Devices.Interfaces[i].MAC, d.Devices.Interfaces[i].Target = nil, nil
	}
	d.Devices.Serials[0].Log, d.Devices.Consoles = nil, nil
	if text, err = d.Marshal(); err != nil {
		t.Fatal(err)
	}
	raw, err := virt.DomainDefineXML(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (w *world) measureStart(t *testing.T, vm *hostspec.VirtualMachine) {
	w.t = t
	virt := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(w.host.LibvirtSocket())))
	if err := virt.ConnectToURI(libvirt.QEMUSystem); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = virt.Disconnect() }()
	raw := w.rawDomain(t, virt, vm)
	var agent, plain []time.Duration
	for range 15 {
		vm.Power = hostspec.PowerState_POWER_STATE_STOPPED
		w.push()
		w.await("stop", 20*time.Second, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_STOPPED))
		begin := time.Now()
		if err := virt.DomainCreate(raw); err != nil {
			t.Fatal(err)
		}
		plain = append(plain, time.Since(begin))
		if err := virt.DomainDestroy(raw); err != nil {
			t.Fatal(err)
		}
		vm.Power = hostspec.PowerState_POWER_STATE_RUNNING
		vm.StartEpoch++
		w.push()
		_, took := w.await("start", 20*time.Second, vmIs(vm.GetId(), hostspec.VmState_VM_STATE_RUNNING))
		agent = append(agent, took)
	}
	if err := virt.DomainUndefine(raw); err != nil {
		t.Fatal(err)
	}
	ratio := float64(median(agent)) / float64(median(plain))
	t.Logf("P8: spec sent to running reported %.0f ms, %.0f of them defining and creating in libvirt; raw DomainCreate %.0f ms; "+
		"ratio %.2f (goal 1.10; medians of %d interleaved)",
		ms(median(agent)), ms(w.medianStart()), ms(median(plain)), ratio, len(agent))
	if ratio > 2 {
		t.Errorf("ratio %.2f is above 2", ratio)
	}
}

// medianStart is how long the agent's calls to libvirt took, by its own log.
func (w *world) medianStart() time.Duration {
	w.t.Helper()
	var took []time.Duration
	for line := range strings.Lines(w.host.Log("agent", 1<<20)) {
		_, text, ok := strings.Cut(line, " took=")
		if !ok || !strings.Contains(line, "started vm") {
			continue
		}
		d, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			w.t.Fatal(err)
		}
		took = append(took, d)
	}
	if len(took) == 0 {
		w.t.Fatal("the agent's log has no starts")
	}
	return median(took)
}

// measureParallel starts VMs at once, by the agent and by virsh.
func (w *world) measureParallel(t *testing.T, network *hostspec.Network) {
	w.t = t
	const n = 8
	var ids []string
	for i := range n {
		vm := w.addVM(100+i, network)
		vm.Power, vm.ForcedStop = hostspec.PowerState_POWER_STATE_STOPPED, true
		ids = append(ids, vm.GetId())
	}
	w.push()
	w.await("disks", 60*time.Second, settled(w.generation))
	added := w.spec.Vms[len(w.spec.Vms)-n:]
	power := func(p hostspec.PowerState, s hostspec.VmState) time.Duration {
		for _, vm := range added {
			vm.Power = p
			vm.StartEpoch++
		}
		w.push()
		_, took := w.await("all", 120*time.Second, func(o *hostspec.HostObservation) bool {
			for _, id := range ids {
				if !vmIs(id, s)(o) {
					return false
				}
			}
			return true
		})
		return took
	}
	first := power(hostspec.PowerState_POWER_STATE_RUNNING, hostspec.VmState_VM_STATE_RUNNING)
	power(hostspec.PowerState_POWER_STATE_STOPPED, hostspec.VmState_VM_STATE_STOPPED)
	// Now virsh starts what the agent has defined; the agent is stopped so that it does not mind.
	w.exec("pkill", "-STOP", "-x", "wisp-agent")
	var script strings.Builder
	for _, vm := range added {
		fmt.Fprintf(&script, "virsh -q start %s & ", vm.GetInstanceName())
	}
	begin := time.Now()
	w.exec("sh", "-c", script.String()+"wait")
	plain := time.Since(begin)
	w.exec("pkill", "-CONT", "-x", "wisp-agent")
	t.Logf("P8: %d starts at once: agent %.2f s (%.1f/s), virsh %.2f s (%.1f/s), ratio of rates %.2f (goal 0.95)",
		n, first.Seconds(), n/first.Seconds(), plain.Seconds(), n/plain.Seconds(), plain.Seconds()/first.Seconds())
	w.spec.Vms = w.spec.Vms[:len(w.spec.Vms)-n]
	w.push()
	w.await("removed", 60*time.Second, func(o *hostspec.HostObservation) bool { return len(o.GetVms()) == 1 })
}

func (w *world) measureIdle(t *testing.T) {
	w.t = t
	pid := w.agentPID()
	w.await("settle", 30*time.Second, settled(w.generation))
	const span = 20 * time.Second
	before := w.cpuTicks(pid)
	<-time.After(span) // The figure is CPU time per wall time: here time itself is what is waited for.
	ticks := w.cpuTicks(pid) - before
	memory := func(pid string) (kib int) {
		kib, err := strconv.Atoi(w.exec("awk", "/^VmRSS/ {print $2}", "/proc/"+pid+"/status"))
		if err != nil {
			t.Fatal(err)
		}
		return kib
	}
	percent := float64(ticks) / 100 / span.Seconds() * 100
	rss := memory(pid)
	t.Logf("P14: agent with one VM and one network idles at %.1f MB and %.2f %% CPU (goals 25 MB, 0.2 %%); wisp-netsvc %.1f MB",
		float64(rss)/1024, percent, float64(memory(w.exec("pgrep", "-x", "wisp-netsvc")))/1024)
	if rss > 40<<10 || percent > 1 {
		t.Error("idle agent is far above its goals")
	}
}

// cpuTicks of a process, hundredths of a second (proc_pid_stat(5), utime and stime).
func (w *world) cpuTicks(pid string) int {
	w.t.Helper()
	fields := strings.Fields(w.exec("sed", "s/.*) //", "/proc/"+pid+"/stat"))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		w.t.Fatal(err1, err2)
	}
	return user + system
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
