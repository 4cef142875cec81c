package fabric

import (
	"log/slog"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// feature is something networks need of the kernel, and the trial that shows whether it is there.
type feature struct {
	name string
	try  func(h *netlink.Handle) error
}

// ProbeFeatures tries kernel features out in a namespace of its own, which ends with the trial: nothing on the host
// changes, though the kernel may load modules.
func ProbeFeatures(log *slog.Logger) (present, missing []string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: thread and namespace end with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			log.Error("cannot try kernel features", "error", err)
			return
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			log.Error("cannot try kernel features", "error", err)
			return
		}
		defer h.Close()
		for _, f := range features {
			if err := f.try(h); err != nil {
				missing = append(missing, f.name)
				log.Debug("kernel feature is missing", "feature", f.name, "error", err)
				continue
			}
			present = append(present, f.name)
		}
	}()
	<-done
	return present, missing
}

var features = []feature{
	{"bridge", func(h *netlink.Handle) error { return h.LinkAdd(&netlink.Bridge{LinkAttrs: named("br0")}) }},
	{"veth", func(h *netlink.Handle) error { return h.LinkAdd(&netlink.Veth{LinkAttrs: named("va"), PeerName: "vb"}) }},
	{"bridge-isolated", tryIsolated},
	{"bridge-locked", tryLocked},
	{"bridge-vlan-filtering", tryVlanFiltering},
	{"vxlan", func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Vxlan{LinkAttrs: named("vx"), VxlanId: 1, Port: 4789, Learning: true})
	}},
	{"vlan", func(h *netlink.Handle) error {
		parent, err := h.LinkByName("va")
		if err != nil {
			return err
		}
		attrs := named("vl")
		attrs.ParentIndex = parent.Attrs().Index
		return h.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 100})
	}},
	{"tun", func(*netlink.Handle) error { _, err := os.Stat("/dev/net/tun"); return err }},
	{"iptables", command("iptables", "-w", "-t", "filter", "-S")},
	{"iptables-nat", command("iptables", "-w", "-t", "nat", "-S")},
	{"conntrack", command("iptables", "-w", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")},
	{"ip6tables", command("ip6tables", "-w", "-t", "filter", "-S")},
	{"ipset", command("ipset", "create", "probe", "hash:net")},
	{"tc-htb", command("tc", "qdisc", "add", "dev", "va", "root", "handle", "1:", "htb")},
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func tryIsolated(h *netlink.Handle) error {
	bridge, err := h.LinkByName("br0")
	if err != nil {
		return err
	}
	port, err := h.LinkByName("va")
	if err != nil {
		return err
	}
	if err := h.LinkSetMasterByIndex(port, bridge.Attrs().Index); err != nil {
		return err
	}
	return h.LinkSetIsolated(port, true)
}

// tryLocked relies on tryIsolated having made va a port.
func tryLocked(h *netlink.Handle) error {
	port, err := h.LinkByName("va")
	if err != nil {
		return err
	}
	return lockPort(port.Attrs().Index)
}

func tryVlanFiltering(h *netlink.Handle) error {
	on := true
	return h.LinkAdd(&netlink.Bridge{LinkAttrs: named("brv"), VlanFiltering: &on})
}

// command tries a program in the namespace: a child inherits that of the locked thread.
func command(name string, args ...string) func(*netlink.Handle) error {
	return func(*netlink.Handle) error {
		cmd := exec.Command(name, args...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		return cmd.Run()
	}
}
