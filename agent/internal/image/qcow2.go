package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Header is what a qcow2 file says of itself (docs/interop/qcow2.txt of QEMU).
type Header struct {
	Version     uint32
	VirtualSize uint64
	ClusterBits uint32
	// Backing is the name of the file below, "" for none.
	Backing string
	// DataFile is set when clusters are kept in another file.
	DataFile bool
	// Encryption method, 0 for none.
	Encryption uint32
	Snapshots  uint32
	L1Entries  uint32
}

const (
	qcowMagic         = 0x514649fb
	incompatDirty     = 1 << 0
	incompatCorrupt   = 1 << 1
	incompatDataFile  = 1 << 2
	incompatZstd      = 1 << 3
	incompatExtendedL = 1 << 4
	knownIncompatible = incompatDirty | incompatCorrupt | incompatDataFile | incompatZstd | incompatExtendedL
	// QEMU's own bound on an active L1 table (QCOW_MAX_L1_SIZE).
	maxL1Bytes      = 32 << 20
	maxVirtualBytes = 64 << 40
	maxSnapshots    = 0
	dataFileName    = 0x44415441
)

// ErrNotQcow2 is a file without the magic number.
var ErrNotQcow2 = errors.New("file is not qcow2")

// ReadHeader parses the header of a qcow2 file. It reads a bounded amount whatever the file says.
func ReadHeader(r io.ReaderAt) (Header, error) {
	var b [104]byte
	if n, err := r.ReadAt(b[:], 0); n < 72 {
		if err == nil || errors.Is(err, io.EOF) {
			return Header{}, ErrNotQcow2
		}
		return Header{}, fmt.Errorf("read header: %w", err)
	}
	be := binary.BigEndian
	if be.Uint32(b[0:]) != qcowMagic {
		return Header{}, ErrNotQcow2
	}
	h := Header{
		Version: be.Uint32(b[4:]), ClusterBits: be.Uint32(b[20:]), VirtualSize: be.Uint64(b[24:]),
		Encryption: be.Uint32(b[32:]), L1Entries: be.Uint32(b[36:]), Snapshots: be.Uint32(b[60:]),
	}
	if h.Version != 2 && h.Version != 3 {
		return h, fmt.Errorf("qcow2 version %d is not known", h.Version)
	}
	if h.ClusterBits < 9 || h.ClusterBits > 21 {
		return h, fmt.Errorf("cluster size of 2^%d bytes is outside what qcow2 allows", h.ClusterBits)
	}
	length := uint32(72)
	var features uint64
	if h.Version == 3 {
		features, length = be.Uint64(b[72:]), be.Uint32(b[100:])
	}
	if features&^knownIncompatible != 0 {
		return h, fmt.Errorf("incompatible features %#x are not known", features&^knownIncompatible)
	}
	h.DataFile = features&incompatDataFile != 0
	if offset, size := be.Uint64(b[8:]), be.Uint32(b[16:]); offset != 0 {
		if size == 0 || size > 1023 || offset > 1<<h.ClusterBits {
			return h, errors.New("name of the backing file lies outside the header")
		}
		name := make([]byte, size)
		if _, err := r.ReadAt(name, int64(offset)); err != nil {
			return h, fmt.Errorf("read name of the backing file: %w", err)
		}
		h.Backing = string(name)
	}
	if err := h.readExtensions(r, length); err != nil {
		return h, err
	}
	return h, nil
}

// readExtensions looks for an external data file's name.
func (h *Header) readExtensions(r io.ReaderAt, at uint32) error {
	if at < 72 || at > 1<<h.ClusterBits || at%8 != 0 {
		return errors.New("header length is outside the first cluster")
	}
	var b [8]byte
	for offset := int64(at); offset+8 <= 1<<h.ClusterBits; {
		if _, err := r.ReadAt(b[:], offset); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read header extension: %w", err)
		}
		sort, size := binary.BigEndian.Uint32(b[0:]), binary.BigEndian.Uint32(b[4:])
		if sort == 0 {
			return nil
		}
		if sort == dataFileName {
			h.DataFile = true
		}
		offset += 8 + (int64(size)+7)&^7
	}
	return nil
}

// Judge refuses an image that could reach beyond itself or eat the host: it names other files, is encrypted, carries
// snapshots, or claims tables or a size no honest image needs.
func (h Header) Judge() error {
	clusterBytes := uint64(1) << h.ClusterBits
	perL1 := clusterBytes * (clusterBytes / 8)
	switch {
	case h.Backing != "":
		return errors.New("image names a backing file")
	case h.DataFile:
		return errors.New("image names an external data file")
	case h.Encryption != 0:
		return errors.New("image is encrypted")
	case h.Snapshots > maxSnapshots:
		return errors.New("image carries internal snapshots")
	case h.VirtualSize == 0 || h.VirtualSize > maxVirtualBytes:
		return fmt.Errorf("virtual size of %d bytes is not usable", h.VirtualSize)
	case uint64(h.L1Entries)*8 > maxL1Bytes:
		return fmt.Errorf("L1 table of %d entries is too large", h.L1Entries)
	// An extended L2 entry is 16 bytes, so an L1 entry then spans half as much.
	case uint64(h.L1Entries) > 2*(h.VirtualSize/perL1+2):
		return fmt.Errorf("L1 table of %d entries is larger than its disk needs", h.L1Entries)
	}
	return nil
}

// ReadFileHeader parses the header of a file.
func ReadFileHeader(path string) (Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return Header{}, fmt.Errorf("open image: %w", err)
	}
	defer func() { _ = f.Close() }()
	return ReadHeader(f)
}
