package desired

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

var sum, systemSum = strings.Repeat("ab", 32), strings.Repeat("cd", 32)

// good is a spec with one of everything, nothing wrong with it.
func good() *hostspec.HostSpec {
	return &hostspec.HostSpec{
		HostId: id(1), Generation: 4,
		Pools: []*hostspec.StoragePool{{Id: id(10), Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: "/srv/wisp"}},
		Images: []*hostspec.Image{
			{Sha256: sum, Format: "qcow2", PoolId: id(10), SizeBytes: 100, VirtualSizeBytes: 1 << 20},
			{Sha256: systemSum, Format: "systemvm", PoolId: id(10), SizeBytes: 100},
		},
		Volumes: []*hostspec.Volume{{Id: id(20), PoolId: id(10), SizeBytes: 1 << 20, ImageSha256: sum, ImageFormat: "qcow2"}},
		Networks: []*hostspec.Network{{
			Id: id(30), Number: 1, Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: 5001, Peers: []string{"10.0.0.2"},
			Services: &netspec.NetSpec{NetworkId: id(30)},
			Legs:     []*hostspec.Leg{{Name: "gw0", Mac: "02:00:00:00:00:01"}, {Name: "pub0", Mac: "02:00:00:00:00:02", Bridge: "cloudbr1", Vlan: 7}},
		}},
		Vms: []*hostspec.VirtualMachine{{
			Id: id(40), InstanceName: "i-2-3-VM", Power: hostspec.PowerState_POWER_STATE_RUNNING, Vcpus: 1, MemoryMib: 64,
			Disks: []*hostspec.Disk{{VolumeId: id(20)}},
			Nics:  []*hostspec.Nic{{Id: id(50), NetworkId: id(30), Mac: "02:00:00:00:00:03"}},
		}},
		SystemVms: []*hostspec.SystemVM{{
			Id: id(60), InstanceName: "r-7-VM", Power: hostspec.PowerState_POWER_STATE_RUNNING, Vcpus: 1, MemoryMib: 128,
			ImageSha256: systemSum, PoolId: id(10), Services: &netspec.NetSpec{NetworkId: id(30)},
			Nics: []*hostspec.SystemNic{
				{Id: id(61), Traffic: "guest", Mac: "02:00:00:00:00:04", NetworkId: id(30)},
				{Id: id(62), Traffic: "public", Mac: "02:00:00:00:00:05", Bridge: "cloudbr1", Vlan: 7},
				{Id: id(63), Traffic: "control", Mac: "02:00:00:00:00:06"},
			},
		}},
	}
}

func problems(s *State) map[string]string {
	out := map[string]string{}
	for key, err := range s.Problems {
		out[key.String()] = err.Error()
	}
	return out
}

