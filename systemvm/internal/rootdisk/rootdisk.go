// Package rootdisk finds the disk a system VM runs from and proves that it is whole before anything of it is run.
//
// The checksum comes with the initial root file system, which the hypervisor hands over beside the kernel; the disk is
// one of the agent's files. A bit that fell over there, a half-written download, or a disk of another version is told
// on the console in one line instead of as a router that misbehaves later.
package rootdisk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Seal is what the content of a root disk must be.
type Seal struct {
	Sum [sha256.Size]byte
	// Size of the content in bytes; 0 when the seal does not say: then the squashfs does.
	Size int64
}

// ErrBroken means that the content of the disk is not what the seal says.
var ErrBroken = errors.New("root disk is not whole")

// ParseSeal reads a seal: the checksum in hex, and, where a second word is a number, the size in bytes. What
// sha256sum(1) prints is a seal.
func ParseSeal(text string) (Seal, error) {
	f := strings.Fields(text)
	if len(f) == 0 {
		return Seal{}, errors.New("read seal of the root disk: it is empty")
	}
	var s Seal
	b, err := hex.DecodeString(f[0])
	if err != nil || len(b) != len(s.Sum) {
		return Seal{}, fmt.Errorf("read seal of the root disk: %q is not a SHA-256 in hex", f[0])
	}
	copy(s.Sum[:], b)
	if len(f) > 1 {
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			if n <= 0 {
				return Seal{}, fmt.Errorf("read seal of the root disk: size %d", n)
			}
			s.Size = n
		}
	}
	return s, nil
}

// The super block of a squashfs 4.0: magic at 0, bytes used at 40 (kernel documentation, filesystems/squashfs.rst).
const (
	superSize   = 96
	superMagic  = 0x73717368
	bytesUsedAt = 40
	// mksquashfs pads a file system to this, so that it can be mounted by a loop device.
	padding = 4096
)

// ErrNoSquashfs means that the disk holds something else.
var ErrNoSquashfs = errors.New("not a squashfs")

// contentSize is how many bytes of a disk the file system fills: a partition may be larger.
func contentSize(disk io.ReaderAt) (int64, error) {
	var b [superSize]byte
	if _, err := disk.ReadAt(b[:], 0); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint32(b[:]) != superMagic {
		return 0, ErrNoSquashfs
	}
	used := binary.LittleEndian.Uint64(b[bytesUsedAt:])
	if used > 1<<40 {
		return 0, fmt.Errorf("%w: its super block speaks of %d bytes", ErrBroken, used)
	}
	return (int64(used) + padding - 1) / padding * padding, nil
}

// Verify reads the whole content and compares its checksum.
func Verify(disk io.ReaderAt, s Seal) error {
	size := s.Size
	if size == 0 {
		var err error
		if size, err = contentSize(disk); err != nil {
			return err
		}
	}
	h := sha256.New()
	n, err := io.CopyBuffer(h, onlyReader{io.NewSectionReader(disk, 0, size)}, make([]byte, 256<<10))
	if err != nil {
		return fmt.Errorf("read root disk at byte %d: %w", n, err)
	}
	if n < size {
		return fmt.Errorf("%w: it has %d bytes, want %d", ErrBroken, n, size)
	}
	if got := h.Sum(nil); !slices.Equal(got, s.Sum[:]) {
		return fmt.Errorf("%w: SHA-256 of its %d bytes is %x, want %x", ErrBroken, n, got, s.Sum)
	}
	return nil
}

// onlyReader hides WriterTo, which would read in small pieces.
type onlyReader struct{ io.Reader }

// VerifyDevice verifies one device.
func VerifyDevice(device string, s Seal) error {
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("verify root disk: %w", err)
	}
	defer f.Close()
	if err := Verify(f, s); err != nil {
		return fmt.Errorf("verify %s: %w", device, err)
	}
	return nil
}

// Candidates lists the disks and partitions that hold a squashfs, by name: sysfs is /sys, dev is /dev.
func Candidates(sysfs, dev string) ([]string, error) {
	entries, err := filepath.Glob(filepath.Join(sysfs, "class/block/*"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	slices.Sort(entries)
	var found []string
	for _, e := range entries {
		device := filepath.Join(dev, filepath.Base(e))
		f, err := os.Open(device)
		if err != nil {
			continue // without a medium
		}
		_, err = contentSize(f)
		f.Close()
		if err == nil || errors.Is(err, ErrBroken) {
			found = append(found, device)
		}
	}
	return found, nil
}

// Pick returns the first candidate that fits the seal, or why none does.
func Pick(candidates []string, s Seal) (string, error) {
	if len(candidates) == 0 {
		return "", errors.New("find root disk: no disk holds a squashfs")
	}
	var errs []error
	for _, c := range candidates {
		err := VerifyDevice(c, s)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}
