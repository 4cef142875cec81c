package tinyguest

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/images/internal/cpio"
	"github.com/wispcloud/wisp/images/internal/deb"
	"github.com/wispcloud/wisp/images/internal/ext4"
	"github.com/wispcloud/wisp/images/internal/fat"
	"github.com/wispcloud/wisp/images/internal/gobuild"
	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/kmod"
	"github.com/wispcloud/wisp/images/internal/mbr"
	"github.com/wispcloud/wisp/images/internal/qcow2"
	"github.com/wispcloud/wisp/images/internal/tree"
)

//go:embed files
var files embed.FS

// programs are the sources of what runs in the guest. They are embedded so that
// the builder needs no checkout.
//
//go:embed boot guest modload
var programs embed.FS

const modulePath = "github.com/wispcloud/wisp/images/tinyguest"

// recipeVersion changes when a change of this package's code, rather than of an
// embedded file, changes the image.
const recipeVersion = 2

// What would be drawn at random or taken from the clock is fixed. The disk's
// UUID is therefore no identity; a guest gets its own from metadata and its host
// keys at its first boot.
const (
	rootUUID      = "7e57c10d-0000-4000-8000-000000000001"
	rootHashSeed  = "7e57c10d-0000-4000-8000-000000000002"
	bootVolumeID  = 0x7e57c10d
	diskSignature = 0x7e57c10d
	bootSize      = 18 << 20
	rootSize      = 237 << 20 // 256 MiB with the boot partition and the record; unused blocks cost nothing
	rootInodes    = 8192
)

// imageTime is the time stamp of all files. Any fixed moment does, after 1980
// because FAT knows nothing before.
var imageTime = time.Unix(1700000000, 0).UTC()

// kernelMeta is the package that depends on Debian's current cloud kernel.
const kernelMeta = "linux-image-cloud-amd64"

// packages are the sources of the files besides the kernel. The libraries are
// those dropbear links with.
var packages = []string{"busybox-static", "dropbear-bin", "libc6", "libcrypt1", "libgmp10", "libtomcrypt1", "libtommath1", "zlib1g"}

// hostPackages are the build machine's packages whose versions may change the
// image's bytes without any input changing.
var hostPackages = []string{"dosfstools", "e2fsprogs", "libext2fs2|libext2fs2t64", "mtools", "qemu-utils", "syslinux", "syslinux-common", "zlib1g"}

// bootModules drive the disks a root partition may be on.
var bootModules = []string{"virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ata_piix"}

// rootModules are all others; udev's part is played by wisp-guest.
var rootModules = []string{
	"virtio_net", "virtio_rng", "virtio_balloon", "virtio_console", "virtio_input",
	"button", "evdev", "8021q", "sr_mod", "isofs",
}

// Tools lists every program of the build machine that a build runs.
func Tools() []hosttool.Tool {
	return slices.Concat(deb.Tools, fat.Tools, ext4.Tools, qcow2.Tools, gobuild.Tools)
}

// applets that would be wrong as commands of this guest: its init is another.
var noApplets = []string{"init", "linuxrc", "dpkg", "dpkg-deb", "udhcpd", "busybox"}

// assemble makes the disk image out from packages in work.
func assemble(ctx context.Context, in inputs, work, out string) error {
	pool, release, err := readPackages(ctx, in.paths)
	if err != nil {
		return err
	}
	modules, err := kmod.Find(pool, release)
	if err != nil {
		return err
	}
	bootProgram, err := gobuild.Build(ctx, work, gobuild.Program{Module: modulePath, Source: programs, Dir: "boot"})
	if err != nil {
		return err
	}
	guestProgram, err := gobuild.Build(ctx, work, gobuild.Program{Module: modulePath, Source: programs, Dir: "guest"})
	if err != nil {
		return err
	}
	initrd, err := initialRoot(modules, bootProgram)
	if err != nil {
		return err
	}
	root, err := rootTree(ctx, pool, modules, guestProgram, work)
	if err != nil {
		return err
	}
	kernel, err := pool.Get("boot/vmlinuz-" + release)
	if err != nil {
		return err
	}
	return writeDisk(ctx, work, out, kernel.Data, initrd, root)
}

// readPackages unpacks what the image may need and tells the kernel's release.
func readPackages(ctx context.Context, paths []string) (*tree.Tree, string, error) {
	pool := tree.New()
	if err := pool.AddMergedLinks(); err != nil {
		return nil, "", err
	}
	for _, p := range paths {
		err := deb.Read(ctx, pool, p, func(name string) bool {
			return !strings.HasPrefix(name, "usr/share/")
		})
		if err != nil {
			return nil, "", err
		}
	}
	releases := kmod.Releases(pool)
	if len(releases) != 1 {
		return nil, "", fmt.Errorf("read packages: kernels %v, want one", releases)
	}
	return pool, releases[0], nil
}

