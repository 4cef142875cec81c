package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// controlLink is a system VM's leg on its host's control bridge.
const controlLink = "ctl0"

// stopGrace is how long a system VM is given to power itself off, in seconds: wisp-init has nothing to save.
const stopGrace = 20

// RenderSystem writes the system VMs of a host, and the images they boot, into s. Like Render it is pure, and leaves
// NetSpec.generation to whoever sends the host spec.
func (a *Area) RenderSystem(r store.Reader, host *cloud.Host, s *hostspec.HostSpec) error {
	for rt := range tables.Routers.By(r, "host", store.K(host.ID)) { // in the order of ids
		if rt.Placement != cloud.InVM {
			continue
		}
		n, ok := tables.Networks.Get(r, rt.NetworkID)
		if !ok || !carried(n) || n.Segment == 0 {
			continue
		}
		v := &rendering{r: r, open: a.Seal, log: a.Log, host: host.ID, n: n}
		v.load()
		m, err := v.systemVM(rt)
		if err != nil {
			return err
		}
		s.SystemVms = append(s.SystemVms, m)
		addImage(r, s, rt)
	}
	return nil
}

func addImage(r store.Reader, s *hostspec.HostSpec, rt *cloud.Router) {
	for _, i := range s.Images {
		if i.GetSha256() == rt.SHA256 && i.GetPoolId() == rt.PoolID.String() {
			return
		}
	}
	i := &hostspec.Image{Sha256: rt.SHA256, Format: "systemvm", PoolId: rt.PoolID.String()}
	if t, ok := tables.Templates.Get(r, rt.TemplateID); ok {
		i.SizeBytes, i.VirtualSizeBytes = t.FileBytes, t.SizeBytes
	}
	s.Images = append(s.Images, i)
}

// systemVM renders a router that is a system VM.
func (v *rendering) systemVM(rt *cloud.Router) (*hostspec.SystemVM, error) {
	vnc, err := v.open.Open(rt.VNCPassword)
	if err != nil {
		return nil, fmt.Errorf("open console password of router %s: %w", rt.ID, err)
	}
	m := &hostspec.SystemVM{
		Id: rt.ID.String(), InstanceName: rt.Name, Power: hostspec.PowerState_POWER_STATE_RUNNING, BootEpoch: rt.BootEpoch,
		StartEpoch: rt.StartEpoch, Vcpus: rt.CPUs, CpuMhz: rt.CPUMHz, MemoryMib: rt.MemoryMiB, ImageSha256: rt.SHA256,
		PoolId: rt.PoolID.String(), Standby: unplugged(rt), VncPassword: vnc, StopGraceSeconds: stopGrace,
	}
	if rt.State == cloud.VMStopping || rt.Evicting {
		m.Power = hostspec.PowerState_POWER_STATE_STOPPED
	}
	if rt.ForcedStop || rt.Evicting {
		m.StopGraceSeconds = 0
	}
	if o, ok := RouterOffering(v.r, rt); ok {
		m.CpuCap = o.LimitCPU
	}
	m.Nics = append(m.Nics, &hostspec.SystemNic{
		Id: RouterNIC(rt, Guest).String(), Traffic: "guest", Mac: alloc.FormatMAC(v.n.GatewayMAC), NetworkId: v.n.ID.String(),
	})
	if len(v.public) > 0 {
		m.Nics = append(m.Nics, &hostspec.SystemNic{
			Id: RouterNIC(rt, Public).String(), Traffic: "public", Mac: alloc.FormatMAC(rt.PublicMAC),
			Bridge: publicBridge(v.r, v.public[0].ip.PhysicalNetworkID), Vlan: TagOf(v.public[0].of.VLAN),
		})
	}
	m.Nics = append(m.Nics, &hostspec.SystemNic{
		Id: RouterNIC(rt, Control).String(), Traffic: "control", Mac: alloc.FormatMAC(rt.ControlMAC),
	})
	m.Services = v.systemServices(rt)
	return m, nil
}

// Control is the traffic type of the leg between a system VM and its host.
const Control = "Control"

// RouterNIC identifies a leg of a router by its traffic type.
func RouterNIC(rt *cloud.Router, traffic string) cloud.ID {
	return cloud.NameID("router_nic", rt.ID.String()+"/"+strings.ToLower(traffic))
}

// systemServices is what the wisp-netsvc of a system VM does: what that of a router's namespace does, less what every
// host with guests does by itself.
func (v *rendering) systemServices(rt *cloud.Router) *netspec.NetSpec {
	n := v.n
	router := *v
	router.router, router.isRouter = rt, true
	s := &netspec.NetSpec{
		NetworkId: n.ID.String(), Epoch: n.Epoch, Restarts: n.Restarts,
		Firewall: &netspec.Firewall{GuestLink: guestLink, GuestCidr: n.CIDR.String()},
	}
	router.route(s)
	s.Links = append(s.Links, &netspec.Link{
		Name: controlLink, Mac: alloc.FormatMAC(rt.ControlMAC), StrictArp: true,
		Addresses: []string{netip.PrefixFrom(rt.ControlIP, controlNet.Bits()).String()},
	})
	router.serve(s, []string{guestLink}, []netip.Addr{n.Gateway, metadataAddress})
	return s
}
