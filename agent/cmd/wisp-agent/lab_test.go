package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wispcloud/wisp/agent/internal/hostlink/linktest"
	"github.com/wispcloud/wisp/packaging/lab"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

// A range of RFC 2544, which no machine has a route to by accident.
var (
	testMgmt   = netip.MustParsePrefix("198.18.210.0/24")
	testPublic = netip.MustParsePrefix("198.18.211.0/24")
)

// world is one lab host with a real agent, and a coordinator that only does what the test says.
type world struct {
	t           *testing.T
	host        *lab.Host
	coordinator *linktest.Coordinator
	authority   *linktest.Authority
	token       string
	id          string
	image       *hostspec.Image
	generation  uint64
	spec        *hostspec.HostSpec
}

func build(t *testing.T, dir, target string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.Base(target))
	out, err := exec.Command("go", "build", "-ldflags", "-X main.version=test", "-o", path,
		"github.com/wispcloud/wisp/"+target).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", target, err, out)
	}
	return path
}

func newWorld(t *testing.T) *world { return newWorlds(t, 1)[0] }

// newWorlds are several hosts in one lab, with one coordinator.
func newWorlds(t *testing.T, hosts int) []*world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, bridges and guests")
	}
	dir := t.TempDir()
	agent := build(t, dir, "agent/cmd/wisp-agent")
	build(t, dir, "netsvc/cmd/wisp-netsvc")
	worlds := make([]*world, hosts)
	l, err := lab.New(t.Context(), lab.Config{
		Name: "agent", Dir: filepath.Join(dir, "l"), Hosts: hosts, MgmtPrefix: testMgmt, PublicPrefix: testPublic,
		AttachRoot: true, AgentBinary: agent,
		AgentConfig: func(h lab.HostInfo) ([]byte, error) {
			return []byte("join: " + worlds[h.Index-1].token + "\ndata_dir: /var/lib/wisp/agent\naccel: tcg\n"), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	authority, err := linktest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	coordinator, err := linktest.Start(authority, l.Gateway()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { worlds[0].coordinator.Kill() })
	for i := range worlds {
		w := &world{t: t, authority: authority, coordinator: coordinator, host: l.Host(i + 1)}
		w.token, w.id = coordinator.Token()
		w.spec = &hostspec.HostSpec{HostId: w.id}
		w.image = w.addGuest(dir)
		worlds[i] = w
	}
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, w := range worlds {
				t.Logf("log of %s's agent:\n%s", w.host.Name(), w.host.Log("agent", 60))
			}
		}
	})
	return worlds
}

// addGuest makes the template of the smallest guest.
func (w *world) addGuest(dir string) *hostspec.Image {
	w.t.Helper()
	path := filepath.Join(dir, "guest.qcow2")
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "testdata/guest.bin", path).CombinedOutput(); err != nil {
		w.t.Fatalf("make guest: %v\n%s", err, out)
	}
	if out, err := exec.Command("qemu-img", "resize", path, "1M").CombinedOutput(); err != nil {
		w.t.Fatalf("make guest: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return &hostspec.Image{
		Sha256: w.coordinator.AddImage(data), SizeBytes: uint64(len(data)), Format: "qcow2", VirtualSizeBytes: 1 << 20,
	}
}

// push sends the world's spec under a new generation.
func (w *world) push() {
	w.generation++
	w.spec.Generation = w.generation
	w.coordinator.SetSpec(w.spec)
}

// await waits for an observation and says how long it took.
func (w *world) await(what string, limit time.Duration, ok func(*hostspec.HostObservation) bool) (*hostspec.HostObservation, time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	begin := time.Now()
	o, err := w.coordinator.Wait(ctx, w.id, ok)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	return o, time.Since(begin)
}

func (w *world) exec(argv ...string) string {
	w.t.Helper()
	out, err := w.host.Exec(w.t.Context(), argv...)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// eventually runs a command on the host until it succeeds and prints want.
func (w *world) eventually(limit time.Duration, want func(out string) bool, argv ...string) time.Duration {
	w.t.Helper()
	begin := time.Now()
	poll(w.t, limit, strings.Join(argv, " "), func() (bool, any) {
		out, err := w.host.Exec(w.t.Context(), argv...)
		return err == nil && want(strings.TrimSpace(out)), []any{out, err}
	})
	return time.Since(begin)
}

// poll waits until ok says so; what ok saw last is told when it never does.
func poll(t *testing.T, limit time.Duration, what string, ok func() (bool, any)) {
	t.Helper()
	deadline, tick := time.After(limit), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		done, saw := ok()
		if done {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not as wanted after %s, saw last %v", what, limit, saw)
		case <-tick.C:
		}
	}
}

