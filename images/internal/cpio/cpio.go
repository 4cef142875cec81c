// Package cpio writes the archive format that Linux unpacks as its initial root
// file system: "newc", described in the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
//
// Inode numbers count up and all times are the one given, so equal trees give
// equal bytes.
package cpio

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/wispcloud/wisp/images/internal/tree"
)

// File type bits of st_mode, see inode(7).
const (
	modeFile    = 0o100000
	modeDir     = 0o040000
	modeSymlink = 0o120000
	modeChar    = 0o020000
)

// Write writes t as a newc archive whose files carry the time mtime.
func Write(w io.Writer, t *tree.Tree, mtime time.Time) error {
	a := archive{w: bufio.NewWriter(w), mtime: mtime.Unix()}
	for i, e := range t.All() {
		if err := a.entry(i+1, e); err != nil {
			return fmt.Errorf("write %s to archive: %w", e.Path, err)
		}
	}
	a.header("TRAILER!!!", header{nlink: 1})
	return a.w.Flush()
}

type archive struct {
	w     *bufio.Writer
	n     int64
	mtime int64
}

type header struct {
	ino, mode, uid, gid, nlink, size int
	mtime                            int64
	major, minor                     uint32
}

func (a *archive) entry(ino int, e *tree.Entry) error {
	h := header{ino: ino, mode: int(e.Perm), uid: e.UID, gid: e.GID, nlink: 1, mtime: a.mtime}
	data := e.Data
	switch e.Kind {
	case tree.File:
		h.mode |= modeFile
	case tree.Dir:
		h.mode |= modeDir
		h.nlink = 2
		data = nil
	case tree.Symlink:
		h.mode |= modeSymlink
		data = []byte(e.Link)
	case tree.CharDevice:
		h.mode |= modeChar
		h.major, h.minor = e.Major, e.Minor
		data = nil
	default:
		return fmt.Errorf("unknown kind %d", e.Kind)
	}
	if int64(len(data)) > 0xffffffff {
		return fmt.Errorf("%d bytes are too many for the format", len(data))
	}
	h.size = len(data)
	a.header(e.Path, h)
	a.write(data)
	a.pad()
	return nil
}

func (a *archive) header(name string, h header) {
	a.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		h.ino, h.mode, h.uid, h.gid, h.nlink, h.mtime, h.size, 0, 0, h.major, h.minor, len(name)+1, 0, name))
	a.pad()
}

// write keeps the first error inside bufio.Writer, where Flush reports it.
func (a *archive) write(b []byte) {
	n, _ := a.w.Write(b)
	a.n += int64(n)
}

// pad fills up to a multiple of four, where headers and file contents begin.
func (a *archive) pad() {
	if r := a.n % 4; r != 0 {
		a.write(make([]byte, 4-r))
	}
}
