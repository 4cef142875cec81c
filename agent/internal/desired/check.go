package desired

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/wispcloud/wisp/proto/hostspec"
)

const (
	maxDiskBytes = 64 << 40
	maxMemoryMiB = 64 << 20
	maxVCPUs     = 1024
	maxPeers     = 16384
	maxNics      = 64
	// virtio-blk disks live on the single PCI bus of machine type pc, which has 32 slots.
	maxDisks = 24
)

var (
	uuidPattern     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	sha256Pattern   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	instancePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	// A kernel link name (dev_valid_name in net/core/dev.c), narrowed to what operators use.
	linkPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	nfsPattern  = regexp.MustCompile(`^[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*:/[A-Za-z0-9._/-]*$`)
)

// systemTrees hold what the host itself runs on; a pool there would put guests' files among them.
var systemTrees = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr",
	"/var/run", "/var/lock",
}

// printable keeps an id that names a problem in logs and reports short and free of control characters.
func printable(s string) string {
	const longest = 64
	clean := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(clean) > longest {
		clean = strings.ToValidUTF8(clean[:longest], "")
	}
	return clean
}

func checkUUID(id string) error {
	if !uuidPattern.MatchString(id) {
		return fmt.Errorf("id %q is no lower-case UUID", printable(id))
	}
	return nil
}

// CheckPoolPath says whether a directory may hold a pool: absolute, clean, outside the system's own trees, and free of
// characters that mean something to qemu's option syntax.
func CheckPoolPath(path string) error {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		return fmt.Errorf("path %q is not absolute and clean", printable(path))
	case len(path) > 1024:
		return errors.New("path is longer than 1024 bytes")
	}
	for _, r := range path {
		if !unicode.IsPrint(r) || strings.ContainsRune(",:\"'`$\\*?<>|&;", r) {
			return fmt.Errorf("path %q has a character that paths of pools may not have", printable(path))
		}
	}
	for _, tree := range systemTrees {
		if path == tree || strings.HasPrefix(path, tree+"/") {
			return fmt.Errorf("path %q lies in %s, which belongs to the system", printable(path), tree)
		}
	}
	return nil
}

func (s *State) checkPool(p *hostspec.StoragePool) error {
	if err := checkUUID(p.GetId()); err != nil {
		return err
	}
	if err := CheckPoolPath(p.GetPath()); err != nil {
		return err
	}
	switch p.GetType() {
	case hostspec.PoolType_POOL_TYPE_LOCAL, hostspec.PoolType_POOL_TYPE_SHARED_MOUNT:
	case hostspec.PoolType_POOL_TYPE_NFS:
		if !nfsPattern.MatchString(p.GetSource()) {
			return fmt.Errorf("source %q is not server:/export", printable(p.GetSource()))
		}
	default:
		return fmt.Errorf("pool type %d is not known to this agent", p.GetType())
	}
	for id, other := range s.Pools {
		if other.GetPath() == p.GetPath() {
			return fmt.Errorf("path %q belongs to pool %s", p.GetPath(), id)
		}
	}
	return nil
}

func (s *State) checkImage(i *hostspec.Image) error {
	if !sha256Pattern.MatchString(i.GetSha256()) {
		return fmt.Errorf("%q is no lower-case hex SHA-256", printable(i.GetSha256()))
	}
	if i.GetFormat() == FormatSystemVM {
		if i.GetSizeBytes() > maxSystemImageBytes {
			return fmt.Errorf("size is above %d bytes", uint64(maxSystemImageBytes))
		}
	} else if err := checkFormat(i.GetFormat()); err != nil {
		return err
	}
	if i.GetSizeBytes() > maxDiskBytes || i.GetVirtualSizeBytes() > maxDiskBytes {
		return fmt.Errorf("size is above %d bytes", uint64(maxDiskBytes))
	}
	return s.needPool(i.GetPoolId())
}

func checkFormat(format string) error {
	if format != "qcow2" && format != "raw" {
		return fmt.Errorf("format %q is not known to this agent", printable(format))
	}
	return nil
}

func (s *State) needPool(id string) error {
	if _, ok := s.Pools[id]; !ok {
		return fmt.Errorf("pool %q is not usable", printable(id))
	}
	return nil
}

