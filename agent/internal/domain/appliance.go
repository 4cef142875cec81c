package domain

import (
	"context"
	"encoding/json"
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

// Reopen has the host's end of a running appliance's port made anew, for when its socket is not there any more. Whoever is
// connected to it loses the connection; the guest's end stays.
func (l *Libvirt) Reopen(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	err := l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error {
		live, err := liveXML(v, d)
		if err != nil {
			return err
		}
		device, path, err := portOf(live)
		if err != nil {
			return err
		}
		if err := makeChannel(&System{Channel: path}); err != nil {
			return err
		}
		// QEMU binds the new socket before it removes the old one by its path: the way back to a path is by another one.
		for _, at := range []string{path + ".new", path} {
			command, err := changeSocket(device, at)
			if err != nil {
				return err
			}
			answer, err := v.QEMUDomainMonitorCommand(d, command, 0)
			if err != nil {
				return err
			}
			if err := monitorError(answer); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reopen channel of system vm %s: %w", id, err)
	}
	return nil
}

// liveXML is a running domain as libvirt has it now.
func liveXML(v *libvirt.Libvirt, d libvirt.Domain) (*libvirtxml.Domain, error) {
	text, err := v.DomainGetXMLDesc(d, 0)
	if err != nil {
		return nil, err
	}
	var live libvirtxml.Domain
	if err := live.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("read domain xml: %w", err)
	}
	return &live, nil
}

// portOf finds QEMU's name of the device behind an appliance's port, and the socket.
func portOf(live *libvirtxml.Domain) (device, path string, err error) {
	if live.Devices != nil {
		for _, c := range live.Devices.Channels {
			if c.Target == nil || c.Target.VirtIO == nil || c.Target.VirtIO.Name != ChannelName {
				continue
			}
			if c.Alias == nil || c.Source == nil || c.Source.UNIX == nil {
				break
			}
			return "char" + c.Alias.Name, c.Source.UNIX.Path, nil
		}
	}
	return "", "", fmt.Errorf("the domain has no port %s on a unix socket", ChannelName)
}

// changeSocket is QEMU's command chardev-change (QMP) for a socket that listens at a path.
func changeSocket(device, path string) (string, error) {
	type m = map[string]any
	b, err := json.Marshal(m{"execute": "chardev-change", "arguments": m{"id": device, "backend": m{"type": "socket", "data": m{
		"addr": m{"type": "unix", "data": m{"path": path}}, "server": true, "wait": false,
	}}}})
	return string(b), err
}

// monitorError is what QEMU refuses a command with.
func monitorError(answer string) error {
	var a struct {
		Error *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		return fmt.Errorf("read qemu's answer: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("qemu: %s", a.Error.Desc)
	}
	return nil
}

// Link implements Hypervisor: libvirt tells QEMU, and the guest sees a cable go or come.
func (l *Libvirt) Link(ctx context.Context, id string, taps []string, carrier bool) error {
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	err := l.with(ctx, l.work, id, func(v *libvirt.Libvirt, d libvirt.Domain) error {
		live, err := liveXML(v, d)
		if err != nil {
			return err
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