const testPool = "0b5c2d3e-0000-4000-8000-00000000000a"

func (w *world) addPool() {
	w.spec.Pools = []*hostspec.StoragePool{{
		Id: testPool, Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: "/var/lib/wisp/pool",
	}}
	w.image.PoolId = testPool
	w.spec.Images = []*hostspec.Image{w.image}
}

func (w *world) addNetwork(number uint32) *hostspec.Network {
	id := uuid.NewString()
	subnet := fmt.Sprintf("10.77.%d.0/24", number)
	router := fmt.Sprintf("10.77.%d.1/24", number)
	mac := fmt.Sprintf("02:77:00:00:%02x:01", number)
	n := &hostspec.Network{
		Id: id, Number: number, Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: 5000 + number,
		Legs: []*hostspec.Leg{{Name: "svc0", Mac: mac, Isolated: true}},
		Services: &netspec.NetSpec{
			NetworkId: id, Generation: 1,
			Links: []*netspec.Link{{Name: "svc0", Mac: mac, Addresses: []string{router}, StrictArp: true}},
			Dhcp4: &netspec.Dhcp4{
				Links: []string{"svc0"}, ServerId: strings.TrimSuffix(router, "/24"), Subnet: subnet, LeaseSeconds: 3600,
			},
		},
	}
	w.spec.Networks = append(w.spec.Networks, n)
	return n
}

func (w *world) addVM(number int, networks ...*hostspec.Network) *hostspec.VirtualMachine {
	volume := &hostspec.Volume{
		Id: uuid.NewString(), PoolId: testPool, SizeBytes: 2 << 20, ImageSha256: w.image.GetSha256(), ImageFormat: "qcow2",
	}
	w.spec.Volumes = append(w.spec.Volumes, volume)
	vm := &hostspec.VirtualMachine{
		Id: uuid.NewString(), InstanceName: fmt.Sprintf("i-2-%d-VM", number), Hostname: "vm" + strconv.Itoa(number),
		Power: hostspec.PowerState_POWER_STATE_RUNNING, BootEpoch: 1, StartEpoch: 1, Vcpus: 1, CpuMhz: 500, MemoryMib: 32,
		Disks:            []*hostspec.Disk{{VolumeId: volume.GetId()}},
		StopGraceSeconds: 20, VncPassword: "s3cretpw", OsType: "Other Linux (64-bit)",
	}
	for i, n := range networks {
		vm.Nics = append(vm.Nics, &hostspec.Nic{
			Id: uuid.NewString(), NetworkId: n.GetId(), Mac: fmt.Sprintf("02:99:00:00:%02x:%02x", number, i), DefaultNic: i == 0,
		})
	}
	w.spec.Vms = append(w.spec.Vms, vm)
	return vm
}

func vmIs(id string, state hostspec.VmState) func(*hostspec.HostObservation) bool {
	return func(o *hostspec.HostObservation) bool {
		v := vmOf(o, id)
		return v != nil && v.GetState() == state
	}
}

func vmOf(o *hostspec.HostObservation, id string) *hostspec.VirtualMachineObservation {
	for _, v := range o.GetVms() {
		if v.GetId() == id {
			return v
		}
	}
	return nil
}

func settled(generation uint64) func(*hostspec.HostObservation) bool {
	return func(o *hostspec.HostObservation) bool { return o.GetSettledGeneration() >= generation }
}

// qemu is the process of a VM, by the host's own numbers.
func (w *world) qemu(vm *hostspec.VirtualMachine) string {
	w.t.Helper()
	return w.exec("cat", "/run/libvirt/qemu/"+vm.GetInstanceName()+".pid")
}

func (w *world) agentPID() string {
	w.t.Helper()
	return w.exec("pgrep", "-x", "wisp-agent")
}
