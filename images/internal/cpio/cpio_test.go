package cpio

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/tree"
)

// TestWrite compares with the format as the kernel's documentation gives it:
// magic, then ino mode uid gid nlink mtime filesize major minor rmajor rminor
// namesize check in hexadecimal, the name and the data, both padded to four.
func TestWrite(t *testing.T) {
	tr := tree.New()
	for _, e := range []tree.Entry{
		{Path: "a", Kind: tree.File, Perm: 0o4755, UID: 1, GID: 0x10, Data: []byte("hello")},
		{Path: "dev/console", Kind: tree.CharDevice, Perm: 0o600, Major: 5, Minor: 1},
		{Path: "ln", Kind: tree.Symlink, Perm: 0o777, Link: "a"},
	} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	want := "070701" + "00000001" + "000089ED" + "00000001" + "00000010" + "00000001" + "6553F100" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000002" + "00000000" + "a\x00" + "hello\x00\x00\x00" +
		"070701" + "00000002" + "000041ED" + "00000000" + "00000000" + "00000002" + "6553F100" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "dev\x00\x00\x00" +
		"070701" + "00000003" + "00002180" + "00000000" + "00000000" + "00000001" + "6553F100" + "00000000" +
		"00000000" + "00000000" + "00000005" + "00000001" + "0000000C" + "00000000" + "dev/console\x00\x00\x00" +
		"070701" + "00000004" + "0000A1FF" + "00000000" + "00000000" + "00000001" + "6553F100" + "00000001" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000003" + "00000000" + "ln\x00\x00\x00\x00" + "a\x00\x00\x00" +
		"070701" + "00000000" + "00000000" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "0000000B" + "00000000" + "TRAILER!!!\x00\x00\x00\x00"
	var got bytes.Buffer
	if err := Write(&got, tr, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}