func (s *State) checkVolume(v *hostspec.Volume) error {
	if err := checkUUID(v.GetId()); err != nil {
		return err
	}
	if err := s.needPool(v.GetPoolId()); err != nil {
		return err
	}
	if v.GetRemoved() {
		return nil
	}
	if v.GetSizeBytes() > maxDiskBytes {
		return fmt.Errorf("size is above %d bytes", uint64(maxDiskBytes))
	}
	if v.GetImageSha256() == "" {
		if v.GetSizeBytes() == 0 {
			return errors.New("a blank volume needs a size")
		}
		return nil
	}
	if !sha256Pattern.MatchString(v.GetImageSha256()) {
		return fmt.Errorf("image %q is no lower-case hex SHA-256", printable(v.GetImageSha256()))
	}
	if err := checkFormat(v.GetImageFormat()); err != nil {
		return err
	}
	image, ok := s.Images[v.GetImageSha256()]
	switch {
	case !ok:
		return fmt.Errorf("image %s is not usable", v.GetImageSha256())
	case image.GetFormat() != v.GetImageFormat():
		return fmt.Errorf("image %s is %s, not %s", image.GetSha256(), image.GetFormat(), v.GetImageFormat())
	case v.GetSizeBytes() != 0 && v.GetSizeBytes() < image.GetVirtualSizeBytes():
		return fmt.Errorf("volume of %d bytes is smaller than its image of %d", v.GetSizeBytes(), image.GetVirtualSizeBytes())
	}
	return nil
}

func (s *State) checkNetwork(n *hostspec.Network) error {
	if err := checkUUID(n.GetId()); err != nil {
		return err
	}
	if err := checkSegment(n); err != nil {
		return err
	}
	if d := n.GetDevice(); d != "" && !linkPattern.MatchString(d) {
		return fmt.Errorf("device %q is no link name", printable(d))
	}
	if mtu := n.GetMtu(); mtu != 0 && (mtu < 576 || mtu > 65535) {
		return fmt.Errorf("mtu %d is outside 576 to 65535", mtu)
	}
	if len(n.GetPeers()) > maxPeers {
		return fmt.Errorf("more than %d peers", maxPeers)
	}
	for _, peer := range n.GetPeers() {
		if a, err := netip.ParseAddr(peer); err != nil || a.Zone() != "" || !a.IsGlobalUnicast() {
			return fmt.Errorf("peer %q is no address of a host", printable(peer))
		}
	}
	if err := checkLegs(slices.Concat(n.GetLegs(), n.GetStandbyLegs())); err != nil {
		return err
	}
	if services := n.GetServices(); services != nil {
		if services.GetNetworkId() != n.GetId() {
			return fmt.Errorf("services name network %q", printable(services.GetNetworkId()))
		}
	} else if len(n.GetLegs())+len(n.GetStandbyLegs()) != 0 {
		return errors.New("legs without services to use them")
	}
	return nil
}

func checkSegment(n *hostspec.Network) error {
	segment := n.GetSegment()
	switch n.GetIsolation() {
	case hostspec.Isolation_ISOLATION_NONE:
		if segment != 0 {
			return fmt.Errorf("segment %d without isolation", segment)
		}
	case hostspec.Isolation_ISOLATION_VLAN:
		if segment < 1 || segment > 4094 {
			return fmt.Errorf("vlan %d is outside 1 to 4094", segment)
		}
	case hostspec.Isolation_ISOLATION_VXLAN:
		if segment < 1 || segment >= 1<<24 {
			return fmt.Errorf("vni %d is outside 1 to 16777215", segment)
		}
	default:
		return fmt.Errorf("isolation %d is not known to this agent", n.GetIsolation())
	}
	return nil
}

func checkLegs(legs []*hostspec.Leg) error {
	seen := map[string]bool{}
	for _, leg := range legs {
		switch {
		case !linkPattern.MatchString(leg.GetName()) || leg.GetName() == "lo":
			return fmt.Errorf("leg %q is no link name", printable(leg.GetName()))
		case seen[leg.GetName()]:
			return fmt.Errorf("leg %s is listed twice", leg.GetName())
		case leg.GetBridge() != "" && !linkPattern.MatchString(leg.GetBridge()):
			return fmt.Errorf("leg %s: bridge %q is no link name", leg.GetName(), printable(leg.GetBridge()))
		case leg.GetVlan() > 4094:
			return fmt.Errorf("leg %s: vlan %d is outside 0 to 4094", leg.GetName(), leg.GetVlan())
		case leg.GetVlan() != 0 && leg.GetBridge() == "":
			return fmt.Errorf("leg %s: vlan %d on the network's own bridge", leg.GetName(), leg.GetVlan())
		}
		if err := checkMAC(leg.GetMac()); err != nil {
			return fmt.Errorf("leg %s: %w", leg.GetName(), err)
		}
		seen[leg.GetName()] = true
	}
	return nil
}

