package systemvm_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/images/internal/cpio"
	"github.com/wispcloud/wisp/images/internal/gobuild"
	"github.com/wispcloud/wisp/images/internal/tree"
	"github.com/wispcloud/wisp/images/systemvm"
	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// router is what a system VM does for a network: the local services (DHCP, DNS,
// metadata) are the hosts' own.
func router(generation uint64) *netspec.NetSpec {
	return &netspec.NetSpec{
		NetworkId: "6f1f6ed6-4dbc-4b3c-8a6b-0f0fd0b7a001", Generation: generation, Forwarding: true,
		Links: []*netspec.Link{
			{Name: "gw0", Mac: guestMAC, Mtu: 1450, Addresses: []string{"10.1.1.1/24"}, StrictArp: true},
			{Name: "pub0", Mac: publicMAC, Mtu: 1500, Addresses: []string{"192.0.2.10/24", "192.0.2.11/24"}, Announce: true},
		},
		Routes: []*netspec.Route{{Destination: "0.0.0.0/0", Gateway: "192.0.2.1", Link: "pub0"}},
		Firewall: &netspec.Firewall{
			PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", EgressDefaultAllow: true,
			Ingress: []*netspec.FirewallRule{{Id: "r1", Protocol: "tcp", PublicIp: "192.0.2.11", StartPort: 80, EndPort: 80}},
		},
		Nat: &netspec.Nat{PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", GuestGateway: "10.1.1.1", SourceNatIp: "192.0.2.10"},
		Portfwd: &netspec.PortForward{
			PublicLink: "pub0", GuestLink: "gw0", GuestCidr: "10.1.1.0/24", GuestGateway: "10.1.1.1",
			Rules: []*netspec.PortForwardRule{{
				Id: "p1", Protocol: "tcp", PublicIp: "192.0.2.11", PublicStartPort: 80, PublicEndPort: 80,
				GuestIp: "10.1.1.10", GuestStartPort: 8080, GuestEndPort: 8080,
			}},
		},
	}
}

// apply hands the machine a spec and waits until its services have applied it.
// As the agent does, it begins again when the guest has lost the session.
func (m *machine) apply(want *netspec.NetSpec) *netspec.Observation {
	m.t.Helper()
	var seen *netspec.Observation
	eventually(m.t, bootLimit, "the spec to be applied", func() (err error) {
		select {
		case <-m.done:
			m.t.Fatalf("qemu ended: %v", m.err)
		default:
		}
		seen, err = m.tryApply(want)
		return err
	})
	return seen
}

func (m *machine) tryApply(want *netspec.NetSpec) (*netspec.Observation, error) {
	conn, err := net.Dial("unix", m.channel)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(bootLimit)); err != nil {
		return nil, err
	}
	c, err := specio.Begin(conn)
	if err != nil {
		return nil, err
	}
	if err := specio.NewWriter(c).Write(&netspec.ToService{Message: &netspec.ToService_Apply{Apply: want}}); err != nil {
		return nil, err
	}
	var last *netspec.Observation
	for r := specio.NewReader(c); ; {
		var said netspec.FromService
		if err := r.Read(&said); err != nil {
			return nil, fmt.Errorf("read observation: %w; last was %v", err, last)
		}
		if refusal := said.GetRefusal(); refusal != nil {
			m.t.Fatalf("the spec was refused: %v", refusal)
		}
		if last = said.GetObservation(); last.GetAppliedGeneration() == want.Generation {
			return last, nil
		}
	}
}