// initialRoot is the compressed archive the boot loader hands to the kernel.
func initialRoot(modules *kmod.Modules, program []byte) ([]byte, error) {
	t := tree.New()
	if err := t.AddFile("init", 0o755, program); err != nil {
		return nil, err
	}
	// The kernel opens it as the standard output of init, before init mounts /dev.
	if err := t.Add(tree.Entry{Path: "dev/console", Kind: tree.CharDevice, Perm: 0o600, Major: 5, Minor: 1}); err != nil {
		return nil, err
	}
	list, err := modules.Closure(bootModules...)
	if err != nil {
		return nil, err
	}
	// Without usr: there is no merged system to imitate.
	if err := modules.InstallAt(t, "lib/modules/"+modules.Release, list); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := cpio.Write(z, t, imageTime); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// rootTree is the root file system on the disk.
func rootTree(ctx context.Context, pool *tree.Tree, modules *kmod.Modules, program []byte, work string) (*tree.Tree, error) {
	t := tree.New()
	if err := t.AddMergedLinks(); err != nil {
		return nil, err
	}
	for _, b := range []string{"usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/bin/dbclient", "usr/bin/busybox"} {
		if err := t.CopyBinary(pool, b); err != nil {
			return nil, err
		}
	}
	if err := t.AddFile("usr/sbin/wisp-guest", 0o755, program); err != nil {
		return nil, err
	}
	if err := addApplets(ctx, t, work); err != nil {
		return nil, err
	}
	// sd_mod and others of the first stage too: disks of all kinds may be attached later.
	list, err := modules.Closure(slices.Concat(bootModules, rootModules)...)
	if err != nil {
		return nil, err
	}
	if err := modules.InstallAt(t, kmod.Dir(modules.Release), list); err != nil {
		return nil, err
	}
	return t, addConfiguration(t)
}

// addApplets links busybox's commands to it, as its --install would at run time.
func addApplets(ctx context.Context, t *tree.Tree, work string) error {
	e, err := t.Get("usr/bin/busybox")
	if err != nil {
		return err
	}
	// The one program of a package that a build executes; it goes by its own name.
	program := filepath.Join(work, "busybox")
	if err := os.WriteFile(program, e.Data, 0o700); err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	out, err := hosttool.Run(ctx, hosttool.Command{Name: program, Args: []string{"--list-full"}})
	if err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	list := string(out)
	for line := range strings.Lines(list) {
		p := tree.Merged(strings.TrimSpace(line))
		name := filepath.Base(p)
		if p == "" || slices.Contains(noApplets, name) {
			continue
		}
		if _, err := t.Get(p); err == nil {
			continue // a real program is better
		}
		if err := t.AddLink(p, "/usr/bin/busybox"); err != nil {
			return err
		}
	}
	return nil
}

func addConfiguration(t *tree.Tree) error {
	for _, f := range []struct {
		path, from string
		perm       uint32
	}{
		{"etc/passwd", "passwd", 0o644},
		{"etc/shadow", "shadow", 0o600},
		{"etc/group", "group", 0o644},
		{"etc/shells", "shells", 0o644},
		{"etc/issue", "issue", 0o644},
		{"etc/profile", "profile", 0o644},
		{"etc/udhcpc.script", "udhcpc.script", 0o755},
	} {
		b, err := files.ReadFile("files/" + f.from)
		if err != nil {
			return err
		}
		if err := t.AddFile(f.path, f.perm, b); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{
		"etc/hostname":    "wisp-guest\n",
		"etc/hosts":       "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
		"etc/resolv.conf": "",
	} {
		if err := t.AddFile(path, 0o644, []byte(text)); err != nil {
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
		{"mnt", 0o755},
		{"media", 0o755},
		{"root", 0o700},
		{"home", 0o755},
		{"etc/dropbear", 0o700},
		{"var/lib/wisp-guest", 0o755},
		{"var/log", 0o755},
		{"var/tmp", 0o1777},
	} {
		if err := t.AddDir(d.path, d.perm); err != nil {
			return err
		}
	}
	return t.AddLink("var/run", "/run")
}

// writeDisk puts the partitions together.
func writeDisk(ctx context.Context, work, out string, kernel, initrd []byte, root *tree.Tree) error {
	cfg, err := files.ReadFile("files/syslinux.cfg")
	if err != nil {
		return err
	}
	cfg = bytes.ReplaceAll(cfg, []byte("@ROOT@"), []byte(rootUUID))
	bootImage, rootImage, raw := filepath.Join(work, "boot.fat"), filepath.Join(work, "root.ext4"), filepath.Join(work, "disk.raw")
	err = fat.Write(ctx, bootImage, work, fat.Options{Size: bootSize, Label: "WISPBOOT", ID: bootVolumeID, Time: imageTime}, []fat.File{
		{Name: "syslinux.cfg", Data: cfg}, {Name: "vmlinuz", Data: kernel}, {Name: "initrd.gz", Data: initrd},
	})
	if err != nil {
		return err
	}
	err = ext4.Write(ctx, rootImage, work, ext4.Options{
		Size: rootSize, Label: "wisp-root", UUID: rootUUID, HashSeed: rootHashSeed, JournalMiB: 4, Inodes: rootInodes, Time: imageTime,
	}, root)
	if err != nil {
		return err
	}
	code, err := fat.BootCode()
	if err != nil {
		return err
	}
	err = mbr.Write(raw, code, diskSignature, []mbr.Partition{
		{Image: bootImage, Type: mbr.TypeFAT16LBA, Bootable: true},
		{Image: rootImage, Type: mbr.TypeLinux},
	})
	if err != nil {
		return err
	}
	return qcow2.Compress(ctx, raw, out)
}

// HostPackages are the Debian packages a build needs on its machine, sorted. Go
// is left out: it need not come from Debian.
func HostPackages() []string {
	var names []string
	for _, p := range hostPackages {
		first, _, _ := strings.Cut(p, "|")
		names = append(names, first)
	}
	for _, t := range Tools() {
		if t.Name != "go" {
			names = append(names, t.Package)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