func TestGood(t *testing.T) {
	s := Read(good())
	if diff := cmp.Diff(map[string]string{}, problems(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(s.Pools) + len(s.Images) + len(s.Volumes) + len(s.Networks) + len(s.VMs) + len(s.SystemVMs); n != 7 {
		t.Errorf("%d objects are usable, want 7", n)
	}
}

// TestProblems changes one thing about the good spec and names all objects that suffer.
func TestProblems(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *hostspec.HostSpec)
		want   []string
	}{
		{"pool path up and away", func(s *hostspec.HostSpec) { s.Pools[0].Path = "/srv/../etc" }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"pool path relative", func(s *hostspec.HostSpec) { s.Pools[0].Path = "srv" }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"pool path is root", func(s *hostspec.HostSpec) { s.Pools[0].Path = "/" }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"pool in the system", func(s *hostspec.HostSpec) { s.Pools[0].Path = "/etc/libvirt" }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"pool path with an option", func(s *hostspec.HostSpec) { s.Pools[0].Path = "/srv/a,file=/etc/shadow" }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"pool path with a line end", func(s *hostspec.HostSpec) { s.Pools[0].Path = "/srv/a\nb" }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"pool type unknown", func(s *hostspec.HostSpec) { s.Pools[0].Type = 99 }, []string{"pool", "image", "image", "volume", "system vm"}},
		{"nfs source with options", func(s *hostspec.HostSpec) {
			s.Pools[0].Type, s.Pools[0].Source = hostspec.PoolType_POOL_TYPE_NFS, "-osuid,x:/y"
		}, []string{"pool", "image", "image", "volume", "system vm"}},
		{"image name up and away", func(s *hostspec.HostSpec) { s.Images[0].Sha256 = "../../etc/passwd" }, []string{"image", "volume"}},
		{"image name in capitals", func(s *hostspec.HostSpec) { s.Images[0].Sha256 = strings.ToUpper(sum) }, []string{"image", "volume"}},
		{"image format", func(s *hostspec.HostSpec) { s.Images[0].Format = "vmdk" }, []string{"image", "volume"}},
		{"volume id up and away", func(s *hostspec.HostSpec) { s.Volumes[0].Id = "../x" }, []string{"volume", "vm"}},
		{"volume format", func(s *hostspec.HostSpec) { s.Volumes[0].ImageFormat = "raw" }, []string{"volume"}},
		{"volume too small", func(s *hostspec.HostSpec) { s.Volumes[0].SizeBytes = 1 }, []string{"volume"}},
		{"volume blank without size", func(s *hostspec.HostSpec) { s.Volumes[0].SizeBytes, s.Volumes[0].ImageSha256 = 0, "" }, []string{"volume"}},
		{"volume twice", func(s *hostspec.HostSpec) { s.Volumes = append(s.Volumes, proto.CloneOf(s.Volumes[0])) }, []string{"volume"}},
		{"network id", func(s *hostspec.HostSpec) { s.Networks[0].Id = "x/../y" }, []string{"network", "vm", "system vm"}},
		{"vni too large", func(s *hostspec.HostSpec) { s.Networks[0].Segment = 1 << 24 }, []string{"network"}},
		{"vlan too large", func(s *hostspec.HostSpec) {
			s.Networks[0].Isolation, s.Networks[0].Segment = hostspec.Isolation_ISOLATION_VLAN, 4095
		}, []string{"network"}},
		{"peer is multicast", func(s *hostspec.HostSpec) { s.Networks[0].Peers = []string{"224.0.0.1"} }, []string{"network"}},
		{"peer is a name", func(s *hostspec.HostSpec) { s.Networks[0].Peers = []string{"evil.example"} }, []string{"network"}},
		{"device with a slash", func(s *hostspec.HostSpec) { s.Networks[0].Device = "../x" }, []string{"network"}},
		{"leg too long", func(s *hostspec.HostSpec) { s.Networks[0].Legs[0].Name = "abcdefghijklmnop" }, []string{"network"}},
		{"leg is loopback", func(s *hostspec.HostSpec) { s.Networks[0].Legs[0].Name = "lo" }, []string{"network"}},
		{"leg twice", func(s *hostspec.HostSpec) { s.Networks[0].Legs[1].Name = "gw0" }, []string{"network"}},
		{"leg multicast mac", func(s *hostspec.HostSpec) { s.Networks[0].Legs[0].Mac = "03:00:00:00:00:01" }, []string{"network"}},
		{"leg vlan on own bridge", func(s *hostspec.HostSpec) { s.Networks[0].Legs[0].Vlan = 5 }, []string{"network"}},
		{"services of another", func(s *hostspec.HostSpec) { s.Networks[0].Services.NetworkId = id(31) }, []string{"network"}},
		{"number twice", func(s *hostspec.HostSpec) {
			n := proto.CloneOf(s.Networks[0])
			n.Id, n.Services.NetworkId = id(31), id(31)
			s.Networks = append(s.Networks, n)
		}, []string{"network"}},
		{"instance name with markup", func(s *hostspec.HostSpec) { s.Vms[0].InstanceName = "a'/><x" }, []string{"vm"}},
		{"no power state", func(s *hostspec.HostSpec) { s.Vms[0].Power = 0 }, []string{"vm"}},
		{"no memory", func(s *hostspec.HostSpec) { s.Vms[0].MemoryMib = 0 }, []string{"vm"}},
		{"too many cpus", func(s *hostspec.HostSpec) { s.Vms[0].Vcpus = 1 << 30 }, []string{"vm"}},
		{"disk of nobody", func(s *hostspec.HostSpec) { s.Vms[0].Disks[0].VolumeId = "../../etc/shadow" }, []string{"vm"}},
		{"nic of nobody", func(s *hostspec.HostSpec) { s.Vms[0].Nics[0].NetworkId = id(99) }, []string{"vm"}},
		{"nic mac", func(s *hostspec.HostSpec) { s.Vms[0].Nics[0].Mac = "02:00:00:00:00" }, []string{"vm"}},
		{"password with a line end", func(s *hostspec.HostSpec) { s.Vms[0].VncPassword = "a\nb" }, []string{"vm"}},
		{"disk of two vms", func(s *hostspec.HostSpec) {
			other := proto.CloneOf(s.Vms[0])
			other.Id, other.InstanceName, other.Nics = id(41), "i-2-4-VM", nil
			s.Vms = append(s.Vms, other)
		}, []string{"vm"}},
		{"system vm without its image", func(s *hostspec.HostSpec) { s.Images = s.Images[:1] }, []string{"system vm"}},
		{"system vm of a disk image", func(s *hostspec.HostSpec) { s.SystemVms[0].ImageSha256 = sum }, []string{"system vm"}},
		{"system image too large", func(s *hostspec.HostSpec) { s.Images[1].SizeBytes = 3 << 30 }, []string{"image", "system vm"}},
		{"volume of a system image", func(s *hostspec.HostSpec) { s.Volumes[0].ImageSha256 = systemSum }, []string{"volume"}},
		{"system vm with a vm's name", func(s *hostspec.HostSpec) { s.SystemVms[0].InstanceName = "i-2-3-VM" }, []string{"system vm"}},
		{"system vm with a vm's id", func(s *hostspec.HostSpec) { s.SystemVms[0].Id = id(40) }, []string{"system vm"}},
		{"system vm with a vm's nic", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[0].Id = id(50) }, []string{"system vm"}},
		{"system vm name with markup", func(s *hostspec.HostSpec) { s.SystemVms[0].InstanceName = "a'/><x" }, []string{"system vm"}},
		{"traffic unknown", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[0].Traffic = "storage" }, []string{"system vm"}},
		{"guest traffic on a bridge", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[0].Bridge = "br0" }, []string{"system vm"}},
		{"guest traffic of nobody", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[0].NetworkId = id(99) }, []string{"system vm"}},
		{"public traffic nowhere", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[1].Bridge = "" }, []string{"system vm"}},
		{"control traffic on a vlan", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[2].Vlan = 3 }, []string{"system vm"}},
		{"a mac twice in a system vm", func(s *hostspec.HostSpec) { s.SystemVms[0].Nics[2].Mac = "02:00:00:00:00:04" }, []string{"system vm"}},
		{"vm name twice", func(s *hostspec.HostSpec) {
			other := proto.CloneOf(s.Vms[0])
			other.Id, other.Disks, other.Nics = id(41), nil, nil
			s.Vms = append(s.Vms, other)
		}, []string{"vm"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := good()
			tt.change(spec)
			s := Read(spec)
			var got []string
			for _, kind := range []Kind{Pool, Image, Volume, Network, VM, SystemVM} {
				for key := range s.Problems {
					if key.Kind == kind {
						got = append(got, kind.String())
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("kinds with problems (-want +got):\n%s\n%v", diff, problems(s))
			}
		})
	}
}

