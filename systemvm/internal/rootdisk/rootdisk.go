// Package rootdisk finds the disk a system VM runs from and proves that it is whole before anything of it is run.
//
// The checksum comes with the initial root file system, which the hypervisor hands over beside the kernel; the disk is
// one of the agent's files. A bit that fell over there, a half-written download, or a disk of another version is told
// on the console in one line instead of as a router that misbehaves later.
//
// The sum is xxHash64. It finds damage as surely as a cryptographic one, and that is all a seal can do which lies beside
// what it seals: who may write the disk may write the seal. The agent compares the bundle's SHA-256 before it unpacks
// it. Hashing 22 MB by SHA-256 took an emulated processor a second; this takes a fiftieth.
package rootdisk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// Seal is what the content of a root disk must be.
type Seal struct {
	Sum uint64 // xxHash64 with seed 0
	// Size of the content in bytes; 0 when the seal does not say: then the squashfs does.
	Size int64
}

// ErrBroken means that the content of the disk is not what the seal says.
var ErrBroken = errors.New("root disk is not whole")

// ParseSeal reads a seal: the checksum in 16 digits of hex, and, where a second word is a number, the size in bytes.
// What xxhsum(1) prints is a seal.
func ParseSeal(text string) (Seal, error) {
	f := strings.Fields(text)
	if len(f) == 0 {
		return Seal{}, errors.New("read seal of the root disk: it is empty")
	}
	var s Seal
	sum, err := strconv.ParseUint(f[0], 16, 64)
	if err != nil || len(f[0]) != sumDigits {
		return Seal{}, fmt.Errorf("read seal of the root disk: %q is not an xxHash64 in hex", f[0])
	}
	s.Sum = sum
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

// sumDigits are the hex digits of a sum.
const sumDigits = 16

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

// contentSize is how many bytes of a disk the file system fills: a partition may be larger. The super block is read
// into b.
func contentSize(disk io.ReaderAt, b []byte) (int64, error) {
	if n, err := disk.ReadAt(b, 0); n < superSize {
		return 0, err
	}
	if binary.LittleEndian.Uint32(b) != superMagic {
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
	buf, err := unix.Mmap(-1, 0, readSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("read root disk: %w", err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	size := s.Size
	if size == 0 {
		if size, err = contentSize(disk, buf[:padding]); err != nil {
			return err
		}
	}
	h := xxhash.New()
	var at int64
	for at < size {
		// Whole blocks, for direct reads: the rest of the last one is not the content's.
		n, err := disk.ReadAt(buf[:min(readSize, (size-at+padding-1)/padding*padding)], at)
		n = int(min(int64(n), size-at))
		_, _ = h.Write(buf[:n]) // never fails
		at += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read root disk at byte %d: %w", at, err)
		}
	}
	if at < size {
		return fmt.Errorf("%w: it has %d bytes, want %d", ErrBroken, at, size)
	}
	if got := h.Sum64(); got != s.Sum {
		return fmt.Errorf("%w: xxHash64 of its %d bytes is %016x, want %016x", ErrBroken, at, got, s.Sum)
	}
	return nil
}

// readSize is how much is read at a time, into memory that begins at a page, as direct reads ask for.
const readSize = 1 << 20

// VerifyDevice verifies one device. It reads past the page cache where the device can: this saves copying the whole disk
// in memory, and leaves a small machine's memory for what of it is used.
func VerifyDevice(device string, s Seal) error {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.Open(device)
	}
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
		_, err = contentSize(f, make([]byte, superSize))
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
