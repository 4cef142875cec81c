package domain

import (
	"encoding/xml"
	"errors"
	"fmt"
	"sort"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// markSpace is the XML name space of the element that makes a domain ours. Domains without it are never touched.
const markSpace = "https://wispcloud.github.io/xmlns/domain/1"

// mark is that element. The epochs travel with the running domain, so that an agent that finds it knows what it was
// started for without any file of its own.
type mark struct {
	XMLName    xml.Name `xml:"vm"`
	ID         string   `xml:"id,attr"`
	StartEpoch uint64   `xml:"start_epoch,attr"`
	BootEpoch  uint64   `xml:"boot_epoch,attr"`
	// Image is the version of the image an appliance was booted from; a VM has none.
	Image string `xml:"image,attr"`
}

func (m mark) element() string {
	image := ""
	if m.Image != "" {
		var escaped strings.Builder
		// A strings.Builder takes everything.
		_ = xml.EscapeText(&escaped, []byte(m.Image))
		image = fmt.Sprintf(` image="%s"`, escaped.String())
	}
	return fmt.Sprintf(`<wisp:vm xmlns:wisp="%s" id="%s" start_epoch="%d" boot_epoch="%d"%s/>`,
		markSpace, m.ID, m.StartEpoch, m.BootEpoch, image)
}

// readMark finds the element in a domain's metadata; ok is false for a foreign domain.
func readMark(metadata string) (m mark, ok bool) {
	var list struct {
		Marks []mark `xml:"https://wispcloud.github.io/xmlns/domain/1 vm"`
	}
	if err := xml.Unmarshal([]byte("<metadata>"+metadata+"</metadata>"), &list); err != nil || len(list.Marks) != 1 {
		return mark{}, false
	}
	return list.Marks[0], true
}

// Platform is what a host's hypervisor can do for its domains.
type Platform struct {
	// KVM runs guests; else they are emulated.
	KVM bool
	// Address the VNC servers listen on.
	VNCAddress string
	// Directory for the logs of serial consoles.
	ConsoleDir string
	// cgroups: 0 none for CPU, 1 or 2 the hierarchy's version.
	CPUGroups int
	// MHz of one host CPU, for hard caps.
	MHz uint32
}

// vncPasswordBytes is what RFC 6143 (7.2.2) uses of a password; qemu refuses longer ones.
const vncPasswordBytes = 8

// tcgCacheMiB bounds the translation cache of an emulated guest, which otherwise grows to a fixed share of 1 GiB.
const tcgCacheMiB = 32

// describe renders a machine as a libvirt domain.
func (p Platform) describe(m Machine) (*libvirtxml.Domain, error) {
	vm := m.VM
	if m.System == nil && (len(m.Disks) != len(vm.GetDisks()) || len(m.Nics) != len(vm.GetNics())) {
		return nil, errors.New("describe machine: disks or nics are not resolved")
	}
	d := &libvirtxml.Domain{
		Type: "qemu",
		Name: vm.GetInstanceName(),
		UUID: vm.GetId(),
		Metadata: &libvirtxml.DomainMetadata{
			XML: mark{ID: vm.GetId(), StartEpoch: vm.GetStartEpoch(), BootEpoch: vm.GetBootEpoch()}.element(),
		},
		Memory: &libvirtxml.DomainMemory{Value: uint(vm.GetMemoryMib()), Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Placement: "static", Value: uint(vm.GetVcpus())},
		OS: &libvirtxml.DomainOS{
			Type:        &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"},
			BootDevices: []libvirtxml.DomainBootDevice{{Dev: "hd"}},
		},
		Features: &libvirtxml.DomainFeatureList{
			ACPI: &libvirtxml.DomainFeature{},
			APIC: &libvirtxml.DomainFeatureAPIC{},
		},
		Clock:      &libvirtxml.DomainClock{Offset: clockOffset(vm.GetOsType())},
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "destroy",
		CPUTune:    p.cpuTune(m),
	}
	if p.KVM {
		d.Type = "kvm"
		d.CPU = &libvirtxml.DomainCPU{Mode: "host-model"}
	} else {
		// Software that is told of fast "rep movsb" copies and clears memory with it, which emulation does byte by byte:
		// without it a router's boot takes a seventh less.
		d.CPU = &libvirtxml.DomainCPU{Mode: "maximum", Features: []libvirtxml.DomainCPUFeature{{Policy: "disable", Name: "erms"}}}
		d.Features.TCG = &libvirtxml.DomainFeatureTCG{
			TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: tcgCacheMiB},
		}
	}
	d.Devices = p.devices(m)
	if m.System != nil {
		p.appliance(d, m)
	}
	return d, nil
}

