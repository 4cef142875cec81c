package domain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

// ChannelName is the virtio-serial port over which an appliance is told what to do.
const ChannelName = "org.wispcloud.netspec.0"

// appliance turns the description of a machine into that of a system VM: booted without a boot loader from a read-only
// root, with a port to be fed over and without what only people use.
func (p Platform) appliance(d *libvirtxml.Domain, m Machine) {
	s := m.System
	d.Metadata.XML = mark{
		ID: m.VM.GetId(), StartEpoch: m.VM.GetStartEpoch(), BootEpoch: m.VM.GetBootEpoch(), Image: s.ImageVersion,
	}.element()
	d.OS.BootDevices = nil
	d.OS.Kernel, d.OS.Initrd, d.OS.Cmdline = s.Kernel, s.Initrd, s.Cmdline
	// A panic restarts the machine (panic=5) or is told by the pvpanic device. Either way the domain ends and is
	// started again by the agent, at a pace: a loop of panics inside QEMU would be seen by nobody.
	d.OnReboot, d.OnCrash = "destroy", "destroy"
	d.Devices.Panics = []libvirtxml.DomainPanic{{Model: "isa"}}
	d.Devices.Inputs = nil
	d.Devices.Channels = []libvirtxml.DomainChannel{{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: s.Channel}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: ChannelName}},
	}}
	d.Devices.Disks = []libvirtxml.DomainDisk{{
		Device:   "disk",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: s.Root}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		// One file under all machines of this image.
		Shareable:    &libvirtxml.DomainDiskShareable{},
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
	}}
}

// makeChannel makes the directory of the port's socket.
func makeChannel(s *System) error {
	if s == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Channel), 0o711); err != nil {
		return fmt.Errorf("make channel directory: %w", err)
	}
	return nil
}

// Link implements Hypervisor: libvirt tells QEMU, and the guest sees a cable go or come.
func (l *Libvirt) Link(ctx context.Context, id string, taps []string, carrier bool) error {
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	err := l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error {
		text, err := v.DomainGetXMLDesc(d, 0)
		if err != nil {
			return err
		}
		var live libvirtxml.Domain
		if err := live.Unmarshal(text); err != nil {
			return fmt.Errorf("read domain xml: %w", err)
		}
		if live.Devices == nil {
			return nil
		}
		for _, nic := range live.Devices.Interfaces {
			if nic.Target == nil || !slices.Contains(taps, nic.Target.Dev) {
				continue
			}
			state := "down"
			if carrier {
				state = "up"
			}
			nic.Link = &libvirtxml.DomainInterfaceLink{State: state}
			change, err := nic.Marshal()
			if err != nil {
				return fmt.Errorf("write interface xml: %w", err)
			}
			if err := v.DomainUpdateDeviceFlags(d, change, libvirt.DomainDeviceModifyLive); err != nil {
				return fmt.Errorf("nic %s: %w", nic.Target.Dev, err)
			}
		}
		return nil
	})
	// What is known of this run was read before.
	l.mu.Lock()
	delete(l.live, id)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("switch carrier of system vm %s: %w", id, err)
	}
	return nil
}
