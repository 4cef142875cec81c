package domain

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/wispcloud/wisp/proto/hostspec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testMachine(osType string) Machine {
	return Machine{
		VM: &hostspec.VirtualMachine{
			Id: "0f7a1f2e-0000-4000-8000-000000000001", InstanceName: "i-2-15-VM", Vcpus: 2, CpuMhz: 1000, CpuCap: true,
			MemoryMib: 512, StartEpoch: 3, BootEpoch: 7, VncPassword: "longer than eight", OsType: osType,
			Disks: []*hostspec.Disk{{VolumeId: "a"}, {VolumeId: "b", DeviceId: 1}}, Nics: []*hostspec.Nic{{}},
		},
		Disks: []Disk{
			{VolumeID: "11111111-2222-4333-8444-555555555556", DeviceID: 1, Path: "/srv/volumes/b.qcow2"},
			{
				VolumeID: "11111111-2222-4333-8444-555555555555", Path: "/srv/volumes/a.qcow2",
				BackingPath: "/srv/images/abc.raw", BackingFormat: "raw", Direct: true,
			},
		},
		Nics: []Nic{{MAC: "02:00:00:00:00:0A", Bridge: "wbr7", Tap: "wtpabcdefgh", MTU: 1450, RateMbit: 200}},
	}
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		name     string
		platform Platform
		osType   string
	}{
		{"emulated", Platform{VNCAddress: "10.0.0.1", ConsoleDir: "/var/lib/wisp/console"}, "Other Linux (64-bit)"},
		{"kvm", Platform{KVM: true, VNCAddress: "127.0.0.1", CPUGroups: 2, MHz: 2500}, "Debian GNU/Linux 12 (64-bit)"},
		{"windows", Platform{KVM: true, VNCAddress: "127.0.0.1", CPUGroups: 1, MHz: 2500}, "Windows Server 2008 R2 (64-bit)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := tt.platform.describe(testMachine(tt.osType))
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.name+".xml")
			if *update {
				if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			back, err := readDomain(got)
			if err != nil {
				t.Fatal(err)
			}
			if s := back.seen; !back.ours || s.StartEpoch != 3 || s.BootEpoch != 7 || s.Taps[0] != "wtpabcdefgh" || s.Bridges[0] != "wbr7" || len(s.Files) != 2 {
				t.Errorf("read back: ours %t, %+v", back.ours, s)
			}
		})
	}
}