// cpuTune gives a VM its share of the host's CPUs. cgroup v1 shares count from 2 to 262144, v2 weights from 1 to
// 10000, so a tenth of the offering's MHz fits both.
func (p Platform) cpuTune(m Machine) *libvirtxml.DomainCPUTune {
	mhz := m.VM.GetCpuMhz()
	if p.CPUGroups == 0 || mhz == 0 {
		return nil
	}
	shares := min(max(uint64(m.VM.GetVcpus())*uint64(mhz)/10, 2), 10000)
	tune := &libvirtxml.DomainCPUTune{Shares: &libvirtxml.DomainCPUTuneShares{Value: uint(shares)}}
	if m.VM.GetCpuCap() && p.MHz > 0 && mhz < p.MHz {
		const period = 100_000
		tune.Period = &libvirtxml.DomainCPUTunePeriod{Value: period}
		tune.Quota = &libvirtxml.DomainCPUTuneQuota{Value: max(int64(period)*int64(mhz)/int64(p.MHz), 1000)}
	}
	return tune
}

func windows(osType string) bool { return strings.Contains(strings.ToLower(osType), "windows") }

// Windows keeps the hardware clock in local time.
func clockOffset(osType string) string {
	if windows(osType) {
		return "localtime"
	}
	return "utc"
}

// busses picks devices that the guest has drivers for: a Windows that is not marked PV has none for virtio.
func busses(osType string) (disk, prefix, nic string) {
	if windows(osType) && !strings.Contains(osType, "PV") {
		return "ide", "hd", "e1000"
	}
	return "virtio", "vd", "virtio"
}

func (p Platform) devices(m Machine) *libvirtxml.DomainDeviceList {
	osType := m.VM.GetOsType()
	diskBus, prefix, nicModel := busses(osType)
	none := "none"
	list := &libvirtxml.DomainDeviceList{
		// An idle USB controller costs an emulated guest a timer 1,000 times a second.
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: none}},
		Serials:     []libvirtxml.DomainSerial{p.serial(m)},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
			Target: &libvirtxml.DomainChannelTarget{
				VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"},
			},
		}},
		Inputs:   []libvirtxml.DomainInput{{Type: "tablet", Bus: "virtio"}},
		Graphics: []libvirtxml.DomainGraphic{p.vnc(m)},
		Videos:   []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}},
		RNGs: []libvirtxml.DomainRNG{{
			Model: "virtio",
			Backend: &libvirtxml.DomainRNGBackend{
				Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"},
			},
		}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "virtio", Stats: &libvirtxml.DomainMemBalloonStats{Period: 30}},
	}
	if windows(osType) {
		list.Controllers = nil
		list.Inputs = []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}}
	}
	disks := append([]Disk(nil), m.Disks...)
	sort.SliceStable(disks, func(i, j int) bool { return disks[i].DeviceID < disks[j].DeviceID })
	for _, d := range disks {
		list.Disks = append(list.Disks, describeDisk(d, diskBus, prefix))
	}
	for _, n := range m.Nics {
		list.Interfaces = append(list.Interfaces, describeNic(n, nicModel))
	}
	return list
}

func (p Platform) serial(m Machine) libvirtxml.DomainSerial {
	port := uint(0)
	s := libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Target: &libvirtxml.DomainSerialTarget{Port: &port},
	}
	if p.ConsoleDir != "" {
		s.Log = &libvirtxml.DomainChardevLog{File: p.consoleLog(m.VM.GetId()), Append: "on"}
	}
	return s
}

