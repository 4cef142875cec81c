// Package ext4 makes an ext4 partition from a tree, as an ordinary user and with
// the same bytes each time.
//
// mke2fs -d would copy owners, access and change times from the build machine's
// files (its release in Debian 12 does not clamp them). Here mke2fs makes an
// empty file system and debugfs adds the files one by one in sorted order with
// the owners of the tree; both take the time from E2FSPROGS_FAKE_TIME, so
// block numbers, inode numbers and time stamps follow from the tree alone.
package ext4

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/images/internal/hosttool"
	"github.com/wispcloud/wisp/images/internal/tree"
)

// Tools are the programs this package runs.
var Tools = []hosttool.Tool{
	{Name: "mke2fs", Package: "e2fsprogs"},
	{Name: "debugfs", Package: "e2fsprogs"},
	{Name: "e2fsck", Package: "e2fsprogs"},
}

// Options describe the file system. UUID and HashSeed replace what mke2fs would
// draw at random.
type Options struct {
	Size       int64
	Label      string
	UUID       string
	HashSeed   string
	JournalMiB int
	Inodes     int
	Time       time.Time
}

// config takes the place of the machine's mke2fs.conf, which must not decide
// about features. resize_inode is there so that a guest on a larger disk can grow
// the file system while it is mounted; metadata_csum_seed and orphan_file are
// absent because boot loaders and older kernels do not know them.
const config = `[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	blocksize = 4096
	inode_size = 256
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
`

// Write makes the image at out, holding t. Contents are staged in a new
// directory below scratch. The result has passed e2fsck.
func Write(ctx context.Context, out, scratch string, o Options, t *tree.Tree) error {
	env := []string{"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(o.Time.Unix(), 10)}
	if err := format(ctx, out, o, env); err != nil {
		return fmt.Errorf("make ext4 partition: %w", err)
	}
	dir, err := os.MkdirTemp(scratch, "ext4-")
	if err != nil {
		return fmt.Errorf("make ext4 partition: %w", err)
	}
	defer os.RemoveAll(dir)
	script, err := stage(t, dir)
	if err != nil {
		return fmt.Errorf("make ext4 partition: %w", err)
	}
	if err := fill(ctx, out, dir, script, env); err != nil {
		return fmt.Errorf("make ext4 partition: %w", err)
	}
	// Answers "no" to every question and fails if there was one.
	if _, err := hosttool.Run(ctx, hosttool.Command{Name: "e2fsck", Args: []string{"-f", "-n", out}, Env: env}); err != nil {
		return fmt.Errorf("make ext4 partition: %w", err)
	}
	return nil
}

func format(ctx context.Context, out string, o Options, env []string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = f.Truncate(o.Size)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	conf := out + ".conf"
	if err := os.WriteFile(conf, []byte(config), 0o600); err != nil {
		return err
	}
	defer os.Remove(conf)
	_, err = hosttool.Run(ctx, hosttool.Command{
		Name: "mke2fs",
		Args: []string{
			"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0",
			"-N", strconv.Itoa(o.Inodes), "-L", o.Label, "-U", o.UUID,
			"-J", "size=" + strconv.Itoa(o.JournalMiB),
			"-E", "hash_seed=" + o.HashSeed + ",root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
			out,
		},
		Env: append([]string{"MKE2FS_CONFIG=" + conf}, env...),
	})
	return err
}

// stage writes the contents of t's files to dir and returns the debugfs commands
// that build the tree from them.
func stage(t *tree.Tree, dir string) ([]byte, error) {
	var script bytes.Buffer
	// mke2fs makes it; nothing of ours looks inside, but it is a good place for e2fsck.
	setOwner(&script, "/lost+found", 0o040700, 0, 0)
	for i, e := range t.All() {
		if strings.ContainsAny(e.Path+e.Link, " \t\r\n\"\\") {
			return nil, fmt.Errorf("stage /%s: white space, quotes and backslashes are not possible in names", e.Path)
		}
		p := "/" + e.Path
		switch e.Kind {
		case tree.Dir:
			if e.Path != "lost+found" {
				fmt.Fprintf(&script, "mkdir %s\n", p)
			}
			setOwner(&script, p, 0o040000|e.Perm, e.UID, e.GID)
		case tree.File:
			name := strconv.Itoa(i)
			if err := os.WriteFile(filepath.Join(dir, name), e.Data, 0o600); err != nil {
				return nil, fmt.Errorf("stage /%s: %w", e.Path, err)
			}
			fmt.Fprintf(&script, "write %s %s\n", name, p)
			setOwner(&script, p, 0o100000|e.Perm, e.UID, e.GID)
		case tree.Symlink:
			fmt.Fprintf(&script, "symlink %s %s\n", p, e.Link)
		case tree.CharDevice:
			// mknod alone takes no path, only a name.
			fmt.Fprintf(&script, "cd %s\nmknod %s c %d %d\ncd /\n", path.Dir(p), path.Base(p), e.Major, e.Minor)
			setOwner(&script, p, 0o020000|e.Perm, e.UID, e.GID)
		default:
			return nil, fmt.Errorf("stage /%s: unknown kind %d", e.Path, e.Kind)
		}
	}
	return script.Bytes(), nil
}

func setOwner(w *bytes.Buffer, p string, mode uint32, uid, gid int) {
	fmt.Fprintf(w, "sif %s mode 0%o\n", p, mode)
	for _, f := range []struct {
		name string
		id   int
	}{{"uid", uid}, {"gid", gid}} {
		fmt.Fprintf(w, "sif %s %s %d\n", p, f.name, f.id)
	}
}

// fill runs the commands. debugfs exits with 0 whatever happens; it reports an
// error by a line on standard error, where otherwise only its version stands.
func fill(ctx context.Context, image, dir string, script []byte, env []string) error {
	image, err := filepath.Abs(image)
	if err != nil {
		return err
	}
	_, stderr, err := hosttool.RunBoth(ctx, hosttool.Command{
		Name: "debugfs", Args: []string{"-w", "-f", "-", image}, Dir: dir, Env: env, Stdin: bytes.NewReader(script),
	})
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(stderr)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "debugfs 1.") {
			return fmt.Errorf("run debugfs: %s", line)
		}
	}
	return nil
}