func checkMAC(mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" || hw.String() != strings.ToLower(mac) {
		return fmt.Errorf("%q is no unicast MAC address", printable(mac))
	}
	return nil
}

func (s *State) checkVM(vm *hostspec.VirtualMachine) error {
	if err := checkUUID(vm.GetId()); err != nil {
		return err
	}
	switch {
	case !instancePattern.MatchString(vm.GetInstanceName()):
		return fmt.Errorf("instance name %q is no domain name", printable(vm.GetInstanceName()))
	case vm.GetPower() != hostspec.PowerState_POWER_STATE_RUNNING && vm.GetPower() != hostspec.PowerState_POWER_STATE_STOPPED:
		return fmt.Errorf("power state %d is not known to this agent", vm.GetPower())
	case vm.GetVcpus() < 1 || vm.GetVcpus() > maxVCPUs:
		return fmt.Errorf("%d vcpus are outside 1 to %d", vm.GetVcpus(), maxVCPUs)
	case vm.GetMemoryMib() < 1 || vm.GetMemoryMib() > maxMemoryMiB:
		return fmt.Errorf("%d MiB of memory are outside 1 to %d", vm.GetMemoryMib(), maxMemoryMiB)
	case vm.GetStopGraceSeconds() > 3600:
		return fmt.Errorf("stop grace of %d s is above an hour", vm.GetStopGraceSeconds())
	case len(vm.GetDisks()) > maxDisks:
		return fmt.Errorf("more than %d disks", maxDisks)
	case len(vm.GetNics()) > maxNics:
		return fmt.Errorf("more than %d nics", maxNics)
	}
	if err := checkPassword(vm.GetVncPassword()); err != nil {
		return err
	}
	if err := s.checkDisks(vm); err != nil {
		return err
	}
	return s.checkNics(vm)
}

func checkPassword(password string) error {
	for _, r := range password {
		if r < 0x21 || r > 0x7e {
			return errors.New("vnc password has a character outside printable ASCII")
		}
	}
	return nil
}

func (s *State) checkDisks(vm *hostspec.VirtualMachine) error {
	volumes, devices := map[string]bool{}, map[uint32]bool{}
	for _, d := range vm.GetDisks() {
		switch {
		case volumes[d.GetVolumeId()]:
			return fmt.Errorf("volume %s is attached twice", printable(d.GetVolumeId()))
		case devices[d.GetDeviceId()]:
			return fmt.Errorf("device %d is used twice", d.GetDeviceId())
		case d.GetDeviceId() >= 26:
			return fmt.Errorf("device %d is outside 0 to 25", d.GetDeviceId())
		case !s.Known(Key{Volume, d.GetVolumeId()}):
			return fmt.Errorf("volume %q is not in the spec", printable(d.GetVolumeId()))
		}
		volumes[d.GetVolumeId()], devices[d.GetDeviceId()] = true, true
	}
	return nil
}

func (s *State) checkNics(vm *hostspec.VirtualMachine) error {
	ids := map[string]bool{}
	for _, nic := range vm.GetNics() {
		if err := checkUUID(nic.GetId()); err != nil {
			return fmt.Errorf("nic: %w", err)
		}
		if err := checkMAC(nic.GetMac()); err != nil {
			return fmt.Errorf("nic %s: %w", nic.GetId(), err)
		}
		switch {
		case ids[nic.GetId()]:
			return fmt.Errorf("nic %s is listed twice", nic.GetId())
		case !s.Known(Key{Network, nic.GetNetworkId()}):
			return fmt.Errorf("nic %s: network %q is not in the spec", nic.GetId(), printable(nic.GetNetworkId()))
		case nic.GetRateMbit() > 1_000_000:
			return fmt.Errorf("nic %s: rate of %d Mbit/s is above a terabit", nic.GetId(), nic.GetRateMbit())
		}
		ids[nic.GetId()] = true
	}
	return nil
}