func (p Platform) consoleLog(id string) string { return p.ConsoleDir + "/" + id + ".log" }

func (p Platform) vnc(m Machine) libvirtxml.DomainGraphic {
	password, address := m.VM.GetVncPassword(), p.VNCAddress
	if password == "" {
		// Open to whoever reaches it, so nobody from elsewhere may.
		address = "127.0.0.1"
	}
	return libvirtxml.DomainGraphic{VNC: &libvirtxml.DomainGraphicVNC{
		Port: -1, AutoPort: "yes", Keymap: m.VM.GetKeymap(), Passwd: password[:min(len(password), vncPasswordBytes)],
		Listeners: []libvirtxml.DomainGraphicListener{
			{Address: &libvirtxml.DomainGraphicListenerAddress{Address: address}},
		},
	}}
}

// describeDisk names the whole backing chain, so that nothing a guest writes into its disk is ever taken for a format
// or for the name of another file (CVE-2024-45219 and kin).
func describeDisk(d Disk, bus, prefix string) libvirtxml.DomainDisk {
	out := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: prefix + string(rune('a'+d.DeviceID)), Bus: bus},
		// virtio-blk serial numbers end at 20 bytes.
		Serial:       strings.ReplaceAll(d.VolumeID, "-", "")[:20],
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
	}
	if d.Direct {
		out.Driver.Cache, out.Driver.IO = "none", "native"
	}
	if d.Spec.GetCache() != "" {
		out.Driver.Cache, out.Driver.IO = d.Spec.GetCache(), ""
	}
	out.IOTune = ioTune(d.Spec)
	if d.BackingPath != "" {
		out.BackingStore = &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: d.BackingFormat},
			Source:       &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.BackingPath}},
			BackingStore: &libvirtxml.DomainDiskBackingStore{},
		}
	}
	return out
}

// ioTune bounds what the guest does to a disk; nil is no bound.
func ioTune(d *hostspec.Disk) *libvirtxml.DomainDiskIOTune {
	t := libvirtxml.DomainDiskIOTune{
		ReadBytesSec: d.GetReadBytes(), WriteBytesSec: d.GetWriteBytes(), ReadIopsSec: d.GetReadIops(), WriteIopsSec: d.GetWriteIops(),
		ReadBytesSecMax: d.GetReadBytesMax(), WriteBytesSecMax: d.GetWriteBytesMax(),
		ReadIopsSecMax: d.GetReadIopsMax(), WriteIopsSecMax: d.GetWriteIopsMax(),
		ReadBytesSecMaxLength: d.GetReadBytesMaxSeconds(), WriteBytesSecMaxLength: d.GetWriteBytesMaxSeconds(),
		ReadIopsSecMaxLength: d.GetReadIopsMaxSeconds(), WriteIopsSecMaxLength: d.GetWriteIopsMaxSeconds(),
	}
	if t == (libvirtxml.DomainDiskIOTune{}) {
		return nil
	}
	return &t
}

func describeNic(n Nic, model string) libvirtxml.DomainInterface {
	out := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: strings.ToLower(n.MAC)},
		Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Bridge}},
		Target: &libvirtxml.DomainInterfaceTarget{Dev: n.Tap},
		Model:  &libvirtxml.DomainInterfaceModel{Type: model},
	}
	if n.Unlinked {
		out.Link = &libvirtxml.DomainInterfaceLink{State: "down"}
	}
	if n.MTU != 0 {
		out.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
	}
	if n.RateMbit != 0 {
		// libvirt counts in KiB/s.
		average := int(uint64(n.RateMbit) * 1_000_000 / 8 / 1024)
		out.Bandwidth = &libvirtxml.DomainInterfaceBandwidth{
			Inbound:  &libvirtxml.DomainInterfaceBandwidthParams{Average: &average},
			Outbound: &libvirtxml.DomainInterfaceBandwidthParams{Average: &average},
		}
	}
	return out
}
