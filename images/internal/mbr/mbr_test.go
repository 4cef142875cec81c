package mbr

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func part(t *testing.T, size int, fill byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "part")
	b := make([]byte, size)
	for i := size / 2; i < size/2+1000 && i < size; i++ {
		b[i] = fill
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWrite(t *testing.T) {
	first, second := part(t, 2*Align, 0xaa), part(t, 3*Align, 0xbb)
	out := filepath.Join(t.TempDir(), "disk")
	err := Write(out, []byte{0xeb, 0xfe}, 0x12345678, []Partition{
		{Image: first, Type: TypeFAT16LBA, Bootable: true}, {Image: second, Type: TypeLinux},
	})
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, 512)
	copy(record, []byte{0xeb, 0xfe})
	for at, h := range map[int]string{
		440: "78563412",
		446: "80feffff0efeffff" + "00080000" + "00100000", // from sector 2048, 4096 long
		462: "00feffff83feffff" + "00180000" + "00180000", // from 6144, 6144 long
		510: "55aa",
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		copy(record[at:], b)
	}
	if diff := cmp.Diff(hex.Dump(record), hex.Dump(disk[:512])); diff != "" {
		t.Errorf("boot record (-want +got):\n%s", diff)
	}
	if len(disk) != 6*Align {
		t.Errorf("disk has %d bytes, want %d", len(disk), 6*Align)
	}
	offset := Align
	for _, p := range []string{first, second} {
		want, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, disk[offset:offset+len(want)]) {
			t.Errorf("partition at %d differs from its image", offset)
		}
		offset += len(want)
	}
}

func TestWriteRefuses(t *testing.T) {
	good := Partition{Image: part(t, Align, 1), Type: TypeLinux}
	for _, tc := range []struct {
		name  string
		code  int
		parts []Partition
	}{
		{"long boot code", 441, []Partition{good}},
		{"no partition", 0, nil},
		{"five partitions", 0, []Partition{good, good, good, good, good}},
		{"odd size", 0, []Partition{{Image: part(t, Align+512, 1)}}},
		{"empty image", 0, []Partition{{Image: part(t, 0, 1)}}},
		{"no image", 0, []Partition{{Image: "/nonexistent"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := Write(filepath.Join(t.TempDir(), "disk"), make([]byte, tc.code), 1, tc.parts); err == nil {
				t.Error("no error")
			}
		})
	}
}