// bare boots the same kernel into a process that says so, and is over.
func bare(t *testing.T, kernel string) mark {
	t.Helper()
	program, err := gobuild.BuildPackage(t.Context(), t.TempDir(), gobuild.Package{Source: checkout, Dir: "images/systemvm/testdata/bare", Version: "0"})
	if err != nil {
		t.Fatal(err)
	}
	root := tree.New()
	for _, e := range []tree.Entry{
		{Path: "init", Perm: 0o755, Data: program},
		{Path: "dev/console", Kind: tree.CharDevice, Perm: 0o600, Major: 5, Minor: 1},
	} {
		if err := root.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	if err := cpio.Write(&archive, root, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, archive.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	m := start(t, options{kernel: kernel, initrd: initrd, cmdline: systemvm.KernelCmdline, marks: []string{"bare: user space"}})
	m.waitFor("bare: user space")
	m.waitEnd()
	return m.marks[0]
}

// direct are the options by which a host boots the set.
func direct(f bootFiles) options {
	return options{kernel: f.kernel, initrd: f.initrd, cmdline: f.manifest.Cmdline, disks: []string{f.root}}
}

// maxRatio bounds a boot until services are ready against a boot of the bare
// kernel, in processor time, which other load does not change much. It is there
// to notice a boot that got slower; what is aimed at stands in DESIGN.md.
const maxRatio = 3.5

// TestBoot is the life of a router: booted, given its spec, told to end.
func TestBoot(t *testing.T) {
	f := imageForTest(t)
	floor := bare(t, f.kernel)
	o := direct(f)
	o.marks = []string{"is whole", "wisp-init: version", "wisp-netsvc serves"}
	m := start(t, o)
	seen := m.apply(router(7))
	ready := m.now()
	m.mu.Lock()
	steps := append([]mark{{text: "bare kernel to user space", wall: floor.wall, cpu: floor.cpu}}, m.marks...)
	m.mu.Unlock()
	for _, k := range append(steps, mark{text: "services ready", wall: ready.wall, cpu: ready.cpu}) {
		t.Logf("%-26s %6.2f s, processor %5.2f s, %.2f times bare", k.text, k.wall.Seconds(), k.cpu.Seconds(), k.cpu.Seconds()/floor.cpu.Seconds())
	}
	if ratio := ready.cpu.Seconds() / floor.cpu.Seconds(); ratio > maxRatio {
		t.Errorf("services are ready after %.2f times the processor time of a bare boot, at most %.1f are allowed", ratio, maxRatio)
	}
	for _, s := range seen.Services {
		if !s.Ready {
			t.Errorf("service %s is not ready: %s", s.Name, s.Error)
		}
	}
	if seen.Version != testVersion || len(seen.Services) == 0 {
		t.Errorf("observation %v, want services of version %s", seen, testVersion)
	}
	if strings.Contains(m.console(), "load packet filter:") {
		t.Error("the image lacks modules that wisp-init loads")
	}
	// A second host process takes over the channel, as an agent does that was started again.
	if again := m.apply(proto.Clone(router(8)).(*netspec.NetSpec)); again.StartedUnixMs != seen.StartedUnixMs {
		t.Error("the services were started again because the host's end of the channel was")
	}
	m.waitFor("all devices are in use")
	begin := time.Now()
	m.powerButton()
	m.waitEnd()
	t.Logf("power button to off: %.2f s", time.Since(begin).Seconds())
}

// TestDisk boots what a person boots: the disk, by BIOS and boot loader.
func TestDisk(t *testing.T) {
	f := imageForTest(t)
	m := start(t, options{disks: []string{f.disk}, marks: []string{"wisp-netsvc serves"}})
	m.apply(router(1))
	t.Logf("from the disk: services ready after %.2f s", time.Since(m.started).Seconds())
	if !strings.Contains(m.console(), "root disk /dev/vda2 is whole") {
		t.Error("the root was not verified")
	}
}

// TestDamaged boots roots that are not whole: none is started, and the console
// says why.
func TestDamaged(t *testing.T) {
	f := imageForTest(t)
	root, err := os.ReadFile(f.root)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(root)
	flipped[len(flipped)/2] ^= 0x10
	for _, tt := range []struct {
		name, want string
		data       []byte
	}{
		{"one bit", "xxHash64 of its", flipped},
		{"half of it", "has", root[:len(root)/2/4096*4096]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := direct(f)
			damaged := filepath.Join(t.TempDir(), "damaged.squashfs")
			if err := os.WriteFile(damaged, tt.data, 0o644); err != nil {
				t.Fatal(err)
			}
			o.disks = []string{damaged}
			m := start(t, o)
			m.waitFor("ROOT DISK IS DAMAGED, NOT STARTED")
			m.waitEnd()
			if said := m.console(); !strings.Contains(said, tt.want) || strings.Contains(said, "is whole") {
				t.Errorf("the console does not say %q", tt.want)
			}
		})
	}
}

// TestManifest compares the manifest at the beginning of the bundle with the one
// beside it.
func TestManifest(t *testing.T) {
	f := imageForTest(t)
	inside, err := systemvm.ManifestOf(filepath.Join(filepath.Dir(f.kernel), systemvm.BundleFile(testVersion)))
	if err != nil {
		t.Fatal(err)
	}
	outside := f.manifest
	outside.Bundle, outside.Disk = nil, nil
	diffManifests(t, outside, inside)
}
