// Package fat makes a FAT16 partition that SYSLINUX boots from.
//
// SYSLINUX is chosen over GRUB because it is twice as fast in an emulated
// guest, and over EXTLINUX because its installer works on an image file as an
// ordinary user (it drives mtools), where EXTLINUX needs a mounted file system.
package fat

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// Tools are the programs this package runs.
var Tools = []hosttool.Tool{
	{Name: "mkfs.vfat", Package: "dosfstools"},
	{Name: "mcopy", Package: "mtools"},
	{Name: "syslinux", Package: "syslinux"},
}

// bootCodePath is where Debian's syslinux-common keeps the boot sector that
// starts the active partition.
const bootCodePath = "/usr/lib/syslinux/mbr/mbr.bin"

// BootCode returns SYSLINUX's master boot record code.
func BootCode() ([]byte, error) {
	b, err := os.ReadFile(bootCodePath)
	if err != nil {
		return nil, fmt.Errorf("read boot code: %w (apt-get install syslinux-common)", err)
	}
	return b, nil
}

// File is a file of the partition's root directory; Name is in 8.3 form.
type File struct {
	Name string
	Data []byte
}

// Options describe the file system. ID and Time replace what mkfs would take
// from the clock.
type Options struct {
	Size  int64
	Label string
	ID    uint32
	Time  time.Time
}

// Write makes the image at out with files in the order given. Contents are
// staged in a new directory below scratch.
func Write(ctx context.Context, out, scratch string, o Options, files []File) error {
	if err := create(out, o.Size); err != nil {
		return fmt.Errorf("make fat partition: %w", err)
	}
	run := func(name string, args ...string) error {
		_, err := hosttool.Run(ctx, hosttool.Command{
			Name: name, Args: args,
			Env: []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(o.Time.Unix(), 10), "MTOOLS_SKIP_CHECK=1"},
		})
		if err != nil {
			return fmt.Errorf("make fat partition: %w", err)
		}
		return nil
	}
	// -S 512 and -s 8: 4 KiB clusters, so that the boot loader's many reads follow a short chain.
	if err := run("mkfs.vfat", "--invariant", "-F", "16", "-s", "8", "-S", "512",
		"-i", fmt.Sprintf("%08x", o.ID), "-n", o.Label, out); err != nil {
		return err
	}
	if err := run("syslinux", "--install", out); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(scratch, "fat-")
	if err != nil {
		return fmt.Errorf("make fat partition: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, f := range files {
		p := filepath.Join(dir, f.Name)
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			return fmt.Errorf("make fat partition: %w", err)
		}
		if err := os.Chtimes(p, o.Time, o.Time); err != nil {
			return fmt.Errorf("make fat partition: %w", err)
		}
		if err := run("mcopy", "-m", "-i", out, p, "::"+f.Name); err != nil {
			return err
		}
	}
	if err := setDates(out, o.Time); err != nil {
		return fmt.Errorf("make fat partition: %w", err)
	}
	return nil
}

func create(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
