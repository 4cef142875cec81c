// Package mbr puts partitions of a PC disk together: a master boot record with
// boot code, then the partitions' images one after the other.
package mbr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Align is where partitions begin and of what their sizes are multiples: 1 MiB,
// a multiple of every block size a storage back end may have.
const Align = 1 << 20

const (
	sectorSize   = 512
	bootCodeSize = 440
)

// Partition types that Linux images need.
const (
	TypeFAT16LBA byte = 0x0e
	TypeLinux    byte = 0x83
)

// Partition is one of at most four primary partitions.
type Partition struct {
	Image    string // file whose bytes fill the partition; its size is a multiple of Align
	Type     byte
	Bootable bool
}

// Write makes the raw disk image at out. bootCode is at most 440 bytes, such as
// syslinux's mbr.bin, and signature is the disk's id at offset 440.
func Write(out string, bootCode []byte, signature uint32, parts []Partition) (err error) {
	if len(bootCode) > bootCodeSize {
		return fmt.Errorf("write disk %s: boot code has %d bytes, at most %d fit", out, len(bootCode), bootCodeSize)
	}
	if len(parts) == 0 || len(parts) > 4 {
		return fmt.Errorf("write disk %s: %d partitions, want 1 to 4", out, len(parts))
	}
	disk, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("write disk: %w", err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()

	record := make([]byte, sectorSize)
	copy(record, bootCode)
	binary.LittleEndian.PutUint32(record[bootCodeSize:], signature)
	offset := int64(Align)
	for i, p := range parts {
		n, err := copySparse(disk, offset, p.Image)
		if err != nil {
			return fmt.Errorf("write partition %d of disk %s: %w", i+1, out, err)
		}
		putEntry(record[446+16*i:], p, offset, n)
		offset += n
	}
	record[510], record[511] = 0x55, 0xaa
	if _, err := disk.WriteAt(record, 0); err != nil {
		return fmt.Errorf("write boot record: %w", err)
	}
	if err := disk.Truncate(offset); err != nil {
		return fmt.Errorf("size disk: %w", err)
	}
	return nil
}

// putEntry fills one 16 byte record. The cylinder fields hold the value that
// means "use the sector numbers", as every BIOS with LBA does.
func putEntry(b []byte, p Partition, offset, size int64) {
	if p.Bootable {
		b[0] = 0x80
	}
	copy(b[1:4], []byte{0xfe, 0xff, 0xff})
	b[4] = p.Type
	copy(b[5:8], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(b[8:], uint32(offset/sectorSize))
	binary.LittleEndian.PutUint32(b[12:], uint32(size/sectorSize))
}

// copySparse copies a file to offset, leaving runs of zeros as holes.
func copySparse(disk *os.File, offset int64, image string) (int64, error) {
	src, err := os.Open(image)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	buf := make([]byte, 64<<10)
	var n int64
	for {
		r, err := io.ReadFull(src, buf)
		if r > 0 && !zero(buf[:r]) {
			if _, err := disk.WriteAt(buf[:r], offset+n); err != nil {
				return n, err
			}
		}
		n += int64(r)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return n, err
		}
	}
	if n == 0 || n%Align != 0 || (offset+n)/sectorSize > 0xffffffff {
		return n, fmt.Errorf("size %d of %s is not a positive multiple of %d within 2 TiB", n, image, Align)
	}
	return n, nil
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