// TestDescribeAppliance: a system VM boots without a loader from a read-only root, and is started again by the agent only.
func TestDescribeAppliance(t *testing.T) {
	m := testMachine("Debian GNU/Linux 12 (64-bit)")
	m.Disks, m.VM.Disks, m.VM.InstanceName = nil, nil, "r-7-VM"
	m.Nics = append(m.Nics, Nic{MAC: "02:00:00:00:00:0b", Bridge: "wctl", Tap: "wtpcontrol"})
	m.Nics[0].Unlinked = true
	m.System = &System{
		Kernel: "/srv/images/s.systemvm/vmlinuz", Initrd: "/srv/images/s.systemvm/initrd", Root: "/srv/images/s.systemvm/root.squashfs",
		Cmdline: "console=ttyS0 quiet panic=5 wisp.root=/dev/vda", ImageVersion: `1.2"<3`, Channel: "/run/wisp/systemvm/x.sock",
	}
	d, err := Platform{VNCAddress: "10.0.0.1", ConsoleDir: "/var/lib/wisp/console"}.describe(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "appliance.xml")
	if *update {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	back, err := readDomain(got)
	if err != nil {
		t.Fatal(err)
	}
	if s := back.seen; !back.ours || !s.System || s.ImageVersion != `1.2"<3` || !cmp.Equal(s.Unlinked, []string{"wtpabcdefgh"}) {
		t.Errorf("read back: ours %t, %+v", back.ours, s)
	}
}

// Texts of a spec, wherever they stand, are values of the description: they add no element and no attribute to it.
func TestCVE_2024_29008_TextsAddNoDevices(t *testing.T) {
	const hostile = `x'"/></devices><devices><hostdev mode='subsystem'/><qemu:commandline/></devices><!--&#10;]]>`
	shape := func(m Machine) string {
		d, err := Platform{VNCAddress: "10.0.0.1", ConsoleDir: "/var/lib/wisp/console"}.describe(m)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for in := xml.NewDecoder(strings.NewReader(text)); ; {
			token, err := in.Token()
			if errors.Is(err, io.EOF) {
				return strings.Join(names, "\n")
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if start, ok := token.(xml.StartElement); ok {
				names = append(names, start.Name.Local)
				for _, a := range start.Attr {
					names = append(names, "\t"+a.Name.Local)
				}
			}
		}
	}
	machine := func(text string) Machine {
		m := testMachine("Other Linux (64-bit)")
		fields := m.VM.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			// The id names a file and is checked to be a UUID before; the type of the guest chooses devices.
			if f := fields.Get(i); f.Kind() == protoreflect.StringKind && f.Name() != "id" && f.Name() != "os_type" {
				m.VM.ProtoReflect().Set(f, protoreflect.ValueOfString(text))
			}
		}
		for i := range m.Disks {
			m.Disks[i].Path = text
		}
		m.Disks[1].BackingPath, m.Disks[1].BackingFormat = text, text
		m.Nics[0] = Nic{MAC: text, Bridge: text, Tap: text, MTU: 1450, RateMbit: 200}
		return m
	}
	if diff := cmp.Diff(shape(machine("plain")), shape(machine(hostile))); diff != "" {
		t.Errorf("elements and attributes (-plain +hostile):\n%s", diff)
	}
	odd := machine("plain")
	odd.VM.OsType = hostile
	if diff := cmp.Diff(shape(machine("plain")), shape(odd)); diff != "" {
		t.Errorf("elements and attributes (-plain +hostile type of guest):\n%s", diff)
	}
}

// Whoever may reach the console needs the password in every description of the VM, also one that is made on another
// host; without a password nobody from elsewhere reaches it.
func TestCVE_2015_3252_PasswordInEveryDescription(t *testing.T) {
	for _, tt := range []struct{ password, wantPassword, wantAddress string }{
		{"secret", "secret", "10.0.0.1"},
		{"longer than eight", "longer t", "10.0.0.1"},
		{"", "", "127.0.0.1"},
	} {
		m := testMachine("Other Linux (64-bit)")
		m.VM.VncPassword = tt.password
		for epoch := range uint64(3) {
			m.VM.StartEpoch, m.VM.BootEpoch = epoch, 2*epoch
			d, err := Platform{VNCAddress: "10.0.0.1"}.describe(m)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(d.Devices.Graphics); n != 1 {
				t.Fatalf("password %q: %d consoles, want 1", tt.password, n)
			}
			vnc := d.Devices.Graphics[0].VNC
			if got := vnc.Listeners[0].Address.Address; vnc.Passwd != tt.wantPassword || got != tt.wantAddress || len(vnc.Listeners) != 1 {
				t.Errorf("password %q: console has %q at %s, want %q at %s only", tt.password, vnc.Passwd, got, tt.wantPassword, tt.wantAddress)
			}
		}
	}
}

// TestForeign: only a domain whose mark has its own id is ours.
func TestForeign(t *testing.T) {
	d, err := Platform{}.describe(testMachine(""))
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	id := "0f7a1f2e-0000-4000-8000-000000000001"
	for name, other := range map[string]string{
		"no metadata":            strings.Replace(text, "wisp:vm", "wisp:vn", 2),
		"another name space":     strings.Replace(text, markSpace, "https://example.org/", 1),
		"copy with another uuid": strings.Replace(text, "<uuid>"+id, "<uuid>0f7a1f2e-0000-4000-8000-000000000002", 1),
	} {
		got, err := readDomain(other)
		if err != nil {
			t.Fatal(err)
		}
		if got.ours || other == text {
			t.Errorf("%s: taken for ours", name)
		}
	}
}

// FuzzReadDomain reads any XML as a domain.
func FuzzReadDomain(f *testing.F) {
	d, err := Platform{}.describe(testMachine(""))
	if err != nil {
		f.Fatal(err)
	}
	text, err := d.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readDomain(text)
		if err == nil && got.ours && got.seen.ID == "" {
			t.Fatal("ours without an id")
		}
	})
}