// Names of files are made of ids and checksums, and a mount has no words of its own: what is neither is refused.
func TestCVE_2026_25077_CVE_2026_47359_NamesOfFiles(t *testing.T) {
	fields := map[string]struct {
		set  func(s *hostspec.HostSpec, text string)
		kind Kind
	}{
		"image":    {func(s *hostspec.HostSpec, text string) { s.Images[0].Sha256, s.Volumes[0].ImageSha256 = text, text }, Image},
		"format":   {func(s *hostspec.HostSpec, text string) { s.Images[0].Format, s.Volumes[0].ImageFormat = text, text }, Image},
		"backing":  {func(s *hostspec.HostSpec, text string) { s.Volumes[0].ImageSha256 = text }, Volume},
		"volume":   {func(s *hostspec.HostSpec, text string) { s.Volumes[0].Id, s.Vms[0].Disks[0].VolumeId = text, text }, Volume},
		"vm":       {func(s *hostspec.HostSpec, text string) { s.Vms[0].Id = text }, VM},
		"instance": {func(s *hostspec.HostSpec, text string) { s.Vms[0].InstanceName = text }, VM},
		"pool":     {func(s *hostspec.HostSpec, text string) { s.Pools[0].Path = text }, Pool},
		"mount": {func(s *hostspec.HostSpec, text string) {
			s.Pools[0].Type, s.Pools[0].Source = hostspec.PoolType_POOL_TYPE_NFS, text
		}, Pool},
	}
	for name, field := range fields {
		for _, text := range []string{
			"../../etc/cron.d/x", "$(reboot)", "`reboot`", "a;reboot", "a b", "a\nb", "a\x00b", "-o", "--help", "x,exec=/bin/sh", "json:{}", sum + "/../x",
		} {
			spec := good()
			field.set(spec, text)
			s := Read(spec)
			var kinds []string
			for key := range s.Problems {
				kinds = append(kinds, key.Kind.String())
			}
			if !slices.Contains(kinds, field.kind.String()) {
				t.Errorf("%s %q: problems with %v, want one with %s", name, text, kinds, field.kind)
			}
		}
	}
}

