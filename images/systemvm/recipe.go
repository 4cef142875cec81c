package systemvm

import (
	"context"
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/images/internal/deb"
	"github.com/wispcloud/wisp/images/internal/fat"
	"github.com/wispcloud/wisp/images/internal/gobuild"
	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/kmod"
	"github.com/wispcloud/wisp/images/internal/qcow2"
	"github.com/wispcloud/wisp/images/internal/squashfs"
	"github.com/wispcloud/wisp/images/internal/tree"
)

//go:embed files
var files embed.FS

// recipeVersion changes when a change of this package's code, rather than of an
// embedded file, changes the image.
const recipeVersion = 3

// MemoryMiB is what a machine of this image needs.
const MemoryMiB = 128

// MaxSize is what the bundle must stay below, in bytes.
const MaxSize = 60_000_000

// KernelCmdline is what the kernel is told however it is booted. After a panic
// the machine restarts. Routes of PCI interrupts are not asked of ACPI, whose
// table QEMU has the kernel compute anew for every device: virtio devices
// signal by messages, which need no route.
const KernelCmdline = "console=ttyS0 quiet panic=5 acpi=noirq"

// Cmdline is the kernel's command line for the set, whose root is the first
// disk.
const Cmdline = KernelCmdline + " wisp.root=/dev/vda"

// imageTime is the time stamp of all files. Any fixed moment does, after 1980
// because FAT knows nothing before.
var imageTime = time.Unix(1700000000, 0).UTC()

// kernelMeta is the package that depends on Debian's current cloud kernel.
const kernelMeta = "linux-image-cloud-amd64"

// packages are the sources of the files besides the kernel. After the first
// line they are libraries that those link with.
var packages = []string{
	"iptables", "ipset", "conntrack", "haproxy", "busybox-static",
	"strongswan-charon", "strongswan-libcharon", "strongswan-swanctl", "libstrongswan", "libstrongswan-standard-plugins",
	"libc6", "libcap2", "libcrypt1", "libgcrypt20", "libgmp10", "libgpg-error0", "libip4tc2", "libip6tc2", "libipset13", "liblua5.3-0",
	"liblz4-1", "liblzma5", "libmnl0", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11", "libopentracing-c-wrapper0",
	"libopentracing1", "libpcre2-8-0", "libssl3", "libstdc++6", "libgcc-s1", "libsystemd0", "libxtables12", "libzstd1",
}

// hostPackages are the build machine's packages whose versions may change the
// image's bytes without any input changing.
var hostPackages = []string{"dosfstools", "mtools", "qemu-utils", "squashfs-tools", "syslinux", "syslinux-common", "zlib1g"}

// Paths of our own programs in the root.
const (
	initPath   = "usr/sbin/wisp-init"
	netsvcPath = "usr/sbin/wisp-netsvc"
)

// programs are all others that somebody runs.
var programs = []string{
	"usr/sbin/xtables-nft-multi", "usr/sbin/ipset", "usr/sbin/conntrack", "usr/sbin/haproxy",
	"usr/lib/ipsec/charon", "usr/sbin/swanctl", "usr/bin/busybox",
}

// plugins are the shared objects that programs open by name.
var plugins = []string{
	"usr/lib/x86_64-linux-gnu/xtables/libxt_*.so", "usr/lib/x86_64-linux-gnu/xtables/libipt_*.so",
	"usr/lib/x86_64-linux-gnu/xtables/libip6t_*.so", "usr/lib/ipsec/plugins/*.so",
}

// noPlugins are of no use here: one runs shell scripts, the other asks an ssh
// agent for keys.
var noPlugins = []string{"updown", "agent"}

// links are the names of programs. Of Debian's two iptables only the one on
// nftables is in: mixing both in one kernel is a known source of rules nobody
// sees.
var links = map[string]string{
	"usr/sbin/modprobe": "wisp-init",
	"usr/sbin/iptables": "xtables-nft-multi", "usr/sbin/iptables-save": "xtables-nft-multi", "usr/sbin/iptables-restore": "xtables-nft-multi",
	"usr/sbin/ip6tables": "xtables-nft-multi", "usr/sbin/ip6tables-save": "xtables-nft-multi", "usr/sbin/ip6tables-restore": "xtables-nft-multi",
	"var/run": "/run", "etc/mtab": "/proc/self/mounts",
}

// bootModules get the root mounted. The network card and the channel to the
// host come along: drivers that are loaded at once find their devices while the
// root is verified.
var bootModules = []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "squashfs", "overlay"}

