// Package squashfs writes a tree as a squashfs 4.0 file system, by mksquashfs.
//
// mksquashfs is handed a tar stream instead of a directory: owners, modes and
// device nodes are those of the tree, so no root is needed and nothing of the
// build machine's files gets in. It lays out files in the order of the stream
// and compresses with one thread, so the same tree and the same version of the
// tool give the same bytes.
package squashfs

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/tree"
)

// Tools are the programs this package runs.
var Tools = []hosttool.Tool{{Name: "mksquashfs", Package: "squashfs-tools"}}

// Options describe the file system.
type Options struct {
	Time      time.Time // of all files and of the file system itself
	BlockSize int       // bytes that are compressed together; a power of two from 4 KiB to 1 MiB
	// Compressor and its options, as mksquashfs takes them: {"lz4", "-Xhc"}.
	Compressor []string
}

// Align is the size the file is padded to a multiple of: block devices are read
// in units of up to a page.
const Align = 4096

// Write makes the file system at out, replacing a file there.
func Write(ctx context.Context, out string, t *tree.Tree, o Options) error {
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write squashfs: %w", err)
	}
	seconds := strconv.FormatInt(o.Time.Unix(), 10)
	args := []string{
		"-", out, "-tar", "-quiet", "-no-progress", "-no-xattrs", "-no-exports", "-reproducible", "-processors", "1",
		"-mkfs-time", seconds, "-all-time", seconds,
		"-root-mode", "0755", "-root-uid", "0", "-root-gid", "0", // the root directory, which has no entry
		"-b", strconv.Itoa(o.BlockSize), "-comp",
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeTar(w, t, o.Time)) }()
	_, err := hosttool.Run(ctx, hosttool.Command{Name: "mksquashfs", Args: append(args, o.Compressor...), Stdin: r})
	// Ends the writer if the tool has not read everything.
	r.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return fmt.Errorf("write squashfs: %w", err)
	}
	if err := check(out); err != nil {
		return fmt.Errorf("write squashfs: %w", err)
	}
	return nil
}

func writeTar(w io.Writer, t *tree.Tree, mtime time.Time) error {
	tw := tar.NewWriter(w)
	for _, e := range t.All() {
		h := tar.Header{Name: e.Path, Mode: int64(e.Perm), Uid: e.UID, Gid: e.GID, ModTime: mtime, Format: tar.FormatGNU}
		switch e.Kind {
		case tree.File:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.Data))
		case tree.Dir:
			h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
		case tree.Symlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		case tree.CharDevice:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.Major), int64(e.Minor)
		default:
			return fmt.Errorf("write %s to tar: unknown kind %d", e.Path, e.Kind)
		}
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("write %s to tar: %w", e.Path, err)
		}
		if e.Kind != tree.File {
			continue
		}
		if _, err := tw.Write(e.Data); err != nil {
			return fmt.Errorf("write %s to tar: %w", e.Path, err)
		}
	}
	return tw.Close()
}

// Superblock fields, from the kernel's fs/squashfs/squashfs_fs.h.
const (
	magic         = 0x73717368
	superblock    = 96
	offsetVersion = 28
	offsetBytes   = 40
)

// check reads the superblock back and pads the file: mksquashfs ends with
// success also when its input ended early.
func check(out string) error {
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, superblock)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read superblock: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != magic || binary.LittleEndian.Uint16(b[offsetVersion:]) != 4 {
		return errors.New("the tool left no squashfs 4.0")
	}
	if used := binary.LittleEndian.Uint64(b[offsetBytes:]); used > uint64(st.Size()) {
		return fmt.Errorf("the file has %d bytes, its superblock says %d", st.Size(), used)
	}
	return f.Truncate((st.Size() + Align - 1) / Align * Align)
}
