package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrHostileImage says that a file is not an image that may be given to QEMU.
var ErrHostileImage = errors.New("the image is refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrHostileImage, fmt.Sprintf(format, args...))
}

// Bounds of images, those of QEMU where it has one.
const (
	maxVirtualSize = 64 << 40
	maxL1Bytes     = 32 << 20 // QCOW_MAX_L1_SIZE
	maxRefBytes    = 8 << 20  // QCOW_MAX_REFTABLE_SIZE
)

// Incompatible feature bits of version 3 (QEMU docs/interop/qcow2.txt).
const (
	bitDirty       = 1 << 0
	bitCorrupt     = 1 << 1
	bitDataFile    = 1 << 2
	bitCompression = 1 << 3
	bitExtendedL2  = 1 << 4
)

// Types of header extensions.
const (
	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extDataFile      = 0x44415441
	extCrypto        = 0x0537be77
	extBitmaps       = 0x23852875
)

// CheckQCOW2 reads the header of a qcow2 file of the given size and returns its virtual size. It admits images that
// stand alone: no backing file, no external data file, no encryption, no internal snapshots, tables within the file.
// It reads the header and nothing else, and allocates no more than that.
func CheckQCOW2(f io.ReaderAt, size int64) (virtual uint64, err error) {
	var h [112]byte
	n, err := f.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read image: %w", err)
	}
	if n < 72 || string(h[:4]) != "QFI\xfb" {
		return 0, refuse("it is no qcow2 file")
	}
	u32 := func(at int) uint64 { return uint64(binary.BigEndian.Uint32(h[at:])) }
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(h[at:]) }
	version, headerLength := u32(4), uint64(72)
	switch version {
	case 2:
	case 3:
		if n < 104 {
			return 0, refuse("its header is cut off")
		}
		headerLength = u32(100)
		if err := checkFeatures(u64(72), u32(96), headerLength); err != nil {
			return 0, err
		}
		if u64(72)&bitCompression != 0 && (headerLength < 112 || n < 105) {
			return 0, refuse("its header is too short for its features")
		}
	default:
		return 0, refuse("its version %d is unknown", version)
	}
	clusterBits := u32(20)
	switch {
	case u64(8) != 0 || u32(16) != 0:
		return 0, refuse("it has a backing file")
	case clusterBits < 9 || clusterBits > 21:
		return 0, refuse("its cluster size 2^%d is out of range", clusterBits)
	case u32(32) != 0:
		return 0, refuse("it is encrypted")
	case u32(60) != 0 || u64(64) != 0:
		return 0, refuse("it has internal snapshots")
	}
	virtual = u64(24)
	if virtual == 0 || virtual > maxVirtualSize {
		return 0, refuse("its virtual size of %d bytes is out of range", virtual)
	}
	cluster := uint64(1) << clusterBits
	if err := checkTables(tablesOf{u32(36), u64(40), u64(48), u32(56)}, virtual, cluster, uint64(size), version == 3 && u64(72)&bitExtendedL2 != 0); err != nil {
		return 0, err
	}
	return virtual, checkExtensions(f, headerLength, min(cluster, uint64(size)))
}

func checkFeatures(incompatible, refcountOrder, headerLength uint64) error {
	switch {
	case incompatible&bitDataFile != 0:
		return refuse("it has an external data file")
	case incompatible&bitCorrupt != 0:
		return refuse("it is marked corrupt")
	case incompatible&bitDirty != 0:
		return refuse("it was not closed well; repair it with qemu-img check -r all")
	case incompatible&^(bitCompression|bitExtendedL2) != 0:
		return refuse("it needs unknown features %#x", incompatible)
	case refcountOrder > 6:
		return refuse("its reference counts are out of range")
	case headerLength < 104 || headerLength%8 != 0 || headerLength > 4096:
		return refuse("its header length of %d bytes is out of range", headerLength)
	}
	return nil
}

type tablesOf struct{ l1Size, l1Offset, refOffset, refClusters uint64 }

// checkTables checks that the tables lie within the file and fit the virtual size.
func checkTables(t tablesOf, virtual, cluster, size uint64, extended bool) error {
	entry := uint64(8)
	if extended {
		entry = 16
	}
	perL1 := cluster / entry * cluster // bytes that one L1 entry maps
	need := (virtual + perL1 - 1) / perL1
	within := func(offset, length uint64) bool {
		return offset != 0 && offset%cluster == 0 && offset <= size && length <= size-offset
	}
	switch {
	case t.l1Size < need:
		return refuse("its L1 table is too small for its virtual size")
	case t.l1Size*8 > maxL1Bytes:
		return refuse("its L1 table of %d entries is too big", t.l1Size)
	case !within(t.l1Offset, t.l1Size*8):
		return refuse("its L1 table lies outside of the file")
	case t.refClusters == 0 || t.refClusters*cluster > maxRefBytes && t.refClusters > 1:
		return refuse("its reference count table is out of range")
	case !within(t.refOffset, 1):
		return refuse("its reference count table lies outside of the file")
	}
	return nil
}

// checkExtensions walks the header extensions, which end within the first cluster.
func checkExtensions(f io.ReaderAt, at, end uint64) error {
	for i := 0; ; i++ {
		if at+8 > end || i > 64 {
			return refuse("its header extensions do not end")
		}
		var h [8]byte
		if _, err := f.ReadAt(h[:], int64(at)); err != nil {
			return refuse("its header extensions are cut off")
		}
		kind, length := binary.BigEndian.Uint32(h[:]), uint64(binary.BigEndian.Uint32(h[4:]))
		switch kind {
		case extEnd:
			return nil
		case extDataFile:
			return refuse("it names an external data file")
		case extBackingFormat:
			return refuse("it names the format of a backing file")
		case extCrypto:
			return refuse("it is encrypted")
		case extBitmaps:
			return refuse("it has dirty bitmaps")
		}
		if length > end-at-8 {
			return refuse("a header extension is longer than the header")
		}
		at += 8 + (length+7)&^7
	}
}

// CheckRaw admits a raw image and returns its virtual size, which is that of the file.
func CheckRaw(size int64) (uint64, error) {
	if size <= 0 || size%512 != 0 {
		return 0, refuse("a raw image has whole sectors of 512 bytes; this file has %d bytes", size)
	}
	return uint64(size), nil
}