// rootModules are all others, by what they are for. They are loaded when
// somebody asks for them.
var rootModules = slices.Concat(
	// Devices of a virtual machine; pvpanic tells the host of a panic, evdev and button of the power button.
	[]string{"virtio_balloon", "virtio_rng", "button", "evdev", "pvpanic_mmio", "pvpanic_pci"},
	// Links.
	[]string{"8021q", "dummy", "ifb", "macvlan", "veth", "vrf", "vxlan"},
	// Firewall and address translation. The matches for ICMP are in ip_tables and ip6_tables.
	[]string{
		"ip_tables", "ip6_tables",
		"nf_tables", "nft_*", "nfnetlink", "nfnetlink_log", "nf_log_syslog", "nf_conntrack", "nf_conntrack_netlink", "nf_nat",
		"nf_conntrack_ftp", "nf_nat_ftp", "nf_conntrack_tftp", "nf_nat_tftp", "nf_conntrack_sip", "nf_nat_sip",
		"nf_conntrack_pptp", "nf_nat_pptp", "xt_*", "ipt_REJECT", "ipt_ECN", "ipt_ah", "ip6t_*", "ip_set", "ip_set_*",
	},
	// Bandwidth.
	[]string{
		"sch_htb", "sch_ingress", "sch_sfq", "sch_tbf", "sch_prio", "cls_basic", "cls_flower", "cls_fw", "cls_matchall", "cls_u32",
		"act_connmark", "act_gact", "act_mirred", "act_police", "act_skbedit",
	},
	// IPsec, with every cipher a peer may ask for, and tunnels.
	[]string{
		"ah4", "ah6", "esp4", "esp6", "ipcomp", "ipcomp6", "xfrm_user", "xfrm_interface", "xfrm4_tunnel", "xfrm6_tunnel", "ip_vti", "ip_gre",
		"aesni_intel", "authenc", "authencesn", "ccm", "chacha20poly1305", "chacha_x86_64", "cmac", "ctr", "cts", "des_generic",
		"des3_ede_x86_64", "drbg", "echainiv", "ecb", "gcm", "ghash_clmulni_intel", "ghash_generic", "jitterentropy_rng",
		"poly1305_x86_64", "rmd160", "seqiv", "sha1_ssse3", "sha256_ssse3", "sha512_generic", "sha512_ssse3", "xcbc", "camellia_generic",
	},
	[]string{"wireguard"},
)

// Tools lists every program of the build machine that a build runs.
func Tools() []hosttool.Tool {
	return slices.Concat(deb.Tools, squashfs.Tools, fat.Tools, qcow2.Tools, gobuild.Tools)
}

// HostPackages are the Debian packages a build needs on its machine, sorted. Go
// is left out: it need not come from Debian.
func HostPackages() []string {
	names := slices.Clone(hostPackages)
	for _, t := range Tools() {
		if t.Name != "go" {
			names = append(names, t.Package)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readPackages unpacks what the image may need.
func readPackages(ctx context.Context, in inputs) (*tree.Tree, error) {
	pool := tree.New()
	if err := pool.AddMergedLinks(); err != nil {
		return nil, err
	}
	for _, p := range in.paths {
		if err := deb.Read(ctx, pool, p, func(name string) bool { return !strings.HasPrefix(name, "usr/share/") }); err != nil {
			return nil, err
		}
	}
	if r := kmod.Releases(pool); len(r) != 1 || r[0] != in.kernel() {
		return nil, fmt.Errorf("read packages: modules of the kernels %v, want %s alone", r, in.kernel())
	}
	return pool, nil
}

// rootTree is the root file system.
func rootTree(pool *tree.Tree, in inputs, modules []*kmod.Module, all *kmod.Modules) (*tree.Tree, error) {
	t := tree.New()
	if err := t.AddMergedLinks(); err != nil {
		return nil, err
	}
	for _, p := range programs {
		if err := t.CopyBinary(pool, p); err != nil {
			return nil, err
		}
	}
	if err := addPlugins(t, pool); err != nil {
		return nil, err
	}
	for p, b := range in.programs {
		if err := t.AddFile(p, 0o755, b); err != nil {
			return nil, err
		}
	}
	if err := all.InstallAt(t, kmod.Dir(all.Release), modules); err != nil {
		return nil, err
	}
	if err := addConfiguration(t); err != nil {
		return nil, err
	}
	return t, t.AddFile("etc/wisp/version", 0o644, []byte(in.Version+"\n"))
}

func addPlugins(t, pool *tree.Tree) error {
	for _, pattern := range plugins {
		found := pool.Glob(pattern)
		if len(found) == 0 {
			return fmt.Errorf("add plugins %s: the packages have none", pattern)
		}
		for _, p := range found {
			name := strings.TrimSuffix(strings.TrimPrefix(path.Base(p), "libstrongswan-"), ".so")
			if slices.Contains(noPlugins, name) {
				continue
			}
			if err := t.CopyBinary(pool, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func addConfiguration(t *tree.Tree) error {
	for _, name := range []string{"passwd", "group", "strongswan.conf"} {
		b, err := files.ReadFile("files/" + name)
		if err != nil {
			return err
		}
		if err := t.AddFile("etc/"+name, 0o644, b); err != nil {
			return err
		}
	}
	for p, text := range map[string]string{
		"etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n",
		"etc/resolv.conf": "",
	} {
		if err := t.AddFile(p, 0o644, []byte(text)); err != nil {
			return err
		}
	}
	for p, target := range links {
		if err := t.AddLink(p, target); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		path string
		perm uint32
	}{
		{"dev", 0o755},
		{"proc", 0o555},
		{"sys", 0o555},
		{"run", 0o755},
		{"tmp", 0o1777},
		{"root", 0o700},
		{"etc/haproxy", 0o755},
		{"etc/swanctl", 0o750},
		{"etc/swanctl/conf.d", 0o750},
		{"var/lib", 0o755},
		{"var/log", 0o755},
		{"var/tmp", 0o1777},
	} {
		if err := t.AddDir(d.path, d.perm); err != nil {
			return err
		}
	}
	return nil
}
