package main

// dependency is something a package of the distribution provides. It is
// recognised by the file it brings, not by the package's name: names move
// between releases, and a machine may have the tool from elsewhere.
type dependency struct {
	// files are alternatives: one of them existing means nothing is to do.
	files []string
	// packages are alternatives, the first one the archive knows is installed.
	packages []string
	// why says what needs it.
	why string
}

// dependencies is everything `make sandbox` needs beyond Go, make and git, and
// most of what `make test` does.
//
// libvirt-daemon-system is left out on purpose: it brings the service units,
// the users and the default network. Lab hosts bring their own configuration,
// and the machine gets no libvirt service it did not have.
var dependencies = []dependency{
	{paths("virsh"), []string{"libvirt-clients"}, "control libvirt of the lab hosts"},
	{paths("libvirtd"), []string{"libvirt-daemon"}, "run domains on the lab hosts"},
	{paths("virtlogd"), []string{"libvirt-daemon-log", "libvirt-daemon"}, "keep console logs of domains"},
	{
		[]string{"/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so"},
		[]string{"libvirt-daemon-driver-qemu"},
		"libvirt's QEMU driver",
	},
	{paths("qemu-system-x86_64"), []string{"qemu-system-x86"}, "run guests"},
	{paths("qemu-img"), []string{"qemu-utils"}, "make disks"},
	{paths("ip"), []string{"iproute2"}, "build the lab's links"},
	{paths("iptables-restore"), []string{"iptables"}, "firewall and NAT of guest networks"},
	{paths("ipset"), []string{"ipset"}, "address sets of firewalls"},
	{paths("conntrack"), []string{"conntrack"}, "drop flows when a rule goes"},
	{paths("nsenter"), []string{"util-linux"}, "enter lab hosts"},
	{paths("sysctl"), []string{"procps"}, "kernel settings of namespaces"},
	{paths("modprobe"), []string{"kmod"}, "load bridge and VXLAN on kernels that have them as modules"},

	{paths("busybox"), []string{"busybox-static"}, "the tiny guest's user land"},
	{paths("syslinux"), []string{"syslinux"}, "the tiny guest's boot loader"},
	{[]string{"/usr/lib/syslinux/mbr/mbr.bin"}, []string{"syslinux-common"}, "the tiny guest's boot record"},
	{paths("mcopy"), []string{"mtools"}, "write the boot partition without mounting it"},
	{paths("mkfs.vfat"), []string{"dosfstools"}, "make the boot partition"},
	{paths("mke2fs"), []string{"e2fsprogs"}, "make the root partition without mounting it"},
	{paths("mksquashfs"), []string{"squashfs-tools"}, "the system VM's root"},
	{paths("cpio"), []string{"cpio"}, "unpack initial RAM disks in tests"},

	{paths("gcc"), []string{"gcc"}, "the race detector"},
	{[]string{"/usr/include/stdlib.h"}, []string{"libc6-dev"}, "the race detector"},
	{paths("python3"), []string{"python3"}, "run the API's real clients"},
	{distPackage("cs"), []string{"python3-cs"}, "a real client of the API"},
	{distPackage("libcloud"), []string{"python3-libcloud"}, "a real client of the API"},
	{paths("udhcpc"), []string{"udhcpc"}, "a real DHCP client in namespace tests"},
	{paths("dhclient"), []string{"isc-dhcp-client"}, "another DHCP client in namespace tests"},
	{paths("dig"), []string{"bind9-dnsutils", "dnsutils"}, "a DNS client in namespace tests"},
	{paths("wget"), []string{"wget"}, "the client of the password service that guests use"},
	{paths("curl"), []string{"curl"}, "ask the guest in tests"},
	{paths("ssh"), []string{"openssh-client"}, "log in to guests in tests"},
	{[]string{"/etc/ssl/certs/ca-certificates.crt"}, []string{"ca-certificates"}, "fetch Go modules"},
}

// paths is where a program may stand.
func paths(name string) []string {
	var all []string
	for _, dir := range []string{"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/", "/usr/local/sbin/", "/usr/local/bin/"} {
		all = append(all, dir+name)
	}
	return all
}

// distPackage is where Debian keeps a Python package: the tests run the
// distribution's interpreter, so a module elsewhere would not do.
func distPackage(name string) []string {
	return []string{"/usr/lib/python3/dist-packages/" + name + "/__init__.py"}
}

// testDependencies is what `make test` needs beyond that: daemons and shells that
// nobody who only looks at the sandbox wants on the machine. (slapd would be
// started with the next boot.)
var testDependencies = []dependency{
	{paths("slapd"), []string{"slapd"}, "a real directory for logins in tests"},
	{[]string{"/usr/share/bash-completion/bash_completion"}, []string{"bash-completion"}, "complete the words of wisp in tests"},
	{paths("fish"), []string{"fish"}, "complete the words of wisp in tests"},
	{paths("zsh"), []string{"zsh"}, "complete the words of wisp in tests"},
	{paths("faketime"), []string{"faketime"}, "build an image on another day in tests"},
	// The package with all collections, 250 MB: Debian has the CloudStack modules in no smaller one.
	{
		[]string{"/usr/lib/python3/dist-packages/ansible_collections/ngine_io/cloudstack/MANIFEST.json"},
		[]string{"ansible"},
		"a real client of the API",
	},
	{distPackage("sshpubkeys"), []string{"python3-sshpubkeys"}, "its module for SSH keys"},
}