// TestKnown: an object with a problem is spoken of, so it must not be taken for one that left.
func TestKnown(t *testing.T) {
	spec := good()
	spec.Vms[0].Vcpus = 0
	s := Read(spec)
	if !s.Known(Key{VM, id(40)}) || s.VMs[id(40)] != nil {
		t.Errorf("vm is known %t, usable %t; want true, false", s.Known(Key{VM, id(40)}), s.VMs[id(40)] != nil)
	}
}

// FuzzRead reads any bytes as a host spec. Whatever comes out must be safe to build paths, names and XML from.
func FuzzRead(f *testing.F) {
	seed, err := proto.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &hostspec.HostSpec{}
		if proto.Unmarshal(data, spec) != nil {
			return
		}
		s := Read(spec)
		for key, err := range s.Problems {
			if err == nil || len(key.ID) > 64 {
				t.Fatalf("problem %q: %v", key.ID, err)
			}
		}
		for id, p := range s.Pools {
			if strings.Contains(p.GetPath(), "..") || !strings.HasPrefix(p.GetPath(), "/") || strings.ContainsAny(p.GetPath(), ",\n") {
				t.Fatalf("pool path %q", p.GetPath())
			}
			checkID(t, id)
		}
		for sum, i := range s.Images {
			if len(sum) != 64 || strings.ContainsAny(sum+i.GetFormat(), "/.") || s.Pools[i.GetPoolId()] == nil {
				t.Fatalf("image %q", sum)
			}
		}
		for id, v := range s.Volumes {
			checkID(t, id)
			if s.Pools[v.GetPoolId()] == nil {
				t.Fatalf("volume %s is in pool %q", id, v.GetPoolId())
			}
		}
		numbers := map[uint32]bool{}
		for id, n := range s.Networks {
			checkID(t, id)
			if numbers[n.GetNumber()] {
				t.Fatalf("number %d twice", n.GetNumber())
			}
			numbers[n.GetNumber()] = true
			for _, leg := range n.GetLegs() {
				if len(leg.GetName()) > 15 || len(leg.GetBridge()) > 15 || strings.ContainsAny(leg.GetName()+leg.GetBridge(), "/ \n") {
					t.Fatalf("leg %q on %q", leg.GetName(), leg.GetBridge())
				}
			}
		}
		for id, v := range s.SystemVMs {
			checkID(t, id)
			if strings.ContainsAny(v.GetInstanceName(), "/<>&'\" \n") || s.Images[v.GetImageSha256()] == nil {
				t.Fatalf("system vm %q", v.GetInstanceName())
			}
		}
		for id, vm := range s.VMs {
			checkID(t, id)
			if strings.ContainsAny(vm.GetInstanceName(), "/<>&'\" \n") {
				t.Fatalf("instance name %q", vm.GetInstanceName())
			}
		}
	})
}

func checkID(t *testing.T, id string) {
	t.Helper()
	if len(id) != 36 || strings.ContainsAny(id, "/.\x00\n") {
		t.Fatalf("id %q", id)
	}
}
