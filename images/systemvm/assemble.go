package systemvm

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/wispcloud/wisp/images/internal/cpio"
	"github.com/wispcloud/wisp/images/internal/fat"
	"github.com/wispcloud/wisp/images/internal/kmod"
	"github.com/wispcloud/wisp/images/internal/mbr"
	"github.com/wispcloud/wisp/images/internal/qcow2"
	"github.com/wispcloud/wisp/images/internal/squashfs"
	"github.com/wispcloud/wisp/images/internal/tree"
)

const (
	bootVolumeID  = 0x7e57c10e
	diskSignature = 0x7e57c10e
)

// compression of the root. See DESIGN.md for the figures.
var compression = squashfs.Options{Time: imageTime, BlockSize: 128 << 10, Compressor: []string{"lz4", "-Xhc"}}

// set is what is booted.
type set struct {
	files   []setFile // kernel, initial root file system, root
	root    string    // path of the root
	modules []string  // names of all kernel modules
}

// assemble makes the set; in.paths are the files of the packages.
func assemble(ctx context.Context, in inputs, work string) (*set, error) {
	pool, err := readPackages(ctx, in)
	if err != nil {
		return nil, err
	}
	all, err := kmod.Find(pool, in.kernel())
	if err != nil {
		return nil, err
	}
	names, err := all.Match(rootModules...)
	if err != nil {
		return nil, err
	}
	boot, err := all.Closure(bootModules...)
	if err != nil {
		return nil, err
	}
	modules, err := all.Closure(append(names, bootModules...)...)
	if err != nil {
		return nil, err
	}
	for _, m := range modules { // those of boot are among them
		if m.Data, err = kmod.Lean(m.Data); err != nil {
			return nil, fmt.Errorf("make module %s lean: %w", m.Name, err)
		}
	}
	root, err := rootTree(pool, in, modules, all)
	if err != nil {
		return nil, err
	}
	s := &set{root: filepath.Join(work, rootName)}
	for _, m := range modules {
		s.modules = append(s.modules, m.Name)
	}
	if err := squashfs.Write(ctx, s.root, root, compression); err != nil {
		return nil, err
	}
	rootData, err := os.ReadFile(s.root)
	if err != nil {
		return nil, err
	}
	initrd, err := initialRoot(in, all, boot, rootData)
	if err != nil {
		return nil, err
	}
	kernel, err := pool.Get("boot/vmlinuz-" + in.kernel())
	if err != nil {
		return nil, err
	}
	s.files = []setFile{{kernelName, kernel.Data}, {initrdName, initrd}, {rootName, rootData}}
	return s, nil
}

// initialRoot is the archive with wisp-init and the seal of the root.
func initialRoot(in inputs, all *kmod.Modules, modules []*kmod.Module, root []byte) ([]byte, error) {
	t := tree.New()
	if err := t.AddFile("init", 0o755, in.programs[initPath]); err != nil {
		return nil, err
	}
	// The kernel opens it as the standard output of init, before init mounts /dev.
	if err := t.Add(tree.Entry{Path: "dev/console", Kind: tree.CharDevice, Perm: 0o600, Major: 5, Minor: 1}); err != nil {
		return nil, err
	}
	// Without usr: there is no merged system to imitate.
	if err := all.InstallAt(t, "lib/modules/"+all.Release, modules); err != nil {
		return nil, err
	}
	var order strings.Builder
	for _, m := range modules {
		order.WriteString(m.Name + "\n")
	}
	for p, text := range map[string]string{
		"etc/wisp/modules":   order.String(),
		"etc/wisp/root.seal": fmt.Sprintf("%016x %d\n", xxhash.Sum64(root), len(root)),
		"etc/wisp/version":   in.Version + "\n",
	} {
		if err := t.AddFile(p, 0o644, []byte(text)); err != nil {
			return nil, err
		}
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

// writeDisk puts the set on a disk with a boot loader.
func writeDisk(ctx context.Context, work, out string, s *set) error {
	cfg, err := files.ReadFile("files/syslinux.cfg")
	if err != nil {
		return err
	}
	cmdline := strings.Replace(Cmdline, "/dev/vda", "/dev/vda2", 1)
	cfg = bytes.ReplaceAll(cfg, []byte("@CMDLINE@"), []byte(cmdline))
	content := []fat.File{{Name: "syslinux.cfg", Data: cfg}}
	size := int64(0)
	for _, f := range s.files[:2] {
		content = append(content, fat.File{Name: f.name, Data: f.data})
		size += int64(len(f.data))
	}
	bootImage, raw := filepath.Join(work, "boot.fat"), filepath.Join(work, "disk.raw")
	// The file system's own tables and the boot loader need less than 2 MiB; below 16 MiB there is no FAT16.
	size = max((size+3<<20)/mbr.Align*mbr.Align, 18<<20)
	err = fat.Write(ctx, bootImage, work, fat.Options{Size: size, Label: "WISPBOOT", ID: bootVolumeID, Time: imageTime}, content)
	if err != nil {
		return err
	}
	code, err := fat.BootCode()
	if err != nil {
		return err
	}
	st, err := os.Stat(s.root)
	if err != nil {
		return err
	}
	// Zeros behind the root: the seal knows its size.
	if err := os.Truncate(s.root, (st.Size()+mbr.Align-1)/mbr.Align*mbr.Align); err != nil {
		return err
	}
	err = mbr.Write(raw, code, diskSignature, []mbr.Partition{
		{Image: bootImage, Type: mbr.TypeFAT16LBA, Bootable: true},
		{Image: s.root, Type: mbr.TypeLinux},
	})
	if err != nil {
		return err
	}
	return qcow2.Compress(ctx, raw, out)
}
